"""`testops_rerun`: executes the cases of a finished run that did not pass again, as the run's next attempt.

A failure that passes now stays a finding of the run, marked as such.
"""

from __future__ import annotations

from typing import Any

from airflow.sdk import Param, dag, get_current_context, task
from airflow.sdk.exceptions import AirflowFailException

from testops_airflow.launcher import launch
from testops_airflow.links import with_report
from testops_airflow.outcome import read_causes, write_outcome
from testops_airflow.reports import uploaded_reports
from testops_airflow.retries import DEFAULT_ARGS
from testops_airflow.settings import read_settings
from testops_lib import settings as configuration

SETTINGS = configuration.read()
PARAMS = {
    "run": Param(
        type="string",
        minLength=1,
        title="Run",
        description="The id of a finished run of `testops_run`, as its page shows it.",
    )
}

GUIDE = """
Executes the cases of a finished run that did not pass again, as its next attempt, and rewrites the run's report.

**To start it**: *Trigger*, and give the id of the run. A failure that passes now stays a finding of the run, marked as
*passed on attempt 2*: what comes and goes is not fixed. The task `gate` judges all attempts together;
`Report` on its page shows the new report.
"""


def _run() -> str:
    return str(get_current_context()["params"]["run"])


def _again() -> Any:
    import msgspec

    from testops_lib.run.rerun import Rerun

    return msgspec.convert(get_current_context()["ti"].xcom_pull(task_ids="begin"), Rerun)


@dag(
    dag_id="testops_rerun",
    schedule=None,
    catchup=False,
    params=PARAMS,
    max_active_runs=1,
    tags=["testops"],
    default_args=DEFAULT_ARGS,
    doc_md=GUIDE,
)
def testops_rerun() -> None:
    """Wires the stages: begin, publish, execute, collect, analyze, gate."""

    @task(multiple_outputs=True)
    def begin() -> dict[str, Any]:
        """Decides which attempt this is."""
        import msgspec

        from testops_lib.run.rerun import open_rerun

        again: dict[str, Any] = msgspec.to_builtins(open_rerun(_run(), read_settings()))
        return again

    @task
    def publish() -> list[str]:
        """Publishes the cases that did not pass; returns their batches."""
        from testops_lib.run.rerun import publish_rerun

        published = publish_rerun(_run(), _again(), read_settings())
        print(f"{published.cases} cases run again")
        instance = get_current_context()["ti"]
        instance.xcom_push("plan", published.plan)
        instance.xcom_push("last", list(published.last))
        return list(published.batches)

    @task
    def last_batches(last: list[str]) -> list[str]:
        """The batches that may end the session or the service; Airflow maps over return values only."""
        return last

    @task(trigger_rule="all_done")
    def collect() -> dict[str, int]:
        """Stores all results. A case without a new result keeps its failure, if it had one."""
        import msgspec

        from testops_lib.run.collect import collect_run

        counts: dict[str, int] = msgspec.to_builtins(collect_run(_run(), read_settings(), attempt=_again().attempt))
        return counts

    @task
    def analyze() -> dict[str, int]:
        """Rewrites the run's report."""
        from testops_lib.run.analyze import analyze_rerun

        with uploaded_reports(read_settings()) as settings:
            report = analyze_rerun(_run(), settings, causes=read_causes(get_current_context()))
        flaky = sum(finding.passed_again > 0 for finding in report.findings)
        return {"findings": report.totals.findings, "passed_again": flaky}

    @task
    def gate() -> str:
        """Fails unless the run, with all its attempts, passes the target's gate."""
        from testops_lib.run.analyze import gate

        outcome = gate(_run(), read_settings())
        write_outcome(get_current_context(), outcome)
        if outcome.verdict != "passed":
            raise AirflowFailException("the gate is closed: " + "; ".join(outcome.reasons))
        return outcome.verdict

    begun = begin()
    published = publish()
    common = {
        "run": "{{ params.run }}",
        "plan": published["plan"],
        "results": begun["results"],
        "attempt": begun["attempt"],
        "target": begun["target"],
    }
    executed = launch("execute", SETTINGS, batches=published, **common)
    last = last_batches(published["last"])
    executed_last = launch("execute_last", SETTINGS, batches=last, alone=True, trigger_rule="none_failed", **common)
    collected = collect()
    begun >> published
    executed >> executed_last >> collected >> with_report(analyze()) >> with_report(gate())
    executed >> collected


testops_rerun()
