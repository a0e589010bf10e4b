"""Asks the target whether it is up where no answer says so, and waits for its return."""

from __future__ import annotations

import asyncio
import time
from collections import Counter

from testops_lib.execute.attempt import Attempt
from testops_lib.execute.breaker import PROBE_EVERY_S
from testops_lib.execute.limits import RunLimits
from testops_lib.execute.liveness import UNAVAILABLE, Liveness
from testops_lib.execute.shutdown import Shutdown
from testops_lib.execute.transport import Transport
from testops_lib.http.answer import Answer
from testops_lib.http.request import PreparedRequest
from testops_lib.model import Policy

_PROBE_S = 5.0
_PROBE_AGAIN_S = 2.0
_ENOUGH_PROBES = 2
"""Answered probes after which an operation that finds the target down is taken to do so by itself, while no more than
`_UNPROBED_FAILURES` requests in a row do."""
_UNPROBED_FAILURES = 3


class Prober:
    """Asks the target whether it is up with `GET /` below the base URL, one probe at a time for all cases."""

    def __init__(
        self,
        policy: Policy,
        base_url: str,
        liveness: Liveness,
        limits: RunLimits,
        shutdown: Shutdown,
        transport: Transport,
    ) -> None:
        self._liveness, self._limits, self._shutdown, self._transport = liveness, limits, shutdown, transport
        self._timeout_s = min(_PROBE_S, policy.request_timeout_s)
        self._prepared = PreparedRequest(method="GET", url=f"{base_url}/", headers=(("Accept", "*/*"),))
        self._probed_at = float("-inf")
        self._answered_probes: Counter[str] = Counter()
        """How often a probe was answered right after a request of the operation was not, or with 503."""
        self.begin_run()

    def begin_run(self) -> None:
        self._one_at_a_time = asyncio.Lock()

    async def back(self, attempt: Attempt, since: float = 0) -> bool:
        """Waits, probing, until the target answers; False when it is given up, or the run ends.

        `since`: only an answer to what was sent later counts; without it, later than a moment ago.
        """
        breaker = self._liveness.breaker
        begun = time.monotonic()
        since = since or max(breaker.since, begun - PROBE_EVERY_S)
        try:
            while not await self.alive_since(since, attempt):
                since = now = time.monotonic()
                if self._shutdown.stopped or self._limits.spent_for(attempt) or breaker.given_up(now):
                    return False
                await self._shutdown.pause(min(breaker.pause_s(now), self._limits.ends_at - now))
            return True
        finally:
            attempt.deadline += time.monotonic() - begun  # waiting for the target is not the case's own time

    async def answers_others(self, operation: str, moment: float, attempt: Attempt) -> bool:
        """Whether the target answers others after a request of this operation found it down.

        An operation for which that was so before is not worth a probe each time, while others are answered.
        """
        if self._answered_probes[operation] >= _ENOUGH_PROBES and self._liveness.breaker.failures <= _UNPROBED_FAILURES:
            return True
        alive = await self.alive_since(moment, attempt)
        self._answered_probes[operation] += alive
        return alive

    async def alive_since(self, moment: float, attempt: Attempt) -> bool:
        """Whether a request begun after this moment was answered; sends a probe where none was."""
        liveness = self._liveness
        if liveness.alive_at > moment:
            return True
        async with self._one_at_a_time:
            if liveness.alive_at > moment or liveness.silent_at > moment:
                return liveness.alive_at > moment
            return await self._probe(attempt)

    async def ever_answers(self, attempt: Attempt) -> bool:
        """Whether the target has given a whole answer in this run, or gives one to a probe now."""
        liveness = self._liveness
        if liveness.answered:
            return True
        async with self._one_at_a_time:
            if not liveness.answered and time.monotonic() - self._probed_at > _PROBE_AGAIN_S:
                await self._probe(attempt)
                self._probed_at = time.monotonic()
            return liveness.answered

    async def _probe(self, attempt: Attempt) -> bool:
        limits, liveness = self._limits, self._liveness
        if not limits.reserve_beside(attempt):
            return False
        if limits.pace.limited:
            await self._shutdown.pause(limits.pace.wait_s())
        now = time.monotonic()
        outcome = await self._transport.send_beside(attempt, self._prepared, self._timeout_s)
        if isinstance(outcome, Answer) and outcome.status != UNAVAILABLE:
            liveness.alive_at = max(liveness.alive_at, now)
            liveness.breaker.answered()
            return True
        liveness.silent_at = time.monotonic()
        liveness.breaker.failed(liveness.silent_at)
        return False
