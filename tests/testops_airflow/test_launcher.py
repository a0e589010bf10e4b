"""Batches in child processes of their tasks."""

from __future__ import annotations

import pytest

from testops_lib.store import Store
from tests.warm_python import WarmPython

pytestmark = pytest.mark.airflow

LAUNCH = """
import sys
from types import SimpleNamespace
from testops_airflow.launcher import RunnerProcessOperator
operator = RunnerProcessOperator(task_id="t", run="r", plan="p:0:0-1", batch="b:0:0-1", results="wrong", attempt=1)
try:
    ti = SimpleNamespace(try_number=int(sys.argv[1]), xcom_push=lambda key, value: print(f"{key}: {value}"))
    operator.execute({"ti": ti})
except Exception as error:
    print(type(error).__name__)
"""


@pytest.mark.parametrize(("number", "looked"), [(1, False), (2, True)])
def test_only_a_repeated_task_looks_for_earlier_results(airflow: WarmPython, number: int, looked: bool) -> None:
    done = airflow.run(LAUNCH, [str(number)])
    output = done.stdout + done.stderr
    assert "AirflowFailException" in output and "cause: t: the runner refused its configuration: " in output, output
    assert ("'wrong' are no positions" in output, "TESTOPS_KAFKA_BOOTSTRAP" in output) == (looked, not looked), output


def test_a_try_that_is_started_over_looks_for_earlier_results(airflow: WarmPython, store: Store, postgres: str) -> None:
    store.open_run("r", "shop")
    looked = []
    for _ in range(2):
        done = airflow.run(LAUNCH, ["1"], variables={"TESTOPS_DSN": postgres})
        looked.append("'wrong' are no positions" in done.stdout + done.stderr)
    assert looked == [False, True]
