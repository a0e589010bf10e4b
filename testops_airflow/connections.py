"""A target's credentials from Airflow's connections, for runners that are child processes of the task."""

from __future__ import annotations

import re
from typing import Any

from airflow.sdk import Connection
from airflow.sdk.exceptions import AirflowFailException, AirflowNotFoundException
from airflow.sdk.log import mask_secret

_NAME = re.compile(r"CONN_(?P<id>[A-Z0-9_]+)_(?P<field>LOGIN|PASSWORD|HOST|SCHEMA|PORT|EXTRA_[A-Z0-9_]+)")


def variables(names: set[str]) -> dict[str, str]:
    """Values of the variables that name a field of a connection; other names are left out.

    `CONN_PETS_PASSWORD` is the password of the connection `pets`, `CONN_PETS_EXTRA_API_KEY` the member `api_key` of its
    extra.

    Raises:
        AirflowFailException: there is no such connection, or it has no such field.
    """
    values: dict[str, str] = {}
    connections: dict[str, Any] = {}
    for name in sorted(names):
        parts = _NAME.fullmatch(name)
        if parts is None:
            continue
        conn_id, field = parts["id"].lower(), parts["field"].lower()
        try:
            connection = connections.get(conn_id) or connections.setdefault(conn_id, Connection.get(conn_id))
        except AirflowNotFoundException as error:
            raise AirflowFailException(f"${{{name}}}: Airflow has no connection {conn_id!r}: add it") from error
        if field.startswith("extra_"):
            value = connection.extra_dejson.get(field.removeprefix("extra_"))
        else:
            value = getattr(connection, field)
        if value in (None, ""):
            raise AirflowFailException(f"${{{name}}}: Airflow's connection {conn_id!r} has no {field}")
        values[name] = str(value)
        mask_secret(values[name])
    return values
