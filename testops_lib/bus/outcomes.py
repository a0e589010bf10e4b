"""Outcomes: what became of orders, said by the fleet's runners."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from typing import TYPE_CHECKING

import msgspec

from testops_lib.bus.closing import Closing
from testops_lib.bus.connection import Connection
from testops_lib.bus.encoding import OUTCOME, encode_outcome
from testops_lib.bus.message import place_of, records_of
from testops_lib.bus.reading import WHOLE_TOPIC, Reader, read_to_end
from testops_lib.bus.sending import Sender
from testops_lib.model import Outcome

if TYPE_CHECKING:
    from testops_lib.bus.message import Record

log = logging.getLogger(__name__)


class Outcomes:
    """The topic of outcomes."""

    def __init__(self, connection: Connection, topic: str) -> None:
        self._connection, self._topic = connection, topic

    def publish(self, *outcomes: Outcome) -> None:
        """Writes outcomes, in this sequence; they are acknowledged when this returns.

        Raises:
            BusError: a delivery failed.
        """
        with Sender.open(self._connection, self._topic) as sender:
            for outcome in outcomes:
                sender.send(self._topic, encode_outcome(outcome), key=outcome.order, run=outcome.run)

    def position(self) -> dict[int, int]:
        """The end of the topic now, by partition: the outcomes of orders written later stand behind it.

        Raises:
            BusError: the topic is missing or the brokers are away.
        """
        return self._connection.ends(self._topic)

    def topic_id(self) -> str:
        """What tells the topic from an earlier or later one of the same name; empty where the brokers do not say.

        Raises:
            BusError: the topic is missing or the brokers are away.
        """
        return self._connection.topic_id(self._topic)

    def read(self, start: Mapping[int, int], run: str) -> list[Outcome]:
        """Outcomes of the run's orders between `start` and the end now; those of one order in the sequence written.

        What is no outcome is left out.

        Raises:
            BusError: the topic is missing or the brokers are away.
        """
        records = read_to_end(self._connection, self._topic, start, beyond_end=True)
        return _decode(records_of(run, records))

    def follow(self, start: Mapping[int, int], run: str) -> OutcomesFollower:
        """Outcomes of the run's orders from `start` on, as they come; to be used as a context manager.

        Connects when first polled. A partition left out is followed from its beginning.
        """
        return OutcomesFollower(self._connection, self._topic, start, run)


class OutcomesFollower(Closing):
    """Outcomes of a run's orders as they come. For one thread at a time. Brokers that are away are waited for."""

    def __init__(self, connection: Connection, topic: str, start: Mapping[int, int], run: str) -> None:
        self._connection, self._topic, self._start, self._run = connection, topic, dict(start), run
        self._reader: Reader | None = None
        self._opened = ExitStack()

    def close(self) -> None:
        """Leaves the topic."""
        self._reader = None
        self._opened.close()

    def poll(self, timeout_s: float) -> list[Outcome]:
        """The next outcomes, as soon as there are any, and none when none come within this time.

        What is no outcome is left out.

        Raises:
            BusError: the topic is missing, or Kafka refuses us; while nothing was read yet, also: the brokers are away.
        """
        with self._connection.translated(self._topic):
            reader = self._reader or self._open()
            deadline, left = time.monotonic() + timeout_s, timeout_s
            outcomes: list[Outcome] = []
            while not outcomes and left >= 0:
                outcomes = _decode(records_of(self._run, reader.poll(left)))
                left = deadline - time.monotonic()
            return outcomes

    def _open(self) -> Reader:
        with ExitStack() as opened:
            consumer = opened.enter_context(self._connection.consumer(**WHOLE_TOPIC))
            partitions = self._connection.partitions(consumer, self._topic)
            starts = {partition: self._start.get(partition, 0) for partition in partitions}
            self._reader = Reader(self._connection, consumer, self._topic, starts)
            self._opened = opened.pop_all()
        return self._reader


def _decode(records: Iterable[Record]) -> list[Outcome]:
    outcomes = []
    for record in records:
        try:
            outcomes.append(OUTCOME.decode(record.value() or b""))
        except (msgspec.MsgspecError, ValueError) as error:
            log.warning("%s:%d:%d is no outcome: %s", record.topic(), *place_of(record), error)
    return outcomes
