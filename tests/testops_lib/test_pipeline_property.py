"""Random cases through every stage of a run, on real servers."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from testops_lib import pipeline
from testops_lib import settings as configuration
from testops_lib.bus import Bus
from testops_lib.pipeline import Order
from testops_lib.stack.samples import Sample
from testops_lib.store import Store

ROOT = Path(__file__).parents[2]

pytestmark = [pytest.mark.integration, pytest.mark.timeout(600)]

OPERATIONS = ("POST /categories", "POST /subscriptions", "GET /customers/*")
"""The last has no defect here."""


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Sample]:
    sample = Sample("shop", tmp_path / "shop", defects="create-answers-200,malformed-crash")
    sample.start()
    yield sample
    sample.stop()


def test_random_cases_go_from_document_to_verdict_and_find_what_is_wrong(
    kafka: str, postgres: str, shop: Sample, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Store(postgres) as store:
        store.upgrade()
    with Bus(kafka) as bus:
        bus.create_topics(partitions=2)
    own = {
        "TESTOPS_DSN": postgres, "TESTOPS_KAFKA_BOOTSTRAP": kafka, "TESTOPS_REPORTS_DIR": str(tmp_path / "reports"),
        "TESTOPS_TARGETS_DIR": str(ROOT / "targets"), **shop.variables(),
    }  # fmt: skip
    for name, value in own.items():
        monkeypatch.setenv(name, value)
    settings = configuration.read()
    order = Order(target="shop", operations=OPERATIONS, sources=("property",))
    run = f"property-{tmp_path.name}"

    pipeline.open_run(run, order, settings)
    for group in pipeline.load_spec(run, order, settings):
        assert pipeline.generate(run, group, order, settings) >= 20
    published = pipeline.publish(run, order, settings)
    for batch in (*published.batches, *published.last):
        command = [sys.executable, "-m", "runner", "--run", run, "--plan", published.plan, "--batch", batch]
        done = subprocess.run(command, cwd=ROOT, timeout=300, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
    counts = pipeline.collect(run, settings)
    report = pipeline.analyze(run, order, settings)

    assert counts.no_result == 0 and counts.published == counts.stored == published.cases
    assert report.totals.cases == published.cases
    assert [each.source for each in report.generation] == ["property"]
    assert {(each.operation, each.check) for each in report.findings} == {
        ("POST /categories", "status_code_conformance"), ("POST /subscriptions", "not_a_server_error"),
    }  # fmt: skip
    assert not pipeline.gate(run, settings).passed
