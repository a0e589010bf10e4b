from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import psycopg
import pytest

from stack.kafka import Kafka
from testops_lib.bus.client import Bus
from testops_lib.errors import BusError, StoreError
from testops_lib.model import Result, VerdictName
from testops_lib.run.collect import Counts, collect, follow
from testops_lib.store import Store

pytestmark = pytest.mark.integration


def ids(count: int) -> list[str]:
    return [f"case-{number:04}" for number in range(count)]


def publish(bus: Bus, store: Store, cases: list[str], *, run: str = "r") -> None:
    """As if these cases were published."""
    store.open_run(run, "shop")
    store.mark_published(run, cases, positions=bus.results.position(), topic=bus.results.topic_id())


def write(bus: Bus, cases: list[str], *, run: str = "r", verdict: VerdictName = "passed", reason: str = "") -> None:
    with bus.results.writer() as writer:
        for case in cases:
            writer.write(Result(run=run, case=case, verdict=verdict, reason=reason))


@contextmanager
def following(bus: Bus, dsn: str, *, run: str | None = None) -> Iterator[None]:
    stop = threading.Event()
    own = Store(dsn)
    thread = threading.Thread(target=follow, args=(bus, own), kwargs={"stop": stop.is_set, "run": run})
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join(20)
        own.close()
        assert not thread.is_alive()


def eventually(holds: Callable[[], bool], *, within_s: float = 20) -> None:
    deadline = time.monotonic() + within_s
    while not holds():
        assert time.monotonic() < deadline, "it did not come to hold"
        time.sleep(0.05)


def test_collecting_stores_what_came_and_closes_what_did_not(bus: Bus, store: Store) -> None:
    write(bus, ids(5), run="earlier")
    publish(bus, store, ids(100))
    write(bus, ids(97))
    write(bus, ids(10), run="foreign")
    assert collect(bus, store, "r") == Counts(published=100, stored=97, no_result=3)
    assert {one.case: one.reason for one in store.results("r") if one.verdict == "errored"} == {
        case: "no_result" for case in ids(100)[97:]
    }


def test_collecting_again_changes_nothing(bus: Bus, store: Store) -> None:
    publish(bus, store, ids(20))
    write(bus, ids(19))
    write(bus, ids(19))
    first = collect(bus, store, "r")
    results = list(store.results("r"))
    assert collect(bus, store, "r") == first == Counts(published=20, stored=19, no_result=1)
    assert list(store.results("r")) == results and len(results) == 20


def test_a_result_after_the_closing_takes_its_place(bus: Bus, store: Store) -> None:
    publish(bus, store, ids(2))
    write(bus, ids(1))
    assert collect(bus, store, "r").no_result == 1
    write(bus, ids(2), verdict="errored", reason="timeout")
    assert collect(bus, store, "r") == Counts(published=2, stored=2, no_result=0)
    assert [one.reason for one in store.results("r")] == ["", "timeout"]


def test_an_end_that_is_not_reached_closes_nothing(bus: Bus, store: Store) -> None:
    publish(bus, store, ids(3))
    write(bus, ids(1))
    with pytest.raises(BusError, match="not reached"):
        collect(bus, store, "r", deadline_s=0)
    away = Bus("127.0.0.1:9", timeout_s=0.3)
    with pytest.raises(BusError):
        collect(away, store, "r")
    assert list(store.results("r")) == []


def test_a_run_that_is_not_known_is_said(bus: Bus, store: Store) -> None:
    with pytest.raises(StoreError, match="absent"):
        collect(bus, store, "absent")


def test_following_and_collecting_at_once_give_each_case_one_result(bus: Bus, store: Store, postgres: str) -> None:
    publish(bus, store, ids(1500))
    with following(bus, postgres):
        for first in range(0, 1500, 300):
            write(bus, ids(1500)[first : first + 300])
        assert collect(bus, store, "r") == Counts(published=1500, stored=1500, no_result=0)
        eventually(lambda: store.progress("r").done == 1500)
    assert [one.case for one in store.results("r")] == ids(1500)


def test_following_shows_results_as_they_come(bus: Bus, store: Store, postgres: str) -> None:
    publish(bus, store, ids(4))
    with following(bus, postgres):
        for count in (1, 2):
            write(bus, ids(count))
            eventually(lambda count=count: store.progress("r").done == count)  # type: ignore[misc]


def test_a_following_collector_started_late_loses_nothing(bus: Bus, store: Store, postgres: str) -> None:
    publish(bus, store, ids(40))
    publish(bus, store, ids(40), run="other")
    write(bus, ids(30))
    write(bus, ids(30), run="other")
    with following(bus, postgres, run="r"):
        write(bus, ids(40)[30:])
        eventually(lambda: store.progress("r").done == 40)
    assert store.progress("other").done == 0
    with following(bus, postgres):
        eventually(lambda: store.progress("other").done == 30)


def test_following_survives_a_cut_database_connection(bus: Bus, store: Store, postgres: str) -> None:
    publish(bus, store, ids(20))
    with following(bus, postgres):
        write(bus, ids(10))
        eventually(lambda: store.progress("r").done == 10)
        with psycopg.connect(postgres, autocommit=True) as other:
            other.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'testops'")
        write(bus, ids(20)[10:])
        with Store(postgres) as fresh:
            eventually(lambda: fresh.progress("r").done == 20)


@pytest.mark.chaos
def test_following_survives_a_broker_that_is_killed(
    breakable_kafka: Kafka, breakable_bus: Bus, store: Store, postgres: str
) -> None:
    publish(breakable_bus, store, ids(20))
    with following(breakable_bus, postgres):
        write(breakable_bus, ids(10))
        eventually(lambda: store.progress("r").done == 10)
        breakable_kafka.kill(1)
        breakable_kafka.start()
        write(breakable_bus, ids(20)[10:])
        eventually(lambda: store.progress("r").done == 20)
    assert collect(breakable_bus, store, "r") == Counts(published=20, stored=20, no_result=0)
