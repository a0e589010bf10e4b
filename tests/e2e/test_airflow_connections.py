"""Store, broker and reports as connections of a secrets backend, for every component of Airflow that needs them."""

from __future__ import annotations

import json
import urllib.request
from pathlib import Path

import pytest

from stack.airflow import AirflowStack
from stack.fleet import Fleet
from stack.postgres import Postgres
from stack.samples import Sample
from testops_lib.airflow_api import Airflow
from testops_lib.bus.client import Bus
from testops_lib.store import Store
from tests import s3_server
from tests.e2e.running import DAG, last
from tests.paths import ROOT

pytestmark = [pytest.mark.long, pytest.mark.integration, pytest.mark.airflow, pytest.mark.timeout(600)]


def test_every_component_reaches_store_broker_and_files_by_connections(
    kafka: str, postgres: str, postgres_server: Postgres, sound_shop: Sample, tmp_path: Path
) -> None:
    """Workers execute tasks, the triggerer follows the fleet, the API server renders the report."""
    with Store(postgres) as store:
        store.upgrade()
    with Bus(kafka) as bus:
        bus.create_topics(partitions=2, fleet_partitions=2)
    connections = tmp_path / "connections.json"
    variables = {
        "AIRFLOW__SECRETS__BACKEND": "airflow.secrets.local_filesystem.LocalFilesystemBackend",
        "AIRFLOW__SECRETS__BACKEND_KWARGS": json.dumps({"connections_file_path": str(connections)}),
        "TESTOPS_STORE_CONN_ID": "testops_store",
        "TESTOPS_KAFKA_CONN_ID": "testops_kafka",
        "TESTOPS_REPORTS_DIR": "s3://testops_files@reports/nightly",
        "TESTOPS_LAUNCHER": "fleet",
        "TESTOPS_TARGETS_DIR": str(ROOT / "targets"),
        **sound_shop.variables(),
    }
    fleet = Fleet(tmp_path / "fleet", {"TESTOPS_KAFKA_BOOTSTRAP": kafka, **sound_shop.variables()})
    database = postgres_server.create_database("airflow_by_connections")
    with s3_server.serving() as s3:
        broker = {"conn_type": "kafka", "extra": {"bootstrap.servers": kafka, "group.id": "unused"}}
        files = json.loads(s3.connection)
        connections.write_text(json.dumps({"testops_store": postgres, "testops_kafka": broker, "testops_files": files}))
        try:
            fleet.add()
            with AirflowStack(tmp_path / "airflow", dsn=database, variables=variables) as stack:
                stack.wait(dag=DAG)
                airflow = Airflow(stack.url, username=stack.username, password=stack.password)
                airflow.unpause(DAG)
                run = airflow.trigger(DAG, {"target": "shop", "operations": ["GET /categories"]})
                end = last(airflow, run)
                assert end.state == "success", [
                    airflow.log_tail(DAG, run, task) for task in end.tasks if task.state == "failed"
                ]
                page = urllib.request.Request(
                    f"{stack.url}/testops/runs/{run}/report.json",
                    headers={"Authorization": f"Bearer {airflow.token()}"},
                )
                with urllib.request.urlopen(page) as served:
                    report = served.read()
        finally:
            fleet.stop()
        folder = s3.get("nightly/latest.txt").decode().strip()
        assert s3.get(f"nightly/{folder}/report.json") == report
    assert json.loads(report)["run"] == run
    with Store(postgres) as store:
        assert store.missing(run) == []
