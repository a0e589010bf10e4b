from __future__ import annotations

import threading
import time
from operator import attrgetter

import msgspec
import pytest
from confluent_kafka.admin import AdminClient, AlterConfigOpType, ConfigEntry, ConfigResource

from testops_lib.bus.client import Bus
from testops_lib.bus.topics import MAX_RESULT_BYTES
from testops_lib.errors import BusError
from testops_lib.model import (
    Failure,
    RequestEvidence,
    StepOutcome,
)
from tests.testops_lib.bus.records import dead_letters, raw, result

pytestmark = pytest.mark.integration


def test_results_are_read_from_a_position_to_the_end(bus: Bus) -> None:
    with bus.results.writer() as writer:
        for number in range(50):
            writer.write(result(number, run="earlier"))
    start = bus.results.position()
    assert sum(start.values()) == 50
    sent = [result(number, case_name="naïve \x00 name", elapsed_ms=1.5) for number in range(300)]
    with bus.results.writer() as writer:
        for result_sent in sent:
            writer.write(result_sent)
    reader = bus.results.read(start, max_records=100)
    lists = list(reader)
    assert sorted((read for results in lists for read in results), key=attrgetter("case")) == sorted(
        sent, key=attrgetter("case")
    )
    assert all(0 < len(results) <= 100 for results in lists)
    assert reader.complete and reader.positions == bus.results.position()
    assert list(bus.results.read(reader.positions)) == []
    assert sum(map(len, bus.results.read({}))) == 350


def test_results_of_one_run_can_be_asked_for(bus: Bus) -> None:
    with bus.results.writer() as writer:
        for number in range(10):
            writer.write(result(number, run=f"run-{number % 2}"))
    cases = [read.case for results in bus.results.read({}, run="run-1") for read in results]
    assert sorted(cases) == [f"case-{number}" for number in range(1, 10, 2)]


def test_a_malformed_result_goes_to_the_dead_letters(bus: Bus) -> None:
    raw(bus, bus.topics.results, b'{"kind":"result","verdict":"fine"}', run="run-1")
    with bus.results.writer() as writer:
        writer.write(result(1))
    assert [read.case for results in bus.results.read({}) for read in results] == ["case-1"]
    [(data, headers)] = dead_letters(bus)
    assert data == b'{"kind":"result","verdict":"fine"}' and headers["topic"] == bus.topics.results


def test_a_result_too_large_loses_its_evidence_and_then_its_further_failures(bus: Bus) -> None:
    sent = RequestEvidence(method="GET", url="/", body="x" * 1_500_000)
    step = StepOutcome(operation="GET /", status=500, request=sent)
    failure = Failure(check="status", operation="GET /", message="y" * 100_000)
    heavy = msgspec.structs.replace(result(1), verdict="failed", steps=(step,), failures=(failure,))
    heavier = msgspec.structs.replace(heavy, case="case-2", failures=(failure,) * 200)
    with bus.results.writer() as writer:
        writer.write(heavy)
        writer.write(heavier)
    kept = {read.case: read for results in bus.results.read({}) for read in results}
    assert kept["case-1"].steps == (StepOutcome(operation="GET /", status=500),)
    assert kept["case-1"].failures == (failure,)
    assert kept["case-2"].verdict == "failed" and len(kept["case-2"].failures) == 20
    assert len(msgspec.json.encode(kept["case-2"])) < MAX_RESULT_BYTES


def test_a_lone_surrogate_in_a_result_does_not_break_it(bus: Bus) -> None:
    hostile = msgspec.structs.replace(result(1), reason="got \ud800!")
    with bus.results.writer() as writer:
        writer.write(hostile)
    assert [read.reason for results in bus.results.read({}) for read in results] == ["got ?!"]


def test_following_goes_on_until_stopped(bus: Bus) -> None:
    stop, start = threading.Event(), bus.results.position()
    cases: list[str] = []

    def follow() -> None:
        for results in bus.results.read(start, follow=True, stop=stop.is_set):
            cases.extend(result.case for result in results)

    following = threading.Thread(target=follow)
    following.start()
    deadline = time.monotonic() + 30
    with bus.results.writer() as writer:
        for number in range(3):
            writer.write(result(number))
            writer.flush()
            while len(cases) <= number and time.monotonic() < deadline:
                time.sleep(0.01)
    stop.set()
    following.join(10)
    assert not following.is_alive()
    assert cases == ["case-0", "case-1", "case-2"]


def test_results_that_cannot_be_delivered_are_an_error(bus: Bus) -> None:
    with bus.results.writer() as writer:
        writer.write(result(0))
        writer.flush()
        admin = AdminClient({"bootstrap.servers": bus.bootstrap})
        small = ConfigEntry("max.message.bytes", "100", incremental_operation=AlterConfigOpType.SET)
        topic = ConfigResource(ConfigResource.Type.TOPIC, bus.topics.results, incremental_configs=[small])
        [done.result(20) for done in admin.incremental_alter_configs([topic]).values()]
        deadline = time.monotonic() + 20
        # The controller has it; the broker hears of it a moment later.
        while admin.describe_configs([topic])[topic].result(20)["max.message.bytes"].value != "100":
            assert time.monotonic() < deadline
            time.sleep(0.05)
        for number in range(1, 4):
            writer.write(result(number, reason="x" * 1000))
        with pytest.raises(BusError, match="3 of 3 records were not acknowledged"):
            writer.flush()
        writer.flush()
