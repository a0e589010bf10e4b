"""Further rounds of a run: what the API answered goes back to the sources, which make more cases of it.

Every stage may be repeated, as those before them. What a language model makes joins the suite, for it was paid for;
what the others make holds values of this run's answers and ends with it.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from functools import reduce

import msgspec

from testops_lib.errors import GenerateError
from testops_lib.generate.feedback import Feedback, learn
from testops_lib.generate.sources import GenerationRequest, deduct, is_paid, make, spending_limits, summarize
from testops_lib.model import Case, Generation, Result
from testops_lib.run import collect as collecting
from testops_lib.run.connect import open_bus
from testops_lib.run.generate import spent_before
from testops_lib.run.publish import Publication, publication, publish_cases
from testops_lib.run.refresh import add
from testops_lib.run.scope import arrange, documented, in_scope
from testops_lib.run.start import resolved_run, stored_spec
from testops_lib.settings import Settings
from testops_lib.spec.operation import Spec
from testops_lib.store import Store
from testops_lib.target import Target
from testops_lib.text import printable

_LOG = logging.getLogger(__name__)


def find_gaps(run: str, turn: int, settings: Settings) -> int:
    """Collects what is there; gives how many operations a round could gain of, 0 when there should be none.

    None is left when no operation has a gap, and when the round before gained nothing.

    Args:
        turn: the number of the round, from 1.

    Raises:
        BusError: the results could not be read.
    """
    with Store(settings.need_dsn()) as store:
        target = resolved_run(store, run).target
        if target.generate.review != "never" or turn > target.generate.rounds:
            return 0
        collecting.drain(open_bus(settings), store, run)
        spec = stored_spec(store, run)
        told = _learned(store.results(run), spec, target)
        if not told.gaps:
            _LOG.info("every operation answered a 2xx, and every documented status was seen")
            return 0
        if turn > 1:
            last = {case.id for case in _of_round(store, run, turn - 1)}
            before = _learned((one for one in store.results(run) if one.case not in last), spec, target)
            if told.explored <= before.explored:
                _LOG.info("round %d gained nothing: no further one", turn - 1)
                return 0
    for gap in told.gaps:
        reached, unexplored = "" if gap.reached else "no 2xx; ", ", ".join(gap.unexplored) or "nothing"
        _LOG.info("%s: %snot seen: %s", printable(gap.operation), reached, printable(unexplored))
    return len(told.gaps)


def generate(run: str, turn: int, settings: Settings) -> int:
    """Makes the cases of a round; gives how many of them the run did not have.

    A source that cannot work is left out, and its `Generation` says why: a round is a bonus.
    """
    count = 0
    with Store(settings.need_dsn()) as store:
        target = resolved_run(store, run).target
        spec = stored_spec(store, run)
        known = {case.id for case in store.read_cases(run, end=str(turn))}
        most = max(0, target.generate.max_cases - len(known)) if target.generate.max_cases else None
        spent = reduce(deduct, store.generations(run), spending_limits(target, spent=spent_before(store, run, target)))
        ask = GenerationRequest(
            spec=spec,
            operations=in_scope(spec, target),
            target=target,
            settings=settings,
            feedback=_learned(store.results(run), spec, target),
            limits=spent,
        )
        for source in target.generate.sources:
            generation, made = _made(store, store.run(run).suite, source, ask)
            fresh = {case.id: case for case in made if case.id not in known}
            chosen = arrange(fresh.values(), spec, target)[:most]
            known.update(case.id for case in chosen)
            most = None if most is None else most - len(chosen)
            store.put_cases(chosen)
            store.put_group(run, f"{turn}-{source}", [case.id for case in chosen], generation)
            ask = msgspec.structs.replace(ask, limits=deduct(ask.limits, generation))
            count += len(chosen)
            _LOG.info("%s: %d further cases", source, len(chosen))
            for line in summarize(generation):
                _LOG.info("%s", printable(line))
    return count


def _made(store: Store, suite: str, source: str, ask: GenerationRequest) -> tuple[Generation, tuple[Case, ...]]:
    try:
        if is_paid(source):
            return add(store, suite, source, ask)
        made = make(source, ask)
    except GenerateError as error:
        return Generation(source=source, notes=(f"a further round could not be made: {error}",)), ()
    return made.generation, made.cases


def publish(run: str, turn: int, settings: Settings) -> Publication:
    """Puts the cases of a round into Kafka, to be judged by the run's own plan.

    Raises:
        ExpiredBatchError: the run's plan is no longer in Kafka.
        BusError: a delivery failed; repeating is harmless.
    """
    with Store(settings.need_dsn()) as store:
        target = resolved_run(store, run).target
        held = store.held(run)
        fresh = [case for case in _of_round(store, run, turn) if case.id not in held]
        cases = arrange(fresh, stored_spec(store, run), target)
        about, line = store.run(run), open_bus(settings)
        assert about.plan_batch is not None
        line.plans.read(about.plan_batch, run, deadline_s=settings.kafka_timeout_s)
        main, last = publish_cases(line, run, lambda: cases, target.policy.cases_per_batch)
        store.mark_published(
            run, [case.id for case in cases], positions=about.positions, batches=[*main, *last], further=True
        )
    return publication(about.plan_batch, main, last, cases=len(cases))


def _of_round(store: Store, run: str, turn: int) -> list[Case]:
    return store.load_cases(run, first=str(turn), end=str(turn + 1))


def _learned(results: Iterable[Result], spec: Spec, target: Target) -> Feedback:
    return learn(results, documented(in_scope(spec, target)))
