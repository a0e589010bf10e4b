"""What runners share, as arithmetic: which part of a target's limits each has, and who of a fleet gets which batch."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Collection, Iterable, Mapping

from testops_lib.launch.exit_codes import CONFIGURATION, DONE, RETRY, TARGET_DOWN
from testops_lib.model import BatchOrder, Ended, Outcome, Policy, Returned, Taken, Value

GROUP = "testops-fleet"
"""The consumer group that executes orders, when nothing else is said."""

MOST_TAKES = 4
"""An order that was begun so often by members that did not live to say how it ended is not begun again."""


def spread(run: str, batches: int, *, partitions: int, concurrency: int) -> tuple[int, ...]:
    """The partitions that the orders of a run lie in, ascending; none for no batch.

    No more than there are batches, and no more than the target's concurrency, since so many members may work on it.
    Drawn by lot, as nobody knows how they are assigned; the same for the same run, so that a batch that is ordered
    again waits behind its earlier order.
    """
    count = min(partitions, batches, max(1, concurrency))
    return tuple(sorted(random.Random(run).sample(range(partitions), count)))


class Share(Value, frozen=True, kw_only=True):
    """A runner's part of a target's limits."""

    concurrency: int
    """0: no part at all."""
    requests_per_second: float
    """0 where the target has no limit, or there is no part."""


def share(policy: Policy, partitions: int, assigned: Collection[int]) -> Share:
    """The part of the policy's limits that belongs to the assigned ones of so many partitions of the shares.

    The parts of any division of the partitions add up to the policy's limits exactly. Where there are more partitions
    than cases may run at once, some bear nothing; the rate goes with the cases, so that none of it is lost.
    """
    whole = max(1, policy.concurrency)
    own = sum((number + 1) * whole // partitions - number * whole // partitions for number in set(assigned))
    return Share(concurrency=own, requests_per_second=policy.requests_per_second * own / whole)


def least_rate(policy: Policy, partitions: int) -> float:
    """Requests a second of the smallest part that is one, for the time that a batch may need; 0: no limit."""
    return policy.requests_per_second / min(max(1, policy.concurrency), partitions)


def lost_takes(order: BatchOrder, outcomes: Iterable[Outcome]) -> int:
    """How often an order was begun by members that said nothing further of it."""
    own = [outcome for outcome in outcomes if outcome.order == order.id]
    return sum(isinstance(outcome, Taken) for outcome in own) - sum(isinstance(outcome, Returned) for outcome in own)


class Told(Value, frozen=True, kw_only=True):
    """How far the orders of a run are, by batch."""

    ended: dict[str, tuple[int, str]]
    """Batch -> exit code and text."""
    begun: tuple[str, ...] = ()
    """Taken, and not ended."""
    waiting: tuple[str, ...] = ()
    """Not taken, or given back."""


class Standing:
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

    def told(self) -> Told:
        """How far they are now."""
        open_ones = [order for order in self._orders if order not in self._ended]
        return Told(
            ended={self._orders[order]: (one.code, one.text) for order, one in self._ended.items()},
            begun=tuple(self._orders[order] for order in open_ones if self._begun[order] > 0),
            waiting=tuple(self._orders[order] for order in open_ones if self._begun[order] <= 0),
        )


def ending(told: Told) -> tuple[int, str]:
    """What the orders of a run came to when nothing more is waited for, as a runner's exit code, and why in words.

    `CONFIGURATION` when a retry of one of them would not help, else `TARGET_DOWN`, else `RETRY`, else `DONE`.
    """
    refused = {batch: text for batch, (code, text) in told.ended.items() if code not in (DONE, RETRY, TARGET_DOWN)}
    away = {batch: text for batch, (code, text) in told.ended.items() if code == TARGET_DOWN}
    again = {batch: text for batch, (code, text) in told.ended.items() if code == RETRY}
    why = []
    if refused:
        why.append(f"{_batches(refused)} refused by the fleet, first {_first(refused)}")
    if away:
        why.append(f"{_batches(away)} wait for the target, first {_first(away)}")
    if again:
        why.append(f"{_batches(again)} not completed, first {_first(again)}")
    if told.waiting:
        why.append(f"{_batches(told.waiting)} never taken: is the fleet up, and large enough?")
    if told.begun:
        why.append(f"{_batches(told.begun)} taken but not ended: is their runner alive?")
    return CONFIGURATION if refused else TARGET_DOWN if away else RETRY if why else DONE, "; ".join(why)


def _batches(some: Collection[str]) -> str:
    return f"{len(some)} {'batch' if len(some) == 1 else 'batches'}"


def _first(texts: Mapping[str, str]) -> str:
    batch, text = next(iter(texts.items()))
    return f"{batch}: {text}"
