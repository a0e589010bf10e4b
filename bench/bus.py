"""Rates of what lies around the runners: publishing cases, writing results, collecting them into PostgreSQL."""

from __future__ import annotations

import time
from datetime import UTC, datetime

from bench.figures import Figures
from bench.sample import OPERATION, cases
from bench.servers import running
from testops_lib.bus.client import Bus
from testops_lib.model import Failure, RequestEvidence, ResponseEvidence, Result, StepOutcome
from testops_lib.run import collect as collecting
from testops_lib.store import Store

EVERY = 20
"""One result of so many is a failure with its evidence."""


def measure(*, quick: bool) -> Figures:
    """Wall rates and CPU of this process; best of the passes."""
    count, passes = (5000, 2) if quick else (30_000, 3)
    figures = Figures()
    made = list(cases(count))
    rates: dict[str, list[float]] = {"publish": [], "write": [], "collect": []}
    costs: dict[str, list[float]] = {"publish": [], "write": [], "collect": []}
    with running() as servers, Bus(servers.bootstrap, timeout_s=120) as bus, Store(servers.dsn) as store:

        def timed(name: str, begun: tuple[float, float]) -> None:
            rates[name].append(count / (time.monotonic() - begun[0]))
            costs[name].append((time.process_time() - begun[1]) / count * 1e6)

        for number in range(passes):
            run = f"bench-{number}"
            store.open_run(run, "bench")
            positions = bus.results.position()
            begun = time.monotonic(), time.process_time()
            bus.cases.publish(run, made)
            timed("publish", begun)
            store.mark_published(run, [case.id for case in made], positions=positions)
            begun = time.monotonic(), time.process_time()
            with bus.results.writer() as writer:
                for index, case in enumerate(made):
                    writer.write(_result(run, case.id, case.name, failed=index % EVERY == 0))
            timed("write", begun)
            begun = time.monotonic(), time.process_time()
            counts = collecting.collect(bus, store, run, deadline_s=600)
            timed("collect", begun)
            if (counts.stored, counts.no_result) != (count, 0):
                raise SystemExit(f"{counts} of {count}")
    figures.add("publish: cases acknowledged", max(rates["publish"]), "cases/s", more=_cost(costs["publish"]))
    figures.add("runner's writer: results acknowledged", max(rates["write"]), "results/s", more=_cost(costs["write"]))
    figures.add(
        "collect to PostgreSQL",
        max(rates["collect"]),
        "results/s",
        goal="≥ 8,000",
        more=f"{_cost(costs['collect'])}; passes {min(rates['collect']):,.0f}–{max(rates['collect']):,.0f}",
    )
    figures.note(
        f"{passes} passes of {count:,}; every {EVERY}th result is a failure with evidence. PostgreSQL with fsync, "
        "collecting by one process, every run into the same tables."
    )
    return figures


def _cost(costs: list[float]) -> str:
    return f"{min(costs):.0f} CPU-µs each"


def _result(run: str, case: str, name: str, *, failed: bool) -> Result:
    step = StepOutcome(operation=OPERATION, status=200, elapsed_ms=1.25, requests=1)
    failures: tuple[Failure, ...] = ()
    if failed:
        step = StepOutcome(
            operation=OPERATION,
            status=200,
            elapsed_ms=1.25,
            requests=1,
            request=RequestEvidence(method="GET", url="http://127.0.0.1:8000/customers?page=1"),
            response=ResponseEvidence(status=200, headers=(("Content-Type", "application/json"),), body="x" * 900),
        )
        failures = (Failure(check="response_schema_conformance", operation=OPERATION, message="body at /total: …"),)
    return Result(
        run=run,
        case=case,
        case_name=name,
        operation=OPERATION,
        intent="positive",
        requests=1,
        elapsed_ms=1.4,
        verdict="failed" if failed else "passed",
        failures=failures,
        steps=(step,),
        started=datetime.now(UTC),
        origin="human",
    )
