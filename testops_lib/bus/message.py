"""What every Kafka message carries: its place, its run and its headers."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from confluent_kafka import Message

    Record = Message[bytes, bytes]


def place_of(record: Record) -> tuple[int, int]:
    """Partition and offset (None is for messages that never met a broker)."""
    return record.partition() or 0, record.offset() or 0


def run_of(record: Record) -> str | None:
    """The header `run`."""
    headers: Any = record.headers() or ()
    for name, data in headers:
        if name == "run":
            return data.decode("utf-8", "replace") if isinstance(data, bytes) else data
    return None


def headers_of(record: Record) -> dict[str, str]:
    """The headers as text."""
    headers: Any = record.headers() or ()
    return {name: data.decode("utf-8", "replace") for name, data in headers if isinstance(data, bytes)}


def records_of(run: str, records: Iterable[Record]) -> Iterator[Record]:
    """Those that carry this run."""
    return (record for record in records if run_of(record) == run)
