"""Pythons with Airflow: the code of a test runs beside Airflow, in a process that has imported it once."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from tests.paths import ROOT
from tests.warm_python import WarmPython


def printed(python: WarmPython, code: str, *arguments: str, **variables: str) -> Any:
    """The JSON that the code prints as its last line."""
    done = python.run(code, arguments, variables=variables)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.strip().rpartition("\n")[2])


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
