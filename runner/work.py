"""One batch in, results out: what every runner does, whatever started it."""

from __future__ import annotations

import asyncio
import itertools
import signal
import sys
import threading
import time
import traceback
from collections import Counter
from collections.abc import AsyncIterator, Iterable
from typing import Protocol

import msgspec

from runner.cases import OpenCases, Work
from runner.limits import limited
from testops_lib.bus.client import Bus
from testops_lib.errors import BusError, ExpiredBatchError, TestOpsError
from testops_lib.execute import Engine
from testops_lib.launch.exit_codes import CONFIGURATION, DONE, RETRY
from testops_lib.launch.runner import STOP_S, deadline_s
from testops_lib.launch.shares import least_rate
from testops_lib.launch.target_down import after_waiting, runner_wait_s
from testops_lib.model import Case, Result, Value
from testops_lib.settings import Settings, reread_dotenv
from testops_lib.text import printable


class Supervisor(Protocol):
    """Follows the execution of a batch, and may end it early."""

    @property
    def given_back(self) -> bool:
        """Another runner executes the batch, or it is executed later: it must not begin any more."""

    def begin(self, engine: Engine) -> None:
        """The engine is about to start."""

    def result(self, result: Result) -> None:
        """A result is on its way."""


class BatchEnd(Value, frozen=True, kw_only=True):
    """How a batch ended."""

    code: int
    """A runner's exit code."""
    text: str
    """One or a few lines: counts, and what went wrong."""
    requests: int = 0


def execute(work: Work, settings: Settings, supervisor: Supervisor | None = None) -> BatchEnd:
    """Executes the batch; its results are acknowledged when this returns.

    Raises:
        TestOpsError: it could not be executed; `failure` says what that means.
    """
    reread_dotenv()  # a fleet runner lives long
    bus = Bus(settings.need_kafka(), options=settings.kafka_options, timeout_s=settings.kafka_timeout_s)
    plan, contracts = bus.plans.read(work.plan, work.run, deadline_s=settings.kafka_timeout_s)
    policy_wait_s = plan.policy.breaker_wait_s
    policy = msgspec.structs.replace(plan.policy, breaker_wait_s=runner_wait_s(policy_wait_s, work.down_since))
    plan = msgspec.structs.replace(plan, policy=policy)
    engine = Engine(plan, contracts, run=work.run, attempt=work.attempt, proxy=settings.proxy)
    engine.limit(concurrency=0, requests_per_second=0)
    limit_s = work.deadline_s or deadline_s(work.batch, least_rate(policy, settings.fleet_partitions))
    cases = OpenCases(bus, work, plan, limit_s)
    verdicts: Counter[str] = Counter()

    async def drive() -> None:
        async for result in _results(engine, cases, ends_at, cases.read_ahead):
            writer.write(result)
            verdicts[result.verdict] += 1
            if supervisor:
                supervisor.result(result)
            if result.verdict == "failed":
                failure = result.failures[0]
                print(f"failed: {printable(failure.operation)} {failure.check} (case {result.case})", flush=True)

    with (
        bus.results.writer(patience_s=limit_s) as writer,
        limited(bus, plan, engine, limit_s, lambda: supervisor is not None and supervisor.given_back),
        asyncio.Runner(loop_factory=new_loop) as loop,
    ):
        ends_at = time.monotonic() + limit_s
        cases.read_verdicts()  # not before we have a share: then a runner that died with the batch has none
        if supervisor:
            supervisor.begin(engine)
        loop.run(drive())
        # Results wait for Kafka as long as the batch may last; not when a signal ends us.
        writer.flush(settings.kafka_timeout_s if engine.stopped else max(0.0, ends_at - time.monotonic()))
    counts = verdicts + cases.left_out
    summary = ", ".join(f"{count} {kind}" for kind, count in sorted(counts.items())) or "no case of this run"
    summary = f"{summary}; {engine.requests_sent} requests"
    print(f"{work.batch}: {summary}", flush=True)
    if adaptation := str(engine.concurrency):
        print(f"{work.batch}: {adaptation}", flush=True)
    code, why = DONE, ""
    if engine.stopped:
        by = f"the deadline of {limit_s:g} s" if time.monotonic() >= ends_at - STOP_S else "a signal"
        code, why = RETRY, f"stopped before the end by {by}: the batch must be executed again"
    elif engine.target_gone:
        code, why = after_waiting(policy_wait_s, work.down_since, time.time())
    elif engine.target_down:
        code, why = RETRY, "the target was down: what it did not answer must be executed again"
    if why:
        print(why, file=sys.stderr, flush=True)
    return BatchEnd(code=code, text=f"{summary}\n{why}".rstrip(), requests=engine.requests_sent)


async def _results(engine: Engine, cases: Iterable[Case], ends_at: float, chunk: int) -> AsyncIterator[Result]:
    loop = asyncio.get_running_loop()
    alarm = loop.call_later(max(0.0, ends_at - STOP_S - time.monotonic()), engine.stop)
    for number in (signal.SIGTERM, signal.SIGINT):
        if threading.current_thread() is threading.main_thread():
            loop.add_signal_handler(number, engine.stop)
    async for result in engine.run(_ahead(cases, chunk)):
        yield result
    alarm.cancel()


async def _ahead(cases: Iterable[Case], size: int) -> AsyncIterator[list[Case]]:
    """The cases, read in a thread so that Kafka never holds up the requests."""
    iterator = iter(cases)
    while chunk := await asyncio.to_thread(lambda: list(itertools.islice(iterator, size))):
        yield chunk


def failure(error: Exception) -> BatchEnd:
    """How a batch ended with this error; the error is written to the error output as well."""
    if not isinstance(error, TestOpsError):
        traceback.print_exception(error)
        return BatchEnd(code=RETRY, text=f"{type(error).__name__}: {error}")
    print(error, file=sys.stderr, flush=True)
    is_infrastructure = isinstance(error, BusError) and not isinstance(error, ExpiredBatchError)
    return BatchEnd(code=RETRY if is_infrastructure else CONFIGURATION, text=str(error))


def new_loop() -> asyncio.AbstractEventLoop:
    """The event loop of an engine."""
    import uvloop

    return uvloop.new_event_loop()
