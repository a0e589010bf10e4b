from __future__ import annotations

import msgspec

from testops_lib.verdict.analyze import analyze
from tests.testops_lib.verdict.results import OPERATION, OPERATIONS, failure, report, result, undocumented


def test_a_finding_of_many_operations_lives_on_while_they_come_and_go() -> None:
    first, second = undocumented(OPERATION), undocumented("POST /pets")
    (before,) = report(result("1", first), result("2", second)).findings
    known = {before.fingerprint: "r1"}
    for shown in ([result("1", first)], [result("2", second)], [result("3", undocumented("GET /new"))]):
        (now,) = report(*shown, first_seen=known, previous=[before]).findings
        assert (now.fingerprint, now.state) == (before.fingerprint, "known")
    muted = report(result("2", second), muted={before.fingerprint})
    assert [one.state for one in muted.findings] == ["muted"]


def test_a_finding_of_many_operations_is_fixed_when_all_had_their_chance() -> None:
    before = report(result("1", undocumented(OPERATION)), result("2", undocumented("POST /pets"))).findings
    one, other = result("1"), result("2", operation="POST /pets")
    assert report(one, previous=before).findings == (), "the other operation was not executed"
    assert [finding.state for finding in report(one, other, previous=before).findings] == ["fixed"]
    without = {OPERATION: ("200",)}
    assert [finding.state for finding in report(one, previous=before, operations=without).findings] == ["fixed"]


def test_new_known_and_fixed_against_the_previous_run() -> None:
    before = analyze(
        [
            result("1", failure(cause="stays")),
            result("2", failure(cause="goes")),
            result("3", failure(cause="unasked", operation="POST /pets")),
        ],
        target="t",
        run="r1",
        operations=OPERATIONS,
    )
    now = report(
        result("1", failure(cause="stays")),
        result("4", failure(cause="comes")),
        previous=before.findings,
        previous_run="r1",
        first_seen={one.fingerprint: "r1" for one in before.findings},
    )
    states = {one.message: (one.state, one.count, one.first_seen_run) for one in now.findings}
    assert states == {"stays": ("known", 1, "r1"), "comes": ("new", 1, "r2"), "goes": ("fixed", 0, "r1")}
    assert now.totals.findings == 2 and now.findings[-1].state == "fixed" and now.previous_run == "r1"


def test_nothing_is_fixed_when_the_operation_did_not_answer() -> None:
    before = report(result("1", failure())).findings
    errored = result("2", verdict="errored", status=0, reason="timeout")
    assert report(errored, previous=before).findings == ()
    broken = result("3", failure(check="no_answer", cause="closed"), status=0)
    assert [one.check for one in report(broken, previous=before).findings] == ["no_answer"]


def test_nothing_is_fixed_when_no_case_about_the_operation_was_judged() -> None:
    """It answered as a step of others' cases, and its own cases could not be executed."""
    before = report(result("1", failure())).findings
    beside = msgspec.structs.replace(result("2"), operation="POST /pets")
    assert report(beside, previous=before).findings == ()
    assert report(beside, result("3", verdict="errored"), previous=before).findings == ()
    assert [one.state for one in report(beside, result("3"), previous=before).findings] == ["fixed"]


def test_a_run_analysed_again_keeps_its_findings_new() -> None:
    first = report(result("1", failure()))
    again = report(result("1", failure()), first_seen={first.findings[0].fingerprint: "r2"}, previous=first.findings)
    assert again == first
