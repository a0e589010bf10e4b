from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from runner.__main__ import arguments as parsed
from stack.kafka import Kafka
from stack.samples import Sample
from testops_lib.bus.batch import positions_text
from testops_lib.bus.client import Bus
from testops_lib.launch import runner as launch
from testops_lib.model import (
    IN_DOUBT,
    Batch,
    Case,
    Contract,
    NotAServerError,
    Plan,
    Policy,
    Provenance,
    Request,
    ResponseContract,
    StatusCodeConformance,
    Step,
    make_case,
)
from testops_lib.run.collect import collect
from testops_lib.store import Store
from tests.paths import ROOT

OPERATION = "GET /products"
CONTRACT = Contract(operation=OPERATION, responses={"200": ResponseContract(), "422": ResponseContract()})

pytestmark = pytest.mark.integration


def case(number: int, path: str = "/products", method: str = "GET") -> Case:
    request = Request(method=method, path=path, query=(("limit", str(number % 40 + 1)), ("n", str(number))))
    step = Step(operation=OPERATION, request=request, checks=(NotAServerError(), StatusCodeConformance()))
    return make_case(
        name=f"list {number}", intent="positive", operation=OPERATION, steps=(step,), origin=Provenance(source="human")
    )


def runner(kafka: str, *arguments: str, **variables: str) -> subprocess.Popen[str]:
    environment = {**os.environ, "TESTOPS_KAFKA_BOOTSTRAP": kafka, "PYTHONPATH": str(ROOT), **variables}
    return subprocess.Popen(
        [sys.executable, "-m", "runner", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
        cwd=ROOT,
    )


def outcome(process: subprocess.Popen[str], timeout: float = 60) -> tuple[int, str, str]:
    out, err = process.communicate(timeout=timeout)
    return process.returncode, out, err


@pytest.fixture
def line(kafka: str) -> Bus:
    """The bus with the names a runner uses."""
    bus = Bus(kafka, timeout_s=30)
    bus.create_topics(partitions=2)
    return bus


def publish(bus: Bus, store: Store, run: str, plan: Plan, cases: list[Case]) -> tuple[Batch, list[Batch]]:
    store.open_run(run, plan.target)
    positions, topic = bus.results.position(), bus.results.topic_id()
    at = bus.plans.publish(run, plan, [CONTRACT])
    batches = bus.cases.publish(run, cases, max_records=200)
    store.mark_published(run, [case.id for case in cases], positions=positions, topic=topic, plan=at, batches=batches)
    return at, batches


def plan(url: str, **policy: object) -> Plan:
    return Plan(target="shop", base_url=url, policy=Policy(allow_private=True, **policy))  # type: ignore[arg-type]


def test_a_batch_becomes_results_and_failing_cases_are_no_error(
    line: Bus, kafka: str, store: Store, sound_shop: Sample
) -> None:
    cases = [case(number) for number in range(30)] + [case(99, "/nowhere")]
    at, batches = publish(line, store, "runner-1", plan(sound_shop.url), cases)
    for batch in batches:
        code, out, err = outcome(runner(kafka, "--run", "runner-1", "--plan", str(at), "--batch", str(batch)))
        assert code == 0, err
        assert str(batch) in out
    counts = collect(line, store, "runner-1")
    assert (counts.published, counts.no_result) == (31, 0)
    assert store.progress("runner-1").by_verdict == {"passed": 30, "failed": 1}


def test_a_repeated_batch_counts_once(line: Bus, kafka: str, store: Store, sound_shop: Sample) -> None:
    cases = [case(number) for number in range(20)]
    at, batches = publish(line, store, "runner-2", plan(sound_shop.url), cases)
    for batch in [*batches, *batches]:
        assert outcome(runner(kafka, "--run", "runner-2", "--plan", str(at), "--batch", str(batch)))[0] == 0
    collect(line, store, "runner-2")
    assert sorted(result.case for result in store.results("runner-2")) == sorted(case.id for case in cases)


def test_records_of_another_run_are_not_executed(line: Bus, kafka: str, store: Store, sound_shop: Sample) -> None:
    at, batches = publish(line, store, "runner-3", plan(sound_shop.url), [case(1), case(2)])
    line.cases.publish("another", [case(number) for number in range(100, 120)])
    wide = [Batch(topic=b.topic, partition=b.partition, first=b.first, end=b.end + 1) for b in batches]
    done = [outcome(runner(kafka, "--run", "runner-3", "--plan", str(at), "--batch", str(batch)))[1] for batch in wide]
    assert sum("1 passed; 1 requests" in out or "2 passed; 2 requests" in out for out in done) == len(batches)


def test_a_stopped_runner_ends_in_time_and_asks_for_a_retry(line: Bus, kafka: str, store: Store, log: Log) -> None:
    cases = [case(number) for number in range(300)]
    slow = plan(log.url, requests_per_second=10)
    at, batches = publish(line, store, "runner-4", slow, cases)
    process = runner(kafka, "--run", "runner-4", "--plan", str(at), "--batch", str(batches[0]))
    await_requests(log, 10)
    process.send_signal(signal.SIGTERM)
    begun = time.monotonic()
    code, _, err = outcome(process)
    assert code == 1 and "stopped" in err
    assert time.monotonic() - begun < 10
    fast = line.plans.publish("runner-4", plan(log.url), [CONTRACT])
    for batch in batches:
        assert outcome(runner(kafka, "--run", "runner-4", "--plan", str(fast), "--batch", str(batch)))[0] == 0
    assert collect(line, store, "runner-4").no_result == 0
    assert store.progress("runner-4").by_verdict == {"passed": 300}


def test_a_killed_runner_loses_nothing_when_its_batch_is_repeated(
    line: Bus, kafka: str, store: Store, log: Log
) -> None:
    cases = [case(number) for number in range(200)]
    at, batches = publish(line, store, "runner-5", plan(log.url, requests_per_second=40), cases)
    process = runner(kafka, "--run", "runner-5", "--plan", str(at), "--batch", str(batches[0]))
    await_requests(log, 20)
    process.kill()
    outcome(process)
    fast = line.plans.publish("runner-5", plan(log.url), [CONTRACT])
    for batch in batches:
        assert outcome(runner(kafka, "--run", "runner-5", "--plan", str(fast), "--batch", str(batch)))[0] == 0
    counts = collect(line, store, "runner-5")
    assert (counts.published, counts.stored, counts.no_result) == (200, 200, 0)
    assert len(list(store.results("runner-5"))) == 200


class Log(ThreadingHTTPServer):
    """A target that keeps the `n` of every request; `fail` answers those with 500."""

    daemon_threads = True

    def __init__(self) -> None:
        self.numbers: list[int] = []
        self.times: list[float] = []
        self.most = self.now = 0
        """Requests at once."""
        self.fail: set[int] = set()
        server = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                number = int(parse_qs(urlsplit(self.path).query).get("n", ["-1"])[0])
                server.numbers.append(number)
                server.times.append(time.monotonic())
                server.now += 1
                server.most = max(server.most, server.now)
                self.send_response(500 if number in server.fail else 200)
                self.send_header("Content-Length", "0")
                self.end_headers()
                server.now -= 1

            do_POST = do_GET

            def log_message(self, format: str, *args: object) -> None:
                pass

        super().__init__(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server_address[1]}"


@pytest.fixture
def log() -> Iterator[Log]:
    with Log() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def await_requests(log: Log, count: int) -> None:
    """Returns when the target got so many requests."""
    deadline = time.monotonic() + 60
    while len(log.numbers) < count:
        assert time.monotonic() < deadline, f"{len(log.numbers)} requests"
        time.sleep(0.01)


def judged(bus: Bus, store: Store, run: str) -> list[str]:
    """Cases of the passed and failed results in the topic, as often as they are there."""
    lists = bus.results.read(store.positions(run), run=run)
    return [result.case for results in lists for result in results if result.verdict in ("passed", "failed")]


def test_a_batch_executed_again_sends_only_what_was_not_judged(line: Bus, kafka: str, store: Store, log: Log) -> None:
    run = "runner-again"
    cases = [case(number) for number in range(120)]
    numbers = {case.id: number for number, case in enumerate(cases)}
    log.fail = {3, 50, 117}
    at, batches = publish(line, store, run, plan(log.url, requests_per_second=30), cases)
    batch = max(batches, key=lambda batch: batch.end - batch.first)
    process = runner(kafka, "--run", run, "--plan", str(at), "--batch", str(batch))
    await_requests(log, 25)
    process.kill()
    outcome(process)
    before = judged(line, store, run)
    assert 10 < len(before) < batch.end - batch.first, "it was not killed midway"
    first_part = len(log.numbers)

    fast = line.plans.publish(run, plan(log.url), [CONTRACT])
    again = positions_text(store.positions(run))
    for repeated in batches:
        arguments = ["--run", run, "--plan", str(fast), "--batch", str(repeated), "--again", again]
        code, out, err = outcome(runner(kafka, *arguments))
        assert code == 0, err
        assert (f"{len(before)} judged before" in out) == (repeated == batch)
    sent_again = log.numbers[first_part:]
    assert sorted(sent_again) == sorted(number for case_id, number in numbers.items() if case_id not in before)
    assert sorted(judged(line, store, run)) == sorted(numbers)
    counts = collect(line, store, run)
    assert (counts.published, counts.no_result) == (120, 0)
    assert store.progress(run).by_verdict == {"failed": 3, "passed": 117}


def test_errored_cases_and_other_attempts_are_executed_again(line: Bus, kafka: str, store: Store, log: Log) -> None:
    run, gone = "runner-errored", Log()
    gone.server_close()
    cases = [case(number) for number in range(4)]
    at, batches = publish(line, store, run, plan(log.url), cases)
    nowhere = line.plans.publish(run, plan(gone.url, breaker_wait_s=0), [CONTRACT])
    again = positions_text(store.positions(run))
    for where, attempt, sent in ((nowhere, 1, 0), (at, 1, 4), (at, 1, 4), (at, 2, 8), (at, 2, 8)):
        for batch in batches:
            arguments = ["--plan", str(where), "--batch", str(batch), "--again", again, "--attempt", str(attempt)]
            outcome(runner(kafka, "--run", run, *arguments))
        assert len(log.numbers) == sent


def test_a_target_that_is_down_is_waited_for_as_long_as_its_policy_says_and_then_skipped(
    line: Bus, kafka: str, store: Store, log: Log
) -> None:
    run, gone = "runner-down", Log()
    gone.server_close()
    cases = [case(number) for number in range(60)]
    patient, batches = publish(line, store, run, plan(gone.url, breaker_wait_s=3600), cases)
    short = line.plans.publish(run, plan(gone.url, breaker_wait_s=0.5), [CONTRACT])
    at = line.plans.publish(run, plan(log.url), [CONTRACT])

    def ended(plan_at: Batch, batch: Batch, down_s: float = 0) -> tuple[int, str, str]:
        again = ["--again", positions_text(store.positions(run))]
        since = ["--down-since", str(time.time() - down_s)] if down_s else []
        arguments = ["--run", run, "--plan", str(plan_at), "--batch", str(batch)]
        return outcome(runner(kafka, *arguments, *again, *since))

    code, out, err = ended(patient, batches[0], 60)
    assert code == 3 and "down for 6" in err and "waited for 3600 s in all" in err and "skipped" in out
    code, out, err = ended(patient, batches[0], 3700)
    assert code == 0 and "target down: it was waited for 3600 s" in err, "no failed task: the gate says it"
    code, out, err = ended(short, batches[0])
    assert code == 0 and "target down" in err and "skipped" in out
    for batch in batches:
        assert ended(at, batch, 60)[0] == 0
    assert collect(line, store, run).no_result == 0
    assert store.progress(run).by_verdict == {"passed": 60}


def test_a_hung_target_cannot_hold_a_batch_beyond_its_deadline(line: Bus, kafka: str, store: Store) -> None:
    with socket.create_server(("127.0.0.1", 0), backlog=256) as hung:
        slow = plan(f"http://127.0.0.1:{hung.getsockname()[1]}", request_timeout_s=60, breaker_after=0)
        at, batches = publish(line, store, "runner-hung", slow, [case(number) for number in range(40)])
        begun = time.monotonic()
        arguments = ["--plan", str(at), "--batch", str(batches[0]), "--deadline", "10"]
        code, out, err = outcome(runner(kafka, "--run", "runner-hung", *arguments))
        assert time.monotonic() - begun < 13
    assert code == 1 and "deadline of 10 s" in err
    assert "8 errored" in out


def test_a_repeated_batch_sends_nothing_unsafe_of_which_it_is_not_known_what_came_of_it(
    line: Bus, kafka: str, store: Store, log: Log
) -> None:
    run = "runner-doubt"
    cases = [case(number, method="POST") for number in range(60)] + [case(number) for number in range(60, 80)]
    careful = plan(log.url, requests_per_second=25, concurrency=3, on_doubt="error")
    at, _ = publish(line, store, run, careful, cases)
    [batch, *_] = line.cases.publish(run, cases, max_records=1000)
    ids = set(line.cases.ids(batch, run))
    first = runner(kafka, "--run", run, "--plan", str(at), "--batch", str(batch))
    await_requests(log, 12)
    first.kill()
    outcome(first)
    again = positions_text(store.positions(run))
    code, out, err = outcome(runner(kafka, "--run", run, "--plan", str(at), "--batch", str(batch), "--again", again))
    assert code == 0, err
    unsafe = [number for number in log.numbers if number < 60]
    assert len(set(unsafe)) == len(unsafe), "nothing unsafe was sent twice"
    collect(line, store, run)
    verdicts = {result.case: result for result in store.results(run) if result.case in ids}
    doubtful = [result for result in verdicts.values() if result.verdict == "errored"]
    assert len(doubtful) <= 2 * 3 and all(result.reason == IN_DOUBT for result in doubtful)
    assert (f"{len(doubtful)} left in doubt" in out) == bool(doubtful)
    assert sum(result.verdict == "passed" for result in verdicts.values()) == len(ids) - len(doubtful)


@pytest.mark.chaos
@pytest.mark.timeout(240)
def test_a_kafka_that_is_away_for_longer_than_its_timeout_has_nothing_sent_twice(
    breakable_kafka: Kafka, store: Store, log: Log
) -> None:
    run, cases = "runner-outage", [case(number) for number in range(80)]
    bootstrap = breakable_kafka.start()
    with Bus(bootstrap, timeout_s=60) as bus:
        bus.create_topics(partitions=1)
        at, [batch] = publish(bus, store, run, plan(log.url, requests_per_second=10), cases)
        arguments = ["--run", run, "--plan", str(at), "--batch", str(batch)]
        process = runner(bootstrap, *arguments, TESTOPS_KAFKA_TIMEOUT_S="3")
        await_requests(log, 10)
        breakable_kafka.kill(1)
        time.sleep(9)  # three times as long
        breakable_kafka.start()
        code, out, err = outcome(process, timeout=120)
        assert code == 0 and "80 passed" in out, err
        assert sorted(log.numbers) == list(range(80)), "each was sent once"
        assert collect(bus, store, run).no_result == 0


def test_two_runs_of_one_target_together_keep_its_limits(line: Bus, kafka: str, store: Store, log: Log) -> None:
    rate, count = 20, 100
    slow = plan(log.url, requests_per_second=rate, concurrency=3)
    processes = []
    for run in ("together-1", "together-2"):
        at, [batch, *more] = publish(line, store, run, slow, [case(number) for number in range(count)])
        processes += [runner(kafka, "--run", run, "--plan", str(at), "--batch", str(part)) for part in (batch, *more)]
    for process in processes:
        code, _, err = outcome(process, timeout=120)
        assert code == 0, err
    assert len(log.numbers) == 2 * count
    span = log.times[-1] - log.times[0]
    # What was booked before a share changed may still come at the old pace: a request for each case at once.
    assert 2 * count <= rate * span + 1 + len(processes) * 3
    assert log.most <= 2 * 3, "a case that had begun may end beside the first one of its share's new owner"


@pytest.mark.parametrize(("again", "since"), [("", 0), ("0:120,1:98", 1700000000.5)])
def test_a_runner_understands_the_arguments_of_a_launcher(again: str, since: float) -> None:
    words: dict[str, Any] = {"run": "r 1", "plan": "p:0:0-2", "batch": "c:3:5-9", "attempt": 2, "again": again}
    words |= {"down_since": since}
    assert vars(parsed(launch.arguments(**words))).items() >= (words | {"deadline": 0, "group": None}).items()


@pytest.mark.parametrize(
    ("arguments", "variables", "code", "said"),
    [
        (["--batch", "nonsense", "--plan", "testops.plans:0:0-1"], {}, 2, "nonsense"),
        (["--batch", "b:0:0-1", "--plan", "testops.plans:0:0-1", "--again", "0-1"], {}, 2, "positions"),
        (["--batch", "testops.cases:0:0-1", "--plan", "testops.plans:0:900000-900001"], {}, 2, "testops.plans"),
        (["--batch", "testops.cases:0:0-1", "--plan", "t:0:0-1"], {"TESTOPS_KAFKA_BOOTSTRAP": ""}, 2, "BOOTSTRAP"),
        (["--batch", "b:0:0-1", "--plan", "testops.missing:0:0-1"], {}, 1, "testops.missing"),
    ],
)
def test_a_bad_start_says_why_and_whether_to_retry(
    line: Bus, kafka: str, arguments: list[str], variables: Mapping[str, str], code: int, said: str
) -> None:
    got, _, err = outcome(runner(kafka, "--run", "x", *arguments, **variables), timeout=100)
    assert (got, said in err, "Traceback" in err) == (code, True, False), err


def test_a_broker_that_is_away_asks_for_a_retry() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        away = f"127.0.0.1:{taken.getsockname()[1]}"
        process = runner(
            away,
            "--run",
            "x",
            "--plan",
            "testops.plans:0:0-1",
            "--batch",
            "testops.cases:0:0-1",
            TESTOPS_KAFKA_TIMEOUT_S="3",
        )
        code, _, err = outcome(process, timeout=60)
    assert code == 1 and away in err and "Traceback" not in err


def test_starting_imports_nothing_heavy() -> None:
    code = "import json, sys, runner.__main__; print(json.dumps(sorted(sys.modules)))"
    imported = json.loads(subprocess.check_output([sys.executable, "-c", code], cwd=ROOT))
    heavy = (
        "airflow",
        "requests",
        "google",
        "sqlalchemy",
        "psycopg",
        "rich",
        "click",
        "jinja2",
        "yaml",
        "prometheus_client",
    )
    assert [name for name in imported if name.partition(".")[0] in heavy] == []


@pytest.mark.skipif(os.getuid() != 0, reason="needs root, for a namespace of process ids")
def test_a_container_that_is_ended_while_it_starts_ends() -> None:
    first_process = ["unshare", "--pid", "--fork", "--kill-child", sys.executable, "-c"]
    program = "import os, signal{}; os.kill(1, signal.SIGTERM); print('goes on')"
    done = subprocess.run([*first_process, program.format(", runner")], capture_output=True, text=True, cwd=ROOT)
    assert (done.returncode, done.stdout) == (128 + signal.SIGTERM, ""), done.stderr
    done = subprocess.run([*first_process, program.format("")], capture_output=True, text=True, cwd=ROOT)
    assert done.stdout == "goes on\n", "without it, the signal is lost"
