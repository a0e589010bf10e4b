"""One request on the wire, within every limit of the run; counted, traced, and its outcome noted."""

from __future__ import annotations

import time
from urllib.parse import quote

from msgspec import structs

from testops_lib.execute.attempt import BUDGET_SPENT, STOPPED, Attempt, CaseEnded, StepRecord
from testops_lib.execute.limits import RunLimits
from testops_lib.execute.liveness import UNAVAILABLE, Liveness
from testops_lib.execute.load import Load
from testops_lib.execute.shutdown import Shutdown
from testops_lib.http.answer import Answer
from testops_lib.http.client import Client
from testops_lib.http.failure import TransportFailure
from testops_lib.http.request import PreparedRequest
from testops_lib.http.url import Origin, origin
from testops_lib.model import SAFE_METHODS, Plan, Trace

IDEMPOTENT = SAFE_METHODS | {"PUT", "DELETE", "QUERY"}

_PLAIN = "!#$&'()*+,/:;=?@[]~ "
"""What stands as it is in the value of a header, beside letters and digits."""


class Transport:
    """Sends the requests of a run. `client` is there while the run goes on."""

    def __init__(
        self, plan: Plan, run: str, base: Origin, limits: RunLimits, shutdown: Shutdown, liveness: Liveness, load: Load
    ) -> None:
        self._base, self._run = base, run
        self._request_timeout_s = plan.policy.request_timeout_s
        trace = plan.policy.trace
        self._trace = trace if isinstance(trace, Trace) else Trace() if trace else None
        self._limits, self._shutdown, self._liveness, self._load = limits, shutdown, liveness, load
        self._streaming: set[str] = set()
        """Operations that have answered with a stream: their bodies are hardly waited for."""
        self.on_fresh_connections: set[str] = set()
        """Operations of which an unsafe request broke on a kept connection: whose fault that was is still open."""
        self.client: Client | None = None

    async def send(
        self, attempt: Attempt, record: StepRecord, prepared: PreparedRequest, *, cleanup: bool
    ) -> Answer | TransportFailure:
        """Sends a step's request.

        Raises:
            CaseEnded: no request or no time is left for it.
        """
        limits, shutdown = self._limits, self._shutdown
        if limits.pace.limited and (wait := limits.pace.wait_s()) > 0:
            attempt.deadline += wait  # waiting for the rate is not the case's own time
            await shutdown.pause(min(wait, limits.seconds_left(attempt, cleanup=cleanup)), in_cleanup=cleanup)
        if shutdown.killed and not cleanup:
            return TransportFailure(kind="stopped", reason=STOPPED)
        left = limits.seconds_left(attempt, cleanup=cleanup)
        if left <= 0:
            raise limits.out_of_time(cleanup=cleanup)
        if limits.budget.limited and attempt.reserved < 1 and not limits.reserve_extra(attempt):
            raise CaseEnded("skipped", BUDGET_SPENT)
        timeout_s = min(self._request_timeout_s, left)
        # libcurl repeats what a kept connection swallowed; the budget must have a request left for that.
        repeat = prepared.method in IDEMPOTENT and limits.reserve_extra(attempt)
        assert self.client is not None
        begun = time.monotonic()
        if self._trace is not None:
            prepared = self._traced(prepared, self._trace, attempt.case.id)
        self._load.enter(begun)
        try:
            exchange = await self.client.send(
                prepared,
                timeout_s=timeout_s,
                repeat=repeat,
                survives_abort=cleanup,
                fresh=record.fresh or (not repeat and record.operation in self.on_fresh_connections),
                stream_expected=record.operation in self._streaming,
                body_needed=record.body_needed,
            )
        finally:
            self._load.leave()
        count = exchange.sent
        if count > 1:
            record.repeated = "closed without a response"
        record.requests += count
        limits.count(attempt, count)
        if repeat and count < 2:
            limits.budget.give_back(1)
            attempt.reserved -= 1
        outcome = exchange.outcome
        self._load.note(record, outcome, begun)
        if isinstance(outcome, Answer):
            liveness = self._liveness
            liveness.answered = True
            if outcome.streaming:
                record.streaming = True
                self._streaming.add(record.operation)
            if outcome.status != UNAVAILABLE:
                liveness.alive_at = max(liveness.alive_at, begun)
        elif outcome.kind == "timeout" and left <= timeout_s:
            self._liveness.breaker.failed(time.monotonic())
            ended = limits.out_of_time(cleanup=cleanup)
            record.error, record.elapsed_ms = ended.reason, round(outcome.elapsed_ms, 3)
            raise ended
        return outcome

    async def send_beside(
        self, attempt: Attempt, prepared: PreparedRequest, timeout_s: float
    ) -> Answer | TransportFailure:
        """A login or a probe: counted, but no step's. Over a connection of its own, so that it is sent once."""
        assert self.client is not None
        if self._trace is not None:
            prepared = self._traced(prepared, self._trace, attempt.case.id)
        exchange = await self.client.send(prepared, timeout_s=timeout_s, fresh=True)
        self._limits.count(attempt, exchange.sent)
        attempt.other_requests += exchange.sent
        if isinstance(exchange.outcome, Answer):
            self._liveness.answered = True
        return exchange.outcome

    def _traced(self, prepared: PreparedRequest, trace: Trace, case: str) -> PreparedRequest:
        """The request with the headers that say where it belongs, if the target wants them and it goes there."""
        if origin(prepared.url) != self._base:
            return prepared
        present = {name.lower() for name, _ in prepared.headers}
        values = ((trace.run, self._run), (trace.case, case))
        added = tuple((name, quote(text, safe=_PLAIN)) for name, text in values if name and name.lower() not in present)
        return structs.replace(prepared, headers=(*prepared.headers, *added))
