"""Orders of a run for the fleet: each hands one batch to whichever member is free."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta

from testops_lib.bus import batch as batches
from testops_lib.launch import fleet
from testops_lib.launch.runner import REQUESTS_PER_CASE
from testops_lib.model import (
    BatchOrder,
    Ended,
    Value,
)
from testops_lib.run.connect import open_bus
from testops_lib.settings import Settings


class HandedOut(Value, frozen=True, kw_only=True):
    """The orders of a run that wait for the fleet."""

    orders: dict[str, str]
    """Order id -> batch; empty: nothing is missing."""
    outcomes: str
    """Where their outcomes begin (`0:120`)."""
    topic: str = ""
    """Id of the topic of outcomes; the orders are lost when it is another one. Empty: unknown."""
    expires: datetime


def hand_out(
    run: str,
    settings: Settings,
    *,
    plan: str,
    wanted: Sequence[str],
    results: str,
    attempt: int = 1,
    try_number: int = 1,
    down_since: float = 0,
    alone: bool = False,
) -> HandedOut:
    """Orders the wanted batches from the fleet; from the second try on only those that hold a case without a verdict.

    `alone`: one after the other. `down_since`: when the target was found down before (seconds since the epoch).

    Raises:
        ExpiredBatchError: the plan or a batch is no longer in Kafka.
        BusError: a delivery failed; repeating is harmless.
    """
    line = open_bus(settings)
    policy = line.plans.read(batches.parse(plan), run, deadline_s=settings.kafka_timeout_s)[0].policy
    cut = {text: batches.parse(text) for text in wanted}
    missing = list(cut)
    if try_number > 1:
        judged = line.results.judged_cases(batches.parse_positions(results), run, attempt=attempt)
        missing = [
            text for text, batch in cut.items() if any(case not in judged for case in line.cases.ids(batch, run))
        ]
    width = 1 if alone else policy.concurrency
    partitions = fleet.spread(run, len(cut), partitions=line.orders.partition_count(), concurrency=width)
    rate, records = policy.requests_per_second, sum(cut[text].end - cut[text].first for text in missing)
    needed_s = records * REQUESTS_PER_CASE / rate if rate > 0 else 0
    expires = datetime.now(UTC) + timedelta(seconds=settings.fleet_wait_s + needed_s)
    outcomes, topic = batches.positions_text(line.outcomes.position()), line.outcomes.topic_id()
    orders = {
        text: BatchOrder(
            id=uuid.uuid4().hex,
            run=run,
            plan=plan,
            batch=text,
            attempt=attempt,
            results=results,
            outcomes=outcomes,
            partitions=partitions,
            try_number=try_number,
            down_since=down_since,
            expires=expires,
        )
        for text in missing
    }
    places = {text: partitions[number % len(partitions)] for number, text in enumerate(cut)}
    line.orders.publish((places[text], order) for text, order in orders.items())
    by_id = {order.id: text for text, order in orders.items()}
    return HandedOut(orders=by_id, outcomes=outcomes, topic=topic, expires=expires)


def withdraw(run: str, orders: Iterable[str], settings: Settings) -> None:
    """Tells the fleet that nobody waits for these orders: who has not begun with one leaves it.

    Raises:
        BusError: a delivery failed.
    """
    open_bus(settings).outcomes.publish(
        *(Ended(order=order, run=run, member="airflow", code=1, text="withdrawn by Airflow") for order in orders)
    )
