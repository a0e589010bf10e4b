from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from testops_lib.model import (
    CONCURRENCY,
    Failure,
    Finding,
    FindingExample,
    FindingState,
    GateRules,
    Report,
    Result,
    StepOutcome,
    Totals,
    VerdictName,
)
from testops_lib.verdict.analyze import analyze
from testops_lib.verdict.gate import decide
from testops_lib.verdict.reasons import NO_ANSWER_AT_ALL


def finding(
    *, check: str = "status", state: FindingState = "new", advisory: bool = False, count: int = 1, key: str = "f"
) -> Finding:
    return Finding(
        fingerprint=key,
        operation="GET /",
        check=check,
        count=count,
        advisory=advisory,
        state=state,
        message="m",
        basis="guess" if advisory else "spec",
        example=FindingExample(case="c", case_name="n", message="m"),
    )


def report(*findings: Finding, errors: dict[str, int] | None = None, **results: int) -> Report:
    rest = {"no_result": 0, "target_down": 0, "operations": 10, "operations_with_2xx": 8}
    totals: dict[str, Any] = {key: results.pop(key, value) for key, value in rest.items()}
    results = {"passed": 10, "failed": 0, "errored": 0, "skipped": 0, **results}
    return Report(
        target="t",
        run="r",
        operations={},
        findings=findings,
        errors=errors or {},
        totals=Totals(cases=sum(results.values()), requests=1, results=results, **totals),
    )


def test_a_clean_run_passes_without_a_reason() -> None:
    assert decide(report(), GateRules()) == decide(report(skipped=5), GateRules())
    assert decide(report(), GateRules()).passed and decide(report(), GateRules()).reasons == ()


@pytest.mark.parametrize(
    ("bad", "rules", "rule"),
    [
        (report(finding()), GateRules(), "max_findings: 1 finding, at most 0"),
        (report(finding(), finding(state="known")), GateRules(max_findings=1), "max_findings: 2 findings, at most 1"),
        (report(finding()), GateRules(only_new=True), "max_findings: 1 new finding"),
        (report(no_result=1), GateRules(max_errored_rate=1), "no_result: 1 case without a result"),
        (report(skipped=1, target_down=1), GateRules(), "max_errored_rate: 1 case errored (9.091 %)"),
        (report(passed=0), GateRules(), "executed: no case"),
        (report(passed=0, skipped=7), GateRules(), "executed: no case"),
        (report(passed=0, failed=7), GateRules(), "passed: no case passed"),
        (report(failed=10), GateRules(min_pass_rate=0.6), "min_pass_rate: 50 % of the judged cases passed, at least"),
        (report(errored=1), GateRules(), "max_errored_rate: 1 case errored (9.091 %), at most 5 %"),
        (report(), GateRules(min_operations_2xx=0.9), "min_operations_2xx: 8 of 10 operations"),
        (report(operations=0, operations_with_2xx=0), GateRules(min_operations_2xx=0.1), "min_operations_2xx: 0 of 0"),
        (report(errors={f"{NO_ANSWER_AT_ALL}: x": 9}), GateRules(), f"global_cause: {NO_ANSWER_AT_ALL}: x (9 cases)"),
    ],
)
def test_each_rule_closes_the_gate_and_is_named(bad: Report, rules: GateRules, rule: str) -> None:
    decided = decide(bad, rules)
    assert not decided.passed
    assert len(decided.reasons) == 1 and decided.reasons[0].startswith(rule)


def test_reasons_are_whole_sentences_of_what_was_seen_and_what_is_allowed() -> None:
    rules = GateRules(max_findings=0, min_pass_rate=0.75, min_operations_2xx=0.9, max_errored_rate=0.01)
    bad = report(finding(), passed=10, failed=10, errored=2, no_result=2, errors={f"{NO_ANSWER_AT_ALL}: x": 1})
    assert decide(bad, rules, ["a", "b"]).reasons == (
        "max_findings: 1 finding, at most 0 allowed",
        "no_result: 2 cases without a result (a; b)",
        f"global_cause: {NO_ANSWER_AT_ALL}: x (1 case)",
        "min_pass_rate: 50 % of the judged cases passed, at least 75 % required",
        "max_errored_rate: 2 cases errored (16.67 %), at most 1 % allowed",
        "min_operations_2xx: 8 of 10 operations answered a 2xx (80 %), at least 90 % required",
    )
    assert decide(report(no_result=1), GateRules()).reasons == ("no_result: 1 case without a result",)
    assert decide(report(passed=0), GateRules()).reasons == ("executed: no case was executed to a verdict",)


def test_what_fails_only_while_other_cases_run_blocks_when_the_rules_say_so() -> None:
    crowded, guessed = finding(check=CONCURRENCY, advisory=True), finding(advisory=True)
    assert decide(report(crowded), GateRules()).passed
    assert not decide(report(crowded), GateRules(concurrency=True)).passed
    assert decide(report(guessed), GateRules(concurrency=True)).passed, "other advisory findings stay advisory"


def test_a_finding_that_no_result_of_this_run_shows_does_not_block() -> None:
    assert decide(report(finding(count=0)), GateRules()).passed


def test_a_verdict_without_a_count_is_none() -> None:
    totals = msgspec.structs.replace(report().totals, results={"passed": 10})
    assert decide(
        msgspec.structs.replace(report(), totals=totals), GateRules(max_errored_rate=0, min_pass_rate=1)
    ).passed
    nothing = msgspec.structs.replace(report(), totals=msgspec.structs.replace(totals, results={}))
    assert decide(nothing, GateRules()).reasons == ("executed: no case was executed to a verdict",)


@pytest.mark.parametrize(
    ("good", "rules"),
    [
        (report(finding(advisory=True)), GateRules()),
        (report(finding(state="muted"), finding(state="fixed", count=0)), GateRules()),
        (report(finding(state="known")), GateRules(only_new=True)),
        (report(finding(check="jsonpath")), GateRules(ignore=("jsonpath",))),
        (report(finding()), GateRules(max_findings=1)),
        (report(failed=10), GateRules(min_pass_rate=0.5)),
        (report(errored=5), GateRules(max_errored_rate=0.5)),
        (report(), GateRules(min_operations_2xx=0.8)),
    ],
)
def test_what_a_rule_allows_passes(good: Report, rules: GateRules) -> None:
    assert decide(good, rules).passed


@pytest.mark.parametrize(
    ("within", "beyond", "rules"),
    [
        (report(*[finding()] * 2), report(*[finding()] * 3), GateRules(max_findings=2)),
        (report(finding(state="known")), report(finding(), finding(state="known")), GateRules(only_new=True)),
        (report(passed=90, failed=10), report(passed=89, failed=11), GateRules(min_pass_rate=0.9)),
        (report(passed=95, errored=5), report(passed=95, errored=6), GateRules(max_errored_rate=0.05)),
        (report(passed=95, errored=5, failed=50), report(passed=94, errored=5, failed=50), GateRules()),
        (report(passed=95, skipped=5, target_down=5), report(passed=95, skipped=6, target_down=6), GateRules()),
        (report(passed=4), report(passed=4, errored=1), GateRules(max_errored_rate=0)),
        (report(operations_with_2xx=8), report(operations_with_2xx=7), GateRules(min_operations_2xx=0.8)),
        (report(operations_with_2xx=10), report(operations_with_2xx=9), GateRules(min_operations_2xx=1)),
        (report(), report(no_result=1), GateRules(max_errored_rate=1)),
        (report(passed=1, failed=9), report(passed=0, failed=9), GateRules(max_findings=9)),
    ],
)
def test_a_bound_itself_still_passes_and_one_beyond_it_does_not(
    within: Report, beyond: Report, rules: GateRules
) -> None:
    assert decide(within, rules).passed
    assert len(decide(beyond, rules).reasons) == 1


def test_cases_lost_to_a_target_that_was_down_count_once() -> None:
    """Some were skipped, others broken off on their way: the reason of both may read the same."""
    kinds: list[VerdictName] = ["skipped"] * 3 + ["errored"] * 2
    lost = [Result(run="r", case=f"{n}", verdict=kind, reason="target down") for n, kind in enumerate(kinds)]
    fine = [Result(run="r", case=f"p{n}", verdict="passed") for n in range(95)]
    seen = analyze([*lost, *fine], target="t", run="r", operations={})
    assert (seen.totals.target_down, seen.totals.results["errored"]) == (3, 2)
    assert decide(seen, GateRules(max_errored_rate=0.05)).passed
    assert decide(seen, GateRules(max_errored_rate=0.049)).reasons == (
        "max_errored_rate: 5 cases errored (5 %), at most 4.9 % allowed",
    )
    aside = analyze([*lost, *fine], target="t", run="r", operations={}, quarantined={"0", "1", "3"})
    assert "2 cases errored" in decide(aside, GateRules(max_errored_rate=0)).reasons[0]


rates = st.sampled_from([0.0, 0.05, 0.3, 0.5, 0.9, 1.0])
rule_sets = st.builds(
    GateRules,
    max_findings=st.integers(0, 4),
    only_new=st.booleans(),
    ignore=st.lists(st.sampled_from(["status", "jsonpath"])).map(tuple),
    min_pass_rate=rates,
    min_operations_2xx=rates,
    max_errored_rate=rates,
)
findings = st.builds(
    finding,
    check=st.sampled_from(["status", "jsonpath", "header"]),
    advisory=st.booleans(),
    state=st.sampled_from(["new", "known", "muted", "fixed"]),
)
reports = st.builds(
    lambda findings, passed, failed, errored, skipped, missing, covered: report(
        *findings,
        passed=passed,
        failed=failed,
        errored=errored,
        skipped=skipped,
        no_result=missing,
        operations_with_2xx=covered,
    ),
    st.lists(findings, max_size=5),
    *[st.integers(0, 6)] * 4,
    st.integers(0, 1),
    st.integers(0, 10),
)


def test_what_kept_cases_from_being_executed_stands_beside_them() -> None:
    causes = ["execute: ${PETS_TOKEN} is not set in the environment"]
    (first, *_) = decide(report(no_result=2), GateRules(), causes).reasons
    assert first == f"no_result: 2 cases without a result ({causes[0]})"
    assert decide(report(), GateRules(), causes).passed, "a task that was repeated by hand is no reason"


@given(reports, rule_sets, st.lists(findings, max_size=4), st.integers(0, 9), st.integers(0, 9))
def test_more_failures_never_open_a_gate(
    before: Report, rules: GateRules, more: list[Finding], added: int, turned: int
) -> None:
    results = dict(before.totals.results)
    turned = min(turned, results["passed"])
    results["passed"] -= turned
    results["failed"] += turned + added
    worse = msgspec.structs.replace(
        before, findings=(*before.findings, *more), totals=msgspec.structs.replace(before.totals, results=results)
    )
    if decide(worse, rules).passed:
        assert decide(before, rules).passed


@given(reports, rule_sets, st.lists(findings, max_size=4))
def test_advisory_findings_never_close_a_gate(before: Report, rules: GateRules, more: list[Finding]) -> None:
    noted = [msgspec.structs.replace(one, advisory=True) for one in more]
    after = msgspec.structs.replace(before, findings=(*before.findings, *noted))
    assert decide(after, rules) == decide(before, rules)


OPERATIONS = {"GET /a": ("200",), "POST /b": ("200",)}
outcomes = st.tuples(
    st.sampled_from(list(OPERATIONS)),
    st.sampled_from(["passed", "failed", "errored", "skipped"]),
    st.sampled_from(["no_answer", "status", "not_a_server_error"]),
    st.sampled_from(["spec", "guess"]),
    st.sampled_from([0, 401, 500]),
)


def run(seen: list[tuple[str, VerdictName, str, Any, int]]) -> Report:
    results = []
    for number, (operation, verdict, check, basis, status) in enumerate(seen):
        failures = (Failure(check=check, operation=operation, message="m", basis=basis),) if verdict == "failed" else ()
        steps = (StepOutcome(operation=operation, status=200 if verdict == "passed" else status),)
        results.append(
            Result(
                run="r",
                case=f"{number}",
                operation=operation,
                verdict=verdict,
                failures=failures,
                steps=steps,
                reason="timeout" if verdict == "errored" else "",
            )
        )
    return analyze(results, target="t", run="r", operations=OPERATIONS)


@given(st.lists(outcomes, max_size=12), st.lists(outcomes, max_size=12), rule_sets)
def test_more_failed_results_never_open_a_gate(before: list[Any], more: list[Any], rules: GateRules) -> None:
    worse = [(operation, "failed", check, basis, status) for operation, _, check, basis, status in more]
    if decide(run(before + worse), rules).passed:
        assert decide(run(before), rules).passed


def test_results_of_quarantined_cases_are_left_out_of_every_rate() -> None:
    rules = GateRules(min_pass_rate=1, max_errored_rate=0)
    flaky = report(passed=10, failed=3, errored=2)
    assert not decide(flaky, rules).passed
    totals = msgspec.structs.replace(flaky.totals, quarantined={"failed": 3, "errored": 2})
    assert decide(msgspec.structs.replace(flaky, totals=totals), rules).passed
    totals = msgspec.structs.replace(flaky.totals, quarantined={"passed": 10, "failed": 3, "errored": 2})
    assert not decide(msgspec.structs.replace(flaky, totals=totals), rules).passed, "nothing else was executed"
