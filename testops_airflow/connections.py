"""A target's credentials out of Airflow's connections, for runners that are processes of the task itself."""

from __future__ import annotations

import re
from typing import Any

from airflow.sdk import Connection
from airflow.sdk.exceptions import AirflowFailException, AirflowNotFoundException
from airflow.sdk.log import mask_secret

_NAME = re.compile(r"CONN_(?P<id>[A-Z0-9_]+)_(?P<field>LOGIN|PASSWORD|HOST|SCHEMA|PORT|EXTRA_[A-Z0-9_]+)")


def variables(names: set[str]) -> dict[str, str]:
    """Values of the names that speak of a connection: `CONN_PETS_PASSWORD` is the password of the connection `pets`,
    `CONN_PETS_EXTRA_API_KEY` the member `api_key` of its extra. Other names are left out.

    Raises:
        AirflowFailException: there is no such connection, or it has no such field.
    """
    found: dict[str, str] = {}
    known: dict[str, Any] = {}
    for name in sorted(names):
        parts = _NAME.fullmatch(name)
        if parts is None:
            continue
        wanted, field = parts["id"].lower(), parts["field"].lower()
        try:
            connection = known.setdefault(wanted, known.get(wanted) or Connection.get(wanted))
        except AirflowNotFoundException as error:
            raise AirflowFailException(f"${{{name}}}: Airflow has no connection {wanted!r}: add it") from error
        if field.startswith("extra_"):
            value = connection.extra_dejson.get(field.removeprefix("extra_"))
        else:
            value = getattr(connection, field)
        if value in (None, ""):
            raise AirflowFailException(f"${{{name}}}: Airflow's connection {wanted!r} has no {field}")
        found[name] = str(value)
        mask_secret(found[name])
    return found
