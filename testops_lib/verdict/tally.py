"""Everything a report says, counted in one pass over the results and in bounded memory."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping

from testops_lib.model import Failure, Left, OperationReport, Result, StepOutcome, VerdictName
from testops_lib.verdict.coverage import OperationTally
from testops_lib.verdict.findings import Occurrences
from testops_lib.verdict.fingerprint import fingerprint, normalise, parts_of
from testops_lib.verdict.global_causes import explaining_cause
from testops_lib.verdict.reasons import NO_RESULT, TARGET_DOWN
from testops_lib.verdict.transfers import Transfers

MOST_CAUSES = 50
"""Causes of one operation and check that become findings of their own; further ones share one finding."""

MOST_REASONS = 100
"""Lines of `Report.errors`; rarer reasons share the last one."""

_OTHER_CAUSES = "other causes"
_OTHER_REASONS = "other reasons"


class Tally:
    """Counts over the results of a run. Of evidence it holds one example a finding, and each operation's slowest
    answer.

    Args:
        operations: every operation in scope -> its documented statuses; others are added as results name them.
        quarantined: ids of cases whose results the gate leaves out.
        repetitions: what came of repeating failed cases alone.
    """

    def __init__(
        self, operations: Mapping[str, tuple[str, ...]], quarantined: frozenset[str], repetitions: Iterable[Result]
    ) -> None:
        self.quarantined = quarantined
        self.quarantined_verdicts: Counter[VerdictName] = Counter()
        self.quarantined_cases: set[str] = set()
        """Those that were executed."""
        self.requests = self.no_result = self.target_down = self.withheld = 0
        self.left: Counter[tuple[str, str]] = Counter()
        """Resources left at the target, by operation and reason."""
        self.verdicts: Counter[VerdictName] = Counter()
        self.findings: dict[str, Occurrences] = {}
        self.operations = {key: OperationTally(documented) for key, documented in operations.items()}
        self.reasons: Counter[str] = Counter()
        self.by_global_cause: Counter[str] = Counter()
        self.wanted_success = 0
        """Judged results of cases that send valid requests."""
        self.slowest: dict[str, tuple[Result, int]] = {}
        """By operation, the result with its slowest 2xx answer, and the index of the step."""
        self.transfers = Transfers()
        self._attempts: dict[int, int] = {}
        """By digest of a case's id, its first attempt that was taken."""
        self._further_attempts: set[tuple[str, int]] = set()
        self._fingerprints: dict[tuple[str, str, str], str] = {}
        self._causes: Counter[tuple[str, str]] = Counter()
        self._repetitions: dict[str, dict[int, Result]] = {}
        for repetition in repetitions:
            self._add_repetition(repetition)

    def add(self, result: Result) -> None:
        """Counts a result; a second delivery of the same attempt is ignored."""
        if self._taken_before(result.case, result.attempt):
            return
        self.requests += result.requests
        self._add_traces(result)
        self.verdicts[result.verdict] += 1
        quarantined = result.case in self.quarantined
        if quarantined:
            self.quarantined_cases.add(result.case)
            self.quarantined_verdicts[result.verdict] += 1
        self.target_down += result.verdict == "skipped" and result.reason == TARGET_DOWN and not quarantined
        operation = self._operation(result.operation)
        operation.cases += 1
        operation.verdicts[result.verdict] += 1
        self.transfers.add(result)
        for index, step in enumerate(result.steps):
            self._add_step(step)
            if not step.sent and 200 <= step.status < 300:
                self._keep_slowest(result, index, step)
        if result.verdict in ("errored", "skipped"):
            self._add_reason(result)
        global_cause = explaining_cause(result)
        if global_cause:
            self.by_global_cause[global_cause] += 1
            operation.by_global_cause[global_cause, result.verdict] += 1
        if result.intent in ("positive", "stateful") and result.verdict in ("passed", "failed"):
            self.wanted_success += 1
            last_status = result.steps[-1].status if result.steps else 0
            operation.passed_with_401 += result.verdict == "passed" and last_status == 401
        self._add_failures(result, global_cause, quarantined=quarantined)

    @property
    def cases(self) -> int:
        return len(self._attempts)

    def left_behind(self) -> tuple[Left, ...]:
        """What stays at the target, the most first."""
        ranked = sorted(self.left.items(), key=_most_first)
        return tuple(Left(operation=operation, why=why, count=count) for (operation, why), count in ranked)

    def errors(self) -> dict[str, int]:
        """Reasons of errored and skipped results, the most frequent first."""
        return dict(sorted(self.reasons.items(), key=_most_first))

    def operation_reports(self) -> dict[str, OperationReport]:
        return {
            key: operation.report(streams=self.transfers.streams(key), unjudged=self.transfers.unjudged(key))
            for key, operation in self.operations.items()
        }

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

    def _operation(self, key: str) -> OperationTally:
        if key not in self.operations:
            self.operations[key] = OperationTally()
        return self.operations[key]

    def _add_repetition(self, repetition: Result) -> None:
        self.transfers.add(repetition)
        self._repetitions.setdefault(repetition.case, {})[repetition.repeat] = repetition
        self.requests += repetition.requests
        self._add_traces(repetition)
        if repetition.requests:
            self._operation(repetition.operation).requests += repetition.requests

    def _add_traces(self, result: Result) -> None:
        """What was kept from the target, and what stays there."""
        self.withheld += result.withheld
        for left in result.left:
            self.left[left.operation, left.why] += left.count

    def _add_step(self, step: StepOutcome) -> None:
        operation = self._operation(step.operation)
        operation.requests += step.requests
        if step.sent:
            if step.sent not in self.operations:
                return  # a method or path that the document does not have
            operation = self._operation(step.sent)
        operation.add_answer(step)

    def _keep_slowest(self, result: Result, index: int, step: StepOutcome) -> None:
        slowest = self.slowest.get(step.operation)
        if slowest is None or step.elapsed_ms > slowest[0].steps[slowest[1]].elapsed_ms:
            self.slowest[step.operation] = result, index

    def _add_reason(self, result: Result) -> None:
        reason = result.reason or f"{result.verdict} without a reason"
        if result.verdict == "errored" and reason.split(":")[0].strip() == NO_RESULT:
            self.no_result += 1
        reason = normalise(reason)
        if reason not in self.reasons and len(self.reasons) >= MOST_REASONS:
            reason = _OTHER_REASONS
        self.reasons[reason] += 1

    def _add_failures(self, result: Result, global_cause: str, *, quarantined: bool) -> None:
        """A result counts once for each of its findings, and once for each operation of a finding."""
        counted: set[str] = set()
        counted_operations: set[tuple[str, str]] = set()
        for failure in result.failures:
            occurrences = self._occurrences(failure)
            key = occurrences.fingerprint
            if key not in counted:
                counted.add(key)
                occurrences.add(result, failure, global_cause, quarantined=quarantined)
                if (repetitions := self._repetitions.get(result.case)) is not None:
                    occurrences.proof.add(result, failure, repetitions.values())
            if (key, failure.operation) not in counted_operations:
                counted_operations.add((key, failure.operation))
                occurrences.add_operation(failure.operation, global_cause)

    def _occurrences(self, failure: Failure) -> Occurrences:
        parts = parts_of(failure)
        key = self._fingerprints.get(parts)
        if key is None:
            place = failure.operation, failure.check
            if self._causes[place] >= MOST_CAUSES:
                parts = (*place, _OTHER_CAUSES)
            key = self._fingerprints.get(parts)
            if key is None:
                self._causes[place] += 1
                key = self._fingerprints[parts] = fingerprint(*parts)
                self.findings[key] = Occurrences(key, failure)
        return self.findings[key]


def _most_first(entry: tuple[object, int]) -> tuple[int, object]:
    return -entry[1], entry[0]


def _digest(text: str) -> int:
    """128 bits that stand for a text: a million of them take less memory than as many texts."""
    return int.from_bytes(hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).digest())
