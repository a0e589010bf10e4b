"""Kafka comes back empty: nothing that had a stored result is lost, nothing hangs, and the run is published again."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from stack.fleet import Fleet
from stack.kafka import Kafka
from stack.samples import Sample
from testops_lib.bus.client import Bus
from testops_lib.errors import BusError
from testops_lib.run.collect import Counts, collect
from testops_lib.store import Store
from tests.runner.test_runner import case, outcome, plan, runner
from tests.runner.test_runner import publish as publish_cases
from tests.runner.test_runner_fleet import handed_out, wait
from tests.testops_lib.run.test_collect import eventually, following, ids, publish, write

pytestmark = [pytest.mark.integration, pytest.mark.chaos]


@pytest.fixture(scope="module")
def losable_kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kafka]:
    with Kafka(tmp_path_factory.mktemp("losable-kafka"), durable=False) as server:
        yield server


@pytest.fixture
def losable_bus(losable_kafka: Kafka) -> Iterator[Bus]:
    with Bus(losable_kafka.bootstrap, timeout_s=20) as bus:
        bus.create_topics(partitions=1)
        yield bus


def lose(server: Kafka) -> None:
    """The broker dies, its disk is gone, and an empty one takes its place, without topics."""
    server.kill()
    shutil.rmtree(server.state / "broker-1" / "data")
    server.start()


def test_results_that_reach_the_new_topic_are_collected_wherever_the_old_one_stood(
    losable_kafka: Kafka, losable_bus: Bus, store: Store
) -> None:
    write(losable_bus, ids(10), run="earlier")
    publish(losable_bus, store, ids(30))
    [begin] = store.positions("r").values()
    lose(losable_kafka)
    losable_bus.create_topics(partitions=1)
    write(losable_bus, ids(30))
    assert 0 < begin < 30, "the old position stands amid the new results"
    assert collect(losable_bus, store, "r") == Counts(published=30, stored=30, no_result=0)


def test_a_fleet_goes_on_in_the_new_kafka(
    losable_kafka: Kafka, losable_bus: Bus, store: Store, sound_shop: Sample, tmp_path: Path
) -> None:
    fleet = Fleet(tmp_path, {"TESTOPS_KAFKA_BOOTSTRAP": losable_kafka.bootstrap, "TESTOPS_KAFKA_TIMEOUT_S": "20"})
    try:
        [standing] = fleet.add(1)
        standing.wait_ready()
        lose(losable_kafka)
        losable_bus.create_topics(partitions=1)
        cases = [case(number) for number in range(20)]
        at, batches = publish_cases(losable_bus, store, "fleet", plan(sound_shop.url), cases)
        handed = handed_out(losable_bus, store, "fleet", at, batches)
        assert wait(losable_bus, "fleet", handed).ended.keys() == {str(batch) for batch in batches}
        assert collect(losable_bus, store, "fleet") == Counts(published=20, stored=20, no_result=0)
        assert standing.is_running, "nobody has started another one"
    finally:
        fleet.stop()


def test_a_run_in_flight_keeps_its_stored_results_and_is_published_again(
    losable_kafka: Kafka, losable_bus: Bus, store: Store, postgres: str, sound_shop: Sample
) -> None:
    bus, address = losable_bus, losable_kafka.bootstrap
    publish(bus, store, ids(50), run="complete")
    write(bus, ids(50), run="complete")
    assert collect(bus, store, "complete").no_result == 0
    cases = [case(number) for number in range(150)]
    at, [batch] = publish_cases(bus, store, "lost", plan(sound_shop.url, requests_per_second=20), cases)
    arguments = ["--run", "lost", "--plan", str(at), "--batch", str(batch)]
    with following(bus, postgres):
        process = runner(address, *arguments, TESTOPS_KAFKA_TIMEOUT_S="5")
        eventually(lambda: store.progress("lost").done >= 20)
        lose(losable_kafka)
        stored = {result.case: result for result in store.results("lost")}
        assert 20 <= len(stored) < 150, "it was not lost midway"

        with pytest.raises(BusError, match="testops topics create"):
            collect(bus, store, "lost")
        bus.create_topics(partitions=1)
        code, _, errors = outcome(process, timeout=120)  # it goes on, or asks for a retry
        assert code in (0, 1), errors
        code, _, errors = outcome(runner(address, *arguments, TESTOPS_KAFKA_TIMEOUT_S="5"))
        assert code == 2 and "task `publish`" in errors, "no retry can help: the cases are gone"
        counts = collect(bus, store, "lost")
        assert counts.published == 150 and counts.no_result > 0, "what is lost is said"

        at, batches = publish_cases(bus, store, "lost", plan(sound_shop.url), cases)
        for batch in batches:
            again = ["--run", "lost", "--plan", str(at), "--batch", str(batch)]
            assert outcome(runner(address, *again))[0] == 0
        # Nobody has told the collector that follows.
        eventually(lambda: store.without_result("lost") == 0)
    assert collect(bus, store, "lost") == Counts(published=150, stored=150, no_result=0)
    results = {result.case: result for result in store.results("lost")}
    assert len(list(store.attempts("lost"))) == len(results) == 150
    assert {key: results[key] for key in stored} == stored, "a stored result stays"
    assert store.progress("complete").by_verdict == {"passed": 50}
