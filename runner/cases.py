"""The cases of a batch that have no verdict yet, and marks for those whose repetition could do harm."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime

import msgspec

from testops_lib.bus.client import Bus
from testops_lib.model import IN_DOUBT, SAFE_METHODS, Batch, Case, Plan, Result, Value, VerdictName, execution_key

JUDGED_BEFORE = "judged before"
LEFT_IN_DOUBT = "left in doubt"

READ_AHEAD = 100
"""Cases read ahead of the engine at a time."""


class Work(Value, frozen=True, kw_only=True):
    """A batch, and what must be known to execute it."""

    run: str
    plan: Batch
    batch: Batch
    attempt: int = 1
    again: dict[int, int] = msgspec.field(default_factory=dict)
    """Where the run's results begin, when the batch may have been executed before."""
    deadline_s: float = 0
    """0: what the batch needs at its rate."""
    down_since: float = 0
    """When an earlier runner found the target down (seconds since the epoch); 0: it was not."""


class OpenCases:
    """The cases of a batch without a verdict yet, read as the engine takes them.

    With the policy `on_doubt: error`, a case that may change something is marked as begun in Kafka before it is sent:
    a runner that repeats the batch finds the mark, and leaves the case out.
    """

    def __init__(self, bus: Bus, work: Work, plan: Plan, limit_s: float) -> None:
        self._bus, self._work, self._limit_s = bus, work, limit_s
        self._concurrency = max(1, plan.policy.concurrency)
        self._is_careful = plan.policy.on_doubt == "error"
        self._before: dict[str, VerdictName] = {}
        self.left_out: Counter[str] = Counter()
        """How many cases were not executed again, by reason."""

    @property
    def read_ahead(self) -> int:
        """How many cases the engine may take at a time: with marks, no more than it begins at once."""
        return self._concurrency if self._is_careful else READ_AHEAD

    def read_verdicts(self) -> None:
        """Reads what earlier runners judged.

        Raises:
            BusError: the brokers are away.
        """
        if self._work.again:
            self._before = self._bus.results.verdicts(self._work.again, self._work.run, attempt=self._work.attempt)

    def __iter__(self) -> Iterator[Case]:
        return self._marked() if self._is_careful else self._open()

    def _open(self) -> Iterator[Case]:
        for case in self._bus.cases.read(self._work.batch, self._work.run, deadline_s=self._limit_s):
            verdict = self._before.get(execution_key(case.id, case.repeat))
            if verdict in ("passed", "failed"):
                self.left_out[JUDGED_BEFORE] += 1
            elif self._is_careful and verdict == "errored" and _is_unsafe(case):
                self.left_out[LEFT_IN_DOUBT] += 1
            else:
                yield case

    def _marked(self) -> Iterator[Case]:
        cases = self._open()
        with self._bus.results.writer(patience_s=self._limit_s) as marks:
            while chunk := list(itertools.islice(cases, self._concurrency)):
                for case in filter(_is_unsafe, chunk):
                    marks.write(_in_doubt(case, self._work))
                marks.flush()
                yield from chunk


def _is_unsafe(case: Case) -> bool:
    """Whether a request of the case may change something."""
    return any(step.request.method not in SAFE_METHODS for step in (*case.steps, *case.cleanup))


def _in_doubt(case: Case, work: Work) -> Result:
    """The result of a case while it is executed; its own result takes the place of this."""
    return Result(
        run=work.run,
        case=case.id,
        attempt=work.attempt,
        repeat=case.repeat,
        case_name=case.name,
        operation=case.operation,
        intent=case.intent,
        verdict="errored",
        reason=IN_DOUBT,
        started=datetime.now(UTC),
        origin=case.origin.source,
    )
