from __future__ import annotations

from testops_lib.model import Report, Result, StepOutcome
from testops_lib.report.text import transfers
from testops_lib.verdict.analyze import analyze
from testops_lib.verdict.transfers import TIMEOUT

SLOW = "GET /slow"


def result(case: str, *steps: StepOutcome, operation: str = SLOW, concurrency: int = 0) -> Result:
    verdict = "passed" if all(step.status for step in steps) else "errored"
    reason = "" if verdict == "passed" else TIMEOUT
    return Result(
        run="r", case=case, operation=operation, verdict=verdict, reason=reason, steps=steps, concurrency=concurrency
    )


def timed_out(operation: str = SLOW, ms: float = 10_000) -> StepOutcome:
    return StepOutcome(operation=operation, error=TIMEOUT, elapsed_ms=ms)


OK = result("ok", StepOutcome(operation="GET /a", status=200), operation="GET /a")


def report_of(*results: Result) -> Report:
    return analyze(results, target="t", run="r", operations={SLOW: ("200",), "GET /a": ("200",)})


def test_an_operation_that_never_answers_in_time_is_a_finding() -> None:
    report = report_of(OK, *(result(str(n), timed_out()) for n in range(3)))
    (finding,) = report.findings
    assert (finding.check, finding.operation, finding.count, finding.advisory) == ("response_timeout", SLOW, 3, False)
    assert finding.message == "no answer within 10 s, 3 of 3 requests"
    assert finding.severity == "high" and finding.example.case == "0"
    again = analyze(
        [OK, result("1", timed_out()), result("2", timed_out())],
        target="t",
        run="s",
        operations={},
        first_seen={finding.fingerprint: "r"},
    )
    assert [(one.fingerprint, one.state) for one in again.findings] == [(finding.fingerprint, "known")]


def test_one_timeout_a_later_answer_or_a_silent_target_is_none() -> None:
    answered = result("9", StepOutcome(operation=SLOW, status=404))
    refused = result("9", StepOutcome(operation=SLOW, error="connection refused"))
    assert report_of(OK, result("0", timed_out())).findings == ()
    assert report_of(OK, *(result(str(n), timed_out()) for n in range(3)), answered).findings == ()
    assert report_of(OK, answered, *(result(str(n), timed_out()) for n in range(3))).findings == ()
    assert report_of(OK, refused, *(result(str(n), timed_out()) for n in range(3))).findings == ()
    assert report_of(*(result(str(n), timed_out()) for n in range(3))).findings == ()


def test_requests_that_our_own_limits_cut_short_say_nothing() -> None:
    cut = [result(f"cut {error}", StepOutcome(operation=SLOW, error=error)) for error in ("case timeout", "stopped")]
    silent = [result(str(n), timed_out()) for n in range(2)]
    assert [one.check for one in report_of(OK, *cut, *silent).findings] == ["response_timeout"]
    assert report_of(OK, *cut).findings == ()


def test_a_finding_about_silence_is_fixed_when_the_operation_answers() -> None:
    before = report_of(OK, *(result(str(n), timed_out()) for n in range(3)))
    after = analyze(
        [OK, result("0", StepOutcome(operation=SLOW, status=200))],
        target="t",
        run="s",
        operations={},
        previous=before.findings,
        previous_run="r",
    )
    assert [(one.check, one.state) for one in after.findings] == [("response_timeout", "fixed")]


def test_overload_waits_streams_and_unjudged_bodies_are_said_in_a_line_each() -> None:
    busy = StepOutcome(operation="GET /a", status=503, overload="answered 503")
    waited = StepOutcome(operation="GET /a", status=200, asked_to_wait=2, waited_s=1.5)
    stream = StepOutcome(operation="GET /b", status=200, streaming=True, unjudged=("jsonpath: the answer is a stream",))
    report = report_of(
        OK,
        result("1", busy, operation="GET /a", concurrency=4),
        result("2", waited, concurrency=2),
        result("3", stream, operation="GET /b"),
        result("4", stream, operation="GET /b"),
    )
    assert report.load is not None and report.load.overloaded == {"answered 503": 1}
    assert report.operations["GET /b"].streams == 2
    assert report.operations["GET /b"].unjudged == {"jsonpath: the answer is a stream": 2}
    assert transfers(report) == [
        "overload: answered 503 (1); cases at once went down to 2",
        "the target asked 2 times to come back later: we waited 1.5 s",
        "streams, judged by status and headers: GET /b",
        "2 checks of response bodies could not be made, in 1 operation",
    ]
    assert report_of(OK).load is None and transfers(report_of(OK)) == []
