"""What the end-to-end tests share: a stack, and following, harming and counting a run of the DAG."""

from __future__ import annotations

import shutil
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import yaml

from stack.local import Local
from testops_lib.airflow_api import Airflow, Snapshot
from testops_lib.errors import StoreError
from testops_lib.model import Report
from testops_lib.store import Progress, Store
from tests.paths import ROOT

DAG = "testops_run"


@contextmanager
def started(local: Local) -> Iterator[Local]:
    """The stack while it runs; its state goes with it."""
    try:
        local.start()
        yield local
    finally:
        local.stop()
        shutil.rmtree(local.state, ignore_errors=True)


def state_directory() -> Path:
    """A new directory for everything that a stack writes."""
    return Path(tempfile.mkdtemp(prefix="testops-e2e-"))


def client(local: Local) -> Airflow:
    """A client of the stack's Airflow, with the DAG free to run."""
    airflow = Airflow(local.airflow.url, username=local.airflow.username, password=local.airflow.password)
    airflow.unpause(DAG)
    return airflow


def last(airflow: Airflow, run: str, *, timeout_s: float = 400) -> Snapshot:
    """The run as it ended."""
    *_, end = airflow.wait(DAG, run, timeout_s=timeout_s)
    return end


def midway(store: Store, run: str, *, done: int, timeout_s: float = 120) -> Progress:
    """How far the run is, once that many of its cases have a result and there are more to come."""
    deadline = time.monotonic() + timeout_s
    while True:
        try:
            now = store.progress(run)
        except StoreError:
            now = None  # not registered yet
        if now is not None and now.done >= done:
            assert now.done < now.published, "too late to harm anything midway"
            return now
        assert time.monotonic() < deadline, "the run did not get going"
        time.sleep(0.3)


def runner_process(run: str) -> int:
    """A runner of the run, as this machine sees it; wherever it runs."""
    for entry in Path("/proc").iterdir():
        try:
            if entry.name.isdigit() and f"runner\0--run\0{run}".encode() in (entry / "cmdline").read_bytes():
                return int(entry.name)
        except OSError:
            continue
    raise AssertionError("no runner of the run is alive")


def each_defect_is_one_finding(report: Report) -> None:
    """The findings of a run against the shop are its seeded defects, and nothing else."""
    defects = yaml.safe_load((ROOT / "examples/shop/defects.yaml").read_text("utf-8"))
    findings = sorted((finding.operation, finding.check) for finding in report.findings)
    assert findings == sorted((defect["operation"], defect["check"]) for defect in defects)


def all_passed_once(store: Store, run: str, published: int) -> None:
    """Each published case has exactly one final result: 0 lost, 0 doubled, and an outage is no finding."""
    rows = Counter(result.case for result in store.attempts(run))
    final = Counter(result.case for result in store.results(run))
    assert store.missing(run) == [], "lost"
    assert max(rows.values()) == max(final.values()) == 1, "doubled"
    assert len(rows) == len(final) == store.published(run) == published
    report = store.report(run)
    assert report is not None and report.totals.no_result == 0
    assert report.totals.results["passed"] == published, report.totals
