"""Peak memory of a runner: one batch of 100 cases, one of 50,000."""

from __future__ import annotations

import json
import sys
import uuid

from bench.figures import Figures, Started
from bench.run import execute
from bench.servers import running
from bench.target import serving


def measure(*, quick: bool) -> Figures:
    """Each batch in a runner of its own."""
    figures = Figures()
    with serving() as (url, _, _), running(partitions=1) as servers:
        for count in (100, 5000 if quick else 50_000):
            run = f"bench-{count}-{uuid.uuid4().hex[:6]}"
            stage = [sys.executable, "-m", "bench.stage", "publish", servers.bootstrap, servers.dsn, run]
            said = Started([*stage, str(count), str(count), url]).end().out
            published = json.loads(said.strip().rpartition("\n")[2])
            [ended], wall_s = execute(servers, run, published["plan"], published["batches"])
            more = f"{wall_s:.1f} s, {ended.cpu_s:.1f} CPU-s, {ended.cpu_s / count * 1e6:,.0f} CPU-µs/case"
            figures.add(f"runner, a batch of {count:,} cases", ended.peak_mb, "MB", goal="≤ 120", more=more)
    small, large = (row["figure"] for row in figures.rows)
    figures.add("large ÷ small", large / small, "×", goal="flat")
    return figures
