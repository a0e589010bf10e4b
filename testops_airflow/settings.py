"""The settings of a task, trigger or plugin: its environment, and the Airflow connections that it names.

DAG files read the environment alone (`testops_lib.settings`): they are parsed constantly, and each connection may be
a call to a secrets backend.
"""

from __future__ import annotations

from typing import Any

import msgspec

from testops_lib import settings as configuration
from testops_lib.errors import SettingsError
from testops_lib.settings import Settings

_CONSUMER_OPTIONS = ("group.id", "auto.offset.reset", "enable.auto.commit")
"""What Airflow's own Kafka operators need in the connection; our consumers set them for themselves."""


def read_settings() -> Settings:
    """The settings of this process; store and broker from Airflow's connections where their ids are set.

    Raises:
        SettingsError: a variable or a connection holds what it cannot mean.
        AirflowException: there is no such connection, or its secrets backend gives no answer.
    """
    settings = configuration.read()
    if settings.store_conn_id:
        settings = msgspec.structs.replace(settings, dsn=_dsn(settings.store_conn_id))
    if settings.kafka_conn_id:
        options = _kafka_options(settings.kafka_conn_id)
        bootstrap = options.pop("bootstrap.servers")
        settings = msgspec.structs.replace(settings, kafka_bootstrap=bootstrap, kafka_options=options)
    return settings


def _dsn(conn_id: str) -> str:
    """The URI of a Postgres connection, with its extra (`sslmode`, …), which the hook's own `get_uri` leaves out."""
    from airflow.providers.postgres.hooks.postgres import PostgresHook
    from airflow.sdk import Connection

    hook = PostgresHook(postgres_conn_id=conn_id)
    connection = _connection(hook, conn_id, "TESTOPS_STORE_CONN_ID")
    login, password, port = connection.login, connection.password, connection.port
    if connection.extra_dejson.get("iam"):
        login, password, port = hook.get_iam_token(connection)
    extra = {
        name: str(value) for name, value in connection.extra_dejson.items() if name not in hook.ignored_extra_options
    }
    return Connection(
        conn_id=conn_id,
        conn_type="postgresql",
        host=connection.host,
        schema=connection.schema,
        login=login,
        password=password,
        port=port,
        extra=msgspec.json.encode(extra).decode() if extra else None,
    ).get_uri()


def _kafka_options(conn_id: str) -> dict[str, str]:
    """The librdkafka settings of a Kafka connection, `bootstrap.servers` among them."""
    from airflow.providers.apache.kafka.hooks.base import CALLBACK_CONFIG_KEYS, KafkaBaseHook

    extra = _connection(KafkaBaseHook(conn_id), conn_id, "TESTOPS_KAFKA_CONN_ID").extra_dejson
    where = f"Airflow's connection {conn_id!r}"
    if not extra.get("bootstrap.servers"):
        raise SettingsError(
            "its extra has no bootstrap.servers",
            where=where,
            next_step='add it to the extra: {"bootstrap.servers": "kafka:9092"}',
        )
    if callbacks := sorted(set(CALLBACK_CONFIG_KEYS) & extra.keys()):
        raise SettingsError(
            f"its extra has {', '.join(callbacks)}: runners are other processes and cannot call functions of Airflow",
            where=where,
            next_step="use settings of librdkafka alone, such as sasl.oauthbearer.method",
        )
    return {name: _text(value) for name, value in extra.items() if name not in _CONSUMER_OPTIONS}


def _connection(hook: Any, conn_id: str, variable: str) -> Any:
    from airflow.sdk.exceptions import AirflowException, AirflowNotFoundException

    try:
        return hook.get_connection(conn_id)
    except AirflowNotFoundException as error:
        # Not a SettingsError, which no task retries: Airflow skips a secrets backend that is away.
        raise AirflowException(
            f"{variable}: Airflow has no connection {conn_id!r}, or its secrets backend gives no answer"
        ) from error


def _text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
