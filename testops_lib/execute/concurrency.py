"""How many cases may run at once while the target is overloaded: additive increase, multiplicative decrease. Pure."""

from __future__ import annotations

import re
from collections import Counter
from typing import Final

from testops_lib.http.answer import Answer

ANSWERS_A_STEP: Final = 8
"""This many answers without a sign of overload, times the present number of cases, allow one more case."""

_LOOK_AT_BYTES = 8_192

_LOCKED = re.compile(
    rb"database is locked|database table is locked|SQLITE_BUSY|deadlock (?:found|detected)|lock wait timeout"
    rb"|could not obtain lock|could not serialize access|too many (?:clients|connections)|QueuePool limit"
    rb"|connection pool (?:exhausted|is full|timeout)|remaining connection slots|temporarily overloaded",
    re.IGNORECASE,
)
"""What servers write into a 5xx when concurrent requests block each other."""


def overload(answer: Answer | None) -> str:
    """The sign of overload in an answer, for people; "" without one. None: no answer within the deadline."""
    if answer is None:
        return "timeout"
    if answer.status in (429, 503):
        shown = _LOCKED.search(answer.body[:_LOOK_AT_BYTES])
        return shown[0].decode().lower() if shown else f"answered {answer.status}"
    if answer.status >= 500 and (shown := _LOCKED.search(answer.body[:_LOOK_AT_BYTES])):
        return shown[0].decode().lower()
    return ""


class Concurrency:
    """The number of cases that may run at once, at most `most` and at least 1; the caller brings the time.

    Overload halves it, once for all requests that were under way together; answers without it raise it by one. An
    operation that shows overload while no other case runs does so by itself, and lowers nothing from then on.
    """

    def __init__(self, most: int) -> None:
        self.most = self.now = max(1, most)
        self._lowest = 0
        self.signs: Counter[str] = Counter()
        """How often each sign of overload was seen."""
        self._answers = 0
        self._changed_at = float("-inf")
        self._by_themselves: set[str] = set()

    @property
    def lowest(self) -> int:
        """The least that overload has brought it to; the most, when there was none."""
        return self._lowest or self.most

    def limit(self, most: int) -> None:
        """Another most from now on: a part of the target's, where several work on it."""
        free = self.now == self.most
        self.most = max(1, most)
        self.now = self.most if free else min(self.now, self.most)

    def overloaded(self, sign: str, operation: str, *, begun: float, at: float, alone: bool) -> bool:
        """A request, sent at `begun` and `alone` or beside others, was answered with a sign of overload.

        True, when fewer cases may run from now on.
        """
        self.signs[sign] += 1
        if alone:
            self._by_themselves.add(operation)
        if operation in self._by_themselves or begun < self._changed_at or self.now == 1:
            return False
        self.now = max(1, self.now // 2)
        self._lowest = min(self.lowest, self.now)
        self._changed_at, self._answers = at, 0
        return True

    def answered(self, *, begun: float) -> bool:
        """A request, sent at `begun`, was answered without a sign of overload. True, when one more case may run."""
        if self.now == self.most or begun < self._changed_at:
            return False
        self._answers += 1
        if self._answers < ANSWERS_A_STEP * self.now:
            return False
        self.now, self._answers = self.now + 1, 0
        return True

    @property
    def lowered_to(self) -> int:
        """The present number, where that is below the most; else 0."""
        return self.now if self.now < self.most else 0

    def __str__(self) -> str:
        """One line for people; "" when it was never lowered."""
        if not self._lowest:
            return ""
        signs = ", ".join(f"{sign} ({count})" for sign, count in self.signs.most_common(3))
        return f"overload: {signs}; cases at once went down to {self._lowest} of {self.most}, at the end {self.now}"
