"""Batches in pods: how long the stage `execute` takes on a real Kubernetes, the work of a batch being a wait."""

from __future__ import annotations

import os
import statistics
import subprocess
from contextlib import ExitStack
from pathlib import Path

from bench import services
from bench.figures import ROOT, Figures
from bench.pipeline import stack
from bench.target import serving
from testops_lib.airflow_api import TaskState

BATCHES = 4
WORK_S = 1.5
IMAGE = "docker.io/library/testops-runner:bench"


def measure(*, quick: bool) -> Figures:
    """Median over the rounds, after one that warms up."""
    figures = Figures()
    place = os.environ.get("TESTOPS_CLUSTER", "")
    if not place:
        figures.note("Left out: it needs a Kubernetes cluster. TESTOPS_CLUSTER names it, see CONTRIBUTING.md.")
        return figures
    variables = {
        **_start(Path(place)),
        "TESTOPS_LAUNCHER": "kubernetes",
        "TESTOPS_RUNNER_IMAGE": IMAGE,
        "TESTOPS_POD_NAMESPACE": "default",
        "TESTOPS_MAX_BATCHES_AT_ONCE": str(BATCHES),
    }
    stages, loads = [], []
    with ExitStack() as running:
        url, _, _ = running.enter_context(serving(delay_s=WORK_S))
        # The target and Kafka announce 127.0.0.1, which a pod sees on the machine's own network only.
        local = running.enter_context(
            stack(url, batches=BATCHES, more="pod: {spec: {hostNetwork: true}}", variables=variables)
        )
        airflow = services.client(local.airflow)
        services.ready(airflow, "testops_run")
        for number in range((2 if quick else 5) + 1):
            _, run = services.wall(airflow, "testops_run", {"target": "customers"})
            if number:
                stages.append(_stage_s(airflow.task_states("testops_run", run)))
                loads.append(services.load())
    more = f"{services.spread(stages)} in {len(stages)} runs"
    figures.add(
        f"{BATCHES} batches of {WORK_S} s in pods, stage execute", statistics.median(stages), "s", goal="≤ 8", more=more
    )
    figures.note(f"From the end of `publish` to the end of the last batch; one node, {', '.join(loads)}.")
    return figures


def _start(folder: Path) -> dict[str, str]:
    """Starts the cluster where it is not up, and gives it the runner's image; how to reach it."""
    up = subprocess.run([folder / "up"], capture_output=True, text=True, check=True)
    said = dict(line.removeprefix("export ").partition("=")[::2] for line in up.stdout.splitlines())
    command: list[str | Path] = [
        folder / "image",
        "build",
        "testops-runner:bench",
        ROOT,
        "-f",
        ROOT / "runner/Dockerfile",
    ]
    subprocess.run([*command, "--build-arg", "VERSION=bench"], capture_output=True, check=True)
    return {"KUBECONFIG": said["KUBECONFIG"]}


def _stage_s(tasks: tuple[TaskState, ...]) -> float:
    begun = next(task.ended for task in tasks if task.task == "publish")
    ended = [task.ended for task in tasks if task.task == "execute"]
    if begun is None or len(ended) != BATCHES:
        raise SystemExit(f"{len(ended)} batches")
    return (max(moment for moment in ended if moment) - begun).total_seconds()
