"""Cases -> results: runs each case against the target within its policy, many at a time."""

from __future__ import annotations

import asyncio
import os
import time
from collections import Counter, deque
from collections.abc import (
    AsyncGenerator,
    AsyncIterable,
    Callable,
    Iterable,
    Mapping,
    Sequence,
)
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any, Protocol
from urllib.parse import quote, urljoin

import msgspec
from msgspec import structs

from testops_lib.errors import CaseError, TargetError, TestOpsError
from testops_lib.execute import evidence, patience, transfer
from testops_lib.execute.adapt import Concurrency, overload
from testops_lib.execute.breaker import PROBE_EVERY_S, Breaker
from testops_lib.execute.foreign import Guard
from testops_lib.execute.identity import NOTHING, Credentials, Identities, LoginError, apply, overridden
from testops_lib.execute.lockout import Lockout
from testops_lib.execute.made import Made, Thing
from testops_lib.execute.pace import Budget, Pace
from testops_lib.execute.rights import REFUSING, Detour, Rights
from testops_lib.execute.source import Source
from testops_lib.execute.wire import (
    allowed,
    escape_target,
    origin,
    placeholders,
    prepare,
    sent_instead,
    unique_token,
    with_values,
)
from testops_lib.http import tls
from testops_lib.http.answer import Answer, Wire
from testops_lib.http.client import Client, TransportFailure, ca_file
from testops_lib.model import (
    INVALID_CREDENTIALS,
    NO_ANSWER,
    NO_CREDENTIALS,
    SAFE_METHODS,
    Capture,
    Case,
    Contract,
    EnsureResourceAvailability,
    Failure,
    JsonPathIs,
    MaxResponseTime,
    Plan,
    PositiveDataAcceptance,
    Request,
    Result,
    StatusIs,
    Step,
    StepOutcome,
    Trace,
    UseAfterFree,
    VerdictName,
)
from testops_lib.redact import Redactor, sensitive
from testops_lib.verdict.check import Judge, unjudged, why_unjudged
from testops_lib.verdict.json_values import select

_ENDING_CHECKS = frozenset(
    {
        NO_ANSWER,
        "not_a_server_error",
        "positive_data_acceptance",
        "status_code_conformance",
        "status",
        "ensure_resource_availability",
        "use_after_free",
    }
)
"""After a failure of one of these the later steps have nothing to stand on."""

_ON_AN_EFFECT = (EnsureResourceAvailability, JsonPathIs, PositiveDataAcceptance, StatusIs, UseAfterFree)

_IDEMPOTENT = SAFE_METHODS | {"PUT", "DELETE", "QUERY"}
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_CREDENTIAL_HEADERS = frozenset({"authorization", "cookie", "proxy-authorization"})

_MAX_RESPONSE_TIME = "max_response_time"
_UNAVAILABLE = 503
_NO_DOCUMENT = object()
_NO_NAMES: frozenset[str] = frozenset()

_RESULTS_AHEAD = 256
"""Results that may wait for whoever takes them before no further case is started."""

_LONGEST_MESSAGE = 400

_PLAIN = "!#$&'()*+,/:;=?@[]~ "
"""What stands as it is in the value of a header, beside letters and digits."""

_CROWD_SHARE = 0.9
"""Of the time, where failures are repeated afterwards."""

_PROBE_S = 5.0
_PROBE_AGAIN_S = 2.0
_ENOUGH_PROBES = 2
"""Answered probes after which an operation that finds the target away is taken to do so by its own fate, while no more
than `_UNPROBED_FAILURES` requests in a row do."""
_UNPROBED_FAILURES = 3
_MOST_REPEATS = 5
"""Of one request that surely was not processed, while probes are answered."""
_CLEANUP_AFTER_DEADLINE_S = 5.0
_CLEANUP_AFTER_STOP_S = 3.0

BUDGET_SPENT = "budget spent"
STOPPED = "stopped"
TARGET_DOWN = "target down"
NOT_LET_IN = "no connection without the client certificate"
"""Nothing can be said of what the target answers to somebody without credentials."""


class Judging(Protocol):
    def judge(
        self, step: Step, answer: Answer, captured: Mapping[str, Any], *, index: int = 0
    ) -> tuple[Failure, ...]: ...


class Repeating(Protocol):
    """Chooses what is repeated alone, from the results as they come."""

    def add(self, result: Result) -> int:
        """Takes a result into account; gives how many requests to set aside for its repetition."""

    def next(self) -> Sequence[Case]:
        """What to repeat now; asked again after each of them has its result, until there is nothing."""


class _Ended(Exception):
    """The case cannot go on: it is errored or skipped for this reason, unless it has failed already."""

    def __init__(self, verdict: VerdictName, reason: str) -> None:
        super().__init__(reason)
        self.verdict: VerdictName = verdict
        self.reason = reason


class _BrokenOnKept(_Ended):
    """An unsafe request broke on a kept connection: it may never have reached the application."""


class _Sent:
    """One step that was tried: kept until the verdict is known, because only then evidence is due."""

    __slots__ = (
        "answer",
        "asked_to_wait",
        "elapsed_ms",
        "error",
        "fresh",
        "instead",
        "operation",
        "overload",
        "repeated",
        "requests",
        "status",
        "step",
        "streaming",
        "unjudged",
        "waited_s",
        "wanted",
        "wire",
    )

    def __init__(self, operation: str, wire: Wire, instead: str) -> None:
        self.operation, self.wire, self.instead = operation, wire, instead
        self.answer: Answer | None = None
        self.status = self.requests = 0
        self.elapsed_ms = 0.0
        self.error = self.repeated = ""
        self.unjudged: tuple[str, ...] = ()
        self.fresh = self.wanted = self.streaming = False
        self.overload = ""
        self.asked_to_wait = 0
        self.waited_s = 0.0
        self.step: Step | None = None


class _Attempt:
    """A case while it runs."""

    __slots__ = (
        "before",
        "captured",
        "case",
        "cleanup_by",
        "deadline",
        "failures",
        "foreign",
        "made",
        "performed",
        "reserved",
        "sent",
        "stands_for",
        "started",
        "steps",
        "token",
        "why_anew",
        "withheld",
    )

    def __init__(self, case: Case, token: str, timeout_s: float, made: Made) -> None:
        self.case, self.token, self.made = case, token, made
        self.withheld = 0
        self.captured: dict[str, Any] = {"unique": token}
        self.failures: list[Failure] = []
        self.sent: list[_Sent] = []
        self.reserved = 0
        """Requests that are set aside for it and were not sent yet."""
        self.begin(timeout_s)
        self.cleanup_by = float("inf")
        self.before = 0
        """Requests for this case that no step shows: logins, probes, a first try that broke."""
        self.why_anew: tuple[int, str] | None = None
        """The step that broke when the case was begun for the first time, and how."""
        self.steps = deque(case.steps)
        """Those to come."""
        self.performed: list[Step] = []
        """Those that were sent, in order."""
        self.foreign = _NO_NAMES
        """Names of captures that are things of somebody else."""
        self.stands_for: dict[int, Step] = {}

    def begin(self, timeout_s: float) -> None:
        """Its time begins now."""
        self.started = time.monotonic()
        self.deadline = self.started + timeout_s

    def take(self, detour: Detour) -> None:
        """Goes on by other steps."""
        self.steps = deque(detour.steps)
        self.captured.update(detour.captured)
        self.foreign |= detour.foreign
        self.stands_for.update(detour.stands_for)


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
        self._plan, self._policy = plan, plan.policy
        self._base = origin(plan.base_url)
        self._base_url = plan.base_url.rstrip("/")
        if "?" in self._base_url or "#" in self._base_url:
            raise TargetError(f"the base URL {plan.base_url!r} has a query or a fragment", next_step="leave it out")
        self._base_url = escape_target(self._base_url)
        self._run, self._attempt = run, attempt
        trace = plan.policy.trace
        self._trace = trace if isinstance(trace, Trace) else Trace() if trace else None
        self._environ = environ
        self._proxy = proxy
        self._judge: Judging = judge if judge is not None else Judge(contracts)
        self._rights = Rights(contracts, plan.policy.foreign)
        self._lockout = Lockout(contracts)
        self._guard = Guard(plan, contracts, self._base_url)
        self._identities = Identities(plan, environ, seed=f"{plan.target}/{run}")
        self._budget = Budget(max_requests)
        self._pace = Pace(plan.policy.requests_per_second)
        self._width = max(1, plan.policy.concurrency)
        self.concurrency = Concurrency(plan.policy.concurrency)
        """What the target bears of the policy's."""
        self._in_flight = 0
        self._crowded_at = float("-inf")
        """When two requests were last under way together."""
        self._have_answered: set[str] = set()
        """Operations."""
        self._waited_s = 0.0
        """Because of Retry-After."""
        self._widened: asyncio.Event | None = None
        self._breaker = Breaker(plan.policy.breaker_after, plan.policy.breaker_wait_s)
        self._accepted = {key: contract.accepted_statuses for key, contract in contracts.items()}
        self._max_time_s = max_time_s
        self._time_up = float("inf")
        self._client: Client | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._halted: asyncio.Event | None = None
        self._grace_timer: asyncio.TimerHandle | None = None
        self._killed = False
        self._cleanup_by = float("inf")
        self._answered = False
        self._dead: asyncio.Event | None = None
        self._probing: asyncio.Lock | None = None
        self._probed_at = float("-inf")
        self._alive_at = float("-inf")
        """When the latest request began that found the target at home."""
        self._silent_at = float("-inf")
        """When the latest probe ended that did not."""
        self._on_fresh_connections: set[str] = set()
        """Operations of which an unsafe request broke on a kept connection: whose fault that was is still open."""
        self._streaming: set[str] = set()
        """Operations that have answered with a stream: their bodies are hardly waited for."""
        self._own_fate: Counter[str] = Counter()
        """How often a probe was answered right after a request of the operation was not, or with 503."""
        self._shared_redactor: tuple[int, Redactor] | None = None
        self.stopped = False
        """`stop` was called: no new case is taken."""
        self.target_down = False
        """Cases were left out or broken off because the target was down."""
        self.requests_sent = 0
        """Everything that went out: the sum of the results' `requests`."""

    @property
    def target_gone(self) -> bool:
        """The target was waited for as long as the policy says, and has not come back."""
        return self.target_down and self._breaker.given_up(time.monotonic())

    # -- the crowd

    async def run(
        self,
        cases: Iterable[Case] | AsyncIterable[Case] | AsyncIterable[list[Case]],
        repeating: Repeating | None = None,
    ) -> AsyncGenerator[Result, None]:
        """One result for each case that was started, as they complete.

        At most `policy.concurrency` cases run at once. Then come repetitions, one by one: those among the cases, and
        those that `repeating` chooses, for which a tenth of the time is kept. Cases marked `last` run one by one after
        all others; of a request budget up to a fifth is kept for them, as soon as they are given. After
        `stop` nothing further is taken from `cases`, and what is left of a list is not started. Cases that come
        asynchronously are cheaper by the list: waiting for each alone costs more than judging it.

        Raises:
            TargetError: an identity's environment variable is missing, or its login is outside the policy; certificates
                cannot be used.
        """
        self._loop = asyncio.get_running_loop()
        self._halted, self._dead, self._probing = asyncio.Event(), asyncio.Event(), asyncio.Lock()
        self._widened = asyncio.Event()
        trusted = ca_file(self._environ) if self._policy.verify_tls else ""
        certificates = tls.read(self._plan.tls, self._environ, where=f"target {self._plan.target}")
        own = f"{self._base_url}/"
        self._client = Client(
            self._policy, ca_file=trusted, proxy=self._proxy, certificates=certificates, own=own[: own.find("/", 8) + 1]
        )
        begun = time.monotonic()
        if self._max_time_s > 0:
            self._time_up = begun + self._max_time_s * (_CROWD_SHARE if repeating is not None else 1)
        done: deque[Result] = deque()
        ready = asyncio.Event()
        source = Source(cases, self, self._halted)
        last: list[Case] = []
        repetitions: list[Case] = []
        in_parts = not isinstance(cases, Sequence)
        held = self._hold(cases) if isinstance(cases, Sequence) else 0
        set_aside = 0

        room = asyncio.Event()

        def deliver(result: Result) -> None:
            nonlocal set_aside
            if repeating is not None:
                set_aside += self._budget.keep(repeating.add(result))
            done.append(result)
            ready.set()

        async def execute_alone(chosen: Iterable[Case]) -> None:
            for case in chosen:
                deliver(self._not_run(case, "errored", STOPPED) if self.stopped else await self._execute(case))

        async def work(number: int) -> None:
            nonlocal held
            while (number < self._allowed() or await self._turn(number, source)) and (
                case := await source.take()
            ) is not None:
                if case.repeat or case.last:
                    (repetitions if case.repeat else last).append(case)
                    held += self._hold(last, held) if in_parts else 0
                    continue
                deliver(await self._execute(case))
                while len(done) >= _RESULTS_AHEAD:
                    room.clear()
                    await room.wait()
            self._wake()

        async def work_all() -> None:
            workers = [asyncio.create_task(work(number)) for number in range(max(1, self._policy.concurrency))]
            try:
                await asyncio.gather(*workers)
            finally:
                for worker in workers:
                    worker.cancel()
                await asyncio.gather(*workers, return_exceptions=True)
            if self._max_time_s > 0:
                self._time_up = begun + self._max_time_s
            self._budget.release(set_aside)
            await execute_alone(repetitions)
            while repeating is not None and not self.stopped and (chosen := repeating.next()):
                await execute_alone(chosen)
            self._budget.release(held)
            await execute_alone(self._affordable(last, deliver))

        crowd = asyncio.create_task(work_all())
        crowd.add_done_callback(lambda _: ready.set())
        try:
            while True:
                while done:
                    room.set()
                    yield done.popleft()
                if crowd.done() and not done:
                    break
                ready.clear()
                if not done and not crowd.done():
                    await ready.wait()
            crowd.result()
        finally:
            crowd.cancel()
            await asyncio.gather(crowd, return_exceptions=True)
            await source.close()
            if self._grace_timer is not None:
                self._grace_timer.cancel()
            self._client.close()
            self._client = self._loop = None

    def limit(self, *, concurrency: int, requests_per_second: float) -> None:
        """From now on at most so many cases at once (0: none begins), and so many requests a second (0: no limit).

        For whoever has a part of the policy's limits, which are the most. Safe to call from any thread, and before
        `run`.
        """
        self._pace.limit(requests_per_second)
        self._width = max(0, concurrency)
        self.concurrency.limit(concurrency)
        if (loop := self._loop) is not None:
            with suppress(RuntimeError):  # the loop has ended meanwhile
                loop.call_soon_threadsafe(self._wake)

    async def _turn(self, number: int, source: Source) -> bool:
        """True, when so many may work that worker `number` does, too, or there is nothing left to do."""
        while number >= self._allowed() and not source.ended():
            assert self._widened is not None
            await self._widened.wait()
        return True

    def _allowed(self) -> int:
        """How many cases may run at once now."""
        return min(self._width, self.concurrency.now)

    def _wake(self) -> None:
        """Those who wait to work look again."""
        if self._widened is not None:
            self._widened.set()
            self._widened = asyncio.Event()

    @property
    def spent(self) -> bool:
        """No further case can be started within the limits of requests and time."""
        return self._budget.used_up or time.monotonic() >= self._time_up

    def _hold(self, cases: Sequence[Case], held: int = 0) -> int:
        """Sets requests aside for the first case of every operation that comes last, a fifth of the budget at most.

        Only for what is sent as documented: a fiftieth of the budget is enough for probes and comparisons, as their
        operations have other cases too. `held`: as many were set aside before.
        """
        documented, others = _by_need([case for case in cases if case.last])
        return self._budget.hold(sum(map(_planned, documented)), sum(map(_planned, others)), held)

    def _affordable(self, last: list[Case], deliver: Callable[[Result], None]) -> list[Case]:
        """Those that the budget is enough for, in their order; the first of every operation have precedence."""
        if self._budget.affords(sum(map(_planned, last))):
            return last
        documented, others = _by_need(last)
        chosen: set[str] = set()
        cost = 0
        for case in (*documented, *others, *last):
            if case.id not in chosen and self._budget.affords(cost + _planned(case)):
                chosen.add(case.id)
                cost += _planned(case)
        for case in last:
            if case.id not in chosen:
                deliver(self._not_run(case, "skipped", BUDGET_SPENT))
        return [case for case in last if case.id in chosen]

    def stop(self, grace_s: float = 5) -> None:
        """Takes no new cases; after `grace_s` what is still in flight is errored as `stopped`, its cleanup is sent
        within 3 s more. Safe to call from any thread and from a signal handler, any number of times.
        """
        self.stopped = True
        loop = self._loop
        if loop is not None:
            try:
                loop.call_soon_threadsafe(self._halt, grace_s)
            except RuntimeError:
                return  # the loop has ended meanwhile, and every case with it

    def _halt(self, grace_s: float) -> None:
        if self._halted is None or self._loop is None:
            return
        self._halted.set()
        self._wake()
        if self._killed:
            return
        if self._grace_timer is not None:
            self._grace_timer.cancel()
        self._grace_timer = self._loop.call_later(grace_s, self._kill)

    def _kill(self) -> None:
        self._killed = True
        self._cleanup_by = time.monotonic() + _CLEANUP_AFTER_STOP_S
        if self._dead is not None:
            self._dead.set()
        if self._client is not None and self._loop is not None:
            self._client.abort_all(STOPPED)
            self._grace_timer = self._loop.call_later(_CLEANUP_AFTER_STOP_S, self._client.abort_all, STOPPED, True)

    # -- one case

    async def _execute(self, case: Case) -> Result:
        refused = self._not_allowed(case)
        if refused:
            return self._not_run(case, "skipped", refused)
        detour = self._rights.around(case.steps, self._rights.refused) if self._rights.learned else None
        if detour is not None and detour.why:
            return self._not_run(case, "skipped", detour.why)
        planned = _planned(case) if detour is None else len(detour.steps) + len(case.cleanup)
        token = unique_token(self._run, case.id, self._attempt, case.repeat)
        attempt = _Attempt(case, token, self._policy.case_timeout_s, self._guard.made())
        down = self._breaker.open
        if down and not await self._back(attempt):
            if self._is_spent(attempt):
                return self._not_run(case, "skipped", BUDGET_SPENT, attempt)
            if self.stopped:
                return self._not_run(case, "errored", STOPPED, attempt)
            self.target_down = True
            return self._not_run(case, "skipped", TARGET_DOWN, attempt)
        if self._budget.limited and not await self._budget.reserve(planned):
            return self._not_run(case, "skipped", BUDGET_SPENT, attempt)
        attempt.reserved += planned
        if time.monotonic() >= self._time_up:
            return self._not_run(case, "skipped", BUDGET_SPENT, attempt)
        if down or self._budget.limited:
            attempt.begin(self._policy.case_timeout_s)
        started = datetime.now(UTC)
        verdict, reason = await self._carry_out(attempt, detour)
        anew = attempt.why_anew
        if anew is not None and self._budget.affords(planned):
            first = attempt
            await self._budget.reserve(planned)
            token = unique_token(self._run, case.id, self._attempt, case.repeat, anew=True)
            attempt = _Attempt(case, token, self._policy.case_timeout_s, first.made)
            attempt.withheld = first.withheld
            attempt.reserved = planned
            attempt.before = first.before + sum(sent.requests for sent in first.sent)
            verdict, reason = await self._carry_out(attempt, detour)
            index, why = anew
            if index < len(attempt.sent):
                attempt.sent[index].repeated = why
        if attempt.failures:
            verdict, reason = "failed", ""
        return self._result(attempt, verdict, reason, started)

    async def _carry_out(self, attempt: _Attempt, detour: Detour | None) -> tuple[VerdictName, str]:
        """Sends the steps and the cleanup; the verdict, unless there are failures, and its reason."""
        verdict: VerdictName = "passed"
        reason = ""
        try:
            try:
                if detour is not None:
                    attempt.take(detour)
                while attempt.steps:
                    step = attempt.steps.popleft()
                    if step.setup:
                        step = self._rights.as_accepted(step) or step
                    if not await self._step(attempt, len(attempt.sent), step):
                        break
            except _Ended as ended:
                verdict, reason = ended.verdict, ended.reason
                if isinstance(ended, _BrokenOnKept) and not self.stopped:
                    attempt.why_anew = len(attempt.sent) - 1, reason
            if (attempt.case.cleanup or attempt.made.left()) and any(sent.requests for sent in attempt.sent):
                await self._clean_up(attempt)
        except TargetError:
            raise
        except Exception as error:
            verdict, reason = "errored", f"engine: {type(error).__name__}: {error}"
        finally:
            self._budget.give_back(attempt.reserved)
        return verdict, reason

    async def _step(self, attempt: _Attempt, index: int, step: Step) -> bool:
        """Sends and judges one step; whether the next one may follow."""
        captured = attempt.captured
        attempt.performed.append(step)
        _, outcome = await self._exchange(attempt, step, attempt.deadline)
        if isinstance(outcome, TransportFailure):
            await self._judge_fault(attempt, index, step, outcome)
            return False
        try:
            judged = _after_202(step) if index and any(sent.status == 202 for sent in attempt.sent[:-1]) else step
            failures = self._judge.judge(judged, outcome, captured, index=index)
        except TestOpsError as error:
            raise _Ended("errored", f"check: {error.what}") from error
        if outcome.truncated or outcome.streaming or outcome.undecodable or outcome.wrong_coding:
            failures = (*failures, *transfer.failures(step, outcome, index))
            attempt.sent[-1].unjudged = unjudged(judged, outcome)
        if failures:
            slow = any(failure.check == _MAX_RESPONSE_TIME for failure in failures)
            if slow and not await self._slow_again(attempt, index, step):
                failures = tuple(failure for failure in failures if failure.check != _MAX_RESPONSE_TIME)
            attempt.failures += failures
        if not step.identity and (step.setup or attempt.case.intent == "positive"):
            self._rights.note(step.operation, outcome.status)
            if step.request.method not in SAFE_METHODS:
                self._rights.note_request(step, outcome.status)
        if step.setup and not 200 <= outcome.status < 300:
            reason = f"setup failed: {step.operation} answered {outcome.status}"
            return self._take_another_way(attempt, step, outcome.status, reason)
        if step.captures:
            try:
                _capture(step.captures, outcome, captured)
            except _Ended as ended:
                if step.setup:
                    reason = f"setup failed: {step.operation}: {ended.reason}"
                    return self._take_another_way(attempt, step, outcome.status, reason)
                raise
        return not failures or not any(failure.check in _ENDING_CHECKS for failure in failures)

    def _take_another_way(self, attempt: _Attempt, step: Step, status: int, reason: str) -> bool:
        """Goes on with things that exist where a preparing step was refused; True.

        Raises:
            _Ended: there is no other way.
        """
        if (better := self._rights.as_accepted(step, refused=True)) is not None:
            if not self._may_send_extra(attempt):
                raise _Ended("skipped", BUDGET_SPENT)
            attempt.steps.appendleft(better)
            return True
        refused = attempt.stands_for.get(id(step))
        if refused is not None:
            self._rights.note_useless(step)
        elif status in REFUSING and not step.identity:
            refused = step
        if refused is None:
            raise _Ended("skipped", reason)
        before = len(attempt.steps)
        detour = self._rights.around(
            (refused, *attempt.steps), lambda other: reason if other is refused else self._rights.refused(other)
        )
        if detour.why:
            raise _Ended("skipped", detour.why)
        for _ in range(len(detour.steps) - before):
            if not self._may_send_extra(attempt):
                raise _Ended("skipped", BUDGET_SPENT)
        attempt.take(detour)
        return True

    async def _exchange(
        self, attempt: _Attempt, step: Step, deadline: float, *, cleanup: bool = False
    ) -> tuple[_Sent, Answer | TransportFailure]:
        """The request of a step, with its credentials, redirects and one repeat after a 401; and what was answered."""
        own = attempt.case.id if attempt.case.last else ""
        try:
            plain = prepare(self._base_url, step.request, attempt.captured)
            if refused := self._guard.refusal(attempt.case, step, plain, attempt.made, attempt.token):
                attempt.withheld += 1
                raise _Ended("skipped", refused)
            credentials = self._identities.known(step.identity, own=own)
            if credentials is None:
                login = self._login_sender(attempt)
                credentials = await self._identities.credentials(step.identity, login, own=own)
            who, wire = None, plain
            if credentials is not NOTHING:
                who = self._who(attempt, step, credentials)
                if who is not None and (why := self._lockout.lost(who)):
                    raise _Ended("errored", why)
                wire = apply(plain, credentials, step.request)
            if self._plan.tls.cert and step.identity in (NO_CREDENTIALS, INVALID_CREDENTIALS):
                wire = structs.replace(wire, anonymous=True)
        except CaseError as error:
            raise _Ended("errored", f"refused: {error.what}") from error
        except LoginError as error:
            raise _Ended("errored", STOPPED if self._killed else str(error)) from error
        sent = _Sent(step.operation, wire, sent_instead(step.operation, plain.method, plain.url, self._base_url))
        sent.step = step
        if step.captures:
            sent.wanted = any(capture.source == "body" and not capture.optional for capture in step.captures)
        attempt.sent.append(sent)
        began = time.monotonic() if who is not None else 0.0
        outcome = await self._send(attempt, sent, wire, cleanup=cleanup, step=step)
        if isinstance(outcome, Answer) and outcome.status == 401 and credentials.session:
            if step.identity != INVALID_CREDENTIALS and not overridden(credentials, step.request):
                outcome = await self._again_as(attempt, step, sent, plain, credentials, outcome, own, cleanup)
        if isinstance(outcome, Answer) and outcome.status in _REDIRECTS:
            outcome = await self._follow(attempt, sent, wire, outcome, credentials, cleanup=cleanup)
        if isinstance(outcome, TransportFailure):
            sent.error, sent.elapsed_ms = outcome.reason, round(outcome.elapsed_ms, 3)
            return sent, outcome
        attempt.made.note(step, plain, outcome)
        sent.answer, sent.status, sent.elapsed_ms = outcome, outcome.status, outcome.elapsed_ms
        if who is not None and not cleanup:
            if self._lockout.note(who, step, plain, outcome.status, began=began, ended=time.monotonic()):
                await self._look_for_lockout(attempt, step, who, thorough=outcome.status == 401)
        return sent, outcome

    async def _follow(
        self, attempt: _Attempt, sent: _Sent, wire: Wire, first: Answer, credentials: Credentials, *, cleanup: bool
    ) -> Answer | TransportFailure:
        """What a redirect leads to, as far as the policy follows it."""
        outcome: Answer | TransportFailure = first
        for _ in range(self._policy.follow_redirects):
            if isinstance(outcome, TransportFailure) or outcome.status not in _REDIRECTS:
                break
            target = next((value for name, value in outcome.headers if name.lower() == "location"), "")
            if not target or not self._may_send_extra(attempt):
                break
            try:
                wire = self._redirected(wire, target, outcome.status, credentials)
            except _Ended as ended:
                sent.error = ended.reason
                raise
            outcome = await self._send(attempt, sent, wire, cleanup=cleanup)
        return outcome

    def _who(self, attempt: _Attempt, step: Step, credentials: Credentials) -> str | None:
        """Whose credentials are sent that other cases use, too; None: wrong ones, or a session of the case's own."""
        if step.identity == INVALID_CREDENTIALS or overridden(credentials, step.request):
            return None
        return None if attempt.case.last and credentials.session else self._identities.named(step.identity)

    async def _look_for_lockout(self, attempt: _Attempt, step: Step, who: str, *, thorough: bool) -> None:
        """Ends the case where the credentials have stopped working."""
        login = self._login_sender(attempt)

        async def probe(request: Request, wire: Wire) -> int:
            try:
                used = await self._identities.credentials(step.identity, login)
                found = await login(apply(wire, used, request))
                if isinstance(found, Answer) and found.status == 401 and used.session:
                    anew = await self._identities.renewed(step.identity, used, login, at_once=True)
                    found = await login(apply(wire, anew, request)) if anew is not None else found
            except LoginError:
                return 401
            return found.status if isinstance(found, Answer) else 0

        if why := await self._lockout.look(who, step.operation, probe, thorough=thorough):
            raise _Ended("errored", why)

    async def _again_as(
        self,
        attempt: _Attempt,
        step: Step,
        sent: _Sent,
        plain: Wire,
        used: Credentials,
        first: Answer,
        own: str,
        cleanup: bool,
    ) -> Answer | TransportFailure:
        login = self._login_sender(attempt)
        renewed = await self._identities.renewed(step.identity, used, login, own=own)
        if renewed is None or not self._may_send_extra(attempt):
            return first
        sent.wire = apply(plain, renewed, step.request)
        return await self._send(attempt, sent, sent.wire, cleanup=cleanup)

    def _may_send_extra(self, attempt: _Attempt) -> bool:
        """Sets aside one request beyond those the case was planned with."""
        if not self._budget.extra():
            return False
        attempt.reserved += 1
        return True

    def _may_send_beside(self, attempt: _Attempt) -> bool:
        """Whether a login or a probe may be sent: from what nobody has set aside, else from what the case has."""
        return self._may_send_extra(attempt) or attempt.reserved > 0

    def _is_spent(self, attempt: _Attempt) -> bool:
        """No time or no request is left for it."""
        return time.monotonic() >= self._time_up or (attempt.reserved < 1 and not self._budget.affords(1))

    async def _send(
        self, attempt: _Attempt, sent: _Sent, wire: Wire, *, cleanup: bool = False, step: Step | None = None
    ) -> Answer | TransportFailure:
        """One request; where the target was down meanwhile it is waited for, and the request repeated where it may be.

        What is given back is the target's own: a target that is down ends the case.
        """
        repeats = 0
        while True:
            if self._breaker.open and not cleanup and not await self._back(attempt):
                raise self._down(attempt, sent, "")
            outcome = await self._send_once(attempt, sent, wire, cleanup=cleanup)
            if isinstance(outcome, TransportFailure) and outcome.kept and outcome.kind == "broken":
                outcome = await self._on_a_fresh_connection(attempt, sent, wire, outcome, cleanup=cleanup)
            if (
                isinstance(outcome, TransportFailure)
                and outcome.kind in ("broken", "unreachable")
                and self._plan.tls.cert
            ):
                if wire.anonymous or origin(wire.url) != self._base:  # it may have asked for the certificate
                    raise _Ended("skipped" if wire.anonymous else "errored", NOT_LET_IN)
            if isinstance(outcome, Answer):
                asks = outcome.status in patience.STATUSES and not cleanup
                if asks and await self._waited(attempt, sent, wire, outcome):
                    continue
                if outcome.status != _UNAVAILABLE or not self._looks_down(outcome, wire, step):
                    self._breaker.answered()
                    return outcome
            elif not self._looks_down(outcome, wire, step):
                return outcome
            now = time.monotonic()
            self._breaker.failed(now)
            if cleanup or self._killed or (isinstance(outcome, TransportFailure) and outcome.kind == "timeout"):
                return outcome
            untouched = isinstance(outcome, TransportFailure) and outcome.kind == "unreachable"
            reason = outcome.reason if isinstance(outcome, TransportFailure) else f"answered {outcome.status}"
            if not untouched and await self._is_there_for_others(sent.operation, now, attempt):
                return outcome
            most = _MOST_REPEATS if untouched else int(wire.method in _IDEMPOTENT)
            if repeats >= most or not await self._back(attempt, now) or not self._may_send_extra(attempt):
                if isinstance(outcome, Answer):
                    sent.answer, sent.status, sent.elapsed_ms = outcome, outcome.status, outcome.elapsed_ms
                raise self._down(attempt, sent, reason)
            repeats += 1
            sent.repeated = reason

    async def _on_a_fresh_connection(
        self, attempt: _Attempt, sent: _Sent, wire: Wire, first: TransportFailure, *, cleanup: bool
    ) -> Answer | TransportFailure:
        """What broke on a kept connection, once more on a fresh one where that can do no harm; else the first fault."""
        if wire.method not in _IDEMPOTENT:
            self._on_fresh_connections.add(sent.operation)
            return first
        if self._killed or not self._may_send_extra(attempt):
            return first
        sent.fresh, sent.repeated = True, first.reason
        return await self._send_once(attempt, sent, wire, cleanup=cleanup)

    def _looks_down(self, outcome: Answer | TransportFailure, wire: Wire, step: Step | None) -> bool:
        """Whether a target that is down would give this; it may as well be this one request's own fate."""
        if not self._policy.breaker_after or origin(wire.url) != self._base:
            return False
        if isinstance(outcome, TransportFailure):
            return outcome.silent or outcome.kind == "broken"
        return outcome.status == _UNAVAILABLE and not self._expects(step, outcome.status)

    def _expects(self, step: Step | None, status: int) -> bool:
        """The status says nothing of the target's state: the step or the target file asks for it."""
        if step is None or status in self._accepted.get(step.operation, ()):
            return True
        return any(isinstance(check, StatusIs) and status in check.any_of for check in step.checks)

    async def _waited(self, attempt: _Attempt, sent: _Sent, wire: Wire, answer: Answer) -> bool:
        """Whether the answer asked to come back later, that was waited for, and the request may be sent again."""
        if patience.retry_after_s(answer, datetime.now(UTC)) is None or self._expects(sent.step, answer.status):
            return False
        sent.asked_to_wait += 1
        seconds = self._patience(answer, repeatable=wire.method in _IDEMPOTENT)
        if seconds is None or sent.asked_to_wait > patience.TIMES or self.stopped or not self._may_send_extra(attempt):
            return False
        sent.waited_s = round(sent.waited_s + seconds, 3)
        sent.repeated = f"answered {answer.status}"
        await self._wait(attempt, seconds)
        return True

    def _patience(self, answer: Answer, *, repeatable: bool) -> float | None:
        """How long to wait before the request is sent again; None: not at all."""
        return patience.wait_s(
            answer,
            datetime.now(UTC),
            repeatable=repeatable,
            left_s=self._time_up - time.monotonic(),
            waited_s=self._waited_s,
            down_s=self._policy.breaker_wait_s,
        )

    async def _wait(self, attempt: _Attempt, seconds: float) -> None:
        """Because the target asked for it: not the case's own time."""
        self._waited_s += seconds
        attempt.deadline += seconds
        await self._pause(seconds, even_killed=False)
        if self._killed:
            raise _Ended("errored", STOPPED)

    def _down(self, attempt: _Attempt, sent: _Sent, reason: str) -> _Ended:
        if self.stopped or self._killed:
            return _Ended("errored", STOPPED)
        if self._is_spent(attempt):
            return _Ended("skipped", BUDGET_SPENT)
        self.target_down = True
        sent.error = reason or TARGET_DOWN
        return _Ended("errored", f"{TARGET_DOWN}: {reason}" if reason else TARGET_DOWN)

    async def _back(self, attempt: _Attempt, since: float = 0) -> bool:
        """Waits, probing, until the target answers; False when it is given up, or the run ends.

        `since`: only an answer to what was sent later counts; without it, later than a moment ago.
        """
        begun = time.monotonic()
        since = since or max(self._breaker.since, begun - PROBE_EVERY_S)
        try:
            while not await self._alive_since(since, attempt):
                since = now = time.monotonic()
                if self.stopped or self._is_spent(attempt) or self._breaker.given_up(now):
                    return False
                await self._pause(min(self._breaker.pause_s(now), self._time_up - now), even_killed=False)
            return True
        finally:
            attempt.deadline += time.monotonic() - begun  # waiting for the target is not the case's own time

    async def _is_there_for_others(self, operation: str, moment: float, attempt: _Attempt) -> bool:
        """Whether the target answers others after a request of this operation found it away.

        An operation for which that was so before is not worth a probe each time, while others are answered.
        """
        if self._own_fate[operation] >= _ENOUGH_PROBES and self._breaker.failures <= _UNPROBED_FAILURES:
            return True
        alive = await self._alive_since(moment, attempt)
        self._own_fate[operation] += alive
        return alive

    async def _alive_since(self, moment: float, attempt: _Attempt) -> bool:
        """Whether a request begun after this moment was answered; sends `GET /` where none was."""
        if self._alive_at > moment or self._probing is None:
            return self._alive_at > moment
        async with self._probing:
            if self._alive_at > moment or self._silent_at > moment:
                return self._alive_at > moment
            return await self._probe(attempt)

    async def _probe(self, attempt: _Attempt) -> bool:
        if not self._may_send_beside(attempt):
            return False
        if self._pace.limited:
            await self._pause(self._pace.wait_s(), even_killed=False)
        now = time.monotonic()
        wire = Wire(method="GET", url=f"{self._base_url}/", headers=(("Accept", "*/*"),))
        outcome = await self._send_beside(attempt, wire, min(_PROBE_S, self._policy.request_timeout_s))
        if isinstance(outcome, Answer) and outcome.status != _UNAVAILABLE:
            self._alive_at = max(self._alive_at, now)
            self._breaker.answered()
            return True
        self._silent_at = time.monotonic()
        self._breaker.failed(self._silent_at)
        return False

    async def _send_once(
        self, attempt: _Attempt, sent: _Sent, wire: Wire, *, cleanup: bool
    ) -> Answer | TransportFailure:
        """One request within every limit: rate, budget, time of the request, the case and the run."""
        if self._pace.limited and (wait := self._pace.wait_s()) > 0:
            attempt.deadline += wait  # waiting for the rate is not the case's own time
            await self._pause(min(wait, self._time_left(attempt, cleanup)), even_killed=cleanup)
        if self._killed and not cleanup:
            return TransportFailure(kind="stopped", reason=STOPPED)
        left = self._time_left(attempt, cleanup)
        if left <= 0:
            raise self._out_of_time(cleanup)
        if self._budget.limited and attempt.reserved < 1 and not self._may_send_extra(attempt):
            raise _Ended("skipped", BUDGET_SPENT)
        timeout_s = min(self._policy.request_timeout_s, left)
        repeat = wire.method in _IDEMPOTENT and self._may_send_extra(attempt)
        fresh = sent.fresh or (not repeat and sent.operation in self._on_fresh_connections)
        assert self._client is not None
        begun = time.monotonic()
        if self._trace is not None:
            wire = self._traced(wire, self._trace, attempt.case.id)
        self._in_flight += 1
        if self._in_flight > 1:
            self._crowded_at = begun
        try:
            exchange = await self._client.send(
                wire,
                timeout_s=timeout_s,
                repeat=repeat,
                keep=cleanup,
                fresh=fresh,
                streams=sent.operation in self._streaming,
                wanted=sent.wanted,
            )
        finally:
            self._in_flight -= 1
        count = exchange.sent
        if count > 1:
            sent.repeated = "closed without a response"
        sent.requests += count
        self._count(attempt, count)
        if repeat and count < 2:
            self._budget.give_back(1)
            attempt.reserved -= 1
        outcome = exchange.outcome
        self._note_load(sent, outcome, begun)
        if isinstance(outcome, Answer):
            self._answered = True
            if outcome.streaming:
                sent.streaming = True
                self._streaming.add(sent.operation)
            if outcome.status != _UNAVAILABLE:
                self._alive_at = max(self._alive_at, begun)
        elif outcome.kind == "timeout" and left <= timeout_s:
            self._breaker.failed(time.monotonic())
            ended = self._out_of_time(cleanup)
            sent.error, sent.elapsed_ms = ended.reason, round(outcome.elapsed_ms, 3)
            raise ended
        return outcome

    def _traced(self, wire: Wire, trace: Trace, case: str) -> Wire:
        """The request with the headers that say where it belongs, if the target wants them and it goes there."""
        if origin(wire.url) != self._base:
            return wire
        named = {name.lower() for name, _ in wire.headers}
        told = ((trace.run, self._run), (trace.case, case))
        added = tuple((name, quote(text, safe=_PLAIN)) for name, text in told if name and name.lower() not in named)
        return structs.replace(wire, headers=(*wire.headers, *added))

    def _note_load(self, sent: _Sent, outcome: Answer | TransportFailure, begun: float) -> None:
        """Fewer or more cases may run from now on, as the target bears it."""
        answer = None
        if isinstance(outcome, Answer):
            self._have_answered.add(sent.operation)
            if outcome.status < 400 and not self.concurrency.lowered_to:
                sent.overload = ""
                return
            answer = outcome
        elif outcome.kind != "timeout" or sent.operation not in self._have_answered:  # it may hang by itself
            return
        sent.overload = overload(answer)
        if sent.overload and answer is not None and self._expects(sent.step, answer.status):
            sent.overload = ""
        if not sent.overload:
            changed = self.concurrency.answered(begun=begun)
        else:
            now, alone = time.monotonic(), self._crowded_at < begun and not self._in_flight
            changed = self.concurrency.overloaded(sent.overload, sent.operation, begun=begun, at=now, alone=alone)
        if changed:
            self._wake()

    def _time_left(self, attempt: _Attempt, cleanup: bool) -> float:
        now = time.monotonic()
        if cleanup:
            by = attempt.deadline + _CLEANUP_AFTER_DEADLINE_S
            return min(by, attempt.cleanup_by, self._cleanup_by) - now
        return min(attempt.deadline, self._time_up) - now

    def _out_of_time(self, cleanup: bool) -> _Ended:
        if not cleanup and time.monotonic() >= self._time_up - 0.002:
            return _Ended("skipped", BUDGET_SPENT)
        return _Ended("errored", "case timeout")

    async def _pause(self, seconds: float, *, even_killed: bool) -> None:
        if even_killed or self._dead is None:
            await asyncio.sleep(max(0.0, seconds))
        elif seconds > 0:
            try:
                await asyncio.wait_for(self._dead.wait(), seconds)
            except TimeoutError:
                return

    def _redirected(self, wire: Wire, target: str, status: int, credentials: Credentials) -> Wire:
        """The request a redirect asks for, if the policy lets it go there; elsewhere it goes without credentials."""
        try:
            url = escape_target(urljoin(wire.url, target)).partition("%23")[0]
            here, there = origin(wire.url), origin(url)
        except (ValueError, TargetError) as error:
            raise _Ended("errored", "refused: redirect to something that is no http(s) URL") from error
        if not allowed(there, self._base, self._policy.hosts):
            raise _Ended("errored", f"refused: redirect to {there}, which the policy does not allow")
        headers, method, body = wire.headers, wire.method, wire.body
        if here != there:
            secret = _CREDENTIAL_HEADERS | {name.lower() for name, _ in credentials.headers}
            headers = tuple(p for p in headers if p[0].lower() not in secret and not sensitive(p[0]))
        if (status == 303 and method != "HEAD") or (status in (301, 302) and method == "POST"):
            method, body = "GET", None
            headers = tuple(p for p in headers if p[0].lower() != "content-type")
        return structs.replace(wire, url=url, headers=headers, method=method, body=body)

    def _login_sender(self, attempt: _Attempt) -> Callable[[Wire], Any]:
        async def send_once(wire: Wire) -> Answer | TransportFailure:
            left = min(attempt.deadline, self._time_up) - time.monotonic()
            wait = self._pace.wait_s() if self._pace.limited else 0.0
            if wait > 0:
                await self._pause(min(wait, left), even_killed=False)
            if self._killed:
                return TransportFailure(kind="stopped", reason=STOPPED)
            if not self._may_send_beside(attempt):
                raise _Ended("skipped", BUDGET_SPENT)
            return await self._send_beside(attempt, wire, min(self._policy.request_timeout_s, left - wait))

        async def send(wire: Wire) -> Answer | TransportFailure:
            outcome = await send_once(wire)
            for _ in range(patience.TIMES):
                seconds = self._patience(outcome, repeatable=True) if isinstance(outcome, Answer) else None
                if seconds is None:
                    break
                await self._wait(attempt, seconds)
                outcome = await send_once(wire)
            for _ in range(_MOST_REPEATS):
                if not self._looks_down(outcome, wire, None):
                    break
                now = time.monotonic()
                self._breaker.failed(now)
                if not await self._back(attempt, now):
                    self.target_down = True
                    break
                outcome = await send_once(wire)
            return outcome

        return send

    async def _send_beside(self, attempt: _Attempt, wire: Wire, timeout_s: float) -> Answer | TransportFailure:
        """A login or a probe: counted, but no step's. Over a connection of its own, so that it is sent once."""
        assert self._client is not None
        if self._trace is not None:
            wire = self._traced(wire, self._trace, attempt.case.id)
        exchange = await self._client.send(wire, timeout_s=timeout_s, fresh=True)
        self._count(attempt, exchange.sent)
        attempt.before += exchange.sent
        if isinstance(exchange.outcome, Answer):
            self._answered = True
        return exchange.outcome

    def _count(self, attempt: _Attempt, sent: int) -> None:
        """So many requests went out for this case."""
        self.requests_sent += sent
        self._budget.spend(sent)
        attempt.reserved -= sent

    async def _target_answers(self, attempt: _Attempt) -> bool:
        """The target has given a whole answer in this run, or gives one to `GET /` now."""
        if self._answered or self._probing is None:
            return self._answered
        async with self._probing:
            if not self._answered and time.monotonic() - self._probed_at > _PROBE_AGAIN_S:
                await self._probe(attempt)
                self._probed_at = time.monotonic()
            return self._answered

    async def _judge_fault(self, attempt: _Attempt, index: int, step: Step, fault: TransportFailure) -> None:
        """A step without a whole answer: a failure where that is the target's fault, else the end of the case."""
        if fault.kind == "broken":
            if not await self._target_answers(attempt):
                raise _Ended("errored", f"{TARGET_DOWN}: {fault.reason}")
            if fault.kept:
                raise _BrokenOnKept("errored", f"on a kept connection: {fault.reason}")
            attempt.failures.append(
                Failure(
                    check=NO_ANSWER,
                    operation=step.operation,
                    message=f"no whole response: {fault.reason}",
                    cause=fault.reason,
                    step=index,
                )
            )
            return
        if fault.kind == "timeout":
            now = time.monotonic()
            slow = self._slow(step, fault.elapsed_ms, attempt, index)
            if slow and fault.silent and self._policy.breaker_after and not await self._alive_since(now, attempt):
                self.target_down = True
                raise _Ended("errored", f"{TARGET_DOWN}: {fault.reason}")
            if slow and await self._slow_again(attempt, index, step):
                attempt.failures += slow
                return
        raise _Ended("errored", fault.reason)

    def _slow(self, step: Step, elapsed_ms: float, attempt: _Attempt, index: int) -> tuple[Failure, ...]:
        """What the step's limit of the response time alone says of this duration."""
        limits = tuple(check for check in step.checks if isinstance(check, MaxResponseTime))
        if not limits:
            return ()
        answer = Answer(status=200, elapsed_ms=elapsed_ms)
        found = self._judge.judge(structs.replace(step, checks=limits), answer, attempt.captured, index=index)
        return tuple(failure for failure in found if failure.check == _MAX_RESPONSE_TIME)

    async def _slow_again(self, attempt: _Attempt, index: int, step: Step) -> bool:
        """Whether a second, equal request is too slow as well; an unsafe one is not sent twice and counts as slow."""
        if step.request.method not in SAFE_METHODS:
            return True
        if not self._may_send_extra(attempt):
            return False
        first = attempt.sent[-1]
        try:
            again = await self._send(attempt, first, first.wire)
        except _Ended:
            return False
        if isinstance(again, TransportFailure) and again.kind != "timeout":
            return False
        return bool(self._slow(step, again.elapsed_ms, attempt, index))

    async def _clean_up(self, attempt: _Attempt) -> None:
        """Sends the cleanup steps whose captures exist, then deletes what else the case made; nothing counts here."""
        case = attempt.case
        names = {capture.name for step in (*case.steps, *case.cleanup) for capture in step.captures}
        if time.monotonic() >= self._time_up:
            attempt.cleanup_by = time.monotonic() + _CLEANUP_AFTER_STOP_S
        for step in case.cleanup:
            if self._policy.methods == "safe" and step.request.method not in SAFE_METHODS:
                continue
            if (placeholders(step.request) & names) - attempt.captured.keys():
                continue
            if placeholders(step.request) & attempt.foreign or self._rights.denied(step):
                continue
            try:
                _, outcome = await self._exchange(attempt, step, attempt.deadline, cleanup=True)
                if isinstance(outcome, Answer):
                    self._rights.note_cleanup(step, outcome.status)
                    _capture(step.captures, outcome, attempt.captured)
            except _Ended:
                continue
        for thing in attempt.made.left():
            if thing.request is not None and thing.removal is not None:
                await self._remove(attempt, thing)

    async def _remove(self, attempt: _Attempt, thing: Thing) -> None:
        """Deletes what a case made, if a request is left for it; otherwise notes why it stays."""
        assert thing.request is not None and thing.removal is not None
        step = Step(operation=thing.removal.operation, request=thing.request, identity=thing.identity)
        if denied := self._rights.denied(step):
            thing.why = f"DELETE answered {denied}"
            return
        if not self._may_send_extra(attempt):
            thing.why = BUDGET_SPENT
            return
        try:
            sent, _ = await self._exchange(attempt, step, attempt.deadline, cleanup=True)
        except _Ended as ended:
            thing.why = ended.reason
            return
        self._rights.note_cleanup(step, sent.status)
        thing.why = f"DELETE answered {sent.status}" if sent.status else "DELETE was not answered"

    # -- results

    def _not_allowed(self, case: Case) -> str:
        if self._policy.methods == "safe":
            for step in case.steps:
                if step.request.method not in SAFE_METHODS:
                    return f"not allowed by policy: {step.request.method}"
        return ""

    def _not_run(self, case: Case, verdict: VerdictName, reason: str, attempt: _Attempt | None = None) -> Result:
        if attempt is not None:
            self._budget.give_back(attempt.reserved)
        return Result(
            run=self._run,
            case=case.id,
            attempt=self._attempt,
            case_name=case.name,
            operation=case.operation,
            intent=case.intent,
            verdict=verdict,
            reason=reason,
            started=datetime.now(UTC),
            origin=case.origin.source,
            requests=attempt.before if attempt is not None else 0,
            repeat=case.repeat,
        )

    def _result(self, attempt: _Attempt, verdict: VerdictName, reason: str, started: datetime) -> Result:
        case, failures = attempt.case, tuple(attempt.failures)
        elapsed_ms = round((time.monotonic() - attempt.started) * 1000, 3)
        if verdict == "passed":
            steps = tuple([_outcome(sent, None) for sent in attempt.sent])
        else:
            redactor = self._redactor(attempt)
            steps = tuple(_outcome(sent, redactor) for sent in attempt.sent)
            reason = redactor.text(reason)
            failures = tuple(
                structs.replace(
                    f,
                    message=_short(redactor.text(f.message)),
                    cause=_short(redactor.text(f.cause)),
                    sent=steps[f.step].sent if f.step < len(steps) else "",
                )
                for f in failures
            )
        if self._plan.observe:
            steps = self._observed(attempt, steps)
        result = Result(  # no more than 15 arguments: CPython makes a dict of more, which costs four times as much
            run=self._run,
            case=case.id,
            attempt=self._attempt,
            case_name=case.name,
            operation=case.operation,
            intent=case.intent,
            verdict=verdict,
            reason=reason,
            failures=failures,
            steps=steps,
            requests=attempt.before + sum([sent.requests for sent in attempt.sent]),
            elapsed_ms=elapsed_ms,
            started=started,
            origin=case.origin.source,
        )
        lowered_to, left = self.concurrency.lowered_to, attempt.made.report()
        if verdict != "passed" or lowered_to or left or attempt.withheld or case.repeat:
            result = structs.replace(
                result,
                performed=_performed(attempt) if verdict == "failed" else (),
                concurrency=lowered_to,
                left=left,
                withheld=attempt.withheld,
                repeat=case.repeat,
            )
        return result

    def _observed(self, attempt: _Attempt, steps: tuple[StepOutcome, ...]) -> tuple[StepOutcome, ...]:
        """The outcomes with what a further round can learn from the answers."""
        redactor = self._redactor(attempt)
        told: list[StepOutcome] = []
        for sent, outcome in zip(attempt.sent, steps, strict=True):
            if sent.answer is not None and 200 <= sent.status < 300:
                outcome = structs.replace(outcome, seen=evidence.of_success(sent.answer, redactor))
            elif sent.answer is not None and 400 <= sent.status < 500:
                outcome = structs.replace(outcome, said=evidence.of_refusal(sent.answer, redactor))
            told.append(outcome)
        return tuple(told)

    def _redactor(self, attempt: _Attempt) -> Redactor:
        """Masks what the identities know, and what the case has captured under the name of a credential."""
        own = {
            str(attempt.captured[capture.name])
            for step in (*attempt.case.steps, *attempt.case.cleanup)
            for capture in step.captures
            if capture.name in attempt.captured and (sensitive(capture.name) or sensitive(capture.path))
        }
        secrets = self._identities.secrets
        if own - secrets:
            return Redactor(secrets | own)
        if self._shared_redactor is None or self._shared_redactor[0] != len(secrets):
            self._shared_redactor = (len(secrets), Redactor(secrets))
        return self._shared_redactor[1]


def _performed(attempt: _Attempt) -> tuple[Step, ...]:
    """The steps as they were executed, with the values of things that exist in them; none where they are the case's."""
    steps = tuple(attempt.performed)
    refused = {
        index
        for index, (step, sent) in enumerate(zip(steps, attempt.sent, strict=False))
        if step.setup and not 200 <= sent.status < 300
    }
    if not refused and steps == attempt.case.steps[: len(steps)]:
        return ()
    steps = tuple(structs.replace(step, captures=()) if n in refused else step for n, step in enumerate(steps))
    own = {capture.name for step in steps for capture in step.captures} | {"unique"}
    values = {name: value for name, value in attempt.captured.items() if name not in own}
    return tuple(structs.replace(step, request=with_values(step.request, values)) for step in steps)


def _capture(captures: tuple[Capture, ...], answer: Answer, captured: dict[str, Any]) -> None:
    """Keeps what the captures select.

    Raises:
        _Ended: one that is not optional selects nothing.
    """
    document: Any = None
    decoded = False
    for capture in captures:
        found: list[Any]
        if capture.source == "status":
            found = [answer.status]
        elif capture.source == "header":
            wanted = capture.path.lower()
            found = [value for name, value in answer.headers if name.lower() == wanted]
        else:
            if not decoded:
                decoded = True
                try:
                    document = msgspec.json.decode(answer.body)
                except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
                    document = _NO_DOCUMENT
            try:
                found = [] if document is _NO_DOCUMENT else select(capture.path, document)
            except CaseError as error:
                raise _Ended("errored", f"capture {capture.name}: {error.what}") from error
        if found:
            captured[capture.name] = found[0]
        elif not capture.optional:
            why = why_unjudged(answer) if capture.source == "body" else ""
            raise _Ended("errored", f"capture {capture.name} selected nothing" + (f": {why}" if why else ""))


def _planned(case: Case) -> int:
    return len(case.steps) + len(case.cleanup)


def _by_need(last: Sequence[Case]) -> tuple[list[Case], list[Case]]:
    """Of cases that come last the first of every operation: those that send it as documented, and then others."""
    documented = _first_of_each(case for case in last if case.intent == "positive")
    return documented, _first_of_each(case for case in last if case.intent != "positive")


def _first_of_each(cases: Iterable[Case]) -> list[Case]:
    """The first case of every operation, in order."""
    first: dict[str, Case] = {}
    for case in cases:
        first.setdefault(case.operation, case)
    return list(first.values())


def _after_202(step: Step) -> Step:
    """The step without what it expects of the effect of an earlier one that was only accepted (RFC 9110, 15.3.3): the
    thing may not be there yet, or still be there. What people have written stays.
    """
    kept = tuple(check for check in step.checks if check.basis == "human" or not isinstance(check, _ON_AN_EFFECT))
    return structs.replace(step, checks=kept)


def _short(text: str) -> str:
    return text if len(text) <= _LONGEST_MESSAGE else text[:_LONGEST_MESSAGE] + "…"


def _outcome(sent: _Sent, redactor: Redactor | None) -> StepOutcome:
    if redactor is None:
        return StepOutcome(
            operation=sent.operation,
            sent=sent.instead,
            status=sent.status,
            elapsed_ms=sent.elapsed_ms,
            requests=sent.requests,
            error=sent.error,
            repeated=sent.repeated,
            streaming=sent.streaming,
            overload=sent.overload,
            asked_to_wait=sent.asked_to_wait,
            waited_s=sent.waited_s,
            unjudged=sent.unjudged,
        )
    return StepOutcome(
        operation=sent.operation,
        sent=redactor.text(sent.instead),
        status=sent.status,
        elapsed_ms=sent.elapsed_ms,
        requests=sent.requests,
        error=redactor.text(sent.error),
        repeated=sent.repeated,
        streaming=sent.streaming,
        overload=sent.overload,
        asked_to_wait=sent.asked_to_wait,
        waited_s=sent.waited_s,
        unjudged=sent.unjudged,
        request=evidence.of_request(sent.wire, redactor),
        response=evidence.of_response(sent.answer, redactor) if sent.answer is not None else None,
    )


def run(
    engine: Engine,
    cases: Iterable[Case] | AsyncIterable[Case] | AsyncIterable[list[Case]],
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
