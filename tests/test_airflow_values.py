"""Our values for the official Airflow chart, rendered by Helm: confined, without secrets, in step with our image."""

from __future__ import annotations

import configparser
import json
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest
import yaml

from testops_lib import settings as configuration
from tests import rendering
from tests.paths import ROOT
from tests.rendering import SCHEMAS

VALUES = ROOT / "helm-values/airflow"
OVERLAYS = ("dev", "staging", "production")
CONFIGURED = """
import json
import sys

from airflow.api_fastapi.app import get_auth_manager_cls
from airflow.config_templates.airflow_local_settings import REMOTE_TASK_LOG
from airflow.configuration import conf, initialize_secrets_backends
from airflow.executors.executor_loader import ExecutorLoader
from airflow.providers_manager import ProvidersManager

executors = [ExecutorLoader.import_executor_cls(name)[0] for name in ExecutorLoader.get_executor_names(False)]
objects = [get_auth_manager_cls(), *executors, *map(type, (REMOTE_TASK_LOG, *initialize_secrets_backends()))]
hooks = ProvidersManager().hooks
print(json.dumps({"classes": [kind.__module__ for kind in objects],
                  "providers": [hooks[name].package_name for name in sys.argv[1:]]}))
"""
"""Imports what an `airflow.cfg` names; prints the modules of executors, auth manager, remote log and secrets backends,
and the provider of each type of connection in the arguments."""
OURS = {"scheduler", "triggerer", "dag-processor", "api-server", "worker"}


@pytest.fixture(scope="session")
def rendered() -> dict[str, list[dict[str, Any]]]:
    """Overlay -> its manifests."""
    return {overlay: rendering.airflow(overlay) for overlay in (*OVERLAYS, "dev+git-sync")}


def settings_of_our_chart() -> dict[str, Any]:
    """The ConfigMap that our chart writes and every component of Airflow reads."""
    maps = [manifest for manifest in rendering.ours("preset") if manifest["kind"] == "ConfigMap"]
    [settings] = [manifest for manifest in maps if manifest["metadata"]["name"] == "testops-settings"]
    return settings


def pods(manifests: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Name of the workload -> its pods' specification."""
    return {name: pod["spec"] for name, pod in rendering.pods(manifests) if name != "pod-template"}


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_every_pod_of_airflow_runs_our_image_confined(rendered: Any, overlay: str) -> None:
    specifications = pods(rendered[overlay])
    base = yaml.safe_load((VALUES / "base.yaml").read_text("utf-8"))
    image = f"{base['images']['airflow']['repository']}:{base['images']['airflow']['tag']}"
    assert len(specifications) >= 4
    for name, spec in specifications.items():
        for container in [*spec.get("initContainers", []), *spec["containers"]]:
            if "pgbouncer" not in name:
                assert container["image"] == image, name
                assert container["securityContext"]["allowPrivilegeEscalation"] is False, name
        if "pgbouncer" not in name:
            assert spec["securityContext"]["runAsNonRoot"] is True, name
        assert spec.get("enableServiceLinks") is False, name


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_every_long_running_component_says_what_it_needs(rendered: Any, overlay: str) -> None:
    for name, spec in pods(rendered[overlay]).items():
        if name.removeprefix("airflow-") in OURS:
            resources = spec["containers"][0]["resources"]
            assert resources["requests"]["memory"] and resources["limits"]["memory"], name


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_no_secret_is_rendered_that_holds_a_value_of_ours(rendered: Any, overlay: str) -> None:
    names = {manifest["metadata"]["name"] for manifest in rendered[overlay] if manifest["kind"] == "Secret"}
    assert not {name for name in names if re.search("fernet|api-secret|jwt|metadata", name)}


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_every_variable_of_ours_is_a_setting_and_the_store_comes_from_a_secret(rendered: Any, overlay: str) -> None:
    scheduler = pods(rendered[overlay])["airflow-scheduler"]["containers"][0]
    variables = {variable["name"]: variable for variable in scheduler["env"]}
    ours = {name for name in variables if name.startswith("TESTOPS_")}
    settings = settings_of_our_chart()
    assert {"configMapRef": {"name": settings["metadata"]["name"]}} in scheduler["envFrom"]
    assert {"TESTOPS_KAFKA_BOOTSTRAP", "TESTOPS_LAUNCHER"} <= settings["data"].keys()
    assert ours | settings["data"].keys() <= configuration.VARIABLES.keys()
    assert variables["TESTOPS_DSN"]["valueFrom"]["secretKeyRef"] == {"name": "testops-store", "key": "dsn"}


def test_staging_and_production_close_the_network_and_survive_a_drain(rendered: Any) -> None:
    for overlay in ("staging", "production"):
        kinds = [manifest["kind"] for manifest in rendered[overlay]]
        assert "NetworkPolicy" in kinds and "PodDisruptionBudget" in kinds


def test_production_scales_and_speaks_tls(rendered: Any) -> None:
    kinds = {manifest["kind"]: manifest for manifest in rendered["production"]}
    scaling = kinds["HorizontalPodAutoscaler"]["spec"]
    assert (scaling["minReplicas"], scaling["maxReplicas"]) == (2, 10)
    assert kinds["Ingress"]["spec"]["tls"][0]["secretName"] == "airflow-tls"
    assert "cert-manager.io/cluster-issuer" in kinds["Ingress"]["metadata"]["annotations"]


def test_kedas_own_schema_accepts_how_the_workers_are_scaled(rendered: Any) -> None:
    schema = SCHEMAS / "keda.sh_scaledobject_v1alpha1.json"
    if not schema.is_file():
        pytest.skip(f"needs KEDA's schemas in {SCHEMAS} (github.com/datreeio/CRDs-catalog, keda.sh)")
    validator = jsonschema_rs.validator_for(json.loads(schema.read_text("utf-8")))
    [scaled] = [manifest for manifest in rendered["production"] if manifest["kind"] == "ScaledObject"]
    assert [error.message for error in validator.iter_errors(scaled)] == []


def test_git_sync_brings_the_dag_folder_and_nothing_else_changes(rendered: Any) -> None:
    processor = pods(rendered["dev+git-sync"])["airflow-dag-processor"]
    [sync] = [container for container in processor["containers"] if container["name"] == "git-sync"]
    assert {"name": "GITSYNC_REF", "value": "v0.1.0"} in sync["env"]
    assert pods(rendered["dev"]).keys() == pods(rendered["dev+git-sync"]).keys()


@pytest.mark.parametrize("overlay", ["staging", "production"])
def test_pgbouncer_takes_its_configuration_from_a_secret_of_ours(rendered: Any, overlay: str) -> None:
    names = {manifest["metadata"]["name"] for manifest in rendered[overlay] if manifest["kind"] == "Secret"}
    assert not {name for name in names if "pgbouncer" in name}, "written from the chart's default password"
    spec = pods(rendered[overlay])["airflow-pgbouncer"]
    assert {"name": "pgbouncer-config", "secret": {"secretName": "airflow-pgbouncer"}} in spec["volumes"]
    [exporter] = [container for container in spec["containers"] if container["name"] == "metrics-exporter"]
    reference = exporter["env"][0]["valueFrom"]["secretKeyRef"]
    assert reference == {"name": "airflow-pgbouncer", "key": "connection"}


def test_pgbouncers_configuration_fits_the_chart_and_airflow() -> None:
    parser = configparser.ConfigParser(comment_prefixes=(";",))
    parser.read(VALUES / "pgbouncer.ini", "utf-8")
    assert parser["pgbouncer"]["listen_port"] == "6543", "the chart's service and probes"
    assert parser["pgbouncer"]["auth_file"] == "/etc/pgbouncer/users.txt", "where the chart mounts it"
    assert int(parser["pgbouncer"]["max_prepared_statements"]) > 0, "asyncpg and KEDA prepare statements"


@pytest.mark.parametrize("overlay", ["staging", "production"])
def test_every_component_and_the_ingress_reach_the_api_server(rendered: Any, overlay: str) -> None:
    policies = {m["metadata"]["name"]: m["spec"] for m in rendered[overlay] if m["kind"] == "NetworkPolicy"}
    [rule] = policies["airflow-api-server-policy"]["ingress"]
    assert rule["ports"] == [{"port": 8080}]
    assert rule["from"] == [
        {"podSelector": {"matchLabels": {"tier": "airflow"}}},
        {"podSelector": {"matchLabels": {"app.kubernetes.io/part-of": "testops"}}},
        {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "ingress-nginx"}}},
    ]


def test_keda_reaches_pgbouncer_from_its_own_namespace(rendered: Any) -> None:
    policies = {m["metadata"]["name"]: m["spec"] for m in rendered["production"] if m["kind"] == "NetworkPolicy"}
    [rule] = policies["airflow-pgbouncer-policy"]["ingress"]
    assert {
        "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "keda"}},
        "podSelector": {"matchLabels": {"app": "keda-operator"}},
    } in rule["from"]


def connection_types(values: dict[str, Any]) -> set[str]:
    """Types of the connections that the values name."""
    remote_log = values["config"].get("logging", {}).get("remote_base_log_folder", "")
    return {"postgres", "kafka"} | ({"aws"} if remote_log.startswith("s3:") else set())


@pytest.mark.airflow
@pytest.mark.long
@pytest.mark.parametrize("overlay", OVERLAYS)
def test_the_image_has_every_provider_that_is_configured(rendered: Any, overlay: str, tmp_path: Path) -> None:
    [text] = [
        manifest["data"]["airflow.cfg"]
        for manifest in rendered[overlay]
        if manifest["kind"] == "ConfigMap" and "airflow.cfg" in manifest["data"]
    ]
    (tmp_path / "airflow.cfg").write_text(text)
    environment = {name: value for name, value in os.environ.items() if not name.startswith("AIRFLOW")}
    values = yaml.safe_load((VALUES / f"{overlay}.yaml").read_text("utf-8"))
    done = subprocess.run(
        [sys.executable, "-c", CONFIGURED, *connection_types(values)],
        env={
            **environment,
            "AIRFLOW_HOME": str(tmp_path),
            "AIRFLOW__CORE__EXECUTOR": values["executor"],
            "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{tmp_path}/airflow.db",
            "AIRFLOW__CELERY__BROKER_URL": "redis://redis:6379/0",
        },
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    configured = json.loads(done.stdout.strip().rpartition("\n")[2])

    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    declared = {re.split(r"[\[=<>]", line)[0] for line in project["optional-dependencies"]["airflow"]}
    folders = {f"{name.removeprefix('apache-').replace('-', '.')}." for name in declared}
    providers = {name for name in configured["classes"] if name.startswith("airflow.providers.")}
    assert {name for name in providers if not name.startswith(tuple(folders))} == set()
    assert set(configured["providers"]) <= declared
