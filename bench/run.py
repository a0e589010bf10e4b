"""Whole runs without Airflow: publish, runners that each take one batch, collect; nothing lost and nothing doubled."""

from __future__ import annotations

import json
import os
import sys
import time
import uuid

from bench.figures import Ended, Figures, Started, peak_mb
from bench.servers import Servers, running
from bench.target import serving

RUNNERS = 4


def measure(*, quick: bool) -> Figures:
    """One run of each size, one after the other on the same servers."""
    figures = Figures()
    with serving() as (url, server, target_pid), running(partitions=RUNNERS) as servers:
        for count in (1000, 5000) if quick else (1000, 10_000, 100_000):
            _one(figures, servers, url, count)
        kafka = sum(peak_mb(child.pid) for child in servers.kafka.children)
        figures.add("Apache Kafka, peak memory", kafka, "MB")
        figures.add(f"target ({server}), peak memory", peak_mb(target_pid), "MB")
    figures.note(
        f"{RUNNERS} runners at once, 16 connections each, 4 checks a case; target, Kafka and PostgreSQL share the "
        f"{os.cpu_count()} cores with them."
    )
    return figures


def _one(figures: Figures, servers: Servers, url: str, count: int) -> None:
    run = f"bench-{count}-{uuid.uuid4().hex[:6]}"
    at = [servers.bootstrap, servers.dsn, run]
    stage = [sys.executable, "-m", "bench.stage"]
    begun = time.monotonic()
    # A partition gets about a quarter of the cases: one batch each.
    publish = Started([*stage, "publish", *at, str(count), str(count), url]).end()
    published = json.loads(publish.out.strip().rpartition("\n")[2])
    executed, execute_s = execute(servers, run, published["plan"], published["batches"])
    collect = Started([*stage, "collect", *at]).end()
    whole_s = time.monotonic() - begun
    collected = json.loads(collect.out.strip().rpartition("\n")[2])
    lost = count - collected["verdicts"].get("passed", 0)
    doubled = collected["rows"] - collected["cases"]
    cpu_s = sum(started.cpu_s for started in executed)
    name = f"{count:,} cases"
    each = f"publish {publish.wall_s:.1f}, execute {execute_s:.1f}, collect {collect.wall_s:.1f} s"
    figures.add(f"{name}: wall", whole_s, "s", more=each)
    figures.add(f"{name}: lost / doubled", lost + doubled / 1e6, "", goal="0 / 0", more=f"{lost} / {doubled}")
    figures.add(f"{name}: runners", cpu_s / count * 1e6, "CPU-µs/case", more=f"{len(executed)} runners, start included")
    others = (publish.cpu_s + collect.cpu_s) / count * 1e6
    figures.add(f"{name}: publish and collect", others, "CPU-µs/case", more="making the cases included")
    figures.add(f"{name}: runner, peak memory", max(started.peak_mb for started in executed), "MB", goal="≤ 120")
    figures.add(f"{name}: publish, peak memory", publish.peak_mb, "MB")
    rate = f"{count / collected['collect_s']:,.0f} results/s"
    figures.add(f"{name}: collect, peak memory", collect.peak_mb, "MB", more=rate)


def execute(servers: Servers, run: str, plan: str, batches: list[str]) -> tuple[list[Ended], float]:
    """Every batch, at most `RUNNERS` at once; what each runner was, and the seconds it took in all."""
    begun = time.monotonic()
    environ = {"TESTOPS_KAFKA_BOOTSTRAP": servers.bootstrap}
    ended: list[Ended] = []
    for first in range(0, len(batches), RUNNERS):
        commands = [
            [sys.executable, "-m", "runner", "--run", run, "--plan", plan, "--batch", batch]
            for batch in batches[first : first + RUNNERS]
        ]
        ended += [program.end() for program in [Started(command, environ=environ) for command in commands]]
    return ended, time.monotonic() - begun
