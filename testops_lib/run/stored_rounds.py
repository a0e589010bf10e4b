"""The stages of a further round of a stored run: `find_gaps`, `generate`, `publish`. `rounds` decides.

Every stage may be repeated. The cases that a language model makes join the suite, because they were paid for; those of
the other sources hold values of this run's answers and end with it.
"""

from __future__ import annotations

import logging

import msgspec

from testops_lib.errors import GenerateError
from testops_lib.generate.sources import GenerationRequest, deduct, is_paid, make, summarize
from testops_lib.model import Case, Generation
from testops_lib.run.collect import drain
from testops_lib.run.connect import open_bus
from testops_lib.run.generate import spent_before
from testops_lib.run.publish import Publication, publication, publish_cases
from testops_lib.run.refresh import add
from testops_lib.run.rounds import NoRound, Progress, Round, learned, next_round, remaining, request_for, wanted_rounds
from testops_lib.run.scope import arrange
from testops_lib.run.start import resolved_run, stored_spec
from testops_lib.settings import Settings
from testops_lib.spec.operation import Spec
from testops_lib.store import Store
from testops_lib.target import Target
from testops_lib.text import printable

_LOG = logging.getLogger(__name__)


def find_gaps(run: str, number: int, settings: Settings) -> int:
    """Collects the results so far; gives how many operations round `number` could gain something of, 0: no round.

    Raises:
        BusError: the results could not be read.
    """
    with Store(settings.need_dsn()) as store:
        target = resolved_run(store, run).target
        if number > wanted_rounds(target.generate):
            return 0
        drain(open_bus(settings), store, run)
        spec = stored_spec(store, run)
        feedback = learned(store.results(run), spec, target)
        explored = _explored_before(store, run, number, spec, target) if number > 1 and feedback.gaps else None
    decision = next_round(target.generate, feedback, Progress(number=number, explored=explored))
    if isinstance(decision, NoRound):
        _LOG.info("no further round: %s", decision.reason)
        return 0
    for gap in feedback.gaps:
        reached, unexplored = "" if gap.reached else "no 2xx; ", ", ".join(gap.unexplored) or "nothing"
        _LOG.info("%s: %snot seen: %s", printable(gap.operation), reached, printable(unexplored))
    return len(feedback.gaps)


def _explored_before(store: Store, run: str, number: int, spec: Spec, target: Target) -> int:
    """What was explored before the last round's cases ran."""
    newest = {case.id for case in _cases_of_round(store, run, number - 1)}
    return learned((result for result in store.results(run) if result.case not in newest), spec, target).explored


def generate(run: str, number: int, settings: Settings) -> int:
    """Makes the cases of round `number`; gives how many of them the run did not have.

    A source that cannot work is left out, and its `Generation` says why: the run goes on without it.
    """
    count = 0
    with Store(settings.need_dsn()) as store:
        target = resolved_run(store, run).target
        spec = stored_spec(store, run)
        suite = store.run(run).suite
        known = {case.id for case in store.read_cases(run, end=str(number))}
        room = max(0, target.generate.max_cases - len(known)) if target.generate.max_cases else None
        request = request_for(
            Round(
                number=number,
                sources=target.generate.sources,
                feedback=learned(store.results(run), spec, target),
            ),
            spec,
            target,
            settings,
            limits=remaining(target, store.generations(run), spent_before=spent_before(store, run, target)),
        )
        for source in target.generate.sources:
            generation, cases = _make(store, suite, source, request)
            new_cases = {case.id: case for case in cases if case.id not in known}
            chosen = arrange(new_cases.values(), spec, target)[:room]
            known.update(case.id for case in chosen)
            room = None if room is None else room - len(chosen)
            store.put_cases(chosen)
            store.put_group(run, f"{number}-{source}", [case.id for case in chosen], generation)
            request = msgspec.structs.replace(request, limits=deduct(request.limits, generation))
            count += len(chosen)
            _LOG.info("%s: %d further cases", source, len(chosen))
            for line in summarize(generation):
                _LOG.info("%s", printable(line))
    return count


def _make(store: Store, suite: str, source: str, request: GenerationRequest) -> tuple[Generation, tuple[Case, ...]]:
    try:
        if is_paid(source):
            return add(store, suite, source, request)
        made = make(source, request)
    except GenerateError as error:
        return Generation(source=source, notes=(f"a further round could not be made: {error}",)), ()
    return made.generation, made.cases


def publish(run: str, number: int, settings: Settings) -> Publication:
    """Puts the cases of round `number` into Kafka, to be judged by the run's own plan.

    Raises:
        ExpiredBatchError: the run's plan is no longer in Kafka.
        BusError: a delivery failed; repeating is harmless.
    """
    with Store(settings.need_dsn()) as store:
        target, about = resolved_run(store, run).target, store.run(run)
        assert about.plan_batch is not None
        held = store.held(run)
        new_cases = [case for case in _cases_of_round(store, run, number) if case.id not in held]
        cases = arrange(new_cases, stored_spec(store, run), target)
        line = open_bus(settings)
        line.plans.read(about.plan_batch, run, deadline_s=settings.kafka_timeout_s)
        main, last = publish_cases(line, run, lambda: cases, target.policy.cases_per_batch)
        store.mark_published(
            run, [case.id for case in cases], positions=about.positions, batches=[*main, *last], further=True
        )
    return publication(about.plan_batch, main, last, cases=len(cases))


def _cases_of_round(store: Store, run: str, number: int) -> list[Case]:
    return store.load_cases(run, first=str(number), end=str(number + 1))
