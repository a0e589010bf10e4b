from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import msgspec

from testops_lib.model import Case, Finding, FindingExample, Provenance, Request, Step, make_case
from testops_lib.suite import added, evolve, regressions

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


def case(path: str, source: str = "property") -> Case:
    step = Step(operation="GET /pets", request=Request(method="GET", path=path))
    return make_case(
        name=path, intent="positive", operation="GET /pets", steps=(step,), origin=Provenance(source=source)
    )


def finding(case: Case, **more: Any) -> Finding:
    example = FindingExample(case=case.id, case_name=case.name, message="")
    given = {"operation": "GET /pets", "check": "c", "count": 1, "advisory": False, "basis": "spec", "message": "m"}
    return Finding(**{"fingerprint": "f", **given, **more}, example=example)


RANDOM, RULES = case("/random"), case("/rules", "rules")


def kept(*findings: Finding, known: tuple[str, ...] = ()) -> list[str]:
    cases = {one.id: one for one in (RANDOM, RULES)}
    return [member.key for member in regressions(findings, cases, known, suite="zoo", at=NOON).members]


def test_each_finding_of_a_random_case_is_kept_once() -> None:
    assert kept(finding(RANDOM)) == ["regression: c f"]
    assert kept(finding(RANDOM, fingerprint="g"), finding(RANDOM)) == ["regression: c g", "regression: c f"]
    assert kept(finding(RANDOM), known=("regression: c f",)) == []


def test_what_nobody_must_look_at_and_what_is_made_again_anyway_is_not_kept() -> None:
    assert kept(finding(RULES)) == kept(finding(case("/unknown"))) == []
    assert kept(finding(RANDOM, advisory=True)) == kept(finding(RANDOM, state="fixed")) == []


def test_a_regression_stays_when_its_source_makes_other_cases() -> None:
    (member,) = regressions([finding(RANDOM)], {RANDOM.id: RANDOM}, (), suite="zoo", at=NOON).members
    plain = msgspec.structs.replace(member, key="/random", id="0")
    after = evolve(
        [member, plain],
        [case("/other")],
        {}.__getitem__,
        suite="zoo",
        operation="GET /pets",
        source="property",
        review="never",
        at=NOON,
    )
    assert {one.key: one.status for one in after.members} == {"/random": "retired", "/other": "active"}


def test_cases_that_come_on_top_change_no_other() -> None:
    (member,) = regressions([finding(RANDOM)], {RANDOM.id: RANDOM}, (), suite="zoo", at=NOON).members
    there = msgspec.structs.replace(member, key="/a")
    fresh = [case("/a"), case("/b"), RANDOM]
    after = added([there], fresh, suite="zoo", operation="GET /pets", source="property", at=NOON)
    assert [(one.key, one.position, one.status) for one in after.members] == [
        ("/a [2]", 2, "active"),
        ("/b", 3, "active"),
    ]
