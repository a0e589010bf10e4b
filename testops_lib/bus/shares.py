"""Shares of a target's limits: Kafka divides the partitions of a topic among all runners that work on the target."""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import Self

from confluent_kafka import TopicPartition

from testops_lib.bus.connection import Connection, is_final
from testops_lib.bus.membership import Membership
from testops_lib.errors import BusError

_SESSION_MS = 6_000
"""A runner silent for so long is dead, and others get its share; Kafka's minimum (`group.min.session.timeout.ms`)."""

_POLL_S = 0.1


class Shares:
    """The topic of shares. Nothing is ever written there."""

    def __init__(self, connection: Connection, topic: str) -> None:
        self._connection, self._topic = connection, topic

    def join(
        self, target: str, on_change: Callable[[ShareHolder], None] = lambda holder: None, *, patience_s: float = 0
    ) -> ShareHolder:
        """A share of the target's limits, to be used as a context manager; leaving it gives the share to the others.

        Args:
            target: whatever names it, the same for all who share.
            on_change: called with the holder when its share becomes another one, or none because of `trouble`, from a
                thread of the holder. Only when it returns, others get what is taken away.
            patience_s: how long brokers may be away once there was a share; at least the bus's `timeout_s`.

        Raises:
            BusError: the topic is missing or the brokers are away.
        """
        return ShareHolder(self._connection, self._topic, target, on_change, patience_s)


class ShareHolder:
    """A member of the group of all who work on one target: the partitions assigned to it are its share.

    Kafka gives each partition to one living member at most: a member that leaves, or is silent for `_SESSION_MS`,
    loses its partitions to the others, and one that cannot reach Kafka for so long takes itself for dead.
    """

    def __init__(
        self,
        connection: Connection,
        topic: str,
        target: str,
        on_change: Callable[[ShareHolder], None],
        patience_s: float,
    ) -> None:
        self._connection, self._topic, self._on_change = connection, topic, on_change
        self._patience_s = max(patience_s, connection.timeout_s)
        self._leaving = threading.Event()
        self._changed = threading.Condition()
        self.trouble: BusError | None = None
        """Why we are no member, and shall not become one: the group refuses us, or does not answer."""
        self.assigned: frozenset[int] = frozenset()
        """Partitions that are ours."""
        self._membership = Membership(
            connection,
            topic,
            f"testops-target-{hashlib.sha256(target.encode()).hexdigest()[:16]}",
            session_ms=_SESSION_MS,
            heartbeat_ms=1500,
            on_assigned=self._assigned,
            on_revoked=self._revoked,
        )
        self._consumer = self._membership.consumer
        try:
            with connection.translated(f"topic {topic}"):
                self.partitions = len(connection.partitions(self._consumer, topic))
                """How many there are."""
        except BaseException:
            self._consumer.close()
            raise
        self._thread = threading.Thread(target=self._stay, name="share", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._leaving.set()
        self._thread.join(_SESSION_MS / 1000)

    def wait(self, is_enough: Callable[[], bool], timeout_s: float) -> bool:
        """Whether `is_enough` holds within this time; it is asked whenever the share changed.

        Raises:
            BusError: the group refuses us, or its coordinator does not answer for the bus's `timeout_s`.
        """
        with self._changed:
            self._changed.wait_for(lambda: is_enough() or self.trouble is not None, timeout_s)
            if self.trouble is not None:
                raise self.trouble
        return is_enough()

    # ------------------------------------------------------------------ in the holder's thread

    def _stay(self) -> None:
        self._membership.join()
        last_seen, patience_s = time.monotonic(), self._connection.timeout_s
        while not self._leaving.is_set():
            message = self._membership.poll(_POLL_S)
            if self.assigned:
                patience_s = self._patience_s
            if self.assigned or self._membership.is_member:
                last_seen = time.monotonic()
            error = message.error() if message is not None else None
            if error is not None and is_final(error):
                self._give_up(self._connection.error(error, self._topic))
            elif time.monotonic() - last_seen > patience_s:
                self._give_up(self._connection.timeout(self._topic))
        self._consumer.close()

    def _give_up(self, trouble: BusError) -> None:
        if self.trouble is None:
            self.trouble = trouble
            self._change(frozenset())

    def _change(self, assigned: frozenset[int]) -> None:
        self.assigned = assigned
        self._on_change(self)
        with self._changed:
            self._changed.notify_all()

    def _assigned(self, places: list[TopicPartition]) -> None:
        if places:
            self._consumer.pause(places)  # there is nothing to fetch
        self._change(self._membership.assigned)

    def _revoked(self, revoked: frozenset[int], is_lost: bool) -> None:
        self._change(self._membership.assigned)
