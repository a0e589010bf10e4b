"""Records for the tests of the bus, and ways past it into the topics."""

from __future__ import annotations

import time
from contextlib import suppress

from confluent_kafka import Consumer, KafkaException, Producer, TopicPartition

from testops_lib.bus.client import Bus
from testops_lib.model import (
    Batch,
    Case,
    Provenance,
    Request,
    Result,
    Step,
    make_case,
)


def some_cases(count: int, *, body: str = "") -> list[Case]:
    return [
        make_case(
            name=f"case {number}",
            intent="positive",
            operation="GET /pets/{id}",
            origin=Provenance(source="rules"),
            steps=(Step(operation="GET /pets/{id}", request=Request(method="GET", path=f"/pets/{number}{body}")),),
        )
        for number in range(count)
    ]


def raw(bus: Bus, topic: str, value: bytes | None, *, run: str | None, partition: int = 0) -> Batch:
    """A record put there past our own code; the batch that holds it."""
    offsets: list[int] = []
    producer = Producer({"bootstrap.servers": bus.bootstrap})
    producer.produce(
        topic,
        value,
        partition=partition,
        headers=[("run", run.encode())] if run is not None else None,
        on_delivery=lambda error, message: offsets.append(message.offset()),
    )
    producer.flush(30)
    return Batch(topic=topic, partition=partition, first=offsets[0], end=offsets[0] + 1)


def dead_letters(bus: Bus) -> list[tuple[bytes, dict[str, str]]]:
    bus.close()
    consumer = Consumer({"bootstrap.servers": bus.bootstrap, "group.id": "test", "enable.partition.eof": True})
    consumer.assign([TopicPartition(bus.topics.dead_letters, 0, 0)])
    letters = []
    while (message := consumer.poll(10)) is not None and message.error() is None:
        letters.append((message.value(), {name: value.decode() for name, value in message.headers()}))
    consumer.close()
    return letters


def await_records(bus: Bus, topic: str, count: int) -> None:
    """Returns when both partitions together hold so many records."""
    consumer = Consumer({"bootstrap.servers": bus.bootstrap, "group.id": "test"})
    deadline = time.monotonic() + 20
    there = 0
    while there < count:
        assert time.monotonic() < deadline, there
        time.sleep(0.02)
        with suppress(KafkaException):  # a topic just made may have no leader for a moment
            there = sum(consumer.get_watermark_offsets(TopicPartition(topic, at), 20)[1] for at in (0, 1))
    consumer.close()


def read_all(bus: Bus, batches: list[Batch], run: str) -> list[str]:
    return [case.id for batch in batches for case in bus.cases.read(batch, run, deadline_s=20)]


def result(number: int, *, run: str = "run-1", **more: object) -> Result:
    return Result(run=run, case=f"case-{number}", verdict="passed", **more)  # type: ignore[arg-type]
