"""Three brokers, replication 3, two acknowledge: one of them is killed midway, and nothing is lost or doubled."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from confluent_kafka.admin import AdminClient, ConfigResource

from stack.kafka import Kafka
from testops_lib.bus.client import Bus
from testops_lib.bus.topics import Topics
from testops_lib.model import Batch, Case, Result
from testops_lib.run.collect import collect
from testops_lib.store import Store
from tests.testops_lib.bus.records import some_cases

COUNT = 6000

pytestmark = [pytest.mark.integration, pytest.mark.kafka, pytest.mark.chaos]


@pytest.fixture(scope="module")
def three_brokers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kafka]:
    with Kafka(tmp_path_factory.mktemp("three-brokers"), brokers=3, durable=False) as server:
        yield server


@pytest.fixture
def bus(three_brokers: Kafka, new_topics: Callable[[], Topics]) -> Iterator[Bus]:
    """Topics of four partitions; every broker is there."""
    with Bus(three_brokers.start(), topics=new_topics(), timeout_s=60) as made:
        made.create_topics(partitions=4, replication=3)
        yield made


def test_topics_have_three_copies_and_two_must_acknowledge(bus: Bus) -> None:
    admin = AdminClient({"bootstrap.servers": bus.bootstrap})
    metadata = admin.list_topics(timeout=20)
    assert len(metadata.brokers) == 3
    for topic in (bus.topics.cases, bus.topics.plans, bus.topics.results, bus.topics.dead_letters):
        assert {len(partition.replicas) for partition in metadata.topics[topic].partitions.values()} == {3}
        about = ConfigResource(ConfigResource.Type.TOPIC, topic)
        assert admin.describe_configs([about])[about].result(20)["min.insync.replicas"].value == "2"


def test_a_broker_killed_midway_loses_nothing_and_doubles_nothing(three_brokers: Kafka, bus: Bus, store: Store) -> None:
    cases, run = some_cases(COUNT), "run-1"
    store.open_run(run, "shop")
    positions = bus.results.position()

    def published_with_a_kill() -> Iterator[Case]:
        for number, case in enumerate(cases):
            if number == COUNT // 3:
                time.sleep(0.2)  # some are acknowledged …
            if number == COUNT // 2:
                three_brokers.kill(1)  # … and some are on their way
            yield case

    batches = bus.cases.publish(run, published_with_a_kill(), max_records=500)
    store.mark_published(run, [case.id for case in cases], positions=positions, batches=batches)
    assert not three_brokers.is_running
    assert three_brokers.start() == bus.bootstrap

    read: Counter[str] = Counter()
    midway = threading.Event()

    def execute(batch: Batch) -> None:
        with bus.results.writer() as writer:
            for case in bus.cases.read(batch, run, deadline_s=60):
                writer.write(Result(run=run, case=case.id, case_name=case.name, verdict="passed"))
                read[case.id] += 1
                if len(read) > COUNT // 2:
                    midway.set()
                time.sleep(0.0005)

    with ThreadPoolExecutor(4) as pool:
        executed = [pool.submit(execute, batch) for batch in batches]
        assert midway.wait(120)
        three_brokers.kill(2)
        assert len(read) < COUNT, "the kill came after the run"
        for execution in executed:
            execution.result(120)
    assert read == Counter(case.id for case in cases)
    counts = collect(bus, store, run)
    assert (counts.published, counts.stored, counts.no_result) == (COUNT, COUNT, 0)
    assert store.progress(run).by_verdict == {"passed": COUNT}
    assert sorted(result.case for result in store.results(run)) == sorted(case.id for case in cases)
