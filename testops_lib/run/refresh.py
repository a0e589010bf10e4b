"""Brings a suite to what its sources make now: only what changed is made again, and no gap is asked for twice."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import UTC, datetime

import msgspec

from testops_lib import suite as suites
from testops_lib.generate import Generated, sources
from testops_lib.generate.feedback import Gap
from testops_lib.generate.sources import GenerationRequest
from testops_lib.model import Case, Generation
from testops_lib.spec.operation import Operation
from testops_lib.store import Store


def refresh(
    store: Store,
    named: str,
    source: str,
    ask: GenerationRequest,
    *,
    again: bool = False,
    replaces: Collection[str] | None = None,
    instruction: str = "",
) -> Generation:
    """Makes the source's cases of those operations that changed and brings the suite to them; gives what it cost.

    Args:
        named: the suite.
        again: of all operations, changed or not.
        replaces: ids of members that may be retired when they are made no longer; None: all.
        instruction: what a person asks of a model besides, this once.

    Raises:
        GenerateError: the source is needed and cannot work.
    """
    target = ask.target
    hashes = {each.key: each.content_hash for each in ask.spec.operations}
    keys = {each.key: sources.key(source, ask, each) for each in ask.operations}
    before = store.made(named, source, keys)
    stale = tuple(
        each for each in ask.operations if again or not suites.is_current(before.get(each.key), keys[each.key], hashes)
    )
    if not stale:
        return Generation(source=source)
    told = "\n".join(filter(None, (target.generate.instruction, instruction)))
    generate = msgspec.structs.replace(target.generate, instruction=told)
    instructed = msgspec.structs.replace(target, generate=generate)
    made = sources.make(source, msgspec.structs.replace(ask, operations=stale, target=instructed))
    cases, now = _by_operation(stale, made.cases), datetime.now(UTC)
    with store.locked(named):
        known = _members(store, named, source, cases)
        changed = [each for found in known.values() for each in found if each.current != each.generated]
        documents = store.cases({one for each in changed for one in (each.current, each.generated)})
        evolved = [
            suites.evolve(
                known[key],
                fresh,
                documents.__getitem__,
                suite=named,
                operation=key,
                source=source,
                review=target.generate.review,
                at=now,
                replaces=()
                if key in made.unfinished
                else None
                if replaces is None
                else [each.key for each in known[key] if each.id in replaces],
            )
            for key, fresh in cases.items()
        ]
        _keep(store, named, source, made.cases, evolved)
        store.put_made(named, source, _decided(stale, keys, made, cases, hashes))
    return made.generation


def add(store: Store, named: str, source: str, ask: GenerationRequest) -> tuple[Generation, tuple[Case, ...]]:
    """Makes the source's cases for the gaps of `ask.feedback` and adds them to the suite; gives what it cost, and them.

    A gap that it was asked for before, when it was the same, is not asked for again: its cases are in the suite.

    Raises:
        GenerateError: the source is needed and cannot work.
    """
    assert ask.feedback is not None
    rounds = f"{source} round"
    gaps = {gap.operation: gap for gap in ask.feedback.gaps}
    hashes = {each.key: each.content_hash for each in ask.spec.operations}
    keys = {
        each.key: suites.digest(sources.key(source, ask, each), _state(gaps[each.key]))
        for each in ask.operations
        if each.key in gaps
    }
    before = store.made(named, rounds, keys)
    stale = tuple(
        each
        for each in ask.operations
        if each.key in keys and not suites.is_current(before.get(each.key), keys[each.key], hashes)
    )
    if not stale:
        return Generation(source=source), ()
    made = sources.make(source, msgspec.structs.replace(ask, operations=stale))
    cases, now = _by_operation(stale, made.cases), datetime.now(UTC)
    with store.locked(named):
        known = _members(store, named, source, cases)
        added = [
            suites.added(known[key], fresh, suite=named, operation=key, source=source, at=now)
            for key, fresh in cases.items()
        ]
        _keep(store, named, source, made.cases, added)
        store.put_made(named, rounds, _decided(stale, keys, made, cases, hashes))
    return made.generation, made.cases


def _by_operation(asked: Iterable[Operation], cases: Iterable[Case]) -> dict[str, list[Case]]:
    found: dict[str, list[Case]] = {each.key: [] for each in asked}
    for case in cases:
        found.setdefault(case.operation, []).append(case)
    return found


def _members(store: Store, named: str, source: str, operations: Collection[str]) -> dict[str, list[suites.Member]]:
    found: dict[str, list[suites.Member]] = {key: [] for key in operations}
    for member in store.members(named, source=source, operations=operations):
        found[member.operation].append(member)
    return found


def _state(gap: Gap) -> tuple[object, ...]:
    """What makes a gap another one; what the answers said word by word does not."""
    return gap.reached, gap.unexplored, sorted({refusal.status for refusal in gap.refusals})


def _keep(store: Store, named: str, source: str, cases: Iterable[Case], evolved: Sequence[suites.Evolved]) -> None:
    """A case that another source brought into the suite stays known as that one's."""
    others = {each.current for each in store.members(named) if each.source != source and each.status in suites.RUNS}
    every = (*cases, *(case for each in evolved for case in each.cases))
    store.put_cases([case for case in every if case.id not in others])
    store.put_members(
        [member for each in evolved for member in each.members],
        [change for each in evolved for change in each.changes],
    )


def _decided(
    asked: Iterable[Operation],
    keys: Mapping[str, str],
    made: Generated,
    cases: Mapping[str, Sequence[Case]],
    hashes: Mapping[str, str],
) -> dict[str, suites.Made]:
    """What decided the cases of each operation that was wholly answered; one without a case is asked for again."""
    return {
        each.key: suites.Made(key=keys[each.key], calls=suites.calls(cases[each.key], each.key, hashes))
        for each in asked
        if each.key not in made.unfinished and each.key not in made.generation.not_tested
    }
