"""`python -m runner`: one batch in, results out; or, with `--group`, one batch after the other as a fleet runner.

Exit codes: 0 done (failing tests are a result, not an error); 1 infrastructure, worth a retry; 2 configuration,
a retry would not help; 3 the target is down, and its policy waits longer: start it again, with --down-since.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import threading
from collections.abc import Sequence

from runner.cases import Work
from runner.work import execute, failure
from testops_lib import settings as configuration
from testops_lib.bus import batch as batches
from testops_lib.errors import TestOpsError
from testops_lib.launch.exit_codes import RETRY
from testops_lib.launch.runner import DEADLINE_S, FLEET_PORT

EXAMPLES = f"""examples:
  python -m runner --run nightly-7 --plan testops.plans:0:3-40 --batch testops.cases:0:100-180
  python -m runner --run nightly-7 --plan testops.plans:0:3-40 --batch testops.cases:0:100-180 --again 0:120,1:98
  python -m runner --group testops-fleet

environment: TESTOPS_KAFKA_BOOTSTRAP, TESTOPS_KAFKA_OPTIONS, and the secrets that the target's file names.
exit codes:  0 done, failing tests included; 1 infrastructure (retry); 2 configuration (do not retry);
             3 the target is down, and its policy waits longer (start it again later, with --down-since and --again)
a fleet runner ends on SIGTERM, with 0. It answers GET /live, /ready and /metrics at 127.0.0.1:{FLEET_PORT}.
"""


def arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """The parsed command line."""
    parser = argparse.ArgumentParser(
        "python -m runner",
        description="Executes one batch of cases; or, as a fleet runner, one batch after the other as ordered.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=os.environ.get("TESTOPS_VERSION") or "from the source")
    batch = parser.add_argument_group("one batch")
    batch.add_argument("--run", help="the run the cases belong to; records of other runs are skipped")
    batch.add_argument("--plan", help="slice that holds the plan and the contracts")
    batch.add_argument("--batch", help="slice of cases: TOPIC:PARTITION:FIRST-END, END exclusive")
    batch.add_argument("--attempt", type=int, default=1, help="which execution within the run this is (default 1)")
    batch.add_argument(
        "--again",
        default="",
        metavar="POSITIONS",
        help="the batch may have been executed before: cases of this run and attempt that passed or failed already are "
        "left out. Where the run's results begin: PARTITION:OFFSET,… (empty: the batch is executed for the first time)",
    )
    batch.add_argument(
        "--deadline",
        type=float,
        default=0,
        metavar="SECONDS",
        help="after this long the runner ends, whatever the target does; what is left must be executed again "
        f"(default {DEADLINE_S}, and more where the target's rate asks for it)",
    )
    batch.add_argument(
        "--down-since",
        type=float,
        default=0,
        metavar="SECONDS",
        help="when an earlier runner found the target down, in seconds since the epoch: the policy's `breaker_wait_s` "
        "counts from then (0: it did not)",
    )
    fleet = parser.add_argument_group("a fleet runner")
    fleet.add_argument("--group", metavar="NAME", help="stay, and execute the batches that this consumer group gets")
    fleet.add_argument(
        "--port", type=int, default=FLEET_PORT, help=f"of its health and metrics; 0: any (default {FLEET_PORT})"
    )
    fleet.add_argument("--bind", default="127.0.0.1", metavar="ADDRESS", help="0.0.0.0 in a pod (default 127.0.0.1)")
    args = parser.parse_args(argv)
    missing = [f"--{name}" for name in ("run", "plan", "batch") if getattr(args, name) is None]
    if args.group is None and missing:
        parser.error(f"the following arguments are required: {', '.join(missing)} (or --group)")
    if args.group is not None and len(missing) < 3:
        parser.error("--group gets its batches from Kafka: give no --run, --plan or --batch beside it")
    if not 0 <= args.port <= 65535:
        parser.error("--port is not between 0 and 65535")
    return args


def work(args: argparse.Namespace) -> int:
    """Executes the batch that the command line holds; gives the exit code."""
    settings = configuration.read()
    batch = Work(
        run=args.run,
        plan=batches.parse(args.plan),
        batch=batches.parse(args.batch),
        attempt=args.attempt,
        again=batches.parse_positions(args.again),
        deadline_s=args.deadline,
        down_since=args.down_since,
    )
    return execute(batch, settings).code


def main(argv: Sequence[str] | None = None) -> int:
    """The entry point; gives the exit code."""
    args = arguments(argv)
    if threading.current_thread() is threading.main_thread():
        # Until the engine takes the signal over: the first process of a container has no default for it.
        signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(RETRY))
    try:
        if args.group is not None:
            from runner.fleet import run_in_fleet

            return run_in_fleet(args.group, configuration.read(), port=args.port, bind=args.bind)
        return work(args)
    except TestOpsError as error:
        return failure(error).code


if __name__ == "__main__":
    sys.exit(main())
