"""Results -> what a report says of transfers: load, streams, unjudged bodies, operations that never answer."""

from __future__ import annotations

from collections import Counter
from typing import Final

from msgspec import Struct

from testops_lib.model import RESPONSE_TIMEOUT, Failure, Load, Result, StepOutcome

TIMEOUT: Final = "timeout"
"""What a step says that got no answer within the deadline of a request."""

_CUT_SHORT = frozenset({"case timeout", "budget spent", "stopped"})
"""Ends of a request by our own limits, before its deadline: they say nothing of the operation."""

_LEAST_TIMEOUTS = 2


class Silence(Struct, frozen=True, kw_only=True):
    """An operation of which no request was answered within the deadline; and the result that shows it best."""

    failure: Failure
    result: Result
    requests: int


class _Operation:
    __slots__ = ("answers", "example", "index", "other_faults", "streams", "timeouts", "unjudged", "waited_ms")

    def __init__(self) -> None:
        self.answers = self.timeouts = self.other_faults = self.streams = self.index = 0
        self.waited_ms = 0.0
        self.unjudged: Counter[str] = Counter()
        self.example: Result | None = None


class Transfers:
    """Counts over the results of a run; of each operation it holds one result at most."""

    def __init__(self) -> None:
        self._operations: dict[str, _Operation] = {}
        self._overloaded: Counter[str] = Counter()
        self._concurrency = self._asked_to_wait = 0
        self._waited_s = 0.0

    def add(self, result: Result) -> None:
        if result.concurrency:
            self._concurrency = min(self._concurrency or result.concurrency, result.concurrency)
        for index, step in enumerate(result.steps):
            self._asked_to_wait += step.asked_to_wait
            self._waited_s += step.waited_s
            if step.overload:
                self._overloaded[step.overload] += 1
            if not step.sent:
                self._add_step(result, index, step)

    def _add_step(self, result: Result, index: int, step: StepOutcome) -> None:
        operation = self._operations.setdefault(step.operation, _Operation())
        operation.streams += step.streaming
        operation.unjudged.update(step.unjudged)
        if step.status:
            operation.answers += 1
            operation.example = None
        elif step.error == TIMEOUT:
            operation.timeouts += 1
            operation.waited_ms = max(operation.waited_ms, step.elapsed_ms)
            if operation.example is None and not operation.answers:
                operation.example, operation.index = result, index
        elif step.requests and step.error not in _CUT_SHORT:
            operation.other_faults += 1

    def load(self) -> Load | None:
        """None: nothing of it was seen."""
        load = Load(
            overloaded=dict(self._overloaded.most_common()),
            concurrency=self._concurrency,
            asked_to_wait=self._asked_to_wait,
            waited_s=round(self._waited_s, 1),
        )
        return load if load != Load() else None

    def streams(self, operation: str) -> int:
        """How many of its answers were streams."""
        return self._operations[operation].streams if operation in self._operations else 0

    def unjudged(self, operation: str) -> dict[str, int]:
        """Check and reason -> how often it could not be made."""
        return dict(sorted(self._operations[operation].unjudged.items())) if operation in self._operations else {}

    def silences(self) -> list[Silence]:
        """Operations whose every request timed out, while others answered, in order."""
        if not any(operation.answers for operation in self._operations.values()):
            return []
        silences = []
        for key, operation in self._operations.items():
            result, count = operation.example, operation.timeouts
            if result is None or operation.answers or operation.other_faults or count < _LEAST_TIMEOUTS:
                continue
            message = f"no answer within {operation.waited_ms / 1000:.3g} s, {count} of {count} requests"
            failure = Failure(
                check=RESPONSE_TIMEOUT, operation=key, message=message, cause=TIMEOUT, step=operation.index
            )
            silences.append(Silence(failure=failure, result=result, requests=count))
        return silences
