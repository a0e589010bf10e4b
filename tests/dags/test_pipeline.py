from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner

from stack.fleet import Fleet
from stack.samples import Sample
from testops_lib.bus.client import Bus
from testops_lib.cli.commands import diff
from testops_lib.run.report import FORMS
from testops_lib.store import Store
from tests import club_server, s3_server
from tests.paths import ROOT

pytestmark = [pytest.mark.integration, pytest.mark.airflow]


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Sample]:
    sample = Sample("shop", tmp_path / "shop", defects="price-below-minimum,missing-header")
    sample.start()
    yield sample
    sample.stop()


class Hook:
    """A server that keeps the JSON that is posted to it."""

    def __init__(self) -> None:
        self.received: list[dict[str, Any]] = []
        keep = self.received

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                keep.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
                self.send_response(204)
                self.end_headers()

            def log_message(self, *args: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()


@pytest.fixture
def hook() -> Iterator[Hook]:
    hook = Hook()
    yield hook
    hook.server.shutdown()
    hook.server.server_close()


@pytest.fixture
def variables(kafka: str, postgres: str, shop: Sample, hook: Hook, tmp_path: Path) -> dict[str, str]:
    """What the tasks must know: a database of their own, the broker, the shop."""
    with Store(postgres) as store:
        store.upgrade()
    with Bus(kafka) as bus:
        bus.create_topics(partitions=2)
    return {
        "TESTOPS_ADHOC": "private",
        "TESTOPS_WEBHOOK_URL": hook.url,
        "TESTOPS_DSN": postgres,
        "TESTOPS_KAFKA_BOOTSTRAP": kafka,
        "TESTOPS_REPORTS_DIR": str(tmp_path / "reports"),
        **shop.variables(),
    }


@pytest.mark.timeout(900)
def test_a_run_goes_from_document_to_verdict(
    run_dag: Callable[..., list[dict[str, Any]]], variables: dict[str, str], hook: Hook, tmp_path: Path
) -> None:
    passing = {"target": "shop", "operations": ["GET /products*", "GET /products/*"]}
    failing = {"target": "shop", "operations": ["* /products", "GET /categories"]}
    broken = {"target": "shop", "operations": ["GET /nowhere"]}
    passed, failed, early = run_dag([passing, failing, broken], variables)

    assert passed["state"] == "success"
    assert set(passed["tasks"]["execute"]) == {"success"}
    assert failed["state"] == "failed"
    assert failed["tasks"]["gate"] == ["failed"]
    assert failed["tasks"]["notify"] == ["success"]
    assert early["tries"]["load_spec"] == [1], "a wrong order is not tried again"
    assert early["tasks"]["load_spec"] == ["failed"] and early["state"] == "failed"
    assert [notification["verdict"] for notification in hook.received] == ["passed", "failed", "none"]
    assert early["tasks"]["gate"] == ["failed"] and early["tasks"]["notify"] == ["success"]
    (why,) = hook.received[2]["reasons"]
    assert why.startswith("load_spec: ") and "operations is in scope" in why
    assert hook.received[2]["target"] == "shop"

    with Store(variables["TESTOPS_DSN"]) as store:
        progress = store.progress(failed["run"])
        assert progress.published == progress.done > 50
        assert store.missing(failed["run"]) == []
        report = store.report(failed["run"])
    assert report is not None
    expected = {
        (defect["operation"], defect["check"])
        for defect in yaml.safe_load((ROOT / "examples/shop/defects.yaml").read_text("utf-8"))
        if defect["id"] in ("price-below-minimum", "missing-header")
    }
    assert {(finding.operation, finding.check) for finding in report.findings} == expected
    written = tmp_path / "reports" / "latest"
    assert {path.name for path in written.iterdir()} == {"report.json", "report.html", "junit.xml", "wfc.json"}
    assert json.loads((written / "report.json").read_bytes())["totals"]["findings"] == 2


@pytest.mark.timeout(900)
def test_store_broker_and_reports_may_be_connections_of_airflow(
    run_dag: Callable[..., list[dict[str, Any]]], variables: dict[str, str]
) -> None:
    dsn, bootstrap = variables.pop("TESTOPS_DSN"), variables.pop("TESTOPS_KAFKA_BOOTSTRAP")
    connections = {
        "TESTOPS_STORE_CONN_ID": "results",
        "TESTOPS_KAFKA_CONN_ID": "broker",
        "AIRFLOW_CONN_RESULTS": dsn,
        "AIRFLOW_CONN_BROKER": json.dumps({"conn_type": "kafka", "extra": {"bootstrap.servers": bootstrap}}),
    }
    with s3_server.serving() as s3:
        connections |= {"TESTOPS_REPORTS_DIR": "s3://files@reports/nightly", "AIRFLOW_CONN_FILES": s3.connection}
        (run,) = run_dag([{"target": "shop", "operations": ["GET /products/*"]}], {**variables, **connections})
        assert run["state"] == "success", run
        folder = s3.get("nightly/latest.txt").decode().strip()
        files = {name: s3.get(f"nightly/{folder}/{name}") for name in FORMS}
    assert json.loads(files["report.json"])["run"] == run["run"] and all(files.values())
    with Store(dsn) as store:
        progress = store.progress(run["run"])
        assert progress.published == progress.done > 0, "the runners reached the broker as well"


@pytest.mark.timeout(900)
def test_a_missing_credential_is_named_by_gate_report_and_webhook(
    run_dag: Callable[..., list[dict[str, Any]]], variables: dict[str, str], hook: Hook, tmp_path: Path
) -> None:
    without = {name: value for name, value in variables.items() if name != "TESTOPS_SHOP_ADMIN_TOKEN"}
    (run,) = run_dag([{"target": "shop", "operations": ["GET /categories"]}], without)
    assert run["state"] == "failed" and run["tasks"]["gate"] == ["failed"]
    assert set(run["tries"]["execute"]) == {1}, "trying again would not help"
    report = json.loads((tmp_path / "reports" / "latest" / "report.json").read_bytes())
    for reasons in (report["gate"]["reasons"], hook.received[0]["reasons"]):
        assert "TESTOPS_SHOP_ADMIN_TOKEN is not set" in reasons[0], reasons
        assert reasons[0].startswith("no_result: ")


@pytest.mark.long
@pytest.mark.timeout(900)
def test_a_fleet_comes_to_the_same_verdicts_also_in_a_rerun(
    run_dag: Callable[..., list[dict[str, Any]]], variables: dict[str, str], shop: Sample, tmp_path: Path
) -> None:
    fleet = Fleet(tmp_path / "fleet", variables)
    variables = {**variables, "TESTOPS_LAUNCHER": "fleet"}
    try:
        fleet.add(2)
        order = {"target": "shop", "operations": ["* /products", "GET /categories"]}
        first, again = run_dag([order, {"dag": "testops_rerun", "run": "previous"}], variables)
    finally:
        fleet.stop()
    assert first["tasks"]["execute"] == ["success"]
    assert first["tasks"]["gate"] == ["failed"] and first["tasks"]["notify"] == ["success"]
    assert again["tasks"]["execute"] == ["success"] and again["tasks"]["gate"] == ["failed"]
    assert again["tasks"]["execute_last"] == ["skipped"], "as the mapped task is when there is no batch"
    with Store(variables["TESTOPS_DSN"]) as store:
        assert store.missing(first["run"]) == []
        attempts = list(store.attempts(first["run"]))
        report = store.report(first["run"])
    assert report is not None and report.totals.findings == 2
    assert {attempt.attempt for attempt in attempts} == {1, 2}


@pytest.mark.long
@pytest.mark.timeout(900)
def test_only_what_did_not_pass_is_run_again_and_a_failure_stays_on_record(
    run_dag: Callable[..., list[dict[str, Any]]], variables: dict[str, str], shop: Sample, tmp_path: Path
) -> None:
    (first,) = run_dag([{"target": "shop", "operations": ["* /products", "GET /categories"]}], variables)
    with Store(variables["TESTOPS_DSN"]) as store:
        unpassed = store.unpassed(first["run"], before=2)
        published = store.published(first["run"])
    assert 0 < len(unpassed) < published
    shop.stop()
    repaired = Sample("shop", tmp_path / "shop", defects="missing-header")
    repaired.start()
    try:
        assert repaired.url == variables["TESTOPS_SHOP_URL"]
        (again,) = run_dag([{"dag": "testops_rerun", "run": first["run"]}], variables)
    finally:
        repaired.stop()

    assert again["tasks"]["analyze"] == ["success"] and again["tasks"]["gate"] == ["failed"]
    with Store(variables["TESTOPS_DSN"]) as store:
        attempts = list(store.attempts(first["run"]))
        report = store.report(first["run"])
    assert [attempt.case for attempt in attempts if attempt.attempt == 2] == unpassed
    assert len(attempts) == published + len(unpassed)
    assert report is not None and report.totals.cases == published
    passed_again = {(finding.check, finding.passed_again) for finding in report.findings}
    assert passed_again == {("negative_data_rejection", 2), ("response_headers_conformance", 0)}
    assert "passed on attempt 2" in (tmp_path / "reports" / "latest" / "report.html").read_text("utf-8")


@pytest.mark.long
@pytest.mark.timeout(900)
def test_further_rounds_use_what_the_answers_told_and_end_when_nothing_is_gained(
    run_dag: Callable[..., list[dict[str, Any]]], variables: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The members' handles and the clerks of the ledger stand in answers only."""
    with club_server.serving() as url:
        order = {
            "target": "other-document",
            "spec": f"{url}/openapi.json",
            "base_url": url,
            "allow_private": True,
            "observe": True,
        }
        plain, further = run_dag([order, {**order, "rounds": 3}], variables)
    failed = {name for name, states in further["tasks"].items() if "failed" in states}
    assert failed <= {"gate"}, further
    rounds = {name: states for name, states in plain["tasks"].items() if name.startswith("round")}
    assert len(rounds) == 13 and all(states == ["skipped"] for states in rounds.values())
    assert plain["tries"]["round_1.find_gaps"] == [0], "no worker was asked"
    tasks = further["tasks"]
    assert tasks["round_1.find_gaps"] == tasks["round_1.generate"] == tasks["round_1.publish"] == ["success"]
    assert set(tasks["round_1.execute"]) == {"success"}
    assert tasks["round_3.execute"] == ["skipped"], "nothing was left to gain"
    assert tasks["collect"] == tasks["analyze"] == plain["tasks"]["analyze"] == ["success"]

    with Store(variables["TESTOPS_DSN"]) as store:
        reached = []
        for run in (plain["run"], further["run"]):
            assert store.missing(run) == []
            report = store.report(run)
            assert report is not None and report.totals.cases == store.published(run)
            reached.append({key for key, operation in report.operations.items() if operation.success_seen})
        assert reached[0] < reached[1] == set(report.operations)
        suite = store.run(further["run"]).suite
        assert {member.current for member in store.members(suite)} < {
            case.id for case in store.load_cases(further["run"])
        }

    monkeypatch.setenv("TESTOPS_DSN", variables["TESTOPS_DSN"])
    runs = [plain["run"], further["run"]]
    compared = CliRunner().invoke(diff, runs, catch_exceptions=False, standalone_mode=False)
    assert compared.return_value == 0 and "only statuses" not in compared.output, compared.output
