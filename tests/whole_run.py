"""A run through every stage, with real runners, without Airflow."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from stack.samples import Sample
from testops_lib import settings as configuration
from testops_lib.bus.client import Bus
from testops_lib.model import Report
from testops_lib.run.analyze import analyze
from testops_lib.run.collect import collect_run
from testops_lib.run.generate import generate
from testops_lib.run.publish import publish, repeat
from testops_lib.run.start import load_spec, open_run
from testops_lib.settings import Settings
from testops_lib.store import Store
from testops_lib.target import RunConf
from tests.paths import ROOT


def prepared(
    monkeypatch: pytest.MonkeyPatch, *, kafka: str, postgres: str, shop: Sample, reports: Path, targets: Path
) -> Settings:
    """The settings of a run on these servers, with their tables and topics; the environment says the same."""
    with Store(postgres) as store:
        store.upgrade()
    with Bus(kafka) as bus:
        bus.create_topics(partitions=2)
    own = {
        "TESTOPS_DSN": postgres,
        "TESTOPS_KAFKA_BOOTSTRAP": kafka,
        "TESTOPS_REPORTS_DIR": str(reports),
        "TESTOPS_TARGETS_DIR": str(targets),
        **shop.variables(),
    }
    for name, value in own.items():
        monkeypatch.setenv(name, value)
    return configuration.read()


def executed(run: str, order: RunConf, settings: Settings) -> Report:
    """From the document to the verdict; the runners read the environment. No published case is without a result."""
    open_run(run, order, settings)
    for group in load_spec(run, settings):
        generate(run, group, settings)
    published = publish(run, settings)
    for batch in published.batches:
        _execute(run, published.plan, batch)
    for batch in (*repeat(run, settings), *published.last):
        _execute(run, published.plan, batch)
    counts = collect_run(run, settings)
    assert counts.no_result == 0 and counts.published == counts.stored == published.cases
    report = analyze(run, settings)
    assert report.totals.cases == published.cases
    return report


def _execute(run: str, plan: str, batch: str) -> None:
    command = [sys.executable, "-m", "runner", "--run", run, "--plan", plan, "--batch", batch]
    done = subprocess.run(command, cwd=ROOT, timeout=300, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
