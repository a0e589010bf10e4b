"""`sample_pipeline`: a DAG with something of everything that Airflow's REST API can be asked about.

One run is started, and other data laid beside it, by `stack.seed` when Airflow itself is under test.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from airflow.providers.standard.operators.hitl import ApprovalOperator
from airflow.sdk import Asset, AssetAlias, AssetOrTimeSchedule, CronTriggerTimetable, dag, task

ORDERS = Asset(name="sample_orders", uri="sample://orders")
STOCK = Asset(name="sample_stock", uri="sample://stock")


@dag(
    dag_id="sample_pipeline",
    # Both assets: an event of one alone stays queued. A time as well: without it nothing could be backfilled.
    schedule=AssetOrTimeSchedule(timetable=CronTriggerTimetable("@yearly", timezone="UTC"), assets=ORDERS & STOCK),
    start_date=datetime(2020, 1, 1, tzinfo=UTC),
    catchup=False,
    is_paused_upon_creation=True,
    tags=["sample"],
    doc_md=__doc__,
)
def sample_pipeline() -> None:
    """Counts two shelves, and asks a person who may take a year to answer."""

    @task(outlets=[AssetAlias("sample_shelves")])
    def count(shelf: str) -> int:
        """A mapped task with a value for XCom."""
        return len(shelf)

    count.expand(shelf=["tea", "coffee"])
    ApprovalOperator(
        task_id="ask_a_person", subject="Shall the shelves be filled?", response_timeout=timedelta(days=365)
    )


sample_pipeline()
