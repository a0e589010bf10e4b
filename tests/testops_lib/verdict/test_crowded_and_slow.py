from __future__ import annotations

from typing import Any

import msgspec
import pytest

from testops_lib.model import CONCURRENCY, Finding, RequestEvidence, Result
from testops_lib.verdict.analyze import analyze
from testops_lib.verdict.findings import MOST_TOGETHER
from tests.testops_lib.verdict.results import OPERATION, OPERATIONS, failure, report, result

OTHER = "POST /pets"


def repeated(original: Result, times: int = 1, *, passed: bool = True, **more: Any) -> list[Result]:
    again = {"verdict": "passed", "failures": ()} if passed else {}
    return [msgspec.structs.replace(original, repeat=number, **{**again, **more}) for number in range(1, times + 1)]


def crowded(results: list[Result], repetitions: list[Result], **more: Any) -> tuple[Finding, ...]:
    return report(*results, repetitions=repetitions, concurrency=8, **more).findings


# ------------------------------------------------------------------------ only while other cases run


def test_failures_that_no_repetition_shows_are_one_advisory_finding_of_the_crowd() -> None:
    first = [result(f"a{n}", failure(cause="status 500")) for n in range(2)]
    other = result("b", failure(cause="status 502", operation=OTHER), operation=OTHER)
    (finding,) = crowded([*first, other], [again for one in (*first, other) for again in repeated(one)])
    assert (finding.check, finding.severity, finding.advisory, finding.state) == (CONCURRENCY, "medium", True, "new")
    assert (finding.count, finding.operations, finding.wfc_code) == (3, {OPERATION: 2, OTHER: 1}, None)
    assert finding.message == (
        f"{OPERATION} and 1 more operation failed while other cases ran, and not when repeated alone: status 500"
    )
    assert finding.together == (
        f"{OPERATION}: not_a_server_error: status 500",
        f"{OTHER}: not_a_server_error: status 502",
    )
    keys = {one.fingerprint for one in report(*first, other).findings}
    assert set(finding.folded) == keys and list(finding.folded) == sorted(finding.folded)
    assert finding.fingerprint not in keys and finding.first_seen_run == "r2"


def test_the_finding_of_the_crowd_is_one_and_the_same_in_every_run() -> None:
    first = result("a", failure(cause="status 500"))
    (finding,) = crowded([first], repeated(first))
    assert finding.message.startswith(f"{OPERATION} failed while other cases ran")
    second = result("b", failure("status", "answered 200", operation=OTHER), operation=OTHER)
    (known,) = crowded([second], repeated(second), first_seen={finding.fingerprint: "r1"})
    assert (known.fingerprint, known.state, known.first_seen_run) == (finding.fingerprint, "known", "r1")
    (muted,) = crowded([second], repeated(second), muted={finding.fingerprint})
    assert muted.state == "muted"


def test_many_operations_of_a_crowd_are_counted_and_the_first_lines_listed() -> None:
    keys = [f"GET /{number}" for number in range(MOST_TOGETHER + 2)]
    results = [result(key, failure(operation=key), operation=key) for key in keys]
    (finding,) = crowded(results, [again for one in results for again in repeated(one)], operations={})
    assert f"and {MOST_TOGETHER + 1} more operations failed" in finding.message
    assert len(finding.together) == MOST_TOGETHER and len(finding.folded) == len(keys)


def test_a_failure_that_a_crowd_alone_showed_is_not_fixed_in_the_run_that_shows_it_so() -> None:
    shown = result("a", failure())
    before = report(shown).findings
    assert [finding.check for finding in crowded([shown], repeated(shown), previous=before)] == [CONCURRENCY]


def test_a_failure_that_came_back_once_stays_a_finding_of_its_own() -> None:
    shown = result("a", failure())
    (finding,) = crowded([shown], [*repeated(shown, passed=False), *repeated(shown, 2)[1:]])
    assert (finding.check, finding.reproduced, finding.executed) == ("not_a_server_error", 2, 3)


def test_a_run_of_one_case_at_a_time_has_no_crowd() -> None:
    shown = result("a", failure())
    (finding,) = report(shown, repetitions=repeated(shown)).findings
    assert (finding.check, finding.advisory, finding.reproduced, finding.executed) == (
        "not_a_server_error",
        False,
        1,
        2,
    )


def test_a_repetition_that_cannot_tell_gives_its_reason() -> None:
    shown = result("a", failure())
    (skipped,) = report(
        shown, repetitions=repeated(shown, verdict="skipped", reason="budget spent", steps=(), requests=0)
    ).findings
    assert (skipped.executed, skipped.not_repeated) == (0, "budget spent")
    elsewhere = repeated(shown, passed=False, failures=(failure(cause="another"),))
    (unclear,) = report(shown, repetitions=elsewhere).findings
    assert (unclear.executed, unclear.not_repeated) == (0, "the repetition was answered otherwise")


def test_the_case_that_came_back_most_often_is_the_example() -> None:
    once, twice, never = (result(name, failure()) for name in ("once", "twice", "never"))
    repetitions = [*repeated(once, passed=False), *repeated(twice, 2, passed=False), *repeated(never, 2)]
    (finding,) = report(once, twice, never, repetitions=repetitions).findings
    assert (finding.example.case, finding.reproduced, finding.executed) == ("twice", 3, 3)


# ------------------------------------------------------------------------ the best example


def sized(case: str, size: int, **more: Any) -> Result:
    shown = result(case, failure(**more))
    request = RequestEvidence(method="GET", url=f"http://h/{case}", body="x" * size, body_bytes=size)
    return msgspec.structs.replace(shown, steps=(msgspec.structs.replace(shown.steps[0], request=request),))


@pytest.mark.parametrize(
    ("worse", "better"),
    [
        (sized("a", 0, basis="guess"), sized("b", 9)),
        (result("a", failure(), steps=2), sized("b", 9)),
        (sized("a", 9), sized("b", 8)),
        (sized("b", 9), sized("a", 9)),
    ],
)
def test_a_firm_short_small_case_is_a_better_example(worse: Result, better: Result) -> None:
    for order in ((worse, better), (better, worse)):
        assert report(*order).findings[0].example.case == better.case


# ------------------------------------------------------------------------ slower than it was


def test_a_slower_operation_says_how_slow_and_how_fast_it_usually_is() -> None:
    history = [{OPERATION: 100.0, OTHER: 100.0, "GET /c": 100.0}] * 10
    fine = [result(f"{key} {n}", operation=key, elapsed_ms=100) for key in (OTHER, "GET /c") for n in range(5)]
    slow = [result(f"s{n}", elapsed_ms=900 + n) for n in range(5)]
    (finding,) = analyze([*fine, *slow], target="t", run="r2", operations=OPERATIONS, history=history).findings
    assert finding.message == "the median of its 2xx answers is 902 ms, usually 100 ms"
    assert (finding.check, finding.advisory, finding.basis, finding.count) == (
        "response_time_history",
        True,
        "guess",
        1,
    )
    assert (finding.operation, finding.operations, finding.example.case) == (OPERATION, {OPERATION: 1}, "s4")


def test_an_api_that_is_slower_as_a_whole_is_one_finding() -> None:
    keys = (OPERATION, OTHER, "GET /c")
    history = [dict.fromkeys(keys, 100.0)] * 10
    slow = [result(f"{key} {n}", operation=key, elapsed_ms=900) for key in keys for n in range(5)]
    (finding,) = analyze(slow, target="t", run="r2", operations=OPERATIONS, history=history).findings
    assert finding.message == (
        "most operations are slower than they were, this one by most: "
        "the median of its 2xx answers is 900 ms, usually 100 ms"
    )
