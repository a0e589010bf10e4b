"""Reports of runs behind Airflow's own login: `/testops/runs/RUN/report`, and each file of a run, from the store."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from functools import cached_property
from typing import Any, BinaryIO

from airflow.plugins_manager import AirflowPlugin

CHUNK_BYTES = 65_536
MEMORY_BYTES = 4_000_000
"""Of one answer; the rest waits on disk."""
HEADERS = {"X-Content-Type-Options": "nosniff", "Cache-Control": "no-store", "X-Frame-Options": "SAMEORIGIN"}
# Targets answered parts of these files: a browser stores them and does not show them.
DOWNLOAD_HEADERS = {"Content-Security-Policy": "default-src 'none'; sandbox"}


def application() -> Any:
    """The FastAPI application; each path requires a user who may see the DAG."""
    from airflow.api_fastapi.core_api.security import requires_access_dag
    from airflow.sdk.exceptions import AirflowException
    from fastapi import Depends, FastAPI, HTTPException
    from fastapi.responses import StreamingResponse

    from testops_airflow.settings import read_settings
    from testops_lib.errors import StoreError
    from testops_lib.run.report import FORMS, write_forms
    from testops_lib.store import Store
    from testops_lib.verdict.attempts import settle

    may_read = Depends(requires_access_dag("GET", param_dag_id="testops_run"))
    app = FastAPI(title="AI TestOps", docs_url=None, redoc_url=None, openapi_url=None, dependencies=[may_read])

    def written(run: str, form: str) -> BinaryIO:
        file: Any = tempfile.SpooledTemporaryFile(MEMORY_BYTES)
        try:
            with Store(read_settings().need_dsn()) as store:
                stored = store.report(run)
                if stored is None:
                    raise HTTPException(404, f"run {run} has no report: see its tasks in Airflow")
                write_forms(stored, settle(store.attempts(run)), {form: file})
        except (StoreError, AirflowException) as error:
            raise HTTPException(503, "the results database is away") from error
        return file  # type: ignore[no-any-return]

    def answer(run: str, form: str) -> StreamingResponse:
        file = written(run, form)
        headers = {**HEADERS, "Content-Length": str(file.tell())}
        if form != "report.html":
            headers |= {**DOWNLOAD_HEADERS, "Content-Disposition": f'attachment; filename="{form}"'}
        return StreamingResponse(chunks(file), media_type=FORMS[form], headers=headers)

    # A slash may be part of a run's id.
    @app.get("/runs/{run:path}/report")
    def report(run: str) -> StreamingResponse:
        """The report of the run as HTML."""
        return answer(run, "report.html")

    @app.get("/runs/{run:path}/{form}")
    def form_of_report(run: str, form: str) -> StreamingResponse:
        """The report of the run in another form."""
        if form not in FORMS:
            raise HTTPException(404, f"a report has the forms {', '.join(FORMS)}")
        return answer(run, form)

    return app


def chunks(file: BinaryIO) -> Iterator[bytes]:
    """The file from its beginning; closes it."""
    with file:
        file.seek(0)
        while chunk := file.read(CHUNK_BYTES):
            yield chunk


class TestOpsReports(AirflowPlugin):
    """Every component of Airflow loads it; only the API server asks for its application, whose imports take seconds."""

    __test__ = False
    name = "testops_reports"

    @cached_property
    def fastapi_apps(self) -> list[dict[str, Any]]:  # type: ignore[override]
        """The application and its path."""
        return [{"app": application(), "url_prefix": "/testops", "name": "AI TestOps reports"}]
