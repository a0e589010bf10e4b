"""A real API server takes every manifest of both charts, admits the pods, and grants what the table says."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from tests.e2e.pods import Cluster
from tests.paths import ROOT
from tests.rendering import NAMESPACE, Manifest, configurations, pods, rendered
from tests.test_manifests import is_custom
from tests.test_rights import EXPECTED, Rights

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(300)]

OF_OTHER_OPERATORS = {
    "Cluster",
    "ExternalSecret",
    "Kafka",
    "KafkaNodePool",
    "KafkaTopic",
    "KafkaUser",
    "PodMonitor",
    "PrometheusRule",
    "ScheduledBackup",
}
"""Kinds that the cluster does not have: tests/test_manifests.py holds them against their schemas. KEDA's are there."""

RIGHTS = {"ServiceAccount", "Role", "RoleBinding"}


@pytest.fixture(scope="module")
def namespace(cluster: Cluster) -> Iterator[Cluster]:
    """The cluster with KEDA and a namespace that refuses pods which are not confined."""
    subprocess.run([str(cluster.folder / "addon"), "keda"], check=True, capture_output=True, timeout=240)
    labels = {"pod-security.kubernetes.io/enforce": "restricted"}
    cluster.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE, "labels": labels}})
    yield cluster
    cluster.kubectl("delete", "namespace", NAMESPACE, "--wait=false")


def tried(cluster: Cluster, manifests: list[Manifest]) -> set[tuple[str, str]]:
    """Kind and name of what the API server would apply, for which no field may be unknown."""
    options = ("--server-side", "--dry-run=server", "--validate=strict", "--namespace", NAMESPACE, "--output", "json")
    text = cluster.kubectl("apply", *options, "-f", "-", given=yaml.safe_dump_all(manifests))
    answer = json.loads(text)
    return {(item["kind"], item["metadata"]["name"]) for item in answer.get("items", [answer])}


def test_the_api_server_takes_the_namespace_of_the_runners(namespace: Cluster) -> None:
    manifest = yaml.safe_load((ROOT / "helm-values/testops/runner-namespace.yaml").read_text("utf-8"))
    namespace.kubectl("apply", "--dry-run=server", "--validate=strict", "-f", "-", given=json.dumps(manifest))
    assert manifest["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"


def allowed(cluster: Cluster, account: str) -> Rights:
    """What the API server's authorizer lets the account do in the namespace."""
    review = {
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SelfSubjectRulesReview",
        "spec": {"namespace": NAMESPACE},
    }
    user = f"system:serviceaccount:{NAMESPACE}:{account}"
    path = "/apis/authorization.k8s.io/v1/selfsubjectrulesreviews"
    answer = json.loads(cluster.kubectl("create", "--raw", path, "-f", "-", "--as", user, given=json.dumps(review)))
    assert not answer["status"]["incomplete"]
    rights: Rights = {}
    for rule in answer["status"]["resourceRules"]:
        for resource in rule["resources"]:
            rights.setdefault(resource, set()).update(rule["verbs"])
    return rights


@pytest.fixture
def granted(namespace: Cluster, configuration: str) -> Iterator[Cluster]:
    """The cluster with the accounts and the rights of one configuration."""
    manifests = rendered(configuration)
    names = {m["metadata"]["name"] for m in manifests if m["kind"] == "ServiceAccount"}
    of_another_chart = [
        {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": name}}
        for name in EXPECTED[configuration].keys() - names
    ]
    rights = yaml.safe_dump_all([*of_another_chart, *(m for m in manifests if m["kind"] in RIGHTS)])
    if EXPECTED[configuration]:
        namespace.kubectl("apply", "--server-side", "--namespace", NAMESPACE, "-f", "-", given=rights)
    yield namespace
    if EXPECTED[configuration]:
        namespace.kubectl("delete", "--namespace", NAMESPACE, "-f", "-", given=rights)


@pytest.mark.parametrize("configuration", configurations())
def test_the_api_server_takes_it_all_and_grants_what_the_table_says(granted: Cluster, configuration: str) -> None:
    manifests = rendered(configuration)
    left = [m for m in manifests if is_custom(m) and m["kind"] in OF_OTHER_OPERATORS]
    taken = [m for m in manifests if m not in left]
    assert {m["kind"] for m in left} == (OF_OTHER_OPERATORS if configuration == "everything" else set())
    assert bool(taken) == (configuration != "nothing")
    if taken:
        assert tried(granted, taken) == {(m["kind"], m["metadata"]["name"]) for m in taken}
        admit(granted, manifests)

    everybody = allowed(granted, "account-without-a-binding")
    assert "pods" not in everybody
    for account, expected in EXPECTED[configuration].items():
        rights = allowed(granted, account)
        more = {resource: verbs - everybody.get(resource, set()) for resource, verbs in rights.items()}
        assert {resource: verbs for resource, verbs in more.items() if verbs} == expected, account


def admit(cluster: Cluster, manifests: list[Manifest]) -> None:
    """Every pod is taken by a namespace that enforces Pod Security's level `restricted`."""
    wanted: list[dict[str, Any]] = [
        {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": f"{name}-pod", "labels": pod["metadata"].get("labels", {})},
            "spec": {"restartPolicy": "Never", **pod["spec"]},
        }
        for name, pod in pods(manifests)
    ]
    if wanted:
        assert tried(cluster, wanted) == {("Pod", pod["metadata"]["name"]) for pod in wanted}


def test_the_pod_of_a_batch_is_admitted(namespace: Cluster) -> None:
    template = yaml.safe_load((ROOT / "testops_airflow/pod.yaml").read_text("utf-8"))
    [container] = template["spec"]["containers"]
    container["image"] = "testops-runner:0.1.0"
    admit(namespace, [{**template, "metadata": {**template["metadata"], "name": "batch"}}])


def test_a_pod_that_is_not_confined_is_refused(namespace: Cluster) -> None:
    pod = {"metadata": {"name": "root"}, "spec": {"containers": [{"name": "root", "image": "testops-runner:0.1.0"}]}}
    with pytest.raises(AssertionError, match="violates PodSecurity"):
        admit(namespace, [{**pod, "apiVersion": "v1", "kind": "Pod"}])
