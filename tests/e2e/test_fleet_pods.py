"""The fleet's chart on a real Kubernetes: its pods start confined, become ready, and batches pass through them."""

from __future__ import annotations

import subprocess
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from stack import ports
from testops_lib.bus.batch import parse_positions, positions_text
from testops_lib.bus.client import Bus
from testops_lib.launch.fleet import OrderTracker
from testops_lib.run.orders import hand_out
from testops_lib.settings import Settings
from testops_lib.store import Store
from tests.e2e.pods import Cluster
from tests.runner.test_runner import Log, case, plan, publish
from tests.test_charts import CHART, helm

NAMESPACE = "testops-fleet-test"
CASES = 200

pytestmark = [pytest.mark.cluster, pytest.mark.integration, pytest.mark.timeout(900)]


@pytest.fixture
def namespace(cluster: Cluster) -> Iterator[str]:
    cluster.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}})
    yield NAMESPACE
    cluster.kubectl("delete", "namespace", NAMESPACE, "--wait=false")


@pytest.fixture
def log() -> Iterator[Log]:
    with Log() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def pods(cluster: Cluster) -> list[dict[str, Any]]:
    items: list[dict[str, Any]] = cluster.get("pods", "-n", NAMESPACE)["items"]
    return [pod for pod in items if "deletionTimestamp" not in pod["metadata"]]


def are_ready(cluster: Cluster, count: int) -> bool:
    states = [
        {condition["type"]: condition["status"] for condition in pod["status"].get("conditions", ())}
        for pod in pods(cluster)
    ]
    return [state.get("Ready") for state in states] == ["True"] * count


def until(holds: Any, what: str, timeout_s: float = 120) -> None:
    deadline = time.monotonic() + timeout_s
    while not holds():
        assert time.monotonic() < deadline, what
        time.sleep(0.5)


def test_the_charts_pods_become_ready_and_execute_what_is_ordered(
    cluster: Cluster, image: str, namespace: str, kafka: str, store: Store, log: Log
) -> None:
    line = Bus(kafka, timeout_s=30)
    line.create_topics(partitions=2)
    # The test's Kafka and target announce 127.0.0.1, which a pod sees on the machine's own network only. There
    # a port is the machine's, so one pod: two would want the same; and not on each of its addresses.
    values = {
        "image": image,
        "kafka": {"bootstrap": kafka},
        "keda": {"enabled": False},
        "collector": {"enabled": False},
        "replicas": 1,
        "port": ports.pick(),
        "podSpec": {"hostNetwork": True},
        "bind": "$(POD_IP)",
        "env": [{"name": "POD_IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}}],
    }
    rendered = subprocess.run(
        [*helm(), "template", "night", str(CHART), "--no-hooks", "--namespace", namespace, "-f", "-"],
        input=yaml.safe_dump(values),
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert rendered.returncode == 0, rendered.stderr
    cluster.kubectl("apply", "-n", namespace, "--validate=strict", "-f", "-", given=rendered.stdout)
    until(lambda: are_ready(cluster, 1), "no pod became ready")

    run = "fleet-in-pods"
    at, batches = publish(line, store, run, plan(log.url), [case(number) for number in range(CASES)])
    handed = hand_out(
        run,
        Settings(kafka_bootstrap=kafka),
        plan=str(at),
        wanted=[str(batch) for batch in batches],
        results=positions_text(store.positions(run)),
    )
    tracker = OrderTracker(handed.orders)
    with line.outcomes.follow(parse_positions(handed.outcomes), run) as follower:

        def ended() -> bool:
            for outcome in follower.poll(0.3):
                tracker.add(outcome)
            return tracker.complete

        until(ended, "the orders were not executed")
    assert {code for code, _ in tracker.progress().ended.values()} == {0}
    assert sorted(log.numbers) == list(range(CASES))

    [pod] = pods(cluster)
    assert pod["status"]["containerStatuses"][0]["restartCount"] == 0
    cluster.kubectl("scale", "deployment", "night-fleet", "--replicas=0", "-n", namespace)
    name = pod["metadata"]["name"]
    gone = time.monotonic()
    until(lambda: not cluster.kubectl("get", "pod", name, "-n", namespace, "--ignore-not-found"), "it does not end", 60)
    assert time.monotonic() - gone < 30, "it ended by itself, before it was killed"
