from __future__ import annotations

from typing import Any

import msgspec
from hypothesis import assume, given
from hypothesis import strategies as st

from testops_lib.model import (
    Capture,
    Case,
    JsonBody,
    JsonPathIs,
    NotAServerError,
    PositiveDataAcceptance,
    Provenance,
    Request,
    StatusIs,
    Step,
    TextBody,
    case_id,
    make_case,
)
from testops_lib.suite import merge

MADE = Provenance(source="gemini", version="1", model="m")
ANEW = Provenance(source="gemini", version="2", model="m")


def step(path: str = "/pets", *, method: str = "GET", **fields: Any) -> Step:
    given = {name: fields.pop(name) for name in ("query", "headers", "body") if name in fields}
    return Step(operation=f"{method} /pets", request=Request(method=method, path=path, **given), **fields)


def case(*steps: Step, name: str = "reads pets", origin: Provenance = MADE, **fields: Any) -> Case:
    return make_case(
        name=name, intent="positive", operation="GET /pets", steps=steps or (step(),), origin=origin, **fields
    )


def merged(old: Case, edited: Case, new: Case) -> Case:
    merged_case = merge(old, edited, new)
    assert isinstance(merged_case, Case), merged_case
    return merged_case


BASE = case(
    step(
        query=(("limit", "1"), ("tag", "a")),
        headers=(("Accept", "application/json"),),
        body=JsonBody(value={"name": "Rex", "tags": ["a", "b"], "owner": {"id": 1}}),
        checks=(NotAServerError(), PositiveDataAcceptance()),
    )
)


def changed(case: Case, **fields: Any) -> Case:
    """The case with fields of its first step's request or of the step replaced."""
    first, *others = case.steps
    request = {name: fields.pop(name) for name in ("path", "query", "headers", "body") if name in fields}
    first = msgspec.structs.replace(first, request=msgspec.structs.replace(first.request, **request), **fields)
    return make_case(
        name=case.name, intent=case.intent, operation=case.operation, steps=(first, *others), origin=case.origin
    )


def test_changes_at_different_places_are_both_taken() -> None:
    by_hand = changed(BASE, query=(("limit", "1"), ("tag", "b")))
    anew = changed(BASE, body=JsonBody(value={"name": "Max", "tags": ["a", "b"], "owner": {"id": 1}}))
    merged_case = merged(BASE, by_hand, anew).steps[0].request
    assert merged_case.query == (("limit", "1"), ("tag", "b"))
    assert isinstance(merged_case.body, JsonBody) and merged_case.body.value["name"] == "Max"


def test_named_things_are_merged_by_name_whatever_their_place() -> None:
    by_hand = changed(
        BASE, checks=(StatusIs(any_of=(200,), basis="human"), NotAServerError(), PositiveDataAcceptance())
    )
    anew = changed(BASE, checks=(NotAServerError(), PositiveDataAcceptance(also=(304,))))
    checks = merged(BASE, by_hand, anew).steps[0].checks
    assert checks == (
        StatusIs(any_of=(200,), basis="human"),
        NotAServerError(),
        PositiveDataAcceptance(also=(304,)),
    )


def test_a_check_promoted_by_hand_stays_promoted_when_its_value_changes() -> None:
    guess = JsonPathIs(path="$.name", op="equals", value="Rex", basis="guess")
    old = changed(BASE, checks=(guess,))
    by_hand = changed(BASE, checks=(msgspec.structs.replace(guess, basis="human"),))
    anew = changed(BASE, checks=(msgspec.structs.replace(guess, value="Max"),))
    assert merged(old, by_hand, anew).steps[0].checks == (
        JsonPathIs(path="$.name", op="equals", value="Max", basis="human"),
    )


def test_one_place_changed_twice_is_a_conflict_that_names_it() -> None:
    places = merge(BASE, changed(BASE, path="/pets/1"), changed(BASE, path="/pets/2"))
    assert isinstance(places, tuple) and len(places) == 1
    assert places[0].startswith("steps[0].request.path") and '"/pets/1"' in places[0] and '"/pets/2"' in places[0]


def test_what_one_side_removed_and_the_other_changed_is_a_conflict() -> None:
    by_hand = changed(BASE, query=(("limit", "1"),))
    anew = changed(BASE, query=(("limit", "1"), ("tag", "z")))
    assert isinstance(merge(BASE, by_hand, anew), tuple)


def test_bodies_of_two_kinds_are_not_mixed() -> None:
    by_hand = changed(BASE, body=TextBody(text="{"))
    anew = changed(BASE, body=JsonBody(value={"name": "Max"}))
    assert isinstance(merge(BASE, by_hand, anew), tuple)


def test_a_step_added_on_each_side_at_different_places_is_kept() -> None:
    old = case(step("/pets/1"), step("/pets/2"))
    by_hand = case(step("/pets/0"), step("/pets/1"), step("/pets/2"))
    anew = case(step("/pets/1"), step("/pets/2"), step("/pets/3"), origin=ANEW)
    merged_case = merged(old, by_hand, anew)
    assert [one.request.path for one in merged_case.steps] == ["/pets/0", "/pets/1", "/pets/2", "/pets/3"]
    assert merged_case.origin == ANEW


def test_steps_added_at_the_same_place_are_a_conflict() -> None:
    old = case(step("/pets/1"))
    assert isinstance(merge(old, case(step("/pets/1"), step("/a")), case(step("/pets/1"), step("/b"))), tuple)


def test_a_merged_case_never_uses_what_no_step_captures() -> None:
    creates = step("/pets", method="POST", captures=(Capture(name="id", path="$.id"),))
    old = case(creates, step("/x"), step("/y"))
    uses = case(creates, step("/x"), step("/pets/{id}"))
    captures_no_more = case(step("/pets", method="POST"), step("/x"), step("/y"))
    assert merge(old, uses, captures_no_more) == ("steps[2]: uses {id}, which no step before captures",)


def test_true_and_one_are_two_values() -> None:
    one, true = (changed(BASE, body=JsonBody(value={"a": value})) for value in (1, True))
    assert merged(one, true, one).steps[0].request.body == JsonBody(value={"a": True})
    assert merged(one, true, one).id == true.id != one.id


def test_a_hostile_body_does_not_hang_it() -> None:
    def deep(levels: int, end: Any) -> Any:
        for _ in range(levels):
            end = {"a": end}
        return end

    lists = [
        changed(BASE, body=JsonBody(value=[end] * length)) for end, length in ((0, 20_000), (0, 20_001), (0, 19_999))
    ]
    assert isinstance(merge(*lists), tuple)
    nested = [changed(BASE, body=JsonBody(value=deep(400, end))) for end in ("x", "y", "z")]
    assert isinstance(merge(*nested), tuple)


# --------------------------------------------------------------------------- what a person reads of conflicts


def body(value: Any) -> Case:
    return changed(BASE, body=JsonBody(value=value))


def conflicts(old: Any, edited: Any, new: Any) -> tuple[str, ...]:
    """Of three bodies, without the place of the body itself."""
    places = merge(body(old), body(edited), body(new))
    assert isinstance(places, tuple), places
    return tuple(place.removeprefix("steps[0].request.body.value") for place in places)


def merged_body(old: Any, edited: Any, new: Any) -> Any:
    merged_case = merged(body(old), body(edited), body(new)).steps[0].request.body
    assert isinstance(merged_case, JsonBody)
    return merged_case.value


def test_a_conflict_names_the_place_and_the_three_values() -> None:
    assert conflicts({"a": {"b": 1}}, {"a": {"b": 2}}, {"a": {"b": 3}}) == (".a.b: 1 became 2 by hand and 3 anew",)
    assert conflicts({"a": 1}, {}, {"a": 2}) == (".a: 1 became nothing by hand and 2 anew",)
    assert conflicts({"a": 1}, {"a": 2}, {}) == (".a: 1 became 2 by hand and nothing anew",)
    assert conflicts({}, {"a": 2}, {"a": 3}) == (".a: nothing became 2 by hand and 3 anew",)
    assert conflicts([1], [2], [3]) == ("[0]: 1 became 2 by hand and 3 anew",)
    by_name = merge(BASE, changed(BASE, query=(("limit", "2"), ("tag", "a"))), changed(BASE, query=(("tag", "a"),)))
    assert by_name == ('steps[0].request.query[limit]: ["limit","1"] became ["limit","2"] by hand and nothing anew',)


def test_every_conflict_of_two_cases_is_named() -> None:
    assert len(conflicts({"a": 1, "b": 1}, {"a": 2, "b": 2}, {"a": 3, "b": 3})) == 2


def test_a_long_value_in_a_conflict_is_cut_to_sixty_characters() -> None:
    (whole,) = conflicts("o", "x" * 58, "n")
    assert whole == f': "o" became "{"x" * 58}" by hand and "n" anew'
    (cut,) = conflicts("o", "x" * 59, "n")
    assert cut == f': "o" became "{"x" * 58}… by hand and "n" anew'


def test_objects_that_say_their_kind_are_merged_within_one_kind_alone() -> None:
    for tag in ("kind", "check"):
        made, by_hand, anew = {tag: "x", "a": 1, "b": 1}, {tag: "x", "a": 2, "b": 1}, {tag: "x", "a": 1, "b": 2}
        assert merged_body(made, by_hand, anew) == {tag: "x", "a": 2, "b": 2}
        assert len(conflicts(made, by_hand, {**anew, tag: "y"})) == 1
        assert len(conflicts({**made, tag: "y"}, by_hand, anew)) == 1


# --------------------------------------------------------------------------- lists


def test_what_one_side_adds_to_named_things_stands_after_what_it_followed() -> None:
    made = changed(BASE, query=(("a", "1"), ("b", "1")))
    by_hand = changed(BASE, query=(("first", "1"), ("a", "1"), ("second", "1"), ("third", "1"), ("b", "1")))
    anew = changed(BASE, query=(("b", "1"), ("a", "1"), ("fourth", "1")))
    names = [name for name, _ in merged(made, by_hand, anew).steps[0].request.query]
    assert names == ["first", "b", "a", "second", "third", "fourth"]


def test_what_both_sides_removed_of_named_things_is_gone() -> None:
    made = changed(BASE, query=(("a", "1"), ("b", "1"), ("c", "1")))
    by_hand, anew = changed(BASE, query=(("b", "2"), ("c", "1"))), changed(BASE, query=(("b", "1"),))
    assert merged(made, by_hand, anew).steps[0].request.query == (("b", "2"),)


def test_members_with_names_are_merged_by_them() -> None:
    made = [{"name": "a", "x": 1, "y": 1}, {"name": "b"}]
    by_hand = [{"name": "b"}, {"name": "a", "x": 2, "y": 1}]
    anew = [{"name": "a", "x": 1, "y": 2}]
    assert merged_body(made, by_hand, anew) == [{"name": "a", "x": 2, "y": 2}]


def test_checks_of_one_kind_are_told_apart_by_what_they_look_at() -> None:
    name, age = (JsonPathIs(path=path, op="equals", value=1, basis="guess") for path in ("$.name", "$.age"))
    by_hand = changed(BASE, checks=(msgspec.structs.replace(name, basis="human"), age))
    anew = changed(BASE, checks=(age, msgspec.structs.replace(name, value=2)))
    merged_case = merged(changed(BASE, checks=(name, age)), by_hand, anew).steps[0].checks
    assert merged_case == (age, JsonPathIs(path="$.name", op="equals", value=2, basis="human"))


def test_a_name_that_stands_twice_names_nothing() -> None:
    made = changed(BASE, query=(("a", "1"), ("a", "2")))
    by_hand, anew = changed(BASE, query=(("a", "3"), ("a", "2"))), changed(BASE, query=(("a", "1"), ("a", "4")))
    assert merged(made, by_hand, anew).steps[0].request.query == (("a", "3"), ("a", "4"))


def test_insertions_removals_and_replacements_at_different_places_are_all_taken() -> None:
    assert merged_body([1, 2, 3, 4], [0, 1, 2, 3, 4], [1, 2, 4]) == [0, 1, 2, 4]
    assert merged_body([1, 2, 3, 4], [9, 2, 3, 4], [1, 2, 3, 8, 7]) == [9, 2, 3, 8, 7]
    assert merged_body([1, 2, 3, 4], [1, 2, 3], [9, 8, 2, 3, 4]) == [9, 8, 2, 3]
    assert merged_body([1, 2], [5, 1, 2], [5, 1, 2, 6]) == [5, 1, 2, 6], "the same insertion is made once"


def test_replacements_side_by_side_are_both_taken() -> None:
    assert merged_body([1, 2, 3], [7, 6, 2, 3], [1, 9, 3]) == [7, 6, 9, 3]


def test_what_both_sides_did_to_the_same_items_is_a_conflict() -> None:
    changed_around = ": both sides changed the items around {}"
    assert conflicts([1, 2, 3], [1, 9, 8, 3], [1, 7, 3]) == (changed_around.format(1),)
    assert conflicts([1, 2], [1, 5, 2], [1, 6, 7, 2]) == (changed_around.format(1),)
    assert conflicts([1, 2], [1, 5, 2], [1, 9, 8]) == (changed_around.format(1),), (
        "an insertion where the other replaces"
    )


def test_lists_of_up_to_five_hundred_items_are_aligned() -> None:
    made = list(range(499))
    assert merged_body(made, [-1, *made], made[:-1]) == [-1, *made[:-1]]
    assert conflicts([*made, 499], [-1, *made, 499], made) == (": too long to be merged",)


# --------------------------------------------------------------------------- the whole case


def test_a_merge_that_leaves_no_step_is_a_conflict() -> None:
    old = case(step("/pets/1"), step("/pets/2"))
    assert merge(old, case(step("/pets/1")), case(step("/pets/2"))) == ("steps: none is left",)


def test_a_merge_that_is_no_case_is_a_conflict_with_the_reason() -> None:
    by_hand = msgspec.structs.replace(BASE, intent="nonsense")  # type: ignore[arg-type]
    (reason,) = merge(BASE, by_hand, changed(BASE, path="/other"))  # type: ignore[misc]
    assert reason.startswith("together they are no valid case: ") and "nonsense" in reason


def test_names_of_both_sides_are_kept() -> None:
    new = msgspec.structs.replace(BASE, name="reads a pet", tags=("a",), last=True, origin=ANEW)
    by_hand = msgspec.structs.replace(BASE, intent="negative", cleanup=(step("/gone", method="DELETE"),))
    merged_case = merged(BASE, by_hand, new)
    assert (merged_case.name, merged_case.tags, merged_case.last, merged_case.origin) == (
        "reads a pet",
        ("a",),
        True,
        ANEW,
    )
    assert (merged_case.intent, merged_case.cleanup, merged_case.operation) == (
        "negative",
        by_hand.cleanup,
        "GET /pets",
    )


def test_a_cleanup_uses_what_a_step_captures_as_well() -> None:
    creates = step("/pets", method="POST", captures=(Capture(name="id", path="$.id"),))
    removes = step("/pets/{id}", method="DELETE")
    old = case(creates, step("/x"))
    cleans = case(creates, step("/x"), cleanup=(removes,))
    captures_no_more = case(step("/pets", method="POST"), step("/x"))
    assert merge(old, cleans, captures_no_more) == ("steps[2]: uses {id}, which no step before captures",)


def test_a_name_that_was_loose_before_the_merge_is_no_conflict() -> None:
    creates = step("/pets", method="POST", captures=(Capture(name="id", path="$.id"),))
    uses_early = case(step("/pets/{id}"), creates)
    renamed = msgspec.structs.replace(uses_early, name="other")
    assert isinstance(merge(uses_early, renamed, msgspec.structs.replace(uses_early, tags=("a",))), Case)


# --------------------------------------------------------------------------- whatever the cases are

words = st.sampled_from(["a", "b", "c", "limit", "X-A"])
values = st.recursive(
    st.none() | st.booleans() | st.integers(0, 3) | st.sampled_from(["", "x", "{id}"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(words, inner, max_size=3),
    max_leaves=6,
)
pairs = st.lists(st.tuples(words, words), max_size=3).map(tuple)
steps = st.builds(
    lambda path, query, body, checks, captures: step(
        path, query=query, body=None if body is None else JsonBody(value=body), checks=checks, captures=captures
    ),
    st.sampled_from(["/pets", "/pets/{id}", "/x"]),
    pairs,
    st.none() | values,
    st.lists(
        st.sampled_from(
            [NotAServerError(), PositiveDataAcceptance(), StatusIs(any_of=(200,)), StatusIs(any_of=(404,))]
        ),
        max_size=3,
    ).map(tuple),
    st.sampled_from([(), (Capture(name="id", path="$.id"),)]),
)
cases = st.builds(
    lambda steps, name, tags: case(*steps, name=name, tags=tags),
    st.lists(steps, min_size=1, max_size=4),
    words,
    st.lists(words, max_size=2).map(tuple),
)


@given(cases, cases)
def test_an_unedited_case_becomes_the_new_one(old: Case, new: Case) -> None:
    assert merged(old, old, new) == new


@given(cases, cases)
def test_an_edited_case_stays_when_nothing_new_was_made(old: Case, edited: Case) -> None:
    assert merged(old, edited, old) == edited


@given(cases, cases)
def test_the_same_change_on_both_sides_is_one_change(old: Case, new: Case) -> None:
    assert merged(old, new, new) == new


@given(cases, cases, cases)
def test_a_merge_is_a_valid_case_or_a_conflict(old: Case, edited: Case, new: Case) -> None:
    merged_case = merge(old, edited, new)
    if isinstance(merged_case, tuple):
        assert merged_case and all(merged_case)
        return
    assert msgspec.json.decode(msgspec.json.encode(merged_case), type=Case) == merged_case
    assert merged_case.id == case_id(
        merged_case.intent, merged_case.operation, merged_case.steps, merged_case.cleanup, merged_case.last
    )
    assert merged_case.steps and merged_case.origin == new.origin


@given(cases, words, words, values, st.booleans())
def test_no_change_is_lost(old: Case, name: str, tag: str, body: Any, first: bool) -> None:
    assume(old.name != name and old.tags != (tag,))
    by_hand = msgspec.structs.replace(old, name=name)
    anew = changed(old, body=JsonBody(value=body))
    anew = msgspec.structs.replace(anew, tags=(tag,))
    one, other = (by_hand, anew) if first else (anew, by_hand)
    merged_case = merged(old, one, other)
    assert (merged_case.name, merged_case.tags) == (name, (tag,))
    assert merged_case.steps[0].request.body == JsonBody(value=body)
