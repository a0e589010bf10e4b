"""One scheduled DAG for each target file that has a schedule: it starts `testops_run` and shares its outcome."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from airflow.sdk import DAG, BaseOperator, BaseOperatorLink
from airflow.sdk.exceptions import AirflowException, DagRunTriggerException

from testops_lib import settings as configuration
from testops_lib import target as targets
from testops_lib.errors import TargetError

START = datetime(2026, 1, 1, tzinfo=UTC)
STARTED = "testops_run"


class StartedRun(BaseOperatorLink):
    """The page of the run that a task started."""

    name = "Started run"

    def get_link(self, operator: Any, *, ti_key: Any) -> str:
        """Its address; Airflow keeps it when the task ends or is deferred."""
        from airflow.utils.helpers import build_airflow_dagrun_url

        return str(build_airflow_dagrun_url(dag_id=STARTED, run_id=operator.run))


class StartRunOperator(BaseOperator):
    """Starts `testops_run` for a target and waits, deferred, for its end: the task fails when the run does.

    It tells Airflow the same as Airflow's own `TriggerDagRunOperator`, whose import costs as much as parsing four
    DAG files, at every parse.
    """

    template_fields = ("run",)
    operator_extra_links = (StartedRun(),)

    def __init__(self, *, target: str, run: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.target, self.run = target, run

    def execute(self, context: Any) -> None:
        """Has the run started, or started over when it exists."""
        raise DagRunTriggerException(
            trigger_dag_id=STARTED,
            dag_run_id=self.run,
            conf={"target": self.target},
            reset_dag_run=True,
            skip_when_already_exists=False,
            wait_for_completion=True,
            allowed_states=["success"],
            failed_states=["failed"],
            poke_interval=15,
            deferrable=True,
        )

    def execute_complete(self, context: Any, event: tuple[str, dict[str, Any]]) -> None:
        """Fails unless the run succeeded; `event` is of Airflow's `DagStateTrigger`."""
        state = event[1].get(self.run)
        if state != "success":
            raise AirflowException(f"run {self.run} of {STARTED} ended as {state}")


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
        StartRunOperator(task_id="run", target=name, run=f"nightly_{name}_{{{{ ts_nodash | default(run_id) }}}}")
    globals()[dag.dag_id] = dag
