"""How the runners that work on a target share its limits: arithmetic on the partitions assigned to each."""

from __future__ import annotations

from collections.abc import Collection

from testops_lib.model import Policy, Value


class Share(Value, frozen=True, kw_only=True):
    """A runner's share of a target's limits."""

    concurrency: int
    """0: the runner may send nothing."""
    requests_per_second: float
    """0 where the target has no limit, or the runner may send nothing."""


def share_of(policy: Policy, partitions: int, assigned: Collection[int]) -> Share:
    """The share of the policy's limits that belongs to the assigned ones of so many partitions.

    The shares of any division of the partitions add up to the policy's limits exactly. Where there are more partitions
    than cases may run at once, some bear nothing; the rate goes with the cases, so that none of it is lost.
    """
    whole = max(1, policy.concurrency)
    concurrency = sum(
        (partition + 1) * whole // partitions - partition * whole // partitions for partition in set(assigned)
    )
    return Share(concurrency=concurrency, requests_per_second=policy.requests_per_second * concurrency / whole)


def least_rate(policy: Policy, partitions: int) -> float:
    """Requests a second of the smallest share above 0, for the time that a batch may need; 0: no limit."""
    return policy.requests_per_second / min(max(1, policy.concurrency), partitions)
