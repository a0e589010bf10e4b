"""A request with its repetitions: after Retry-After, over a fresh connection, and when the target is back."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime

from testops_lib.execute import retry_after
from testops_lib.execute.attempt import (
    BUDGET_SPENT,
    CERTIFICATE_REQUIRED,
    STOPPED,
    TARGET_DOWN,
    Attempt,
    CaseEnded,
    StepRecord,
)
from testops_lib.execute.limits import RunLimits
from testops_lib.execute.liveness import UNAVAILABLE, Liveness
from testops_lib.execute.load import ExpectedStatuses
from testops_lib.execute.probes import Prober
from testops_lib.execute.shutdown import Shutdown
from testops_lib.execute.transport import IDEMPOTENT, Transport
from testops_lib.http.answer import Answer
from testops_lib.http.failure import TransportFailure
from testops_lib.http.request import PreparedRequest
from testops_lib.http.url import Origin, origin
from testops_lib.model import Plan, Step

_MOST_REPEATS = 5
"""Of one request that surely was not processed, while probes are answered."""

Send = Callable[[PreparedRequest], Awaitable[Answer | TransportFailure]]


class RetryingSender:
    """Sends a request until its outcome is the target's own: a target that is down ends the case."""

    def __init__(
        self,
        plan: Plan,
        base: Origin,
        limits: RunLimits,
        shutdown: Shutdown,
        liveness: Liveness,
        prober: Prober,
        transport: Transport,
        expected: ExpectedStatuses,
    ) -> None:
        self._policy, self._base = plan.policy, base
        self._shows_certificate = bool(plan.tls.cert)
        self._limits, self._shutdown, self._expected = limits, shutdown, expected
        self._liveness, self._prober, self._transport = liveness, prober, transport
        self._waited_s = 0.0
        """Because of Retry-After, by all cases together."""

    async def send(
        self,
        attempt: Attempt,
        record: StepRecord,
        prepared: PreparedRequest,
        *,
        cleanup: bool = False,
        step: Step | None = None,
    ) -> Answer | TransportFailure:
        """Sends the request; where the target was down meanwhile, waits for it and repeats what may be repeated.

        step: whose checks say which statuses are expected; None for what follows a step's own request.

        Raises:
            CaseEnded: the target is down, or no request or no time is left.
        """
        breaker = self._liveness.breaker
        repeats = 0
        while True:
            if breaker.open and not cleanup and not await self._prober.back(attempt):
                raise self._target_down(attempt, record, "")
            outcome = await self._transport.send(attempt, record, prepared, cleanup=cleanup)
            if isinstance(outcome, TransportFailure):
                if outcome.kept and outcome.kind == "broken":
                    outcome = await self._send_on_fresh_connection(attempt, record, prepared, outcome, cleanup=cleanup)
                self._refuse_without_certificate(prepared, outcome)
            if isinstance(outcome, Answer):
                asks = outcome.status in retry_after.STATUSES and not cleanup
                if asks and await self._waited_as_asked(attempt, record, prepared, outcome):
                    continue
                if outcome.status != UNAVAILABLE or not self._looks_down(outcome, prepared, step):
                    breaker.answered()
                    return outcome
            elif not self._looks_down(outcome, prepared, step):
                return outcome
            now = time.monotonic()
            breaker.failed(now)
            if (
                cleanup
                or self._shutdown.killed
                or (isinstance(outcome, TransportFailure) and outcome.kind == "timeout")
            ):
                return outcome
            unprocessed = isinstance(outcome, TransportFailure) and outcome.kind == "unreachable"
            reason = outcome.reason if isinstance(outcome, TransportFailure) else f"answered {outcome.status}"
            if not unprocessed and await self._prober.answers_others(record.operation, now, attempt):
                return outcome
            most = _MOST_REPEATS if unprocessed else int(prepared.method in IDEMPOTENT)
            if repeats >= most or not await self._prober.back(attempt, now) or not self._limits.reserve_extra(attempt):
                if isinstance(outcome, Answer):
                    record.answer, record.status, record.elapsed_ms = outcome, outcome.status, outcome.elapsed_ms
                raise self._target_down(attempt, record, reason)
            repeats += 1
            record.repeated = reason

    def login_sender(self, attempt: Attempt) -> Send:
        """Sends a login for this case; it may be repeated, as nobody is logged in before it has succeeded."""

        async def send(prepared: PreparedRequest) -> Answer | TransportFailure:
            outcome = await self._send_login(attempt, prepared)
            for _ in range(retry_after.TIMES):
                seconds = self._seconds_to_wait(outcome, repeatable=True) if isinstance(outcome, Answer) else None
                if seconds is None:
                    break
                await self._wait(attempt, seconds)
                outcome = await self._send_login(attempt, prepared)
            for _ in range(_MOST_REPEATS):
                if not self._looks_down(outcome, prepared, None):
                    break
                now = time.monotonic()
                self._liveness.breaker.failed(now)
                if not await self._prober.back(attempt, now):
                    self._liveness.target_down = True
                    break
                outcome = await self._send_login(attempt, prepared)
            return outcome

        return send

    async def _send_login(self, attempt: Attempt, prepared: PreparedRequest) -> Answer | TransportFailure:
        limits = self._limits
        left = limits.seconds_left(attempt, cleanup=False)
        wait = limits.pace.wait_s() if limits.pace.limited else 0.0
        if wait > 0:
            await self._shutdown.pause(min(wait, left))
        if self._shutdown.killed:
            return TransportFailure(kind="stopped", reason=STOPPED)
        if not limits.reserve_beside(attempt):
            raise CaseEnded("skipped", BUDGET_SPENT)
        timeout_s = min(self._policy.request_timeout_s, left - wait)
        return await self._transport.send_beside(attempt, prepared, timeout_s)

    async def _send_on_fresh_connection(
        self, attempt: Attempt, record: StepRecord, prepared: PreparedRequest, first: TransportFailure, *, cleanup: bool
    ) -> Answer | TransportFailure:
        """Repeats on a fresh connection what broke on a kept one, if that can do no harm; else the first failure."""
        if prepared.method not in IDEMPOTENT:
            self._transport.on_fresh_connections.add(record.operation)
            return first
        if self._shutdown.killed or not self._limits.reserve_extra(attempt):
            return first
        record.fresh, record.repeated = True, first.reason
        return await self._transport.send(attempt, record, prepared, cleanup=cleanup)

    def _refuse_without_certificate(self, prepared: PreparedRequest, outcome: Answer | TransportFailure) -> None:
        """Ends the case where the server may have asked for the client certificate, which this request does not show.

        Raises:
            CaseEnded
        """
        if not self._shows_certificate or isinstance(outcome, Answer):
            return
        if outcome.kind in ("broken", "unreachable") and (prepared.anonymous or origin(prepared.url) != self._base):
            raise CaseEnded("skipped" if prepared.anonymous else "errored", CERTIFICATE_REQUIRED)

    def _looks_down(self, outcome: Answer | TransportFailure, prepared: PreparedRequest, step: Step | None) -> bool:
        """Whether a target that is down would give this; it may as well be this one request's own fate."""
        if not self._policy.breaker_after or origin(prepared.url) != self._base:
            return False
        if isinstance(outcome, TransportFailure):
            return outcome.silent or outcome.kind == "broken"
        return outcome.status == UNAVAILABLE and step is not None and not self._expected.include(step, outcome.status)

    async def _waited_as_asked(
        self, attempt: Attempt, record: StepRecord, prepared: PreparedRequest, answer: Answer
    ) -> bool:
        """Whether the answer asked to come back later, that was waited for, and the request may be sent again."""
        if retry_after.retry_after_s(answer, datetime.now(UTC)) is None:
            return False
        if self._expected.include(record.step, answer.status):
            return False
        record.asked_to_wait += 1
        seconds = self._seconds_to_wait(answer, repeatable=prepared.method in IDEMPOTENT)
        if seconds is None or record.asked_to_wait > retry_after.TIMES or self._shutdown.stopped:
            return False
        if not self._limits.reserve_extra(attempt):
            return False
        record.waited_s = round(record.waited_s + seconds, 3)
        record.repeated = f"answered {answer.status}"
        await self._wait(attempt, seconds)
        return True

    def _seconds_to_wait(self, answer: Answer, *, repeatable: bool) -> float | None:
        """How long to wait before the request is sent again; None: it is not."""
        return retry_after.wait_s(
            answer,
            datetime.now(UTC),
            repeatable=repeatable,
            left_s=self._limits.ends_at - time.monotonic(),
            waited_s=self._waited_s,
            down_s=self._policy.breaker_wait_s,
        )

    async def _wait(self, attempt: Attempt, seconds: float) -> None:
        """Because the target asked for it: not the case's own time."""
        self._waited_s += seconds
        attempt.deadline += seconds
        await self._shutdown.pause(seconds)
        if self._shutdown.killed:
            raise CaseEnded("errored", STOPPED)

    def _target_down(self, attempt: Attempt, record: StepRecord, reason: str) -> CaseEnded:
        """How the case ends: the target is down, unless the run has ended while it was waited for."""
        if self._shutdown.stopped or self._shutdown.killed:
            return CaseEnded("errored", STOPPED)
        if self._limits.spent_for(attempt):
            return CaseEnded("skipped", BUDGET_SPENT)
        self._liveness.target_down = True
        record.error = reason or TARGET_DOWN
        return CaseEnded("errored", f"{TARGET_DOWN}: {reason}" if reason else TARGET_DOWN)
