"""A case as it was made, as a person changed it, and as it is made now -> one case, or where the two contradict.

Pure. The documents are merged field by field: what only one side changed is taken, what both changed differently is a
conflict. Lists of named things (checks, captures, headers, query) are merged by name, other lists by their alignment.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from difflib import SequenceMatcher
from typing import Any

import msgspec

from testops_lib.model import Case, make_case

_ABSENT = object()
_NAME = re.compile(r"\{([A-Za-z_][A-Za-z0-9_]*)\}")
_TAGS = ("kind", "check")
"""Members that say which kind of thing an object is: those of two kinds are not merged."""
_LONGEST_LIST = 500
"""Lists of another length than their like are aligned up to this many items: the effort grows with the square."""


def merge(old: Case, edited: Case, new: Case) -> Case | tuple[str, ...]:
    """The case with both sides' changes, its origin `new`'s; or the places, in words, where they contradict."""
    conflicts: list[str] = []
    try:
        merged = _merged(_document(old), _document(edited), _document(new), "", conflicts)
        if conflicts:
            return tuple(conflicts)
        draft = msgspec.convert({**merged, "id": "", "origin": _plain(new.origin)}, Case)
    except (msgspec.ValidationError, RecursionError) as error:
        return (f"together they are no valid case: {error}",)
    case = make_case(
        name=draft.name,
        intent=draft.intent,
        operation=draft.operation,
        steps=draft.steps,
        cleanup=draft.cleanup,
        origin=draft.origin,
        tags=draft.tags,
        last=draft.last,
    )
    if not case.steps:
        return ("steps: none is left",)
    loose = set(_loose(case, old, edited, new)) - {*_loose(edited, old, edited, new), *_loose(new, old, edited, new)}
    return tuple(sorted(loose)) or case


def _plain(value: Any) -> Any:
    return msgspec.json.decode(msgspec.json.encode(value))


def _document(case: Case) -> dict[str, Any]:
    return {key: value for key, value in _plain(case).items() if key not in ("id", "origin")}


def _same(left: Any, right: Any) -> bool:
    """Equal as JSON: unlike Python's `==` it tells `1`, `1.0` and `true` apart."""
    if left is _ABSENT or right is _ABSENT:
        return left is right
    return msgspec.json.encode(left, order="deterministic") == msgspec.json.encode(right, order="deterministic")


def _merged(old: Any, edited: Any, new: Any, where: str, conflicts: list[str]) -> Any:
    if _same(edited, new) or _same(old, new):
        return edited
    if _same(old, edited):
        return new
    three = (old, edited, new)
    if all(isinstance(version, dict) for version in three) and all(
        len({str(version.get(tag)) for version in three}) == 1 for tag in _TAGS
    ):
        merged = {}
        for key in dict.fromkeys((*new, *edited)):
            place = f"{where}.{key}" if where else key
            value = _merged(old.get(key, _ABSENT), edited.get(key, _ABSENT), new.get(key, _ABSENT), place, conflicts)
            if value is not _ABSENT:
                merged[key] = value
        return merged
    if all(isinstance(version, list) for version in three):
        return _merged_lists(old, edited, new, where, conflicts)
    conflicts.append(f"{where}: {_shown(old)} became {_shown(edited)} by hand and {_shown(new)} anew")
    return edited


def _shown(value: Any) -> str:
    if value is _ABSENT:
        return "nothing"
    text = msgspec.json.encode(value).decode()
    return text if len(text) <= 60 else text[:59] + "…"


def _merged_lists(old: list[Any], edited: list[Any], new: list[Any], where: str, conflicts: list[str]) -> list[Any]:
    names = [_names(version) for version in (old, edited, new)]
    if all(keys is not None for keys in names):
        before, by_hand, anew = (
            dict(zip(name or (), items, strict=True)) for name, items in zip(names, (old, edited, new), strict=True)
        )
        merged: dict[str, Any] = {}
        for name in _woven(list(anew), list(by_hand)):
            value = _merged(
                before.get(name, _ABSENT),
                by_hand.get(name, _ABSENT),
                anew.get(name, _ABSENT),
                f"{where}[{name}]",
                conflicts,
            )
            if value is not _ABSENT:
                merged[name] = value
        return list(merged.values())
    if len(old) == len(edited) == len(new):
        return [
            _merged(*items, f"{where}[{at}]", conflicts) for at, items in enumerate(zip(old, edited, new, strict=True))
        ]
    if max(len(old), len(edited), len(new)) > _LONGEST_LIST:
        conflicts.append(f"{where}: too long to be merged")
        return edited
    return _aligned(old, edited, new, where, conflicts)


def _names(items: list[Any]) -> list[str] | None:
    """What tells the items apart; None where they have no names of their own."""
    names = []
    for item in items:
        if isinstance(item, list) and len(item) == 2 and isinstance(item[0], str):
            names.append(item[0])
        elif isinstance(item, dict) and isinstance(item.get("check"), str):
            names.append(" ".join(str(item[key]) for key in ("check", "path", "op", "name") if key in item))
        elif isinstance(item, dict) and isinstance(item.get("name"), str):
            names.append(item["name"])
        else:
            return None
    return names if len(set(names)) == len(names) else None


def _woven(first: list[str], second: list[str]) -> list[str]:
    """The names of both, in the first's order; those of the second alone after the one they followed there."""
    names = list(first)
    for at, name in enumerate(second):
        if name not in first:
            before = next((earlier for earlier in reversed(second[:at]) if earlier in names), None)
            names.insert(0 if before is None else names.index(before) + 1, name)
    return names


def _aligned(old: list[Any], edited: list[Any], new: list[Any], where: str, conflicts: list[str]) -> list[Any]:
    """Both sides' insertions, removals and replacements, as long as they touch different places."""
    hand, anew = _edits(old, edited), _edits(old, new)
    for first, end, items in hand:
        for other, until, others in anew:
            touching = (end == other or until == first) and first < end and other < until
            apart = touching or end < other or until < first
            if not apart and (first, end, items) != (other, until, others):
                conflicts.append(f"{where}: both sides changed the items around {first}")
                return edited
    items_now = list(old)
    unique = {(first, end): items for first, end, items in (*hand, *anew)}
    for (first, end), items in sorted(unique.items(), reverse=True):
        items_now[first:end] = items
    return items_now


def _edits(old: list[Any], other: list[Any]) -> list[tuple[int, int, list[Any]]]:
    before, after = ([msgspec.json.encode(item, order="deterministic") for item in items] for items in (old, other))
    opcodes = SequenceMatcher(None, before, after, autojunk=False).get_opcodes()
    return [(first, end, other[start:until]) for tag, first, end, start, until in opcodes if tag != "equal"]


def _loose(case: Case, *family: Case) -> Iterator[str]:
    """Places that use a name which some version of the case captures, before this one captures it."""
    captured = {capture.name for version in family for step in _steps(version) for capture in step.captures}
    available: set[str] = set()
    for at, step in enumerate(_steps(case)):
        used = set(_NAME.findall(msgspec.json.encode(step.request).decode())) & captured
        for name in sorted(used - available):
            yield f"steps[{at}]: uses {{{name}}}, which no step before captures"
        available.update(capture.name for capture in step.captures)


def _steps(case: Case) -> Sequence[Any]:
    return (*case.steps, *case.cleanup)
