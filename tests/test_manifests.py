"""Every manifest of both charts: linted by Helm, accepted by kubeconform, limited, reached by its policies."""

from __future__ import annotations

import json
from collections import Counter

import pytest
import yaml

from tests.paths import ROOT
from tests.rendering import (
    CHART,
    SCHEMAS,
    SECRETS,
    SHAPES,
    configurations,
    helm,
    pods,
    rendered,
    run,
    shape_values,
    tool,
)

CUSTOM_KINDS = {
    "production": Counter(ScaledObject=1),
    "production+git-sync": Counter(ScaledObject=1),
    **{overlay: Counter(ScaledObject=1) for overlay in SECRETS},
    "preset": Counter(ScaledObject=1),
    "runners": Counter(ScaledObject=1),
    "everything": Counter(
        Cluster=1,
        ExternalSecret=1,
        Kafka=1,
        KafkaNodePool=1,
        KafkaTopic=8,
        KafkaUser=2,
        PodMonitor=1,
        PrometheusRule=1,
        ScaledObject=1,
        ScheduledBackup=1,
        TriggerAuthentication=1,
    ),
}
"""Configuration -> how many of each custom kind it has; the others have none."""


def is_custom(manifest: dict[str, str]) -> bool:
    """Whether an operator defines the kind: Kubernetes' own groups have no dot or end in .k8s.io."""
    group = manifest["apiVersion"].rpartition("/")[0]
    return "." in group and not group.endswith(".k8s.io")


@pytest.mark.parametrize("shape", SHAPES)
def test_helm_lints_our_chart_without_a_warning(shape: str) -> None:
    run([*helm(), "lint", "--strict", str(CHART), "--values", "-"], shape_values(shape))


@pytest.mark.parametrize("configuration", configurations())
def test_kubeconform_accepts_every_custom_resource(configuration: str) -> None:
    if not SCHEMAS.is_dir():
        pytest.skip(f"needs the operators' schemas in {SCHEMAS} (github.com/datreeio/CRDs-catalog)")
    custom = [manifest for manifest in rendered(configuration) if is_custom(manifest)]
    assert Counter(manifest["kind"] for manifest in custom) == CUSTOM_KINDS.get(configuration, Counter())
    if custom:
        location = f"{SCHEMAS}/{{{{.Group}}}}_{{{{.ResourceKind}}}}_{{{{.ResourceAPIVersion}}}}.json"
        command = [*tool("kubeconform"), "-strict", "-summary", "-output", "json", "-schema-location", location]
        summary = json.loads(run(command, yaml.safe_dump_all(custom)))["summary"]
        assert summary == {"valid": len(custom), "invalid": 0, "errors": 0, "skipped": 0}


def test_kubeconform_refuses_a_field_that_the_schema_does_not_know() -> None:
    if not SCHEMAS.is_dir():
        pytest.skip(f"needs the operators' schemas in {SCHEMAS}")
    [scaled] = [manifest for manifest in rendered("preset") if manifest["kind"] == "ScaledObject"]
    wrong = yaml.safe_dump({**scaled, "spec": {**scaled["spec"], "minReplicas": 0}})
    location = f"{SCHEMAS}/{{{{.Group}}}}_{{{{.ResourceKind}}}}_{{{{.ResourceAPIVersion}}}}.json"
    with pytest.raises(AssertionError, match="minReplicas"):
        run([*tool("kubeconform"), "-strict", "-schema-location", location], wrong)


@pytest.mark.parametrize("configuration", configurations())
def test_a_name_of_a_kind_is_given_once(configuration: str) -> None:
    names = Counter((manifest["kind"], manifest["metadata"]["name"]) for manifest in rendered(configuration))
    assert [name for name, count in names.items() if count > 1] == []


@pytest.mark.parametrize("configuration", configurations())
def test_every_container_says_how_much_memory_it_may_use(configuration: str) -> None:
    unlimited = {
        f"{name}/{container['name']}"
        for name, pod in pods(rendered(configuration))
        for container in [*(pod["spec"].get("initContainers") or []), *pod["spec"]["containers"]]
        if not container.get("resources", {}).get("limits", {}).get("memory")
    }
    assert unlimited == set()


@pytest.mark.parametrize("configuration", configurations())
def test_a_policys_pods_are_there(configuration: str) -> None:
    """A selector that selects nobody closes nothing."""
    manifests = rendered(configuration)
    batch = yaml.safe_load((ROOT / "testops_airflow/pod.yaml").read_text("utf-8"))
    labels = [pod["metadata"].get("labels", {}) for _, pod in [*pods(manifests), ("batch", batch)]]
    for manifest in manifests:
        if manifest["kind"] in ("NetworkPolicy", "PodDisruptionBudget"):
            selector = manifest["spec"].get("podSelector") or manifest["spec"].get("selector") or {}
            wanted = selector.get("matchLabels", {}).items()
            for expression in selector.get("matchExpressions", ()):
                values = {pod.get(expression["key"]) for pod in labels}
                assert values & set(expression["values"]), manifest["metadata"]["name"]
            assert [pod for pod in labels if wanted <= pod.items()], manifest["metadata"]["name"]


@pytest.mark.parametrize("environment", ["staging", "production"])
def test_helm_lints_the_environments_of_argo_cd_without_a_warning(environment: str) -> None:
    folder = ROOT / "argocd/environment"
    generated = f"name={environment},repository=https://git.example.com/team/x.git,revision=abc"
    run([*helm(), "lint", "--strict", str(folder), "--values", str(folder / f"{environment}.yaml"), "--set", generated])
