"""A run through Airflow against an empty DAG of the same tasks, plus the work itself; `python -m bench.pipeline RUN`.

As a program it does the work of one run in plain Python, by the pipeline's functions and the runners' command line,
and prints the seconds of each stage.
"""

from __future__ import annotations

import importlib
import json
import os
import shutil
import statistics
import subprocess
import sys
import time
import uuid
from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, redirect_stdout
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from bench import services
from bench.figures import ROOT, Figures
from bench.sample import SCHEMA
from bench.target import serving
from stack.airflow_services import imported_for_tasks
from stack.local import Local
from testops_lib.settings import MAX_ROUNDS

BATCHES = 8

EMPTY = f"""
from airflow.sdk import Asset, TaskGroup, dag, get_current_context, task

from testops_airflow.launcher import LABEL, RunnerProcessOperator
from testops_airflow.review import ReviewOperator
from testops_airflow.rounds import RoundsOperator
from testops_lib import settings as configuration
from testops_airflow.retries import DEFAULT_ARGS

SETTINGS = configuration.read()

class Idle(RunnerProcessOperator):
    def execute(self, context):
        pass

def launch(task_id, batches, known, at_once=SETTINGS.max_batches_at_once, **kwargs):
    return Idle.partial(
        task_id=task_id, run="{{{{ run_id }}}}", attempt=1,
        max_active_tis_per_dagrun=at_once, pool=SETTINGS.pool,
        map_index_template=LABEL, **known, **kwargs,
    ).expand(batch=batches)

@dag(dag_id="empty_run", schedule=None, catchup=False, max_active_runs=4, default_args=DEFAULT_ARGS)
def empty_run():
    @task
    def open_run():
        return []

    @task
    def load_spec():
        return [{{"name": "GET /customers and 0 more", "first": 0, "end": 1}}]

    @task(map_index_template="{{{{ label }}}}")
    def generate(group):
        get_current_context()["label"] = group["name"]
        return {BATCHES}

    @task(trigger_rule="none_failed")
    def publish():
        instance = get_current_context()["ti"]
        instance.xcom_push("plan", "testops.plans:0:0-1")
        instance.xcom_push("results", "0:0")
        instance.xcom_push("last", [])
        return [f"testops.cases:0:{{first}}-{{first + 1}}" for first in range({BATCHES})]

    @task
    def find_gaps(number):
        return 0

    @task
    def generate_further(number):
        return 0

    @task
    def publish_further(number):
        return []

    @task(trigger_rule="none_failed")
    def repeat():
        return []

    @task(trigger_rule="all_done")
    def collect():
        return {{"published": {BATCHES}}}

    @task
    def analyze():
        return {{"findings": 0}}

    @task(outlets=[Asset("empty_run_passed")])
    def gate(*, outlet_events=None):
        return "passed"

    @task
    def notify():
        pass

    opened = open_run()
    groups = load_spec()
    generated = generate.expand(group=groups)
    published = publish()
    known = {{"plan": published["plan"], "results": published["results"]}}
    executed = [launch("execute", published, known)]
    has_rounds = RoundsOperator.partial(task_id="rounds").expand(needs=opened)
    for number in range(1, {MAX_ROUNDS} + 1):
        with TaskGroup(f"round_{{number}}"):
            gaps = find_gaps(number)
            made = generate_further.override(task_id="generate")(number)
            further = publish_further.override(task_id="publish")(number)
            executed_further = launch("execute", further, known)
        executed[-1] >> gaps >> made >> further
        has_rounds >> [gaps, made, further, executed_further]
        executed.append(executed_further)
    last = repeat()
    executed_last = launch("execute_last", last, known, at_once=1, trigger_rule="none_failed")
    collected = collect()
    decided = gate().as_teardown(on_failure_fail_dagrun=True)
    opened >> groups
    reviewed = ReviewOperator.partial(task_id="review").expand(needs=opened)
    generated >> reviewed >> published
    generated >> published
    executed >> last
    executed >> collected
    executed_last >> collected >> analyze() >> decided
    decided >> notify().as_teardown()

empty_run()
"""
"""`testops_run` without what it does; a test compares their tasks."""

PAGE = {"name": "page", "in": "query", "schema": {"type": "integer", "minimum": 1, "maximum": 100}}
SORT = {"name": "sort", "in": "query", "schema": {"type": "string", "enum": ["name", "email", "score"]}}
DOCUMENT = {
    "openapi": "3.0.3",
    "info": {"title": "Customers", "version": "1"},
    "paths": {
        "/customers": {
            "get": {
                "parameters": [PAGE, SORT],
                "responses": {
                    "200": {"description": "a page", "content": {"application/json": {"schema": SCHEMA}}},
                },
            }
        }
    },
}

# The server answers everything alike, which is a finding in cases that expect a refusal.
TARGET = """
spec: customers.json
base_url: {url}
policy: {{allow_private: true, cases_per_batch: 1}}
generate: {{max_cases: {batches}}}
gate: {{max_findings: 100}}
{more}
"""


@contextmanager
def stack(
    url: str, *, batches: int = BATCHES, more: str = "", variables: Mapping[str, str] | None = None
) -> Iterator[Local]:
    """The local stack with the shipped DAGs, the empty one, and the target `customers`."""
    with TemporaryDirectory(prefix="testops-bench-") as place:
        folder = Path(place)
        folder.chmod(0o755)
        dags, targets = folder / "dags", folder / "targets"
        shutil.copytree(ROOT / "dags", dags, ignore=shutil.ignore_patterns("__pycache__"))
        (dags / "empty_run.py").write_text(EMPTY)
        targets.mkdir()
        (targets / "customers.json").write_text(json.dumps(DOCUMENT))
        (targets / "customers.yaml").write_text(TARGET.format(url=url, batches=batches, more=more))
        environ = {"TESTOPS_TARGETS_DIR": str(targets), **(variables or {})}
        os.environ.update({f"TESTOPS_PORT_{name}": "0" for name in ("UI", "POSTGRES", "KAFKA")})
        local = Local(folder / "state", samples=(), dags=dags, variables=environ)
        try:
            local.start()
            yield local
        finally:
            local.stop()


def measure(*, quick: bool) -> Figures:
    """Medians over the rounds, each of them a run, an empty run and the work; after one that warms up."""
    rounds = 1 if quick else 7
    figures = Figures()
    walls: dict[str, list[float]] = defaultdict(list)
    costs: dict[str, list[float]] = defaultdict(list)
    stages: dict[str, list[float]] = defaultdict(list)
    with ExitStack() as running:
        url, server, _ = running.enter_context(serving())
        local = running.enter_context(stack(url))
        here = services.running(local.airflow)
        airflow = here.airflow
        for dag in ("empty_run", "testops_run"):
            services.ready(airflow, dag)
        loads = []
        for number in range(rounds + 1):
            marks = [here.cpu_s()]
            empty, _ = services.wall(airflow, "empty_run")
            marks.append(here.cpu_s())
            full, run = services.wall(airflow, "testops_run", {"target": "customers"})
            marks.append(here.cpu_s())
            executed = [task for task in airflow.task_states("testops_run", run) if task.task == "execute"]
            if len(executed) != BATCHES:
                raise SystemExit(f"{len(executed)} batches")
            spent, own_cpu_s = work(local)
            if not number:
                continue
            for name, seconds in (("empty", empty), ("full", full), ("work", sum(spent.values()))):
                walls[name].append(seconds)
            for name, seconds in (("empty", marks[1] - marks[0]), ("full", marks[2] - marks[1]), ("work", own_cpu_s)):
                costs[name].append(seconds)
            for name, seconds in spent.items():
                stages[name].append(seconds)
            loads.append(services.load())
    for name, what in (
        ("full", f"testops_run, {BATCHES} batches of 1 case"),
        ("empty", "an empty DAG with the same tasks and settings"),
        ("work", "the work itself, in plain Python"),
    ):
        more = f"{services.spread(walls[name])}; {statistics.median(costs[name]):.1f} CPU-s"
        if name == "work":
            more += "; " + ", ".join(f"{stage} {statistics.median(seconds):.2f}" for stage, seconds in stages.items())
        figures.add(what, statistics.median(walls[name]), "s", more=more)
    ratios = [
        full / (empty + own) for full, empty, own in zip(walls["full"], walls["empty"], walls["work"], strict=True)
    ]
    more = f"rounds {min(ratios):.2f}–{max(ratios):.2f}"
    figures.add("testops_run ÷ (empty + work)", statistics.median(ratios), "×", goal="≤ 1.2", more=more)
    by_cpu = [
        full / (empty + own) for full, empty, own in zip(costs["full"], costs["empty"], costs["work"], strict=True)
    ]
    more = f"rounds {min(by_cpu):.2f}–{max(by_cpu):.2f}; on a loaded machine the steadier of the two"
    figures.add("the same by CPU of services, tasks and runners", statistics.median(by_cpu), "×", more=more)
    figures.note(
        f"{rounds} rounds in turns, the shipped settings, 2 runners at once, target {server}; {', '.join(loads)}. "
        "From the request to the run's end by Airflow's clock; the work with its modules imported."
    )
    return figures


def work(local: Local) -> tuple[dict[str, float], float]:
    """The seconds of each stage of a run without Airflow, and the CPU seconds of all.

    In a process of its own, which has imported what a task finds imported.
    """
    command = [sys.executable, "-m", "bench.pipeline", f"work-{uuid.uuid4().hex[:8]}"]
    done = subprocess.run(
        command, env={**os.environ, **local.variables()}, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True
    )
    spent: dict[str, float] = json.loads(done.stdout.strip().rpartition("\n")[2])
    cpu_s = spent.pop("cpu")
    return spent, cpu_s


def _run(run: str) -> dict[str, float]:
    from testops_lib import settings as configuration
    from testops_lib.run.analyze import analyze, gate
    from testops_lib.run.collect import collect_run
    from testops_lib.run.conf import parse_conf
    from testops_lib.run.generate import generate
    from testops_lib.run.notify import notify
    from testops_lib.run.publish import publish
    from testops_lib.run.start import load_spec, open_run

    settings = configuration.read()
    order = parse_conf({"target": "customers"})
    spent: dict[str, float] = {}

    @contextmanager
    def timed(name: str) -> Iterator[None]:
        begun = time.monotonic()
        yield
        spent[name] = time.monotonic() - begun

    with timed("open"):
        open_run(run, order, settings)
    with timed("load"):
        groups = load_spec(run, settings)
    with timed("generate"):
        for group in groups:
            generate(run, group, settings)
    with timed("publish"):
        published = publish(run, settings)
    with timed("execute"):
        _execute(run, published, settings.max_batches_at_once)
    with timed("collect"):
        collect_run(run, settings)
    with timed("analyze"):
        analyze(run, settings)
    with timed("gate"):
        outcome = gate(run, settings)
    with timed("notify"):
        notify(run, settings, outcome=outcome)
    if outcome.verdict != "passed":
        raise SystemExit("the gate is closed")
    return spent


def _execute(run: str, published: Any, at_once: int) -> None:
    waiting = list(published.batches)
    working: list[subprocess.Popen[bytes]] = []
    while waiting or working:
        while waiting and len(working) < at_once:
            batch = waiting.pop(0)
            command = [sys.executable, "-m", "runner", "--run", run, "--plan", published.plan, "--batch", batch]
            working.append(subprocess.Popen([*command], stdout=subprocess.DEVNULL))
        time.sleep(0.01)
        for child in [child for child in working if child.poll() is not None]:
            working.remove(child)
            if child.returncode:
                raise SystemExit(f"a runner ended with {child.returncode}")


if __name__ == "__main__":
    for module in imported_for_tasks():  # as a task of the local stack finds them
        importlib.import_module(module)
    with redirect_stdout(sys.stderr):
        before = sum(os.times()[:4])
        measured = _run(sys.argv[1])
        measured["cpu"] = sum(os.times()[:4]) - before
    print(json.dumps(measured))
