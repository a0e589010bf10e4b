"""Whether the target is up, as far as the answers of a run show it."""

from __future__ import annotations

import time

from testops_lib.execute.breaker import Breaker
from testops_lib.model import Policy

UNAVAILABLE = 503


class Liveness:
    """What a run knows of the target's being up. Times are of `time.monotonic`."""

    def __init__(self, policy: Policy) -> None:
        self.breaker = Breaker(policy.breaker_after, policy.breaker_wait_s)
        self.answered = False
        """The target has given a whole answer in this run."""
        self.alive_at = float("-inf")
        """When the latest request began that the target answered, but for 503."""
        self.silent_at = float("-inf")
        """When the latest probe ended that it did not answer."""
        self.target_down = False
        """Cases were left out or broken off because the target was down."""

    @property
    def given_up(self) -> bool:
        """The target was waited for as long as the policy says, and has not come back."""
        return self.target_down and self.breaker.given_up(time.monotonic())
