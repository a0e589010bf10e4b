"""Parsing each DAG file against a trivial one, forked with Airflow imported, as its DAG processor does."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from bench.figures import ROOT, Figures, Started

TRIVIAL = """
from airflow.sdk import dag, task

@dag(schedule=None)
def trivial():
    @task
    def one():
        pass
    one()

trivial()
"""

WITH_TRIGGER = """
from airflow.providers.standard.operators.trigger_dagrun import TriggerDagRunOperator
from airflow.sdk import DAG

with DAG("trigger", schedule=None) as dag:
    TriggerDagRunOperator(task_id="run", trigger_dag_id="other")
"""

PARSE = """
import json, os, sys, time
import airflow.sdk
from airflow.dag_processing.dagbag import DagBag
first = sys.argv[2]
DagBag(first, bundle_path=os.path.dirname(first), bundle_name="bench")  # what Airflow itself imports late
cost = {}
for path in sys.argv[2:] * int(sys.argv[1]):
    ours, theirs = os.pipe()
    if not (child := os.fork()):
        folder = os.path.dirname(path)
        begun = time.process_time()
        bag = DagBag(path, bundle_path=folder, bundle_name="bench")
        spent = time.process_time() - begun
        os.write(theirs, json.dumps([spent, len(bag.dags), bag.import_errors]).encode())
        os._exit(0)
    os.waitpid(child, 0)
    spent, dags, errors = json.loads(os.read(ours, 60000))
    if errors:
        sys.exit(str(errors))
    cost.setdefault(path, []).append([spent, dags])
print(json.dumps(cost))
"""


def measure(*, quick: bool) -> Figures:
    """Best of the passes."""
    figures = Figures()
    files = sorted(path for path in (ROOT / "dags").glob("*.py") if "airflow.sdk import" in path.read_text("utf-8"))
    with TemporaryDirectory(prefix="testops-bench-") as home:
        trivial = Path(home) / "trivial.py"
        trivial.write_text(TRIVIAL)
        trigger = Path(home) / "trigger.py"
        trigger.write_text(WITH_TRIGGER)
        environ = {
            "AIRFLOW_HOME": home,
            "AIRFLOW__CORE__DAGS_FOLDER": str(ROOT / "dags"),
            "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
            "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{home}/airflow.db",
            "AIRFLOW__LOGGING__LOGGING_LEVEL": "ERROR",
            "TESTOPS_TARGETS_DIR": str(ROOT / "targets"),
            "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "dags")]),
        }
        passes = "3" if quick else "10"
        command = [sys.executable, "-c", PARSE, passes, *map(str, (trivial, trigger, *files))]
        said = Started(command, environ=environ).end().out.strip().rpartition("\n")[2]
    cost = {path: min(spent) for path, spent in json.loads(said).items()}
    base = cost[str(trivial)][0]
    figures.add("a trivial DAG of one task", base * 1000, "CPU-ms")
    more = f"{cost[str(trigger)][0] * 1000:.1f} CPU-ms: what Airflow's own import costs"
    figures.add("a trivial DAG of one TriggerDagRunOperator ÷ trivial", cost[str(trigger)][0] / base, "×", more=more)
    for path in files:
        spent, dags = cost[str(path)]
        more = f"{spent * 1000:.1f} CPU-ms, {dags} DAG{'' if dags == 1 else 's'}"
        figures.add(f"{path.name} ÷ trivial", spent / base, "×", goal="≤ 5", more=more)
    return figures
