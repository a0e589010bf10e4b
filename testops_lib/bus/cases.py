"""Cases: published in batches, read batch by batch."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

import msgspec

from testops_lib.bus.batch import Placed
from testops_lib.bus.connection import Connection
from testops_lib.bus.dead_letters import DeadLetters
from testops_lib.bus.encoding import CASE
from testops_lib.bus.message import place_of, records_of, run_of
from testops_lib.bus.reading import read_batch
from testops_lib.bus.sending import Sender
from testops_lib.model import Batch, Case, execution_key

if TYPE_CHECKING:
    from testops_lib.bus.message import Record

_AHEAD = 5_000
"""Cases on their way to Kafka: enough to keep it busy, and what publishing takes of memory."""


class Cases:
    """The topic of cases."""

    def __init__(self, connection: Connection, topic: str, dead_letters: DeadLetters) -> None:
        self._connection, self._topic, self._dead_letters = connection, topic, dead_letters

    def publish(
        self,
        run: str,
        cases: Iterable[Case],
        *,
        max_records: int = 200,
        max_bytes: int = 8_000_000,
        one_partition: bool = False,
    ) -> list[Batch]:
        """Writes the cases, each to the partition of its id, and returns the batches that contain each case once.

        `one_partition`: all cases go to one partition, so that the batches keep their sequence.

        Every case is acknowledged by all in-sync replicas when this returns. Within a partition cases keep
        their sequence.

        Raises:
            BusError: a delivery failed (the case may be in the topic or not), or a case is over `MAX_RECORD_BYTES`.
        """
        placed = Placed()

        def delivered(record: Record) -> None:
            placed.add(*place_of(record), len(record))

        with Sender.open(self._connection, self._topic, ahead=_AHEAD) as sender:
            partition = partition_of(run, sender.partitions(self._topic)) if one_partition else -1
            for case in cases:
                sender.send(
                    self._topic,
                    msgspec.json.encode(case),
                    key=execution_key(case.id, case.repeat),
                    run=run,
                    partition=partition,
                    delivered=delivered,
                )
        return placed.batches(self._topic, max_records=max_records, max_bytes=max_bytes)

    def read(self, batch: Batch, run: str, *, deadline_s: float = 60) -> Iterator[Case]:
        """The run's cases of a batch, in the topic's sequence, read as the caller iterates.

        Records that are no case go to the dead letters.

        Args:
            batch: the slice.
            run: records of other runs are skipped.
            deadline_s: how long the next record may be waited for; the caller's own time does not count.

        Raises:
            ExpiredBatchError: records of the batch are no longer in the topic.
            BusError: the topic is missing, the brokers are away, or a dead letter could not be written.
        """
        for record in read_batch(self._connection, batch, deadline_s):
            if (its_run := run_of(record)) not in (run, None):
                continue
            try:
                if its_run is None:
                    raise ValueError("the record has no header `run`")
                yield CASE.decode(record.value() or b"")
            except (msgspec.MsgspecError, ValueError) as error:
                self._dead_letters.bury(record, str(error))
        self._dead_letters.flush()

    def ids(self, batch: Batch, run: str) -> Iterator[str]:
        """Ids (`execution_key`) of the run's cases in a batch, in the topic's sequence, also of records that are no
        case.

        Raises:
            ExpiredBatchError: records of the batch are no longer in the topic.
            BusError: the topic is missing or the brokers are away.
        """
        for record in records_of(run, read_batch(self._connection, batch, self._connection.timeout_s)):
            yield (record.key() or b"").decode("utf-8", "replace")


def partition_of(run: str, partitions: list[int]) -> int:
    """The partition for records of a run that must lie together."""
    return partitions[sum(run.encode()) % len(partitions)]
