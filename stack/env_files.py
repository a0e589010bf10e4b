"""Writes what `docker compose up` needs and git must not have: `.env` and `targets.env`, with new secrets (`make env`).

Standard library alone, so that it works without the environment.
"""

from __future__ import annotations

import base64
import os
import secrets
import sys
from collections.abc import Callable
from pathlib import Path

from stack import PROJECT

COMPOSE: dict[str, Callable[[], str]] = {
    "COMPOSE_PROFILES": lambda: "core,fleet,sample",
    "AIRFLOW_ADMIN_PASSWORD": lambda: secrets.token_urlsafe(18),
    "AIRFLOW_DB_PASSWORD": lambda: secrets.token_hex(24),
    "TESTOPS_DB_PASSWORD": lambda: secrets.token_hex(24),
    "AIRFLOW_FERNET_KEY": lambda: base64.urlsafe_b64encode(secrets.token_bytes(32)).decode(),
    "AIRFLOW_API_SECRET": lambda: secrets.token_urlsafe(32),
    "AIRFLOW_JWT_SECRET": lambda: secrets.token_urlsafe(48),
    "GRAFANA_ADMIN_PASSWORD": lambda: secrets.token_urlsafe(18),
}
"""Variables of `docker-compose.yaml` without a default, and how each is made."""


def targets() -> dict[str, str]:
    """What the target file of the sample shop names, and the shop itself; the same tokens under both names."""
    customer, staff = secrets.token_hex(20), secrets.token_hex(20)
    return {
        "TESTOPS_SHOP_URL": "http://shop:8081",
        "TESTOPS_SHOP_TOKEN": customer,
        "TESTOPS_SHOP_ADMIN_TOKEN": staff,
        "SHOP_TOKEN": customer,
        "SHOP_ADMIN_TOKEN": staff,
    }


def write(folder: Path = PROJECT) -> list[str]:
    """Adds what is missing to both files; the names that were added. What stands there stays, so it may run again."""
    added = _complete(folder / ".env", {name: make() for name, make in COMPOSE.items()}, "For docker compose.")
    return added + _complete(folder / "targets.env", targets(), "Secrets that target files name, as ${NAME}.")


def _complete(path: Path, values: dict[str, str], title: str) -> list[str]:
    lines = path.read_text("utf-8").splitlines() if path.exists() else []
    present = {line.partition("=")[0].strip() for line in lines if not line.lstrip().startswith("#")}
    missing = {name: value for name, value in values.items() if name not in present}
    if missing:
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600), "a", encoding="utf-8") as file:
            if lines and lines[-1].strip():
                file.write("\n")
            file.write(f"# {title}\n" + "".join(f"{name}={value}\n" for name, value in missing.items()))
    return sorted(missing)


if __name__ == "__main__":
    names = write(*map(Path, sys.argv[1:2]))
    print(f"added: {', '.join(names)}" if names else "nothing was missing")
