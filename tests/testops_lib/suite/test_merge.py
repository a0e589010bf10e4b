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
    found = merge(old, edited, new)
    assert isinstance(found, Case), found
    return found


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
    found = merged(BASE, by_hand, anew).steps[0].request
    assert found.query == (("limit", "1"), ("tag", "b"))
    assert isinstance(found.body, JsonBody) and found.body.value["name"] == "Max"


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
    found = merge(BASE, changed(BASE, path="/pets/1"), changed(BASE, path="/pets/2"))
    assert isinstance(found, tuple) and len(found) == 1
    assert found[0].startswith("steps[0].request.path") and '"/pets/1"' in found[0] and '"/pets/2"' in found[0]


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
    found = merged(old, by_hand, anew)
    assert [one.request.path for one in found.steps] == ["/pets/0", "/pets/1", "/pets/2", "/pets/3"]
    assert found.origin == ANEW


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
    found = merge(old, edited, new)
    if isinstance(found, tuple):
        assert found and all(found)
        return
    assert msgspec.json.decode(msgspec.json.encode(found), type=Case) == found
    assert found.id == case_id(found.intent, found.operation, found.steps, found.cleanup, found.last)
    assert found.steps and found.origin == new.origin


@given(cases, words, words, values, st.booleans())
def test_no_change_is_lost(old: Case, name: str, tag: str, body: Any, first: bool) -> None:
    assume(old.name != name and old.tags != (tag,))
    by_hand = msgspec.structs.replace(old, name=name)
    anew = changed(old, body=JsonBody(value=body))
    anew = msgspec.structs.replace(anew, tags=(tag,))
    one, other = (by_hand, anew) if first else (anew, by_hand)
    found = merged(old, one, other)
    assert (found.name, found.tags) == (name, (tag,))
    assert found.steps[0].request.body == JsonBody(value=body)
