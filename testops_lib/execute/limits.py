"""What a run may still send: the budget of requests, the rate, and the time of the run and of each case."""

from __future__ import annotations

import time

from testops_lib.execute.attempt import BUDGET_SPENT, Attempt, CaseEnded
from testops_lib.execute.pace import Budget, Pace
from testops_lib.execute.shutdown import Shutdown

_CONCURRENT_SHARE = 0.9
"""Of the run's time, where failures are repeated alone afterwards."""

_CLEANUP_AFTER_DEADLINE_S = 5.0
_ALMOST_S = 0.002
"""A deadline this near is over: libcurl counts in milliseconds."""


class RunLimits:
    """The limits of one run, as its attempts use them up.

    max_requests, max_time_s: 0 for no limit.
    """

    def __init__(self, *, max_requests: int, max_time_s: float, requests_per_second: float, shutdown: Shutdown) -> None:
        self.budget = Budget(max_requests)
        self.pace = Pace(requests_per_second)
        self.ends_at = float("inf")
        """No request but cleanup is sent after this moment of `time.monotonic`."""
        self.requests_sent = 0
        self._max_time_s = max_time_s
        self._begun = 0.0
        self._shutdown = shutdown

    def begin_run(self, *, repetitions: bool) -> None:
        """Starts the clock. With repetitions a tenth of the time is kept for them, until `release_time`."""
        self._begun = time.monotonic()
        if self._max_time_s > 0:
            self.ends_at = self._begun + self._max_time_s * (_CONCURRENT_SHARE if repetitions else 1)

    def release_time(self) -> None:
        """The time that was kept for repetitions may be used."""
        if self._max_time_s > 0:
            self.ends_at = self._begun + self._max_time_s

    @property
    def time_up(self) -> bool:
        return time.monotonic() >= self.ends_at

    @property
    def spent(self) -> bool:
        """No further case can start."""
        return self.budget.used_up or self.time_up

    def reserve_extra(self, attempt: Attempt) -> bool:
        """Sets aside one request beyond those the case was planned with, if one is left."""
        if not self.budget.extra():
            return False
        attempt.reserved += 1
        return True

    def reserve_beside(self, attempt: Attempt) -> bool:
        """Whether a login or a probe may be sent: from what nobody has set aside, else from what the case has."""
        return self.reserve_extra(attempt) or attempt.reserved > 0

    def spent_for(self, attempt: Attempt) -> bool:
        """No time or no request is left for this case."""
        return self.time_up or (attempt.reserved < 1 and not self.budget.affords(1))

    def count(self, attempt: Attempt, requests: int) -> None:
        """So many requests went out for this case."""
        self.requests_sent += requests
        self.budget.spend(requests)
        attempt.reserved -= requests

    def seconds_left(self, attempt: Attempt, *, cleanup: bool) -> float:
        now = time.monotonic()
        if cleanup:
            by = attempt.deadline + _CLEANUP_AFTER_DEADLINE_S
            return min(by, attempt.cleanup_by, self._shutdown.cleanup_by) - now
        return min(attempt.deadline, self.ends_at) - now

    def out_of_time(self, *, cleanup: bool) -> CaseEnded:
        """How a case ends that has no time left: skipped when the run's time is up, else errored."""
        if not cleanup and time.monotonic() >= self.ends_at - _ALMOST_S:
            return CaseEnded("skipped", BUDGET_SPENT)
        return CaseEnded("errored", "case timeout")
