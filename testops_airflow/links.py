"""The link from a task's page in Airflow to the run's report."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

from airflow.sdk import BaseOperatorLink


class Report(BaseOperatorLink):
    """The run's report, which the plugin `testops_reports` serves to users who may see the DAG."""

    name = "Report"

    def get_link(self, operator: Any, *, ti_key: Any) -> str:
        """The report's address. Airflow asks for it once, when the task has ended."""
        from airflow.sdk.configuration import conf

        # The report of a rerun is that of the run it repeats.
        params = ti_key.get_template_context()["params"] if ti_key.dag_id == "testops_rerun" else {}
        run = str(params.get("run") or ti_key.run_id)
        return f"{conf.get('api', 'base_url', fallback='').rstrip('/')}/testops/runs/{quote(run, safe='')}/report"


def with_report(task: Any) -> Any:
    """The task, with a link to the report."""
    task.operator.operator_extra_links = (Report(),)
    return task
