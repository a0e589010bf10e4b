"""What each service account of both charts may do in Kubernetes, and which pods hold a token. More is refused."""

from __future__ import annotations

import pytest
import yaml

from tests.paths import ROOT
from tests.rendering import SECRETS, Manifest, configurations, pods, rendered

Rights = dict[str, set[str]]
"""Resource -> verbs."""

POD_LAUNCHER: Rights = {
    "pods": {"create", "delete", "get", "list", "patch", "watch"},
    "pods/log": {"get"},
    "events": {"list", "watch"},
}
"""By our chart, for the launcher kubernetes."""
EXECUTOR: Rights = {**POD_LAUNCHER, "pods/exec": {"create", "get"}}
"""By Airflow's chart, for KubernetesExecutor: it knows no smaller role, nor another for workers and triggerer."""
LOG_READER: Rights = {"pods": {"get", "list", "watch"}, "pods/log": {"get", "list"}}

AIRFLOW: dict[str, Rights] = {
    f"airflow-{component}": {}
    for component in (
        "api-server",
        "create-user-job",
        "dag-processor",
        "migrate-database-job",
        "scheduler",
        "triggerer",
    )
}
STAGING: dict[str, Rights] = {
    **AIRFLOW,
    "airflow-api-server": LOG_READER,
    "airflow-pgbouncer": {},
    "airflow-scheduler": EXECUTOR,
    "airflow-triggerer": EXECUTOR,
    "airflow-worker": EXECUTOR,
}
PRODUCTION: dict[str, Rights] = {
    **AIRFLOW,
    "airflow-database-cleanup": {},
    "airflow-pgbouncer": {},
    "airflow-worker": {},
}

EXPECTED: dict[str, dict[str, Rights]] = {
    "dev": AIRFLOW,
    "dev+git-sync": AIRFLOW,
    "staging": STAGING,
    "staging+git-sync": STAGING,
    "production": PRODUCTION,
    "production+git-sync": PRODUCTION,
    **dict.fromkeys(SECRETS, PRODUCTION),
    "preset": {"night-runner": {}, "night-setup": {}, "night-store": {}},
    "nothing": {},
    "everything": {"night-kafka-ui": {}, "night-runner": {}, "night-setup": {}, "night-store": {}},
    "launcher kubernetes": {
        "night-setup": {},
        "night-store": {},
        "airflow-scheduler": POD_LAUNCHER,
        "airflow-triggerer": POD_LAUNCHER,
        "airflow-worker": POD_LAUNCHER,
    },
    "pods of runners": {
        "airflow-scheduler": POD_LAUNCHER,
        "airflow-triggerer": POD_LAUNCHER,
        "airflow-worker": POD_LAUNCHER,
    },
    "runners": {"night-runner": {}},
}
"""Configuration -> account -> what it may do."""

TOKENS: dict[str, set[str]] = {
    "dev": {"airflow-scheduler", "airflow-triggerer"},
    "staging": {"airflow-api-server", "airflow-scheduler", "airflow-triggerer", "pod-template"},
    "production": {"airflow-scheduler", "airflow-triggerer", "airflow-worker"},
    # Vault knows a pod by its token; the API server's account may do nothing in Kubernetes.
    "production+secrets-vault": {"airflow-api-server", "airflow-scheduler", "airflow-triggerer", "airflow-worker"},
}
"""Overlay -> workloads whose pods hold a token: who makes pods under the launcher kubernetes, who reads logs, who asks
Vault."""


def granted(manifests: list[Manifest]) -> dict[str, Rights]:
    """Account -> its rights, for every account that is made or named."""
    roles = {m["metadata"]["name"]: m["rules"] for m in manifests if m["kind"] in ("Role", "ClusterRole")}
    accounts: dict[str, Rights] = {m["metadata"]["name"]: {} for m in manifests if m["kind"] == "ServiceAccount"}
    for manifest in manifests:
        if manifest["kind"] in ("RoleBinding", "ClusterRoleBinding"):
            for subject in manifest["subjects"]:
                assert subject["kind"] == "ServiceAccount", "nobody else gets rights"
                rights = accounts.setdefault(subject["name"], {})
                for rule in roles[manifest["roleRef"]["name"]]:
                    assert rule["apiGroups"] == [""]
                    for resource in rule["resources"]:
                        rights.setdefault(resource, set()).update(rule["verbs"])
    return accounts


@pytest.mark.parametrize("configuration", configurations())
def test_each_account_may_do_what_the_table_says_and_no_more(configuration: str) -> None:
    assert granted(rendered(configuration)) == EXPECTED[configuration]


@pytest.mark.parametrize("configuration", configurations())
def test_no_right_holds_in_the_whole_cluster(configuration: str) -> None:
    assert not [m for m in rendered(configuration) if m["kind"] in ("ClusterRole", "ClusterRoleBinding")]


@pytest.mark.parametrize("configuration", configurations())
def test_a_token_is_in_the_pods_that_may_launch_pods_and_in_no_other(configuration: str) -> None:
    manifests = rendered(configuration)
    accounts = {
        m["metadata"]["name"]: m.get("automountServiceAccountToken", True)
        for m in manifests
        if m["kind"] == "ServiceAccount"
    }
    holders = {
        name
        for name, pod in pods(manifests)
        if pod["spec"].get("automountServiceAccountToken", accounts.get(pod["spec"].get("serviceAccountName"), True))
    }
    overlay = configuration if configuration in TOKENS else configuration.partition("+")[0]
    assert holders == TOKENS.get(overlay, set())


def test_the_pod_of_a_batch_has_no_token() -> None:
    template = yaml.safe_load((ROOT / "testops_airflow/pod.yaml").read_text("utf-8"))
    assert template["spec"]["automountServiceAccountToken"] is False and "serviceAccountName" not in template["spec"]
