"""One batch in, results out: what every runner does, whoever told it to."""

from __future__ import annotations

import asyncio
import itertools
import signal
import sys
import threading
import time
import traceback
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Protocol

import msgspec

from testops_lib.bus import batch as batches
from testops_lib.bus.client import Bus
from testops_lib.bus.shares import ShareHolder
from testops_lib.errors import BusError, ExpiredBatchError, TestOpsError
from testops_lib.execute import Engine
from testops_lib.execute.wire import origin
from testops_lib.launch import fleet as shares
from testops_lib.launch.exit_codes import CONFIGURATION, DONE, RETRY, TARGET_DOWN
from testops_lib.launch.target_down import runner_wait_s
from testops_lib.model import IN_DOUBT, SAFE_METHODS, Batch, Case, Plan, Result, Value, VerdictName, execution_key
from testops_lib.settings import Settings, reread_dotenv
from testops_lib.text import printable

JUDGED_BEFORE = "judged before"
LEFT_IN_DOUBT = "left in doubt"

STOP_S = 8
"""What the engine needs to end: what is in flight, and its cleanup."""

WAKE_S = 0.5
"""While a part of the target's limits is waited for, whoever wants the work back is heard so often."""

CHUNK = 100
"""Cases read ahead of the engine at a time."""


class Work(Value, frozen=True, kw_only=True):
    """A batch, and what must be known to execute it."""

    run: str
    plan: Batch
    batch: Batch
    attempt: int = 1
    again: dict[int, int] = msgspec.field(default_factory=dict)
    """Where the run's results begin, when the batch may have been executed before."""
    deadline_s: float = 0
    """0: what the batch needs at its rate."""
    down_since: float = 0
    """When an earlier runner found the target down (seconds since the epoch); 0: it was not."""


class Hand(Protocol):
    """Somebody who follows the work and has a hand on its engine."""

    @property
    def given_back(self) -> bool:
        """It is not to be begun any more."""

    def begin(self, engine: Engine) -> None:
        """The engine is about to start."""

    def result(self, result: Result) -> None:
        """A result is on its way."""


class Done(Value, frozen=True, kw_only=True):
    """How a batch ended."""

    code: int
    text: str
    """One or a few lines: counts, and what went wrong."""
    requests: int = 0


@contextmanager
def shared(bus: Bus, plan: Plan, engine: Engine, limit_s: float, ends: Callable[[], bool]) -> Iterator[None]:
    """The engine has this runner's part of the target's limits, as large as the others leave it at each moment.

    Entered when there is such a part, or `ends`.

    Raises:
        BusError: Kafka does not say which part is ours, or there was none for `limit_s`; on leaving, too.
    """

    def narrow(holder: ShareHolder) -> None:
        own = shares.share(plan.policy, holder.partitions, holder.assigned)
        engine.limit(concurrency=own.concurrency, requests_per_second=own.requests_per_second)
        if holder.trouble is not None:
            engine.stop()

    def has_part() -> bool:
        return shares.share(plan.policy, holder.partitions, holder.assigned).concurrency > 0

    begun = time.monotonic()
    with bus.shares.hold(str(origin(plan.base_url)), narrow, patience_s=limit_s) as holder:
        while not holder.wait(has_part, WAKE_S) and not ends():
            if time.monotonic() - begun > limit_s:
                raise BusError(
                    "other runners have all of the target's limits", where=plan.base_url, next_step="repeat it later"
                )
        yield
        if holder.trouble is not None:
            raise holder.trouble


async def _ahead(cases: Iterator[Case], size: int) -> AsyncIterator[list[Case]]:
    """The cases, read in a thread so that Kafka never holds up the requests."""
    while chunk := await asyncio.to_thread(lambda: list(itertools.islice(cases, size))):
        yield chunk


def is_unsafe(case: Case) -> bool:
    """Whether a request of the case may change something."""
    return any(step.request.method not in SAFE_METHODS for step in (*case.steps, *case.cleanup))


def in_doubt(case: Case, work: Work) -> Result:
    """What is known of a case while it is executed; its own result takes the place of this."""
    return Result(
        run=work.run,
        case=case.id,
        attempt=work.attempt,
        repeat=case.repeat,
        case_name=case.name,
        operation=case.operation,
        intent=case.intent,
        verdict="errored",
        reason=IN_DOUBT,
        started=datetime.now(UTC),
        origin=case.origin.source,
    )


async def _execute(engine: Engine, cases: Iterator[Case], ends_at: float, chunk: int) -> AsyncIterator[Result]:
    loop = asyncio.get_running_loop()
    alarm = loop.call_later(max(0.0, ends_at - STOP_S - time.monotonic()), engine.stop)
    for number in (signal.SIGTERM, signal.SIGINT):
        if threading.current_thread() is threading.main_thread():
            loop.add_signal_handler(number, engine.stop)
    async for result in engine.run(_ahead(cases, chunk)):
        yield result
    alarm.cancel()


def execute(work: Work, settings: Settings, hand: Hand | None = None) -> Done:
    """Executes the batch; its results are acknowledged when this returns.

    Raises:
        TestOpsError: it could not be executed; `told` says what that means.
    """
    reread_dotenv()  # a fleet's member stands for long
    bus = Bus(settings.need_kafka(), options=settings.kafka_options, timeout_s=settings.kafka_timeout_s)
    plan, contracts = bus.plans.read(work.plan, work.run, deadline_s=settings.kafka_timeout_s)
    patience_s = plan.policy.breaker_wait_s
    here_s = runner_wait_s(patience_s, work.down_since)
    plan = msgspec.structs.replace(plan, policy=msgspec.structs.replace(plan.policy, breaker_wait_s=here_s))
    engine = Engine(plan, contracts, run=work.run, attempt=work.attempt, proxy=settings.proxy)
    engine.limit(concurrency=0, requests_per_second=0)
    rate = shares.least_rate(plan.policy, settings.fleet_partitions)
    limit_s = work.deadline_s or batches.deadline_s(work.batch, rate)
    before: dict[str, VerdictName] = {}
    verdicts: Counter[str] = Counter()
    careful = plan.policy.on_doubt == "error"
    chunk = max(1, plan.policy.concurrency) if careful else CHUNK

    def missing() -> Iterator[Case]:
        for case in bus.cases.read(work.batch, work.run, deadline_s=limit_s):
            verdict = before.get(execution_key(case.id, case.repeat))
            if verdict in ("passed", "failed"):
                verdicts[JUDGED_BEFORE] += 1
            elif careful and verdict == "errored" and is_unsafe(case):
                verdicts[LEFT_IN_DOUBT] += 1
            else:
                yield case

    def marked() -> Iterator[Case]:
        """The cases; of some at a time it is known in Kafka that they have begun, before they do."""
        cases, size = missing(), max(1, plan.policy.concurrency)
        with bus.results.writer(patience_s=limit_s) as marks:
            while some := list(itertools.islice(cases, size)):
                for case in filter(is_unsafe, some):
                    marks.write(in_doubt(case, work))
                marks.flush()
                yield from some

    async def drive() -> None:
        async for result in _execute(engine, marked() if careful else missing(), ends_at, chunk):
            writer.write(result)
            verdicts[result.verdict] += 1
            if hand:
                hand.result(result)
            if result.verdict == "failed":
                failure = result.failures[0]
                print(f"failed: {printable(failure.operation)} {failure.check} (case {result.case})", flush=True)

    with (
        bus.results.writer(patience_s=limit_s) as writer,
        shared(bus, plan, engine, limit_s, lambda: hand is not None and hand.given_back),
        asyncio.Runner(loop_factory=new_loop) as loop,
    ):
        ends_at = time.monotonic() + limit_s
        if work.again:  # not before we have a part: then whoever died with the batch has none
            before |= bus.results.verdicts(work.again, work.run, attempt=work.attempt)
        if hand:
            hand.begin(engine)
        loop.run(drive())
        # Results wait for Kafka as long as the batch may last; not when we were told to end.
        writer.flush(settings.kafka_timeout_s if engine.stopped else max(0.0, ends_at - time.monotonic()))
    told = ", ".join(f"{count} {verdict}" for verdict, count in sorted(verdicts.items())) or "no case of this run"
    print(f"{work.batch}: {told}; {engine.requests_sent} requests", flush=True)
    if slowed := str(engine.concurrency):
        print(f"{work.batch}: {slowed}", flush=True)
    code, why = DONE, ""
    if engine.stopped:
        by = f"the deadline of {limit_s:g} s" if time.monotonic() >= ends_at - STOP_S else "a signal"
        code, why = RETRY, f"stopped before the end by {by}: the batch must be executed again"
    elif engine.target_gone:
        silent_s = time.time() - work.down_since if work.down_since else here_s
        if silent_s < patience_s:
            code = TARGET_DOWN
            why = f"the target is down for {silent_s:.0f} s; it is waited for {patience_s:g} s in all"
        else:
            why = f"target down: it was waited for {patience_s:g} s; what it did not answer is skipped"
    elif engine.target_down:
        code, why = RETRY, "the target was down: what it did not answer must be executed again"
    if why:
        print(why, file=sys.stderr, flush=True)
    text = f"{told}; {engine.requests_sent} requests" + (f"\n{why}" if why else "")
    return Done(code=code, text=text, requests=engine.requests_sent)


def told(error: Exception) -> Done:
    """What an error that ended the work means, for whoever may try again; written to the error output as well."""
    if not isinstance(error, TestOpsError):
        traceback.print_exception(error)
        return Done(code=RETRY, text=f"{type(error).__name__}: {error}")
    print(error, file=sys.stderr, flush=True)
    lost = isinstance(error, BusError) and not isinstance(error, ExpiredBatchError)
    return Done(code=RETRY if lost else CONFIGURATION, text=str(error))


def new_loop() -> asyncio.AbstractEventLoop:
    """The event loop of an engine."""
    import uvloop

    return uvloop.new_event_loop()
