"""Results -> report value, in one pass and bounded memory.

The pieces: `tally` counts, `folding` moves what one cause outside of the operations explains, `findings` makes findings
of failures, `lifecycle` compares them with earlier runs, `coverage` and `costs` say what was reached and paid.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import datetime

from testops_lib.model import SLOWER, Finding, Generation, OperationReport, Report, Result, Totals
from testops_lib.verdict.costs import source_costs, with_costs
from testops_lib.verdict.coverage import VERDICTS, with_reasons
from testops_lib.verdict.findings import doubted_in_a_crowd, only_together, rank, silent_finding, slow_finding
from testops_lib.verdict.folding import fold_global_causes
from testops_lib.verdict.lifecycle import Lifecycle, fixed
from testops_lib.verdict.response_times import Medians, known_well, medians, slower
from testops_lib.verdict.tally import Tally


def analyze(
    results: Iterable[Result],
    *,
    target: str,
    run: str,
    operations: Mapping[str, tuple[str, ...]],
    base_url: str = "",
    title: str = "",
    first_seen: Mapping[str, str] | None = None,
    muted: Collection[str] = (),
    previous_run: str = "",
    previous: Collection[Finding] = (),
    generation: tuple[Generation, ...] = (),
    started: datetime | None = None,
    finished: datetime | None = None,
    credentials_hint: str = "",
    quarantined: Collection[str] = (),
    history: Sequence[Medians] = (),
    not_tested: Mapping[str, str] | None = None,
    repetitions: Iterable[Result] = (),
    concurrency: int = 1,
) -> Report:
    """The report of one run, without a gate.

    `totals.results` has all four verdicts; `totals.findings` counts what was seen in this run (advisory and muted
    ones too, `fixed` ones not), `totals.advisory` the advisory among them. The outcome does not depend on the order
    of the results, as long as no operation and check has more than `MOST_CAUSES` causes; a result delivered twice
    counts once.

    When nearly every result has the same global cause (no answer at all; 401 for valid requests; 404, a redirect or an
    HTML page for everything), these results count as errored with one reason and give no findings. So do, where most
    operations answer 401 and none of them ever a 2xx, the valid requests that passed with a 401 as documented: nothing
    was tested there.

    Args:
        results: one per case and attempt, all of this run; consumed once, evidence is kept for one example a finding.
        operations: every operation in scope -> its documented statuses. Empty: those that the results name.
        first_seen: fingerprint -> run in which it was first seen. One first seen in this very run is still new.
        muted: fingerprints that a person has silenced.
        previous: the open findings of `previous_run`; one that is not seen now though its operation answered is fixed.
        quarantined: ids of cases whose failures are advisory and whose results the gate leaves out.
        history: response times of earlier runs of the target; an operation that is slower beyond what these differ by
            is an advisory finding.
        not_tested: operations for which no case could be made -> why. Those outside of `operations` are in scope, too;
            one that was called all the same counts as tested.
        repetitions: what came of repeating failed cases alone (results with `repeat`). A finding says how often it came
            back; what did not, in a run of several cases at once, goes into the one finding `concurrency`.
        concurrency: how many cases the run executed at once.
        credentials_hint: what to do when every valid request is answered 401; ends that reason.
    """
    if operations and not_tested:
        operations = {**operations, **{key: () for key in not_tested if key not in operations}}
    tally = Tally(operations, frozenset(quarantined), repetitions)
    for result in results:
        tally.add(result)
    fold_global_causes(tally, credentials_hint)
    lifecycle = Lifecycle(run=run, first_seen=first_seen or {}, muted=muted)
    reports = tally.operation_reports()
    findings = _findings(tally, lifecycle, reports, history, concurrency)
    shown = {key for finding in findings for key in (finding.fingerprint, *finding.folded)}
    comparable = [finding for finding in previous if finding.check != SLOWER or known_well(finding.operation, history)]
    findings += fixed(comparable, shown, reports)
    findings.sort(key=rank)
    reports = with_reasons(with_costs(reports, generation), not_tested or {})
    return Report(
        target=target,
        run=run,
        title=title,
        base_url=base_url,
        started=started,
        finished=finished,
        totals=_totals(tally, findings, [reports[key] for key in operations] if operations else reports.values()),
        operations=reports,
        findings=tuple(findings),
        errors=tally.errors(),
        left_behind=tally.left_behind(),
        previous_run=previous_run,
        generation=generation,
        costs=source_costs(generation, findings),
        currency=next((made.currency for made in generation if made.currency), ""),
        quarantined=tuple(sorted(tally.quarantined_cases)),
        load=tally.transfers.load(),
    )


def _findings(
    tally: Tally,
    lifecycle: Lifecycle,
    reports: Mapping[str, OperationReport],
    history: Sequence[Medians],
    concurrency: int,
) -> list[Finding]:
    """What this run shows, in no order."""
    shown = [occurrences for occurrences in tally.findings.values() if occurrences.count > 0]
    if concurrency > 1:
        alone = [occurrences for occurrences in shown if not occurrences.proof.gone]
        together = [occurrences for occurrences in shown if occurrences.proof.gone]
        findings = [doubted_in_a_crowd(occurrences.finding(lifecycle)) for occurrences in alone]
        if together:
            findings.append(only_together(together, lifecycle))
    else:
        findings = [occurrences.finding(lifecycle) for occurrences in shown]
    for silence in tally.transfers.silences():
        quarantined = silence.result.case in tally.quarantined
        findings.append(silent_finding(silence, lifecycle, quarantined=quarantined))
    for slow in slower(medians(reports), history):
        findings.append(slow_finding(slow, tally.slowest[slow.operation], lifecycle))
    return findings


def _totals(tally: Tally, findings: Collection[Finding], in_scope: Collection[OperationReport]) -> Totals:
    seen = [finding for finding in findings if finding.state != "fixed"]
    return Totals(
        cases=tally.cases,
        requests=tally.requests,
        results={name: tally.verdicts[name] for name in VERDICTS},
        operations=len(in_scope),
        operations_with_2xx=sum(report.success_seen for report in in_scope),
        operations_not_tested=sum(bool(report.not_tested) for report in in_scope),
        findings=len(seen),
        advisory=sum(finding.advisory for finding in seen),
        no_result=tally.no_result,
        target_down=tally.target_down,
        withheld=tally.withheld,
        left_behind=sum(tally.left.values()),
        quarantined=dict(sorted((+tally.quarantined_verdicts).items())),
    )
