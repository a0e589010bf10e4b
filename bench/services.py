"""Airflow's services for one benchmark, and the time that a DAG run takes in them."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

from testops_lib.errors import TriggerError
from testops_lib.stack import ports
from testops_lib.stack.airflow import SERVICES, AirflowStack
from testops_lib.stack.process import Processes
from testops_lib.trigger import Airflow

NEEDED = (
    *("CORE__DAGS_FOLDER", "CORE__LOAD_EXAMPLES", "CORE__FERNET_KEY", "CORE__EXECUTION_API_SERVER_URL"),
    *("CORE__SIMPLE_AUTH_MANAGER_USERS", "CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE", "DATABASE__SQL_ALCHEMY_CONN"),
    *("API__HOST", "API__PORT", "API__BASE_URL", "API__SECRET_KEY", "API_AUTH__JWT_SECRET"),
    *("LOGGING__BASE_LOG_FOLDER", "USAGE_DATA_COLLECTION__ENABLED"),
    # Patience with a loaded machine, which makes nothing faster.
    *("CORE__DAGBAG_IMPORT_TIMEOUT", "WORKERS__EXECUTION_API_TIMEOUT", "DAG_PROCESSOR__DAG_FILE_PROCESSOR_TIMEOUT"),
)
"""What of our settings an Airflow with its own defaults needs to work here at all."""

PATIENCE_S = 300


@contextmanager
def by_default(state: Path, *, dsn: str, dags: Path) -> Iterator[Airflow]:
    """`airflow api-server`, `scheduler`, `dag-processor` and `triggerer`, each started plainly."""
    shipped = AirflowStack(state, dsn=dsn, dags=dags)
    shipped.prepare()
    needed = {f"AIRFLOW__{name}" for name in NEEDED}
    environ = {
        name: value
        for name, value in shipped.environment().items()
        if not name.startswith("AIRFLOW__") or name in needed
    }
    for name in ("WORKER", "TRIGGER"):
        environ[f"AIRFLOW__LOGGING__{name}_LOG_SERVER_PORT"] = str(ports.pick())
    with ExitStack() as stack:
        stack.callback(shipped.stop)
        processes = Processes(state / "plain")
        processes.claim()
        stack.callback(processes.release)
        command = [sys.executable, "-m", "airflow"]
        migrated = processes.start("migrate", [*command, "db", "migrate"], env=environ)
        while migrated.returncode is None:
            time.sleep(0.2)
        for name in SERVICES:
            child = processes.start(name, [*command, name], env=environ)
            stack.callback(child.stop, patience=10)
        yield Airflow(shipped.url, username=shipped.username, password=shipped.password, patience_s=PATIENCE_S)


@contextmanager
def as_shipped(state: Path, *, dsn: str, dags: Path) -> Iterator[Airflow]:
    """The services as `make run` has them."""
    with AirflowStack(state, dsn=dsn, dags=dags) as shipped:
        yield client(shipped)


def client(airflow: AirflowStack) -> Airflow:
    """A patient client of it."""
    return Airflow(airflow.url, username=airflow.username, password=airflow.password, patience_s=PATIENCE_S)


def ready(airflow: Airflow, dag: str) -> None:
    """Returns when runs of `dag` may begin.

    Raises:
        SystemExit: they may not after some minutes.
    """
    deadline = time.monotonic() + PATIENCE_S
    while True:
        try:
            airflow.token()
            return airflow.unpause(dag)
        except TriggerError as error:
            if time.monotonic() > deadline:
                raise SystemExit(f"Airflow knows no DAG {dag}: {error}") from error
            time.sleep(0.5)


def wall(airflow: Airflow, dag: str, conf: Mapping[str, Any] | None = None) -> tuple[float, str]:
    """Seconds from the request for a run to its end by Airflow's own clock, and the run's id.

    Raises:
        SystemExit: it did not succeed.
    """
    run = airflow.trigger(dag, conf or {})
    while (state := airflow.state(dag, run)) not in ("success", "failed"):
        time.sleep(0.2)
    if state != "success":
        raise SystemExit(f"run {run} of {dag}: {[(t.task, t.state) for t in airflow.task_states(dag, run)]}")
    told = airflow.get(f"/api/v2/dags/{dag}/dagRuns/{run}")
    return (datetime.fromisoformat(told["end_date"]) - datetime.fromisoformat(told["queued_at"])).total_seconds(), run


def load() -> str:
    """What else the machine does."""
    return f"load {os.getloadavg()[0]:.1f}"


def spread(values: Sequence[float]) -> str:
    """Least and most."""
    return f"{min(values):.1f}–{max(values):.1f}"
