"""Pods of batches."""

from __future__ import annotations

import pytest

from tests.airflow_python import printed
from tests.warm_python import WarmPython

pytestmark = pytest.mark.airflow

WAIT = """
import inspect, json
from datetime import datetime, timedelta, timezone
from types import SimpleNamespace
from airflow.sdk.exceptions import TaskDeferred
from kubernetes.client import V1ObjectMeta, V1Pod, V1PodSpec
from testops_airflow.kubernetes import Pod
waits = []
for lives in (None, 1500, 7800):
    pod = Pod(task_id="execute", batch="b", namespace="", kubeconfig="", execution_timeout=timedelta(minutes=30))
    spec = V1PodSpec(containers=[], active_deadline_seconds=lives)
    pod.pod = V1Pod(metadata=V1ObjectMeta(name="n", namespace="default"), spec=spec)
    # Airflow's operator passes the context only where the method names it.
    assert "context" in inspect.signature(pod.invoke_defer_method).parameters
    try:
        pod.invoke_defer_method(context={"ti": SimpleNamespace(start_date=datetime.now(timezone.utc))})
    except TaskDeferred as deferred:
        waits.append(deferred.timeout.total_seconds())
print(json.dumps(waits))
"""


def test_a_task_waits_for_its_pod_as_long_as_that_may_live(airflow: WarmPython) -> None:
    unlimited, usual, long = printed(airflow, WAIT)
    assert 1800 <= unlimited < 1900
    assert 1500 < usual < 2300
    assert 7800 < long < 8600


def test_the_pod_template_comes_with_the_operators(airflow: WarmPython) -> None:
    kind = "import json; from testops_airflow import pod; from testops_lib.launch.pod import read_template; "
    assert printed(airflow, kind + "print(json.dumps(read_template(pod.TEMPLATE)['kind']))") == "Pod"
