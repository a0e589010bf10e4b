"""A real Argo CD makes an environment out of a git repository, by the commands of argocd/README.md, and keeps it so.

Stand-ins: the operators of Kafka and PostgreSQL cannot run here, so their charts hold custom resources without a
controller, and the test reports their objects ready. KEDA, Airflow, the fleet and the smoke run are real.
"""

from __future__ import annotations

import base64
import json
import os
import secrets
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import yaml

from stack.services import Services
from tests.e2e.deployed import services
from tests.e2e.gitops import (
    ADDRESS,
    CHARTS,
    Applications,
    ArgoCD,
    Repository,
    add_airflow_chart,
    add_chart,
    chart_server,
    git_server,
    message,
    phase,
    revision_of,
    synced_revision,
)
from tests.e2e.pods import Cluster
from tests.e2e.running import state_directory
from tests.paths import ROOT
from tests.rendering import Manifest

pytestmark = [pytest.mark.cluster, pytest.mark.integration, pytest.mark.timeout(1200)]

NAMESPACE = "testops-dev"
PARTS = ("data", "testops", "airflow", "smoke")
CUSTOM = {
    "strimzi-kafka-operator": ("kafka.strimzi.io", ("Kafka", "KafkaNodePool", "KafkaTopic", "KafkaUser")),
    "cloudnative-pg": ("postgresql.cnpg.io", ("Cluster", "ScheduledBackup")),
}
"""Chart of an operator -> the group and the kinds that it brings."""
ENDED = '{"status": {"operationState": {"phase": "Terminating"}}}'
READY = {"conditions": [{"type": "Ready", "status": "True"}]}


def definition(group: str, kind: str) -> Manifest:
    """A custom resource whose fields nobody checks."""
    plural = f"{kind.lower()}s"
    schema = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
    version = {"name": "v1", "served": True, "storage": True, "schema": {"openAPIV3Schema": schema}}
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{plural}.{group}"},
        "spec": {
            "group": group,
            "names": {"kind": kind, "listKind": f"{kind}List", "plural": plural, "singular": kind.lower()},
            "scope": "Namespaced",
            "versions": [version | {"subresources": {"status": {}}}],
        },
    }


def operators(repository: Repository) -> dict[str, Manifest]:
    """Chart -> its Application in apps/operators.yaml."""
    text = (repository.folder / "argocd/apps/operators.yaml").read_text("utf-8")
    return {manifest["spec"]["source"]["chart"]: manifest for manifest in yaml.safe_load_all(text)}


class Team:
    """What a platform team has in its hands: the repository, the cluster, and servers beside it."""

    def __init__(self, repository: Repository, argo: ArgoCD, servers: Services) -> None:
        self.repository = repository
        self.argo = argo
        self.servers = servers

    def kubectl(self, *arguments: str) -> str:
        return self.argo.cluster.kubectl(*arguments)

    def names(self, kind: str) -> set[str]:
        """Names of the environment's objects of a kind."""
        names = self.kubectl("get", kind, "-n", NAMESPACE, "-o", "name").split()
        return {name.partition("/")[2] for name in names}

    def report_ready(self, resource: str, status: dict[str, Any]) -> None:
        """What the operator would write."""
        patch = json.dumps({"status": status})
        for name in self.names(resource):
            self.kubectl("patch", resource, name, "-n", NAMESPACE, "--subresource=status", "--type=merge", "-p", patch)

    def configure(self, **values: Any) -> None:
        """The environment's file, as README says for brokers that are elsewhere."""
        variables = self.servers.variables()
        # The stand-in of Strimzi makes no topics.
        values["testops"] = {"topics": {"create": True}, **values.get("testops", {})}
        self.repository.write(
            "argocd/environment/dev.yaml",
            {
                "kafka": {"bootstrap": variables["TESTOPS_KAFKA_BOOTSTRAP"], "replication": 1},
                "targets": ["airflow", "shop"],
                **values,
            },
        )

    def commit(self, words: str) -> str:
        commit = self.repository.commit(words)
        self.argo.refresh("testops-root", "testops-dev")
        return commit


@pytest.fixture(scope="module")
def team(deployable: Cluster) -> Iterator[Team]:
    """The repository is committed, the namespace has its secrets; Argo CD knows of nothing yet."""
    cluster = deployable
    cluster.add("argocd")
    with ExitStack() as stack:
        servers = stack.enter_context(services(state_directory()))
        base = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="testops-gitops-")))
        (base / "charts").mkdir()
        url = f"git://{servers.address}:{stack.enter_context(git_server(base))}/team"
        repository = Repository(base / "team", url)
        add_airflow_chart(base / "charts")
        for chart, application in operators(repository).items():
            add_chart(base / "charts", chart, application["spec"]["source"]["targetRevision"], stand_in(chart))
        charts = f"http://{servers.address}:{stack.enter_context(chart_server(base / 'charts'))}"
        team = Team(repository, ArgoCD(cluster), servers)
        try:
            fill(team, charts)
            make_secrets(team)
            yield team
        finally:
            clean(team)


def stand_in(chart: str) -> list[Manifest]:
    """The manifests of an operator's chart, for this test."""
    if chart == "keda":  # it is here; its chart makes a RoleBinding in kube-system
        role = {
            "apiGroup": "rbac.authorization.k8s.io",
            "kind": "Role",
            "name": "extension-apiserver-authentication-reader",
        }
        return [
            {
                "apiVersion": "rbac.authorization.k8s.io/v1",
                "kind": "RoleBinding",
                "metadata": {"name": "testops-gitops-test", "namespace": "kube-system"},
                "roleRef": role,
            }
        ]
    labels = {"app": "operator"}
    container = {"name": "operator", "image": "localhost/testcluster/pause:1", "imagePullPolicy": "Never"}
    deployment = {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "operator"},
        "spec": {
            "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": {"containers": [container]}},
        },
    }
    group, kinds = CUSTOM[chart]
    return [*(definition(group, kind) for kind in kinds), deployment]


def fill(team: Team, charts: str) -> None:
    """What argocd/README.md tells a team to change, and the environments `dev` and `production`."""
    repository = team.repository
    for pattern in ("argocd/*.yaml", "argocd/apps/*.yaml"):
        repository.replace(pattern, ADDRESS, repository.url)
    for address in CHARTS:
        repository.replace("argocd/**/*.yaml", address, charts)
    repository.replace(
        "argocd/apps/environments.yaml", "{name: staging, revision: main}", "{name: dev, revision: main}"
    )
    repository.replace("argocd/projects.yaml", "namespace: testops-staging", f"namespace: {NAMESPACE}")
    closed_now = datetime.now(UTC) + timedelta(hours=12)
    repository.replace("argocd/projects.yaml", "0 7 * * 1-5", f"0 {closed_now.hour} * * *")
    team.configure()
    nothing = {"fleet": {"enabled": False}, "collector": {"enabled": False}, "setup": {"enabled": False}}
    repository.write(
        "argocd/environment/production.yaml",
        {
            "parts": {"data": False, "airflow": False, "smoke": False},
            "targets": [],
            "testops": {**nothing, "settingsName": "", "quota": {"pods": "40"}},
        },
    )
    repository.commit("An environment for the test")
    repository.tag("v0.1.0")


def make_secrets(team: Team) -> None:
    """Those that README lists, and the one that CloudNativePG would make."""
    team.argo.cluster.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}})
    login = {"TESTOPS_AIRFLOW_USERNAME": "admin", "TESTOPS_AIRFLOW_PASSWORD": "admin"}
    tested = {"TESTOPS_AIRFLOW_URL": "http://airflow-api-server:8080", "TESTOPS_AIRFLOW_DAG": "testops_run"}
    variables = team.servers.variables()
    tested |= {"TESTOPS_AIRFLOW_TASK": "load", "TESTOPS_SHOP_URL": variables["TESTOPS_SHOP_URL"]}
    tokens = {name: value for name, value in variables.items() if name.endswith("_TOKEN")}
    made = {
        "airflow-metadata": {"connection": variables["AIRFLOW_DSN"]},
        "airflow-keys-fernet": {"fernet-key": base64.urlsafe_b64encode(os.urandom(32)).decode()},
        "airflow-keys-api": {"api-secret-key": secrets.token_hex(32)},
        "airflow-keys-jwt": {"jwt-secret": secrets.token_urlsafe(48)},
        "testops-smoke": login,
        "testops-runner": {**tokens, **login, **tested},
        "testops-store-app": {"uri": variables["TESTOPS_DSN"]},
    }
    for name, data in made.items():
        metadata = {"name": name, "namespace": NAMESPACE}
        team.argo.cluster.apply({"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "stringData": data})


def clean(team: Team) -> None:
    """Nothing of the test stays in the cluster, whatever has become of it."""

    def kubectl(*arguments: str) -> str:
        return team.argo.cluster.kubectl(*arguments, check=False)

    forget = ("--ignore-not-found", "--wait=false")
    kubectl("delete", "-n", "argocd", "application", "testops-root", *forget)
    kubectl("delete", "-n", "argocd", "applicationset", "testops-environments", *forget)
    left = kubectl("get", "-n", "argocd", "applications", "-o", "name").split()
    for name in left:
        kubectl("patch", "-n", "argocd", name, "--type=merge", "-p", '{"metadata": {"finalizers": null}}')
        kubectl("delete", "-n", "argocd", name, *forget)
    kubectl("delete", "-n", "argocd", "appproject", "testops", "testops-apps", "testops-operators", *forget)
    settings = yaml.safe_load((ROOT / "argocd/argocd-cm.yaml").read_text("utf-8"))["data"]
    removed = json.dumps({"data": dict.fromkeys(settings)})
    kubectl("patch", "-n", "argocd", "configmap", "argocd-cm", "--type=merge", "-p", removed)
    kubectl("delete", "namespace", NAMESPACE, "testops-production", "strimzi", "cnpg-system", *forget)
    kubectl("delete", "rolebinding", "-n", "kube-system", "testops-gitops-test", *forget)
    for group, kinds in CUSTOM.values():
        kubectl("delete", "customresourcedefinition", *(f"{kind.lower()}s.{group}" for kind in kinds), *forget)


def test_the_commands_of_the_guide_make_everything_in_the_order_of_need(team: Team) -> None:
    argo = team.argo
    argo.guided(team.repository.folder, "--patch-file argocd/argocd-cm.yaml")
    argo.guided(team.repository.folder, "-f argocd/projects.yaml")

    # Kafka's and PostgreSQL's part is there when the operators are, and healthy when all of its objects are.
    applications = argo.until(lambda now: "testops-dev-data" in now, "no environment")
    first = applications["testops-dev"]["metadata"]["creationTimestamp"]
    for application in operators(team.repository).values():
        operator = argo.application(application["metadata"]["name"])
        assert operator["status"]["operationState"]["finishedAt"] <= first
        assert operator["status"]["health"]["status"] == "Healthy"
    argo.until(lambda now: synced(now["testops-dev-data"]), "no Kafka")
    argo.until(lambda now: waits_for(now, "data"), "the environment does not wait for Kafka")
    for kind in ("kafkas.kafka.strimzi.io", "kafkatopics.kafka.strimzi.io"):
        team.report_ready(kind, READY)
    compared = argo.application("testops-dev-data")["status"]["reconciledAt"]
    argo.refresh("testops-dev-data")
    applications = argo.until(lambda now: now["testops-dev-data"]["status"]["reconciledAt"] > compared, "no comparison")
    assert applications["testops-dev-data"]["status"]["health"]["status"] == "Progressing", "PostgreSQL is not there"
    assert waits_for(applications, "data")
    team.report_ready("clusters.postgresql.cnpg.io", {"phase": "Cluster in healthy state", "conditions": []})

    # Each of the others is made when the one before is in sync and healthy.
    for before, part in pairwise(PARTS):
        name = f"testops-dev-{part}"
        applications = argo.until(lambda now, name=name: name in now, f"no {part}", 400)  # type: ignore[misc]
        earlier = applications[f"testops-dev-{before}"]
        assert (phase(earlier), synced(earlier)) == ("Succeeded", True), before
        assert earlier["status"]["operationState"]["finishedAt"] <= applications[name]["metadata"]["creationTimestamp"]
    names = ["testops-root", "testops-dev", *(f"testops-dev-{part}" for part in PARTS)]
    applications = argo.until_settled(*names, timeout_s=300)
    commit = synced_revision(applications["testops-dev"])
    assert {revision_of(applications[f"testops-dev-{part}"]) for part in PARTS} == {commit}
    log = team.kubectl("logs", "-n", NAMESPACE, f"job/testops-smoke-{commit[:12]}")
    assert "the gate" in log, log

    # KEDA brought runners for the smoke run, and nobody took them away: one sync, and nothing to complain of.
    for part in PARTS:
        application = applications[f"testops-dev-{part}"]
        assert len(application["status"]["history"]) == 1, part
        assert application["status"].get("conditions", []) == [], part


def synced(application: Manifest) -> bool:
    return bool(application.get("status", {}).get("sync", {}).get("status") == "Synced")


def waits_for(applications: Applications, part: str) -> bool:
    """The environment's sync goes on with nothing that comes after the part."""
    later = PARTS[PARTS.index(part) + 1 :]
    environment = applications["testops-dev"]
    return (
        phase(environment) == "Running"
        and f"testops-dev-{part}" in message(environment)
        and not [name for name in later if f"testops-dev-{name}" in applications]
    )


def test_what_is_changed_in_the_cluster_is_put_back_but_the_size_of_the_fleet(team: Team) -> None:
    team.kubectl("delete", "configmap", "testops-settings", "-n", NAMESPACE)
    team.kubectl("scale", "deployment/testops-collector", "-n", NAMESPACE, "--replicas=0")
    team.kubectl("delete", "kafkatopics.kafka.strimzi.io", "testops.cases", "-n", NAMESPACE)
    team.kubectl("scale", "deployment/testops-fleet", "-n", NAMESPACE, "--replicas=1")

    def is_back(_: Applications) -> bool:
        collector = team.argo.cluster.get("deployment", "testops-collector", "-n", NAMESPACE)
        topics = team.names("kafkatopics.kafka.strimzi.io")
        return (
            "testops-settings" in team.names("configmap")
            and collector["spec"]["replicas"] == 1
            and "testops.cases" in topics
        )

    applications = team.argo.until(is_back, "it is not put back")
    healed = applications["testops-dev-testops"]["status"]["operationState"]["operation"]["sync"]["resources"]
    assert {resource["name"] for resource in healed} <= {"testops-settings", "testops-collector"}
    team.report_ready("kafkatopics.kafka.strimzi.io", READY)
    team.argo.until_settled("testops-dev-data", "testops-dev-testops")


def test_a_commit_reaches_the_parts_one_after_the_other_and_what_it_removes_is_deleted(team: Team) -> None:
    before = revision_of(team.argo.application("testops-dev-airflow"))
    team.configure(parts={"smoke": False}, testops={"collector": {"enabled": False}})
    commit = team.commit("No collector, no smoke run")
    looks: list[tuple[str, str]] = []

    def airflow_has_it(applications: Applications) -> bool:
        testops, airflow = (applications[f"testops-dev-{part}"] for part in ("testops", "airflow"))
        looks.append((revision_of(testops), revision_of(airflow)))
        if revision_of(airflow) == commit:
            assert (synced(testops), synced_revision(testops), phase(testops)) == (True, commit, "Succeeded")
        return revision_of(airflow) == commit

    team.argo.until(airflow_has_it, "the commit did not reach Airflow")
    assert (commit, before) in looks, "Airflow did not wait"
    team.argo.until(lambda now: "testops-dev-smoke" not in now, "the smoke run's part is still there")
    team.argo.until_settled("testops-dev", "testops-dev-testops", revision=commit)
    assert "testops-collector" not in team.names("deployment")
    assert [name for name in team.names("job") if "smoke" in name] == []
    team.repository.tag("v0.2.0")


def test_a_broken_commit_is_tried_again_and_a_rollback_names_the_tag_before(team: Team) -> None:
    team.configure(parts={"smoke": False}, testops={"collector": {"enabled": False}, "quota": {"pods": "none"}})
    broken = team.commit("A quota that is none")

    def is_tried_again(applications: Applications) -> bool:
        testops = applications["testops-dev-testops"]
        retries = testops["status"].get("operationState", {}).get("retryCount", 0)
        return revision_of(testops) == broken and phase(testops) == "Running" and retries >= 1

    applications = team.argo.until(is_tried_again, "no retry")
    assert revision_of(applications["testops-dev-airflow"]) != broken

    team.repository.replace(
        "argocd/apps/environments.yaml", "{name: dev, revision: main}", "{name: dev, revision: v0.2.0}"
    )
    team.commit("Back to v0.2.0")
    team.argo.until(lambda now: revision_of(now["testops-dev"]) == "v0.2.0", "the ApplicationSet still has main")
    for name in ("testops-dev", "testops-dev-testops"):
        team.argo.guided(team.repository.folder, ENDED, testops_staging=name)
    applications = team.argo.until_settled("testops-dev", "testops-dev-airflow")
    assert {revision_of(applications[f"testops-dev-{part}"]) for part in ("testops", "airflow")} == {
        synced_revision(applications["testops-dev"])
    }
    assert team.names("resourcequota") == set()


def test_production_waits_for_its_window_or_for_a_person(team: Team) -> None:
    production = team.argo.application("testops-production")
    assert production["status"]["sync"]["status"] == "OutOfSync" and phase(production) == ""
    assert "testops-production-testops" not in team.argo.applications()
    team.argo.guided(team.repository.folder, '{"operation":')
    team.argo.until(lambda now: "testops-production-testops" in now, "a person's sync was refused")
    team.argo.until_settled("testops-production", "testops-production-testops")
    assert team.kubectl("get", "resourcequota", "-n", "testops-production", "-o", "name")


CONFIG_MAP = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "refused", "namespace": "default"}}
LIMITS = {"apiVersion": "v1", "kind": "LimitRange", "metadata": {"name": "refused"}, "spec": {"limits": []}}
ROLE = {
    "apiVersion": "rbac.authorization.k8s.io/v1",
    "kind": "ClusterRole",
    "metadata": {"name": "refused"},
    "rules": [],
}
PROJECT = {"apiVersion": "argoproj.io/v1alpha1", "kind": "AppProject", "metadata": {"name": "refused"}, "spec": {}}


def test_the_projects_refuse_what_is_not_theirs(team: Team) -> None:
    refused = {"namespace": CONFIG_MAP, "kind": LIMITS, "cluster": ROLE, "project": PROJECT}
    for name, manifest in refused.items():
        team.repository.write(f"refused/{name}/manifest.yaml", manifest)
    team.commit("More than is allowed")
    url = team.repository.url
    for name, project, namespace, repository in (
        ("namespace", "testops", NAMESPACE, url),
        ("kind", "testops", NAMESPACE, url),
        ("cluster", "testops", NAMESPACE, url),
        ("project", "testops-apps", "argocd", url),
        ("destination", "testops", "default", url),
        ("repository", "testops", NAMESPACE, url.replace("/team", "/other")),
    ):
        application = {
            "apiVersion": "argoproj.io/v1alpha1",
            "kind": "Application",
            "metadata": {"name": f"refused-{name}", "namespace": "argocd"},
            "spec": {
                "project": project,
                "source": {"repoURL": repository, "targetRevision": "main", "path": f"refused/{name}"},
                "destination": {"server": "https://kubernetes.default.svc", "namespace": namespace},
                "syncPolicy": {"automated": {}, "retry": {"limit": 0}},
            },
        }
        team.argo.cluster.apply(application)
    try:
        for name in refused:
            team.argo.until(
                lambda now, name=f"refused-{name}": phase(now[name]) == "Failed",  # type: ignore[misc]
                f"{name} was not refused",
            )
            result = team.argo.application(f"refused-{name}")["status"]["operationState"]["syncResult"]
            assert "is not permitted in project" in result["resources"][0]["message"], name
        for name in ("destination", "repository"):
            team.argo.until(
                lambda now, name=f"refused-{name}": now[name].get("status", {}).get("conditions") is not None,  # type: ignore[misc]
                f"{name} was not refused",
            )
            [condition, *_] = team.argo.application(f"refused-{name}")["status"]["conditions"]
            assert (condition["type"], "in project 'testops'" in condition["message"]) == ("InvalidSpecError", True)
    finally:
        for name in (*refused, "destination", "repository"):
            team.kubectl("delete", "application", f"refused-{name}", "-n", "argocd", "--wait=false")


def test_an_environment_that_is_removed_leaves_its_data(team: Team) -> None:
    claims = team.names("persistentvolumeclaim")
    team.repository.replace("argocd/apps/environments.yaml", "          - {name: dev, revision: v0.2.0}\n", "")
    team.repository.commit("No more dev")
    team.argo.refresh("testops-root")
    team.argo.until(
        lambda now: not [name for name in now if name.startswith("testops-dev")],
        "its Applications are still there",
        120,
    )
    assert team.names("deployment,statefulset,service,serviceaccount,networkpolicy") == {"default"}
    assert team.names("kafkas.kafka.strimzi.io") == {"kafka"}
    assert team.names("clusters.postgresql.cnpg.io") == {"testops-store"}
    assert team.names("persistentvolumeclaim") == claims != set()
    assert "airflow-metadata" in team.names("secret")
