"""Sample data for Airflow itself, so that most of its REST API has something to show when it is under test.

`examples/airflow/dags` has the DAGs; everything else is created here over the REST API.
"""

from __future__ import annotations

import time
from typing import Final

from stack import PROJECT
from testops_lib.airflow_api import Airflow
from testops_lib.errors import StackError

DAGS: Final = PROJECT / "examples" / "airflow" / "dags"
DAG: Final = "sample_pipeline"
TASK: Final = "ask_a_person"
"""The task that has everything a task can have: it waits for a person, which also keeps its run open."""

RUN: Final = "sample"
_A_DAY: Final = "2024-01-01T00:00:00Z"


def seed(airflow: Airflow, *, patience_s: float = 60) -> None:
    """Creates a run of the sample DAG that waits for a person, a backfill, a queued asset event, a variable, a
    connection, and values in XCom and in both state stores, unless they exist. The DAG must have been parsed.

    Raises:
        TriggerError: Airflow refused something.
        StackError: the task has not begun to wait within `patience_s`.
    """
    # Triggered while the DAG is paused, so that this is its first run. It continues while the rest is created.
    airflow.trigger(DAG, {}, run_id=RUN, note="sample data")
    airflow.unpause(DAG)
    airflow.put("POST", "/api/v2/variables", {"key": "sample_greeting", "value": "hello", "description": "sample data"})
    airflow.put(
        "POST", "/api/v2/connections", {"connection_id": "sample_shop", "conn_type": "http", "host": "shop.example"}
    )
    asset = airflow.get("/api/v2/assets", dag_ids=DAG)["assets"][0]["id"]
    airflow.put("PUT", f"/api/v2/assets/{asset}/state-store/sample_cursor", {"value": {"page": 2}})
    if not airflow.get(f"/api/v2/dags/{DAG}/assets/queuedEvents")["total_entries"]:
        airflow.put("POST", "/api/v2/assets/events", {"asset_id": asset, "extra": {"rows": 3}})
    if not airflow.get("/api/v2/backfills", dag_id=DAG)["total_entries"]:
        backfill = {"dag_id": DAG, "from_date": _A_DAY, "to_date": _A_DAY, "max_active_runs": 1}
        airflow.put("POST", "/api/v2/backfills", backfill)
    _wait(airflow, patience_s)
    place = f"/api/v2/dags/{DAG}/dagRuns/{RUN}/taskInstances/{TASK}"
    airflow.put("POST", f"{place}/xcomEntries", {"key": "sample_shelves", "value": ["tea", "coffee"], "map_index": -1})
    airflow.put("PUT", f"{place}/state-store/sample_cursor", {"value": {"shelf": "tea"}, "expires_at": None})


def _wait(airflow: Airflow, patience_s: float) -> None:
    """Returns when the task has asked its question, whether or not somebody has answered since."""
    deadline = time.monotonic() + patience_s
    while not airflow.get(f"/api/v2/dags/{DAG}/dagRuns/{RUN}/hitlDetails")["total_entries"]:
        if time.monotonic() > deadline:
            raise StackError(
                f"task {TASK} asked no question within {patience_s:.0f} s",
                where=f"DAG {DAG}",
                next_step=f"see {airflow.page(DAG, RUN)}",
            )
        time.sleep(0.2)
