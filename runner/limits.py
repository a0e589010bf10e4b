"""The runner's share of its target's limits: the engine is given as much as the other runners leave it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from testops_lib.bus.client import Bus
from testops_lib.bus.shares import ShareHolder
from testops_lib.errors import BusError
from testops_lib.execute import Engine
from testops_lib.http.url import origin
from testops_lib.launch.shares import share_of
from testops_lib.model import Plan

_LOOK_S = 0.5
"""While a runner waits for a share, it looks this often whether its work was taken away."""


@contextmanager
def limited(bus: Bus, plan: Plan, engine: Engine, limit_s: float, is_cancelled: Callable[[], bool]) -> Iterator[None]:
    """The engine has this runner's share of the target's limits, as large as the others leave it at each moment.

    Entered when there is a share to work with, or `is_cancelled`.

    Raises:
        BusError: Kafka does not say which share is ours, or there was none for `limit_s`; on leaving, too.
    """

    def limit_engine(holder: ShareHolder) -> None:
        share = share_of(plan.policy, holder.partitions, holder.assigned)
        engine.limit(concurrency=share.concurrency, requests_per_second=share.requests_per_second)
        if holder.trouble is not None:
            engine.stop()

    def may_send() -> bool:
        return share_of(plan.policy, holder.partitions, holder.assigned).concurrency > 0

    begun = time.monotonic()
    with bus.shares.join(str(origin(plan.base_url)), limit_engine, patience_s=limit_s) as holder:
        while not holder.wait(may_send, _LOOK_S) and not is_cancelled():
            if time.monotonic() - begun > limit_s:
                raise BusError(
                    "other runners have all of the target's limits", where=plan.base_url, next_step="repeat it later"
                )
        yield
        if holder.trouble is not None:
            raise holder.trouble
