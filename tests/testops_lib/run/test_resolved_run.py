"""A run does what it was opened for, whatever becomes of its target's file and its document meanwhile."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from testops_lib.bus.batch import parse
from testops_lib.bus.client import Bus
from testops_lib.model import GateRules, Result
from testops_lib.run import review, stored_rounds
from testops_lib.run.analyze import analyze, analyze_rerun, gate
from testops_lib.run.conf import parse_conf
from testops_lib.run.connect import open_bus
from testops_lib.run.generate import generate
from testops_lib.run.notify import notify
from testops_lib.run.publish import publish
from testops_lib.run.start import load_spec, open_run, resolved_run
from testops_lib.store import Store
from tests.suite_target import SuiteTarget, zoo_target

pytestmark = pytest.mark.integration


@pytest.fixture
def zoo(tmp_path: Path, postgres: str) -> Iterator[SuiteTarget]:
    with zoo_target(tmp_path, postgres) as made:
        made.sources = ("rules",)
        yield made


def change_everything(zoo: SuiteTarget) -> None:
    """Another commit of the targets' repository arrives."""
    (zoo.folder / "zoo.yaml").write_text(
        json.dumps(
            {
                "spec": "other.json",
                "base_url": "http://127.0.0.1:10",
                "policy": {"methods": "safe"},
                "operations": {"exclude": ["GET /pets*"]},
                "gate": {"max_findings": 99, "min_pass_rate": 0.99},
                "generate": {"sources": ["property"], "max_cases": 1, "review": "always"},
            }
        )
    )
    (zoo.folder / "zoo.json").write_text("{}")


@pytest.mark.parametrize("removed", [False, True])
def test_a_target_file_that_changes_between_stages_changes_nothing_for_the_run(
    zoo: SuiteTarget, kafka: str, removed: bool
) -> None:
    with Bus(kafka) as bus:
        bus.create_topics(partitions=2)
    settings = msgspec.structs.replace(zoo.settings, kafka_bootstrap=kafka)
    run, order = "settled", parse_conf({"target": "zoo", "rounds": 1, "observe": True})
    zoo.write()
    assert open_run(run, order, settings) == ("rounds",)
    groups = load_spec(run, settings)
    assert [key for group in groups for key in group.operations] == [
        "GET /pets",
        "GET /pets/{id}",
        "GET /shops",
        "GET /shops/{id}",
        "GET /toys",
        "GET /toys/{id}",
    ]
    change_everything(zoo)
    if removed:
        (zoo.folder / "zoo.yaml").unlink()
    made = sum(generate(run, group, settings) for group in groups)
    published = publish(run, settings)
    assert published.cases == made > 1
    plan, contracts = open_bus(settings).plans.read(parse(published.plan), run)
    assert (plan.base_url, plan.policy.methods, plan.observe) == ("http://127.0.0.1:9", "all", True)
    assert set(contracts) == set(groups[0].operations)
    with Store(zoo.dsn) as store:
        cases = store.load_cases(run)
        store.merge_results(Result(run=run, case=case.id, verdict="passed", operation=case.operation) for case in cases)
        resolved = resolved_run(store, run)
    assert stored_rounds.find_gaps(run, 1, settings) == 6
    assert review.review_request(run, settings) is None
    report = analyze(run, settings)
    assert set(report.operations) == set(groups[0].operations) and report.base_url == "http://127.0.0.1:9"
    assert resolved.conf == order and resolved.target.gate == GateRules()
    assert gate(run, settings).verdict == "passed"
    assert analyze_rerun(run, settings).gate == report.gate
    assert notify(run, settings, outcome=gate(run, settings))


def test_what_a_run_keeps_names_secrets_and_holds_none(zoo: SuiteTarget, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ZOO_TOKEN", "hunter2-token")
    monkeypatch.setenv("ZOO_SPEC", str(zoo.folder / "zoo.json") + "?key=hunter2-spec")
    monkeypatch.setenv("ZOO_HOOK", "http://127.0.0.1:9/hunter2-hook")
    zoo.write()
    described = json.loads((zoo.folder / "zoo.yaml").read_text())
    described |= {
        "spec": "${ZOO_SPEC}",
        "notify": {"webhook": "${ZOO_HOOK}"},
        "auth": [{"name": "user", "fixedHeaders": [{"name": "Authorization", "value": "Bearer ${ZOO_TOKEN}"}]}],
    }
    (zoo.folder / "zoo.yaml").write_text(json.dumps(described))
    open_run("r", zoo.order, zoo.settings)
    with Store(zoo.dsn) as store:
        kept = msgspec.json.encode(store.run("r").resolved).decode()
    assert "hunter2" not in kept
    assert "${ZOO_TOKEN}" in kept and "${ZOO_SPEC}" in kept and "${ZOO_HOOK}" in kept
