"""Plans: what a runner must know of a run's target, read before its cases."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import msgspec

from testops_lib.bus.cases import partition_of
from testops_lib.bus.connection import Connection
from testops_lib.bus.encoding import PLAN, encode_plan_record
from testops_lib.bus.message import place_of, records_of
from testops_lib.bus.reading import read_batch
from testops_lib.bus.sending import Sender
from testops_lib.errors import BusError
from testops_lib.model import Batch, Contract, Plan

if TYPE_CHECKING:
    from testops_lib.bus.message import Record


class Plans:
    """The topic of plans."""

    def __init__(self, connection: Connection, topic: str) -> None:
        self._connection, self._topic = connection, topic

    def publish(self, run: str, plan: Plan, contracts: Iterable[Contract]) -> Batch:
        """Writes the plan, then the contracts, and returns the one slice that holds them.

        Raises:
            BusError: a delivery failed.
        """
        offsets: list[int] = []

        def delivered(record: Record) -> None:
            offsets.append(place_of(record)[1])

        with Sender.open(self._connection, self._topic) as sender:
            partition = partition_of(run, sender.partitions(self._topic))

            def send(record: Plan | Contract, key: str) -> None:
                data = encode_plan_record(record)
                sender.send(self._topic, data, key=key, run=run, partition=partition, delivered=delivered)

            send(plan, "plan")
            for contract in contracts:
                send(contract, contract.operation)
        return Batch(topic=self._topic, partition=partition, first=min(offsets), end=max(offsets) + 1)

    def read(self, batch: Batch, run: str, *, deadline_s: float = 60) -> tuple[Plan, dict[str, Contract]]:
        """The plan of a run, and its contracts by operation.

        Raises:
            ExpiredBatchError: it is no longer in the topic.
            BusError: the slice holds no plan of this run, or a record that is neither plan nor contract; the topic is
                missing, or the brokers are away.
        """
        plan: Plan | None = None
        contracts: dict[str, Contract] = {}
        for message in records_of(run, read_batch(self._connection, batch, deadline_s)):
            try:
                record = PLAN.decode(message.value() or b"")
            except (msgspec.MsgspecError, ValueError) as error:
                raise BusError(
                    f"the record at offset {message.offset()} is neither plan nor contract: {error}",
                    where=str(batch),
                    next_step="publish the run again with the version that the runner has",
                ) from error
            if isinstance(record, Plan):
                plan = record
            else:
                contracts[record.operation] = record
        if plan is None:
            raise BusError(f"no plan of the run {run!r}", where=str(batch), next_step="check --run and --plan")
        return plan, contracts
