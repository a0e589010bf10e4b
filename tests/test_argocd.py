"""The GitOps files: valid, allowed by their project, in the order of need; what they name exists."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest
import yaml

from tests.paths import ROOT
from tests.test_charts import SCHEMAS, helm

ARGOCD = ROOT / "argocd"
STATIC = sorted([ARGOCD / "project.yaml", ARGOCD / "root.yaml", *(ARGOCD / "apps").glob("*.yaml")])


def documents(path: Path) -> list[dict[str, Any]]:
    return [document for document in yaml.safe_load_all(path.read_text("utf-8")) if document]


@pytest.fixture(scope="module")
def environments() -> dict[str, list[dict[str, Any]]]:
    """Environment of the ApplicationSet -> the Applications that are rendered for it."""
    [elements] = [
        generator["list"]["elements"]
        for generator in documents(ARGOCD / "apps/environments.yaml")[0]["spec"]["generators"]
    ]
    rendered = {}
    for element in elements:
        command = [
            *helm(),
            "template",
            element["name"],
            str(ARGOCD / "environment"),
            "--set",
            f"name={element['name']}",
        ]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stderr
        rendered[element["name"]] = [document for document in yaml.safe_load_all(done.stdout) if document]
    return rendered


def every(environments: dict[str, list[dict[str, Any]]]) -> list[dict[str, Any]]:
    static = [document for path in STATIC for document in documents(path)]
    return static + [application for applications in environments.values() for application in applications]


def test_argo_cds_own_schemas_accept_every_file(environments: Any) -> None:
    kinds = set()
    for document in every(environments):
        path = SCHEMAS / f"argoproj.io_{document['kind'].lower()}_v1alpha1.json"
        if not path.is_file():
            pytest.skip(f"needs Argo CD's schemas in {SCHEMAS} (github.com/datreeio/CRDs-catalog)")
        validator = jsonschema_rs.validator_for(json.loads(path.read_text("utf-8")))
        problems = [f"{error.instance_path}: {error.message}" for error in validator.iter_errors(document)]
        assert problems == [], document["metadata"]["name"]
        kinds.add(document["kind"])
    assert kinds == {"AppProject", "Application", "ApplicationSet"}


def sources(application: dict[str, Any]) -> list[dict[str, Any]]:
    spec = application["spec"]
    return spec.get("sources") or [spec["source"]]


def test_every_path_and_value_file_that_is_named_exists(environments: Any) -> None:
    named = set()
    for application in every(environments):
        if application["kind"] == "Application":
            for source in sources(application):
                named |= {source["path"]} if "path" in source else set()
                files = source.get("helm", {}).get("valueFiles", [])
                named |= {file.removeprefix("$values/") for file in files}
    assert {"helm-values/testops", "helm-values/airflow/base.yaml", "helm-values/airflow/staging.yaml"} <= named
    assert [path for path in sorted(named) if not (ROOT / path).exists()] == []


def test_the_project_allows_every_source_and_destination_and_no_more(environments: Any) -> None:
    [project] = documents(ARGOCD / "project.yaml")
    applications = [document for document in every(environments) if document["kind"] == "Application"]
    repositories = {source["repoURL"] for application in applications for source in sources(application)}
    assert set(project["spec"]["sourceRepos"]) == repositories
    namespaces = {application["spec"]["destination"]["namespace"] for application in applications}
    assert {destination["namespace"] for destination in project["spec"]["destinations"]} == namespaces
    assert all("*" not in entry for entry in project["spec"]["sourceRepos"])


def test_the_parts_come_in_the_order_in_which_they_need_each_other(environments: Any) -> None:
    for applications in environments.values():
        waves = {
            application["metadata"]["name"].rpartition("-")[2]: int(
                application["metadata"]["annotations"]["argocd.argoproj.io/sync-wave"]
            )
            for application in applications
        }
        assert sorted(waves, key=lambda part: waves[part]) == ["data", "testops", "airflow", "smoke"]


def test_argo_cd_passes_only_values_that_our_chart_knows(environments: Any, tmp_path: Path) -> None:
    tried = 0
    for applications in environments.values():
        for application in applications:
            [source, *_] = sources(application)
            if source.get("path") == "helm-values/testops":
                file = tmp_path / "values.yaml"
                file.write_text(yaml.safe_dump(source["helm"]["valuesObject"]), "utf-8")
                command = [*helm(), "template", "x", str(ROOT / source["path"]), "--values", str(file)]
                done = subprocess.run(command, capture_output=True, text=True, timeout=60)
                assert done.returncode == 0, done.stderr
                tried += 1
    assert tried == 4


def test_what_autoscalers_change_is_left_to_them(environments: Any) -> None:
    for applications in environments.values():
        for application in applications:
            if application["metadata"]["name"].endswith(("-airflow", "-testops")):
                ignored = [entry["jsonPointers"] for entry in application["spec"]["ignoreDifferences"]]
                assert ["/spec/replicas"] in ignored
