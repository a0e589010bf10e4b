"""Report and rules -> pass or fail: pure, and never opened by more failures."""

from __future__ import annotations

from collections.abc import Collection

from testops_lib.model import CONCURRENCY, Finding, GateReport, GateRules, Report
from testops_lib.verdict.reasons import GLOBAL_CAUSES


def blocks(finding: Finding, rules: GateRules) -> bool:
    """Whether a finding counts against `max_findings`."""
    states = {"new"} if rules.only_new else {"new", "known"}
    counts = not finding.advisory or (finding.check == CONCURRENCY and rules.concurrency)
    return counts and finding.count > 0 and finding.state in states and finding.check not in rules.ignore


def global_causes(report: Report) -> tuple[str, ...]:
    """The causes outside of the operations that spoiled the run, each with the number of cases it took."""
    return tuple(
        f"{reason} ({_count(number, 'case')})"
        for reason, number in report.errors.items()
        if reason.startswith(GLOBAL_CAUSES)
    )


def decide(report: Report, rules: GateRules, causes: Collection[str] = ()) -> GateReport:
    """Pass or fail, with a reason in words for every rule that does not hold; each names its rule.

    `causes` say why parts of the run could not be done; they explain missing results and close nothing by themselves.
    """
    return GateReport(passed=not (reasons := _reasons(report, rules, causes)), reasons=reasons)


def _reasons(report: Report, rules: GateRules, causes: Collection[str]) -> tuple[str, ...]:
    totals = report.totals
    passed, failed, errored = (
        max(0, totals.results.get(verdict, 0) - totals.quarantined.get(verdict, 0))
        for verdict in ("passed", "failed", "errored")
    )
    errored += totals.target_down
    reasons = []
    blocking = sum(blocks(finding, rules) for finding in report.findings)
    if blocking > rules.max_findings:
        kind = "new finding" if rules.only_new else "finding"
        reasons.append(f"max_findings: {_count(blocking, kind)}, at most {rules.max_findings} allowed")
    if totals.no_result:
        why = f" ({'; '.join(causes)})" if causes else ""
        reasons.append(f"no_result: {_count(totals.no_result, 'case')} without a result{why}")
    reasons += [f"global_cause: {cause}" for cause in global_causes(report)]
    if passed + failed == 0:
        reasons.append("executed: no case was executed to a verdict")
    elif passed == 0:
        reasons.append("passed: no case passed")
    if passed + failed and passed / (passed + failed) < rules.min_pass_rate:
        rate = passed / (passed + failed)
        least = _share(rules.min_pass_rate)
        reasons.append(f"min_pass_rate: {_share(rate)} of the judged cases passed, at least {least} required")
    if errored and errored / (passed + errored) > rules.max_errored_rate:
        rate = errored / (passed + errored)
        reasons.append(
            f"max_errored_rate: {_count(errored, 'case')} errored ({_share(rate)}), "
            f"at most {_share(rules.max_errored_rate)} allowed"
        )
    covered = totals.operations_with_2xx / totals.operations if totals.operations else 0.0
    if covered < rules.min_operations_2xx:
        reasons.append(
            f"min_operations_2xx: {totals.operations_with_2xx} of {totals.operations} operations answered a 2xx "
            f"({_share(covered)}), at least {_share(rules.min_operations_2xx)} required"
        )
    return tuple(reasons)


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


def _share(rate: float) -> str:
    return f"{rate * 100:.4g} %"
