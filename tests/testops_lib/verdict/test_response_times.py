from __future__ import annotations

import random
import statistics
from collections.abc import Callable, Iterable

import pytest

from testops_lib.model import SLOWER, OperationReport, Result, StepOutcome
from testops_lib.verdict.analyze import analyze
from testops_lib.verdict.response_times import LEAST_ANSWERS, LEAST_RUNS, Slower, medians, slower

USUAL = {"GET /a": 4.0, "GET /b": 40.0, "GET /c": 200.0, "GET /d": 60.0, "GET /e": 9.0, "GET /f": 9.0}
QUIET = [{key: ms * (1 + 0.01 * number) for key, ms in USUAL.items()} for number in range(8)]


def slower_operations(**changed: float) -> list[tuple[str, bool]]:
    now = USUAL | {f"GET /{name}": ms for name, ms in changed.items()}
    return [(operation.operation, operation.common) for operation in slower(now, QUIET)]


def test_an_operation_beyond_all_that_was_seen_is_slower() -> None:
    assert slower(USUAL | {"GET /b": 200.0}, QUIET) == (
        Slower(operation="GET /b", now_ms=200.0, usual_ms=statistics.median(run["GET /b"] for run in QUIET)),
    )
    assert slower_operations(b=200, d=400) == [("GET /d", False), ("GET /b", False)], "the most so first"


def test_what_nobody_would_act_on_is_not() -> None:
    assert slower_operations(a=40) == [], "ten times slower, and 36 ms"
    assert slower_operations(c=380) == [], "180 ms, and not twice as slow"
    seen = [*QUIET, QUIET[0] | {"GET /b": 210.0}]
    assert slower(USUAL | {"GET /b": 200.0}, seen) == (), "it was as slow before"
    assert slower(USUAL | {"GET /b": 200.0}, QUIET[: LEAST_RUNS - 1]) == (), "too little is known"
    assert slower({}, QUIET) == slower(USUAL, []) == ()


def test_what_all_have_in_common_is_one() -> None:
    assert [operation.common for operation in slower({key: ms * 5 for key, ms in USUAL.items()}, QUIET)] == [True]
    busy = {key: ms * 5 for key, ms in USUAL.items()}
    assert slower(busy | {"GET /b": 2000.0}, [*QUIET, busy])[0].operation == "GET /b", "of a busy run one stands out"


def test_a_median_of_few_answers_says_nothing() -> None:
    def seen(answers: int) -> OperationReport:
        return OperationReport(statuses={"200": answers, "404": 90}, latency_ms={"p50": 7.0})

    assert medians({"a": seen(LEAST_ANSWERS), "b": seen(LEAST_ANSWERS - 1), "c": OperationReport()}) == {"a": 7.0}


def steady(_: random.Random) -> float:
    return 1.0


def busy(chance: random.Random) -> float:
    return chance.lognormvariate(0, 0.5)


def timed(chance: random.Random, load: float, operations: Iterable[tuple[str, float]]) -> dict[str, float]:
    """Medians of eight answers each; single answers differ by a factor of two and more."""
    return {
        key: statistics.median(ms * load * chance.lognormvariate(0, 0.6) for _ in range(8)) for key, ms in operations
    }


@pytest.mark.parametrize("load", [steady, busy])
@pytest.mark.parametrize("count", [3, 12, 40])
def test_quiet_runs_raise_few_alarms_and_a_slow_operation_is_found(
    load: Callable[[random.Random], float], count: int
) -> None:
    """`pytest -s` prints the figures."""
    chance = random.Random(7)
    operations = [("big", 150.0), *((f"o{number}", (2, 10, 40, 150, 400)[number % 5]) for number in range(count))]
    runs = [timed(chance, load(chance), operations) for _ in range(410)]
    alarms = sum(bool(slower(runs[at], runs[at - 10 : at])) for at in range(10, 410)) / 4
    hits = 0
    for at in range(10, 110):
        now = runs[at] | {"big": runs[at]["big"] * 4}
        hits += "big" in {operation.operation for operation in slower(now, runs[at - 10 : at])}
    print(f"{count} operations, {load.__name__}: {alarms:g} alarms in 100 runs, {hits} % found")
    assert alarms <= 2.5 and hits >= 75


def test_a_report_shows_it_as_advice_with_the_slowest_answer() -> None:
    def result(case: str, ms: float) -> Result:
        step = StepOutcome(operation="GET /b", status=200, elapsed_ms=ms)
        return Result(run="r", case=case, case_name=case, verdict="passed", operation="GET /b", steps=(step,))

    results = [result(f"c{number}", 200.0 + number) for number in range(9)]
    report = analyze(results, target="t", run="r", operations={"GET /b": ("200",)}, history=QUIET)
    (finding,) = report.findings
    assert (finding.check, finding.advisory, finding.operation, finding.example.case) == (SLOWER, True, "GET /b", "c8")
    assert finding.message == "the median of its 2xx answers is 204 ms, usually 41 ms"
    assert analyze(results, target="t", run="r", operations={"GET /b": ("200",)}).findings == ()


def test_it_is_fixed_when_it_is_as_fast_as_usual_and_not_when_nobody_knows() -> None:
    def results(ms: float) -> list[Result]:
        step = StepOutcome(operation="GET /b", status=200, elapsed_ms=ms)
        return [Result(run="r", case=f"c{n}", verdict="passed", operation="GET /b", steps=(step,)) for n in range(9)]

    scope = {"target": "t", "operations": {"GET /b": ("200",)}}
    (slow,) = analyze(results(204), run="r", history=QUIET, **scope).findings
    for ms, history, states in (
        (204.0, QUIET, ["known"]),  # the run that found it is no part of what is usual
        (40.0, QUIET, ["fixed"]),
        (204.0, QUIET[: LEAST_RUNS - 1], []),
    ):
        again = analyze(
            results(ms), run="s", history=history, first_seen={slow.fingerprint: "r"}, previous=[slow], **scope
        )
        assert [one.state for one in again.findings] == states
