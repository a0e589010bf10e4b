"""Brings a suite to what its sources make now: only what changed is made again."""

from __future__ import annotations

from collections.abc import Collection
from datetime import UTC, datetime

import msgspec

from testops_lib import sources
from testops_lib import suite as suites
from testops_lib.model import Case, Generation
from testops_lib.sources import Ask
from testops_lib.store import Store


def renew(
    store: Store, named: str, source: str, ask: Ask, *, again: bool = False, replaces: Collection[str] | None = None,
    instruction: str = "",
) -> Generation:  # fmt: skip
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
    cases: dict[str, list[Case]] = {each.key: [] for each in stale}
    for case in made.cases:
        cases.setdefault(case.operation, []).append(case)
    now = datetime.now(UTC)
    with store.locked(named):
        known: dict[str, list[suites.Member]] = {key: [] for key in cases}
        for member in store.members(named, source=source, operations=cases):
            known[member.operation].append(member)
        changed = [each for found in known.values() for each in found if each.current != each.generated]
        documents = store.cases({one for each in changed for one in (each.current, each.generated)})
        evolved = [
            suites.evolve(
                known[key], fresh, documents.__getitem__, suite=named, operation=key, source=source,
                review=target.generate.review, at=now,
                replaces=() if key in made.unfinished else None if replaces is None
                else [each.slot for each in known[key] if each.id in replaces],
            )
            for key, fresh in cases.items()
        ]  # fmt: skip
        store.put_cases([*made.cases, *(case for each in evolved for case in each.cases)])
        store.put_members(
            [member for each in evolved for member in each.members],
            [change for each in evolved for change in each.changes],
        )
        store.put_made(
            named,
            source,
            {
                each.key: suites.Made(
                    key=keys[each.key],
                    calls=suites.calls(cases[each.key], each.key, hashes),
                )
                for each in stale
                if each.key not in made.unfinished
            },
        )
    return made.generation
