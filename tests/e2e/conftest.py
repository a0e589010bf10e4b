"""The stacks of the end-to-end tests: one with batches in processes, one in pods; each is started once a session."""

from __future__ import annotations

import base64
import fcntl
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from stack.local import PORTS, Local
from stack.samples import AIRFLOW, Sample
from testops_lib.airflow_api import Airflow
from tests.e2e import targets
from tests.e2e.big_target import BigTarget
from tests.e2e.deployed import build_images
from tests.e2e.pods import IMAGE, ON_THE_HOST, ROOT, Cluster, launcher
from tests.e2e.running import client, started, state_directory

# Any free ports: two stacks that start at the same time would both find the usual ones free.
os.environ.update({f"TESTOPS_PORT_{name}": "0" for name in PORTS})


@pytest.fixture(scope="session")
def local(tmp_path_factory: pytest.TempPathFactory, sound_shop: Sample) -> Iterator[Local]:
    """Batches run in processes. The targets are ours and those of `targets.py`; Airflow has its sample data."""
    folder = tmp_path_factory.mktemp("targets")
    for path in (ROOT / "targets").glob("*.yaml"):
        shutil.copy(path, folder)
    targets.write(folder, targets.IN_PROCESSES)
    variables = {"TESTOPS_TARGETS_DIR": str(folder), **targets.variables(sound_shop)}
    with started(Local(state_directory(), samples=("shop", AIRFLOW), defects="all", variables=variables)) as stack:
        yield stack


@pytest.fixture
def airflow(local: Local) -> Airflow:
    return client(local)


@pytest.fixture(scope="session")
def big_target() -> Iterator[BigTarget]:
    with BigTarget(targets.SHELVES) as target:
        yield target


@pytest.fixture(scope="session")
def pods_local(
    tmp_path_factory: pytest.TempPathFactory, sound_shop: Sample, big_target: BigTarget, cluster: Cluster, image: str
) -> Iterator[Local]:
    """Batches run in pods, records on three brokers."""
    folder = tmp_path_factory.mktemp("pods-targets")
    shop = yaml.safe_load((ROOT / "targets/shop.yaml").read_text("utf-8"))
    (folder / "shop.yaml").write_text(yaml.safe_dump(shop | {"pod": ON_THE_HOST}), "utf-8")
    targets.write(folder, targets.IN_PODS)
    variables = {
        "TESTOPS_TARGETS_DIR": str(folder),
        "BIG_URL": big_target.url,
        **targets.variables(sound_shop),
        **launcher(cluster, image),
    }
    stack = Local(state_directory(), samples=("shop",), defects="all", brokers=3, variables=variables)
    with started(stack):
        tokens = {name: value for name, value in stack.variables().items() if name.endswith("_TOKEN")}
        data = {name: base64.b64encode(value.encode()).decode() for name, value in tokens.items()}
        cluster.apply({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "testops-runner"}, "data": data})
        yield stack


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    folder = Path(os.environ.get("TESTOPS_CLUSTER") or ROOT.parent / "shared/cluster")
    asked = bool(os.environ.get("TESTOPS_CLUSTER")) or os.environ.get("CI") == "true"
    if not asked or os.getuid() or not (folder / "up").is_file():
        pytest.skip("needs a cluster: as root, TESTOPS_CLUSTER=the folder with its commands up, down and image")
    # The workers of one session share the cluster: who ends last takes it down.
    with (tmp_path_factory.getbasetemp().parent / "cluster.lock").open("w") as users:
        fcntl.flock(users, fcntl.LOCK_SH)
        up = subprocess.run([str(folder / "up")], capture_output=True, text=True, timeout=300)
        assert up.returncode == 0, up.stderr
        exported = dict(line.removeprefix("export ").partition("=")[::2] for line in up.stdout.splitlines())
        path = exported.get("PATH", "").strip('"').replace("$PATH", os.environ["PATH"]) or os.environ["PATH"]
        yield Cluster(folder, {"KUBECONFIG": exported["KUBECONFIG"], "PATH": path})
        if os.environ.get("KUBECONFIG") == exported["KUBECONFIG"]:
            return  # somebody started it before us, and goes on with it
        try:
            fcntl.flock(users, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return
        subprocess.run([str(folder / "down")], capture_output=True, timeout=120)


@pytest.fixture(scope="session")
def image(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> str:
    with (tmp_path_factory.getbasetemp().parent / "image.lock").open("w") as one_at_a_time:
        fcntl.flock(one_at_a_time, fcntl.LOCK_EX)
        cluster.build("testops-runner:test", "-f", str(ROOT / "runner/Dockerfile"), "--build-arg", "VERSION=test")
    return IMAGE


@pytest.fixture(scope="session")
def deployable(cluster: Cluster) -> Cluster:
    """The cluster with KEDA, and with both images under the names that the values give them."""
    cluster.add("keda")
    build_images(cluster)
    return cluster
