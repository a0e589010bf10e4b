"""Parsing each DAG file against a trivial one, forked with Airflow imported, as its DAG processor does."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from bench.figures import ROOT, Figures, Started
from testops_lib.settings import LAUNCHERS

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
    """Best of the passes, under each launcher."""
    figures = Figures()
    for launcher in LAUNCHERS:
        cost = _parse(launcher, passes=3 if quick else 10)
        base = cost["trivial"][0]
        if launcher == LAUNCHERS[0]:
            trigger = cost["trigger"][0]
            figures.add("a trivial DAG of one task", base * 1000, "CPU-ms")
            more = f"{trigger * 1000:.1f} CPU-ms: what Airflow's own import costs"
            figures.add("a trivial DAG of one TriggerDagRunOperator ÷ trivial", trigger / base, "×", more=more)
        for name in sorted(cost.keys() - {"trivial", "trigger"}):
            spent, dags = cost[name]
            more = f"{spent * 1000:.1f} CPU-ms, {dags} DAG{'' if dags == 1 else 's'}"
            figures.add(f"{name}, launcher {launcher} ÷ trivial", spent / base, "×", goal="≤ 5", more=more)
    figures.note("In a fork of a process that has imported Airflow, with the bytecode of all files at hand.")
    return figures


def _parse(launcher: str, *, passes: int) -> dict[str, tuple[float, int]]:
    """File -> its least CPU seconds and its number of DAGs, in one process for all."""
    folder = ROOT / "dags"
    with TemporaryDirectory(prefix="testops-bench-") as home:
        trivial, trigger = Path(home) / "trivial.py", Path(home) / "trigger.py"
        trivial.write_text(TRIVIAL)
        trigger.write_text(WITH_TRIGGER)
        files = [trivial, trigger, *folder.glob("*.py")]
        environ = {
            "AIRFLOW_HOME": home,
            "AIRFLOW__CORE__DAGS_FOLDER": str(folder),
            "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
            "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{home}/airflow.db",
            "AIRFLOW__LOGGING__LOGGING_LEVEL": "ERROR",
            "TESTOPS_LAUNCHER": launcher,
            "TESTOPS_TARGETS_DIR": str(ROOT / "targets"),
            # Compiled once, as where a DAG processor may write beside the files.
            "PYTHONDONTWRITEBYTECODE": "",
            "PYTHONPATH": str(ROOT),
        }
        command = [sys.executable, "-c", PARSE, str(passes), *map(str, files)]
        said = Started(command, environ=environ).end().out.strip().rpartition("\n")[2]
    return {Path(path).stem: min((pair[0], pair[1]) for pair in spent) for path, spent in json.loads(said).items()}
