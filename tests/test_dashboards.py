"""Grafana and the alerts ask for metrics that a runner exports; Compose and the chart give the same dashboard."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from stack.fleet import Fleet
from testops_lib.bus.client import Bus
from tests.paths import ROOT
from tests.rendering import CHART, ours

DASHBOARDS = CHART / "dashboards"
DASHBOARD: dict[str, Any] = json.loads((DASHBOARDS / "runners.json").read_text("utf-8"))
SAMPLE = re.compile(r"^(\w+)(?:\{(.*)\})? ", re.MULTILINE)
METRIC = re.compile(r"\b(testops_\w+)(?:\{(\w+)(=~|!=|=)\"([^\"]+)\"\})?")
LABELS_OF_PROMETHEUS = {"instance", "pod"}


def expressions() -> list[str]:
    queries = [target["expr"] for panel in DASHBOARD["panels"] for target in panel["targets"]]
    [rules] = [manifest for manifest in ours("everything") if manifest["kind"] == "PrometheusRule"]
    return queries + [rule["expr"] for group in rules["spec"]["groups"] for rule in group["rules"]]


@pytest.mark.integration
def test_every_metric_and_label_that_is_asked_for_is_on_a_runners_page(kafka: str, tmp_path: Path) -> None:
    with Bus(kafka, timeout_s=30) as bus:
        bus.create_topics(partitions=2)
    fleet = Fleet(tmp_path / "fleet", {"TESTOPS_KAFKA_BOOTSTRAP": kafka})
    try:
        [runner] = fleet.add(1)
        runner.wait_ready()
        page = runner.get("/metrics")[1]
    finally:
        fleet.stop()
    labels: dict[str, dict[str, set[str]]] = {}
    for name, pairs in SAMPLE.findall(page):
        values = labels.setdefault(name, {})
        for label, value in re.findall(r'(\w+)="([^"]*)"', pairs):
            values.setdefault(label, set()).add(value)
    assert "testops_runner_ready" in labels
    for expression in expressions():
        metrics = METRIC.findall(expression)
        assert metrics, expression
        exported = LABELS_OF_PROMETHEUS.union(*(labels[name] for name, *_ in metrics))
        for name, label, _, values in metrics:
            assert name in labels, expression
            assert not label or set(values.split("|")) <= labels[name][label], expression
        for group in re.findall(r"\bby \(([^)]*)\)", expression):
            assert {word.strip() for word in group.split(",")} <= exported, expression


def test_a_panel_takes_its_data_from_the_source_that_the_reader_chooses() -> None:
    [variable] = DASHBOARD["templating"]["list"]
    assert (variable["name"], variable["type"], variable["query"]) == ("datasource", "datasource", "prometheus")
    for panel in DASHBOARD["panels"]:
        for part in (panel, *panel["targets"]):
            assert part["datasource"] == {"type": "prometheus", "uid": "${datasource}"}, panel["title"]
    assert len({panel["id"] for panel in DASHBOARD["panels"]}) == len(DASHBOARD["panels"])


def test_panels_fill_the_grid_of_24_columns_without_overlap() -> None:
    cells = [
        (x, y)
        for grid in (panel["gridPos"] for panel in DASHBOARD["panels"])
        for x in range(grid["x"], grid["x"] + grid["w"])
        for y in range(grid["y"], grid["y"] + grid["h"])
    ]
    assert len(cells) == len(set(cells)) and {x for x, _ in cells} == set(range(24))


def test_the_chart_gives_grafanas_sidecar_the_file_as_it_is() -> None:
    [config] = [m for m in ours("everything") if "grafana_dashboard" in m["metadata"].get("labels", {})]
    assert (config["kind"], config["metadata"]["labels"]["grafana_dashboard"]) == ("ConfigMap", "1")
    assert json.loads(config["data"]["runners.json"]) == DASHBOARD
    assert not any("grafana_dashboard" in m["metadata"].get("labels", {}) for m in ours("preset"))


def test_compose_gives_grafana_the_same_files() -> None:
    compose = yaml.safe_load((ROOT / "docker-compose.yaml").read_text("utf-8"))
    grafana = compose["services"]["grafana"]
    [mount] = [volume for volume in grafana["volumes"] if volume.startswith("./")]
    source, target, mode = mount.split(":")
    assert (ROOT / source).resolve() == DASHBOARDS and mode == "ro"
    targets = {
        config["target"]: yaml.safe_load(compose["configs"][config["source"]]["content"])
        for config in grafana["configs"]
    }
    [provider] = targets["/etc/grafana/provisioning/dashboards/testops.yaml"]["providers"]
    assert (provider["type"], provider["options"]["path"]) == ("file", target)
    [datasource] = targets["/etc/grafana/provisioning/datasources/prometheus.yaml"]["datasources"]
    assert datasource["type"] == "prometheus" and datasource["url"] == "http://prometheus:9090"
