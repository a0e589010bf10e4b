"""One scheduled DAG for each target file that has a schedule: it starts `testops_run` and shares its outcome."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

from airflow.providers.standard.operators.trigger_dagrun import TriggerDagRunOperator
from airflow.sdk import DAG

from testops_lib import settings as configuration
from testops_lib import target as targets
from testops_lib.errors import TargetError

START = datetime(2026, 1, 1, tzinfo=UTC)


def schedule_of(path: Path) -> str | None:
    """The schedule of a target file; a file that cannot be read is tried daily, so that its run says what is wrong."""
    try:
        return targets.load(path).schedule
    except TargetError:
        return "@daily"


for path in sorted(configuration.read().targets_dir.glob("*.yaml")):
    name, schedule = path.stem, schedule_of(path)
    if not schedule:
        continue
    with DAG(
        dag_id=f"testops_nightly_{name}",
        schedule=schedule,
        start_date=START,
        catchup=False,
        max_active_runs=1,
        tags=["testops", "nightly"],
        doc_md=f"Tests the target **{name}** by `testops_run` on its schedule (`{schedule}`, UTC).",
    ) as dag:
        TriggerDagRunOperator(
            task_id="run",
            trigger_dag_id="testops_run",
            trigger_run_id=f"nightly_{name}_{{{{ ts_nodash }}}}",
            conf={"target": name},
            wait_for_completion=True,
            deferrable=True,
            poke_interval=15,
            reset_dag_run=True,
        )
    globals()[dag.dag_id] = dag
