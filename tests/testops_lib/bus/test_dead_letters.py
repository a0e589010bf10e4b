"""Dead letters: kept as they were, listed, shown so that nothing in them acts, put back and run."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest
from confluent_kafka import Producer

from stack.samples import Sample
from testops_lib.bus.client import Bus
from testops_lib.bus.reading import read_batch
from testops_lib.bus.topics import MAX_RECORD_BYTES
from testops_lib.errors import BusError
from testops_lib.model import (
    Batch,
    Case,
    Contract,
    Plan,
    Policy,
    Provenance,
    Request,
    ResponseContract,
    Result,
    StatusCodeConformance,
    Step,
    make_case,
)
from testops_lib.run.collect import collect
from testops_lib.store import Store
from tests.paths import ROOT

OPERATION = "GET /products"

pytestmark = pytest.mark.integration


def case(number: int) -> Case:
    request = Request(method="GET", path="/products", query=(("n", str(number)),))
    step = Step(operation=OPERATION, request=request, checks=(StatusCodeConformance(),))
    return make_case(
        name=f"list {number}", intent="positive", operation=OPERATION, steps=(step,), origin=Provenance(source="human")
    )


def send(bus: Bus, topic: str, data: bytes, *, run: str | None, key: bytes | None = None) -> Batch:
    """A record past our own code; the slice that holds it."""
    where: list[int] = []
    producer = Producer({"bootstrap.servers": bus.bootstrap, "message.max.bytes": 9_000_000})
    headers = [("run", run.encode())] if run is not None else None
    producer.produce(
        topic,
        data,
        key=key,
        partition=1,
        headers=headers,
        on_delivery=lambda _, message: where.append(message.offset()),
    )
    assert producer.flush(30) == 0
    return Batch(topic=topic, partition=1, first=where[0], end=where[0] + 1)


def bury(bus: Bus, data: bytes, *, run: str | None = "run-1", key: bytes | None = None) -> Batch:
    batch = send(bus, bus.topics.cases, data, run=run, key=key)
    assert list(bus.cases.read(batch, run or "run-1", deadline_s=20)) == []
    return batch


def command(bus: Bus, *arguments: str, dsn: str = "") -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("TESTOPS_")}
    environment |= {"TESTOPS_KAFKA_BOOTSTRAP": bus.bootstrap, "TESTOPS_DSN": dsn, "PYTHONPATH": str(ROOT)}
    return subprocess.run(
        [sys.executable, "-m", "testops_lib.cli", "dead-letters", *arguments],
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        cwd=ROOT,
    )


def test_what_is_known_of_a_dead_letter_stays_with_it(bus: Bus) -> None:
    first = bury(bus, b"{broken", key=b"c1")
    second = bury(bus, msgspec.json.encode(case(1)), run=None)
    older, newer = bus.dead_letters.read()
    assert (older.data, older.key, older.run, older.whole_bytes, older.requeued) == (
        b"{broken",
        b"c1",
        "run-1",
        7,
        (),
    )
    assert (older.topic, older.origin_partition, older.origin_offset) == (
        first.topic,
        1,
        first.first,
    )
    assert older.time is not None and older.reason
    assert (newer.run, newer.origin_offset) == ("", second.first) and "run" in newer.reason
    assert older.place != newer.place


def test_a_record_put_back_is_read_with_its_key_and_run(bus: Bus) -> None:
    bury(bus, b"{broken", key=b"c1")
    [letter] = bus.dead_letters.read()
    batch = bus.dead_letters.requeue(letter, data=msgspec.json.encode(case(1)))
    assert list(bus.cases.read(batch, "run-1", deadline_s=20)) == [case(1)]
    assert list(bus.cases.read(batch, "run-2", deadline_s=20)) == []
    [message] = read_batch(bus.connection, batch, 20)
    assert message.key() == b"c1" and batch.partition == letter.origin_partition
    [marked] = bus.dead_letters.read()
    assert marked.requeued == (str(batch),)


def test_a_result_put_back_is_collected(bus: Bus) -> None:
    send(bus, bus.topics.results, b'{"verdict":"fine"}', run="run-1")
    assert list(bus.results.read({})) == []
    [letter] = bus.dead_letters.read()
    repaired = Result(run="run-1", case="c", verdict="passed")
    bus.dead_letters.requeue(letter, data=msgspec.json.encode(repaired))
    assert [read for results in bus.results.read({}) for read in results] == [repaired]


def test_what_would_come_back_is_not_put_back(bus: Bus) -> None:
    batch = bury(bus, b"{broken")
    bury(bus, msgspec.json.encode(case(1)), run=None)
    older, newer = bus.dead_letters.read()
    with pytest.raises(BusError, match="would come back"):
        bus.dead_letters.requeue(older)
    with pytest.raises(BusError, match="--run"):
        bus.dead_letters.requeue(newer)
    with pytest.raises(BusError, match="neither the cases"):
        bus.dead_letters.requeue(msgspec.structs.replace(older, topic=bus.topics.notifications), data=b"{}")
    assert bus.dead_letters.requeue(newer, run="run-1").first == batch.end + 1, "something else was put back before"
    assert bus.dead_letters.read()[0].requeued == ()


def test_a_record_kept_in_part_is_put_back_only_whole(bus: Bus) -> None:
    large = msgspec.json.encode(case(1)) + b" " * MAX_RECORD_BYTES
    bury(bus, large, run=None)
    [letter] = bus.dead_letters.read()
    assert letter.whole_bytes == len(large) > len(letter.data) > MAX_RECORD_BYTES / 2
    with pytest.raises(BusError, match=f"of its {len(large)} bytes"):
        bus.dead_letters.requeue(letter, run="run-1")
    assert bus.dead_letters.requeue(letter, run="run-1", data=large.strip())


def test_marks_that_somebody_else_wrote_do_no_harm(bus: Bus) -> None:
    producer = Producer({"bootstrap.servers": bus.bootstrap})
    for headers in ([("requeued", b"x")], [("requeued", b"x"), ("offset", b"\xb2")], [("offset", b"-7")], None):
        producer.produce(bus.topics.dead_letters, None, headers=headers)
    assert producer.flush(30) == 0
    assert [(letter.topic, letter.origin_offset, letter.data) for letter in bus.dead_letters.read()] == [
        ("", -1, b"")
    ] * 2


def test_a_malformed_record_is_listed_shown_repaired_put_back_and_run(
    kafka: str, store: Store, postgres: str, sound_shop: Sample, tmp_path: Path
) -> None:
    bus, run = Bus(kafka, timeout_s=30), "dead-letters-1"
    bus.create_topics(partitions=2)
    victim, sound = case(1), case(2)
    store.open_run(run, "shop")
    positions = bus.results.position()
    plan = Plan(target="shop", base_url=sound_shop.url, policy=Policy(allow_private=True))
    at = bus.plans.publish(run, plan, [Contract(operation=OPERATION, responses={"200": ResponseContract()})])
    batches = bus.cases.publish(run, [sound])
    hostile = b'{"\x1b[2J\xe2\x80\xae": "Bearer abcdefghijklmnop1234"' + b"x" * 5000
    broken = send(bus, bus.topics.cases, hostile, run=run, key=victim.id.encode())
    store.mark_published(run, [victim.id, sound.id], positions=positions, plan=at, batches=[*batches, broken])
    for batch in store.batches(run):
        subprocess.run(
            [sys.executable, "-m", "runner", "--run", run, "--plan", str(at), "--batch", str(batch)],
            env={**os.environ, "TESTOPS_KAFKA_BOOTSTRAP": kafka},
            check=True,
            cwd=ROOT,
        )
    assert collect(bus, store, run).no_result == 1

    listed = command(bus, "list", "--run", run)
    assert listed.returncode == 0, listed.stderr
    line, total = listed.stdout.splitlines()
    place = line.split()[0]
    assert total == "1 dead letter" and f"{bus.topics.cases}:1:{broken.first}" in line and f"run {run}" in line

    shown = command(bus, "show", place, "--save", str(tmp_path / "record"))
    assert (tmp_path / "record").read_bytes() == hostile
    assert "\x1b" not in shown.stdout and "\u202e" not in shown.stdout and r"\x1b[2J" in shown.stdout
    assert "abcdefghijklmnop" not in shown.stdout and len(shown.stdout) < 5500 and "--save" in shown.stdout
    assert victim.id in shown.stdout

    refused = command(bus, "requeue", place, dsn=postgres)
    assert refused.returncode == 2 and "would come back" in refused.stderr and "Traceback" not in refused.stderr
    repaired = tmp_path / "repaired.json"
    repaired.write_bytes(msgspec.json.encode(victim))
    done = command(bus, "requeue", place, "--with", str(repaired), "--execute", dsn=postgres)
    assert done.returncode == 0, done.stderr
    assert "2 published, 2 stored, 0 without result" in done.stdout
    assert store.progress(run).by_verdict == {"passed": 2}

    assert command(bus, "list", "--run", run).stdout == "0 dead letters, 1 more put back (--all)\n"
    assert "put back: testops.cases:1:" in command(bus, "list", "--run", run, "--all").stdout
    assert "--again" in command(bus, "requeue", place, "--with", str(repaired), dsn=postgres).stderr
    again = command(bus, "requeue", place, "--with", str(repaired), "--again", dsn=postgres)
    assert re.search(rf"python -m runner --run {run} --plan {at} --batch testops\.cases:1:\d+-\d+\n", again.stdout)
    assert f"testops collect --run {run}" in again.stdout
    assert "none" in command(bus, "show", "7:999").stderr
