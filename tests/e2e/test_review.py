"""A person answers a review through Airflow's REST API, and the run does what was answered."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from stack.local import Local
from stack.samples import Sample
from testops_lib.airflow_api import Airflow
from testops_lib.store import Store
from tests.e2e.running import DAG, client, last

pytestmark = [pytest.mark.integration, pytest.mark.airflow, pytest.mark.timeout(500)]

TARGET = """
spec: ${SOUND_URL}/openapi.json
base_url: ${SOUND_URL}
operations: {include: ["GET /categories", "GET /products"]}
policy: {allow_private: true, methods: safe}
generate: {review: %s}
"""


@pytest.fixture(scope="module")
def local(tmp_path_factory: pytest.TempPathFactory, sound_shop: Sample) -> Iterator[Local]:
    targets = tmp_path_factory.mktemp("targets")
    (targets / "reviewed.yaml").write_text(TARGET % "new", "utf-8")
    (targets / "free.yaml").write_text(TARGET % "never", "utf-8")
    state = Path(f"/tmp/testops-review-{os.getpid()}")
    variables = {"TESTOPS_TARGETS_DIR": str(targets), "SOUND_URL": sound_shop.url}
    made = Local(state, samples=(), variables=variables)
    try:
        made.start()
        yield made
    finally:
        made.stop()
        shutil.rmtree(state, ignore_errors=True)


def place(run: str) -> str:
    return f"/api/v2/dags/{DAG}/dagRuns/{run}/taskInstances/review/0/hitlDetails"


def asked(airflow: Airflow, run: str) -> dict[str, Any]:
    """What the reviewer is shown, once the run waits for an answer."""
    deadline = time.monotonic() + 200
    while True:
        (review,) = (task for task in airflow.task_states(DAG, run) if task.task == "review")
        if review.state == "awaiting_input":
            time.sleep(3)  # an answer in the very moment the task parks was seen to be lost; no person is that fast
            return airflow.get(place(run))
        failed = review.state in ("failed", "skipped", "upstream_failed")
        assert not failed, airflow.log_tail(DAG, run, review)
        assert time.monotonic() < deadline, review
        time.sleep(1)


def test_drafts_wait_for_a_person_and_the_run_does_what_was_answered(local: Local) -> None:
    airflow = client(local)

    run = airflow.trigger(DAG, {"target": "reviewed"})
    shown = asked(airflow, run)
    assert "drafts" in shown["body"] and "`GET /categories`, rules" in shown["body"]
    with Store(local.dsn) as store:
        assert {member.status for member in store.members("reviewed")} == {"draft"}
        assert store.published(run) == 0
    chosen = {"take_operations": ["GET /categories"], "take_cases": None}
    airflow.put("PATCH", place(run), {"chosen_options": ["Choose"], "params_input": chosen})
    end = last(airflow, run, timeout_s=120)
    assert end.state == "success", end
    with Store(local.dsn) as store:
        assert {result.operation for result in store.results(run)} == {"GET /categories"}
        members = store.members("reviewed")
        assert {(each.operation, each.status) for each in members} == {
            ("GET /categories", "active"),
            ("GET /products", "rejected"),
        }
        assert {each.who for each in members} == {local.airflow.username}
        (change,) = store.changes(members[0].id)
        assert (change.who, change.what) == (local.airflow.username, "draft -> active")

    run = airflow.trigger(DAG, {"target": "reviewed", "methods": "safe", "review": "always"})
    asked(airflow, run)
    airflow.put("PATCH", place(run), {"chosen_options": ["Reject"], "params_input": {}})
    end = last(airflow, run, timeout_s=120)
    states = {task.task: task for task in end.tasks}
    assert end.state == "failed" and states["review"].state == "failed"
    assert states["publish"].state == "upstream_failed" and states["notify"].state == "success"
    assert f"rejected by {local.airflow.username}" in airflow.log_tail(DAG, run, states["review"])
    assert states["review"].attempt == 1, "an answer is not asked for twice"

    run = airflow.trigger(DAG, {"target": "free"})
    end = last(airflow, run, timeout_s=120)
    states = {task.task: task for task in end.tasks}
    assert end.state == "success", end
    assert (states["review"].state, states["review"].attempt) == ("skipped", 0), "no worker starts without a review"
