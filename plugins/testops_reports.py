"""Reports of runs behind Airflow's own login: `/testops/runs/RUN/report`."""

from __future__ import annotations

from functools import cached_property
from typing import Any

from airflow.plugins_manager import AirflowPlugin


def application() -> Any:
    """The FastAPI application; each path requires a user who may see the DAG."""
    from airflow.api_fastapi.core_api.security import requires_access_dag
    from fastapi import Depends, FastAPI, HTTPException
    from fastapi.responses import HTMLResponse

    from testops_lib import settings as configuration
    from testops_lib.errors import StoreError
    from testops_lib.report import render_html
    from testops_lib.store import Store

    may_read = Depends(requires_access_dag("GET", param_dag_id="testops_run"))
    app = FastAPI(title="AI TestOps", docs_url=None, redoc_url=None, openapi_url=None, dependencies=[may_read])

    # A slash may be part of a run's id.
    @app.get("/runs/{run:path}/report", response_class=HTMLResponse)
    def report(run: str) -> HTMLResponse:
        """The report of the run as HTML."""
        try:
            with Store(configuration.read().need_dsn()) as store:
                stored = store.report(run)
        except StoreError as error:
            raise HTTPException(503, "the results database is away") from error
        if stored is None:
            raise HTTPException(404, f"run {run} has no report: see its tasks in Airflow")
        headers = {"X-Content-Type-Options": "nosniff", "Cache-Control": "no-store", "X-Frame-Options": "SAMEORIGIN"}
        return HTMLResponse(render_html(stored), headers=headers)

    return app


class TestOpsReports(AirflowPlugin):
    """Every component of Airflow loads it; only the API server asks for its application, whose imports take seconds."""

    __test__ = False
    name = "testops_reports"

    @cached_property
    def fastapi_apps(self) -> list[dict[str, Any]]:  # type: ignore[override]
        """The application and its path."""
        return [{"app": application(), "url_prefix": "/testops", "name": "AI TestOps reports"}]
