"""Our chart as Helm renders it."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest
import yaml

from tests.paths import ROOT
from tests.rendering import CHART, NAMESPACE, SCHEMAS, SHAPES, helm, ours, pods, run, shape_values

SET = {"kafka.bootstrap": "kafka:9092"}
LOCKED = {
    "keda.kafka.secret": "kafka-login",
    "keda.kafka.sasl": "scram_sha512",
    "keda.kafka.tls": "true",
    "keda.kafka.keys.ca": "ca.crt",
}


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
    [settings] = [m["data"] for m in ours("preset") if m["metadata"]["name"] == "testops-settings"]
    variables = {variable["name"]: variable["value"] for variable in runner["env"]}
    assert variables.items() <= settings.items(), "runners and Airflow must agree"
    assert "TESTOPS_FLEET_PARTITIONS" in variables, "the time that a batch may take depends on it"


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


def test_strimzi_makes_the_topics_that_the_library_uses_with_the_same_shape() -> None:
    from testops_lib.bus.topics import Topics

    topics = {m["metadata"]["name"]: m["spec"] for m in ours("everything") if m["kind"] == "KafkaTopic"}
    names = Topics()
    assert set(topics) == {getattr(names, field) for field in names.__struct_fields__}
    assert topics[names.cases]["partitions"] == topics[names.results]["partitions"] == 4
    assert topics[names.batches]["partitions"] == topics[names.shares]["partitions"] == 12


def test_every_pod_of_ours_is_confined() -> None:
    specifications = {name: pod["spec"] for name, pod in pods(ours("everything"))}
    assert set(specifications) == {"night-fleet", "night-collector", "night-kafka-ui", "night-setup", "night-check"}
    for spec in specifications.values():
        assert spec["securityContext"]["runAsNonRoot"] is True
        [container] = spec["containers"]
        assert container["securityContext"]["readOnlyRootFilesystem"] is True
        assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}


def test_the_setup_comes_before_what_needs_it_and_after_what_it_needs() -> None:
    def hooks(shape: str) -> list[tuple[str, str]]:
        setup = [m for m in ours(shape) if m["metadata"]["name"] == "night-setup"]
        ordered = sorted(setup, key=lambda m: int(m["metadata"]["annotations"].get("helm.sh/hook-weight", 0)))
        return [(m["kind"], m["metadata"]["annotations"]["helm.sh/hook"]) for m in ordered]

    before = "pre-install,pre-upgrade"
    assert hooks("preset") == [("ServiceAccount", before), ("Job", before)]
    after = "post-install,pre-upgrade"
    assert hooks("everything") == [("ServiceAccount", after), ("Job", after)], "the release makes the database itself"


def test_the_log_of_a_setup_that_failed_stays() -> None:
    [job] = [m for m in ours("preset") if m["kind"] == "Job"]
    assert job["spec"]["template"]["spec"]["restartPolicy"] == "Never", "else the pod goes when the job gives up"
    assert job["metadata"]["annotations"]["helm.sh/hook-delete-policy"] == "before-hook-creation,hook-succeeded"


def test_every_pod_of_ours_is_closed_and_opened_for_what_it_needs_alone() -> None:
    policies = {m["metadata"]["name"]: m["spec"] for m in ours("everything") if m["kind"] == "NetworkPolicy"}
    ports = {"dns": [("UDP", 53), ("TCP", 53)], "kafka": [("TCP", 9092)], "postgres": [("TCP", 5432)]}

    def opened(*ways: str) -> list[dict[str, Any]]:
        peers = {"dns": [{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "kube-system"}}}]}
        return [
            {
                "to": peers.get(way, [{"podSelector": {}}]),
                "ports": [{"protocol": protocol, "port": port} for protocol, port in ports[way]],
            }
            for way in ways
        ]

    assert policies == {
        "night-deny": {
            "podSelector": {"matchLabels": {"app.kubernetes.io/part-of": "testops"}},
            "policyTypes": ["Ingress", "Egress"],
        },
        "night-runners": {
            "podSelector": {"matchLabels": {"app.kubernetes.io/name": "testops-runner"}},
            "policyTypes": ["Ingress", "Egress"],
            "ingress": [{"from": [{"podSelector": {}}], "ports": [{"protocol": "TCP", "port": 8090}]}],
            "egress": [
                *opened("dns", "kafka"),
                {"to": [{"ipBlock": {"cidr": "203.0.113.0/24"}}], "ports": [{"protocol": "TCP", "port": 443}]},
            ],
        },
        "night-store": {
            "podSelector": {
                "matchExpressions": [
                    {
                        "key": "app.kubernetes.io/name",
                        "operator": "In",
                        "values": ["testops-collector", "testops-setup", "testops-check"],
                    }
                ]
            },
            "policyTypes": ["Ingress", "Egress"],
            "egress": opened("dns", "kafka", "postgres"),
        },
        "night-kafka-ui": {
            "podSelector": {"matchLabels": {"app.kubernetes.io/name": "testops-kafka-ui"}},
            "policyTypes": ["Ingress", "Egress"],
            "egress": opened("dns", "kafka"),
        },
    }


def test_airflow_of_another_namespace_gets_the_right_here() -> None:
    made = ours("launcher kubernetes")
    [binding] = [manifest for manifest in made if manifest["kind"] == "RoleBinding"]
    assert {subject["namespace"] for subject in binding["subjects"]} == {NAMESPACE}
    values = yaml.safe_load(shape_values("pods of runners"))
    values["podLauncher"]["airflowNamespace"] = "airflow"
    text = run([*helm(), "template", "night", str(CHART), "--values", "-"], yaml.safe_dump(values))
    [binding] = [m for m in yaml.safe_load_all(text) if m and m["kind"] == "RoleBinding"]
    assert {subject["namespace"] for subject in binding["subjects"]} == {"airflow"}


def test_default_deny_selects_every_pod_of_ours_and_the_pods_of_batches() -> None:
    batch = yaml.safe_load((ROOT / "testops_airflow/pod.yaml").read_text("utf-8"))
    for shape in ("everything", "launcher kubernetes", "runners"):
        for name, pod in [*pods(ours(shape)), ("batch", batch)]:
            assert pod["metadata"]["labels"]["app.kubernetes.io/part-of"] == "testops", name
    [deny] = [m for m in ours("runners") if m["metadata"]["name"] == "night-deny"]
    assert deny["spec"]["podSelector"] == {}, "a namespace for runners alone is closed for everybody"


def test_a_value_that_the_chart_does_not_know_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "values.yaml"
    file.write_text("kafka: {bootstrap: 'kafka:9092'}\nkedaa: {enabled: false}\n", "utf-8")
    command = [*helm(), "template", "night", str(CHART), "--values", str(file)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode != 0 and "kedaa" in done.stderr


OPEN = {
    "settings",
    "targets",
    "podLabels",
    "podSpec",
    "quota",
    "resources",
    "setup.resources",
    "collector.resources",
    "kafkaUi.resources",
    "strimzi.resources",
    "cloudNativePg.resources",
    "cloudNativePg.backup",
    "externalSecrets.store",
    "keda.kafka.keys",
}
"""Values that are parts of Kubernetes' or an operator's own objects: their keys are not the chart's."""


def test_the_charts_schema_and_its_values_know_the_same_keys() -> None:
    def keys(values: dict[str, Any], place: str = "") -> set[str]:
        paths = set()
        for key, value in values.items():
            path = f"{place}{key}"
            deeper = isinstance(value, dict) and path not in OPEN
            paths |= {path} | (keys(value, f"{path}.") if deeper else set())
        return paths

    def properties(schema: dict[str, Any], place: str = "") -> set[str]:
        assert schema["additionalProperties"] is False, place
        paths = set()
        for key, value in schema["properties"].items():
            path = f"{place}{key}"
            deeper = value.get("type") == "object" and path not in OPEN | {"global"}
            assert value.get("type") or value.get("enum"), f"{path} takes anything"
            paths |= {path} | (properties(value, f"{path}.") if deeper else set())
        return paths

    values = yaml.safe_load((CHART / "values.yaml").read_text("utf-8"))
    schema = json.loads((CHART / "values.schema.json").read_text("utf-8"))
    assert properties(schema) == keys(values) | {"global"}
    assert [error.message for error in jsonschema_rs.validator_for(schema).iter_errors(values)] == []


NOTES: dict[str, set[str]] = {
    "preset": {
        "the topics are up to date",
        "KEDA runs 0 to 12 runners",
        "ConfigMap testops-settings",
        "helm test night",
    },
    "nothing": set(),
    "everything": {
        "the topics are up to date",
        "PostgreSQL: 2;",
        "KEDA runs 0 to 12 runners",
        "by Strimzi",
        "by CloudNativePG",
        "ConfigMap testops-settings",
        "helm test night",
    },
    "launcher kubernetes": {
        "the topics are up to date",
        "airflow-triggerer of testops-manifests may make pods",
        "ConfigMap testops-settings: launcher kubernetes",
        "ConfigMap testops-settings",
        "helm test night",
    },
    "pods of runners": {"airflow-triggerer of testops-manifests may make pods"},
    "runners": {"KEDA runs 0 to 12 runners"},
}
"""Shape of the chart -> what its notes say. Each of these phrases is missing from the notes of the other shapes."""


@pytest.mark.parametrize("shape", SHAPES)
def test_the_notes_tell_what_is_there_and_nothing_else(shape: str) -> None:
    command = [*helm(), "install", "night", str(CHART), "--dry-run=client", "--namespace", NAMESPACE, "--values", "-"]
    notes = run(command, shape_values(shape)).partition("NOTES:")[2]
    assert {phrase for phrase in set().union(*NOTES.values()) if phrase in notes} == NOTES[shape]


def test_target_files_and_settings_become_what_airflows_values_name() -> None:
    flags = ["--set", "kafka.bootstrap=kafka:9092", "--set", "settings.TESTOPS_MAX_BATCHES_AT_ONCE=1000000"]
    files = ["--set-file", f"targets.shop={ROOT / 'targets/shop.yaml'}", "--values", str(CHART / "pods.yaml")]
    rendered = run([*helm(), "template", "night", str(CHART), "--namespace", "pets", *flags, *files])
    manifests = [manifest for manifest in yaml.safe_load_all(rendered) if manifest]
    maps = {manifest["metadata"]["name"]: manifest["data"] for manifest in manifests if manifest["kind"] == "ConfigMap"}
    shop = (ROOT / "targets/shop.yaml").read_text("utf-8")
    assert yaml.safe_load(maps["testops-targets"]["shop.yaml"]) == yaml.safe_load(shop)
    settings = maps["testops-settings"]
    assert (settings["TESTOPS_LAUNCHER"], settings["TESTOPS_POD_NAMESPACE"]) == ("kubernetes", "pets")
    assert settings["TESTOPS_MAX_BATCHES_AT_ONCE"] == "1000000"
    [binding] = [manifest for manifest in manifests if manifest["kind"] == "RoleBinding"]
    assert {subject["namespace"] for subject in binding["subjects"]} == {"pets"}
    base = yaml.safe_load((ROOT / "helm-values/airflow/base.yaml").read_text("utf-8"))
    assert base["volumes"][0]["configMap"]["name"] in maps and "testops-settings" in base["extraEnvFrom"]


def test_kafka_ui_is_the_one_of_compose_and_answers_inside_the_cluster_alone() -> None:
    service = yaml.safe_load((ROOT / "docker-compose.yaml").read_text("utf-8"))["services"]["kafka-ui"]
    manifests = {m["kind"]: m for m in ours("everything") if m["metadata"]["name"] == "night-kafka-ui"}
    assert manifests.keys() == {"Deployment", "Service", "ServiceAccount", "NetworkPolicy"}
    [container] = manifests["Deployment"]["spec"]["template"]["spec"]["containers"]
    assert container["image"] == service["image"]
    assert {variable["name"]: variable["value"] for variable in container["env"]} == service["environment"]
    assert manifests["Service"]["spec"]["type"] == "ClusterIP"
    labels = manifests["Deployment"]["spec"]["template"]["metadata"]["labels"]
    for selector in (
        manifests["Deployment"]["spec"]["selector"]["matchLabels"],
        manifests["Service"]["spec"]["selector"],
        manifests["NetworkPolicy"]["spec"]["podSelector"]["matchLabels"],
    ):
        assert selector.items() <= labels.items()
    assert "ingress" not in manifests["NetworkPolicy"]["spec"]
    assert not [m for m in ours("preset") if m["metadata"]["name"] == "night-kafka-ui"]


def test_fleet_yaml_leads_back_from_pods_yaml() -> None:
    command = [*helm(), "template", "night", str(CHART), "--set", "kafka.bootstrap=kafka:9092"]
    there = [word for name in ("pods", "fleet") for word in ("--values", str(CHART / f"{name}.yaml"))]
    assert run(command) == run([*command, *there]) != run([*command, *there[:2]])
