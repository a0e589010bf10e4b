from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from testops_lib.bus.batch import Placed, parse, parse_positions, positions_text
from testops_lib.errors import SettingsError
from testops_lib.model import Batch
from tests.paths import ROOT

offsets = st.integers(0, 10_000)


def batches(records: Iterable[tuple[int, int, int]], *, max_records: int, max_bytes: int) -> list[Batch]:
    placed = Placed()
    for partition, offset, size in records:
        placed.add(partition, offset, size)
    return placed.batches("t", max_records=max_records, max_bytes=max_bytes)


@given(
    topic=st.from_regex(r"[a-z0-9._-]{1,30}", fullmatch=True),
    partition=st.integers(0, 999),
    first=offsets,
    length=offsets,
)
def test_a_batch_survives_being_written_and_read(topic: str, partition: int, first: int, length: int) -> None:
    batch = Batch(topic=topic, partition=partition, first=first, end=first + length)
    assert parse(str(batch)) == batch


@pytest.mark.parametrize(
    "text",
    [
        "",
        "testops.cases",
        "testops.cases:0",
        "testops.cases:0:5",
        "testops.cases:0:9-5",
        "a:b:1-2",
        "a:0:1-2 x",
        "a:-1:1-2",
        ":0:1-2",
        "a b:0:1-2",
        "a:0:1-٣",
        f"a:0:1-{'9' * 30}",
    ],
)
def test_what_is_no_batch_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(SettingsError, match=r"testops\.cases:0:100-180"):
        parse(text)


deliveries = st.dictionaries(st.tuples(st.integers(0, 2), st.integers(0, 200)), st.integers(1, 50), max_size=80)


@given(delivered=deliveries, max_records=st.integers(1, 20), max_bytes=st.integers(1, 200), seed=st.randoms())
def test_every_delivered_record_is_in_exactly_one_batch_within_the_limits(
    delivered: dict[tuple[int, int], int], max_records: int, max_bytes: int, seed: object
) -> None:
    records = [(*place, size) for place, size in delivered.items()]
    seed.shuffle(records)  # type: ignore[attr-defined]
    made = batches(records, max_records=max_records, max_bytes=max_bytes)
    held = []
    for batch in made:
        inside = [place for place in delivered if place[0] == batch.partition and batch.first <= place[1] < batch.end]
        assert 0 < len(inside) <= max_records
        assert len(inside) == 1 or sum(delivered[place] for place in inside) <= max_bytes
        assert (batch.partition, batch.first) in inside and (batch.partition, batch.end - 1) in inside
        held += inside
    assert sorted(held) == sorted(delivered)


def test_a_batch_spans_foreign_records_but_not_endlessly() -> None:
    near = batches([(0, 5, 1), (0, 8, 1)], max_records=10, max_bytes=100)
    far = batches([(0, 5, 1), (0, 500_000, 1)], max_records=10, max_bytes=100)
    assert [str(batch) for batch in near] == ["t:0:5-9"]
    assert [str(batch) for batch in far] == ["t:0:5-6", "t:0:500000-500001"]


def test_nothing_delivered_gives_no_batch() -> None:
    assert batches([], max_records=1, max_bytes=1) == []


@given(st.dictionaries(st.integers(0, 999), offsets))
def test_positions_survive_being_written_and_read(positions: dict[int, int]) -> None:
    assert parse_positions(positions_text(positions)) == positions


@pytest.mark.parametrize("text", ["0", "0:1;1:2", "0:-1", "a:1", "0:1 ,1:2", "0:1:2"])
def test_what_are_no_positions_is_refused(text: str) -> None:
    with pytest.raises(SettingsError):
        parse_positions(text)


def test_slices_and_topics_need_no_kafka_client() -> None:
    code = "import sys, testops_lib.bus.batch, testops_lib.bus.topics; sys.exit('confluent_kafka' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 0
