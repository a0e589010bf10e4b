"""The runner's image and batches in real pods: a one-node Kubernetes, Airflow, Kafka, PostgreSQL, the sample shop."""

from __future__ import annotations

import json
import time
from collections.abc import Callable

import pytest
import yaml

from stack.local import Local
from testops_lib.airflow_api import Airflow
from testops_lib.model import Report
from testops_lib.store import Store
from tests.e2e.pods import BASE, IMAGE, ROOT, Cluster, exhaust, kill, pods_of, running_pod
from tests.e2e.running import DAG, all_passed_once, last, midway

MEGABYTE = 1_000_000

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(900)]


def sizes(cluster: Cluster) -> dict[str, int]:
    images = cluster.get("nodes")["items"][0]["status"]["images"]
    return {name: entry["sizeBytes"] for entry in images for name in entry["names"] or ()}


def pod_outcome(cluster: Cluster, name: str, command: list[str]) -> tuple[int, str]:
    """Exit code and output of `command` in the runner's image, confined as the shipped template says."""
    pod = yaml.safe_load((ROOT / "testops_airflow/pod.yaml").read_text("utf-8"))
    pod["metadata"]["name"] = name
    pod["spec"]["containers"][0] |= {"image": IMAGE, **({"command": command} if command else {"args": ["--version"]})}
    cluster.apply(pod)
    try:
        deadline = time.monotonic() + 60
        while (status := cluster.get("pod", name)["status"])["phase"] not in ("Succeeded", "Failed"):
            assert time.monotonic() < deadline, status
            time.sleep(0.3)
        code = status["containerStatuses"][0]["state"]["terminated"]["exitCode"]
        return code, cluster.kubectl("logs", name)
    finally:
        cluster.kubectl("delete", "pod", name, "--wait=false")


LOOK = """
import json, os, shutil, sys
before = set(sys.modules)
import runner.__main__
def writable(path):
    try:
        open(path + "/probe", "w")
        return True
    except OSError:
        return False
print(json.dumps({
    "user": os.getuid(),
    "heavy": sorted(set(sys.modules) & {"airflow", "google.genai", "requests", "sqlalchemy", "rich", "yaml"}),
    "from_source": [m.__name__ for m in list(sys.modules.values()) if getattr(m, "__file__", None)
                    and m.__file__.startswith("/opt/") and m.__file__.endswith(".py")
                    and not os.path.exists(m.__cached__ or "")],
    "writable": [p for p in ("/", "/tmp", "/opt/testops", "/var/tmp") if writable(p)],
    "tools": [tool for tool in ("gcc", "cc", "g++", "make") if shutil.which(tool)],
    "airflow": os.path.exists("/opt/testops/airflow"),
    "token": os.path.exists("/var/run/secrets/kubernetes.io"),
}))
"""


def test_the_image_is_small_and_confined(cluster: Cluster, image: str) -> None:
    code, out = pod_outcome(cluster, "look", ["python", "-c", LOOK])
    assert code == 0, out
    assert json.loads(out) == {
        "user": 65532,
        "heavy": [],
        "from_source": [],
        "writable": [],
        "tools": [],
        "airflow": False,
        "token": False,
    }
    assert pod_outcome(cluster, "version", []) == (0, "test\n")
    deadline = time.monotonic() + 60
    while not {IMAGE, BASE} <= sizes(cluster).keys() and time.monotonic() < deadline:
        time.sleep(1)  # the node reports its images now and then
    assert sizes(cluster)[IMAGE] - sizes(cluster)[BASE] < 150 * MEGABYTE


@pytest.fixture
def local(pods_local: Local) -> Local:
    return pods_local


def findings(local: Local, run: str) -> list[tuple[str, str]]:
    with Store(local.dsn) as store:
        report: Report | None = store.report(run)
    assert report is not None
    return sorted((finding.operation, finding.check) for finding in report.findings)


def triggers(local: Local) -> str:
    """What waits in the triggerer, as it lies in Airflow's database: in the clear."""
    import psycopg

    with psycopg.connect(local.airflow.dsn) as connection:
        return "\n".join(row[0] for row in connection.execute("SELECT kwargs FROM trigger").fetchall())


def test_a_run_in_pods_finds_every_seeded_defect_once(local: Local, airflow: Airflow, cluster: Cluster) -> None:
    run = airflow.trigger(DAG, {"target": "shop"})
    waiting, labels = "", {}
    for snapshot in airflow.wait(DAG, run, timeout_s=400):
        end = snapshot
        waiting += triggers(local)
        for pod in pods_of(cluster, run):
            labels |= pod["metadata"]["labels"]
    defects = yaml.safe_load((ROOT / "examples/shop/defects.yaml").read_text("utf-8"))
    assert findings(local, run) == sorted((defect["operation"], defect["check"]) for defect in defects)
    assert {task.task for task in end.tasks if task.state == "failed"} == {"gate"}
    executed = [task for task in end.tasks if task.task == "execute"]
    assert len(executed) > 1
    assert "requests" in airflow.log_tail(DAG, run, executed[0], lines=200), "the runner's lines are the task's log"
    assert labels["app.kubernetes.io/name"] == "testops-runner" and {"testops/run", "testops/batch"} <= labels.keys()
    assert "pod_name" in waiting, "the tasks were deferred"
    assert "client-key-data" not in waiting and "certificate" not in waiting, "the kubeconfig leaked into the database"
    assert pods_of(cluster, run) == [], "pods that succeeded are deleted"


def test_a_runner_without_its_secret_is_not_tried_again(airflow: Airflow) -> None:
    end = last(airflow, airflow.trigger(DAG, {"target": "keyless", "max_cases": 20}))
    executed = [task for task in end.tasks if task.task == "execute"]
    assert executed and {(task.state, task.attempt) for task in executed} == {("failed", 1)}
    log = airflow.log_tail(DAG, end.run, executed[0], lines=200)
    assert "NOT_IN_THE_SECRET" in log and "refused its configuration" in log
    assert "valueFrom" not in log and "env_from" not in log, "a pod's specification does not belong into a log"


def delete(cluster: Cluster, run: str) -> None:
    cluster.kubectl("delete", "pod", running_pod(cluster, run), "--wait=false")


@pytest.mark.parametrize("harm", [kill, delete, exhaust])
def test_after_a_pod_is_lost_each_published_case_has_exactly_one_final_result(
    local: Local, airflow: Airflow, cluster: Cluster, harm: Callable[[Cluster, str], None]
) -> None:
    run = airflow.trigger(DAG, {"target": "slow"})
    with Store(local.dsn) as store:
        now = midway(store, run, done=20)
        harm(cluster, run)
        end = last(airflow, run)
        assert end.state == "success", end
        all_passed_once(store, run, now.published)
    assert any(task.attempt > 1 for task in end.tasks if task.task == "execute"), "a batch was repeated"
