"""What the tests on a real Kubernetes share: its commands, the pods of a run, and two ways to lose one."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests.e2e.running import runner_process
from tests.paths import ROOT

IMAGE = "docker.io/library/testops-runner:test"
BASE = "docker.io/library/python:3.11-slim"

ON_THE_HOST = {"spec": {"hostNetwork": True}}
"""Targets and Kafka announce 127.0.0.1, which a pod sees on the machine's own network only."""


class Cluster:
    """`kubectl` of a running cluster."""

    def __init__(self, folder: Path, environment: Mapping[str, str]) -> None:
        self.folder = folder
        self.environment = {**os.environ, **environment}

    @property
    def kubeconfig(self) -> str:
        return self.environment["KUBECONFIG"]

    def kubectl(self, *arguments: str, given: str = "", check: bool = True, timeout_s: float = 120) -> str:
        done = subprocess.run(
            ["kubectl", *arguments],
            input=given,
            capture_output=True,
            text=True,
            env=self.environment,
            timeout=timeout_s,
        )
        assert not check or done.returncode == 0, done.stderr
        return done.stdout

    def get(self, *arguments: str) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.kubectl("get", *arguments, "-o", "json"))
        return found

    def apply(self, manifest: Mapping[str, Any]) -> None:
        self.kubectl("apply", "-f", "-", given=json.dumps(manifest))

    def add(self, addon: str) -> None:
        """Gives the cluster `keda` or `argocd` and waits until it works; nothing where it is there."""
        command = [str(self.folder / "addon"), addon]
        done = subprocess.run(command, capture_output=True, text=True, timeout=600, env=self.environment)
        assert done.returncode == 0, done.stderr

    def build(self, name: str, *options: str) -> None:
        command = [str(self.folder / "image"), "build", name, str(ROOT), *options]
        done = subprocess.run(command, capture_output=True, text=True, timeout=1200)
        assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]


def launcher(cluster: Cluster, image: str) -> dict[str, str]:
    """What makes a local stack execute batches in pods, four at once."""
    return {
        "TESTOPS_LAUNCHER": "kubernetes",
        "TESTOPS_RUNNER_IMAGE": image,
        "TESTOPS_POD_NAMESPACE": "default",
        "TESTOPS_MAX_BATCHES_AT_ONCE": "4",
        "KUBECONFIG": cluster.kubeconfig,
    }


def pods_of(cluster: Cluster, run: str, namespace: str = "default") -> list[dict[str, Any]]:
    pods = cluster.get("pods", "-n", namespace)["items"]
    return [pod for pod in pods if pod["metadata"].get("annotations", {}).get("testops/run") == run]


def running_pod(cluster: Cluster, run: str) -> str:
    for pod in pods_of(cluster, run):
        if pod["status"]["phase"] == "Running":
            return str(pod["metadata"]["name"])
    raise AssertionError("no pod of the run is alive")


def endings(cluster: Cluster, run: str) -> list[dict[str, Any]]:
    """How those runners of a run ended whose pods are still there: the ones that failed."""
    states = [pod["status"].get("containerStatuses", [{}])[0].get("state", {}) for pod in pods_of(cluster, run)]
    return [state["terminated"] for state in states if "terminated" in state]


def ending(cluster: Cluster, pod: str, *, timeout_s: float = 30) -> dict[str, Any]:
    """How the runner's container of a pod ended: `reason`, `exitCode`, …"""
    deadline = time.monotonic() + timeout_s
    while True:
        found = json.loads(cluster.kubectl("get", "pod", pod, "-o", "json", check=False) or "{}")
        states = found.get("status", {}).get("containerStatuses", [{}])
        ended: dict[str, Any] | None = states[0].get("state", {}).get("terminated")
        if ended:
            return ended
        assert found and time.monotonic() < deadline, f"pod {pod} goes on"
        time.sleep(0.2)


def kill(cluster: Cluster, run: str) -> None:
    """SIGKILL for one runner: pods share this machine's kernel."""
    os.kill(runner_process(run), signal.SIGKILL)


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
    subprocess.run(
        ["kubectl", "exec", pod, "--", "python", "-c", CROWD],
        env=cluster.environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        timeout=60,
    )
    ended = ending(cluster, pod)
    assert ended["reason"] == "OOMKilled", ended
