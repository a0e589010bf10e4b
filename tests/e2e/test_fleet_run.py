"""A run of thousands of writing cases by a fleet, through Airflow with all its services while runners come and go."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator

import pytest

from stack.local import Local
from testops_lib.airflow_api import Airflow
from testops_lib.errors import StoreError
from testops_lib.store import Progress, Store
from tests.e2e.running import DAG, last, started, state_directory
from tests.e2e.writing_target import WritingTarget

pytestmark = [pytest.mark.chaos, pytest.mark.integration, pytest.mark.airflow, pytest.mark.timeout(900)]

OPERATIONS = 150
"""The rules make 36 cases of each, every one a single request that no other case sends."""
CONCURRENCY = 12

TARGET = f"""
title: Tills
spec: ${{TILLS_URL}}/openapi.json
base_url: ${{TILLS_URL}}
policy: {{allow_private: true, requests_per_second: 240, concurrency: {CONCURRENCY}, cases_per_batch: 300}}
"""


@pytest.fixture(scope="module")
def target() -> Iterator[WritingTarget]:
    with WritingTarget(OPERATIONS) as tills:
        yield tills


@pytest.fixture(scope="module")
def local(tmp_path_factory: pytest.TempPathFactory, target: WritingTarget) -> Iterator[Local]:
    targets = tmp_path_factory.mktemp("targets")
    (targets / "tills.yaml").write_text(TARGET, "utf-8")
    variables = {
        "TESTOPS_TARGETS_DIR": str(targets),
        "TESTOPS_LAUNCHER": "fleet",
        "TESTOPS_MAX_BATCHES_AT_ONCE": "3",
        "TILLS_URL": target.url,
    }
    with started(Local(state_directory(), samples=(), variables=variables)) as stack:
        for fleet_runner in stack.fleet.runners:
            fleet_runner.wait_ready()
        yield stack


def progress(store: Store, run: str) -> Progress | None:
    try:
        return store.progress(run)
    except StoreError:
        return None  # not registered yet


def busy(local: Local) -> list[int]:
    """Which runners have an order in work."""
    metrics = [runner.get("/metrics")[1] for runner in local.fleet.runners]
    return [number for number, text in enumerate(metrics) if "testops_runner_order_in_work 1.0" in text]


def one_killed_and_one_added(local: Local) -> int:
    deadline = time.monotonic() + 30
    while not (working := busy(local)):
        assert time.monotonic() < deadline, "no runner works"
    local.fleet.kill(local.fleet.runners[working[0]])
    time.sleep(2)
    local.fleet.add()
    return CONCURRENCY


def triggerer_killed(local: Local) -> int:
    os.kill(int((local.state / "airflow/pids/triggerer").read_text()), signal.SIGKILL)
    return 0


@pytest.mark.parametrize("harm", [one_killed_and_one_added, triggerer_killed])
def test_each_of_thousands_of_cases_has_one_final_result_after(
    local: Local, airflow: Airflow, target: WritingTarget, harm: Callable[[Local], int]
) -> None:
    before = target.arrived()
    run = airflow.trigger(DAG, {"target": "tills"})
    with Store(local.dsn) as store:
        deadline = time.monotonic() + 240
        while (now := progress(store, run)) is None or now.done < now.published // 5 or not now.done:
            assert time.monotonic() < deadline, "the run did not get going"
            time.sleep(0.3)
        begun = time.monotonic()
        in_flight = harm(local)
        now = store.progress(run)
        assert now.done < now.published, "the run was over before the harm was done"
        end = last(airflow, run)
        took_s = time.monotonic() - begun
        cases = [result.case for result in store.results(run)]
        report = store.report(run)
        assert store.missing(run) == []
    arrived = {write: times - before.get(write, 0) for write, times in target.arrived().items()}
    twice = sum(times - 1 for times in arrived.values() if times > 1)
    print(f"{harm.__name__}: {now.published} cases, end {took_s:.0f} s after the harm, {twice} writes sent twice")
    assert end.state == "success", end
    assert len(cases) == len(set(cases)) == now.published >= 5000
    assert report is not None and report.totals.results["passed"] == now.published
    assert [task.attempt for task in end.tasks if task.task == "execute"] == [1], "the fleet itself made up for it"
    assert twice <= in_flight, "only what was in flight when the runner was killed"
