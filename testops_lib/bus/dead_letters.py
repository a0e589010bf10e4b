"""Dead letters: unusable records, kept unchanged so that a person can inspect them and put them back."""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import msgspec

from testops_lib.bus.connection import Connection
from testops_lib.bus.encoding import CASE, RESULT
from testops_lib.bus.message import headers_of, place_of, run_of
from testops_lib.bus.reading import read_to_end
from testops_lib.bus.sending import Sender
from testops_lib.bus.topics import MAX_RECORD_BYTES, Topics
from testops_lib.errors import BusError
from testops_lib.model import Batch, Value
from testops_lib.tolerant import TolerantDecoder

if TYPE_CHECKING:
    from testops_lib.bus.message import Record

log = logging.getLogger(__name__)

_REQUEUED = "requeued"
"""Header of a mark among the dead letters: the one at the header `offset` of its partition has been put back."""

_LONG_AGO = datetime.fromtimestamp(0, UTC)

_LONGEST_REASON = 2_000

_HEADERS_BYTES = 50_000
"""What of a record's limit is left to the headers."""


class DeadLetter(Value, frozen=True, kw_only=True):
    """An unusable record, unchanged, with where it came from and why it was unusable."""

    partition: int
    offset: int
    """Where it lies in the dead letters; `place` is both."""
    time: datetime | None
    """When it was put there."""
    reason: str
    topic: str
    """Where it came from, with `origin_partition` and `origin_offset`."""
    origin_partition: int
    origin_offset: int
    run: str = ""
    """Empty: it had no header `run`."""
    key: bytes | None = None
    data: bytes
    whole_bytes: int
    """Its size at the origin: above `len(data)` when only the beginning was kept."""
    requeued: tuple[str, ...] = ()
    """Where it has been put back to (`topic:partition:first-end`), oldest first."""

    @property
    def place(self) -> str:
        return f"{self.partition}:{self.offset}"


class DeadLetters:
    """The topic of dead letters."""

    def __init__(self, connection: Connection, topics: Topics) -> None:
        self._connection, self._topics, self._topic = connection, topics, topics.dead_letters
        self._sender: Sender | None = None

    def bury(self, record: Record, reason: str) -> None:
        """Sends an unusable record unchanged to the dead letters, with reason, origin and run as headers.

        It is on its way when this returns; `flush` waits for it. A record above our own limit is cut, and its size
        goes into the header `bytes`.

        Raises:
            BusError: the topic is missing, the brokers are away, or the queue stays full.
        """
        if self._sender is None:
            self._sender = Sender.open(self._connection, self._topic)
        partition, offset = place_of(record)
        origin, data = record.topic() or "", record.value() or b""
        headers = {
            "reason": reason[:_LONGEST_REASON],
            "topic": origin,
            "partition": str(partition),
            "offset": str(offset),
        }
        kept = data[: MAX_RECORD_BYTES - _HEADERS_BYTES]
        if len(kept) < len(data):
            headers["bytes"] = str(len(data))
        self._sender.send(self._topic, kept, key=record.key(), run=run_of(record), headers=headers)
        log.warning("%s:%d:%d went to %s: %s", origin, partition, offset, self._topic, reason)

    def flush(self) -> None:
        """Waits until the dead letters on their way are delivered.

        Raises:
            BusError: they could not be delivered.
        """
        if self._sender is not None:
            sender, self._sender = self._sender, None
            sender.flush()

    def read(self) -> list[DeadLetter]:
        """The dead letters there are now, oldest first.

        All their data is in memory at once.

        Raises:
            BusError: the topic is missing or the brokers are away.
        """
        self.flush()
        letters: dict[tuple[int, int], DeadLetter] = {}
        requeued: dict[tuple[int, int], list[str]] = defaultdict(list)
        for record in read_to_end(self._connection, self._topic, {}):
            headers, place = headers_of(record), place_of(record)
            if _REQUEUED in headers:
                requeued[place[0], _number(headers.get("offset"))].append(headers[_REQUEUED])
            else:
                letters[place] = _letter(record, headers)
        marked = (
            msgspec.structs.replace(letter, requeued=tuple(requeued.get(place, ())))
            for place, letter in letters.items()
        )
        return sorted(marked, key=lambda letter: (letter.time or _LONG_AGO, letter.partition, letter.offset))

    def requeue(self, letter: DeadLetter, *, data: bytes | None = None, run: str | None = None) -> Batch:
        """Puts a dead letter back into the topic it came from, with its key and run; returns the slice with it.

        It becomes a new record at the end of the partition it came from: no batch cut earlier holds it. The dead
        letter stays, marked with where it went.

        Args:
            letter: from `read`.
            data: other bytes instead of its own.
            run: another run instead of its own.

        Raises:
            BusError: the bytes would be a dead letter again, only their beginning was kept, the topic it came from is
                none of ours, or a delivery failed.
        """
        data, run = letter.data if data is None else data, letter.run if run is None else run
        if data is letter.data and letter.whole_bytes > len(data):
            raise BusError(
                f"of its {letter.whole_bytes} bytes only {len(data)} were kept",
                where=f"dead letter {letter.place}",
                next_step="give the whole record",
            )
        self._require_usable(letter, data, run)
        places: list[tuple[int, int]] = []
        with Sender.open(self._connection, letter.topic) as sender:
            sender.send(
                letter.topic,
                data,
                key=letter.key,
                run=run,
                partition=letter.origin_partition,
                delivered=lambda record: places.append(place_of(record)),
            )
        [(partition, offset)] = places
        batch = Batch(topic=letter.topic, partition=partition, first=offset, end=offset + 1)
        mark = {_REQUEUED: str(batch), "offset": str(letter.offset)}
        with Sender.open(self._connection, self._topic) as sender:
            sender.send(self._topic, b"", key=None, partition=letter.partition, headers=mark)
        return batch

    def _require_usable(self, letter: DeadLetter, data: bytes, run: str) -> None:
        where = f"dead letter {letter.place}"
        decoders: dict[str, msgspec.json.Decoder[Any] | TolerantDecoder[Any]] = {
            self._topics.cases: CASE,
            self._topics.results: RESULT,
        }
        if (decoder := decoders.get(letter.topic)) is None:
            raise BusError(f"its origin {letter.topic!r} is neither the cases' topic nor the results'", where=where)
        if not run:
            raise BusError("it has no run", where=where, next_step="name the run it belongs to (--run)")
        try:
            decoder.decode(data)
        except (msgspec.MsgspecError, ValueError) as error:
            raise BusError(
                f"it would come back: {error}",
                where=where,
                next_step="repair the record and give it (--with FILE), or use the version that wrote it",
            ) from error


def _letter(record: Record, headers: Mapping[str, str]) -> DeadLetter:
    """The dead letter; what a missing or malformed header would say is unknown (-1 or empty)."""
    partition, offset = place_of(record)
    kind, at_ms = record.timestamp()
    data = record.value() or b""
    return DeadLetter(
        partition=partition,
        offset=offset,
        time=datetime.fromtimestamp(at_ms / 1000, UTC) if kind else None,
        reason=headers.get("reason", ""),
        topic=headers.get("topic", ""),
        origin_partition=_number(headers.get("partition")),
        origin_offset=_number(headers.get("offset")),
        run=headers.get("run", ""),
        key=record.key(),
        data=data,
        whole_bytes=max(len(data), _number(headers.get("bytes"))),
    )


def _number(text: str | None) -> int:
    return int(text) if text and text.isascii() and text.isdigit() and len(text) < 19 else -1
