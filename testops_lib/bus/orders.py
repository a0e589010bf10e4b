"""Orders: batches handed to the fleet, whose runners form a consumer group."""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

import msgspec
from confluent_kafka import KafkaError, KafkaException, TopicPartition

from testops_lib.bus.closing import Closing
from testops_lib.bus.connection import Connection
from testops_lib.bus.dead_letters import DeadLetters
from testops_lib.bus.encoding import decode_order
from testops_lib.bus.membership import Membership
from testops_lib.bus.message import place_of, run_of
from testops_lib.bus.sending import Sender
from testops_lib.errors import BusError, SettingsError
from testops_lib.model import BatchOrder, Value

if TYPE_CHECKING:
    from testops_lib.bus.message import Record

log = logging.getLogger(__name__)

_SESSION_MS = 10_000
"""A fleet runner silent for so long is dead, and others get its orders."""

_LONGEST_ORDER_END_MS = 120_000
"""More than an order that is taken away may need to end (`max.poll.interval.ms`)."""

_COMMIT_AGAIN_S = 2.0
"""After a commit that failed."""

_REPEAT_WARNING_S = 30.0
"""librdkafka reports the same error many times a second."""


class Orders:
    """The topic of orders."""

    def __init__(self, connection: Connection, topic: str, dead_letters: DeadLetters) -> None:
        self._connection, self._topic, self._dead_letters = connection, topic, dead_letters

    def partition_count(self) -> int:
        """How many partitions the topic has.

        Raises:
            BusError: the topic is missing or the brokers are away.
        """
        return self._connection.partition_count(self._topic)

    def publish(self, orders: Iterable[tuple[int, BatchOrder]]) -> None:
        """Writes orders, each to its partition.

        Raises:
            BusError: a delivery failed (the order may be in the topic or not).
        """
        with Sender.open(self._connection, self._topic) as sender:
            for partition, order in orders:
                data = msgspec.json.encode(order)
                sender.send(self._topic, data, key=order.batch, run=order.run, partition=partition)

    def join(
        self,
        group: str,
        *,
        on_assigned: Callable[[frozenset[int]], None] = lambda assigned: None,
        on_revoked: Callable[[frozenset[int], frozenset[int]], None] = lambda revoked, left: None,
    ) -> OrderConsumer:
        """A member of the consumer group that executes orders, to be used as a context manager.

        Args:
            group: its name.
            on_assigned: called within `poll` with all partitions that are ours from now on.
            on_revoked: called within `poll` and `close` with the partitions that go and those that stay. Another member
                gets them only when it returns, so it must end work on an order of theirs first.
        """
        return OrderConsumer(
            self._connection,
            self._topic,
            self._dead_letters,
            group,
            on_assigned=on_assigned,
            on_revoked=on_revoked,
        )


class ReceivedOrder(Value, frozen=True, kw_only=True):
    """An order, and where it lies."""

    order: BatchOrder
    partition: int
    offset: int


class OrderConsumer(Closing):
    """A member of the fleet's group: gives one order at a time. For one thread.

    While an order is out, the caller goes on to call `poll`, which keeps us in the group and gives no other order.
    `done` commits the order; `again` has it given out once more; an order whose partition was revoked goes to another
    member if it is not done.

    Brokers that are away are waited for: `is_member` says whether we are in the group.
    """

    def __init__(
        self,
        connection: Connection,
        topic: str,
        dead_letters: DeadLetters,
        group: str,
        *,
        on_assigned: Callable[[frozenset[int]], None],
        on_revoked: Callable[[frozenset[int], frozenset[int]], None],
    ) -> None:
        self._connection, self._topic, self._dead_letters = connection, topic, dead_letters
        self._on_assigned, self._on_revoked = on_assigned, on_revoked
        self._out: ReceivedOrder | None = None
        self._out_record: Record | None = None
        """The record of the order that is out; None once its partition was revoked."""
        self._waiting: deque[Record] = deque()
        """Received, and not given out yet: not sought back, since a seek may fail and leave a record out."""
        self._to_commit: dict[int, int] = {}
        self._commit_again_at = 0.0
        self._warning, self._warned_at = "", 0.0
        self._membership = Membership(
            connection,
            topic,
            group,
            session_ms=_SESSION_MS,
            heartbeat_ms=2000,
            on_assigned=self._assigned,
            on_revoked=self._revoked,
            **{
                "auto.offset.reset": "earliest",
                "max.poll.interval.ms": _LONGEST_ORDER_END_MS,
                "on_commit": self._committed,
                "queued.min.messages": 1,
            },
        )
        self._consumer = self._membership.consumer
        self._membership.join()

    def close(self) -> None:
        """Commits what is done and leaves the group, so that others get its orders at once."""
        self._consumer.close()

    @property
    def is_member(self) -> bool:
        """Whether the group's coordinator answers and has us in the group."""
        return self._membership.is_member

    def poll(self, timeout_s: float) -> ReceivedOrder | None:
        """The next order, if one comes within this time and none is out.

        A record that is no order goes to the dead letters.

        Raises:
            BusError: librdkafka cannot go on.
        """
        if self._to_commit and time.monotonic() >= self._commit_again_at:
            self._commit(wait=False)
        message = self._membership.poll(0 if self._waiting and self._out is None else timeout_s)
        if message is not None and (error := message.error()) is not None:
            self._warn(error)
        elif message is not None:
            self._waiting.append(message)
        if self._out is not None or not self._waiting:
            return None
        record = self._waiting.popleft()
        partition, offset = place_of(record)
        try:
            order = decode_order(record.value() or b"", run=run_of(record), partition=partition)
        except (msgspec.MsgspecError, ValueError, SettingsError) as reason:
            self._bury(record, str(reason))
            return None
        self._out, self._out_record = ReceivedOrder(order=order, partition=partition, offset=offset), record
        self._consumer.pause(self._consumer.assignment())
        return self._out

    def done(self) -> None:
        """The order that is out is executed and never given out again."""
        out, record = self._end_out()
        if record is not None:
            self._to_commit[out.partition] = out.offset + 1
            self._commit(wait=False)

    def again(self) -> None:
        """The order that is out is given out again: to us, or to the next owner of its partition."""
        _, record = self._end_out()
        if record is not None:
            self._waiting.appendleft(record)

    def _end_out(self) -> tuple[ReceivedOrder, Record | None]:
        """The order that was out, with its record if its partition stayed ours; `poll` gives orders again."""
        assert self._out is not None
        out, record = self._out, self._out_record
        self._out = self._out_record = None
        if assigned := self._consumer.assignment():
            self._consumer.resume(assigned)
        return out, record

    def _bury(self, record: Record, reason: str) -> None:
        partition, offset = place_of(record)
        try:
            self._dead_letters.bury(record, reason)
            self._dead_letters.flush()
        except BusError as error:
            log.warning("%s", error)
            self._waiting.appendleft(record)
            return
        self._to_commit[partition] = offset + 1
        self._commit(wait=False)

    # ------------------------------------------------------------------ commits

    def _commit(self, *, wait: bool) -> None:
        self._commit_again_at = time.monotonic() + _COMMIT_AGAIN_S
        places = [TopicPartition(self._topic, partition, at) for partition, at in self._to_commit.items()]
        try:
            if not wait:
                self._consumer.commit(offsets=places, asynchronous=True)
                return
            for place in self._consumer.commit(offsets=places, asynchronous=False) or ():
                if place.error is None:
                    self._forget_committed(place)
        except KafkaException as error:
            # The runner that gets the order again finds its outcome, and does nothing.
            log.warning("%s: not committed: %s", self._topic, error)

    def _committed(self, error: KafkaError | None, places: list[TopicPartition]) -> None:
        for place in places:
            if error is None and place.error is None:
                self._forget_committed(place)
            else:
                log.info("%s:%d: not committed: %s", self._topic, place.partition, error or place.error)

    def _forget_committed(self, place: TopicPartition) -> None:
        if self._to_commit.get(place.partition, place.offset + 1) <= place.offset:
            del self._to_commit[place.partition]

    # ------------------------------------------------------------------ partitions

    def _assigned(self, places: list[TopicPartition]) -> None:
        if self._out is not None and places:
            self._consumer.pause(places)
        self._on_assigned(self._membership.assigned)

    def _revoked(self, revoked: frozenset[int], is_lost: bool) -> None:
        self._on_revoked(revoked, self._membership.assigned)
        if self._to_commit and not is_lost:
            self._commit(wait=True)
        self._to_commit = {partition: at for partition, at in self._to_commit.items() if partition not in revoked}
        self._waiting = deque(record for record in self._waiting if record.partition() not in revoked)
        if self._out is not None and self._out.partition in revoked:
            self._out_record = None

    def _warn(self, error: KafkaError) -> None:
        """Logs what is wrong once in a while.

        Raises:
            BusError: librdkafka cannot go on.
        """
        trouble = self._connection.error(error, self._topic)
        if error.fatal():
            raise trouble
        if self._warning != str(trouble) or time.monotonic() - self._warned_at > _REPEAT_WARNING_S:
            self._warning, self._warned_at = str(trouble), time.monotonic()
            log.warning("%s", trouble)
