"""Credentials from Airflow's connections."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import pytest

from testops_lib.store import Store
from testops_lib.target import ResolvedRun, RunConf, load
from tests.warm_python import WarmPython

pytestmark = pytest.mark.airflow

CONNECTIONS = """
import os
from testops_airflow.launcher import RunnerProcessOperator
from testops_airflow.settings import read_settings
operator = RunnerProcessOperator(task_id="t", run="r", plan="p", batch="b", results="", target="pets")
try:
    print(sorted(operator._credentials(os.environ, read_settings()).items()))
except Exception as error:
    print(f"{type(error).__name__}: {error}")
"""

PETS = """
spec: https://h/openapi.json
base_url: https://h
auth:
  - name: ann
    basic: {username: "${CONN_PETS_LOGIN}", password: "${CONN_PETS_PASSWORD}"}
    apiKey: {name: X-Key, value: "${CONN_PETS_EXTRA_API_KEY}"}
  - {name: bob, bearer: "${BOBS_TOKEN}"}
"""


@pytest.mark.parametrize(
    ("connection", "more", "printed"),
    [
        (
            {"conn_type": "http", "login": "ann", "password": "pw-of-ann", "extra": {"api_key": "key-of-ann"}},
            {},
            "[('CONN_PETS_EXTRA_API_KEY', 'key-of-ann'), ('CONN_PETS_LOGIN', 'ann'), "
            "('CONN_PETS_PASSWORD', 'pw-of-ann')]",
        ),
        (
            {"conn_type": "http", "login": "ann", "extra": {"api_key": "k"}},
            {"CONN_PETS_PASSWORD": "of the environment"},
            "[('CONN_PETS_EXTRA_API_KEY', 'k'), ('CONN_PETS_LOGIN', 'ann')]",
        ),
        ({"conn_type": "http", "login": "ann", "extra": {"api_key": "k"}}, {}, "connection 'pets' has no password"),
        (None, {}, "Airflow has no connection 'pets'"),
    ],
)
def test_credentials_may_come_from_airflows_connections(
    airflow: WarmPython,
    tmp_path: Path,
    store: Store,
    postgres: str,
    connection: Mapping[str, object] | None,
    more: Mapping[str, str],
    printed: str,
) -> None:
    (tmp_path / "pets.yaml").write_text(PETS, "utf-8")
    store.open_run("r", "pets", resolved=ResolvedRun(conf=RunConf(target="pets"), target=load(tmp_path / "pets.yaml")))
    connections = {"AIRFLOW_CONN_PETS": json.dumps(connection)} if connection else {}
    done = airflow.run(CONNECTIONS, variables={**connections, **more, "TESTOPS_DSN": postgres})
    assert done.returncode == 0 and printed in done.stdout, done.stderr
