"""Failures with one fingerprint -> a finding, with the example that shows it best; and which finding comes first."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import get_args

import msgspec

from testops_lib.export import curl
from testops_lib.model import (
    CONCURRENCY,
    SEVERITIES,
    SLOWER,
    WFC_CODES,
    Basis,
    Failure,
    Finding,
    FindingExample,
    FindingState,
    Result,
    Severity,
    UseAfterFree,
    severity_of,
)
from testops_lib.verdict.fingerprint import fingerprint
from testops_lib.verdict.lifecycle import Lifecycle
from testops_lib.verdict.proof import Proof
from testops_lib.verdict.response_times import Slower
from testops_lib.verdict.transfers import Silence

MOST_TOGETHER = 50
"""Lines of the finding `concurrency`."""

_FIRMEST_FIRST: tuple[Basis, ...] = ("human", "spec", "example", "standard", "description", "stable", "guess")
_FIRMNESS: dict[Basis, int] = {basis: place for place, basis in enumerate(_FIRMEST_FIRST)}
_SEVERITY_ORDER: tuple[Severity, ...] = get_args(Severity)
_CHECK_ORDER = {check: place for place, check in enumerate(SEVERITIES)}
_STATE_ORDER: dict[FindingState, int] = {"new": 0, "known": 1, "muted": 2, "fixed": 3}


class Occurrences:
    """The results of one fingerprint so far, and the best example among them."""

    def __init__(self, fingerprint: str, failure: Failure) -> None:
        self.fingerprint = fingerprint
        self.check = failure.check
        self.count = 0
        self.operations: Counter[str] = Counter()
        """Results by operation."""
        self.operations_by_global_cause: Counter[tuple[str, str]] = Counter()
        self.by_global_cause: Counter[str] = Counter()
        self.firmest = failure
        self.counts = False
        """Whether any result counts: not a quarantined case's, not resting on a guess."""
        self.passed_again = self.lasting = 0
        self.proof = Proof()
        self._rank: tuple[bool, bool, int, int, str] | None = None
        self._example: tuple[Result, Failure] | None = None

    @property
    def operation(self) -> str:
        """The one with the most results."""
        return min(self.operations.items(), key=_most_first)[0]

    def add(self, result: Result, failure: Failure, global_cause: str = "", *, quarantined: bool = False) -> None:
        """global_cause: what would explain the result if everything else showed it, too; "" for nothing."""
        self.count += 1
        self.counts = self.counts or not (quarantined or failure.basis == "guess")
        self.passed_again = max(self.passed_again, result.passed_again)
        self.lasting += not result.passed_again
        if global_cause:
            self.by_global_cause[global_cause] += 1
        if _firmness(failure) < _firmness(self.firmest):
            self.firmest = failure
        rank = (
            bool(global_cause),
            failure.basis == "guess",
            len(result.steps),
            sum(step.request.body_bytes for step in result.steps if step.request),
            f"{result.case}/{result.attempt}",
        )
        if self._rank is None or rank < self._rank:
            self._rank, self._example = rank, (result, failure)

    def add_operation(self, operation: str, global_cause: str = "") -> None:
        """Counts a result for one of the operations of the finding."""
        self.operations[operation] += 1
        self.operations_by_global_cause[global_cause, operation] += 1

    def take_away(self, global_cause: str) -> None:
        """Takes away the results that a global cause explains."""
        self.count -= self.by_global_cause[global_cause]
        for operation in self.operations:
            self.operations[operation] -= self.operations_by_global_cause[global_cause, operation]

    def finding(self, lifecycle: Lifecycle) -> Finding:
        assert self._example is not None
        result, failure = self.proof.example() or self._example
        reproduced, executed = self.proof.counts(result.case)
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
            state=lifecycle.state(self.fingerprint),
            first_seen_run=lifecycle.first_seen_run(self.fingerprint),
            quote=self.firmest.quote,
            doubt=self.firmest.doubt if self.firmest.basis == "guess" else "",
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


def silent_finding(silence: Silence, lifecycle: Lifecycle, *, quarantined: bool) -> Finding:
    """An operation that never answers in time, with one of the cases that waited for it as the example.

    quarantined: that case is.
    """
    failure = silence.failure
    occurrences = Occurrences(fingerprint(failure.operation, failure.check, failure.cause), failure)
    occurrences.add(silence.result, failure, quarantined=quarantined)
    return msgspec.structs.replace(occurrences.finding(lifecycle), count=silence.requests)


def slow_finding(slow: Slower, slowest: tuple[Result, int], lifecycle: Lifecycle) -> Finding:
    """An operation that is slower than it was, with its slowest answer as the example.

    slowest: the result that holds this answer, and the index of its step.
    """
    result, index = slowest
    whole = "most operations are slower than they were, this one by most: " if slow.common else ""
    failure = Failure(
        check=SLOWER,
        step=index,
        operation=slow.operation,
        basis="guess",
        message=f"{whole}the median of its 2xx answers is {slow.now_ms:.0f} ms, usually {slow.usual_ms:.0f} ms",
        cause="as a whole" if slow.common else "alone",
    )
    occurrences = Occurrences(fingerprint(failure.operation, failure.check, failure.cause), failure)
    occurrences.add(result, failure)
    occurrences.add_operation(failure.operation)
    return occurrences.finding(lifecycle)


def only_together(unrepeatable: Sequence[Occurrences], lifecycle: Lifecycle) -> Finding:
    """The one finding for all failures that appear only while other cases run."""
    ordered = sorted(unrepeatable, key=lambda shown: (-shown.count, shown.operation, shown.fingerprint))
    example = ordered[0].finding(lifecycle)
    operations: Counter[str] = Counter()
    for occurrences in unrepeatable:
        operations.update(occurrences.operations)
    others = len(operations.keys() - {example.operation})
    more = f" and {others} more operation{'s' if others > 1 else ''}" if others else ""
    key = fingerprint("", CONCURRENCY, "")
    summary = f"{example.operation}{more} failed while other cases ran, and not when repeated alone"
    return msgspec.structs.replace(
        example,
        fingerprint=key,
        check=CONCURRENCY,
        severity=severity_of(CONCURRENCY),
        wfc_code=None,
        count=sum(occurrences.count for occurrences in unrepeatable),
        operations=dict(sorted(operations.items(), key=_most_first)),
        advisory=True,
        state=lifecycle.state(key),
        first_seen_run=lifecycle.first_seen_run(key),
        folded=tuple(sorted(occurrences.fingerprint for occurrences in unrepeatable)),
        message=f"{summary}: {example.message}",
        together=tuple(
            f"{shown.operation}: {shown.check}: {shown.firmest.message}" for shown in ordered[:MOST_TOGETHER]
        ),
    )


def doubted_in_a_crowd(finding: Finding) -> Finding:
    """The finding; advisory where another case at the same time explains it as well and no repetition says otherwise.

    An id that was freed may be another case's by the time it is looked for.
    """
    if finding.check != UseAfterFree.__struct_config__.tag or finding.executed:
        return finding
    return msgspec.structs.replace(finding, advisory=True, not_repeated=finding.not_repeated or "no repetition")


def rank(finding: Finding) -> tuple[int, bool, int, int, int, str, str]:
    """Least for what a person looks at first."""
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


def _most_first(entry: tuple[str, int]) -> tuple[int, str]:
    return -entry[1], entry[0]


def _firmness(failure: Failure) -> tuple[int, str, str]:
    return _FIRMNESS[failure.basis], failure.quote, failure.doubt
