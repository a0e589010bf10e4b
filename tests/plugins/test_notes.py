"""What Airflow's list of runs says of a run."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.paths import ROOT

pytestmark = pytest.mark.airflow

NOTES = """
import json, sys
sys.path.insert(0, sys.argv[1])
from testops_notes import note
closed = {"verdict": "failed", "reasons": ["max_findings: 3 findings, at most 0 allowed", "no_result: 1 case"]}
print(json.dumps([
    note({"target": "shop"}, {"verdict": "passed", "reasons": []}),
    note({"target": "shop"}, closed),
    note({"target": "other-document", "spec": "https://h/openapi.json"}, {}),
    note({"run": "shop__1"}, {"verdict": "none", "reasons": ["x" * 900]})[:31],
    len(note({"run": "shop__1"}, {"verdict": "none", "reasons": ["x" * 900]})),
]))
"""


def test_a_note_tells_target_and_outcome(tmp_path: Path) -> None:
    environment = {**os.environ, "AIRFLOW_HOME": str(tmp_path)}
    command = [sys.executable, "-c", NOTES, str(ROOT / "plugins")]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr[-3000:]
    assert json.loads(done.stdout.splitlines()[-1]) == [
        "shop: gate passed",
        "shop: gate closed: max_findings: 3 findings, at most 0 allowed; no_result: 1 case",
        "https://h/openapi.json: no verdict",
        "rerun of shop__1: no verdict: x",
        300,
    ]


DAG = """
from airflow.sdk import dag, task

@dag(dag_id="testops_run", schedule=None, params={"target": ""})
def testops_run():
    @task
    def gate(ti=None):
        ti.xcom_push("outcome", {"verdict": "passed", "reasons": []})
    gate()

testops_run()
"""

RUN = """
import os, sys
sys.path.insert(0, os.environ["AIRFLOW__CORE__PLUGINS_FOLDER"])
from airflow.dag_processing.dagbag import DagBag
from airflow.models.dagrun import DagRun
from airflow.utils.session import create_session
from testops_notes import Notes
folder = os.environ["AIRFLOW__CORE__DAGS_FOLDER"]
bag = DagBag(folder, bundle_path=folder, bundle_name="dags-folder")
run = bag.dags["testops_run"].test(run_conf={"target": "shop"})
notes = []
for before in (None, "shop", "looked at by Ann"):
    # As the scheduler ends a run: within its session. dag.test() ends it outside of one.
    with create_session() as session:
        ended = session.query(DagRun).filter(DagRun.run_id == run.run_id).one()
        if before:
            ended.note = before
        Notes().on_dag_run_success(dag_run=ended, msg="")
    with create_session() as session:
        notes.append(session.query(DagRun).filter(DagRun.run_id == run.run_id).one().note)
print("notes:", notes)
"""


def test_the_end_of_a_run_writes_its_note(tmp_path: Path) -> None:
    (tmp_path / "dags").mkdir()
    (tmp_path / "dags" / "small.py").write_text(DAG)
    kept = {name: value for name, value in os.environ.items() if not name.startswith("AIRFLOW")}
    environment = {
        **kept,
        "AIRFLOW_HOME": str(tmp_path),
        "AIRFLOW__CORE__DAGS_FOLDER": str(tmp_path / "dags"),
        "AIRFLOW__CORE__PLUGINS_FOLDER": str(ROOT / "plugins"),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{tmp_path}/airflow.db",
    }
    for command in (["-m", "airflow", "db", "migrate"], ["-c", RUN]):
        done = subprocess.run([sys.executable, *command], env=environment, capture_output=True, text=True, cwd=ROOT)
        assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.splitlines()[-1] == "notes: ['shop: gate passed', 'shop: gate passed', 'looked at by Ann']"
