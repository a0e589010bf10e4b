"""What the end-to-end tests share: following a run of the DAG through Airflow."""

from __future__ import annotations

from testops_lib.stack.local import Local
from testops_lib.trigger import Airflow, Snapshot

DAG = "testops_run"


def client(local: Local) -> Airflow:
    """A client of the stack's Airflow, with the DAG free to run."""
    made = Airflow(local.airflow.url, username=local.airflow.username, password=local.airflow.password)
    made.unpause(DAG)
    return made


def last(airflow: Airflow, run: str, *, timeout_s: float = 400) -> Snapshot:
    """The run as it ended."""
    *_, end = airflow.wait(DAG, run, timeout_s=timeout_s)
    return end
