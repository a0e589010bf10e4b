from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from testops_lib.errors import SettingsError
from testops_lib.launch import pod as pods
from tests.paths import ROOT

TEMPLATE = pods.read_template(ROOT / "testops_airflow/pod.yaml")


GIVEN: dict[str, Any] = {
    "image": "testops-runner:1",
    "arguments": ["--run", "r"],
    "environment": {"TESTOPS_KAFKA_BOOTSTRAP": "kafka:9092"},
    "target": "pets_v2",
    "run": "manual__2026-01-01T00:00:00+00:00",
    "batch": "testops.cases:0:0-200",
    "deadline_s": 900,
}


def manifest(own: dict[str, Any], **changes: Any) -> dict[str, Any]:
    return pods.manifest(TEMPLATE, own, **(GIVEN | changes))


def test_the_shipped_pod_is_confined() -> None:
    spec = manifest({})["spec"]
    runner = spec["containers"][0]
    assert spec["automountServiceAccountToken"] is False
    assert spec["securityContext"]["runAsNonRoot"] is True
    assert runner["securityContext"]["readOnlyRootFilesystem"] is True
    assert runner["securityContext"]["capabilities"] == {"drop": ["ALL"]}
    assert runner["resources"]["limits"]["memory"]
    assert spec["activeDeadlineSeconds"] > 0 < spec["terminationGracePeriodSeconds"]


def test_a_pod_may_live_as_long_as_its_batch_may_take() -> None:
    own = {"spec": {"activeDeadlineSeconds": 60}}
    assert manifest({})["spec"]["activeDeadlineSeconds"] == TEMPLATE["spec"]["activeDeadlineSeconds"] == 1500
    assert manifest({}, deadline_s=7200.5)["spec"]["activeDeadlineSeconds"] == 7801
    assert manifest(own, deadline_s=7200)["spec"]["activeDeadlineSeconds"] == 60, "the target's own word stands"
    unlimited = pods.merge(TEMPLATE, {"spec": {"activeDeadlineSeconds": None}})
    assert "activeDeadlineSeconds" not in pods.manifest(unlimited, {}, **GIVEN)["spec"]


def test_a_pod_says_its_run_and_its_batch() -> None:
    metadata = manifest({})["metadata"]
    assert metadata["annotations"]["testops/run"] == "manual__2026-01-01T00:00:00+00:00"
    assert metadata["annotations"]["testops/batch"] == "testops.cases:0:0-200"
    assert metadata["labels"]["testops/batch"].startswith("testops.cases-0-0-200")
    assert metadata["name"] == "testops-pets-v2"


def test_a_target_changes_single_parts_of_the_template() -> None:
    limits = {"name": "runner", "resources": {"limits": {"memory": "1Gi"}}}
    own = {"spec": {"hostNetwork": True, "topologySpreadConstraints": None, "containers": [limits]}}
    spec = manifest(own)["spec"]
    before = TEMPLATE["spec"]["containers"][0]
    assert spec["hostNetwork"] is True
    assert "topologySpreadConstraints" not in spec
    assert spec["containers"][0]["resources"] == {
        "requests": before["resources"]["requests"],
        "limits": {"memory": "1Gi"},
    }
    assert spec["containers"][0]["securityContext"] == before["securityContext"]


def test_a_variable_of_the_target_wins() -> None:
    own = {
        "spec": {
            "containers": [{"name": "runner", "env": [{"name": "TESTOPS_KAFKA_BOOTSTRAP", "value": "near:1"}]}],
        }
    }
    environment = manifest(own)["spec"]["containers"][0]["env"]
    assert environment == [{"name": "TESTOPS_KAFKA_BOOTSTRAP", "value": "near:1"}]


def test_a_sidecar_stands_behind_the_runner() -> None:
    own = {"spec": {"containers": [{"name": "proxy", "image": "proxy:1"}]}}
    assert [each["name"] for each in manifest(own)["spec"]["containers"]] == ["runner", "proxy"]


@given(st.text(max_size=300))
def test_a_label_fits_kubernetes(text: str) -> None:
    assert re.fullmatch(r"(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?", pods.label(text))
    assert len(pods.label(text)) <= 63


@given(st.text(max_size=100), st.text(max_size=100))
def test_different_texts_have_different_labels(one: str, other: str) -> None:
    assert (pods.label(one) == pods.label(other)) == (one == other)


@pytest.mark.parametrize("text", ["spec: {containers: [{name: app}]}", "[]", "spec: {containers: []}", "{", ""])
def test_a_template_without_the_runner_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "pod.yaml"
    path.write_text(text, "utf-8")
    with pytest.raises(SettingsError, match=r"pod\.yaml"):
        pods.read_template(path)
