"""`python -m runner`: one batch in, results out.

Exit codes: 0 done (failing tests are a result, not an error); 1 infrastructure, worth a retry; 2 configuration,
a retry would not help.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import os
import signal
import sys
import threading
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Sequence

import msgspec

from testops_lib import batch as batches
from testops_lib import settings as configuration
from testops_lib.bus import Bus
from testops_lib.errors import BusError, ExpiredBatchError, TestOpsError
from testops_lib.execute import Engine
from testops_lib.model import Case, Plan, Result

DONE, RETRY, CONFIGURATION = 0, 1, 2

JUDGED_BEFORE = "judged before"

STOP_S = 8
"""What the engine needs to end: what is in flight, and its cleanup."""

CHUNK = 100
"""Cases read ahead of the engine at a time."""

EXAMPLES = """examples:
  python -m runner --run nightly-7 --plan testops.plans:0:3-40 --batch testops.cases:0:100-180
  python -m runner --run nightly-7 --plan testops.plans:0:3-40 --batch testops.cases:0:100-180 --again 0:120,1:98

environment: TESTOPS_KAFKA_BOOTSTRAP, TESTOPS_KAFKA_OPTIONS, and the secrets that the target's file names.
exit codes:  0 done, failing tests included; 1 infrastructure (retry); 2 configuration (do not retry)
"""


def arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """The parsed command line."""
    parser = argparse.ArgumentParser(
        "python -m runner",
        description="Executes one batch of cases.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=os.environ.get("TESTOPS_VERSION") or "from the source")
    parser.add_argument("--run", required=True, help="the run the cases belong to; records of other runs are skipped")
    parser.add_argument("--plan", required=True, help="slice that holds the plan and the contracts")
    parser.add_argument("--batch", required=True, help="slice of cases: TOPIC:PARTITION:FIRST-END, END exclusive")
    parser.add_argument("--attempt", type=int, default=1, help="which execution within the run this is (default 1)")
    parser.add_argument(
        "--share",
        type=int,
        default=1,
        help="how many runners share the target's rate and concurrency; each takes its part (default 1)",
    )
    parser.add_argument(
        "--again",
        default="",
        metavar="POSITIONS",
        help="the batch may have been executed before: cases of this run and attempt that passed or failed already are "
        "left out. Where the run's results begin: PARTITION:OFFSET,… (empty: the batch is executed for the first time)",
    )
    parser.add_argument(
        "--deadline",
        type=float,
        default=0,
        metavar="SECONDS",
        help="after this long the runner ends, whatever the target does; what is left must be executed again "
        f"(default {batches.DEADLINE_S}, and more where the target's rate asks for it)",
    )
    return parser.parse_args(argv)


def part(plan: Plan, share: int) -> Plan:
    """The plan with one runner's part of the target's rate and concurrency."""
    policy = plan.policy
    reduced = msgspec.structs.replace(
        policy,
        concurrency=max(1, policy.concurrency // share),
        requests_per_second=policy.requests_per_second / share,
    )
    return msgspec.structs.replace(plan, policy=reduced)


async def _ahead(cases: Iterator[Case]) -> AsyncIterator[list[Case]]:
    """The cases, read in a thread so that Kafka never holds up the requests."""
    while chunk := await asyncio.to_thread(lambda: list(itertools.islice(cases, CHUNK))):
        yield chunk


async def _execute(engine: Engine, cases: Iterator[Case], ends_at: float) -> AsyncIterator[Result]:
    loop = asyncio.get_running_loop()
    alarm = loop.call_later(max(0.0, ends_at - STOP_S - time.monotonic()), engine.stop)
    for number in (signal.SIGTERM, signal.SIGINT):
        if threading.current_thread() is threading.main_thread():
            loop.add_signal_handler(number, engine.stop)
    async for result in engine.run(_ahead(cases)):
        yield result
    alarm.cancel()


def work(args: argparse.Namespace) -> int:
    """Executes the batch; gives the exit code."""
    begun = time.monotonic()
    settings = configuration.read()
    plan_at, batch = batches.parse(args.plan), batches.parse(args.batch)
    again = batches.parse_positions(args.again)
    bus = Bus(settings.need_kafka(), options=settings.kafka_options, timeout_s=settings.kafka_timeout_s)
    plan, contracts = bus.read_plan(plan_at, args.run, deadline_s=settings.kafka_timeout_s)
    plan = part(plan, max(1, args.share))
    engine = Engine(plan, contracts, run=args.run, attempt=args.attempt)
    limit_s = args.deadline or batches.deadline_s(batch, plan.policy.requests_per_second)
    judged = bus.judged_cases(again, args.run, attempt=args.attempt) if again else set()
    verdicts: Counter[str] = Counter()

    def missing() -> Iterator[Case]:
        for case in bus.read_cases(batch, args.run, deadline_s=settings.kafka_timeout_s):
            if case.id in judged:
                verdicts[JUDGED_BEFORE] += 1
            else:
                yield case

    async def drive() -> None:
        async for result in _execute(engine, missing(), begun + limit_s):
            writer.write(result)
            verdicts[result.verdict] += 1
            if result.verdict == "failed":
                failure = result.failures[0]
                print(f"failed: {failure.operation} {failure.check} (case {result.case})", flush=True)

    with bus.results_writer() as writer, asyncio.Runner(loop_factory=_loop) as loop:
        loop.run(drive())
        writer.flush()
    told = ", ".join(f"{count} {verdict}" for verdict, count in sorted(verdicts.items())) or "no case of this run"
    print(f"{args.batch}: {told}; {engine.requests_sent} requests", flush=True)
    if engine.stopped:
        why = f"the deadline of {limit_s:g} s" if time.monotonic() - begun >= limit_s - STOP_S else "a signal"
        print(f"stopped before the end by {why}: the batch must be executed again", file=sys.stderr)
        return RETRY
    if engine.target_down:
        print("the target was down: what it did not answer must be executed again", file=sys.stderr)
        return RETRY
    return DONE


def _loop() -> asyncio.AbstractEventLoop:
    import uvloop

    return uvloop.new_event_loop()


def main(argv: Sequence[str] | None = None) -> int:
    """The entry point; gives the exit code."""
    args = arguments(argv)
    if threading.current_thread() is threading.main_thread():
        # Until the engine takes the signal over: the first process of a container has no default for it.
        signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(RETRY))
    try:
        return work(args)
    except ExpiredBatchError as error:
        print(error, file=sys.stderr)
        return CONFIGURATION
    except BusError as error:
        print(error, file=sys.stderr)
        return RETRY
    except TestOpsError as error:
        print(error, file=sys.stderr)
        return CONFIGURATION


if __name__ == "__main__":
    sys.exit(main())
