from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Iterator

import msgspec
import pytest
from confluent_kafka import TopicPartition
from confluent_kafka.admin import AdminClient

from stack.kafka import Kafka
from testops_lib.bus.client import Bus
from testops_lib.errors import BusError, ExpiredBatchError
from testops_lib.model import (
    Case,
)
from tests.testops_lib.bus.records import await_records, dead_letters, raw, read_all, some_cases

pytestmark = pytest.mark.integration


def test_each_published_case_is_read_once_whole_and_in_sequence(bus: Bus) -> None:
    cases = some_cases(500)
    batches = bus.cases.publish("run-1", cases, max_records=60)
    read = [case for batch in batches for case in bus.cases.read(batch, "run-1", deadline_s=20)]
    assert {case.id: case for case in read} == {case.id: case for case in cases}
    assert len(read) == len(cases)
    assert len(batches) >= 500 / 60
    assert len({batch.partition for batch in batches}) == 2
    numbers = {case.id: number for number, case in enumerate(cases)}
    for batch in batches:
        order = [numbers[case.id] for case in bus.cases.read(batch, "run-1", deadline_s=20)]
        assert order == sorted(order) and len(order) <= 60


def test_a_batch_read_again_gives_the_same_cases(bus: Bus) -> None:
    batch, *_ = bus.cases.publish("run-1", some_cases(20))
    bus.cases.publish("run-1", some_cases(40))
    assert read_all(bus, [batch], "run-1") == read_all(bus, [batch], "run-1") != []


def test_records_of_other_runs_are_skipped(bus: Bus) -> None:
    ours, others = some_cases(30)[:15], some_cases(30)[15:]

    def while_another_run_publishes() -> Iterator[Case]:
        for number, case in enumerate(ours):
            if number == 7:
                await_records(bus, bus.topics.cases, 7)
                bus.cases.publish("theirs", others)
            yield case

    batches = bus.cases.publish("ours", while_another_run_publishes())
    assert sum(batch.end - batch.first for batch in batches) > len(ours), "nothing of the other run lies in between"
    assert Counter(read_all(bus, batches, "ours")) == Counter(case.id for case in ours)
    assert dead_letters(bus) == []


def test_batches_are_cut_by_bytes(bus: Bus) -> None:
    batches = bus.cases.publish("run-1", some_cases(10, body="x" * 300_000), max_bytes=700_000)
    assert len(batches) >= 5
    assert len(read_all(bus, batches, "run-1")) == 10


def test_no_case_gives_no_batch(bus: Bus) -> None:
    assert bus.cases.publish("run-1", []) == []


def test_a_case_too_large_for_a_record_is_refused_by_name(bus: Bus) -> None:
    [case] = some_cases(1, body="x" * 9_000_000)
    with pytest.raises(BusError, match=case.id):
        bus.cases.publish("run-1", [case])


def test_malformed_records_go_to_the_dead_letters_as_they_were(bus: Bus) -> None:
    values = [b"{not json", b'{"id": "1"}', b"", None, b"\xff\xfe\x00", b'{"unknown": 1}']
    first = bus.cases.publish("run-1", some_cases(1))[0]
    bad = [raw(bus, bus.topics.cases, value, run="run-1", partition=first.partition) for value in values]
    around = msgspec.structs.replace(first, end=bad[-1].end)
    assert read_all(bus, [around], "run-1") == [some_cases(1)[0].id]
    letters = dead_letters(bus)
    assert [data for data, _ in letters] == [value or b"" for value in values]
    for batch, (_, headers) in zip(bad, letters, strict=True):
        assert headers.pop("reason")
        assert headers == {
            "topic": batch.topic,
            "partition": str(batch.partition),
            "offset": str(batch.first),
            "run": "run-1",
        }


def test_a_record_without_run_goes_to_the_dead_letters(bus: Bus) -> None:
    batch = raw(bus, bus.topics.cases, msgspec.json.encode(some_cases(1)[0]), run=None)
    assert read_all(bus, [batch], "run-1") == []
    assert "run" in dead_letters(bus)[0][1]["reason"]


def test_an_expired_batch_gives_a_clear_error(bus: Bus) -> None:
    batches = bus.cases.publish("run-1", some_cases(40), max_records=10)
    batch = max(batches, key=lambda batch: batch.first)
    admin = AdminClient({"bootstrap.servers": bus.bootstrap})
    gone = admin.delete_records([TopicPartition(batch.topic, batch.partition, batch.first + 1)])
    [done.result(20) for done in gone.values()]
    with pytest.raises(ExpiredBatchError, match=rf"(?s){batch}: .*publish"):
        read_all(bus, [batch], "run-1")


@pytest.mark.parametrize("beyond", [0, 1000])
def test_a_batch_that_the_topic_does_not_reach_is_expired(bus: Bus, beyond: int) -> None:
    batch = bus.cases.publish("run-1", some_cases(10))[0]
    batch = msgspec.structs.replace(batch, first=batch.first + beyond, end=batch.end + beyond + 5)
    with pytest.raises(ExpiredBatchError):
        list(bus.cases.read(batch, "run-1", deadline_s=1))


@pytest.mark.chaos
def test_killing_the_broker_while_publishing_loses_nothing_and_doubles_nothing(
    breakable_kafka: Kafka, breakable_bus: Bus
) -> None:
    cases = some_cases(3000)
    back = threading.Thread(target=breakable_kafka.start)

    def with_a_crash() -> Iterator[Case]:
        for number, case in enumerate(cases):
            if number == 1000:
                time.sleep(0.2)  # some are acknowledged …
            if number == 2000:
                breakable_kafka.kill(1)  # … and some are on their way
                back.start()
            yield case

    batches = breakable_bus.cases.publish("run-1", with_a_crash(), max_records=500)
    back.join(60)
    assert Counter(read_all(breakable_bus, batches, "run-1")) == Counter(case.id for case in cases)
