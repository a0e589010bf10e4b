"""Our chart as Helm renders it, held against the schemas of Kubernetes and of each operator."""

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
    """Kind -> manifest, of what belongs to the fleet."""
    flags = [word for name, value in {**SET, **values}.items() for word in ("--set", f"{name}={value}")]
    command = [*helm(), "template", "night", str(CHART), *flags]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    manifests = [manifest for manifest in yaml.safe_load_all(done.stdout) if manifest]
    return {m["kind"]: m for m in manifests if m["metadata"]["labels"].get("app.kubernetes.io/component") == "fleet"}


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
    assert set(made) == {"Deployment", "PodDisruptionBudget"} and made["Deployment"]["spec"]["replicas"] == 3


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


EVERYTHING = {
    "networkPolicies": {"enabled": True, "metricsFrom": [{"podSelector": {}}], "targets": [{"ports": [{"port": 443}]}]},
    "strimzi": {"cluster": "kafka", "createCluster": True, "runnerUser": "runner"},
    "cloudNativePg": {"enabled": True, "backup": {"retentionPolicy": "30d"}},
    "metrics": {"podMonitor": True, "rules": True},
    "podLauncher": {"serviceAccounts": [{"name": "airflow-worker", "namespace": "airflow"}]},
    "quota": {"pods": "40"},
    "externalSecrets": {"secrets": [{"name": "testops-store", "data": {"dsn": {"key": "store", "property": "dsn"}}}]},
}


def manifests(values: dict[str, Any], folder: Path) -> list[dict[str, Any]]:
    """Everything that the chart renders with these values."""
    file = folder / "values.yaml"
    file.write_text(yaml.safe_dump({"kafka": {"bootstrap": "kafka:9092"}, **values}), "utf-8")
    command = [*helm(), "template", "night", str(CHART), "--values", str(file)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return [manifest for manifest in yaml.safe_load_all(done.stdout) if manifest]


def test_the_schema_of_each_operator_accepts_what_is_rendered_for_it(tmp_path: Path) -> None:
    checked = set()
    for manifest in manifests(EVERYTHING, tmp_path):
        group, _, version = manifest["apiVersion"].rpartition("/")
        path = SCHEMAS / f"{group}_{manifest['kind'].lower()}_{version}.json"
        if path.is_file():
            validator = jsonschema_rs.validator_for(json.loads(path.read_text("utf-8")))
            problems = [f"{error.instance_path}: {error.message}" for error in validator.iter_errors(manifest)]
            assert problems == [], manifest["metadata"]["name"]
            checked.add(manifest["kind"])
    if not SCHEMAS.is_dir():
        pytest.skip(f"needs the operators' schemas in {SCHEMAS} (github.com/datreeio/CRDs-catalog)")
    assert checked >= {
        "Kafka",
        "KafkaNodePool",
        "KafkaTopic",
        "KafkaUser",
        "Cluster",
        "ScheduledBackup",
        "ExternalSecret",
    }
    assert checked >= {"PodMonitor", "PrometheusRule", "ScaledObject"}


def test_strimzi_makes_the_topics_that_the_library_uses_with_the_same_shape(tmp_path: Path) -> None:
    from testops_lib.bus.topics import Topics

    topics = {m["metadata"]["name"]: m["spec"] for m in manifests(EVERYTHING, tmp_path) if m["kind"] == "KafkaTopic"}
    names = Topics()
    assert set(topics) == {getattr(names, field) for field in names.__struct_fields__}
    assert topics[names.cases]["partitions"] == topics[names.results]["partitions"] == 4
    assert topics[names.batches]["partitions"] == topics[names.shares]["partitions"] == 12


def test_every_pod_of_ours_is_confined_and_has_no_token(tmp_path: Path) -> None:
    specifications = [
        manifest["spec"] if manifest["kind"] == "Pod" else manifest["spec"]["template"]["spec"]
        for manifest in manifests(EVERYTHING, tmp_path)
        if manifest["kind"] in ("Pod", "Deployment", "Job")
    ]
    assert len(specifications) == 4
    for spec in specifications:
        assert spec["automountServiceAccountToken"] is False and spec["securityContext"]["runAsNonRoot"] is True
        [container] = spec["containers"]
        assert container["securityContext"]["readOnlyRootFilesystem"] is True
        assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
        assert container["resources"]["limits"]["memory"]


def test_airflow_may_make_pods_and_read_their_logs_and_nothing_else(tmp_path: Path) -> None:
    [role] = [manifest for manifest in manifests(EVERYTHING, tmp_path) if manifest["kind"] == "Role"]
    rights = {(resource, verb) for rule in role["rules"] for resource in rule["resources"] for verb in rule["verbs"]}
    pods = {("pods", verb) for verb in ("create", "delete", "get", "list", "patch", "watch")}
    assert rights == pods | {("pods/log", "get"), ("events", "list")}


def test_runners_reach_dns_kafka_and_declared_targets_alone(tmp_path: Path) -> None:
    values = {**EVERYTHING, "networkPolicies": {"enabled": True, "kafka": {"to": [{"podSelector": {}}]}}}
    policies = {m["metadata"]["name"]: m["spec"] for m in manifests(values, tmp_path) if m["kind"] == "NetworkPolicy"}
    runners = policies["night-runners"]
    assert runners["policyTypes"] == ["Ingress", "Egress"] and runners["ingress"] == []
    assert [sorted(port["port"] for port in rule["ports"]) for rule in runners["egress"]] == [[53, 53], [9092]]


def test_a_value_that_the_chart_does_not_know_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "values.yaml"
    file.write_text("kafka: {bootstrap: 'kafka:9092'}\nkedaa: {enabled: false}\n", "utf-8")
    command = [*helm(), "template", "night", str(CHART), "--values", str(file)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode != 0 and "kedaa" in done.stderr


def test_the_charts_schema_knows_every_value_of_the_chart() -> None:
    def paths(node: dict[str, Any], schema: dict[str, Any], place: str) -> list[str]:
        if "properties" not in schema:
            return []
        missing = [f"{place}{key}" for key in node if key not in schema["properties"]]
        deeper = [
            path
            for key, value in node.items()
            if isinstance(value, dict) and key in schema["properties"]
            for path in paths(value, schema["properties"][key], f"{place}{key}.")
        ]
        return missing + deeper

    values = yaml.safe_load((CHART / "values.yaml").read_text("utf-8"))
    schema = json.loads((CHART / "values.schema.json").read_text("utf-8"))
    assert paths(values, schema, "") == []
