from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from testops_lib.model import Case, Provenance, Request, StatusIs, Step, make_case
from testops_lib.suite import REVIEWS, STATUSES, Evolved, Member, Status, evolve, member_keys

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


def case(name: str, path: str = "/pets", **fields: object) -> Case:
    step = Step(operation="GET /pets", request=Request(method="GET", path=path), **fields)  # type: ignore[arg-type]
    return make_case(
        name=name, intent="positive", operation="GET /pets", steps=(step,), origin=Provenance(source="gemini")
    )


class Suite:
    """The members of one operation, evolving."""

    def __init__(self, review: str = "never") -> None:
        self.review = review
        self.members: dict[str, Member] = {}
        self.known: dict[str, Case] = {}

    def makes(self, *cases: Case, replaces: Iterable[str] | None = None) -> Evolved:
        self.known.update({one.id: one for one in cases})
        done = evolve(
            list(self.members.values()),
            cases,
            self.known.__getitem__,
            suite="zoo",
            operation="GET /pets",
            source="gemini",
            review=self.review,
            at=NOON,
            replaces=None if replaces is None else list(replaces),
        )
        self.known.update({one.id: one for one in done.cases})
        self.members.update({one.key: one for one in done.members})
        return done

    def edit(self, key: str, to: Case) -> None:
        self.known[to.id] = to
        self.set(key, current=to.id, edited=True)

    def set(self, key: str, **fields: object) -> None:
        self.members[key] = msgspec.structs.replace(self.members[key], **fields)

    def case(self, key: str) -> Case:
        return self.known[self.members[key].current]


def test_equal_names_are_numbered() -> None:
    names = ["reads", "reads", "x", "reads"]
    assert member_keys(case(name) for name in names) == ["reads", "reads (2)", "x", "reads (3)"]


def test_a_name_of_any_length_is_a_short_slot() -> None:
    first, second = member_keys([case("x" * 10_000 + "1"), case("x" * 10_000 + "2")])
    assert first != second and len(first) < 300


@pytest.mark.parametrize(("review", "status"), [("never", "active"), ("new", "draft"), ("always", "draft")])
def test_what_is_new_runs_at_once_or_waits(review: str, status: str) -> None:
    suite = Suite(review)
    suite.makes(case("reads"))
    assert suite.members["reads"].status == status


def test_making_the_same_again_changes_nothing() -> None:
    suite = Suite()
    suite.makes(case("reads"), case("writes"))
    assert suite.makes(case("reads"), case("writes")) == Evolved()


def test_an_edit_is_merged_with_what_is_made_now() -> None:
    suite = Suite()
    suite.makes(case("reads"))
    suite.edit("reads", case("reads", checks=(StatusIs(any_of=(200,)),)))
    done = suite.makes(case("reads", "/pets/1"))
    member, merged = suite.members["reads"], suite.case("reads")
    assert merged.steps[0].request.path == "/pets/1" and merged.steps[0].checks
    assert member.edited and not member.offered and member.status == "active"
    assert [(change.before != change.after, "merged" in change.why) for change in done.changes] == [(True, True)]
    suite.makes(case("reads", "/pets/2"))
    assert suite.case("reads").steps[0].request.path == "/pets/2" and suite.case("reads").steps[0].checks


def test_in_a_conflict_the_edit_keeps_running_and_the_new_case_is_offered() -> None:
    suite = Suite()
    suite.makes(case("reads"))
    edited, new = case("reads", "/mine"), case("reads", "/theirs")
    suite.edit("reads", edited)
    done = suite.makes(new)
    member = suite.members["reads"]
    assert (member.current, member.offered, member.status) == (edited.id, new.id, "active")
    assert "steps[0].request.path" in member.why and done.changes
    assert suite.makes(new) == Evolved(), "told once"
    suite.makes(case("reads"))
    assert suite.members["reads"].offered == "" and suite.case("reads") == edited, "the source takes it back"


def test_an_edited_case_survives_its_source() -> None:
    suite = Suite()
    suite.makes(case("reads"), case("writes"))
    suite.edit("reads", case("reads", "/mine"))
    suite.makes(case("other"))
    assert {key: one.status for key, one in suite.members.items()} == {
        "reads": "active",
        "writes": "retired",
        "other": "active",
    }


def test_what_stable_history_changed_goes_with_its_source() -> None:
    suite = Suite()
    suite.makes(case("reads"))
    suite.edit("reads", case("reads", checks=(StatusIs(any_of=(200,), basis="human"),)))
    suite.set("reads", edited=False)
    suite.makes(case("other"))
    assert suite.members["reads"].status == "retired"


@pytest.mark.parametrize("status", ["quarantined", "rejected"])
def test_what_a_person_said_stays_where_nobody_would_look_again(status: Status) -> None:
    suite = Suite()
    suite.makes(case("reads"))
    suite.set("reads", status=status)
    suite.makes(case("reads", "/new"))
    assert suite.members["reads"].status == status


def test_a_rejected_case_with_new_content_is_a_draft_again() -> None:
    suite = Suite("new")
    suite.makes(case("reads"))
    suite.set("reads", status="rejected")
    suite.makes(case("reads"))
    assert suite.members["reads"].status == "rejected"
    suite.makes(case("reads", "/new"))
    assert suite.members["reads"].status == "draft"


def test_only_the_chosen_are_replaced() -> None:
    suite = Suite()
    suite.makes(case("a"), case("b"), case("c"))
    suite.makes(case("d"), replaces=["a"])
    assert {key: one.status for key, one in suite.members.items()} == {
        "a": "retired",
        "b": "active",
        "c": "active",
        "d": "active",
    }


made = st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from(["/1", "/2"])), max_size=4)


@given(made, made, st.sampled_from(REVIEWS), st.sampled_from(STATUSES), st.booleans())
def test_nothing_made_is_lost_and_nothing_gone_runs(
    first: list[tuple[str, str]], second: list[tuple[str, str]], review: str, status: Status, edit: bool
) -> None:
    suite = Suite(review)
    suite.makes(*(case(*one) for one in first))
    if "a" in suite.members:
        suite.set("a", status=status)
        if edit:
            suite.edit("a", case("a", "/mine"))
    fresh = [case(*one) for one in second]
    suite.makes(*fresh)
    for key, one in zip(member_keys(fresh), fresh, strict=True):
        member = suite.members[key]
        assert one.id in (member.generated, member.offered)
        assert member.status != "retired"
    for key in suite.members.keys() - set(member_keys(fresh)):
        member = suite.members[key]
        assert member.edited or member.status in ("retired", "rejected")
    assert suite.makes(*fresh) == Evolved(), "settled"
