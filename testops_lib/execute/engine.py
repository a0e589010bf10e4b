"""Cases -> results: runs each case against the target within its policy, many at a time."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncGenerator, Callable, Iterable, Mapping
from contextlib import suppress

from testops_lib.errors import TargetError
from testops_lib.execute import shutdown as stages
from testops_lib.execute.attempt import STOPPED
from testops_lib.execute.case_runner import CaseRunner, Judging
from testops_lib.execute.concurrency import Concurrency
from testops_lib.execute.exchange import StepExchanger
from testops_lib.execute.foreign import ForeignGuard
from testops_lib.execute.identity import Identities
from testops_lib.execute.limits import RunLimits
from testops_lib.execute.liveness import Liveness
from testops_lib.execute.load import ExpectedStatuses, Load
from testops_lib.execute.probes import Prober
from testops_lib.execute.results import ResultBuilder
from testops_lib.execute.retries import RetryingSender
from testops_lib.execute.rights import Rights
from testops_lib.execute.schedule import Cases, Repeating, Schedule, Width
from testops_lib.execute.shutdown import Shutdown
from testops_lib.execute.transport import Transport
from testops_lib.http import tls
from testops_lib.http.client import Client
from testops_lib.http.url import escape_target, origin
from testops_lib.model import Contract, Plan, Result
from testops_lib.verdict.check import Judge


class Engine:
    """Executes cases against one target for one run. One `run` at a time; the values it yields are complete results.

    max_requests: requests that may be sent in all, whatever for (steps, cleanup, repeats, redirects, logins, probes),
    0 for no limit; a case is only started when all its steps and its cleanup fit.
    max_time_s: after this long no further request is sent (cleanup has 3 s more), 0 for no limit.
    judge: judges answers in place of the contracts' own judge.
    proxy: an http proxy's URL. Nothing is taken from the environment's proxy variables; behind a proxy the resolved
    addresses cannot be checked, only the hosts.

    Raises:
        TargetError: the plan's base URL is unusable.
    """

    def __init__(
        self,
        plan: Plan,
        contracts: Mapping[str, Contract],
        *,
        run: str,
        attempt: int = 1,
        environ: Mapping[str, str] = os.environ,
        max_requests: int = 0,
        max_time_s: float = 0,
        judge: Judging | None = None,
        proxy: str = "",
    ) -> None:
        policy, base, base_url = plan.policy, origin(plan.base_url), _base_url(plan)
        self._plan, self._base_url = plan, base_url
        self._environ, self._proxy = environ, proxy
        self.concurrency = Concurrency(policy.concurrency)
        """How many of the policy's cases at once the target bears."""
        self._width = Width(policy.concurrency, self.concurrency)
        self._shutdown = shutdown = Shutdown()
        self._limits = limits = RunLimits(
            max_requests=max_requests,
            max_time_s=max_time_s,
            requests_per_second=policy.requests_per_second,
            shutdown=shutdown,
        )
        self._liveness = liveness = Liveness(policy)
        expected = ExpectedStatuses(contracts)
        load = Load(self.concurrency, expected, self._width.wake)
        self._transport = Transport(plan, run, base, limits, shutdown, liveness, load)
        self._prober = Prober(policy, base_url, liveness, limits, shutdown, self._transport)
        sender = RetryingSender(plan, base, limits, shutdown, liveness, self._prober, self._transport, expected)
        identities = Identities(plan, environ, seed=f"{plan.target}/{run}")
        guard = ForeignGuard(plan, contracts, base_url)
        self._results = ResultBuilder(plan, run, attempt, identities, self.concurrency)
        self._runner = CaseRunner(
            policy,
            judge if judge is not None else Judge(contracts),
            self._results,
            limits,
            shutdown,
            liveness,
            self._prober,
            guard,
            Rights(contracts, policy.foreign),
            sender,
            StepExchanger(plan, contracts, base_url, base, identities, guard, limits, shutdown, sender),
        )
        self._loop: asyncio.AbstractEventLoop | None = None
        self._grace_timer: asyncio.TimerHandle | None = None

    @property
    def stopped(self) -> bool:
        """`stop` was called: no new case is taken."""
        return self._shutdown.stopped

    @property
    def spent(self) -> bool:
        """No further case can be started within the limits of requests and time."""
        return self._limits.spent

    @property
    def requests_sent(self) -> int:
        """Everything that went out: the sum of the results' `requests`."""
        return self._limits.requests_sent

    @property
    def target_down(self) -> bool:
        """Cases were left out or broken off because the target was down."""
        return self._liveness.target_down

    @property
    def target_gone(self) -> bool:
        """The target was waited for as long as the policy says, and has not come back."""
        return self._liveness.given_up

    async def run(self, cases: Cases, repeating: Repeating | None = None) -> AsyncGenerator[Result, None]:
        """One result for each case that was started, as they complete.

        At most `policy.concurrency` cases run at once. Then come repetitions, one by one: those among the cases, and
        those that `repeating` chooses, for which a tenth of the time is kept. Cases marked `last` run one by one after
        all others; of a request budget up to a fifth is kept for them, as soon as they are known. After
        `stop` nothing further is taken from `cases`, and what is left of a list is not started. Cases that come
        asynchronously are cheaper by the list: waiting for each alone costs more than judging it.

        Raises:
            TargetError: an identity's environment variable is missing, or its login is outside the policy; certificates
                cannot be used.
        """
        self._loop = asyncio.get_running_loop()
        for part in (self._shutdown, self._width, self._prober):
            part.begin_run()
        self._transport.client = client = self._client()
        self._limits.begin_run(repetitions=repeating is not None)
        schedule = Schedule(
            cases,
            workers=self._plan.policy.concurrency,
            runner=self._runner,
            results=self._results,
            limits=self._limits,
            shutdown=self._shutdown,
            width=self._width,
            repeating=repeating,
        )
        schedule.start()
        try:
            while await schedule.delivered():
                for result in schedule.take():
                    yield result
        finally:
            await schedule.close()
            if self._grace_timer is not None:
                self._grace_timer.cancel()
            client.close()
            self._transport.client = self._loop = None

    def _client(self) -> Client:
        policy = self._plan.policy
        trusted = tls.ca_file(self._environ) if policy.verify_tls else ""
        certificates = tls.read(self._plan.tls, self._environ, where=f"target {self._plan.target}")
        root = f"{self._base_url}/"
        own = root[: root.find("/", len("https://")) + 1]
        return Client(policy, ca_file=trusted, proxy=self._proxy, certificates=certificates, own=own)

    def limit(self, *, concurrency: int, requests_per_second: float) -> None:
        """From now on at most so many cases at once (0: none begins), and so many requests a second (0: no limit).

        For whoever has a part of the policy's limits, which are the most. Safe to call from any thread, and before
        `run`.
        """
        self._limits.pace.limit(requests_per_second)
        self._width.limit(concurrency)
        if (loop := self._loop) is not None:
            with suppress(RuntimeError):  # the loop has ended meanwhile
                loop.call_soon_threadsafe(self._width.wake)

    def stop(self, grace_s: float = 5) -> None:
        """Takes no new cases; after `grace_s` what is still in flight is errored as `stopped`, its cleanup is sent
        within 3 s more. Safe to call from any thread and from a signal handler, any number of times.
        """
        self._shutdown.stopped = True
        if (loop := self._loop) is not None:
            with suppress(RuntimeError):  # the loop has ended meanwhile, and every case with it
                loop.call_soon_threadsafe(self._halt, grace_s)

    def _halt(self, grace_s: float) -> None:
        if self._loop is None:
            return
        self._shutdown.halted.set()
        self._width.wake()
        if self._shutdown.killed:
            return
        if self._grace_timer is not None:
            self._grace_timer.cancel()
        self._grace_timer = self._loop.call_later(grace_s, self._kill)

    def _kill(self) -> None:
        self._shutdown.kill()
        client = self._transport.client
        if client is not None and self._loop is not None:
            client.abort_all(STOPPED)
            self._grace_timer = self._loop.call_later(stages.CLEANUP_AFTER_STOP_S, client.abort_all, STOPPED, True)


def _base_url(plan: Plan) -> str:
    """The base URL as requests begin with it.

    Raises:
        TargetError: it has a query or a fragment.
    """
    base_url = plan.base_url.rstrip("/")
    if "?" in base_url or "#" in base_url:
        raise TargetError(f"the base URL {plan.base_url!r} has a query or a fragment", next_step="leave it out")
    return escape_target(base_url)


def run(
    engine: Engine,
    cases: Cases,
    on_result: Callable[[Result], None],
    *,
    signals: Iterable[int] = (),
    grace_s: float = 5,
    repeating: Repeating | None = None,
) -> None:
    """Runs the engine on a uvloop of its own until every case has its result; each goes to `on_result` at once.

    signals: signal numbers that call `engine.stop(grace_s)` while it runs (main thread only).
    """
    import uvloop

    async def main() -> None:
        loop = asyncio.get_running_loop()
        numbers = tuple(signals)
        for number in numbers:
            loop.add_signal_handler(number, engine.stop, grace_s)
        results = engine.run(cases, repeating)
        try:
            async for result in results:
                on_result(result)
        finally:
            await results.aclose()
            for number in numbers:
                loop.remove_signal_handler(number)

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main())
