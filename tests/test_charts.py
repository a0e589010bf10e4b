"""The fleet's chart as Helm renders it, held against Kubernetes' and KEDA's own schemas."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest
import yaml

from tests.paths import ROOT

CHART = ROOT / "helm-values/testops"
SCHEMAS = ROOT.parent / "shared/schemas/crds"
SET = {"kafka.bootstrap": "kafka:9092"}
LOCKED = {
    "keda.kafka.secret": "kafka-login",
    "keda.kafka.sasl": "scram_sha512",
    "keda.kafka.tls": "true",
    "keda.kafka.keys.ca": "ca.crt",
}


def helm() -> list[str]:
    tool = Path(os.environ.get("TESTOPS_CLUSTER") or ROOT.parent / "shared/cluster") / "tool"
    if found := shutil.which("helm"):
        return [found]
    if tool.is_file():
        return [str(tool), "helm"]
    pytest.skip("needs helm 3 or newer on PATH (https://helm.sh), or TESTOPS_CLUSTER with its command `tool helm`")


def render(**values: str) -> dict[str, dict[str, Any]]:
    """Kind -> manifest."""
    flags = [word for name, value in {**SET, **values}.items() for word in ("--set", f"{name}={value}")]
    command = [*helm(), "template", "night", str(CHART), *flags]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return {manifest["kind"]: manifest for manifest in yaml.safe_load_all(done.stdout) if manifest}


def test_without_kafka_the_chart_says_what_is_missing() -> None:
    command = [*helm(), "template", "night", str(CHART)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode != 0 and "kafka.bootstrap must be set" in done.stderr


def test_the_fleets_pods_are_confined_as_the_batches_pods() -> None:
    deployment = render()["Deployment"]
    ours = deployment["spec"]["template"]["spec"]
    theirs = yaml.safe_load((ROOT / "testops_airflow/pod.yaml").read_text("utf-8"))["spec"]
    for key in ("securityContext", "automountServiceAccountToken", "enableServiceLinks"):
        assert ours[key] == theirs[key]
    [runner], [batch] = ours["containers"], theirs["containers"]
    for key in ("securityContext", "resources", "imagePullPolicy", "envFrom", "name"):
        assert runner[key] == batch[key]
    assert ours["terminationGracePeriodSeconds"] >= 30, "an order in work has 20 s to end in"
    assert runner["livenessProbe"]["httpGet"] == {"path": "/live", "port": "http"}
    assert runner["readinessProbe"]["httpGet"] == {"path": "/ready", "port": "http"}
    labels = deployment["spec"]["template"]["metadata"]["labels"]
    assert deployment["spec"]["selector"]["matchLabels"].items() <= labels.items()


def test_the_runner_understands_what_the_chart_tells_it() -> None:
    from runner.__main__ import arguments

    [runner] = render(port="9000", group="night")["Deployment"]["spec"]["template"]["spec"]["containers"]
    told = arguments(runner["args"])
    assert (told.group, told.port, told.bind) == ("night", 9000, "0.0.0.0")
    assert runner["ports"] == [{"name": "http", "containerPort": 9000}]
    assert {"name": "TESTOPS_KAFKA_BOOTSTRAP", "value": "kafka:9092"} in runner["env"]


def test_keda_scales_on_the_lag_of_the_runners_own_group_and_topic() -> None:
    from testops_lib.bus.topics import Topics
    from testops_lib.launch.fleet import GROUP

    made = render()
    scaled = made["ScaledObject"]["spec"]
    [trigger] = scaled["triggers"]
    assert scaled["scaleTargetRef"]["name"] == made["Deployment"]["metadata"]["name"]
    assert (trigger["metadata"]["consumerGroup"], trigger["metadata"]["topic"]) == (GROUP, Topics().batches)
    assert all(isinstance(value, str) for value in trigger["metadata"].values())
    assert (scaled["minReplicaCount"], scaled["maxReplicaCount"]) == (0, 12)
    assert "replicas" not in made["Deployment"]["spec"], "KEDA and Helm would fight about it"
    assert "TriggerAuthentication" not in made and "authenticationRef" not in trigger


def test_without_keda_the_fleet_has_a_size_of_its_own() -> None:
    made = render(**{"keda.enabled": "false", "replicas": "3"})
    assert set(made) == {"Deployment"} and made["Deployment"]["spec"]["replicas"] == 3


def test_keda_logs_in_by_a_secret() -> None:
    made = render(**LOCKED)
    [trigger] = made["ScaledObject"]["spec"]["triggers"]
    assert trigger["authenticationRef"]["name"] == made["TriggerAuthentication"]["metadata"]["name"]
    assert (trigger["metadata"]["sasl"], trigger["metadata"]["tls"]) == ("scram_sha512", "enable")
    references = made["TriggerAuthentication"]["spec"]["secretTargetRef"]
    assert {(reference["parameter"], reference["name"], reference["key"]) for reference in references} == {
        ("username", "kafka-login", "username"),
        ("password", "kafka-login", "password"),
        ("ca", "kafka-login", "ca.crt"),
    }


@pytest.mark.parametrize("kind", ["ScaledObject", "TriggerAuthentication"])
def test_kedas_own_schema_accepts_what_is_rendered(kind: str) -> None:
    schema = SCHEMAS / f"keda.sh_{kind.lower()}_v1alpha1.json"
    if not schema.is_file():
        pytest.skip(f"needs KEDA's schemas in {SCHEMAS} (github.com/datreeio/CRDs-catalog, keda.sh)")
    validator = jsonschema_rs.validator_for(json.loads(schema.read_text("utf-8")))
    manifest = render(**LOCKED)[kind]
    assert [str(error) for error in validator.iter_errors(manifest)] == []
    assert list(validator.iter_errors({**manifest, "spec": {"triggers": "none"}})), "the schema refuses nothing"
