"""Results from the bus to the store: one loop, used bounded by a run's `collect` task and following by the live pages.

Both may run at once and as often as wanted: what the store keeps depends on the results, not on how often they come.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping

from testops_lib.bus.client import Bus
from testops_lib.errors import BusError, StoreError
from testops_lib.model import Value
from testops_lib.run.connect import open_bus
from testops_lib.settings import Settings
from testops_lib.store import Store

_LOG = logging.getLogger(__name__)

_PAUSE_S = 1.0
"""Between two drains: time for a replica that just became leader to learn how far the topic is acknowledged."""


class Counts(Value, frozen=True, kw_only=True):
    """What became of a run's cases. Once collected, published == stored + no_result."""

    published: int
    stored: int
    """Cases with a result of their own."""
    no_result: int
    """Cases that were given an errored one."""


def collect_run(run: str, settings: Settings, *, deadline_s: float = 300, attempt: int = 1) -> Counts:
    """The stage `collect`: as `collect` does it, on the bus and the store that the settings name."""
    with Store(settings.need_dsn()) as store:
        return collect(open_bus(settings), store, run, deadline_s=deadline_s, attempt=attempt)


def collect(bus: Bus, store: Store, run: str, *, deadline_s: float = 300, attempt: int = 1) -> Counts:
    """Stores all results of a run that are in the topic and closes the cases that have none in this attempt.

    Call it when the runners are done: every acknowledged result is then before the topic's end. Drains once, and once
    more when something is missing.

    Raises:
        BusError: the topic's end was not reached in time, or the brokers are away: nothing was closed, repeat it.
        StoreError: PostgreSQL is away, or the run is not known.
    """
    deadline = time.monotonic() + deadline_s
    positions = drain(bus, store, run, deadline_s=deadline_s)
    missing = store.missing(run, attempt=attempt)
    if missing:
        time.sleep(min(_PAUSE_S, max(0.0, deadline - time.monotonic())))
        drain(bus, store, run, positions=positions, deadline_s=deadline - time.monotonic())
        missing = store.missing(run, attempt=attempt)
    if missing:
        _LOG.warning("run %s: %d cases have no result, the first is %s", run, len(missing), missing[0])
    store.close_missing(run, attempt=attempt)
    published, without = store.published(run), store.without_result(run)
    return Counts(published=published, stored=published - without, no_result=without)


def drain(
    bus: Bus, store: Store, run: str, *, positions: Mapping[int, int] | None = None, deadline_s: float = 300
) -> dict[int, int]:
    """Stores the run's results that are in the topic now, from `positions` (default: where they begin); gives its end.

    Raises:
        BusError: the topic's end was not reached in time, or the brokers are away: repeat it.
        StoreError: PostgreSQL is away, or the run is not known.
    """
    until = time.monotonic() + deadline_s
    reader = bus.results.read(
        store.positions(run, topic=bus.results.topic_id()) if positions is None else dict(positions),
        follow=False,
        stop=lambda: time.monotonic() > until,
        run=run,
    )
    for results in reader:
        store.merge_results(results)
    if not reader.complete:
        raise BusError(
            f"the end of {bus.topics.results} was not reached in {deadline_s:g} s",
            where=f"run {run}",
            next_step="repeat with more time; what was read is stored",
        )
    return dict(reader.positions)


def follow(bus: Bus, store: Store, *, stop: Callable[[], bool], run: str | None = None) -> None:
    """Stores results as they come until `stop`, about three times a second.

    Begins where the results of the open runs begin (of one run, when given), so a restart loses nothing.
    Brokers and database may go away: it waits, up to 10 s between tries, and then begins there again, since what comes
    back may be an empty topic, or a database restored from a backup.
    """
    wait_s = 0.5
    while not stop():
        try:
            topic = bus.results.topic_id()
            begun = store.positions(run, topic=topic) if run is not None else store.open_positions(topic=topic)
            positions = bus.results.position()
            positions |= {
                partition: min(offset, positions.get(partition, offset)) for partition, offset in begun.items()
            }
            for results in bus.results.read(positions, follow=True, stop=stop, run=run):
                store.merge_results(results)
                wait_s = 0.5
        except (BusError, StoreError) as error:
            _LOG.warning("collecting pauses for %g s: %s", wait_s, error)
            wake = time.monotonic() + wait_s
            while time.monotonic() < wake and not stop():
                time.sleep(0.1)
            wait_s = min(wait_s * 2, 10)
