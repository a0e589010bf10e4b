"""The whole product on real servers: Airflow with all its services, Kafka, PostgreSQL, the sample shop."""

from __future__ import annotations

import json
import os
import signal
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from typing import Any

import pytest

from stack.local import Local
from stack.samples import Sample
from testops_lib.airflow_api import Airflow
from testops_lib.run.report import FORMS
from testops_lib.store import Store
from tests.e2e.running import DAG, all_passed_once, each_defect_is_one_finding, last, midway, runner_process

pytestmark = [pytest.mark.integration, pytest.mark.airflow, pytest.mark.timeout(900)]


def test_a_run_through_airflow_finds_every_seeded_defect_once(local: Local, airflow: Airflow) -> None:
    run = airflow.trigger(DAG, {"target": "shop"})
    end = last(airflow, run)
    with Store(local.dsn) as store:
        report = store.report(run)
    assert report is not None, end
    each_defect_is_one_finding(report)
    assert end.state == "failed"
    assert {task.task for task in end.tasks if task.state == "failed"} == {"gate"}
    written = json.loads((local.reports / "latest" / "report.json").read_bytes())
    assert written["run"] == run
    outcome = airflow.outcome(DAG, run)
    assert outcome.verdict == "failed" and outcome.reasons == report.gate.reasons
    for task in ("analyze", "gate", "notify"):
        links = airflow.get(f"/api/v2/dags/{DAG}/dagRuns/{run}/taskInstances/{task}/links")["extra_links"]
        assert links == {"Report": f"{airflow.url}/testops/runs/{run}/report"}
    with pytest.raises(urllib.error.HTTPError, match="401"):
        urllib.request.urlopen(links["Report"])
    with opened(links["Report"], airflow) as page:
        assert page.headers["Content-Type"].startswith("text/html") and run in page.read().decode()
    folder = links["Report"].removesuffix("report")
    for name, media_type in FORMS.items():
        with pytest.raises(urllib.error.HTTPError, match="401"):
            urllib.request.urlopen(folder + name)
        with opened(folder + name, airflow) as served:
            assert served.headers["Content-Type"].split(";")[0] == media_type
            assert served.headers["X-Content-Type-Options"] == "nosniff"
            is_download = served.headers["Content-Disposition"] == f'attachment; filename="{name}"'
            assert is_download == (name != "report.html"), "what targets answered is not shown as a page of Airflow"
            assert served.read() == (local.reports / "latest" / name).read_bytes()
    for missing in (f"{folder}report.pdf", f"{airflow.url}/testops/runs/no/such/run/junit.xml"):
        with pytest.raises(urllib.error.HTTPError, match="404"):
            opened(missing, airflow)


def opened(url: str, airflow: Airflow) -> Any:
    asked = urllib.request.Request(url, headers={"Authorization": f"Bearer {airflow.token()}"})
    return urllib.request.urlopen(asked)


def test_a_scheduled_task_shares_the_outcome_of_the_run_that_it_starts(airflow: Airflow) -> None:
    started, states = {}, set()
    for name in ("brief", "astray"):
        assert not airflow.is_paused(f"testops_nightly_{name}")
        started[name] = airflow.trigger(f"testops_nightly_{name}", {})
    for name, outcome in (("brief", "success"), ("astray", "failed")):
        dag, run = f"testops_nightly_{name}", f"nightly_{name}_{started[name]}"
        for end in airflow.wait(dag, started[name], timeout_s=200):
            states |= {task.state for task in end.tasks}
        assert (end.state, airflow.state(DAG, run)) == (outcome, outcome)
        links = airflow.get(f"/api/v2/dags/{dag}/dagRuns/{started[name]}/taskInstances/run/links")
        assert links["extra_links"] == {"Started run": airflow.page(DAG, run)}
    assert "deferred" in states


def test_a_wrong_order_fails_at_once_and_says_why(airflow: Airflow) -> None:
    run = airflow.trigger(DAG, {"target": "shop", "opperations": ["GET /products"]})
    end = last(airflow, run)
    failed = {task.task: task for task in end.tasks if task.state == "failed"}
    assert {"open_run", "gate"} <= set(failed), "the gate says that there is no verdict"
    assert failed["collect"].attempt == 1, "no stage waits for a run that was refused"
    assert "opperations" in airflow.log_tail(DAG, run, failed["open_run"])
    assert "opperations" in " ".join(airflow.outcome(DAG, run).reasons)


@pytest.mark.parametrize("called", ["failed", "success"])
def test_a_run_that_a_person_ends_is_no_success_whatever_they_call_it(
    local: Local, airflow: Airflow, called: str
) -> None:
    run = airflow.trigger(DAG, {"target": "slow"})
    with Store(local.dsn) as store:
        midway(store, run, done=5)
    airflow.put("PATCH", f"/api/v2/dags/{DAG}/dagRuns/{run}?update_mask=state", {"state": called})
    end = last(airflow, run)
    assert end.state == "failed", end
    outcome = airflow.outcome(DAG, run)
    assert (outcome.code, outcome.verdict) == (2, "none")
    assert "somebody ended the run" in " ".join(outcome.reasons)
    noted = airflow.get(f"/api/v2/dags/{DAG}/dagRuns/{run}")["note"]
    assert noted.startswith("slow: no verdict: somebody ended the run"), "Airflow's list of runs says it"
    assert airflow.log_tail(DAG, run, next(task for task in end.tasks if task.task == "notify")).count("NOT FINISHED")


def kill_runner(local: Local, run: str) -> None:
    os.kill(runner_process(run), signal.SIGKILL)


def kill_scheduler(local: Local, run: str) -> None:
    os.kill(int((local.state / "airflow/pids/scheduler").read_text()), signal.SIGKILL)


def kill_broker(local: Local, run: str) -> None:
    local.kafka.kill(1)
    time.sleep(3)
    local.kafka.start()


@pytest.mark.chaos
@pytest.mark.parametrize("kill", [kill_runner, kill_broker, kill_scheduler])
def test_after_a_kill_midway_each_published_case_has_exactly_one_final_result(
    local: Local, airflow: Airflow, kill: Callable[[Local, str], None]
) -> None:
    run = airflow.trigger(DAG, {"target": "slow"})
    with Store(local.dsn) as store:
        now = midway(store, run, done=20)
        kill(local, run)
        end = last(airflow, run)
        if end.state != "success":
            airflow.clear_failed(DAG, run)
            end = last(airflow, run)
        assert end.state == "success", end
        all_passed_once(store, run, now.published)


@pytest.mark.chaos
def test_a_target_that_stays_away_is_waited_for_without_a_worker(
    local: Local, airflow: Airflow, sound_shop: Sample
) -> None:
    run = airflow.trigger(DAG, {"target": "slow"})
    with Store(local.dsn) as store:
        now = midway(store, run, done=20)
        sound_shop.stop()
        deadline = time.monotonic() + 150
        while not any(task.state == "deferred" for task in airflow.task_states(DAG, run)):
            assert time.monotonic() < deadline, "no batch gave its worker back"
            time.sleep(0.5)
        sound_shop.start()
        end = last(airflow, run)
        assert end.state == "success", end
        all_passed_once(store, run, now.published)
