"""The runner's image and batches in real pods: a one-node Kubernetes, Airflow, Kafka, PostgreSQL, the sample shop."""

from __future__ import annotations

import base64
import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from testops_lib.errors import StoreError
from testops_lib.model import Report
from testops_lib.stack.local import Local
from testops_lib.stack.samples import Sample
from testops_lib.store import Progress, Store
from testops_lib.trigger import Airflow
from tests.e2e.running import DAG, client, last

ROOT = Path(__file__).parents[2]
IMAGE = "docker.io/library/testops-runner:test"
BASE = "docker.io/library/python:3.11-slim"
MEGABYTE = 1_000_000

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(600)]

ON_THE_HOST = {"spec": {"hostNetwork": True}}
"""The shop and Kafka announce 127.0.0.1, which a pod sees on the machine's own network only."""

SLOW = """
title: Sample shop without defects, slowly
spec: ${SOUND_URL}/openapi.json
base_url: ${SOUND_URL}
auth:
  - name: staff
    fixedHeaders: [{name: Authorization, value: "Bearer ${SOUND_TOKEN}"}]
operations: {include: ["* /products*", "* /categories*"]}
generate: {max_cases: 240}
policy: {allow_private: true, requests_per_second: 16, cases_per_batch: 80}
pod: {spec: {hostNetwork: true}}
"""


class Cluster:
    """`kubectl` of a running cluster."""

    def __init__(self, folder: Path, environment: Mapping[str, str]) -> None:
        self.folder = folder
        self.environment = {**os.environ, **environment}

    @property
    def kubeconfig(self) -> str:
        return self.environment["KUBECONFIG"]

    def kubectl(self, *arguments: str, given: str = "", check: bool = True) -> str:
        done = subprocess.run(
            ["kubectl", *arguments], input=given, capture_output=True, text=True, env=self.environment, timeout=120
        )
        assert not check or done.returncode == 0, done.stderr
        return done.stdout

    def get(self, *arguments: str) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.kubectl("get", *arguments, "-o", "json"))
        return found

    def apply(self, manifest: Mapping[str, Any]) -> None:
        self.kubectl("apply", "-f", "-", given=json.dumps(manifest))

    def build(self, name: str, *options: str) -> None:
        command = [str(self.folder / "image"), "build", name, str(ROOT), *options]
        done = subprocess.run(command, capture_output=True, text=True, timeout=500)
        assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    folder = Path(os.environ.get("TESTOPS_CLUSTER") or ROOT.parent / "shared/cluster")
    asked = bool(os.environ.get("TESTOPS_CLUSTER")) or os.environ.get("CI") == "true"
    if not asked or os.getuid() or not (folder / "up").is_file():
        pytest.skip("needs a cluster: as root, TESTOPS_CLUSTER=the folder with its commands up, down and image")
    up = subprocess.run([str(folder / "up")], capture_output=True, text=True, timeout=300)
    assert up.returncode == 0, up.stderr
    said = dict(line.removeprefix("export ").partition("=")[::2] for line in up.stdout.splitlines())
    path = said.get("PATH", "").strip('"').replace("$PATH", os.environ["PATH"]) or os.environ["PATH"]
    yield Cluster(folder, {"KUBECONFIG": said["KUBECONFIG"], "PATH": path})
    if os.environ.get("KUBECONFIG") != said["KUBECONFIG"]:  # else somebody started it before us, and goes on with it
        subprocess.run([str(folder / "down")], capture_output=True, timeout=120)


@pytest.fixture(scope="session")
def image(cluster: Cluster) -> str:
    cluster.build("testops-runner:test", "-f", str(ROOT / "runner/Dockerfile"), "--build-arg", "VERSION=test")
    return IMAGE


def sizes(cluster: Cluster) -> dict[str, int]:
    images = cluster.get("nodes")["items"][0]["status"]["images"]
    return {name: each["sizeBytes"] for each in images for name in each["names"] or ()}


def pod_outcome(cluster: Cluster, name: str, command: list[str]) -> tuple[int, str]:
    """Exit code and output of `command` in the runner's image, confined as the shipped template says."""
    pod = yaml.safe_load((ROOT / "dags/pod.yaml").read_text("utf-8"))
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
    "heavy": sorted(set(sys.modules) & {"airflow", "pandas", "google.genai", "sqlalchemy", "rich", "yaml"}),
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


@pytest.fixture(scope="module")
def local(
    tmp_path_factory: pytest.TempPathFactory, sound_shop: Sample, cluster: Cluster, image: str
) -> Iterator[Local]:
    targets = tmp_path_factory.mktemp("targets")
    shop = yaml.safe_load((ROOT / "targets/shop.yaml").read_text("utf-8"))
    (targets / "shop.yaml").write_text(yaml.safe_dump(shop | {"pod": ON_THE_HOST}), "utf-8")
    (targets / "slow.yaml").write_text(SLOW, "utf-8")
    (targets / "keyless.yaml").write_text(SLOW.replace("${SOUND_TOKEN}", "${NOT_IN_THE_SECRET}"), "utf-8")
    state = Path(f"/tmp/testops-pods-{os.getpid()}")
    sound = sound_shop.variables()
    variables = {
        "TESTOPS_TARGETS_DIR": str(targets),
        "TESTOPS_LAUNCHER": "kubernetes",
        "TESTOPS_RUNNER_IMAGE": image,
        "TESTOPS_POD_NAMESPACE": "default",
        "TESTOPS_MAX_BATCHES_AT_ONCE": "4",
        "KUBECONFIG": cluster.kubeconfig,
        "SOUND_URL": sound_shop.url,
        "SOUND_TOKEN": sound["TESTOPS_SHOP_ADMIN_TOKEN"],
    }
    made = Local(state, samples=("shop",), defects="all", variables=variables)
    try:
        made.start()
        secret = {name: value for name, value in made.variables().items() if name.endswith("_TOKEN")}
        cluster.apply(
            {
                "apiVersion": "v1",
                "kind": "Secret",
                "metadata": {"name": "testops-runner"},
                "data": {name: base64.b64encode(value.encode()).decode() for name, value in secret.items()},
            }
        )
        yield made
    finally:
        made.stop()
        shutil.rmtree(state, ignore_errors=True)


@pytest.fixture
def airflow(local: Local) -> Airflow:
    return client(local)


def pods_of(cluster: Cluster, run: str) -> list[dict[str, Any]]:
    pods = cluster.get("pods")["items"]
    return [pod for pod in pods if pod["metadata"].get("annotations", {}).get("testops/run") == run]


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
    told = airflow.log_tail(DAG, end.run, executed[0], lines=200)
    assert "NOT_IN_THE_SECRET" in told and "refused its configuration" in told
    assert "valueFrom" not in told and "env_from" not in told, "a pod's specification does not belong into a log"


def runner_process(run: str) -> int:
    """The runner of `run` as this machine sees it: pods share its kernel."""
    for entry in Path("/proc").iterdir():
        try:
            if entry.name.isdigit() and f"runner\0--run\0{run}".encode() in (entry / "cmdline").read_bytes():
                return int(entry.name)
        except OSError:
            continue
    raise AssertionError("no runner of the run is alive")


def running_pod(cluster: Cluster, run: str) -> str:
    for pod in pods_of(cluster, run):
        if pod["status"]["phase"] == "Running":
            return str(pod["metadata"]["name"])
    raise AssertionError("no pod of the run is alive")


def kill(cluster: Cluster, run: str) -> None:
    os.kill(runner_process(run), signal.SIGKILL)


def delete(cluster: Cluster, run: str) -> None:
    cluster.kubectl("delete", "pod", running_pod(cluster, run), "--wait=false")


CROWD = """
import os, time
for _ in range(40):
    if os.fork() == 0:
        block = b"x" * 15_000_000
        time.sleep(20)
        os._exit(0)
time.sleep(20)
"""


def exhaust(cluster: Cluster, run: str) -> None:
    """Neighbours in the container take memory up to the pod's limit; the kernel kills the largest, the runner."""
    pod = running_pod(cluster, run)
    subprocess.Popen(
        ["kubectl", "exec", pod, "--", "python", "-c", CROWD],
        env=cluster.environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ).wait(60)
    deadline = time.monotonic() + 30
    while True:
        found = json.loads(cluster.kubectl("get", "pod", pod, "-o", "json", check=False) or "{}")
        states = found.get("status", {}).get("containerStatuses", [{}])
        if ended := states[0].get("state", {}).get("terminated"):
            assert ended["reason"] == "OOMKilled", ended
            return
        assert found and time.monotonic() < deadline, "the runner did not run out of memory"
        time.sleep(0.2)


def progress(store: Store, run: str) -> Progress | None:
    try:
        return store.progress(run)
    except StoreError:
        return None  # not registered yet


@pytest.mark.parametrize("harm", [kill, delete, exhaust])
def test_after_a_pod_is_lost_each_published_case_has_exactly_one_final_result(
    local: Local, airflow: Airflow, cluster: Cluster, harm: Callable[[Cluster, str], None]
) -> None:
    run = airflow.trigger(DAG, {"target": "slow"})
    with Store(local.dsn) as store:
        deadline = time.monotonic() + 120
        while (now := progress(store, run)) is None or now.done < 20:
            assert time.monotonic() < deadline, "the run did not get going"
            time.sleep(0.3)
        assert now.done < now.published, "too late to harm anything midway"
        harm(cluster, run)
        end = last(airflow, run)
        assert end.state == "success", end
        cases = [result.case for result in store.results(run)]
        report = store.report(run)
        assert store.missing(run) == []
    assert len(cases) == len(set(cases)) == now.published
    assert report is not None and report.totals.results["passed"] == now.published
    assert any(task.attempt > 1 for task in end.tasks if task.task == "execute"), "a batch was repeated"
