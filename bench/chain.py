"""The shipped Airflow settings against Airflow's defaults: a chain of empty tasks under both, in turns."""

from __future__ import annotations

import statistics
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory

from bench import services
from bench.figures import Figures
from stack.postgres import Postgres

LINKS = 8

CHAIN = f"""
from airflow.sdk import dag, task

@dag(schedule=None, catchup=False)
def chain():
    @task
    def link():
        pass

    links = [link.override(task_id=f"link_{{number}}")() for number in range({LINKS})]
    for before, after in zip(links, links[1:]):
        before >> after

chain()
"""


def measure(*, quick: bool) -> Figures:
    """Medians over the rounds, after one that warms up."""
    rounds = 2 if quick else 7
    figures = Figures()
    spent: dict[str, list[float]] = {"default": [], "shipped": []}
    cost: dict[str, list[float]] = {"default": [], "shipped": []}
    with ExitStack() as stack:
        folder = Path(stack.enter_context(TemporaryDirectory(prefix="testops-bench-")))
        folder.chmod(0o755)
        dags = folder / "dags"
        dags.mkdir()
        (dags / "chain.py").write_text(CHAIN)
        postgres = stack.enter_context(Postgres(folder / "postgres", durable=True))
        airflows = {
            "default": stack.enter_context(
                services.by_default(folder / "default", dsn=postgres.create_database("plain"), dags=dags)
            ),
            "shipped": stack.enter_context(
                services.as_shipped(folder / "shipped", dsn=postgres.create_database("shipped"), dags=dags)
            ),
        }
        for airflow, _ in airflows.values():
            services.ready(airflow, "chain")
            services.wall(airflow, "chain")
        loads = []
        for _ in range(rounds):
            for name, running in airflows.items():
                before = running.cpu_s()
                spent[name].append(services.wall(running.airflow, "chain")[0])
                cost[name].append(running.cpu_s() - before)
            loads.append(services.load())
    for name, what in (("default", "Airflow's defaults"), ("shipped", "the shipped settings")):
        more = f"{services.spread(spent[name])}; {statistics.median(cost[name]):.1f} CPU-s of its services"
        figures.add(f"{what}, chain of {LINKS} empty tasks", statistics.median(spent[name]), "s", more=more)
    ratios = [mine / theirs for mine, theirs in zip(spent["shipped"], spent["default"], strict=True)]
    more = f"rounds {min(ratios):.2f}–{max(ratios):.2f}"
    figures.add("shipped ÷ default", statistics.median(ratios), "×", goal="≤ 0.3", more=more)
    figures.note(
        f"{rounds} rounds in turns, both Airflows up, LocalExecutor, one PostgreSQL; {', '.join(loads)}. "
        "From the request to the run's end; without Airflow's example DAGs in either."
    )
    return figures
