"""Failed cases are repeated within a run of the pipeline, on real servers."""

from __future__ import annotations

import itertools
import json
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from stack.samples import Sample
from testops_lib.bus import batch as batches
from testops_lib.bus.client import Bus
from testops_lib.model import Case, Provenance, Request, Step, make_case
from testops_lib.run.publish import repeat
from testops_lib.store import Store
from testops_lib.target import RunConf
from testops_lib.verdict.repetition import TIMES
from tests.whole_run import ROOT, executed, prepared

pytestmark = [pytest.mark.integration, pytest.mark.timeout(600)]


def test_a_run_repeats_its_failures_and_says_how_often_they_came_back(
    kafka: str, postgres: str, defective_shop: Sample, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = prepared(
        monkeypatch, kafka=kafka, postgres=postgres, shop=defective_shop, reports=tmp_path / "reports", targets=tmp_path
    )
    described = {
        "spec": "${TESTOPS_SHOP_URL}/openapi.json",
        "base_url": "${TESTOPS_SHOP_URL}",
        "auth": [{"name": "staff", "bearer": "${TESTOPS_SHOP_ADMIN_TOKEN}"}],
        "policy": {"allow_private": True},
        "operations": {"include": ["* /subscriptions*", "* /categories*", "* /wishlists*"]},
    }
    (tmp_path / "part.yaml").write_text(json.dumps(described), "utf-8")
    report = executed("r", RunConf(target="part"), settings)
    assert {(each.operation, each.check) for each in report.findings} == {
        ("POST /subscriptions", "not_a_server_error"),
        ("POST /categories", "status_code_conformance"),
        ("GET /categories", "response_headers_conformance"),
        ("GET /wishlists/{wishlist_id}", "use_after_free"),
        ("GET /subscriptions/{subscription_id}", "jsonpath"),
    }
    assert {(each.reproduced, each.executed) for each in report.findings} == {(1 + TIMES, 1 + TIMES)}
    assert all(
        "TESTOPS_SHOP_ADMIN_TOKEN=${TESTOPS_SHOP_ADMIN_TOKEN:-}" in each.example.recipe for each in report.findings
    )
    with Store(postgres) as store:
        again, about = store.repetitions("r"), store.run("r")
        assert not any(result.repeat for result in store.attempts("r"))
        assert not store.missing("r")
    assert report.totals.requests == sum(each.requests for each in report.operations.values())
    assert sum(result.requests for result in again) > 0

    [batch] = repeat("r", settings)
    run = ["--run", "r", "--plan", str(about.plan_batch), "--again", batches.positions_text(about.positions)]
    command = [sys.executable, "-m", "runner", *run, "--batch", batch]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert f"{len(again)} judged before; 0 requests" in done.stdout, "what has its verdict is not sent again"

    command = [sys.executable, "-m", "testops_lib.cli", "reproduce", "1", report.findings[1].fingerprint, "--run", "r"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 1 and done.stdout.count(": reproduced (1 of 1)") == 2, done.stdout + done.stderr


def test_repetitions_keep_their_order_and_are_told_from_their_case(bus: Bus) -> None:
    cases = [
        make_case(
            name=f"c{number}",
            intent="positive",
            operation="GET /a",
            origin=Provenance(source="rules"),
            steps=(Step(operation="GET /a", request=Request(method="GET", path=f"/{number}")),),
        )
        for number in range(9)
    ]
    repeated = [msgspec.structs.replace(case, repeat=n) for n, case in itertools.product((1, 2), cases)]
    made = bus.cases.publish("r", repeated, one_partition=True)
    assert len(made) == 1

    def key(case: Case) -> tuple[str, int]:
        return case.id, case.repeat

    assert [key(case) for case in bus.cases.read(made[0], "r")] == [key(case) for case in repeated]
    assert list(bus.cases.ids(made[0], "r")) == [f"{case.id}#{case.repeat}" for case in repeated]
