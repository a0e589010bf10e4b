"""A DAG for each target file with a schedule: it starts `testops_run` and ends with its outcome."""

from __future__ import annotations

import re
import zlib
from datetime import UTC, datetime, timedelta
from typing import Any

from airflow.sdk import DAG, BaseOperator, BaseOperatorLink, CronTriggerTimetable
from airflow.sdk.exceptions import AirflowException, AirflowFailException, DagRunTriggerException

from testops_airflow.outcome import OUTCOME
from testops_lib import settings as configuration
from testops_lib import target as targets
from testops_lib.errors import TargetError
from testops_lib.target import Target

START = datetime(2026, 1, 1, tzinfo=UTC)
"""Of the DAG of a wrong target file: its first run is at once."""
STARTED = "testops_run"
ID, ID_BREAKERS = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}"), re.compile(r"[^A-Za-z0-9_.-]")


class StartedRun(BaseOperatorLink):
    """The link to the run that the task started."""

    name = "Started run"

    def get_link(self, operator: Any, *, ti_key: Any) -> str:
        """The run's address. Airflow stores it when the task ends or is deferred."""
        from airflow.utils.helpers import build_airflow_dagrun_url

        return str(build_airflow_dagrun_url(dag_id=STARTED, run_id=operator.run))


class StartRunOperator(BaseOperator):
    """Starts `testops_run` for a target and waits, deferred, until it ends. The task fails when the run fails.

    It raises the same exception as Airflow's `TriggerDagRunOperator`, whose import takes as long as parsing four DAG
    files.
    """

    template_fields = ("run",)
    operator_extra_links = (StartedRun(),)

    def __init__(self, *, target: str, run: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.target, self.run = target, run

    def execute(self, context: Any) -> None:
        """Lets Airflow start the run, or restart it if it exists."""
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
            note=f"{self.target}: nightly",
        )

    def execute_complete(self, context: Any, event: tuple[str, dict[str, Any]]) -> None:
        """Fails unless the run's gate passed. `event` comes from Airflow's `DagStateTrigger`."""
        state = event[1].get(self.run)
        outcome = context["ti"].xcom_pull(dag_id=STARTED, run_id=self.run, task_ids="gate", key=OUTCOME) or {}
        if state != "success" or outcome.get("verdict") != "passed":
            reasons = "; ".join(outcome.get("reasons") or [f"it ended as {state}, without a verdict"])
            raise AirflowException(f"run {self.run} of {STARTED}: {reasons}")


class BrokenTargetOperator(BaseOperator):
    """Fails with the error of a target file."""

    def __init__(self, *, error: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.error = error

    def execute(self, context: Any) -> None:
        """Raises the error."""
        raise AirflowFailException(self.error)


def scheduled(target: Target) -> DAG:
    """The DAG of a target with a schedule.

    Raises:
        AirflowTimetableInvalid: the schedule is no cron expression.
    """
    name = target.name
    with DAG(
        dag_id=f"testops_nightly_{name}",
        # A new target waits for its hour: with a start date, Airflow would at once make up for the last one.
        schedule=CronTriggerTimetable(target.schedule, timezone="UTC", run_immediately=timedelta(0)),
        catchup=False,
        max_active_runs=1,
        tags=["testops", "nightly"],
        doc_md=f"Tests the target **{name}** by `testops_run` on its schedule (`{target.schedule}`, UTC).",
    ) as dag:
        StartRunOperator(task_id="run", target=name, run=f"nightly_{name}_{{{{ ts_nodash | default(run_id) }}}}")
    dag.validate()
    return dag


def broken(stem: str, error: Exception) -> DAG:
    """The DAG of a target whose file is wrong: it fails daily and says why."""
    # Two names may differ only in characters that an id cannot hold.
    name = stem if ID.fullmatch(stem) else f"{ID_BREAKERS.sub('_', stem)[:60]}_{zlib.crc32(stem.encode()):08x}"
    lines = "\n".join(f"    {line}" for line in str(error).splitlines())
    with DAG(
        dag_id=f"testops_nightly_{name}",
        dag_display_name=f"testops_nightly_{ID_BREAKERS.sub('_', stem)}: wrong target file",
        schedule="@daily",
        start_date=START,
        catchup=False,
        max_active_runs=1,
        tags=["testops", "nightly", "broken"],
        doc_md=f"This target is not tested, because its file is wrong:\n\n{lines}\n",
    ) as dag:
        BrokenTargetOperator(task_id="run", error=str(error))
    return dag


for path in sorted(configuration.read().targets_dir.glob("*.yaml")):
    try:
        target = targets.load(path)
        dag = scheduled(target) if target.schedule else None
    except Exception as error:  # an error of one file must not keep the other targets from being tested
        dag = broken(path.stem, error if isinstance(error, TargetError) else TargetError(str(error), where=str(path)))
    if dag is not None:
        globals()[dag.dag_id] = dag
