"""Airflow's list of runs says of each which target it tested and how that ended: in the run's note."""

from __future__ import annotations

from typing import Any

from airflow.listeners import hookimpl
from airflow.plugins_manager import AirflowPlugin

DAGS = ("testops_run", "testops_rerun")
WORDS = {"passed": "gate passed", "failed": "gate closed"}
MOST = 300
"""Characters of a note; Airflow takes 1,000."""


def tested(conf: dict[str, Any]) -> str:
    """What the run was ordered for."""
    rerun = f"rerun of {conf['run']}" if conf.get("run") else ""
    return rerun or str(conf.get("spec") or conf.get("target") or "")


def note(conf: dict[str, Any], outcome: dict[str, Any]) -> str:
    """What the list shows, from what was ordered and what the gate wrote down."""
    reasons = "; ".join(map(str, outcome.get("reasons") or ()))
    words = WORDS.get(str(outcome.get("verdict")), "no verdict")
    return " ".join(": ".join(filter(None, (tested(conf), words, reasons))).split())[:MOST]


class Notes:
    """Hears when a run has ended: in the scheduler, within the transaction that ends it."""

    @hookimpl
    def on_dag_run_success(self, dag_run: Any, msg: str) -> None:
        """The gate passed."""
        self._write(dag_run)

    @hookimpl
    def on_dag_run_failed(self, dag_run: Any, msg: str) -> None:
        """The gate is closed, or there is no verdict."""
        self._write(dag_run)

    def _write(self, dag_run: Any) -> None:
        if dag_run.dag_id not in DAGS:
            return
        from airflow.models.xcom import XComModel
        from airflow.utils.session import create_session
        from sqlalchemy.orm import object_session

        conf = dag_run.conf or {}
        if object_session(dag_run) is None or (dag_run.note and not dag_run.note.startswith(tested(conf))):
            return  # outside of the database, or a person wrote the note
        query = XComModel.get_many(run_id=dag_run.run_id, dag_ids=dag_run.dag_id, task_ids="gate", key="outcome")
        # A separate session: its errors do not touch the scheduler's transaction, which bars savepoints.
        with create_session(scoped=False) as session:
            stored = session.scalar(query)
            outcome = XComModel.deserialize_value(stored) if stored is not None else {}
        dag_run.note = note(conf, outcome if isinstance(outcome, dict) else {})


class TestOpsNotes(AirflowPlugin):
    """Every component of Airflow loads it; the scheduler calls it."""

    __test__ = False
    name = "testops_notes"
    listeners = [Notes()]  # noqa: RUF012 (Airflow's own form)
