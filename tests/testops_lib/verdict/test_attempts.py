from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from testops_lib.model import (
    GateRules,
    Result,
    VerdictName,
)
from testops_lib.verdict.attempts import settle
from testops_lib.verdict.gate import decide
from tests.testops_lib.verdict.results import failure, report, result


def test_attempts_of_a_case_count_once_each_and_the_case_once() -> None:
    first, second = result("1"), msgspec.structs.replace(result("1"), attempt=2)
    analysis = report(first, second, second, first, msgspec.structs.replace(first, attempt=3))
    assert (analysis.totals.cases, analysis.totals.requests, analysis.totals.results["passed"]) == (1, 3, 3)


def attempts(*verdicts: VerdictName, case: str = "a") -> list[Result]:
    made = [result(case, *((failure(),) if one == "failed" else ()), verdict=one) for one in verdicts]
    return [msgspec.structs.replace(one, attempt=number) for number, one in enumerate(made, 1)]


@pytest.mark.parametrize(
    ("given", "speaks", "passed_again"),
    [
        (attempts("passed"), 1, 0),
        (attempts("failed", "passed"), 1, 2),
        (attempts("failed", "errored"), 1, 0),
        (attempts("failed", "failed"), 2, 0),
        (attempts("failed", "passed", "failed"), 3, 0),
        (attempts("failed", "errored", "passed"), 1, 3),
        (attempts("errored", "passed"), 2, 0),
        (attempts("skipped", "errored"), 2, 0),
        (attempts("passed", "errored"), 1, 0),
    ],
)
def test_a_failure_speaks_for_its_case_and_a_later_pass_is_noted(
    given: list[Result], speaks: int, passed_again: int
) -> None:
    (settled,) = settle(given)
    assert (settled.attempt, settled.passed_again) == (speaks, passed_again)


verdict_lists = st.lists(st.sampled_from(["passed", "failed", "errored", "skipped"]), min_size=1, max_size=5)


@given(st.lists(verdict_lists, max_size=6))
def test_one_result_for_each_case_and_no_failure_is_lost(given: list[list[VerdictName]]) -> None:
    cases = {str(number): verdicts for number, verdicts in enumerate(given)}
    settled = list(settle(one for case, verdicts in cases.items() for one in attempts(*verdicts, case=case)))
    assert [one.case for one in settled] == list(cases)
    assert all((one.verdict == "failed") == ("failed" in cases[one.case]) for one in settled)


def test_a_finding_that_always_passed_again_says_so_and_still_blocks() -> None:
    settled = list(settle([*attempts("failed", "passed"), *attempts("failed", "passed", case="b")]))
    (finding,) = report(*settled).findings
    assert (finding.passed_again, finding.count) == (2, 2)
    assert not decide(report(*settled, result("c")), GateRules()).passed
    (lasting,) = report(*settled, *settle(attempts("failed", "failed", case="c"))).findings
    assert lasting.passed_again == 0
