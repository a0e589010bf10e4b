"""What Helm makes of our values: the official chart with each overlay, and our chart in each of its shapes."""

from __future__ import annotations

import functools
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.paths import ROOT, SHARED

CHART = ROOT / "helm-values/testops"
AIRFLOW_VALUES = ROOT / "helm-values/airflow"
SCHEMAS = SHARED / "schemas/crds"
NAMESPACE = "testops-manifests"

SECRETS = ("production+secrets-vault", "production+secrets-aws", "production+secrets-gcp")
OVERLAYS = ("dev", "staging", "production", "dev+git-sync", "staging+git-sync", "production+git-sync", *SECRETS)
"""Values of the official chart, each given after base.yaml."""

SHAPES: dict[str, dict[str, Any]] = {
    "preset": {},
    "nothing": {
        "settingsName": "",
        "setup": {"enabled": False},
        "collector": {"enabled": False},
        "fleet": {"enabled": False},
    },
    "everything": {
        "collector": {"replicas": 2},
        "networkPolicies": {
            "enabled": True,
            "metricsFrom": [{"podSelector": {}}],
            "targets": [{"to": [{"ipBlock": {"cidr": "203.0.113.0/24"}}], "ports": [{"protocol": "TCP", "port": 443}]}],
        },
        "strimzi": {"cluster": "kafka", "createCluster": True, "runnerUser": "runner", "airflowUser": "airflow"},
        "cloudNativePg": {"enabled": True, "backup": {"retentionPolicy": "30d"}},
        "metrics": {"podMonitor": True, "rules": True, "dashboards": True},
        "kafkaUi": {"enabled": True},
        "keda": {"kafka": {"secret": "kafka-login", "sasl": "scram_sha512", "tls": True}},
        "quota": {"pods": "40", "requests.memory": "16Gi"},
        "externalSecrets": {
            "secrets": [{"name": "testops-store", "data": {"dsn": {"key": "store", "property": "dsn"}}}]
        },
    },
    "launcher kubernetes": {
        **yaml.safe_load((CHART / "pods.yaml").read_text("utf-8")),
        "networkPolicies": {"enabled": True},
    },
    "pods of runners": {
        **yaml.safe_load((CHART / "runners.yaml").read_text("utf-8")),
        **yaml.safe_load((CHART / "pods.yaml").read_text("utf-8")),
    },
    "runners": yaml.safe_load((CHART / "runners.yaml").read_text("utf-8")),
}
"""Values of our chart: as it comes, all off, all on, pods instead of the fleet, either in a namespace of its own."""

Manifest = dict[str, Any]
WORKLOADS = {"Deployment", "StatefulSet", "Job", "CronJob", "Pod"}


def tool(name: str) -> list[str]:
    """The command `helm` or `kubeconform`."""
    command = Path(os.environ.get("TESTOPS_CLUSTER") or SHARED / "cluster") / "tool"
    if on_path := shutil.which(name):
        return [on_path]
    if command.is_file():
        return [str(command), name]
    pytest.skip(f"needs {name} on PATH, or TESTOPS_CLUSTER with its command `tool {name}`")


def helm() -> list[str]:
    return tool("helm")


def run(command: list[str], given: str = "") -> str:
    done = subprocess.run(command, input=given, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def airflow_chart() -> Path:
    """The official chart, where this machine has it."""
    named = os.environ.get("TESTOPS_AIRFLOW_CHART")
    for path in [Path(named)] if named else sorted((SHARED / "charts").glob("airflow-1.22.*.tgz")):
        return path
    pytest.skip("needs the official chart 1.22: TESTOPS_AIRFLOW_CHART=airflow-1.22.0.tgz")


def airflow_files(overlay: str) -> list[str]:
    names = ("base", *overlay.split("+"))
    return [word for name in names for word in ("--values", str(AIRFLOW_VALUES / f"{name}.yaml"))]


@functools.cache
def airflow(overlay: str) -> list[Manifest]:
    """The official chart as the release `airflow`, with one of OVERLAYS."""
    command = [*helm(), "template", "airflow", str(airflow_chart()), "--namespace", NAMESPACE, *airflow_files(overlay)]
    return [manifest for manifest in yaml.safe_load_all(run(command)) if manifest]


def shape_values(shape: str) -> str:
    return yaml.safe_dump({"kafka": {"bootstrap": "kafka:9092"}, **SHAPES[shape]})


@functools.cache
def ours(shape: str) -> list[Manifest]:
    """Our chart as the release `night`, with one of SHAPES."""
    command = [*helm(), "template", "night", str(CHART), "--namespace", NAMESPACE, "--values", "-"]
    return [manifest for manifest in yaml.safe_load_all(run(command, shape_values(shape))) if manifest]


def configurations() -> list[str]:
    """Names of everything that is rendered: overlays of Airflow, shapes of our chart."""
    return [*OVERLAYS, *SHAPES]


def rendered(configuration: str) -> list[Manifest]:
    return airflow(configuration) if configuration in OVERLAYS else ours(configuration)


def pods(manifests: list[Manifest]) -> Iterator[tuple[str, Manifest]]:
    """Each workload's name and the pod that it makes, with the pods of KubernetesExecutor."""
    for manifest in manifests:
        name = manifest["metadata"]["name"]
        if manifest["kind"] == "Pod":
            yield name, manifest
        elif manifest["kind"] in WORKLOADS:
            spec = manifest["spec"]
            spec = spec["jobTemplate"]["spec"] if manifest["kind"] == "CronJob" else spec
            # Kubernetes gives each pod of a StatefulSet a volume of the claim's name.
            claims = [claim["metadata"]["name"] for claim in spec.get("volumeClaimTemplates", ())]
            volumes = [{"name": claim, "persistentVolumeClaim": {"claimName": f"{claim}-{name}-0"}} for claim in claims]
            pod = spec["template"]
            yield name, {**pod, "spec": {**pod["spec"], "volumes": [*(pod["spec"].get("volumes") or []), *volumes]}}
        elif manifest["kind"] == "ConfigMap" and "pod_template_file.yaml" in (manifest.get("data") or {}):
            yield "pod-template", yaml.safe_load(manifest["data"]["pod_template_file.yaml"])
