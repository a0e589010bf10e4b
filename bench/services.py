"""Airflow's services for one benchmark, and the time that a DAG run takes in them."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple

from stack import ports
from stack.airflow import SERVICES, AirflowStack
from stack.process import Processes
from testops_lib.airflow_api import Airflow
from testops_lib.errors import TriggerError

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


class Running(NamedTuple):
    """An Airflow, and the processes of its services."""

    airflow: Airflow
    pids: tuple[int, ...]

    def cpu_s(self) -> float:
        """What the services and all they started have used so far, of the processor."""
        return sum(_cpu_s(pid) for pid in self.pids)


def _cpu_s(pid: int) -> float:
    """Of a process, of its children that ended, and of those that live."""
    try:
        told = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        living = [
            int(child) for path in Path(f"/proc/{pid}/task").glob("*/children") for child in path.read_text().split()
        ]
    except OSError:
        return 0
    return sum(map(int, told[11:15])) / os.sysconf("SC_CLK_TCK") + sum(map(_cpu_s, living))


@contextmanager
def by_default(state: Path, *, dsn: str, dags: Path) -> Iterator[Running]:
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
        children = [processes.start(name, [*command, name], env=environ) for name in SERVICES]
        for child in children:
            stack.callback(child.stop, patience=10)
        yield Running(client(shipped), tuple(child.pid for child in children))


@contextmanager
def as_shipped(state: Path, *, dsn: str, dags: Path) -> Iterator[Running]:
    """The services as `make run` has them."""
    with AirflowStack(state, dsn=dsn, dags=dags) as shipped:
        yield running(shipped)


def running(stack: AirflowStack) -> Running:
    """The services of a stack that has started."""
    return Running(client(stack), tuple(int((stack.state / "pids" / name).read_text()) for name in SERVICES))


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
