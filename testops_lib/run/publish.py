"""The stages `publish` and `repeat`: the cases of a run, and repetitions of failed ones, into Kafka."""

from __future__ import annotations

import logging
from array import array
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence

import msgspec

from testops_lib.bus import batch as batches
from testops_lib.bus.client import Bus
from testops_lib.errors import GenerateError
from testops_lib.generate.sequence import Arrangement
from testops_lib.model import (
    Batch,
    Case,
    Value,
)
from testops_lib.run import collect as collecting
from testops_lib.run.connect import open_bus
from testops_lib.run.scope import make_contracts, make_plan
from testops_lib.run.start import resolved_run, stored_spec
from testops_lib.settings import Settings
from testops_lib.spec.operation import Spec
from testops_lib.store import Store
from testops_lib.target import Target
from testops_lib.verdict.repetition import Repetitions

_LOG = logging.getLogger(__name__)


class Publication(Value, frozen=True, kw_only=True):
    """Where the cases of a run lie: batches as text (`topic:partition:first-end`)."""

    plan: str
    batches: tuple[str, ...]
    last: tuple[str, ...] = ()
    """To be executed after all others."""
    results: str = ""
    """Where the run's results begin (`0:120,1:98`)."""
    cases: int = 0


def publish(run: str, settings: Settings) -> Publication:
    """Puts the plan and the cases of a run into Kafka; gives the batches.

    Raises:
        GenerateError: there is no case.
        BusError: a delivery failed; repeating is harmless.
    """
    with Store(settings.need_dsn()) as store:
        known_run = resolved_run(store, run)
        target, order = known_run.target, known_run.conf
        spec, about = stored_spec(store, run), store.run(run)
        held = store.held(run)
        chosen = _choose(store.read_cases(run, end="1"), held, spec, target)  # not what rounds made before a clearing
        if not chosen:
            generations = [generation for generation in store.generations(run) if generation.failed]
            failures = dict.fromkeys(f"{generation.source}: {generation.failed}" for generation in generations)
            why = f" ({'; '.join(failures)})" if failures else ""
            raise GenerateError(
                f"no case may run{why}",
                where=target.name,
                next_step="see the log of `generate`, and `testops cases list`",
            )
        line = open_bus(settings)
        positions, topic = line.results.position(), line.results.topic_id()
        contracts, further = make_contracts(spec, target), target.generate.rounds > 0
        plan_batch = line.plans.publish(
            run,
            msgspec.structs.replace(make_plan(spec, target, about.base_url), observe=order.observe or further),
            [contracts[key] for key in contracts if further or key in chosen.operations],
        )
        size = target.policy.cases_per_batch
        main, last = (
            line.cases.publish(run, store.cases_by_id(part()), max_records=size) for part in (chosen.main, chosen.last)
        )
        batched = [*main, *last]
        store.mark_published(run, chosen, positions=positions, topic=topic, plan=plan_batch, batches=batched)
        begin = store.positions(run)  # an earlier publication's, when this is not the first
    return publication(plan_batch, main, last, cases=len(chosen), results=batches.positions_text(begin))


class _Chosen:
    """Ids of a suite's cases in the order in which they are published: one text for all of them."""

    def __init__(self, ids: bytes, ends: Sequence[int], main: Sequence[int], last: Sequence[int]) -> None:
        self._ids, self._ends, self._main, self._last = ids, ends, main, last
        self.operations: set[str] = set()
        """Those that the cases call."""

    def __len__(self) -> int:
        return len(self._main) + len(self._last)

    def __iter__(self) -> Iterator[str]:
        yield from self.main()
        yield from self.last()

    def main(self) -> Iterator[str]:
        return map(self._id, self._main)

    def last(self) -> Iterator[str]:
        """Those to be executed after all others."""
        return map(self._id, self._last)

    def _id(self, place: int) -> str:
        return self._ids[self._ends[place - 1] if place else 0 : self._ends[place]].decode()


def _choose(cases: Iterable[Case], held: Collection[str], spec: Spec, target: Target) -> _Chosen:
    """As `suite` chooses them of cases that are all different, without those held; keeps no case in memory."""
    arrangement, ids, ends = Arrangement(spec), bytearray(), array("Q")
    used: set[str] = set()
    for case in cases:
        if case.id in held:
            continue
        arrangement.add(case)
        ids += case.id.encode()
        ends.append(len(ids))
        used.update(step.operation for step in (*case.steps, *case.cleanup))
    main, last = arrangement.order()
    if most := target.generate.max_cases:
        main, last = main[:most], last[: max(0, most - len(main))]
    chosen = _Chosen(bytes(ids), ends, main, last)
    chosen.operations = used
    return chosen


def publish_cases(
    line: Bus, run: str, read: Callable[[], Iterable[Case]], size: int
) -> tuple[list[Batch], list[Batch]]:
    """The batches of the cases, and those that must be executed after all others.

    `read` gives the cases; it is called twice, so that none needs to be kept in memory.
    """
    main, last = (
        line.cases.publish(run, (case for case in read() if case.last is at_the_end), max_records=size)
        for at_the_end in (False, True)
    )
    return main, last


def repeat(run: str, settings: Settings) -> list[str]:
    """Collects what is there and puts repetitions of failed cases into Kafka; gives their batches.

    They are to be executed one after the other, when nothing else of the run is under way.

    Raises:
        BusError: the results could not be read, or a delivery failed; repeating is harmless.
    """
    with Store(settings.need_dsn()) as store:
        line = open_bus(settings)
        collecting.drain(line, store, run)
        repetitions = Repetitions(store.cases)
        for result in store.results(run):
            repetitions.add(result)
        cases = repetitions.all_at_once()
        store.merge_results(repetitions.left_out)
        made = line.cases.publish(run, cases, one_partition=True) if cases else []
    _LOG.info("%d repetitions of failed cases, %d left out", len(cases), len(repetitions.left_out))
    return [str(batch) for batch in made]


def publication(
    plan_batch: Batch, main: Iterable[Batch], last: Iterable[Batch], *, cases: int, results: str = ""
) -> Publication:
    """The publication of these batches, as text."""
    return Publication(
        plan=str(plan_batch), batches=tuple(map(str, main)), last=tuple(map(str, last)), results=results, cases=cases
    )
