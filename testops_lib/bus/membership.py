"""Membership in a consumer group: Kafka gives each partition of a topic to one living member at most."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import msgspec
from confluent_kafka import Consumer, TopicPartition

from testops_lib.bus.connection import Connection

if TYPE_CHECKING:
    from testops_lib.bus.message import Record


_REJOIN_S = 2.0


class _Coordinator(msgspec.Struct):
    state: str = ""
    join_state: str = ""


class _Statistics(msgspec.Struct):
    """The fields of librdkafka's statistics that say whether it is a member of its group."""

    cgrp: _Coordinator = msgspec.field(default_factory=_Coordinator)


_STATISTICS = msgspec.json.Decoder(_Statistics)


class Membership:
    """A member of a consumer group; partitions come and go one by one (cooperative). For one thread.

    Args:
        connection: the cluster.
        topic: whose partitions are assigned.
        group: its name.
        session_ms: a member silent for so long counts as dead, and others get its partitions.
        heartbeat_ms: how often the member reports to the coordinator.
        on_assigned: called within `poll` with the partitions that were added to `assigned`.
        on_revoked: called within `poll` and `consumer.close` with the partitions that were removed from
            `assigned`, and whether others may have them already, since we counted as dead. Otherwise another
            member gets them only when this returns.
        options: further ones of the consumer.
    """

    def __init__(
        self,
        connection: Connection,
        topic: str,
        group: str,
        *,
        session_ms: int,
        heartbeat_ms: int,
        on_assigned: Callable[[list[TopicPartition]], None],
        on_revoked: Callable[[frozenset[int], bool], None],
        **options: Any,
    ) -> None:
        self._topic, self._on_assigned, self._on_revoked = topic, on_assigned, on_revoked
        self._coordinator = _Coordinator()
        self.assigned: frozenset[int] = frozenset()
        """Partitions that are ours."""
        self._rejoin_at, self._rejoin_s = 0.0, 0.0
        """When to join anew if we have no partition, and the pause before; 0: we did not lose any."""
        self.consumer = Consumer(
            connection.configuration(
                **{
                    "group.id": group,
                    "partition.assignment.strategy": "cooperative-sticky",
                    "enable.auto.commit": False,
                    "enable.auto.offset.store": False,
                    "session.timeout.ms": session_ms,
                    "heartbeat.interval.ms": heartbeat_ms,
                    "topic.metadata.refresh.interval.ms": 10_000,
                    "statistics.interval.ms": 1000,
                    "stats_cb": self._on_statistics,
                    **options,
                }
            )
        )

    def poll(self, timeout_s: float) -> Record | None:
        """What `consumer.poll` gives. Calls the callbacks."""
        message = self.consumer.poll(timeout_s)
        if self.assigned:
            self._rejoin_s = 0.0
        elif self._rejoin_s and self.is_member and time.monotonic() > self._rejoin_at:
            self._rejoin()
        return message

    def join(self) -> None:
        """Asks for partitions; they are assigned within `poll`."""
        self.consumer.subscribe([self._topic], on_assign=self._assign, on_revoke=self._revoke, on_lost=self._lose)

    @property
    def is_member(self) -> bool:
        """Whether the group's coordinator answers and has us in the group."""
        return (self._coordinator.state, self._coordinator.join_state) == ("up", "steady")

    def _rejoin(self) -> None:
        """Joins anew, less and less often.

        Who lost the partitions and joined again while the topic was away, since Kafka came back empty, is a member
        without a partition: librdkafka does not notice that the topic is there again.
        """
        self._rejoin_s *= 2
        self._rejoin_at = time.monotonic() + self._rejoin_s
        self.consumer.unsubscribe()
        self.join()

    def _assign(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        consumer.incremental_assign(partitions)
        self.assigned |= {place.partition for place in partitions}
        self._on_assigned(partitions)

    def _revoke(self, consumer: Consumer, partitions: list[TopicPartition], is_lost: bool = False) -> None:
        revoked = frozenset(place.partition for place in partitions)
        self.assigned -= revoked
        self._on_revoked(revoked, is_lost)
        consumer.incremental_unassign(partitions)

    def _lose(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        self._rejoin_s = _REJOIN_S
        self._rejoin_at = time.monotonic() + self._rejoin_s
        self._revoke(consumer, partitions, is_lost=True)

    def _on_statistics(self, text: str) -> None:
        with suppress(msgspec.MsgspecError):
            self._coordinator = _STATISTICS.decode(text).cgrp
