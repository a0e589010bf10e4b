"""What people do to a suite between runs, one call each: look, edit, approve, quarantine, promote, resolve conflicts.

Whoever calls says who acts and why; both stay in the history of each case.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Sequence
from contextlib import ExitStack
from datetime import UTC, datetime
from fnmatch import fnmatchcase
from typing import Literal

import msgspec

from testops_lib import spec as specs
from testops_lib import suite as suites
from testops_lib.errors import CaseError, StoreError
from testops_lib.generate.jsonpath import refusal
from testops_lib.model import Case, JsonPathIs, Value, make_case
from testops_lib.redact import sensitive
from testops_lib.run.conf import resolve, suite_name
from testops_lib.run.start import read_spec
from testops_lib.settings import Settings
from testops_lib.spec import drift as drifts
from testops_lib.spec.operation import Spec
from testops_lib.store import Store
from testops_lib.suite import Change, Member, Status
from testops_lib.target import RunConf

MAX_CASE_BYTES = 256 * 1024


MAX_STEPS = 50


MEMBER_ID = re.compile(r"[0-9a-f]{4,32}")


class MemberDetails(Value, frozen=True, kw_only=True):
    """A member with everything that is known of it."""

    member: Member
    case: Case
    offered: Case | None = None
    """The new case of a conflict."""
    changes: tuple[Change, ...] = ()


def list_members(
    settings: Settings,
    suite: str,
    *,
    operations: Sequence[str] = (),
    statuses: Collection[str] = (),
    sources: Collection[str] = (),
) -> list[Member]:
    """The suite's members by operation, source and position; `operations` are globs, empty filters take all.

    Raises:
        StoreError: there is no such suite.
    """
    with Store(settings.need_dsn()) as store:
        members = store.members(suite)
        if not members:
            names = ", ".join(store.suites()) or "none; a run of a target makes its suite"
            raise StoreError(f"there is no suite {suite!r}", where="suites", next_step=f"there are: {names}")
    wanted = [operation_glob(pattern) for pattern in operations]
    return [
        member
        for member in members
        if (not wanted or any(fnmatchcase(member.operation, glob) for glob in wanted))
        and (not statuses or member.status in statuses)
        and (not sources or member.source in sources)
    ]


def operation_glob(pattern: str) -> str:
    """A glob over operation keys in which braces and brackets stand for themselves, the method in capitals."""
    method, blank, path = pattern.strip().partition(" ")
    return (f"{method.upper()} {path.strip()}" if blank else pattern.strip()).replace("[", "[[]")


def show(settings: Settings, name: str) -> MemberDetails:
    """The member whose id, or whose case's id, begins with `name`.

    Raises:
        StoreError: none or several do.
    """
    with Store(settings.need_dsn()) as store:
        member = find_member(store, name)
        cases = store.cases({member.current, member.offered} - {""})
        return MemberDetails(
            member=member,
            case=cases[member.current],
            offered=cases.get(member.offered),
            changes=tuple(store.changes(member.id)),
        )


def find_member(store: Store, name: str) -> Member:
    name = name.strip().lower()
    if not MEMBER_ID.fullmatch(name):
        raise StoreError(
            f"{name!r} is no id",
            where="cases",
            next_step="give at least 4 of its hexadecimal digits: see `testops cases list`",
        )
    members = store.named_members(name)
    if len(members) == 1:
        return members[0]
    exact = [member for member in members if name in (member.id, member.current)]
    if len(exact) == 1:
        return exact[0]
    if not members:
        raise StoreError(f"there is no case {name!r}", where="cases", next_step="see `testops cases list`")
    several = ", ".join(f"{member.id} ({member.suite}: {member.operation})" for member in members[:5])
    raise StoreError(f"{name!r} is not one case alone", where="cases", next_step=f"give more of: {several}")


def drift(settings: Settings, target: str) -> drifts.Drift:
    """What changed from the document that the target's last run read to the one that it has now.

    Raises:
        StoreError: the target was never run.
    """
    order = RunConf(target=target)
    now = read_spec(order, resolve(order, settings))
    suite = suite_name(order, settings)
    with Store(settings.need_dsn()) as store:
        before = store.suite_spec(suite)
        if not before:
            raise StoreError("was never run", where=f"target {target}", next_step="give two documents, or run it first")
        return drifts.compare(specs.decode(store.get_spec(before)), now)


_MOVES: dict[str, tuple[frozenset[Status], Status]] = {
    "approve": (frozenset({"draft", "rejected"}), "active"),
    "reject": (frozenset({"draft", "active", "quarantined"}), "rejected"),
    "quarantine": (frozenset({"active", "draft"}), "quarantined"),
    "unquarantine": (frozenset({"quarantined"}), "active"),
}
"""What a person may say -> the statuses it applies to and what they become."""


Move = Literal["approve", "reject", "quarantine", "unquarantine"]


def move(settings: Settings, names: Sequence[str], to: Move, *, who: str, why: str) -> list[Member]:
    """The members after the move: all of them, or none when one is in no fitting status.

    Raises:
        StoreError: there is no such case, or it is in another status.
    """
    allowed, status = _MOVES[to]

    def moved(member: Member) -> Member:
        if member.status not in allowed:
            raise StoreError(
                f"is {member.status}",
                where=f"case {member.id}",
                next_step=f"`{to}` is for cases that are {' or '.join(sorted(allowed))}",
            )
        return msgspec.structs.replace(member, status=status)

    members = find_members(settings, names)
    with Store(settings.need_dsn()) as store, ExitStack() as transaction:
        for suite in sorted({member.suite for member in members}):  # in one order, so that no two wait for each other
            transaction.enter_context(store.locked(suite))
        return [change_member(store, member, moved, who=who, why=why) for member in members]


def find_members(settings: Settings, names: Sequence[str]) -> list[Member]:
    with Store(settings.need_dsn()) as store:
        return list({member.id: member for member in (find_member(store, name) for name in names)}.values())


def change_member(
    store: Store,
    member: Member,
    changed: Callable[[Member], Member],
    *,
    who: str,
    why: str,
    what: str = "",
    cases: Sequence[Case] = (),
) -> Member:
    """The member as `changed` makes it of its latest state, stored with a line of history."""
    now = datetime.now(UTC)
    with store.locked(member.suite):
        latest = find_member(store, member.id)
        after = msgspec.structs.replace(changed(latest), who=who, why=why, changed=now)
        event = what or f"{latest.status} -> {after.status}"
        differs = latest.current != after.current
        store.put_cases(cases)
        store.put_members(
            [after],
            [
                Change(
                    member=after.id,
                    suite=after.suite,
                    at=now,
                    who=who,
                    what=event,
                    why=why,
                    before=latest.current if differs else "",
                    after=after.current if differs else "",
                )
            ],
        )
    return after


def promote(settings: Settings, name: str, *, who: str, why: str) -> Member:
    """The member, its checks that rest on a guess now resting on a person's word.

    Raises:
        StoreError: there is no such case, or none of its checks rests on a guess.
    """
    shown = show(settings, name)
    if not suites.guesses(shown.case):
        raise StoreError(
            "has no advisory check", where=f"case {shown.member.id}", next_step="nothing needs to be promoted"
        )
    case = suites.promoted(shown.case, "human")

    def changed(member: Member) -> Member:
        _unchanged(member, shown.member)
        return msgspec.structs.replace(member, current=case.id, edited=True)

    with Store(settings.need_dsn()) as store:
        return change_member(store, shown.member, changed, who=who, why=why, what="promoted", cases=[case])


def _unchanged(latest: Member, seen: Member) -> None:
    if (latest.current, latest.offered) != (seen.current, seen.offered):
        raise StoreError("was changed meanwhile", where=f"case {latest.id}", next_step="look at it and try again")


def edit(settings: Settings, name: str, document: bytes, *, who: str, why: str) -> Member:
    """The member, running the case that the JSON document describes from now on.

    Raises:
        StoreError: there is no such case.
        CaseError: the document is no case that may take its place.
    """
    shown = show(settings, name)
    case = _read(settings, shown, document)

    def changed(member: Member) -> Member:
        _unchanged(member, shown.member)
        return msgspec.structs.replace(member, current=case.id, edited=True)

    with Store(settings.need_dsn()) as store:
        return change_member(store, shown.member, changed, who=who, why=why, what="edited", cases=[case])


def resolve_conflict(
    settings: Settings,
    name: str,
    take: Literal["ours", "theirs", "other"],
    *,
    document: bytes = b"",
    who: str,
    why: str,
) -> Member:
    """The member without its conflict: with the person's case, the new one, or another that a document describes.

    Raises:
        StoreError: there is no such case, or no conflict.
        CaseError: the document is no case that may take its place.
    """
    shown = show(settings, name)
    offered = shown.offered
    if offered is None:
        raise StoreError("has no conflict", where=f"case {shown.member.id}", next_step="see `testops cases conflicts`")
    chosen = _read(settings, shown, document) if take == "other" else shown.case if take == "ours" else offered

    def changed(member: Member) -> Member:
        _unchanged(member, shown.member)
        return msgspec.structs.replace(
            member, generated=offered.id, current=chosen.id, offered="", edited=chosen.id != offered.id
        )

    with Store(settings.need_dsn()) as store:
        return change_member(
            store, shown.member, changed, who=who, why=why, what=f"conflict settled: {take}", cases=[chosen]
        )


def _read(settings: Settings, shown: MemberDetails, document: bytes) -> Case:
    """The case of a person's document, which takes the place of the one shown."""
    where = f"case {shown.member.id}"
    if len(document) > MAX_CASE_BYTES:
        raise CaseError(f"has {len(document):,} bytes", where=where, next_step=f"at most {MAX_CASE_BYTES:,}")
    try:
        proposed = msgspec.json.decode(document, type=Case)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise CaseError(
            f"the document is no case: {error}",
            where=where,
            next_step="begin with `testops cases show ID --json`; its schema: docs/case.schema.json",
        ) from error
    with Store(settings.need_dsn()) as store:
        stored = store.suite_spec(shown.member.suite)
        spec = specs.decode(store.get_spec(stored)) if stored else None
    problem = _problem(proposed, shown.case, spec)
    if problem:
        raise CaseError(problem, where=where, next_step="correct the document")
    return make_case(
        name=proposed.name,
        intent=proposed.intent,
        operation=proposed.operation,
        steps=proposed.steps,
        cleanup=proposed.cleanup,
        origin=shown.case.origin,
        tags=proposed.tags,
        last=proposed.last,
    )


def _problem(case: Case, before: Case, spec: Spec | None) -> str:
    """Why the case may not take the place of the one before, or ""."""
    if case.operation != before.operation:
        return f"operation: it must stay {before.operation}"
    if not case.steps or len(case.steps) + len(case.cleanup) > MAX_STEPS:
        return f"steps: there must be 1 to {MAX_STEPS}, cleanup included"
    offered = {operation.key for operation in spec.operations} if spec else None
    for at, step in enumerate((*case.steps, *case.cleanup)):
        where = f"steps[{at}]" if at < len(case.steps) else f"cleanup[{at - len(case.steps)}]"
        if offered is not None and step.operation not in offered:
            return f"{where}.operation: the document of the last run has no {step.operation}"
        if not step.request.path.startswith("/"):
            return f"{where}.request.path: it must begin with /"
        for name, value in (*step.request.headers, *step.request.cookies):
            if sensitive(name):
                return f"{where}: {name} holds a credential; credentials come from the target, `identity` chooses them"
            if "\n" in value or "\r" in value or "\n" in name:
                return f"{where}: {name!r} holds a line break"
        paths = [check.path for check in step.checks if isinstance(check, JsonPathIs)]
        paths += [capture.path for capture in step.captures if capture.source == "body"]
        for path in paths:
            if why := refusal(path):
                return f"{where}: {why}"
    return ""
