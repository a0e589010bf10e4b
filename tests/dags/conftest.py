from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pytest

from tests.paths import ROOT
from tests.warm_python import WarmPython

RUN = (ROOT / "tests/dags/run_once.py").read_text("utf-8")


@pytest.fixture
def run_dag(airflow: WarmPython) -> Callable[..., list[dict[str, Any]]]:
    """Runs `testops_run` for each conf, one after the other, and gives their outcomes."""

    def run(confs: Sequence[Mapping[str, Any]], variables: Mapping[str, str]) -> list[dict[str, Any]]:
        done = airflow.run(RUN, [json.dumps(confs)], variables=variables, timeout_s=280)
        last = done.stdout.strip().rpartition("\n")[2]
        assert done.returncode == 0 and last.startswith("["), done.stdout[-4000:] + done.stderr[-4000:]
        outcomes: list[dict[str, Any]] = json.loads(last)
        return outcomes

    return run
