from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from types import SimpleNamespace

import msgspec
import pytest
from confluent_kafka import Consumer, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, AlterConfigOpType, ConfigEntry, ConfigResource

from stack.kafka import Kafka
from testops_lib.bus.client import Bus
from testops_lib.bus.sending import Sender
from testops_lib.bus.topics import MAX_CONTRACT_BYTES, MAX_RESULT_BYTES
from testops_lib.errors import BusError, ExpiredBatchError
from testops_lib.model import (
    Batch,
    Case,
    Contract,
    Ended,
    Failure,
    HeaderContract,
    MediaContract,
    Plan,
    Policy,
    Provenance,
    Request,
    RequestEvidence,
    ResponseContract,
    Result,
    Returned,
    Step,
    StepOutcome,
    Taken,
    make_case,
)

pytestmark = pytest.mark.integration


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
    where: list[int] = []
    producer = Producer({"bootstrap.servers": bus.bootstrap})
    producer.produce(
        topic,
        value,
        partition=partition,
        headers=[("run", run.encode())] if run is not None else None,
        on_delivery=lambda error, message: where.append(message.offset()),
    )
    producer.flush(30)
    return Batch(topic=topic, partition=partition, first=where[0], end=where[0] + 1)


def dead_letters(bus: Bus) -> list[tuple[bytes, dict[str, str]]]:
    bus.close()
    consumer = Consumer({"bootstrap.servers": bus.bootstrap, "group.id": "test", "enable.partition.eof": True})
    consumer.assign([TopicPartition(bus.topics.dead_letters, 0, 0)])
    found = []
    while (message := consumer.poll(10)) is not None and message.error() is None:
        found.append((message.value(), {name: value.decode() for name, value in message.headers()}))
    consumer.close()
    return found


def await_records(bus: Bus, topic: str, count: int) -> None:
    """Returns when both partitions together hold so many records."""
    consumer = Consumer({"bootstrap.servers": bus.bootstrap, "group.id": "test"})
    deadline = time.monotonic() + 20
    there = 0
    while there < count:
        assert time.monotonic() < deadline, there
        time.sleep(0.02)
        with suppress(KafkaException):  # a topic just made may have no leader for a moment
            there = sum(consumer.get_watermark_offsets(TopicPartition(topic, one), 20)[1] for one in (0, 1))
    consumer.close()


def read_all(bus: Bus, batches: list[Batch], run: str) -> list[str]:
    return [case.id for batch in batches for case in bus.cases.read(batch, run, deadline_s=20)]


# --------------------------------------------------------------------------- cases


def test_each_published_case_is_read_once_whole_and_in_order(bus: Bus) -> None:
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
    ours, theirs = some_cases(30)[:15], some_cases(30)[15:]

    def while_another_run_publishes() -> Iterator[Case]:
        for number, case in enumerate(ours):
            if number == 7:
                await_records(bus, bus.topics.cases, 7)
                bus.cases.publish("theirs", theirs)
            yield case

    batches = bus.cases.publish("ours", while_another_run_publishes())
    assert sum(batch.end - batch.first for batch in batches) > len(ours), "nothing of the other run lies in between"
    assert Counter(read_all(bus, batches, "ours")) == Counter(case.id for case in ours)
    assert dead_letters(bus) == []


class Forgetful:
    """A producer whose broker has a record already and does not say where, the first `times` times."""

    def __init__(self, times: int) -> None:
        self.times, self.produced = times, 0
        self.reports: list[Callable[[], None]] = []

    def produce(self, topic: str, data: bytes, *, on_delivery: Callable[..., None], **_: object) -> None:
        self.produced += 1
        offset = None if self.produced <= self.times else self.produced
        self.reports.append(lambda: on_delivery(None, SimpleNamespace(offset=lambda: offset, partition=lambda: 0)))

    def poll(self, _: float) -> None:
        pass

    def flush(self, _: float) -> int:
        reports, self.reports = self.reports, []
        for report in reports:
            report()
        return 0


def test_a_record_that_the_broker_does_not_place_is_sent_again(bus: Bus) -> None:
    placed: list[int | None] = []
    with Sender(bus.connection, Forgetful(2), 5) as sender:  # type: ignore[arg-type]
        for _ in range(3):
            sender.send("t", b"x", key=None, delivered=lambda message: placed.append(message.offset()))
    assert sorted(map(str, placed)) == ["3", "4", "5"], "each has a place of its own"
    with pytest.raises(BusError, match="do not say where"), Sender(bus.connection, Forgetful(99), 5) as sender:  # type: ignore[arg-type]
        sender.send("t", b"x", key=None, delivered=lambda message: placed.append(message.offset()))


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
    for one, (_, headers) in zip(bad, letters, strict=True):
        assert headers.pop("reason")
        assert headers == {
            "topic": one.topic,
            "partition": str(one.partition),
            "offset": str(one.first),
            "run": "run-1",
        }


def test_a_record_without_run_goes_to_the_dead_letters(bus: Bus) -> None:
    batch = raw(bus, bus.topics.cases, msgspec.json.encode(some_cases(1)[0]), run=None)
    assert read_all(bus, [batch], "run-1") == []
    assert "run" in dead_letters(bus)[0][1]["reason"]


def test_an_expired_batch_gives_a_clear_error(bus: Bus) -> None:
    batches = bus.cases.publish("run-1", some_cases(40), max_records=10)
    batch = max(batches, key=lambda one: one.first)
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


# --------------------------------------------------------------------------- plans

PLAN = Plan(target="shop", base_url="http://127.0.0.1:1", policy=Policy(cases_per_batch=7))


def contract(number: int, *, schema: object = True) -> Contract:
    content = {"application/json": MediaContract(schema=schema)}
    headers = {"X-Total": HeaderContract(required=True, schema={"type": "integer"})}
    return Contract(
        operation=f"GET /things/{number}", responses={"200": ResponseContract(content=content, headers=headers)}
    )


def test_a_plan_comes_back_whole(bus: Bus) -> None:
    contracts = [contract(number, schema={"type": "object", "title": "é" * number}) for number in range(300)]
    bus.plans.publish("other", PLAN, contracts)
    batch = bus.plans.publish("run-1", PLAN, contracts)
    assert bus.plans.read(batch, "run-1") == (PLAN, {one.operation: one for one in contracts})
    assert bus.plans.read(bus.plans.publish("bare", PLAN, []), "bare") == (PLAN, {})


def test_a_contract_too_large_is_published_without_schemas(bus: Bus) -> None:
    large = contract(1, schema={"enum": ["x" * MAX_CONTRACT_BYTES]})
    _, contracts = bus.plans.read(bus.plans.publish("run-1", PLAN, [large, contract(2)]), "run-1")
    assert contracts["GET /things/2"] == contract(2)
    kept = contracts["GET /things/1"].responses["200"]
    assert kept.content == {"application/json": MediaContract()}
    assert kept.headers == {"X-Total": HeaderContract(required=True)}


def test_a_plan_of_another_run_is_refused(bus: Bus) -> None:
    batch = bus.plans.publish("run-1", PLAN, [])
    with pytest.raises(BusError, match="run-2"):
        bus.plans.read(batch, "run-2")


def test_a_malformed_plan_is_refused(bus: Bus) -> None:
    batch = raw(bus, bus.topics.plans, b'{"kind": "plan"}', run="run-1")
    with pytest.raises(BusError, match="neither plan nor contract"):
        bus.plans.read(batch, "run-1")


# --------------------------------------------------------------------------- results


def result(number: int, *, run: str = "run-1", **more: object) -> Result:
    return Result(run=run, case=f"case-{number}", verdict="passed", **more)  # type: ignore[arg-type]


def test_results_are_read_from_a_position_to_the_end(bus: Bus) -> None:
    with bus.results.writer() as writer:
        for number in range(50):
            writer.write(result(number, run="earlier"))
    start = bus.results.position()
    assert sum(start.values()) == 50
    sent = [result(number, case_name="naïve \x00 name", elapsed_ms=1.5) for number in range(300)]
    with bus.results.writer() as writer:
        for one in sent:
            writer.write(one)
    reader = bus.results.read(start, max_records=100)
    lists = list(reader)
    assert sorted((one for part in lists for one in part), key=lambda one: one.case) == sorted(
        sent, key=lambda one: one.case
    )
    assert all(0 < len(part) <= 100 for part in lists)
    assert reader.complete and reader.positions == bus.results.position()
    assert list(bus.results.read(reader.positions)) == []
    assert sum(map(len, bus.results.read({}))) == 350


def test_results_of_one_run_can_be_asked_for(bus: Bus) -> None:
    with bus.results.writer() as writer:
        for number in range(10):
            writer.write(result(number, run=f"run-{number % 2}"))
    found = [one for part in bus.results.read({}, run="run-1") for one in part]
    assert sorted(one.case for one in found) == [f"case-{number}" for number in range(1, 10, 2)]


def test_a_malformed_result_goes_to_the_dead_letters(bus: Bus) -> None:
    raw(bus, bus.topics.results, b'{"kind":"result","verdict":"fine"}', run="run-1")
    with bus.results.writer() as writer:
        writer.write(result(1))
    assert [one.case for part in bus.results.read({}) for one in part] == ["case-1"]
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
    read = {one.case: one for part in bus.results.read({}) for one in part}
    assert read["case-1"].steps == (StepOutcome(operation="GET /", status=500),)
    assert read["case-1"].failures == (failure,)
    assert read["case-2"].verdict == "failed" and len(read["case-2"].failures) == 20
    assert len(msgspec.json.encode(read["case-2"])) < MAX_RESULT_BYTES


def test_a_lone_surrogate_in_a_result_does_not_break_it(bus: Bus) -> None:
    hostile = msgspec.structs.replace(result(1), reason="got \ud800!")
    with bus.results.writer() as writer:
        writer.write(hostile)
    assert [one.reason for part in bus.results.read({}) for one in part] == ["got ?!"]


def test_following_goes_on_until_stopped(bus: Bus) -> None:
    stop = threading.Event()
    found: list[str] = []

    def read() -> None:
        for part in bus.results.read(bus.results.position(), follow=True, stop=stop.is_set):
            found.extend(one.case for one in part)

    reading = threading.Thread(target=read)
    reading.start()
    with bus.results.writer() as writer:
        for number in range(3):
            time.sleep(0.5)
            writer.write(result(number))
            writer.flush()
    deadline = time.monotonic() + 10
    while len(found) < 3 and time.monotonic() < deadline:
        time.sleep(0.05)
    stop.set()
    reading.join(10)
    assert not reading.is_alive()
    assert sorted(found) == ["case-0", "case-1", "case-2"]


def test_results_that_cannot_be_delivered_are_an_error(bus: Bus) -> None:
    with bus.results.writer() as writer:
        writer.write(result(0))
        writer.flush()
        admin = AdminClient({"bootstrap.servers": bus.bootstrap})
        small = ConfigEntry("max.message.bytes", "100", incremental_operation=AlterConfigOpType.SET)
        topic = ConfigResource(ConfigResource.Type.TOPIC, bus.topics.results, incremental_configs=[small])
        [done.result(20) for done in admin.incremental_alter_configs([topic]).values()]
        for number in range(1, 4):
            writer.write(result(number, reason="x" * 1000))
        with pytest.raises(BusError, match="3 of 3 records were not acknowledged"):
            writer.flush()
        writer.flush()


# --------------------------------------------------------------------------- a broker that dies


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


# --------------------------------------------------------------------------- outcomes


def test_outcomes_of_a_run_are_read_as_they_were_told(bus: Bus) -> None:
    ours = [
        Taken(order="1", run="r", member="m"),
        Returned(order="1", run="r", member="m"),
        Taken(order="1", run="r", member="n"),
        Ended(order="1", run="r", member="n", code=1, text="a lone surrogate \ud800, and much " + "x" * 5000),
    ]
    bus.outcomes.publish(Taken(order="0", run="r", member="before"))
    start = bus.outcomes.position()
    bus.outcomes.publish(*ours[:2], Taken(order="9", run="another", member="m"), *ours[2:])
    read = bus.outcomes.read(start, "r")
    assert read[:3] == ours[:3]
    [last] = read[3:]
    assert isinstance(last, Ended) and last.text.startswith("a lone surrogate ?, and") and len(last.text) == 2000
    with bus.outcomes.follow(start, "r") as follower:
        followed = follower.poll(5)
        assert followed == read[: len(followed)] != []
    assert len(bus.outcomes.read({}, "r")) == 5
    assert bus.outcomes.read({0: 1_000_000}, "r") == []


@pytest.mark.timeout(120)
def test_who_follows_outcomes_hears_of_them_when_they_come(bus: Bus) -> None:
    with bus.outcomes.follow({}, "r") as follower:
        assert follower.poll(0.5) == []
        for order in ("1", "2"):
            bus.outcomes.publish(Taken(order=order, run="r", member="m"))
            assert follower.poll(3600) == [Taken(order=order, run="r", member="m")], "not an hour later"


@pytest.mark.parametrize(
    "data",
    [None, b"", b"{", b"[]", b'{"kind":"taken"}', b'{"kind":"ended","order":"1","run":"r","member":"m","code":"x"}'],
)
def test_what_is_no_outcome_is_left_out(bus: Bus, data: bytes | None) -> None:
    raw(bus, bus.topics.outcomes, data, run="r")
    bus.outcomes.publish(Taken(order="1", run="r", member="m"))
    assert bus.outcomes.read({}, "r") == [Taken(order="1", run="r", member="m")]
    with bus.outcomes.follow({}, "r") as follower:
        assert follower.poll(5) == [Taken(order="1", run="r", member="m")]
