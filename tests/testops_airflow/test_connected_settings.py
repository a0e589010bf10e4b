"""Store and broker from Airflow's connections."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from psycopg.conninfo import conninfo_to_dict

from testops_lib import settings as configuration
from testops_lib.errors import SettingsError
from tests.airflow_python import printed
from tests.warm_python import WarmPython

pytestmark = pytest.mark.airflow

READ = """
import json
from testops_airflow.settings import read_settings
try:
    settings = read_settings()
    print(json.dumps([settings.dsn, settings.kafka_bootstrap, settings.kafka_options]))
except Exception as error:
    print(json.dumps([type(error).__name__, str(error)]))
"""
IDS = {"TESTOPS_STORE_CONN_ID": "testops_store", "TESTOPS_KAFKA_CONN_ID": "testops_kafka"}
STORE = {
    "conn_type": "postgres",
    "host": "db.example.com",
    "port": 5433,
    "login": "testops",
    "password": "p@ss/word:%",
    "schema": "results",
    "extra": {"sslmode": "verify-full", "connect_timeout": 7, "cursor": "dictcursor"},
}
KAFKA = {
    "conn_type": "kafka",
    "extra": {
        "bootstrap.servers": "kafka-1:9093,kafka-2:9093",
        "group.id": "of-the-example",
        "security.protocol": "SASL_SSL",
        "sasl.password": "secret",
        "enable.ssl.certificate.verification": True,
        "socket.timeout.ms": 5000,
    },
}
EXPECTED_STORE = {
    "host": "db.example.com",
    "port": "5433",
    "user": "testops",
    "password": "p@ss/word:%",
    "dbname": "results",
    "sslmode": "verify-full",
    "connect_timeout": "7",
}
EXPECTED_KAFKA = [
    "kafka-1:9093,kafka-2:9093",
    {
        "security.protocol": "SASL_SSL",
        "sasl.password": "secret",
        "enable.ssl.certificate.verification": "true",
        "socket.timeout.ms": "5000",
    },
]


def by_environment(folder: Path) -> dict[str, str]:
    return {"AIRFLOW_CONN_TESTOPS_STORE": json.dumps(STORE), "AIRFLOW_CONN_TESTOPS_KAFKA": json.dumps(KAFKA)}


def by_secrets_backend(folder: Path) -> dict[str, str]:
    path = folder / "connections.json"
    path.write_text(json.dumps({"testops_store": STORE, "testops_kafka": KAFKA}))
    return {
        "AIRFLOW__SECRETS__BACKEND": "airflow.secrets.local_filesystem.LocalFilesystemBackend",
        "AIRFLOW__SECRETS__BACKEND_KWARGS": json.dumps({"connections_file_path": str(path)}),
    }


@pytest.mark.parametrize("source", [by_environment, by_secrets_backend])
def test_connections_replace_the_addresses_of_the_environment(airflow: WarmPython, tmp_path: Path, source: Any) -> None:
    environment = {
        "TESTOPS_DSN": "postgresql://elsewhere/db",
        "TESTOPS_KAFKA_BOOTSTRAP": "elsewhere:9092",
        "TESTOPS_KAFKA_OPTIONS": '{"client.id": "elsewhere"}',
    }
    dsn, *kafka = printed(airflow, READ, **IDS, **environment, **source(tmp_path))
    assert conninfo_to_dict(dsn) == EXPECTED_STORE
    assert kafka == EXPECTED_KAFKA
    assert printed(airflow, READ, **environment, **source(tmp_path)) == [
        "postgresql://elsewhere/db",
        "elsewhere:9092",
        {"client.id": "elsewhere"},
    ]


@pytest.mark.parametrize(
    ("connections", "kind", "text"),
    [
        ({}, "AirflowException", "TESTOPS_STORE_CONN_ID: Airflow has no connection 'testops_store'"),
        (
            {"AIRFLOW_CONN_TESTOPS_STORE": json.dumps(STORE)},
            "AirflowException",
            "TESTOPS_KAFKA_CONN_ID: Airflow has no connection 'testops_kafka'",
        ),
        (
            {
                "AIRFLOW_CONN_TESTOPS_STORE": json.dumps(STORE),
                "AIRFLOW_CONN_TESTOPS_KAFKA": '{"conn_type": "kafka", "host": "kafka"}',
            },
            "SettingsError",
            "Airflow's connection 'testops_kafka': its extra has no bootstrap.servers",
        ),
        (
            {
                "AIRFLOW_CONN_TESTOPS_STORE": json.dumps(STORE),
                "AIRFLOW_CONN_TESTOPS_KAFKA": json.dumps({**KAFKA, "extra": {**KAFKA["extra"], "oauth_cb": "a.b"}}),
            },
            "SettingsError",
            "runners are other processes",
        ),
    ],
)
def test_a_connection_that_cannot_be_used_is_named(
    airflow: WarmPython, connections: dict[str, str], kind: str, text: str
) -> None:
    name, message = printed(airflow, READ, **IDS, **connections)
    assert name == kind and text in message


def test_outside_of_airflow_connections_are_not_read() -> None:
    settings = configuration.read({**IDS, "TESTOPS_DSN": "postgresql://h/db", "TESTOPS_KAFKA_BOOTSTRAP": "h:9092"})
    assert (settings.need_dsn(), settings.need_kafka()) == ("postgresql://h/db", "h:9092")
    settings = configuration.read(IDS)
    with pytest.raises(SettingsError, match="TESTOPS_DSN: is not set, and only Airflow's tasks read its connection"):
        settings.need_dsn()
    with pytest.raises(SettingsError, match="'testops_kafka'"):
        settings.need_kafka()
