"""The one read loop: records of a topic by assign and seek, without a group, so that a retry reads the same records."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, TopicPartition

from testops_lib.bus.connection import Connection, is_final
from testops_lib.bus.message import place_of
from testops_lib.errors import ExpiredBatchError
from testops_lib.model import Batch

if TYPE_CHECKING:
    from testops_lib.bus.message import Record

log = logging.getLogger(__name__)

_GONE_AFTER_S = 5.0
"""How long a partition may end before a batch does: after a change of leader the high watermark lags for a moment."""

_TURN_S = 0.3
"""How long a reader waits for a record before it looks whether it is to stop."""

_AHEAD = 200
"""Records of a batch taken from librdkafka at a time; it holds some 16 MB of them itself."""

WHOLE_TOPIC = {"auto.offset.reset": "earliest", "queued.min.messages": 5_000}
"""Options of a consumer that reads much: a start whose records have expired means the earliest record that is left."""


class Reader:
    """Reads some partitions of a topic. For one thread.

    Args:
        connection: where the topic is.
        consumer: a consumer of this connection, for this reader alone.
        topic: its name.
        starts: first offset by partition; 0 is the earliest there is.
        ends: end offset (exclusive) by partition; None: the reader follows the topic without an end.
        batch: the records belong to this batch, and each must be there. Otherwise a partition that turns out to end
            earlier is complete there.
    """

    def __init__(
        self,
        connection: Connection,
        consumer: Consumer,
        topic: str,
        starts: Mapping[int, int],
        ends: Mapping[int, int] | None = None,
        *,
        batch: Batch | None = None,
    ) -> None:
        self._connection, self._consumer, self._topic, self._batch = connection, consumer, topic, batch
        self._where = topic if batch is None else str(batch)
        self.positions: dict[int, int] = {}
        """By partition: the offset after the last record given so far."""
        self._open_ends: dict[int, int] | None = None
        if ends is not None:
            self._open_ends = {at: ends[at] for at, start in starts.items() if ends[at] > 0 and ends[at] != start}
            starts = {partition: starts[partition] for partition in self._open_ends}
        self._last_event = time.monotonic()
        self._early_end: tuple[int, float] | None = None
        """Where the batch's partition ends too early, and since when it does."""
        self._last_error: KafkaError | None = None
        self._final_error: KafkaError | None = None
        if starts:
            first = OFFSET_BEGINNING if batch is None else 0
            consumer.assign([TopicPartition(topic, partition, at or first) for partition, at in starts.items()])

    @property
    def complete(self) -> bool:
        """Every end was reached (never, when following)."""
        return self._open_ends is not None and not self._open_ends

    def poll(self, timeout_s: float, *, max_records: int = 1_000, linger_s: float = 0) -> list[Record]:
        """The next records as soon as there is one; none when none comes within `timeout_s`, or the end is reached.

        Args:
            timeout_s: how long to wait for the first.
            max_records: at most so many.
            linger_s: how long to wait for more once there is one.

        Raises:
            ExpiredBatchError: records of the batch are no longer in the topic.
            BusError: librdkafka cannot go on.
        """
        self._raise_final_error()
        records: list[Record] = []
        deadline, left = time.monotonic() + timeout_s, timeout_s
        while not records and not self.complete and left >= 0:
            # Asked for several messages, librdkafka waits for all of them.
            self._take(self._consumer.consume(1, timeout=left), records)
            self._take(self._consumer.consume(max_records - 1, timeout=0), records)
            if not records:
                self._raise_final_error()
            left = deadline - time.monotonic()
        if linger_s and records and not self.complete and len(records) < max_records:
            self._take(self._consumer.consume(max_records - len(records), timeout=linger_s), records)
        return records

    def lists(
        self,
        *,
        silence_s: float = math.inf,
        max_records: int = _AHEAD,
        linger_s: float = 0,
        stop: Callable[[], bool] = lambda: False,
    ) -> Iterator[list[Record]]:
        """The records in lists, none empty, until every end is reached or `stop` says so.

        Args:
            silence_s: how long the next record may be waited for; the caller's own time does not count.
            max_records: in one list.
            linger_s: how long to wait for a list to become full.
            stop: asked about three times a second.

        Raises:
            ExpiredBatchError: records of the batch are no longer in the topic.
            BusError: librdkafka cannot go on, or no record came for `silence_s`.
        """
        while not self.complete and not stop():
            if records := self.poll(_TURN_S, max_records=max_records, linger_s=linger_s):
                yield records
                self._last_event = time.monotonic()
            now = time.monotonic()
            if self._early_end is not None and now - self._early_end[1] > min(_GONE_AFTER_S, silence_s):
                raise self._expired(f"the partition ends at {self._early_end[0]}, before the batch does")
            if now - self._last_event > silence_s:
                raise self._connection.silence(self._where, silence_s, self._last_error)

    def _raise_final_error(self) -> None:
        if self._final_error is not None:
            raise self._connection.error(self._final_error, self._where)

    def _take(self, messages: Iterable[Record], records: list[Record]) -> None:
        now = time.monotonic()
        for message in messages:
            error = message.error()
            if error is None or error.code() == KafkaError._PARTITION_EOF:
                self._last_event, self._last_error = now, None
                self._advance(message, records, is_end=error is not None)
            elif error.code() in (KafkaError._AUTO_OFFSET_RESET, KafkaError.OFFSET_OUT_OF_RANGE) and self._batch:
                raise self._expired(f"offset {self._batch.first} is not in the topic any more")
            elif is_final(error):
                self._final_error = error  # raised once the records before it are delivered
            else:
                self._last_error = error
                log.info("%s: %s", self._where, error.str())

    def _advance(self, message: Record, records: list[Record], *, is_end: bool) -> None:
        partition, offset = place_of(message)
        if self._open_ends is not None and offset >= self._open_ends.get(partition, 0):
            self._open_ends.pop(partition, None)
            return
        if is_end:
            self.positions[partition] = offset
            if self._batch is not None:
                self._early_end = offset, self._last_event
            elif self._open_ends is not None:
                del self._open_ends[partition]
            return
        records.append(message)
        self._early_end = None
        self.positions[partition] = offset + 1
        if self._open_ends is not None and offset + 1 >= self._open_ends[partition]:
            del self._open_ends[partition]

    def _expired(self, cause: str) -> ExpiredBatchError:
        return ExpiredBatchError(
            cause,
            where=self._where,
            next_step="clear the run's task `publish` (and what follows it) to publish it again",
        )


def read_batch(connection: Connection, batch: Batch, deadline_s: float) -> Iterator[Record]:
    """The records of a batch, in sequence, read as the caller iterates.

    Args:
        connection: where the topic is.
        batch: the slice.
        deadline_s: how long the next record may be waited for; the caller's own time does not count.

    Raises:
        ExpiredBatchError: records of the batch are no longer in the topic.
        BusError: the topic is missing or the brokers are away.
    """
    if batch.first >= batch.end:
        return
    with connection.translated(str(batch)), connection.consumer() as consumer:
        if batch.partition not in connection.partitions(consumer, batch.topic, deadline_s):
            raise connection.error(KafkaError(KafkaError._UNKNOWN_PARTITION), str(batch))
        starts, ends = {batch.partition: batch.first}, {batch.partition: batch.end}
        reader = Reader(connection, consumer, batch.topic, starts, ends, batch=batch)
        for records in reader.lists(silence_s=deadline_s):
            yield from records


def read_to_end(
    connection: Connection, topic: str, starts: Mapping[int, int], *, beyond_end: bool = False
) -> Iterator[Record]:
    """The records from `starts` to the topic's end now; those of one partition in order.

    Args:
        connection: where the topic is.
        topic: its name.
        starts: first offset by partition; a partition left out is read from its beginning.
        beyond_end: what a start beyond the end means: a position in a topic that was created again since, so that
            the partition is read from its beginning (False), or nothing to read (True).

    Raises:
        BusError: the topic is missing or the brokers are away.
    """
    with connection.translated(topic), connection.consumer(**WHOLE_TOPIC) as consumer:
        ends = {at: connection.end(consumer, topic, at) for at in connection.partitions(consumer, topic)}
        begins = {at: min(starts.get(at, 0), end) if beyond_end else starts.get(at, 0) for at, end in ends.items()}
        reader = Reader(connection, consumer, topic, begins, ends)
        for records in reader.lists(silence_s=connection.timeout_s):
            yield from records
