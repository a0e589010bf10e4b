"""Airflow's REST API: against a real Airflow, and against a server that breaks as a real one would."""

from __future__ import annotations

import http.server
import json
import os
import signal
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner

from stack.airflow import SERVICES, AirflowStack
from stack.postgres import Postgres
from stack.process import entries, started_at
from testops_lib.airflow_api import Airflow
from testops_lib.cli.service import trigger
from testops_lib.errors import StackError, TriggerError

DAGS = """
import time
from pathlib import Path
from airflow.sdk import Param, dag, task
from airflow.sdk.exceptions import AirflowFailException

PARAMS = {"fail": Param(False, type="boolean"), "wait": Param(False, type="boolean"), "needs": ""}

@dag(dag_id="small", schedule=None, params=PARAMS)
def small():
    @task
    def numbers(params=None):
        time.sleep(60 if params["wait"] else 0)
        return [1, 2]

    @task(map_index_template="{{ task.op_kwargs['number'] }}")
    def show(number, params=None):
        print("number", number)
        if number == 2 and params["needs"] and not Path(params["needs"]).exists():
            raise RuntimeError("it is not there yet")

    @task(retries=0)
    def gate(params=None, ti=None):
        reasons = ["max_findings: 3 findings"] if params["fail"] else []
        ti.xcom_push("outcome", {"verdict": "failed" if reasons else "passed", "reasons": reasons})
        if reasons:
            raise AirflowFailException("the gate is closed: 3 findings")

    show.expand(number=numbers()) >> gate()

small()
"""


# --------------------------------------------------------------------------- a real Airflow


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    # Not below pytest's own directory: another session closes that to other users, PostgreSQL's among them.
    with tempfile.TemporaryDirectory(prefix="testops-") as name:
        yield Path(name)


@pytest.fixture(scope="module")
def postgres(folder: Path) -> Iterator[Postgres]:
    with Postgres(folder / "postgres", durable=False) as server:
        yield server


@pytest.fixture(scope="module")
def stack(folder: Path, postgres: Postgres) -> Iterator[AirflowStack]:
    (folder / "dags").mkdir()
    (folder / "dags" / "small.py").write_text(DAGS)
    stack = AirflowStack(
        folder / "airflow",
        dsn=postgres.create_database("airflow"),
        dags=folder / "dags",
        plugins=folder / "plugins",
        parallelism=2,
    )
    try:
        stack.launch()
        stack.wait(dag="small")
        yield stack
    finally:
        stack.stop()


@pytest.fixture(scope="module")
def airflow(stack: AirflowStack) -> Airflow:
    client = Airflow(stack.url, username=stack.username, password=stack.password)
    client.unpause("small")
    return client


@pytest.mark.long
@pytest.mark.airflow
@pytest.mark.integration
def test_a_run_is_followed_to_its_end(airflow):
    run = airflow.trigger("small", {}, note="from a test")
    snapshots = list(airflow.wait("small", run, timeout_s=120, interval_s=0.3))
    last = snapshots[-1]
    assert last.state == "success"
    assert not any(snapshot.is_finished for snapshot in snapshots[:-1])
    assert [(t.task, t.map_index, t.label, t.state) for t in last.tasks if t.task == "show"] == [
        ("show", 0, "1", "success"),
        ("show", 1, "2", "success"),
    ]
    assert all(t.started and t.ended and t.started <= t.ended for t in last.tasks)
    assert airflow.outcome("small", run).verdict == "passed"
    shown = next(t for t in last.tasks if t.label == "2")
    assert "number 2" in airflow.log_tail("small", run, shown)
    # The same id is the same run.
    assert airflow.trigger("small", {}, run_id=run) == run
    assert airflow.state("small", run) == "success"


@pytest.mark.long
@pytest.mark.airflow
@pytest.mark.integration
def test_a_closed_gate_is_a_verdict_and_clearing_runs_it_again(airflow):
    run = airflow.trigger("small", {"fail": True})
    *_, last = airflow.wait("small", run, timeout_s=120, interval_s=0.3)
    assert last.state == "failed"
    outcome = airflow.outcome("small", run)
    assert (outcome.code, outcome.verdict, outcome.reasons) == (1, "failed", ("max_findings: 3 findings",))
    gate = next(t for t in last.tasks if t.task == "gate")
    assert "the gate is closed: 3 findings" in airflow.log_tail("small", run, gate, lines=3)
    assert airflow.clear("small", run, ["gate"]) == 1
    *_, again = airflow.wait("small", run, timeout_s=120, interval_s=0.3)
    assert next(t for t in again.tasks if t.task == "gate").attempt == 2


@pytest.mark.long
@pytest.mark.airflow
@pytest.mark.integration
def test_what_failed_and_what_came_after_it_runs_again(airflow, folder):
    run = airflow.trigger("small", {"needs": str(folder / "needed")})
    *_, last = airflow.wait("small", run, timeout_s=120, interval_s=0.3)
    states = {(task.task, task.map_index): task.state for task in last.tasks}
    assert states[("show", 1)] == "failed" and states[("gate", -1)] == "upstream_failed"
    outcome = airflow.outcome("small", run)
    assert (outcome.code, outcome.reasons) == (2, ("task show failed, see its log",))
    (folder / "needed").touch()
    assert airflow.clear_failed("small", run) == 3, "both of the mapped task, and the gate"
    *_, last = airflow.wait("small", run, timeout_s=120, interval_s=0.3)
    assert airflow.outcome("small", run).verdict == "passed"
    assert airflow.clear_failed("small", run) == 0


@pytest.mark.long
@pytest.mark.airflow
@pytest.mark.integration
def test_a_gate_that_a_person_marked_is_no_verdict(airflow):
    run = airflow.trigger("small", {"wait": True})
    snapshots = airflow.wait("small", run, timeout_s=120, interval_s=0.3)
    next(seen for seen in snapshots if any(task.task == "numbers" and task.state == "running" for task in seen.tasks))
    place = f"/api/v2/dags/small/dagRuns/{run}?update_mask=state"
    airflow.put("PATCH", place, {"state": "success"})
    list(airflow.wait("small", run, timeout_s=120, interval_s=0.3))
    airflow.put("PATCH", f"/api/v2/dags/small/dagRuns/{run}/taskInstances/gate", {"new_state": "success"})
    assert airflow.state("small", run) == "success"
    assert airflow.outcome("small", run).code == 2


@pytest.mark.long
@pytest.mark.airflow
@pytest.mark.integration
def test_refusals_say_what_next(airflow, stack):
    with pytest.raises(TriggerError, match=r"404 .*\n.*has Airflow parsed the DAG"):
        airflow.trigger("smal", {})
    with pytest.raises(TriggerError, match=r"refused: (.|\n)*fail(.|\n)*trigger form"):
        airflow.trigger("small", {"fail": "perhaps"})
    with pytest.raises(TriggerError, match="login was refused"):
        Airflow(stack.url, username=stack.username, password="guess").state("small", "any")
    with pytest.raises(TriggerError, match="login was refused"):
        Airflow(stack.url, token="ey.not.true").state("small", "any")


@pytest.mark.long
@pytest.mark.airflow
@pytest.mark.integration
def test_killed_services_come_back_and_the_client_waits_for_them(airflow, stack):
    pids = {name: int((stack.state / "pids" / name).read_text()) for name in ("api-server", "scheduler")}
    for pid in pids.values():
        os.kill(pid, signal.SIGKILL)
    run = airflow.trigger("small", {})
    *_, last = airflow.wait("small", run, timeout_s=120, interval_s=0.3)
    assert last.state == "success"
    assert all(int((stack.state / "pids" / name).read_text()) != pid for name, pid in pids.items())


@pytest.mark.long
@pytest.mark.airflow
@pytest.mark.integration
def test_services_end_with_the_process_that_holds_them(airflow, stack):
    pids = {name: int((stack.state / "pids" / name).read_text()) for name in SERVICES}
    (_, holder), *_ = entries(stack.state)
    os.kill(holder.pid, signal.SIGKILL)
    deadline = time.monotonic() + 60
    while stack.is_running:
        assert time.monotonic() < deadline
        time.sleep(0.1)
    stack.launch()
    assert not [name for name, pid in pids.items() if started_at(pid)], "none works on beside the new ones"
    stack.wait(dag="small")
    assert airflow.outcome("small", airflow.trigger("small", {})).code == 2, "it is queued"


@pytest.mark.long
@pytest.mark.airflow
@pytest.mark.integration
def test_a_run_is_followed_over_a_restart_of_its_database(airflow, stack, postgres):
    run = airflow.trigger("small", {})
    seen = airflow.wait("small", run, timeout_s=200, interval_s=0.3)
    next(seen)
    postgres.stop()
    waiting = []

    def mend() -> None:
        waiting.append(1)
        if len(waiting) == 3:
            postgres.start()

    patient = Airflow(stack.url, username=stack.username, password=stack.password, meanwhile=mend)
    *_, last = patient.wait("small", run, timeout_s=200, interval_s=0.3)
    assert last.state == "success" and patient.outcome("small", run).verdict == "passed"


@pytest.mark.long
@pytest.mark.airflow
@pytest.mark.integration
def test_a_second_start_needs_no_migration_and_keeps_secrets(airflow, stack):
    assert stack._is_migrated()
    secrets = {path.name: path.read_text() for path in (stack.state / "secrets").iterdir()}
    assert secrets.keys() >= {"password", "fernet-key", "jwt-secret", "api-secret"}
    assert all(path.stat().st_mode & 0o77 == 0 for path in (stack.state / "secrets").iterdir())
    with pytest.raises(StackError, match="already in use"):
        AirflowStack(stack.state, dsn=stack.dsn).prepare()


# --------------------------------------------------------------------------- a server that breaks

Answer = Callable[[http.server.BaseHTTPRequestHandler], None]


def reply(status: int, body: object) -> Answer:
    def answer(handler: http.server.BaseHTTPRequestHandler) -> None:
        data = json.dumps(body).encode()
        handler.send_response(status)
        handler.send_header("Content-Length", str(len(data)))
        handler.end_headers()
        handler.wfile.write(data)

    return answer


def hang_up(handler: http.server.BaseHTTPRequestHandler) -> None:
    handler.close_connection = True


class Scripted:
    """Answers in the order given, the last one for ever."""

    def __init__(self, *answers: Answer) -> None:
        self.answers = list(answers)
        self.seen: list[tuple[str, str, str]] = []
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def answer(self) -> None:
                length = int(self.headers.get("Content-Length") or 0)
                body = self.rfile.read(length).decode()
                outer.seen.append((f"{self.command} {self.path}", self.headers.get("Authorization", ""), body))
                (outer.answers.pop(0) if len(outer.answers) > 1 else outer.answers[0])(self)

            do_GET = do_POST = do_PATCH = answer

            def log_message(self, *_: object) -> None:
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        self.thread = threading.Thread(target=self.server.serve_forever, daemon=True)

    def __enter__(self) -> Scripted:
        self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()


def test_a_restarting_server_is_waited_for():
    with Scripted(hang_up, reply(503, {}), reply(502, {}), reply(200, {"state": "running"})) as server:
        assert Airflow(server.url, token="t").state("d", "r") == "running"
    assert len(server.seen) == 4


def test_a_database_that_restarts_behind_airflow_is_waited_for():
    away = reply(500, {"detail": {"reason": "Database error", "statement": "hidden", "message": "Serious error"}})
    calls = []
    with Scripted(away, away, reply(200, {"state": "running"})) as server:
        airflow = Airflow(server.url, token="t", meanwhile=lambda: calls.append(1))
        assert airflow.state("d", "r") == "running"
    assert len(calls) == 2, "whoever keeps the servers alive is asked before each further try"
    with Scripted(reply(500, {"detail": "An error occurred while trying to deserialize Dag"})) as server:
        with pytest.raises(TriggerError, match="500 An error"):
            Airflow(server.url, token="t").state("d", "r")
        assert len(server.seen) == 1, "no other error is waited out"


def test_patience_ends():
    with Scripted(reply(503, {"detail": "starting"})) as server:
        began = time.monotonic()
        with pytest.raises(TriggerError, match="503 starting"):
            Airflow(server.url, token="t", patience_s=0.5).state("d", "r")
        assert time.monotonic() - began < 3
    with pytest.raises(TriggerError, match=r"no answer: .*refused\n  -> does Airflow, or the port-forward"):
        Airflow(server.url, token="t", patience_s=0.3).state("d", "r")


def test_an_expired_token_is_renewed_once():
    login = reply(201, {"access_token": "fresh"})
    with Scripted(login, reply(401, {}), login, reply(200, {"state": "queued"})) as server:
        assert Airflow(server.url, username="u", password="p").state("d", "r") == "queued"
    assert [path.split("/")[1] for path, _, _ in server.seen] == ["auth", "api", "auth", "api"]
    with Scripted(login, reply(401, {}), login, reply(401, {})) as server, pytest.raises(TriggerError, match="refused"):
        Airflow(server.url, username="u", password="p").state("d", "r")


def test_a_trigger_whose_answer_was_lost_starts_one_run():
    with Scripted(hang_up, reply(409, {"detail": "exists"})) as server:
        run = Airflow(server.url, token="t").trigger("d", {"target": "shop"})
    sent = [json.loads(body) for _, _, body in server.seen]
    assert sent == [{"logical_date": None, "dag_run_id": run, "conf": {"target": "shop"}}] * 2


def test_the_command_sends_what_the_form_of_the_run_would(monkeypatch):
    monkeypatch.setenv("TESTOPS_AIRFLOW_PASSWORD", "p")
    wanted = ["--target", "shop", "--param", "rounds=2", "--param", 'operations=["GET /a*"]', "--param", "review=new"]
    with Scripted(reply(201, {"access_token": "t"}), reply(200, {"dag_run_id": "r"})) as server:
        options = ["--url", server.url, "--username", "u", "--no-wait", *wanted]
        assert CliRunner().invoke(trigger, options, catch_exceptions=False).output.startswith("run ")
    body = json.loads(server.seen[-1][2])
    assert body["dag_run_id"].startswith("shop__") and body["note"] == "shop", "Airflow's list of runs says the target"
    sent = body["conf"]
    assert sent == {"target": "shop", "rounds": 2, "operations": ["GET /a*"], "review": "new"}


def test_the_command_says_where_a_person_is_waited_for(monkeypatch):
    monkeypatch.setenv("TESTOPS_AIRFLOW_PASSWORD", "p")
    review = {
        "task_id": "review",
        "map_index": 0,
        "state": "awaiting_input",
        "try_number": 1,
        "start_date": None,
        "end_date": None,
    }
    waiting = (reply(200, {"state": "running"}), reply(200, {"task_instances": [review], "total_entries": 1}))
    begin = (reply(201, {"access_token": "t"}), reply(200, {"is_paused": False}), reply(200, {"dag_run_id": "r"}))
    with Scripted(*begin, *waiting) as server:
        options = ["--url", server.url, "--username", "u", "--target", "shop", "--timeout", "1"]
        done = CliRunner().invoke(trigger, options)
    assert f"waits for a person: {server.url}/dags/testops_run/runs/" in done.output
    assert "/required_actions\n" in done.output


def test_the_command_says_once_that_it_waits_for_airflow(monkeypatch):
    monkeypatch.setenv("TESTOPS_AIRFLOW_PASSWORD", "p")
    begin = (reply(201, {"access_token": "t"}), reply(200, {"is_paused": False}), reply(200, {"dag_run_id": "r"}))
    running = (reply(200, {"state": "running"}), reply(200, {"task_instances": [], "total_entries": 0}))
    with Scripted(*begin, *running, reply(503, {}), hang_up, *running, reply(404, {})) as server:
        done = CliRunner().invoke(trigger, ["--url", server.url, "--username", "u", "--target", "shop"])
    [_, *lines] = done.output.splitlines()
    assert lines == ["running", f"no answer from {server.url}: trying again", "running"]


def test_the_command_refuses_to_start_a_run_of_a_paused_dag(monkeypatch):
    monkeypatch.setenv("TESTOPS_AIRFLOW_PASSWORD", "p")
    options = ["--username", "u", "--rerun", "nightly", "--no-wait"]
    answers = [reply(201, {"access_token": "t"}), reply(200, {"is_paused": True}), reply(200, {"dag_run_id": "r"})]
    with Scripted(*answers) as server:
        refused = CliRunner().invoke(trigger, ["--url", server.url, *options]).exception
        assert str(refused).startswith("DAG testops_rerun: is paused") and "--unpause" in str(refused)
        assert len(server.seen) == 2, "no run was started"
    with Scripted(*answers) as server:
        done = CliRunner().invoke(trigger, ["--url", server.url, *options, "--unpause"], catch_exceptions=False)
        assert done.output.startswith("run ")
    assert [path for path, _, _ in server.seen[2:]] == [
        "PATCH /api/v2/dags/testops_rerun?update_mask=is_paused",
        "POST /api/v2/dags/testops_rerun/dagRuns",
    ]


def test_a_run_that_takes_too_long_continues_in_airflow():
    with Scripted(reply(200, {"state": "running", "task_instances": [], "total_entries": 0})) as server:
        airflow = Airflow(server.url, token="t")
        with pytest.raises(
            TriggerError, match=r"not finished after 0 s \(it is running\)\n.*it continues: .*/runs/r%2F1"
        ):
            list(airflow.wait("d", "r/1", timeout_s=0.2, interval_s=0.05))


def test_all_pages_of_tasks_are_read():
    def page(first: int, count: int) -> Answer:
        tasks = [
            {
                "task_id": "x",
                "map_index": first + i,
                "state": None,
                "try_number": 0,
                "start_date": None,
                "end_date": None,
            }
            for i in range(count)
        ]
        return reply(200, {"task_instances": tasks, "total_entries": 130})

    with Scripted(page(0, 100), page(100, 30)) as server:
        states = Airflow(server.url, token="t").task_states("d", "r")
    assert [state.map_index for state in states] == list(range(130))
    assert "offset=100" in server.seen[1][0]


@pytest.mark.parametrize("url", ["airflow:8080", "ftp://airflow", ""])
def test_a_bad_address_is_refused_at_once(url):
    with pytest.raises(TriggerError, match="no address"):
        Airflow(url, token="t")


def test_a_bad_run_id_is_refused_before_it_is_sent():
    with pytest.raises(TriggerError, match="no run id"):
        Airflow("http://127.0.0.1:9", token="t").trigger("d", {}, run_id="a b")


def test_the_password_is_not_in_an_error():
    with Scripted(reply(500, {"detail": "broken"})) as server:
        airflow = Airflow(server.url, username="u", password="s3cret-word")
        with pytest.raises(TriggerError) as caught:
            airflow.state("d", "r")
    assert "s3cret-word" not in str(caught.value)
