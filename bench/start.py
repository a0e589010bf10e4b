"""What a runner costs before its first request: interpreter, imports, clients ready."""

from __future__ import annotations

import statistics
import sys

from bench.figures import Figures, Started

READY = """
import asyncio, sys
import runner.__main__
import runner.work as runner
from testops_lib.execute import Engine
from testops_lib.http.client import Client
from testops_lib.model import Plan, Policy
async def ready():
    Client(Policy()).close()
    Engine(Plan(target="t", base_url="http://127.0.0.1:1", policy=Policy()), {}, run="r")
with asyncio.Runner(loop_factory=runner.new_loop) as loop:
    loop.run(ready())
heavy = {"airflow", "google", "requests", "sqlalchemy", "psycopg", "rich", "click", "jinja2", "yaml"}
sys.exit(str(found) if (found := heavy & {name.partition(".")[0] for name in sys.modules}) else 0)
"""


def measure(*, quick: bool) -> Figures:
    """Whole processes, best and median."""
    figures = Figures()
    for what, code, goal in (("an empty Python", "pass", ""), ("runner: imports, client ready", READY, "≤ 0.35")):
        ended = [Started([sys.executable, "-c", code]).end() for _ in range(4 if quick else 12)][1:]
        costs = [run.cpu_s for run in ended]
        more = f"median {statistics.median(costs):.3f}; peak {max(run.peak_mb for run in ended):.0f} MB"
        figures.add(what, min(costs), "CPU-s", goal=goal, more=more)
    figures.note("It fails here when it has imported Airflow, requests, google-genai or a database driver.")
    return figures
