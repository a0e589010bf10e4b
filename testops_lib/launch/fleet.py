"""Orders of batches, as arithmetic: where a run's orders lie, and how far the fleet's runners are with them."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Collection, Iterable, Mapping

from testops_lib.launch.exit_codes import CONFIGURATION, DONE, RETRY, TARGET_DOWN
from testops_lib.model import BatchOrder, Ended, Outcome, Returned, Taken, Value

GROUP = "testops-fleet"
"""The consumer group that executes orders, when nothing else is said."""

MAX_CRASHES = 4
"""An order whose runners died so often is given up."""


def spread(run: str, batches: int, *, partitions: int, concurrency: int) -> tuple[int, ...]:
    """The partitions that the orders of a run lie in, ascending; none for no batch.

    No more than there are batches, and no more than the target's concurrency, since so many runners may work on it.
    Drawn at random, since their assignment to runners is unknown; always the same for a run, so that a batch that is
    ordered again waits behind its earlier order.
    """
    count = min(partitions, batches, max(1, concurrency))
    return tuple(sorted(random.Random(run).sample(range(partitions), count)))


def crashes(order: BatchOrder, outcomes: Iterable[Outcome]) -> int:
    """How many runners began with the order and died before they reported how it ended."""
    kinds = Counter(type(outcome) for outcome in outcomes if outcome.order == order.id)
    return kinds[Taken] - kinds[Returned]


class OrderProgress(Value, frozen=True, kw_only=True):
    """How far the orders of a run are, by batch."""

    ended: dict[str, tuple[int, str]]
    """Batch -> exit code and text."""
    begun: tuple[str, ...] = ()
    """A runner works on it."""
    waiting: tuple[str, ...] = ()
    """No runner began with it, or the one that did gave it back."""


class OrderTracker:
    """Follows the orders of a run by their outcomes, which may come twice.

    Args:
        orders: order id -> batch.
    """

    def __init__(self, orders: Mapping[str, str]) -> None:
        self._orders = dict(orders)
        self._ended: dict[str, Ended] = {}
        self._begun: Counter[str] = Counter()

    def add(self, outcome: Outcome) -> None:
        """Takes one outcome into account; those of other orders are left out."""
        if outcome.order not in self._orders:
            return
        if isinstance(outcome, Ended):
            self._ended.setdefault(outcome.order, outcome)
        else:
            self._begun[outcome.order] += 1 if isinstance(outcome, Taken) else -1

    @property
    def complete(self) -> bool:
        return len(self._ended) == len(self._orders)

    def progress(self) -> OrderProgress:
        """How far they are now."""
        open_orders = {order: batch for order, batch in self._orders.items() if order not in self._ended}
        return OrderProgress(
            ended={self._orders[order]: (ended.code, ended.text) for order, ended in self._ended.items()},
            begun=tuple(batch for order, batch in open_orders.items() if self._begun[order] > 0),
            waiting=tuple(batch for order, batch in open_orders.items() if self._begun[order] <= 0),
        )


def ending(progress: OrderProgress) -> tuple[int, str]:
    """What the orders of a run came to when nothing more is waited for, as a runner's exit code, and why in words.

    `CONFIGURATION` when a retry of one of them would not help, else `TARGET_DOWN`, else `RETRY`, else `DONE`.
    """
    ended = progress.ended.items()
    refused = {batch: text for batch, (code, text) in ended if code not in (DONE, RETRY, TARGET_DOWN)}
    down = {batch: text for batch, (code, text) in ended if code == TARGET_DOWN}
    again = {batch: text for batch, (code, text) in ended if code == RETRY}
    reasons = []
    if refused:
        reasons.append(f"{_batches(refused)} refused by the fleet, first {_first(refused)}")
    if down:
        reasons.append(f"{_batches(down)} wait for the target, first {_first(down)}")
    if again:
        reasons.append(f"{_batches(again)} not completed, first {_first(again)}")
    if progress.waiting:
        reasons.append(f"{_batches(progress.waiting)} never taken: is the fleet up, and large enough?")
    if progress.begun:
        reasons.append(f"{_batches(progress.begun)} taken but not ended: is their runner alive?")
    code = CONFIGURATION if refused else TARGET_DOWN if down else RETRY if reasons else DONE
    return code, "; ".join(reasons)


def _batches(batches: Collection[str]) -> str:
    return f"{len(batches)} {'batch' if len(batches) == 1 else 'batches'}"


def _first(texts: Mapping[str, str]) -> str:
    batch, text = next(iter(texts.items()))
    return f"{batch}: {text}"
