from __future__ import annotations

import time

import pytest

from testops_lib.bus.client import Bus
from testops_lib.errors import BusError, ExpiredBatchError
from testops_lib.model import (
    Batch,
)
from tests.testops_lib.bus.records import read_all, some_cases

pytestmark = pytest.mark.integration


@pytest.mark.parametrize("place", ["absent:0:0-5", "{cases}:9:0-5"])
def test_a_missing_topic_or_partition_is_said_soon(bus: Bus, place: str) -> None:
    topic, partition, _ = place.format(cases=bus.topics.cases).split(":")
    begin = time.monotonic()
    with pytest.raises(BusError, match="no such topic") as error:
        list(bus.cases.read(Batch(topic=topic, partition=int(partition), first=0, end=5), "run-1", deadline_s=60))
    assert not isinstance(error.value, ExpiredBatchError)
    assert time.monotonic() - begin < 10


def test_brokers_that_are_away_are_said_within_the_deadline() -> None:
    batch = Batch(topic="testops.cases", partition=0, first=0, end=1)
    begin = time.monotonic()
    with Bus("127.0.0.1:9", timeout_s=0.5) as bus:
        calls = (
            lambda: list(bus.cases.read(batch, "run-1", deadline_s=0.5)),
            lambda: bus.cases.publish("run-1", some_cases(1)),
            lambda: bus.results.position(),
            lambda: bus.create_topics(),
            lambda: bus.results.writer(),
            lambda: list(bus.results.read({})),
        )
        for call in calls:
            with pytest.raises(BusError, match=r"127\.0\.0\.1:9"):
                call()
    assert time.monotonic() - begin < 10


def test_creating_topics_again_changes_nothing(bus: Bus) -> None:
    batches = bus.cases.publish("run-1", some_cases(3))
    bus.create_topics(partitions=7)
    assert len(read_all(bus, batches, "run-1")) == 3
    assert len(bus.results.position()) == 2
