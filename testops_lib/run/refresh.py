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
    request: GenerationRequest,
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
    target = request.target
    hashes = {operation.key: operation.content_hash for operation in request.spec.operations}
    keys = {operation.key: sources.key(source, request, operation) for operation in request.operations}
    before = store.made(named, source, keys)
    stale = tuple(
        operation
        for operation in request.operations
        if again or not suites.is_current(before.get(operation.key), keys[operation.key], hashes)
    )
    if not stale:
        return Generation(source=source)
    instructions = "\n".join(filter(None, (target.generate.instruction, instruction)))
    generate = msgspec.structs.replace(target.generate, instruction=instructions)
    instructed = msgspec.structs.replace(target, generate=generate)
    made = sources.make(source, msgspec.structs.replace(request, operations=stale, target=instructed))
    cases, now = _by_operation(stale, made.cases), datetime.now(UTC)
    with store.locked(named):
        members = _members(store, named, source, cases)
        changed = [member for group in members.values() for member in group if member.current != member.generated]
        documents = store.cases({case for member in changed for case in (member.current, member.generated)})
        evolved = [
            suites.evolve(
                members[key],
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
                else [member.key for member in members[key] if member.id in replaces],
            )
            for key, fresh in cases.items()
        ]
        _keep(store, named, source, made.cases, evolved)
        store.put_made(named, source, _decided(stale, keys, made, cases, hashes))
    return made.generation


def add(store: Store, named: str, source: str, request: GenerationRequest) -> tuple[Generation, tuple[Case, ...]]:
    """Adds the source's cases for the gaps of `request.feedback` to the suite; returns what they cost, and them.

    A gap that it was asked for before, when it was the same, is not asked for again: its cases are in the suite.

    Raises:
        GenerateError: the source is needed and cannot work.
    """
    assert request.feedback is not None
    rounds = f"{source} round"
    gaps = {gap.operation: gap for gap in request.feedback.gaps}
    hashes = {operation.key: operation.content_hash for operation in request.spec.operations}
    keys = {
        operation.key: suites.digest(sources.key(source, request, operation), _state(gaps[operation.key]))
        for operation in request.operations
        if operation.key in gaps
    }
    before = store.made(named, rounds, keys)
    stale = tuple(
        operation
        for operation in request.operations
        if operation.key in keys and not suites.is_current(before.get(operation.key), keys[operation.key], hashes)
    )
    if not stale:
        return Generation(source=source), ()
    made = sources.make(source, msgspec.structs.replace(request, operations=stale))
    cases, now = _by_operation(stale, made.cases), datetime.now(UTC)
    with store.locked(named):
        members = _members(store, named, source, cases)
        added = [
            suites.added(members[key], fresh, suite=named, operation=key, source=source, at=now)
            for key, fresh in cases.items()
        ]
        _keep(store, named, source, made.cases, added)
        store.put_made(named, rounds, _decided(stale, keys, made, cases, hashes))
    return made.generation, made.cases


def _by_operation(asked: Iterable[Operation], cases: Iterable[Case]) -> dict[str, list[Case]]:
    grouped: dict[str, list[Case]] = {operation.key: [] for operation in asked}
    for case in cases:
        grouped.setdefault(case.operation, []).append(case)
    return grouped


def _members(store: Store, named: str, source: str, operations: Collection[str]) -> dict[str, list[suites.Member]]:
    grouped: dict[str, list[suites.Member]] = {key: [] for key in operations}
    for member in store.members(named, source=source, operations=operations):
        grouped[member.operation].append(member)
    return grouped


def _state(gap: Gap) -> tuple[object, ...]:
    """What makes a gap another one; what the answers said word by word does not."""
    return gap.reached, gap.unexplored, sorted({refusal.status for refusal in gap.refusals})


def _keep(store: Store, named: str, source: str, cases: Iterable[Case], evolved: Sequence[suites.Evolved]) -> None:
    """A case that another source brought into the suite stays known as that one's."""
    others = {
        member.current for member in store.members(named) if member.source != source and member.status in suites.RUNS
    }
    every = (*cases, *(case for evolution in evolved for case in evolution.cases))
    store.put_cases([case for case in every if case.id not in others])
    store.put_members(
        [member for evolution in evolved for member in evolution.members],
        [change for evolution in evolved for change in evolution.changes],
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
        operation.key: suites.Made(
            key=keys[operation.key], calls=suites.calls(cases[operation.key], operation.key, hashes)
        )
        for operation in asked
        if operation.key not in made.unfinished and operation.key not in made.generation.not_tested
    }
