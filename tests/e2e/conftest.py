from __future__ import annotations

import fcntl
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from stack.local import PORTS
from tests.e2e.pods import IMAGE, ROOT, Cluster

# Any free ports: two stacks that start at the same time would both find the usual ones free.
os.environ.update({f"TESTOPS_PORT_{name}": "0" for name in PORTS})


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
        said = dict(line.removeprefix("export ").partition("=")[::2] for line in up.stdout.splitlines())
        path = said.get("PATH", "").strip('"').replace("$PATH", os.environ["PATH"]) or os.environ["PATH"]
        yield Cluster(folder, {"KUBECONFIG": said["KUBECONFIG"], "PATH": path})
        if os.environ.get("KUBECONFIG") == said["KUBECONFIG"]:
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
