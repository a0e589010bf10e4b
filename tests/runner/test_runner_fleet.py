"""Fleet runners on the suite's Kafka: orders in, results and outcomes out, whatever becomes of a runner."""

from __future__ import annotations

import signal
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest
from confluent_kafka import Producer

from runner import health
from stack.fleet import Fleet, FleetRunner
from stack.kafka import Kafka
from testops_lib.bus.batch import parse_positions, positions_text
from testops_lib.bus.client import Bus
from testops_lib.launch.fleet import MAX_CRASHES, OrderProgress, OrderTracker
from testops_lib.model import Batch, BatchOrder, Ended, Taken
from testops_lib.run.collect import collect
from testops_lib.run.orders import HandedOut, hand_out, withdraw
from testops_lib.settings import Settings
from testops_lib.store import Store
from tests.runner.test_runner import Log, case, outcome, plan, publish, runner

pytestmark = [pytest.mark.integration, pytest.mark.timeout(240)]


@pytest.fixture
def line(kafka: str) -> Bus:
    bus = Bus(kafka, timeout_s=30)
    bus.create_topics(partitions=2)
    return bus


@pytest.fixture
def fleet(kafka: str, tmp_path: Path) -> Iterator[Fleet]:
    made = Fleet(tmp_path / "fleet", {"TESTOPS_KAFKA_BOOTSTRAP": kafka, "TESTOPS_KAFKA_TIMEOUT_S": "20"})
    yield made
    made.stop()


@pytest.fixture
def log() -> Iterator[Log]:
    with Log() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def ready(fleet: Fleet, count: int = 1) -> list[FleetRunner]:
    runners = fleet.add(count)
    for fleet_runner in runners:
        fleet_runner.wait_ready()
    return runners


def handed_out(bus: Bus, store: Store, run: str, at: Batch, batches: list[Batch], **more: Any) -> HandedOut:
    settings = Settings(kafka_bootstrap=bus.bootstrap)
    wanted = [str(batch) for batch in batches]
    results = positions_text(store.positions(run))
    return hand_out(run, settings, plan=str(at), wanted=wanted, results=results, **more)


def wait(bus: Bus, run: str, handed: HandedOut, *, timeout_s: float = 120) -> OrderProgress:
    tracker, deadline = OrderTracker(handed.orders), time.monotonic() + timeout_s
    with bus.outcomes.follow(parse_positions(handed.outcomes), run) as follower:
        while not tracker.complete and time.monotonic() < deadline:
            for outcome in follower.poll(5):
                tracker.add(outcome)
    return tracker.progress()


def until(holds: Callable[[], Any], what: str, timeout_s: float = 60) -> None:
    deadline = time.monotonic() + timeout_s
    while not holds():
        assert time.monotonic() < deadline, what
        time.sleep(0.05)


def order(run: str, **more: Any) -> BatchOrder:
    fields: dict[str, Any] = {
        "id": f"{run}-order",
        "run": run,
        "plan": "testops.plans:0:0-1",
        "batch": "testops.cases:0:0-1",
    }
    fields |= {"outcomes": "0:0", "partitions": (0,), "expires": datetime.now(UTC) + timedelta(hours=1)}
    return BatchOrder(**(fields | more))


def outcomes(bus: Bus, run: str) -> list[Any]:
    return bus.outcomes.read({}, run)


def test_a_fleet_executes_each_ordered_batch_once(line: Bus, store: Store, log: Log, fleet: Fleet) -> None:
    run = "fleet-1"
    cases = [case(number) for number in range(120)]
    at, batches = publish(line, store, run, plan(log.url), cases)
    for fleet_runner in fleet.add(2):
        fleet_runner.wait_ready()
    handed = handed_out(line, store, run, at, batches)
    progress = wait(line, run, handed)
    assert progress.waiting == progress.begun == ()
    assert {code for code, _ in progress.ended.values()} == {0}
    assert sorted(log.numbers) == list(range(120))
    assert collect(line, store, run).no_result == 0


def test_an_order_that_comes_again_after_its_end_sends_nothing(line: Bus, store: Store, log: Log, fleet: Fleet) -> None:
    run = "fleet-twice"
    at, [batch, *_] = publish(line, store, run, plan(log.url), [case(1), case(2)])
    again = order(run, plan=str(at), batch=str(batch), results=positions_text(store.positions(run)))
    ready(fleet)
    for _ in range(2):
        line.orders.publish([(0, again)])
    last = order(run, id="last", plan=str(at), batch=str(batch), results=again.results, try_number=2)
    line.orders.publish([(0, last)])
    until(lambda: any(ended.order == "last" and isinstance(ended, Ended) for ended in outcomes(line, run)), "no end")
    assert len(log.numbers) == batch.end - batch.first
    ends = [ended.text for ended in outcomes(line, run) if isinstance(ended, Ended)]
    assert len(ends) == 2 and "judged before; 0 requests" in ends[1], "a second try looks for what was judged"


def test_what_is_no_order_goes_to_the_dead_letters_and_the_fleet_goes_on(
    line: Bus, store: Store, log: Log, fleet: Fleet
) -> None:
    run = "fleet-hostile"
    good = msgspec.to_builtins(order(run))
    hostile: list[tuple[bytes, str]] = [
        (b"", run),
        (b"{", run),
        (b"\xff\xfe", run),
        (msgspec.json.encode(good | {"batch": "testops.cases:0:-2-1"}), run),
        (msgspec.json.encode(good | {"plan": "../../etc/passwd"}), run),
        (msgspec.json.encode(good | {"results": "0:x"}), run),
        (msgspec.json.encode(good | {"partitions": []}), run),
        (msgspec.json.encode(good | {"partitions": [1]}), run),
        (msgspec.json.encode(good | {"expires": "2030-01-01T00:00:00"}), run),
        (msgspec.json.encode(good | {"expires": "soon"}), run),
        (msgspec.json.encode(good | {"command": "rm"}), run),
        (msgspec.json.encode(good), "another-run"),
    ]
    before = len(line.dead_letters.read())
    producer = Producer({"bootstrap.servers": line.bootstrap})
    for data, header in hostile:
        producer.produce(line.topics.batches, data, partition=0, headers=[("run", header.encode())])
    producer.flush(30)
    at, batches = publish(line, store, run, plan(log.url), [case(number) for number in range(20)])
    ready(fleet)
    progress = wait(line, run, handed_out(line, store, run, at, batches))
    assert {code for code, _ in progress.ended.values()} == {0}
    until(lambda: len(line.dead_letters.read()) == before + len(hostile), "some are missing", 30)
    assert {letter.topic for letter in line.dead_letters.read()[before:]} == {line.topics.batches}


def test_an_order_that_expired_is_told_and_not_executed(line: Bus, store: Store, log: Log, fleet: Fleet) -> None:
    run = "fleet-expired"
    at, [batch, *_] = publish(line, store, run, plan(log.url), [case(1)])
    late = datetime.now(UTC) - timedelta(seconds=1)
    line.orders.publish([(0, order(run, plan=str(at), batch=str(batch), expires=late))])
    ready(fleet)
    until(lambda: outcomes(line, run), "nothing was said")
    [ended] = outcomes(line, run)
    assert isinstance(ended, Ended) and ended.code == 1 and "expired" in ended.text
    assert log.numbers == []


def test_an_order_that_is_withdrawn_is_not_executed(line: Bus, store: Store, log: Log, fleet: Fleet) -> None:
    run = "fleet-withdrawn"
    at, _ = publish(line, store, run, plan(log.url), [case(number) for number in range(20)])
    batches = line.cases.publish(run, [case(number) for number in range(20, 40)], max_records=5)
    handed = handed_out(line, store, run, at, batches)
    withdraw(run, handed.orders, Settings(kafka_bootstrap=line.bootstrap))
    other = handed_out(line, store, run, at, batches[:1])
    ready(fleet)
    assert {code for code, _ in wait(line, run, other).ended.values()} == {0}
    assert len(log.numbers) == len(list(line.cases.ids(batches[0], run)))
    assert {text for _, text in wait(line, run, handed).ended.values()} == {"withdrawn by Airflow"}


def test_an_order_that_its_runners_do_not_survive_is_given_up(line: Bus, store: Store, log: Log, fleet: Fleet) -> None:
    run = "fleet-poison"
    at, [batch, *_] = publish(line, store, run, plan(log.url), [case(1)])
    poison = order(run, plan=str(at), batch=str(batch))
    line.outcomes.publish(*(Taken(order=poison.id, run=run, member=f"dead-{number}") for number in range(MAX_CRASHES)))
    line.orders.publish([(0, poison)])
    ready(fleet)
    until(lambda: any(isinstance(ended, Ended) for ended in outcomes(line, run)), "nothing was said")
    ended = outcomes(line, run)[-1]
    assert ended.code == 1 and "did not live to say" in ended.text
    assert log.numbers == []


def test_what_a_retry_would_not_help_is_told_so(line: Bus, store: Store, log: Log, fleet: Fleet) -> None:
    run = "fleet-refused"
    at, batches = publish(line, store, run, plan(f"{log.url}?query"), [case(1)])
    ready(fleet)
    progress = wait(line, run, handed_out(line, store, run, at, batches))
    assert {code for code, _ in progress.ended.values()} == {2}
    assert "has a query" in next(iter(progress.ended.values()))[1]


def test_a_runner_told_to_end_finishes_what_is_in_flight_and_another_does_the_rest(
    line: Bus, store: Store, log: Log, fleet: Fleet
) -> None:
    run, cases = "fleet-drain", [case(number) for number in range(120)]
    at, batches = publish(line, store, run, plan(log.url, requests_per_second=30), cases)
    [first] = ready(fleet)
    handed = handed_out(line, store, run, at, batches)
    until(lambda: len(log.numbers) > 20, "it does not work")
    first.child.send(signal.SIGTERM)
    assert first.child.wait(30) == 0
    assert len(log.numbers) < 120, "it was too late to give anything back"
    fleet.runners.remove(first)
    ready(fleet)
    progress = wait(line, run, handed)
    assert {code for code, _ in progress.ended.values()} == {0}
    assert any("judged before" in text for _, text in progress.ended.values())
    assert sorted(log.numbers) == list(range(120)), "sent once each"
    assert collect(line, store, run).no_result == 0
    assert store.progress(run).by_verdict == {"passed": 120}


def test_while_a_fleet_grows_the_rate_holds_and_nothing_is_sent_twice(
    line: Bus, store: Store, log: Log, fleet: Fleet
) -> None:
    run, rate = "fleet-grows", 25
    cases = [case(number) for number in range(250)]
    at, _ = publish(line, store, run, plan(log.url, requests_per_second=rate), cases)
    batches = line.cases.publish(run, cases, max_records=30)
    ready(fleet)
    handed = handed_out(line, store, run, at, batches)
    until(lambda: len(log.numbers) > 30, "it does not work")
    begun, before = time.monotonic(), len(log.numbers)
    ready(fleet, 2)
    progress = wait(line, run, handed)
    sent, elapsed_s = len(log.numbers) - before, time.monotonic() - begun
    assert {code for code, _ in progress.ended.values()} == {0}
    assert Counter(log.numbers).most_common(1)[0][1] == 1
    assert len(log.numbers) == 250
    # What was booked before a share changed may still come at the old pace: a request for each case at once.
    assert sent <= rate * elapsed_s + plan("").policy.concurrency


def test_when_a_runner_is_killed_another_does_the_rest(line: Bus, store: Store, log: Log, fleet: Fleet) -> None:
    run, cases = "fleet-killed", [case(number) for number in range(120)]
    at, batches = publish(line, store, run, plan(log.url, requests_per_second=40), cases)
    [first] = ready(fleet)
    handed = handed_out(line, store, run, at, batches)
    until(lambda: len(log.numbers) > 20, "it does not work")
    fleet.kill(first)
    fleet.add()
    progress = wait(line, run, handed)
    assert {code for code, _ in progress.ended.values()} == {0}
    times = Counter(log.numbers)
    assert sorted(times) == list(range(120))
    assert sum(times.values()) - len(times) <= plan("").policy.concurrency, "what was in flight"
    assert collect(line, store, run).no_result == 0
    assert store.progress(run).by_verdict == {"passed": 120}


def test_a_second_try_orders_only_batches_with_a_case_that_has_no_verdict(
    line: Bus, store: Store, log: Log, fleet: Fleet
) -> None:
    run, cases = "fleet-retry", [case(number) for number in range(60)]
    at, _ = publish(line, store, run, plan(log.url), cases)
    batches = line.cases.publish(run, cases, max_records=10)
    first = handed_out(line, store, run, at, batches[:2])
    ready(fleet)
    assert {code for code, _ in wait(line, run, first).ended.values()} == {0}
    second = handed_out(line, store, run, at, batches, try_number=2)
    assert sorted(second.orders.values()) == sorted(map(str, batches[2:]))
    assert {code for code, _ in wait(line, run, second).ended.values()} == {0}
    assert handed_out(line, store, run, at, batches, try_number=3).orders == {}
    assert sorted(log.numbers) == list(range(60))


def test_a_fleet_runner_says_how_it_is(line: Bus, store: Store, log: Log, fleet: Fleet) -> None:
    run = "fleet-metrics"
    log.fail = {3}
    at, batches = publish(line, store, run, plan(log.url), [case(number) for number in range(10)])
    [fleet_runner] = ready(fleet)
    wait(line, run, handed_out(line, store, run, at, batches))
    until(lambda: "order_in_work 0.0" in fleet_runner.get("/metrics")[1], "it works on")
    status, text = fleet_runner.get("/metrics")
    metrics = dict(row.rsplit(" ", 1) for row in text.splitlines() if not row.startswith("#"))
    assert status == 200
    assert float(metrics['testops_runner_cases_total{verdict="passed"}']) == 9
    assert float(metrics['testops_runner_cases_total{verdict="failed"}']) == 1
    assert float(metrics["testops_runner_requests_total"]) == 10
    assert float(metrics['testops_runner_orders_total{outcome="done"}']) == len(batches)
    assert float(metrics["testops_runner_assigned_partitions"]) == 12
    assert float(metrics["testops_runner_seconds_since_poll"]) < 5
    assert 'testops_runner_build_info{version="source"}' in metrics
    assert fleet_runner.get("/live")[0] == 200
    assert fleet_runner.get("/other")[0] == 404


@pytest.mark.chaos
def test_a_fleet_runner_is_unready_while_kafka_is_away_and_ready_when_it_is_back(
    breakable_kafka: Kafka, tmp_path: Path
) -> None:
    bootstrap = breakable_kafka.start()
    with Bus(bootstrap, timeout_s=60) as bus:
        bus.create_topics(partitions=2)
    fleet = Fleet(tmp_path / "fleet", {"TESTOPS_KAFKA_BOOTSTRAP": bootstrap})
    try:
        fleet_runner, other = ready(fleet, 2)
        breakable_kafka.kill(1)
        fleet_runner.wait_ready(False)
        assert fleet_runner.get("/live")[0] == 200, "it need not be started again"
        other.child.send(signal.SIGTERM)
        assert other.child.wait(40) == 0, "it can end meanwhile"
        breakable_kafka.start()
        fleet_runner.wait_ready()
        assert fleet_runner.is_running
    finally:
        breakable_kafka.start()
        fleet.stop()


def test_a_fleet_runner_whose_port_is_taken_says_so(kafka: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        code, _, err = outcome(runner(kafka, "--group", "g", "--port", port))
    assert code == 2 and port in err and "Traceback" not in err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--run", "r", "--plan", "p:0:0-1"], "--batch"),
        (["--group", "g", "--run", "r"], "--group"),
        (["--group", "g", "--port", "70000"], "--port"),
    ],
)
def test_a_command_line_that_makes_no_sense_is_refused(arguments: list[str], said: str) -> None:
    code, _, err = outcome(runner("127.0.0.1:1", *arguments))
    assert code == 2 and said in err


def test_the_image_asks_a_fleet_runner_and_trusts_a_batch(fleet: Fleet, tmp_path: Path, line: Bus) -> None:
    command = tmp_path / "cmdline"

    def healthy(*words: str) -> int:
        command.write_bytes("\0".join(["python", "-m", "runner", *words, ""]).encode())
        return health.main(command)

    [fleet_runner] = ready(fleet)
    port = fleet_runner.child.log.read_text().partition("/live")[0].rpartition(":")[2]
    assert healthy("--run", "r", "--plan", "p", "--batch", "b") == 0
    assert healthy("--group", "g", "--port", port) == healthy("--group=g", f"--port={port}") == 0
    fleet.stop()
    assert healthy("--group", "g", "--port", port) == 1
    assert healthy("--group", "g", "--port") == 1
    assert health.main(tmp_path / "missing") == 1
