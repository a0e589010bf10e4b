"""When a task is tried again."""

from __future__ import annotations

import pytest

from tests.airflow_python import printed
from tests.warm_python import WarmPython

pytestmark = pytest.mark.airflow

RETRIES = """
import json
from types import SimpleNamespace
from testops_lib import errors
from testops_airflow.retries import POLICY
causes = []
context = {"ti": SimpleNamespace(task_id="load_spec", xcom_push=lambda key, value: causes.append(value))}
wrong, away = errors.SpecError("wrong"), errors.SpecAwayError("away")
raised = [errors.TargetError("t"), errors.UnknownRunError("r"), wrong, away, errors.BusError("b"), KeyError(1)]
print(json.dumps({
    "actions": {
        type(error).__name__: [POLICY.evaluate(error, number, 5, context).action.value for number in (1, 2, 6)]
        for error in raised
    },
    "causes": causes,
}))
"""


def test_a_task_is_tried_again_as_often_as_that_may_help(airflow: WarmPython) -> None:
    decisions = printed(airflow, RETRIES)
    assert decisions["actions"] == {
        "TargetError": ["fail"] * 3,
        "UnknownRunError": ["fail"] * 3,
        "SpecError": ["default", "fail", "fail"],
        "SpecAwayError": ["default"] * 3,
        "BusError": ["default"] * 3,
        "KeyError": ["default", "fail", "fail"],
    }
    # Each time it was the task's last try, and once more where five were not enough.
    assert decisions["causes"] == [
        *["load_spec: t"] * 3,
        *["load_spec: r"] * 3,
        *["load_spec: wrong"] * 2,
        "load_spec: away",
        "load_spec: b",
        *["load_spec: KeyError, see the task's log"] * 2,
    ]
