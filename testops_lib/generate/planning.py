"""What planning may cost: a document that would keep it busy for ever costs its own operation cases, nothing else."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from typing import Final

import msgspec

from testops_lib.model import Case

OPERATION_SECONDS: Final = 10.0
"""Of processor time, for the cases of one operation."""

OPERATION_BYTES: Final = 1_000_000
"""Of all cases of one operation, as JSON."""

SOURCE_SECONDS: Final = 300.0
"""Of processor time, for all operations together; when they are used up, each further one gets `LEAST_SECONDS`."""

LEAST_SECONDS: Final = 0.5

MOST_VALUES: Final = 20_000
"""Values in one body or parameter."""


class PlanningLimit(Exception):
    """The time for one operation is used up; the message says so."""


class Planning:
    """Measures the planning of one document's operations, one at a time.

    Args:
        clock: seconds of processor time; how busy the machine is must not decide which cases there are.
    """

    def __init__(self, *, clock: Callable[[], float] = time.thread_time) -> None:
        self._clock = clock
        self._begun = clock()
        self._end: float | None = None
        self._seconds = OPERATION_SECONDS

    def begin(self) -> None:
        """The planning of the next operation begins."""
        now = self._clock()
        left = SOURCE_SECONDS - (now - self._begun)
        self._seconds = max(LEAST_SECONDS, min(OPERATION_SECONDS, left))
        self._end = now + self._seconds

    def end(self) -> None:
        """The operation's planning is over; what follows has no limit."""
        self._end = None

    def check(self) -> None:
        """Called wherever planning works.

        Raises:
            PlanningLimit: the operation's time is used up. Without `begin` there is no limit.
        """
        if self._end is not None and self._clock() > self._end:
            raise PlanningLimit(f"planning took longer than {self._seconds:g} s")


def within_size(cases: Iterable[Case]) -> list[Case]:
    """The first cases of an operation, as many as fit into `OPERATION_BYTES`."""
    kept: list[Case] = []
    size = 0
    for case in cases:
        size += len(msgspec.json.encode(case))
        if size > OPERATION_BYTES:
            break
        kept.append(case)
    return kept
