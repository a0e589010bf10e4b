from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import pytest

from tests.paths import ROOT
from tests.warm_python import WarmPython


@pytest.fixture(scope="session")
def airflow_environment(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The environment of an Airflow without services: SQLite, our DAGs, nothing of this process's own Airflow."""
    home = tmp_path_factory.mktemp("airflow")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("AIRFLOW", "TESTOPS_"))}
    settings = {
        "AIRFLOW_HOME": str(home),
        "AIRFLOW__CORE__DAGS_FOLDER": str(ROOT / "dags"),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__CORE__DAGBAG_IMPORT_TIMEOUT": "120",
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{home}/airflow.db",
        "AIRFLOW__LOGGING__LOGGING_LEVEL": "INFO",
        "TESTOPS_TARGETS_DIR": str(ROOT / "targets"),
        "PYTHONPATH": str(ROOT),
    }
    environment = {**kept, **settings}
    subprocess.run(
        [sys.executable, "-m", "airflow", "db", "migrate"], env=environment, check=True, capture_output=True, cwd=ROOT
    )
    return environment


@pytest.fixture(scope="session")
def airflow_sdk(airflow_environment: Mapping[str, str]) -> Iterator[WarmPython]:
    """Python with what every DAG file imports of Airflow, and nothing else."""
    imports = "from airflow.sdk import Asset, BaseOperator, Param, dag, task"
    with WarmPython(imports, environment=airflow_environment) as python:
        yield python


@pytest.fixture(scope="session")
def airflow(airflow_environment: Mapping[str, str]) -> Iterator[WarmPython]:
    """Python that can parse DAG files."""
    imports = "from airflow.dag_processing.dagbag import DagBag"
    with WarmPython(imports, environment=airflow_environment) as python:
        yield python


RUN = (ROOT / "tests/dags/run_once.py").read_text("utf-8")


@pytest.fixture
def run_dag(airflow: WarmPython) -> Callable[..., list[dict[str, Any]]]:
    """Runs `testops_run` for each conf, one after the other, and gives their outcomes."""

    def run(confs: Sequence[Mapping[str, Any]], variables: Mapping[str, str]) -> list[dict[str, Any]]:
        done = airflow.run(RUN, [json.dumps(confs)], variables=variables, timeout_s=280)
        last = done.stdout.strip().rpartition("\n")[2]
        assert done.returncode == 0 and last.startswith("["), done.stdout[-4000:] + done.stderr[-4000:]
        outcomes: list[dict[str, Any]] = json.loads(last)
        return outcomes

    return run
