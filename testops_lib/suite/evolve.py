"""What a suite had for an operation, and what its source makes now -> what it has from now on."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Iterable, Sequence
from datetime import datetime

import msgspec

from testops_lib.model import Case, Value
from testops_lib.suite.member import REGRESSION, Change, Member, Status
from testops_lib.suite.merge import merge

_LONGEST_KEY = 200


class Evolved(Value, frozen=True, kw_only=True):
    """What has to be stored: members that are new or changed, their history, and cases that came from merging."""

    members: tuple[Member, ...] = ()
    changes: tuple[Change, ...] = ()
    cases: tuple[Case, ...] = ()


def member_keys(cases: Iterable[Case]) -> list[str]:
    """What each case is known by when it is generated again: its name, numbered from the second of that name on."""
    seen: dict[str, int] = {}
    keys = []
    for case in cases:
        name = case.name
        if len(name) > _LONGEST_KEY:
            name = f"{name[:_LONGEST_KEY]} #{hashlib.sha256(name.encode('utf-8', 'replace')).hexdigest()[:12]}"
        seen[name] = seen.get(name, 0) + 1
        keys.append(name if seen[name] == 1 else f"{name} ({seen[name]})")
    return keys


def member_id(suite: str, operation: str, source: str, key: str) -> str:
    """12 hex digits by which people name a member."""
    text = "\0".join((suite, operation, source, key))
    return hashlib.sha256(text.encode("utf-8", "replace")).hexdigest()[:12]


def evolve(
    known: Sequence[Member],
    fresh: Sequence[Case],
    read: Callable[[str], Case],
    *,
    suite: str,
    operation: str,
    source: str,
    review: str,
    at: datetime,
    replaces: Collection[str] | None = None,
) -> Evolved:
    """How one operation's members of one source change.

    A person's changes survive: they are merged with what is made now, and where the two contradict the person's case
    keeps running while the new one is offered. What is made no longer is retired, unless a person changed it or it is
    kept as a regression.

    Args:
        known: all members of this suite, operation and source, whatever their status.
        fresh: the cases made now, in order.
        read: gives a case by its id; asked only for those of members that were changed.
        review: `never`: what is new runs at once; else it waits as a draft.
        replaces: keys of members that may be retired when they are made no longer; None: all.
    """
    before = {member.key: member for member in known}
    members: list[Member] = []
    changes: list[Change] = []
    cases: list[Case] = []
    new_status: Status = "active" if review == "never" else "draft"
    for position, (key, case) in enumerate(zip(member_keys(fresh), fresh, strict=True)):
        old = before.pop(key, None)
        if old is None:
            members.append(
                Member(
                    id=member_id(suite, operation, source, key),
                    suite=suite,
                    operation=operation,
                    source=source,
                    key=key,
                    position=position,
                    generated=case.id,
                    current=case.id,
                    status=new_status,
                    why="generated",
                    changed=at,
                )
            )
            continue
        now, why = _renewed(old, case, read, new_status, cases)
        if why:
            now = msgspec.structs.replace(now, who="", why=why, changed=at)
            changes.append(_change(old, now, at, why))
        now = msgspec.structs.replace(now, position=position)
        if now != old:
            members.append(now)
    for old in before.values():
        stays = old.edited or old.key.startswith(REGRESSION) or old.status in ("retired", "rejected")
        if stays or (replaces is not None and old.key not in replaces):
            continue
        why = "its source does not make it any more"
        now = msgspec.structs.replace(old, status="retired", offered="", who="", why=why, changed=at)
        members.append(now)
        changes.append(_change(old, now, at, why))
    return Evolved(members=tuple(members), changes=tuple(changes), cases=tuple(cases))


def added(
    known: Sequence[Member], fresh: Sequence[Case], *, suite: str, operation: str, source: str, at: datetime
) -> Evolved:
    """How one operation's members of one source change when cases come on top of them: the known ones do not.

    A case that one of them is, or was before a person changed it, is not added again.
    """
    there = {case_id for member in known for case_id in (member.generated, member.current)}
    taken = {member.key for member in known}
    new = [case for case in fresh if case.id not in there]
    members = []
    for key, case in zip(member_keys(new), new, strict=True):
        name, number = key, 1
        while name in taken:
            number += 1
            name = f"{key} [{number}]"
        taken.add(name)
        members.append(
            Member(
                id=member_id(suite, operation, source, name),
                suite=suite,
                operation=operation,
                source=source,
                key=name,
                position=len(taken),
                generated=case.id,
                current=case.id,
                status="active",
                why="made in a further round",
                changed=at,
            )
        )
    return Evolved(members=tuple(members))


def _renewed(
    old: Member, case: Case, read: Callable[[str], Case], new_status: Status, cases: list[Case]
) -> tuple[Member, str]:
    """The member now that its source makes `case`, and why it changed; "" when nothing did."""
    if case.id == old.generated:
        back = old.status == "retired" or (old.status == "draft" and new_status == "active")
        if not back and not old.offered:
            return old, ""
        status = new_status if back else old.status
        why = "made again" if old.status == "retired" else "no review is asked for" if back else "made as before"
        return msgspec.structs.replace(old, status=status, offered=""), why
    status = _after_change(old.status, new_status)
    if old.current == old.generated:
        return msgspec.structs.replace(old, generated=case.id, current=case.id, status=status), "generated anew"
    merged = merge(read(old.generated), read(old.current), case)
    if isinstance(merged, Case):
        cases.append(merged)
        now = msgspec.structs.replace(old, generated=case.id, current=merged.id, offered="", status=status)
        return now, "generated anew and merged with the change made before"
    if old.offered == case.id:
        return old, ""
    status = "active" if old.status == "retired" else old.status
    return msgspec.structs.replace(old, offered=case.id, status=status), f"conflict: {'; '.join(merged)}"[:2000]


def _after_change(status: Status, new_status: Status) -> Status:
    """A case with new content starts over, except that what a person said stays where nobody would look again."""
    if status == "quarantined" or (status == "rejected" and new_status == "active"):
        return status
    return new_status


def _change(old: Member, now: Member, at: datetime, why: str) -> Change:
    what = f"{old.status} -> {now.status}" if now.status != old.status else "case" if now.current != old.current else ""
    moved = old.current != now.current
    return Change(
        member=old.id,
        suite=old.suite,
        at=at,
        who=now.who,
        what=what or ("conflict" if now.offered else "settled"),
        why=why,
        before=old.current if moved else "",
        after=now.current if moved else "",
    )
