"""The GitOps files: valid, allowed by their projects, in the order of need; what they name exists."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest
import yaml

from tests.paths import ROOT
from tests.rendering import SCHEMAS, SHAPES, Manifest, airflow, airflow_chart, configurations, helm, rendered, run

ARGOCD = ROOT / "argocd"
STATIC = sorted([ARGOCD / "projects.yaml", ARGOCD / "root.yaml", *(ARGOCD / "apps").glob("*.yaml")])
COMMIT = "0123456789abcdef0123456789abcdef01234567"
ORDER = ["secrets", "data", "testops", "airflow", "smoke"]
EXTERNAL_SECRETS = {"externalSecrets": SHAPES["everything"]["externalSecrets"]}


def documents(path: Path) -> list[Manifest]:
    return [document for document in yaml.safe_load_all(path.read_text("utf-8")) if document]


def template(folder: Path, *options: str) -> list[Manifest]:
    """What Helm renders of a chart."""
    text = run([*helm(), "template", "x", str(folder), *options])
    return [document for document in yaml.safe_load_all(text) if document]


@pytest.fixture(scope="module")
def application_set() -> Manifest:
    [document] = documents(ARGOCD / "apps/environments.yaml")
    return document


@pytest.fixture(scope="module")
def environments(application_set: Manifest, tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[Manifest]]:
    """Environment -> the Applications that are rendered for it, with secrets from a secret store."""
    file = tmp_path_factory.mktemp("environment") / "values.yaml"
    file.write_text(yaml.safe_dump(EXTERNAL_SECRETS), "utf-8")
    source = application_set["spec"]["template"]["spec"]["source"]
    [generator] = application_set["spec"]["generators"]
    applications = {}
    for element in generator["list"]["elements"]:
        words = {"{{ .name }}": element["name"], "$ARGOCD_APP_REVISION": COMMIT}
        words["$ARGOCD_APP_SOURCE_REPO_URL"] = source["repoURL"]
        options = ["--values", str(file)]
        for value_file in source["helm"]["valueFiles"]:
            path = ROOT / source["path"] / value_file.replace("{{ .name }}", element["name"])
            options += ["--values", str(path)]
        for parameter in source["helm"]["parameters"]:
            options += ["--set-string", f"{parameter['name']}={words[parameter['value']]}"]
        applications[element["name"]] = template(ROOT / source["path"], *options)
    return applications


def every(environments: dict[str, list[Manifest]]) -> list[Manifest]:
    static = [document for path in STATIC for document in documents(path)]
    return static + [application for applications in environments.values() for application in applications]


def part(applications: list[Manifest], name: str) -> Manifest:
    [application] = [a for a in applications if a["metadata"]["name"].endswith(f"-{name}")]
    return application


def sources(application: Manifest) -> list[Manifest]:
    spec = application["spec"]
    return spec.get("sources") or [spec["source"]]


def projects() -> dict[str, Manifest]:
    return {document["metadata"]["name"]: document["spec"] for document in documents(ARGOCD / "projects.yaml")}


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


def test_every_path_and_value_file_that_is_named_exists(environments: Any) -> None:
    named = set()
    for application in every(environments):
        if application["kind"] == "Application":
            for source in sources(application):
                named |= {source["path"]} if "path" in source else set()
                files = source.get("helm", {}).get("valueFiles", [])
                named |= {file.removeprefix("$values/") for file in files}
                texts = source.get("helm", {}).get("fileParameters", [])
                named |= {os.path.normpath(f"{source['path']}/{text['path']}") for text in texts}
    assert {"helm-values/testops", "argocd/smoke", "helm-values/airflow/base.yaml", "targets/airflow.yaml"} <= named
    assert {f"helm-values/airflow/{name}.yaml" for name in environments} <= named
    assert [path for path in sorted(named) if not (ROOT / path).exists()] == []


def test_airflows_chart_is_the_one_that_the_other_tests_render(environments: Any) -> None:
    version = airflow_chart().name.removeprefix("airflow-").removesuffix(".tgz")
    for applications in environments.values():
        [source] = [source for source in sources(part(applications, "airflow")) if "chart" in source]
        assert (source["chart"], source["targetRevision"]) == ("airflow", version)
    guide = (ROOT / "DEPLOYMENT.md").read_text("utf-8")
    assert set(re.findall(r"apache-airflow/airflow --version (\S+)", guide)) == {version}


def test_the_projects_allow_every_source_and_destination_and_no_more(environments: Any, application_set: Any) -> None:
    template = application_set["spec"]["template"]
    applications = [document for document in every(environments) if document["kind"] == "Application"] + [template]
    for name, project in projects().items():
        members = [application for application in applications if application["spec"]["project"] == name]
        repositories = {source["repoURL"] for application in members for source in sources(application)}
        assert set(project["sourceRepos"]) == repositories
        namespaces = {application["spec"]["destination"]["namespace"] for application in members}
        # The chart of KEDA makes a RoleBinding there (rbac.controlPlaneServiceAccountsNamespace).
        namespaces |= {"kube-system"} if name == "testops-operators" else set()
        assert {destination["namespace"] for destination in project["destinations"]} == namespaces
        assert "*" not in json.dumps([project["sourceRepos"], project["destinations"]])
    assert {application["spec"]["project"] for application in applications} == set(projects())


def group_kind(manifest: Manifest) -> tuple[str, str]:
    return manifest["apiVersion"].rpartition("/")[0], manifest["kind"]


def test_the_projects_allow_every_kind_that_is_rendered_and_no_more(environments: Any) -> None:
    allowed = {
        name: {(entry["group"], entry["kind"]) for entry in project.get("namespaceResourceWhitelist", ())}
        for name, project in projects().items()
    }
    smoke = template(ARGOCD / "smoke", "--set", f"revision={COMMIT}")
    charts = [manifest for configuration in configurations() for manifest in rendered(configuration)]
    kinds = {
        group_kind(manifest)
        for manifest in smoke + charts
        if manifest["metadata"].get("annotations", {}).get("helm.sh/hook") != "test"  # Argo CD leaves them out
    }
    shown = {("", "Pod"), ("apps", "ReplicaSet")}
    assert allowed["testops"] == kinds | shown
    assert projects()["testops"]["clusterResourceWhitelist"] == [{"group": "", "kind": "Namespace"}]
    made = [application for applications in environments.values() for application in applications]
    made += [document for path in STATIC if path.parent.name == "apps" for document in documents(path)]
    assert allowed["testops-apps"] == {group_kind(manifest) for manifest in made}
    assert not projects()["testops-apps"].get("clusterResourceWhitelist")


def test_the_parts_come_in_the_order_in_which_they_need_each_other(environments: Any) -> None:
    for applications in environments.values():
        waves = {
            application["metadata"]["name"].rpartition("-")[2]: int(
                application["metadata"]["annotations"]["argocd.argoproj.io/sync-wave"]
            )
            for application in applications
        }
        assert sorted(waves, key=lambda name: waves[name]) == ORDER
        assert len(set(waves.values())) == len(ORDER), "a wave waits for the one before, not for its neighbours"


def test_operators_come_before_the_environments(application_set: Manifest) -> None:
    assert "argocd.argoproj.io/sync-wave" not in application_set["metadata"].get("annotations", {})
    for application in documents(ARGOCD / "apps/operators.yaml"):
        assert int(application["metadata"]["annotations"]["argocd.argoproj.io/sync-wave"]) < 0


def test_every_part_is_of_the_commit_of_its_environment(environments: Any) -> None:
    """A branch would reach all parts at once, whatever their waves."""
    for applications in environments.values():
        for application in applications:
            [revision] = [source["targetRevision"] for source in sources(application) if "chart" not in source]
            assert revision == COMMIT
        [job] = [
            manifest
            for manifest in template(ARGOCD / "smoke", "--set", f"revision={COMMIT}")
            if manifest["kind"] == "Job"
        ]
        assert job["metadata"]["name"] == f"testops-smoke-{COMMIT[:12]}", "a job cannot be changed"


def test_argo_cd_passes_only_values_that_our_charts_know(environments: Any, tmp_path: Path) -> None:
    """Both charts have a schema of their values, or fail without what they need."""
    tried = set()
    for applications in environments.values():
        for application in applications:
            [source, *_] = sources(application)
            if "path" in source:
                file = tmp_path / "values.yaml"
                file.write_text(yaml.safe_dump(source["helm"]["valuesObject"]), "utf-8")
                assert template(ROOT / source["path"], "--values", str(file))
                tried.add(application["metadata"]["name"].rpartition("-")[2])
    assert tried == set(ORDER) - {"airflow"}


def test_airflows_jobs_are_hooks_of_argo_cd(environments: Any, tmp_path: Path) -> None:
    """A plain job deletes itself after five minutes: Argo CD would make it anew, for ever."""
    values = tmp_path / "values.yaml"
    for name, applications in environments.items():
        [source] = [source for source in sources(part(applications, "airflow")) if "chart" in source]
        values.write_text(yaml.safe_dump(source["helm"]["valuesObject"]), "utf-8")
        files = [str(ROOT / file.removeprefix("$values/")) for file in source["helm"]["valueFiles"]]
        options = [word for file in (*files, str(values)) for word in ("--values", file)]
        made = template(airflow_chart(), *options, "--set", "createUserJob.enabled=true")
        jobs = {manifest["metadata"]["name"]: manifest for manifest in made if manifest["kind"] == "Job"}
        hooks = {job: manifest["metadata"]["annotations"]["argocd.argoproj.io/hook"] for job, manifest in jobs.items()}
        assert hooks == {"x-run-airflow-migrations": "Sync", "x-create-user": "PostSync"}, name


def test_what_autoscalers_change_is_left_to_them_and_nothing_else(environments: Any) -> None:
    scaled = {
        manifest["spec"]["scaleTargetRef"]["name"]
        for manifest in airflow("production")
        if manifest["kind"] in ("ScaledObject", "HorizontalPodAutoscaler")
    }
    for applications in environments.values():
        ignored = {
            name: [
                (entry["kind"], entry["name"], entry["jsonPointers"])
                for entry in part(applications, name)["spec"].get("ignoreDifferences", ())
            ]
            for name in ORDER
        }
        release = sources(part(applications, "airflow"))[0]["helm"]["releaseName"]
        assert ignored.pop("airflow") == [("Deployment", name, ["/spec/replicas"]) for name in sorted(scaled)]
        assert all(name.startswith(f"{release}-") for name in scaled)
        assert ignored.pop("testops") == [("Deployment", "testops-fleet", ["/spec/replicas"])]
        assert not any(ignored.values())


def test_kafka_and_postgresql_outlive_whatever_happens_to_the_repository(environments: Any) -> None:
    for applications in environments.values():
        for application in applications:
            is_data = application["metadata"]["name"].endswith("-data")
            assert ("finalizers" in application["metadata"]) is not is_data
            assert application["spec"]["syncPolicy"]["automated"]["prune"] is not is_data


def test_production_waits_for_its_window(application_set: Manifest) -> None:
    name = application_set["spec"]["template"]["metadata"]["name"]
    [generator] = application_set["spec"]["generators"]
    names = {name.replace("{{ .name }}", element["name"]) for element in generator["list"]["elements"]}
    [window] = projects()[application_set["spec"]["template"]["spec"]["project"]]["syncWindows"]
    assert (window["kind"], window["applications"], window["manualSync"]) == ("allow", ["testops-production"], True)
    assert set(window["applications"]) <= names


def test_what_people_read_names_no_file_that_is_not_there() -> None:
    guide = (ARGOCD / "README.md").read_text("utf-8")
    named = set(re.findall(r"`([\w./-]+(?:\.yaml|/))`", guide))
    named = {name for name in named if "NAME" not in name}
    assert {"argocd-cm.yaml", "environment/", "../helm-values/airflow/base.yaml"} <= named
    assert [name for name in sorted(named) if not (ARGOCD / name.removeprefix("argocd/")).exists()] == []


def test_health_checks_come_as_a_patch_of_argo_cds_settings() -> None:
    [patch] = documents(ARGOCD / "argocd-cm.yaml")
    assert set(patch) == {"data"}, "a patch leaves Argo CD's other settings alone"
    kinds = {"argoproj.io_Application", "postgresql.cnpg.io_Cluster"}
    assert set(patch["data"]) == {f"resource.customizations.health.{kind}" for kind in kinds}


def test_the_policies_let_the_smoke_run_and_the_runners_reach_the_api_server(environments: Any, tmp_path: Path) -> None:
    values = tmp_path / "values.yaml"
    for name, applications in environments.items():
        [server] = [
            manifest
            for manifest in airflow(name)
            if manifest["metadata"]["name"] == "airflow-api-server" and manifest["kind"] == "Deployment"
        ]
        labels = server["spec"]["template"]["metadata"]["labels"]
        [source] = sources(part(applications, "testops"))
        values.write_text(yaml.safe_dump(source["helm"]["valuesObject"]), "utf-8")
        made = template(ROOT / source["path"], "--values", str(values)) + template(
            ARGOCD / "smoke", "--set", f"revision={COMMIT}"
        )
        for pods in ("testops-runner", "testops-smoke"):
            selector = {"app.kubernetes.io/name": pods}
            [policy] = [
                m
                for m in made
                if m["kind"] == "NetworkPolicy" and m["spec"]["podSelector"].get("matchLabels") == selector
            ]
            peers = [
                peer
                for rule in policy["spec"]["egress"]
                if {"protocol": "TCP", "port": 8080} in rule["ports"]
                for peer in rule["to"]
            ]
            assert any(peer["podSelector"]["matchLabels"].items() <= labels.items() for peer in peers), pods
        [job] = [manifest for manifest in made if manifest["kind"] == "Job" and "smoke" in manifest["metadata"]["name"]]
        [policy] = [m for m in airflow(name) if m["metadata"]["name"] == "airflow-api-server-policy"]
        peers = [
            peer["podSelector"]["matchLabels"]
            for rule in policy["spec"]["ingress"]
            for peer in rule["from"]
            if "podSelector" in peer
        ]
        assert any(peer.items() <= job["spec"]["template"]["metadata"]["labels"].items() for peer in peers)
