"""How the target bears the load: which answers are signs of overload, and how many cases may run at once then."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

from testops_lib.execute.attempt import StepRecord
from testops_lib.execute.concurrency import Concurrency, overload
from testops_lib.http.answer import Answer
from testops_lib.http.failure import TransportFailure
from testops_lib.model import Contract, StatusIs, Step


class ExpectedStatuses:
    """Statuses that a step or the target file asks for, and that therefore say nothing of the target's state."""

    def __init__(self, contracts: Mapping[str, Contract]) -> None:
        self._accepted = {key: contract.accepted_statuses for key, contract in contracts.items()}

    def include(self, step: Step, status: int) -> bool:
        if status in self._accepted.get(step.operation, ()):
            return True
        return any(isinstance(check, StatusIs) and status in check.any_of for check in step.checks)


class Load:
    """The requests under way, and what their answers say of the number of cases the target bears.

    changed: called when that number has changed.
    """

    def __init__(self, concurrency: Concurrency, expected: ExpectedStatuses, changed: Callable[[], None]) -> None:
        self._concurrency, self._expected, self._changed = concurrency, expected, changed
        self._in_flight = 0
        self._crowded_at = float("-inf")
        """When two requests were last under way together."""
        self._answered_operations: set[str] = set()

    def enter(self, now: float) -> None:
        """A request goes out."""
        self._in_flight += 1
        if self._in_flight > 1:
            self._crowded_at = now

    def leave(self) -> None:
        """A request has ended."""
        self._in_flight -= 1

    def note(self, record: StepRecord, outcome: Answer | TransportFailure, begun: float) -> None:
        """Lowers or raises the number of cases at once by the outcome of a request that was sent at `begun`."""
        answer = None
        if isinstance(outcome, Answer):
            self._answered_operations.add(record.operation)
            if outcome.status < 400 and not self._concurrency.lowered_to:
                record.overload = ""
                return
            answer = outcome
        elif outcome.kind != "timeout" or record.operation not in self._answered_operations:  # it may hang by itself
            return
        record.overload = overload(answer)
        if record.overload and answer is not None and self._expected.include(record.step, answer.status):
            record.overload = ""
        if not record.overload:
            changed = self._concurrency.answered(begun=begun)
        else:
            now, alone = time.monotonic(), self._crowded_at < begun and not self._in_flight
            changed = self._concurrency.overloaded(record.overload, record.operation, begun=begun, at=now, alone=alone)
        if changed:
            self._changed()
