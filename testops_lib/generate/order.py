"""Cases of all operations -> one order in which every prefix is the best use of that many requests."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from typing import Final

from testops_lib.generate.rules.words import is_static, segments, words
from testops_lib.model import Case, PositiveDataAcceptance
from testops_lib.spec.operation import Spec

_WORTH: Final[Mapping[str, tuple[float, float]]] = {
    "stateful": (2.0, 0.5),
    "security": (1.2, 1.0),
    "method": (0.8, 1.0),
    "alone": (1.2, 0.4),
    "negative": (1.0, 0.4),
    "boundary": (0.6, 0.4),
    "positive": (0.6, 0.7),
    "combination": (0.2, 0.3),
}
"""Kind of case -> what the first one about an operation is worth, and how fast further ones of the kind fade: the n-th
is worth 1 / n ** fading of it. Measured by `python -m bench faults`."""

_TELLING: Final = frozenset({"required", "type"})
"""Rules that are broken with the most effect."""

_CHEAP: Final = 4
"""One request with data that is broken is worth a turn among the first looks: after those of so many requests."""

_LOOK: Final = 4.0
"""What another look at an operation is worth while none before it was sure to succeed."""

_UNSURE: Final = 3
"""So many positive cases of an operation are looks at it, while none before was sure to succeed."""


def order(cases: Iterable[Case], spec: Spec) -> tuple[Case, ...]:
    """Operations reached, then faults, then depth.

    First the first positive case of every operation, cheap ones first, so producers before consumers; among them, one
    request to each whose data is broken. Then whatever is worth most for its requests, cleanup included, each kind of
    case fading as an operation gets more of it; another look at an operation whose first one may well have been refused
    is worth much. Cases that may end the session or the service (`last`) come at the very end, those that end the most
    as the last.

    Of an operation's cases with equal tags the given order stands.
    """
    place = {operation.key: index for index, operation in enumerate(spec.operations)}
    queues: dict[str, list[Case]] = defaultdict(list)
    final: list[Case] = []
    for case in cases:
        (final if case.last else queues[case.operation]).append(case)
    turns: list[tuple[float, float, int, Case]] = []
    for key, queue in queues.items():
        lead = next((index for index, case in enumerate(queue) if case.intent == "positive"), 0)
        queue.insert(0, queue.pop(lead))
        at = place.get(key, len(place))
        known = key in place  # about nothing the document offers: a first look at it is not worth a first turn
        seen: Counter[str] = Counter()
        unsure, broken = known, False
        for index, case in enumerate((queue[0], *_varied(queue[1:]))):
            cost = len(case.steps) + len(case.cleanup)
            kind = _kind(case)
            if known and index == 0:
                turn, rank = 0, float(cost)
            elif known and cost == 1 and not broken and _breaks_data(case):
                turn, rank, broken = 0, _CHEAP + 0.5, True
            else:
                worth, fading = _WORTH[kind]
                worth = _LOOK if unsure and kind == "positive" else worth
                turn, rank = 1, -worth / (1 + seen[kind]) ** fading / cost
            if kind == "positive":
                unsure = unsure and seen[kind] < _UNSURE - 1 and not _sure(case)
            turns.append((turn, rank, at, case))
            seen[kind] += 1
    turns.sort(key=lambda entry: entry[:3])
    return (*(case for *_, case in turns), *_final(final, place))


def _final(cases: list[Case], place: Mapping[str, int]) -> list[Case]:
    seen: Counter[str] = Counter()
    ranked: list[tuple[int, int, int, Case]] = []
    for case in cases:
        at = place.get(case.operation, len(place))
        ranked.append((_finality(case.operation), seen[case.operation], at, case))
        seen[case.operation] += 1
    return [case for *_, case in sorted(ranked, key=lambda entry: entry[:3])]


_ENDS: Final = (
    frozenset("account accounts user users me self profile principal principals member members".split()),
    frozenset("session sessions login logout signout token tokens auth".split()),
    frozenset("shutdown restart reboot stop terminate poweroff maintenance drain".split()),
)
"""What an operation that comes last may end: whoever asks, the session, the service."""


def _finality(operation: str) -> int:
    """0: it ends data alone; then as `_ENDS`, each of which leaves nothing for those before it."""
    named = {word for part in segments(operation.partition(" ")[2]) if is_static(part) for word in words(part)}
    return max((index for index, ends in enumerate(_ENDS, 1) if named & ends), default=0)


def _varied(cases: list[Case]) -> list[Case]:
    """First one of each sort (the same rule broken, say), then the second of each; two of the telling ones a turn."""
    seen: Counter[tuple[str, ...]] = Counter()
    ranked: list[tuple[int, Case]] = []
    for case in cases:
        sort = (case.intent, *case.tags)
        ranked.append((seen[sort] // (1 + bool(_TELLING & set(sort))) if case.intent != "positive" else 0, case))
        seen[sort] += 1
    return [case for _, case in sorted(ranked, key=lambda entry: entry[0])]


def _breaks_data(case: Case) -> bool:
    """It says something of how the operation looks at data, not of whether a thing is there."""
    return case.intent == "negative" and not {"nonexistent", "media_type", "method"} & set(case.tags)


def _kind(case: Case) -> str:
    return next((tag for tag in ("method", "alone", "combination") if tag in case.tags), case.intent)


def _sure(case: Case) -> bool:
    """By the document it must succeed."""
    checks = (check for check in case.steps[-1].checks if isinstance(check, PositiveDataAcceptance))
    return any(check.basis != "guess" for check in checks)
