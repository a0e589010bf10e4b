"""A person answers a review through Airflow's REST API, and the run does what was answered."""

from __future__ import annotations

import time
from typing import Any

import pytest

from stack.local import Local
from testops_lib.airflow_api import Airflow
from testops_lib.store import Store
from tests.e2e.running import DAG, last

pytestmark = [pytest.mark.long, pytest.mark.integration, pytest.mark.airflow, pytest.mark.timeout(500)]


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


def test_drafts_wait_for_a_person_and_the_run_does_what_was_answered(local: Local, airflow: Airflow) -> None:
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
        assert {(member.operation, member.status) for member in members} == {
            ("GET /categories", "active"),
            ("GET /products", "rejected"),
        }
        assert {member.who for member in members} == {local.airflow.username}
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
