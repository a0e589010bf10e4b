"""Records on their way to Kafka: one idempotent producer with an account of what was not delivered."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Self

from confluent_kafka import KafkaError, KafkaException, Producer

from testops_lib.bus.connection import Connection
from testops_lib.bus.topics import MAX_RECORD_BYTES
from testops_lib.errors import BusError

if TYPE_CHECKING:
    from testops_lib.bus.message import Record

_RESENDS = 4
"""How often records are sent again of which the brokers do not say where they are."""


class Sender:
    """Sends records and waits until all in-sync replicas have them. Leaving it as a context manager flushes.

    A failed delivery means *unknown*, not *absent*: sending again may leave two copies in the topic.
    """

    def __init__(self, connection: Connection, producer: Producer, timeout_s: float) -> None:
        self._connection, self._producer, self._timeout_s = connection, producer, timeout_s
        self._sent = 0
        self._failed: list[tuple[str, KafkaError]] = []
        self._unplaced: list[Callable[[], None]] = []
        """Each sends a record again that was delivered to an unknown offset."""

    @classmethod
    def open(cls, connection: Connection, topic: str, *, ahead: int = 100_000, patience_s: float | None = None) -> Self:
        """A sender to a topic that is there.

        Args:
            connection: where the topic is.
            topic: its name.
            ahead: at most so many records are on their way.
            patience_s: how long brokers may be away; None: the connection's `timeout_s`.

        Raises:
            BusError: the topic is missing or the brokers are away.
        """
        patience_s = connection.timeout_s if patience_s is None else patience_s
        with connection.translated(topic):
            producer = Producer(
                connection.configuration(
                    **{
                        "acks": "all",
                        "enable.idempotence": True,
                        "delivery.timeout.ms": int(patience_s * 1000),
                        "linger.ms": 10,
                        "compression.type": "lz4",
                        "partitioner": "murmur2_random",
                        "message.max.bytes": MAX_RECORD_BYTES,
                        "queue.buffering.max.kbytes": 65_536,
                        "queue.buffering.max.messages": ahead,
                    }
                )
            )
            sender = cls(connection, producer, patience_s)
            # An idempotent producer needs an id. librdkafka asks for it when a broker is up, else again after 0.5 s.
            # After one answer of the brokers the first record often waits for that, after two never (librdkafka 2.16).
            for _ in range(2):
                sender.partitions(topic)
            return sender

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            self.flush()
        else:
            self._producer.purge()
            self._producer.flush(1)

    def partitions(self, topic: str) -> list[int]:
        """Partitions of the topic, ascending.

        Raises:
            BusError: the topic is missing or the brokers are away.
        """
        with self._connection.translated(topic):
            return self._connection.partitions(self._producer, topic)

    def send(
        self,
        topic: str,
        data: bytes,
        *,
        key: str | bytes | None,
        run: str | None = None,
        partition: int = -1,
        headers: Mapping[str, str] | None = None,
        delivered: Callable[[Record], None] | None = None,
    ) -> None:
        """Queues a record; waits only when the queue is full.

        Args:
            topic: where to.
            data: the record.
            key: decides the partition where `partition` is -1.
            run: the header `run`.
            partition: where to; -1: by key.
            headers: further ones.
            delivered: called with the delivered record, within `send` or `flush`.

        Raises:
            BusError: the record is too large, or the queue stays full.
        """

        def report(error: KafkaError | None, message: Record) -> None:
            if error is not None:
                self._failed.append((topic, error))
            elif delivered is not None and message.offset() is None:
                # The answer to the first attempt was lost; to the second the broker only says that it has the record.
                self._unplaced.append(send_again)
            elif delivered is not None:
                delivered(message)

        def send_again() -> None:
            self.send(topic, data, key=key, run=run, partition=partition, headers=headers, delivered=delivered)

        pairs = [*(headers or {}).items()] + ([("run", run)] if run is not None else [])
        deadline = time.monotonic() + self._timeout_s
        while True:
            try:
                self._producer.produce(
                    topic,
                    data,
                    key=key,
                    partition=partition,
                    headers=[(name, text.encode()) for name, text in pairs],
                    on_delivery=report,
                )
                break
            except BufferError as error:
                if time.monotonic() > deadline:
                    raise BusError("nothing can be delivered: the queue stays full", where=topic) from error
                self._producer.poll(0.1)
            except KafkaException as error:
                if error.args[0].code() == KafkaError.MSG_SIZE_TOO_LARGE:
                    raise BusError(
                        f"the record {key!r} has {len(data)} bytes, and {MAX_RECORD_BYTES} is the limit",
                        where=topic,
                        next_step="make the case smaller",
                    ) from error
                raise self._connection.error(error.args[0], topic) from error
        self._sent += 1
        self._producer.poll(0)

    def flush(self, patience_s: float | None = None) -> None:
        """Waits until every record is acknowledged; records whose offset is unknown are sent again, which is harmless.

        Raises:
            BusError: a delivery failed since the last flush, or the brokers do not say where records are.
        """
        self._flush(patience_s)
        for _ in range(_RESENDS):
            unplaced, self._unplaced = self._unplaced, []
            for send_again in unplaced:
                send_again()
            if unplaced:
                self._flush()
        if left := len(self._unplaced):
            raise BusError(f"the brokers do not say where {left} records are", where="Kafka", next_step="repeat it")

    def _flush(self, patience_s: float | None = None) -> None:
        deadline = time.monotonic() + (self._timeout_s if patience_s is None else patience_s) + 5
        # In short turns, so that a signal's handler runs meanwhile.
        while (left := self._producer.flush(0.5)) and time.monotonic() < deadline:
            pass
        sent, failed = self._sent, self._failed
        self._sent, self._failed = 0, []
        if failed or left:
            cause = f": {failed[0][1].str()}" if failed else ""
            self._producer.purge()
            raise BusError(
                f"{len(failed) + left} of {sent} records were not acknowledged{cause}",
                where=failed[0][0] if failed else self._connection.bootstrap,
                next_step="check that the brokers run; then repeat (repeated records count once)",
            )
