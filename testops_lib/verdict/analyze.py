"""Results -> report value, in one pass and bounded memory."""

from __future__ import annotations

import hashlib
from array import array
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from itertools import groupby
from typing import get_args

import msgspec

from testops_lib.cost import total
from testops_lib.export import curl
from testops_lib.http.answer import media_type
from testops_lib.model import (
    CONCURRENCY,
    NO_ANSWER,
    SEVERITIES,
    SLOWER,
    WFC_CODES,
    Basis,
    Cost,
    Failure,
    Finding,
    FindingExample,
    FindingState,
    Generation,
    Left,
    OperationReport,
    Report,
    Result,
    Severity,
    SourceCost,
    StepOutcome,
    Totals,
    VerdictName,
    severity_of,
)
from testops_lib.verdict.fingerprint import fingerprint, normalise, parts_of
from testops_lib.verdict.gate import (
    LOCKED_OUT,
    NO_ANSWER_AT_ALL,
    NOT_FOUND_ANYWHERE,
    PAGES_EVERYWHERE,
    REDIRECTED_EVERYWHERE,
    REFUSED_CREDENTIALS,
    TARGET_DOWN,
)
from testops_lib.verdict.repetition import comes_back
from testops_lib.verdict.response_times import Medians, Slower, known_well, medians, slower
from testops_lib.verdict.transfers import Silence, Transfers

__all__ = ["analyze", "fingerprint", "normalise", "settle"]

NO_RESULT = "no_result"
"""The reason of a result that stands for a case whose result never came."""

MOST_CAUSES = 50
"""Causes of one operation and check that become findings of their own; further ones share one finding."""

MOST_TOGETHER = 50
"""Lines of the finding `concurrency`."""

MOST_REASONS = 100
"""Lines of `Report.errors`; rarer reasons share the last one."""

_GLOBAL_SHARE = 0.9
_GLOBAL_LEAST = 5
"""From this share on, and this many results over at least two operations, one cause explains the run: one line and
no findings."""

_USE_AFTER_FREE = "use_after_free"
_OTHER_CAUSES = "other causes"
_OTHER_REASONS = "other reasons"
_VERDICTS: tuple[VerdictName, ...] = get_args(VerdictName)
_FIRMEST_FIRST: tuple[Basis, ...] = ("human", "spec", "example", "standard", "description", "stable", "guess")
_FIRMNESS: dict[Basis, int] = {basis: place for place, basis in enumerate(_FIRMEST_FIRST)}
_SEVERITY_ORDER: tuple[Severity, ...] = get_args(Severity)
_CHECK_ORDER = {check: place for place, check in enumerate(SEVERITIES)}
_STATE_ORDER: dict[FindingState, int] = {"new": 0, "known": 1, "muted": 2, "fixed": 3}


def settle(attempts: Iterable[Result]) -> Iterator[Result]:
    """One result for each case, from all its attempts, given by case and in their order.

    A failure stays, whatever comes later: a later pass is noted on it (`passed_again`). An errored or skipped attempt
    gives way to any verdict.
    """
    for _, given in groupby(attempts, key=lambda result: result.case):
        results = list(given)
        failed = [one for one in results if one.verdict == "failed"]
        passed = [one for one in results if one.verdict == "passed"]
        if not failed:
            yield (passed or results)[-1]
        else:
            later = max((one.attempt for one in passed if one.attempt > failed[-1].attempt), default=0)
            yield msgspec.structs.replace(failed[-1], passed_again=later)


def analyze(
    results: Iterable[Result],
    *,
    target: str,
    run: str,
    operations: Mapping[str, tuple[str, ...]],
    base_url: str = "",
    title: str = "",
    known: Mapping[str, str] | None = None,
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
        known: fingerprint -> run in which it was first seen. One first seen in this very run is still new.
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
    tally = _Tally(operations, frozenset(quarantined), repetitions)
    for result in results:
        tally.add(result)
    tally.fold_global_causes(credentials_hint)
    operation_reports = tally.operation_reports()
    shown = [seen for seen in tally.findings.values() if seen.count > 0]
    together = [seen for seen in shown if concurrency > 1 and seen.proof.gone]
    findings = [seen.finding(run, known or {}, muted) for seen in shown if seen not in together]
    if concurrency > 1:
        findings = [_unproven(finding) for finding in findings]
    if together:
        findings.append(_only_together(together, run, known or {}, muted))
    findings += [tally.silent_finding(each, run, known or {}, muted) for each in tally.transfers.silences()]
    findings += [
        tally.slow_finding(each, run, known or {}, muted) for each in slower(medians(operation_reports), history)
    ]
    comparable = [finding for finding in previous if finding.check != SLOWER or known_well(finding.operation, history)]
    seen_now = {finding.fingerprint for finding in findings} | {seen.fingerprint for seen in together}
    findings += _fixed(comparable, seen_now, operation_reports)
    findings.sort(key=_rank)
    operation_reports = _with_reasons(_with_costs(operation_reports, generation), not_tested or {})
    in_scope = [operation_reports[key] for key in operations] if operations else list(operation_reports.values())
    counted = [finding for finding in findings if finding.state != "fixed"]
    return Report(
        target=target,
        run=run,
        title=title,
        base_url=base_url,
        started=started,
        finished=finished,
        totals=Totals(
            cases=tally.cases,
            requests=tally.requests,
            results={name: tally.verdicts[name] for name in _VERDICTS},
            operations=len(in_scope),
            operations_with_2xx=sum(one.success_seen for one in in_scope),
            operations_not_tested=sum(bool(one.not_tested) for one in in_scope),
            findings=len(counted),
            advisory=sum(finding.advisory for finding in counted),
            no_result=tally.no_result,
            target_down=tally.target_down,
            withheld=tally.withheld,
            left_behind=sum(tally.left.values()),
            quarantined=dict(sorted((+tally.aside).items())),
        ),
        operations=operation_reports,
        findings=tuple(findings),
        errors=tally.errors(),
        left_behind=tally.left_behind(),
        previous_run=previous_run,
        generation=generation,
        costs=_source_costs(generation, findings),
        currency=next((each.currency for each in generation if each.currency), ""),
        quarantined=tuple(sorted(tally.cases_aside)),
        load=tally.transfers.load(),
    )


def _source_costs(generation: Collection[Generation], findings: Collection[Finding]) -> dict[str, SourceCost]:
    """By source, those that asked a language model: what they cost, whole and for each confirmed finding."""
    calls: dict[str, list[Cost]] = {}
    for each in generation:
        if each.calls:
            whole = Cost(
                calls=each.calls,
                input_tokens=each.input_tokens,
                output_tokens=each.output_tokens,
                cached_tokens=each.cached_tokens,
                money=each.money,
            )
            calls.setdefault(each.source, []).append(whole)
    found: dict[str, SourceCost] = {}
    for source, spent in calls.items():
        whole = total(spent)
        confirmed = sum(
            finding.state in ("new", "known") and not finding.advisory and finding.example.source == source
            for finding in findings
        )
        tokens = whole.input_tokens + whole.output_tokens
        found[source] = SourceCost(
            calls=whole.calls,
            input_tokens=whole.input_tokens,
            output_tokens=whole.output_tokens,
            cached_tokens=whole.cached_tokens,
            money=whole.money,
            findings=confirmed,
            money_per_finding=whole.money / confirmed if confirmed and whole.money is not None else None,
            tokens_per_finding=tokens / confirmed if confirmed else None,
        )
    return found


def _with_costs(
    operations: Mapping[str, OperationReport], generation: Collection[Generation]
) -> dict[str, OperationReport]:
    shares: dict[str, list[Cost]] = {}
    for each in generation:
        for key, cost in each.operations.items():
            shares.setdefault(key, []).append(cost)
    return {
        key: msgspec.structs.replace(one, cost=total(shares[key])) if key in shares else one
        for key, one in operations.items()
    }


def _with_reasons(
    operations: Mapping[str, OperationReport], not_tested: Mapping[str, str]
) -> dict[str, OperationReport]:
    return {
        key: msgspec.structs.replace(report, not_tested=not_tested[key])
        if key in not_tested and not report.statuses
        else report
        for key, report in operations.items()
    }


def _rank(finding: Finding) -> tuple[int, bool, int, int, int, str, str]:
    gone = max(0, _STATE_ORDER[finding.state] - 1)  # muted and fixed ask nothing of anybody: last
    return (
        gone,
        finding.advisory,
        _SEVERITY_ORDER.index(finding.severity),
        _STATE_ORDER[finding.state],
        _CHECK_ORDER.get(finding.check, len(_CHECK_ORDER)),
        finding.operation,
        finding.fingerprint,
    )


def _fixed(previous: Collection[Finding], seen: set[str], operations: Mapping[str, OperationReport]) -> list[Finding]:
    """Open findings of the run before that this run had every chance to show again, and did not.

    One of many operations is fixed when all of them that are still in scope have answered and were judged.
    """

    def had_its_chance(key: str) -> bool:
        report = operations[key]
        answered = any(status != "none" for status in report.statuses)
        judged = report.results.get("passed", 0) + report.results.get("failed", 0) > 0
        return answered and judged

    gone = []
    for finding in previous:
        still_there = [key for key in finding.operations or (finding.operation,) if key in operations]
        if finding.state not in ("new", "known") or finding.fingerprint in seen or not still_there:
            continue
        if all(map(had_its_chance, still_there)):
            gone.append(msgspec.structs.replace(finding, state="fixed", count=0))
    return gone


def _unproven(finding: Finding) -> Finding:
    """The finding; advisory where another case at the same time explains it as well and no repetition says otherwise.

    An id that was freed may be another case's by the time it is looked for.
    """
    if finding.check != _USE_AFTER_FREE or finding.executed:
        return finding
    return msgspec.structs.replace(finding, advisory=True, not_repeated=finding.not_repeated or "no repetition")


def _only_together(seen: Sequence[_Seen], run: str, known: Mapping[str, str], muted: Collection[str]) -> Finding:
    """The one finding for all failures that appear only while other cases run."""
    ordered = sorted(seen, key=lambda one: (-one.count, one.operation, one.fingerprint))
    example = ordered[0].finding(run, known, muted)
    operations: Counter[str] = Counter()
    for one in seen:
        operations.update(one.operations)
    others = len(operations.keys() - {example.operation})
    more = f" and {others} more operation{'s' if others > 1 else ''}" if others else ""
    key = fingerprint("", CONCURRENCY, "")
    said = f"{example.operation}{more} failed while other cases ran, and not when repeated alone"
    first_seen = known.get(key, run)
    state: FindingState = "known" if first_seen != run else "new"
    return msgspec.structs.replace(
        example,
        fingerprint=key,
        check=CONCURRENCY,
        severity=severity_of(CONCURRENCY),
        wfc_code=None,
        count=sum(one.count for one in seen),
        operations=dict(sorted(operations.items(), key=_most_first)),
        advisory=True,
        state="muted" if key in muted else state,
        first_seen_run=first_seen,
        folded=tuple(sorted(one.fingerprint for one in seen)),
        message=f"{said}: {example.message}",
        together=tuple(f"{one.operation}: {one.check}: {one.firmest.message}" for one in ordered[:MOST_TOGETHER]),
    )


class _Proof:
    """What repetitions alone show of one finding."""

    def __init__(self) -> None:
        self.came_back: Counter[str] = Counter()
        self.stayed_away: Counter[str] = Counter()
        """By case, as `came_back`."""
        self.unclear = ""
        """Why a repetition cannot tell."""
        self._shown: dict[str, tuple[Result, Failure]] = {}

    def add(self, result: Result, failure: Failure, repetitions: Iterable[Result]) -> None:
        """Takes the repetitions of a case into account that shows the finding."""
        self._shown[result.case] = result, failure
        for repetition in repetitions:
            again = comes_back(failure, repetition)
            if again is None:
                self.unclear = self.unclear or repetition.reason or "the repetition was answered otherwise"
            else:
                (self.came_back if again else self.stayed_away)[result.case] += 1

    @property
    def gone(self) -> bool:
        """Every repetition that can tell passed."""
        return bool(self.stayed_away) and not self.came_back

    def example(self) -> tuple[Result, Failure] | None:
        """The case that came back most often, else the one that was repeated most often in vain."""
        tried = self.came_back or self.stayed_away
        if not tried:
            return None
        return self._shown[min(tried, key=lambda case: (-tried[case], self.stayed_away[case], case))]

    def counts(self, case: str) -> tuple[int, int]:
        """In how many executions of the case the finding showed, and of how many."""
        tries = self.came_back[case] + self.stayed_away[case]
        return (1 + self.came_back[case], 1 + tries) if tries else (0, 0)


class _Seen:
    """The results of one fingerprint so far, and the best example among them."""

    def __init__(self, key: str, failure: Failure) -> None:
        self.fingerprint = key
        self.check = failure.check
        self.count = 0
        self.operations: Counter[str] = Counter()
        """Results by operation."""
        self.operations_by_global: Counter[tuple[str, str]] = Counter()
        self.by_global: Counter[str] = Counter()
        self.firmest = failure
        self.counts = False
        """Whether any result counts: not a quarantined case's, not resting on a guess."""
        self.passed_again = self.lasting = 0
        self.proof = _Proof()
        self._rank: tuple[bool, bool, int, int, str] | None = None
        self._example: tuple[Result, Failure] | None = None

    @property
    def operation(self) -> str:
        """The one with the most results."""
        return min(self.operations.items(), key=_most_first)[0]

    def add(self, result: Result, failure: Failure, explained: str, *, aside: bool) -> None:
        self.count += 1
        self.counts = self.counts or not (aside or failure.basis == "guess")
        self.passed_again = max(self.passed_again, result.passed_again)
        self.lasting += not result.passed_again
        if explained:
            self.by_global[explained] += 1
        if _firmness(failure) < _firmness(self.firmest):
            self.firmest = failure
        rank = (
            bool(explained),
            failure.basis == "guess",
            len(result.steps),
            sum(step.request.body_bytes for step in result.steps if step.request),
            f"{result.case}/{result.attempt}",
        )
        if self._rank is None or rank < self._rank:
            self._rank, self._example = rank, (result, failure)

    def finding(self, run: str, known: Mapping[str, str], muted: Collection[str]) -> Finding:
        assert self._example is not None
        result, failure = self.proof.example() or self._example
        reproduced, executed = self.proof.counts(result.case)
        first_seen = known.get(self.fingerprint, run)
        state: FindingState = "known" if first_seen != run else "new"
        step = result.steps[failure.step] if failure.step < len(result.steps) else None
        operations = sorted(((key, number) for key, number in self.operations.items() if number > 0), key=_most_first)
        return Finding(
            fingerprint=self.fingerprint,
            operation=failure.operation,
            operations=dict(operations),
            sent=failure.sent,
            check=self.check,
            severity=severity_of(self.check),
            wfc_code=WFC_CODES.get(self.check),
            count=self.count,
            advisory=not self.counts,
            basis=self.firmest.basis,
            message=failure.message,
            state="muted" if self.fingerprint in muted else state,
            first_seen_run=first_seen,
            quote=self.firmest.quote,
            passed_again=0 if self.lasting else self.passed_again,
            reproduced=reproduced,
            executed=executed,
            not_repeated="" if executed else self.proof.unclear,
            example=FindingExample(
                case=result.case,
                case_name=result.case_name,
                message=failure.message,
                curl=curl(step.request) if step and step.request else "",
                steps=result.steps,
                performed=result.performed,
                failing_step=failure.step,
                source=result.origin,
            ),
        )


def _most_first(entry: tuple[str, int]) -> tuple[int, str]:
    return -entry[1], entry[0]


def _firmness(failure: Failure) -> tuple[int, str]:
    return _FIRMNESS[failure.basis], failure.quote


class _Operation:
    """What was seen of one operation so far."""

    def __init__(self, documented: tuple[str, ...]) -> None:
        self.documented = tuple(documented)
        self.elapsed_ms = array("d")
        """Times to whole 2xx answers."""
        self.cases = self.requests = 0
        self.statuses: Counter[str] = Counter()
        self.verdicts: Counter[VerdictName] = Counter()
        self.by_global: Counter[tuple[str, VerdictName]] = Counter()
        """By global cause that would explain a result, and its verdict."""
        self.pages = self.other_answers = 0
        """2xx answers that are HTML pages, and those that are not, as far as evidence was kept."""
        self.unjudged = 0
        """Valid requests that passed with a 401, which says something of the credentials only."""

    @property
    def reached(self) -> bool:
        """It has answered a 2xx."""
        return any(status.startswith("2") for status in self.statuses)

    @property
    def shut(self) -> bool:
        """It asks for credentials, and nobody got in."""
        return "401" in self.statuses and not self.reached


class _Tally:
    """Counts of everything a report says; of evidence it holds one example a fingerprint, and each operation's slowest
    answer.
    """

    def __init__(
        self, operations: Mapping[str, tuple[str, ...]], quarantined: frozenset[str], repetitions: Iterable[Result]
    ) -> None:
        self.quarantined = quarantined
        self.aside: Counter[VerdictName] = Counter()
        self.requests = self.no_result = self.target_down = self.withheld = 0
        self.left: Counter[tuple[str, str]] = Counter()
        self.verdicts: Counter[VerdictName] = Counter()
        self.findings: dict[str, _Seen] = {}
        self.cases_aside: set[str] = set()
        """Those of the quarantined cases that were executed."""
        self._attempts: dict[int, int] = {}
        """By digest of a case's id, its first attempt that was taken."""
        self._further_attempts: set[tuple[str, int]] = set()
        self._keys: dict[tuple[str, str, str], str] = {}
        self._causes: Counter[tuple[str, str]] = Counter()
        self._reasons: Counter[str] = Counter()
        self._by_global: Counter[str] = Counter()
        self._wanted_success = 0
        self._operations = {key: _Operation(documented) for key, documented in operations.items()}
        self._slowest: dict[str, tuple[float, Result, int]] = {}
        self._repetitions: dict[str, dict[int, Result]] = {}
        self.transfers = Transfers()
        for repetition in repetitions:
            self.transfers.add(repetition)
            self._repetitions.setdefault(repetition.case, {})[repetition.repeat] = repetition
            self.requests += repetition.requests
            self._add_traces(repetition)
            if repetition.requests:
                self._operation(repetition.operation).requests += repetition.requests

    def add(self, result: Result) -> None:
        if self._taken_before(result.case, result.attempt):
            return
        self.requests += result.requests
        self._add_traces(result)
        self.verdicts[result.verdict] += 1
        aside = result.case in self.quarantined
        if aside:
            self.cases_aside.add(result.case)
        self.aside[result.verdict] += aside
        self.target_down += result.verdict == "skipped" and result.reason == TARGET_DOWN and not aside
        about = self._operation(result.operation)
        about.cases += 1
        about.verdicts[result.verdict] += 1
        self.transfers.add(result)
        for index, step in enumerate(result.steps):
            self._add_step(step)
            slow = self._slowest.get(step.operation)
            if not step.sent and 200 <= step.status < 300 and (slow is None or step.elapsed_ms > slow[0]):
                self._slowest[step.operation] = (step.elapsed_ms, result, index)
        if result.verdict in ("errored", "skipped"):
            self._add_reason(result)
        explained = _global_cause(result)
        if explained:
            self._by_global[explained] += 1
            about.by_global[explained, result.verdict] += 1
        if result.intent in ("positive", "stateful") and result.verdict in ("passed", "failed"):
            self._wanted_success += 1
            about.unjudged += result.verdict == "passed" and _last_status(result) == 401
        shown: set[tuple[str, str]] = set()
        for failure in result.failures:
            finding = self._finding(failure)
            if not any(key == finding.fingerprint for key, _ in shown):
                finding.add(result, failure, explained, aside=aside)
                if (again := self._repetitions.get(result.case)) is not None:
                    finding.proof.add(result, failure, again.values())
            if (finding.fingerprint, failure.operation) not in shown:
                shown.add((finding.fingerprint, failure.operation))
                finding.operations[failure.operation] += 1
                finding.operations_by_global[explained, failure.operation] += 1

    @property
    def cases(self) -> int:
        return len(self._attempts)

    def _taken_before(self, case: str, attempt: int) -> bool:
        """Whether this attempt was taken before; from now on it was."""
        key = _digest(case)
        first = self._attempts.setdefault(key, 0)
        if not first:
            self._attempts[key] = attempt
            return False
        if first == attempt or (case, attempt) in self._further_attempts:
            return True
        self._further_attempts.add((case, attempt))
        return False

    def _operation(self, key: str) -> _Operation:
        if key not in self._operations:
            self._operations[key] = _Operation(())
        return self._operations[key]

    def _add_step(self, step: StepOutcome) -> None:
        operation = self._operation(step.operation)
        operation.requests += step.requests
        if step.sent:
            if step.sent not in self._operations:
                return  # a method or path that the document does not have
            operation = self._operation(step.sent)
        operation.statuses[str(step.status) if step.status else "none"] += 1
        if 200 <= step.status < 300:
            if step.response:
                page = media_type(step.response.headers) == "text/html"
                operation.pages += page
                operation.other_answers += not page
            operation.elapsed_ms.append(step.elapsed_ms)

    def _add_reason(self, result: Result) -> None:
        reason = result.reason or f"{result.verdict} without a reason"
        if result.verdict == "errored" and reason.split(":")[0].strip() == NO_RESULT:
            self.no_result += 1
        reason = normalise(reason)
        if reason not in self._reasons and len(self._reasons) >= MOST_REASONS:
            reason = _OTHER_REASONS
        self._reasons[reason] += 1

    def _finding(self, failure: Failure) -> _Seen:
        parts = parts_of(failure)
        key = self._keys.get(parts)
        if key is None:
            place = failure.operation, failure.check
            if self._causes[place] >= MOST_CAUSES:
                parts = (*place, _OTHER_CAUSES)
            key = self._keys.get(parts)
            if key is None:
                self._causes[place] += 1
                key = self._keys[parts] = fingerprint(*parts)
                self.findings[key] = _Seen(key, failure)
        return self.findings[key]

    # ------------------------------------------------------------------- when all results are in

    def silent_finding(self, silence: Silence, run: str, known: Mapping[str, str], muted: Collection[str]) -> Finding:
        """An operation that never answers in time, with one of the cases that waited for it as the example."""
        failure = silence.failure
        seen = _Seen(fingerprint(failure.operation, failure.check, failure.cause), failure)
        seen.add(silence.result, failure, "", aside=silence.result.case in self.quarantined)
        return msgspec.structs.replace(seen.finding(run, known, muted), count=silence.requests)

    def slow_finding(self, slow: Slower, run: str, known: Mapping[str, str], muted: Collection[str]) -> Finding:
        """An operation that is slower than it was, with its slowest answer as the example."""
        whole = "most operations are slower than they were, this one by most: " if slow.common else ""
        message = f"{whole}the median of its 2xx answers is {slow.now_ms:.0f} ms, usually {slow.usual_ms:.0f} ms"
        _, result, index = self._slowest[slow.operation]
        failure = Failure(
            check=SLOWER,
            step=index,
            operation=slow.operation,
            basis="guess",
            message=message,
            cause="as a whole" if slow.common else "alone",
        )
        seen = _Seen(fingerprint(failure.operation, failure.check, failure.cause), failure)
        seen.add(result, failure, "", aside=False)
        seen.operations[failure.operation] = 1
        return seen.finding(run, known, muted)

    def fold_global_causes(self, credentials_hint: str) -> None:
        """Turn failures that one cause outside of the operations explains into errored results with one reason."""
        executed = sum(self.verdicts[name] for name in ("passed", "failed", "errored"))
        same_reason = max(
            (count for reason, count in self._reasons.items() if not reason.startswith("setup failed")), default=0
        )
        silent = self._by_global[_SILENT]
        if _is_global(silent, executed) or (silent and _is_global(same_reason, executed)):
            self._fold(_SILENT, NO_ANSWER_AT_ALL)
        if not any(operation.reached for operation in self._operations.values()):
            judged = self.verdicts["passed"] + self.verdicts["failed"]
            if _is_global(self._by_global[_NOT_FOUND], judged) and self._touched(_NOT_FOUND, by_fixed_path=True):
                self._fold(_NOT_FOUND, _IS_THE_PATH_RIGHT)
            if _is_global(self._by_global[_REDIRECTED], judged):
                self._fold(_REDIRECTED, _IS_THE_URL_RIGHT)
        reached = [operation for operation in self._operations.values() if operation.reached]
        with_pages = [operation for operation in reached if operation.pages and not operation.other_answers]
        if len(with_pages) >= _GLOBAL_SHARE * len(reached) and sum(one.pages for one in with_pages) >= _GLOBAL_LEAST:
            self._fold(_PAGES, _IS_IT_THE_API)
        locked_out = next((reason for reason in self._reasons if reason.startswith(LOCKED_OUT)), "")
        refused = locked_out or REFUSED_CREDENTIALS + (f": {credentials_hint}" if credentials_hint else "")
        if locked_out or _is_global(self._by_global[_REFUSED], self._wanted_success):
            self._fold(_REFUSED, refused)
        shut = [operation for operation in self._operations.values() if operation.shut]
        if len(shut) > 1 and len(shut) > sum(bool(one.statuses) for one in self._operations.values()) / 2:
            self._take_back(shut, refused)

    def _take_back(self, shut: list[_Operation], reason: str) -> None:
        """Most operations let nobody in: what passed there with a 401 has shown nothing."""
        moved = sum(operation.unjudged for operation in shut)
        for operation in shut:
            operation.verdicts["passed"] -= operation.unjudged
            operation.verdicts["errored"] += operation.unjudged
        self.verdicts["passed"] -= moved
        self.verdicts["errored"] += moved
        if moved:
            self._reasons[reason] += moved

    def _fold(self, cause: str, reason: str) -> None:
        touched = self._touched(cause)
        if len(touched) < 2:
            return  # one operation's own fault
        for operation in touched:
            for verdict in _JUDGED:
                moved = operation.by_global[cause, verdict]
                for verdicts in (operation.verdicts, self.verdicts):
                    verdicts[verdict] -= moved
                    verdicts["errored"] += moved
                self._reasons[reason] += moved
        for seen in self.findings.values():
            seen.count -= seen.by_global[cause]
            for operation_key in seen.operations:
                seen.operations[operation_key] -= seen.operations_by_global[cause, operation_key]

    def _touched(self, cause: str, *, by_fixed_path: bool = False) -> list[_Operation]:
        """The operations with results that this cause would explain; by_fixed_path: those without path parameters."""
        return [
            operation
            for key, operation in self._operations.items()
            if any(operation.by_global[cause, verdict] for verdict in _JUDGED) and not (by_fixed_path and "{" in key)
        ]

    def _add_traces(self, result: Result) -> None:
        """What was kept from the target, and what stays there."""
        self.withheld += result.withheld
        for one in result.left:
            self.left[one.operation, one.why] += one.count

    def left_behind(self) -> tuple[Left, ...]:
        ranked = sorted(self.left.items(), key=lambda item: (-item[1], item[0]))
        return tuple(Left(operation=operation, why=why, count=count) for (operation, why), count in ranked)

    def errors(self) -> dict[str, int]:
        return dict(sorted(self._reasons.items(), key=lambda item: (-item[1], item[0])))

    def operation_reports(self) -> dict[str, OperationReport]:
        return {
            key: OperationReport(
                cases=seen.cases,
                requests=seen.requests,
                statuses=dict(sorted(seen.statuses.items())),
                success_seen=seen.reached,
                results={name: seen.verdicts[name] for name in _VERDICTS if seen.verdicts[name]},
                latency_ms=_percentiles(seen.elapsed_ms),
                streams=self.transfers.streams(key),
                unjudged=self.transfers.unjudged(key),
                documented=seen.documented,
            )
            for key, seen in self._operations.items()
        }


def _percentiles(times_ms: Sequence[float]) -> dict[str, float]:
    """Percentiles of the time to a whole 2xx answer, interpolated linearly; empty without one."""
    if not times_ms:
        return {}
    ordered = sorted(times_ms)

    def at(share: float) -> float:
        place = share * (len(ordered) - 1)
        below = int(place)
        above = min(below + 1, len(ordered) - 1)
        return round(ordered[below] + (ordered[above] - ordered[below]) * (place - below), 2)

    return {"p50": at(0.5), "p95": at(0.95), "p99": at(0.99), "max": at(1)}


def _digest(text: str) -> int:
    """128 bits that stand for a text: a million of them take less memory than as many texts."""
    return int.from_bytes(hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).digest())


_SILENT = "silent"
_REFUSED = "refused"
_NOT_FOUND = "not found"
_REDIRECTED = "redirected"
_PAGES = "pages"

_IS_THE_PATH_RIGHT = f"{NOT_FOUND_ANYWHERE}: is the path of the base URL right?"
_IS_THE_URL_RIGHT = (
    f"{REDIRECTED_EVERYWHERE}: are scheme, host and path of the base URL right, or is a login asked for?"
)
_IS_IT_THE_API = f"{PAGES_EVERYWHERE}: does the base URL lead to the API, or to its web pages?"

_JUDGED: tuple[VerdictName, ...] = ("passed", "failed")
_REDIRECTS = frozenset({301, 302, 303, 307, 308})


def _is_global(part: int, whole: int) -> bool:
    return part >= _GLOBAL_LEAST and part >= _GLOBAL_SHARE * whole


def _last_status(result: Result) -> int:
    return result.steps[-1].status if result.steps else 0


def _global_cause(result: Result) -> str:
    """The cause outside of single operations that would explain what a result shows, or "".

    Whether it does is known when all results are in. A refusal that passes (404 to invalid data) is explained, too:
    where everything is answered so, it has shown nothing.
    """
    if result.verdict not in _JUDGED:
        return ""
    statuses = {step.status for step in result.steps}
    if statuses == {404}:
        return _NOT_FOUND
    if statuses and statuses <= _REDIRECTS:
        return _REDIRECTED
    if not result.failures:
        return ""
    if _shows_pages(result):
        return _PAGES
    if all(failure.check == NO_ANSWER for failure in result.failures):
        return _SILENT
    if result.intent in ("positive", "stateful") and all(
        failure.step < len(result.steps) and result.steps[failure.step].status == 401 for failure in result.failures
    ):
        return _REFUSED
    return ""


def _shows_pages(result: Result) -> bool:
    """The result failed, and each of its answers is an HTML page."""
    answers = [step.response for step in result.steps if step.response]
    return bool(result.failures and answers) and all(media_type(one.headers) == "text/html" for one in answers)
