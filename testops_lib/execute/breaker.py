"""When a target counts as down: pure, the caller brings the time."""

from __future__ import annotations

PROBE_FIRST_S = 0.25
PROBE_EVERY_S = 1.0


class Breaker:
    """Counts consecutive requests without an answer; any answer sets the count back.

    Args:
        after: this many consecutive failures open it; 0: it never opens.
        wait_s: how long after the first of them a target may still come back before it is given up.
    """

    def __init__(self, after: int, wait_s: float) -> None:
        self._after, self._wait_s = after, wait_s
        self.failures = 0
        """Consecutive requests that got no answer, or 503."""
        self.since = 0.0
        """When the first of the consecutive failures was."""

    @property
    def open(self) -> bool:
        """Nothing but probes should be sent."""
        return 0 < self._after <= self.failures

    def failed(self, now: float) -> None:
        """A request or a probe got no answer, or 503."""
        if not self.failures:
            self.since = now
        self.failures += 1

    def answered(self) -> None:
        """The target is there."""
        self.failures = 0

    def given_up(self, now: float) -> bool:
        """Whether the target has been silent for `wait_s` or longer."""
        return self.failures > 0 and now - self.since >= self._wait_s

    def pause_s(self, now: float) -> float:
        """How long to wait before the next probe."""
        left = self.since + self._wait_s - now
        return max(0.0, min(PROBE_EVERY_S if self.open else PROBE_FIRST_S, left))
