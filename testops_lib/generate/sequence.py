"""Cases of all operations -> one order in which every prefix is the best use of that many requests."""

from __future__ import annotations

from array import array
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from itertools import chain
from typing import Final, NamedTuple

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
    "guess": (0.4, 0.5),
    "combination": (0.2, 0.3),
}
"""Kind of case -> what the first one about an operation is worth, and how fast further ones of the kind fade: the n-th
is worth 1 / n ** fading of it. Measured by `python -m bench faults`."""

_EFFECTIVE_RULES: Final = frozenset({"required", "type"})
"""Rules that are broken with the most effect."""

_CHEAP: Final = 4
"""One request with data that is broken is worth a turn among the first looks: after those of so many requests."""

_LOOK: Final = 4.0
"""What another look at an operation is worth while none before it was sure to succeed."""

_UNSURE: Final = 3
"""So many positive cases of an operation are looks at it, while none before was sure to succeed."""


class _Look(NamedTuple):
    """What of a case decides its place. Many cases look the same, so that each look is kept once."""

    intent: str
    tags: tuple[str, ...]
    kind: str
    cost: int
    breaks_data: bool
    is_sure: bool


def order(cases: Iterable[Case], spec: Spec) -> tuple[Case, ...]:
    """The cases in the order of an `Arrangement`."""
    given, arrangement = list(cases), Arrangement(spec)
    for case in given:
        arrangement.add(case)
    main, last = arrangement.order()
    return tuple(given[place] for place in (*main, *last))


class Arrangement:
    """Operations reached, then faults, then depth.

    First the first positive case of every operation, cheap ones first, so producers before consumers; among them, one
    request to each whose data is broken, and one for what need not be there. Then whatever is worth most for its
    requests, cleanup included, each kind of case fading as an operation gets more of it; what can only give advisory
    findings is worth little, another look at an operation whose first one may well have been refused is worth much.
    Cases that may end the session or the service (`last`) come at the very end, those that end the most as the last.

    Of an operation's cases with equal tags the given order stands. It keeps some 20 bytes of each case, however large
    these are.
    """

    def __init__(self, spec: Spec) -> None:
        self._place = {operation.key: index for index, operation in enumerate(spec.operations)}
        self._looks: dict[_Look, int] = {}
        self._codes = array("I")
        """By case: which look it is."""
        self._queues: dict[str, array[int]] = defaultdict(lambda: array("I"))
        """Operation -> places of its cases among those that were added."""
        self._final: list[tuple[int, str]] = []

    def add(self, case: Case) -> None:
        """The next case."""
        place = len(self._codes)
        look = _Look(
            intent=case.intent,
            tags=case.tags,
            kind=_kind(case),
            cost=len(case.steps) + len(case.cleanup),
            breaks_data=_breaks_data(case),
            is_sure=_sure(case),
        )
        self._codes.append(self._looks.setdefault(look, len(self._looks)))
        if case.last:
            self._final.append((place, case.operation))
        else:
            self._queues[case.operation].append(place)

    def order(self) -> tuple[array[int], list[int]]:
        """Places of the cases, from 0 in the order in which they were added; those that come `last` apart."""
        looks = list(self._looks)
        turns, ranks, ats, places = array("B"), array("d"), array("I"), array("I")
        for key, queued in self._queues.items():
            queue = [(looks[self._codes[place]], place) for place in queued]
            lead = next((index for index, (look, _) in enumerate(queue) if look.intent == "positive"), 0)
            queue.insert(0, queue.pop(lead))
            at = self._place.get(key, len(self._place))
            known = key in self._place  # about nothing the document offers: its first look is not worth a first turn
            seen: Counter[str] = Counter()
            unsure, broken = known, False
            unknown_resource = _unknown_resource(queue) if known else -1
            for index, (look, place) in enumerate((queue[0], *_varied(queue[1:]))):
                kind = look.kind
                if known and index == 0:
                    turn, rank = 0, float(look.cost)
                elif known and look.cost == 1 and not broken and look.breaks_data:
                    turn, rank, broken = 0, _CHEAP + 0.5, True
                elif place == unknown_resource:
                    turn, rank = 0, _CHEAP + 0.75
                else:
                    worth, fading = _WORTH[kind]
                    worth = _LOOK if unsure and kind == "positive" else worth
                    turn, rank = 1, -worth / (1 + seen[kind]) ** fading / look.cost
                if kind == "positive":
                    unsure = unsure and seen[kind] < _UNSURE - 1 and not look.is_sure
                turns.append(turn)
                ranks.append(rank)
                ats.append(at)
                places.append(place)
                seen[kind] += 1
        order = array("I", range(len(places)))
        for values in (ats, ranks, turns):  # the weightiest last: sorting is stable, and makes no tuple of each case
            order = array("I", sorted(order, key=values.__getitem__))
        return array("I", (places[index] for index in order)), _final(self._final, self._place)


def _unknown_resource(queue: list[tuple[_Look, int]]) -> int:
    """The place of one request for what need not be there, an odd name before one that nothing has; -1: none."""
    alone = [(look, place) for look, place in queue if "alone" in look.tags and look.cost == 1]
    odd = (place for look, place in alone if look.intent == "boundary")
    absent = (place for look, place in alone if "nonexistent" in look.tags)
    return next(chain(odd, absent), -1)


def _final(cases: Iterable[tuple[int, str]], place: Mapping[str, int]) -> list[int]:
    seen: Counter[str] = Counter()
    ranked: list[tuple[int, int, int, int]] = []
    for number, operation in cases:
        at = place.get(operation, len(place))
        ranked.append((_finality(operation), seen[operation], at, number))
        seen[operation] += 1
    return [number for *_, number in sorted(ranked, key=lambda entry: entry[:3])]


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


def _varied(cases: list[tuple[_Look, int]]) -> list[tuple[_Look, int]]:
    """First one of each sort (one per broken rule), then the second of each; effective rules take two a turn."""
    seen: Counter[tuple[str, ...]] = Counter()
    ranked: list[tuple[int, tuple[_Look, int]]] = []
    for look, place in cases:
        sort = (look.intent, *look.tags)
        turn = seen[sort] // (1 + bool(_EFFECTIVE_RULES & set(sort))) if look.intent != "positive" else 0
        ranked.append((turn, (look, place)))
        seen[sort] += 1
    return [case for _, case in sorted(ranked, key=lambda entry: entry[0])]


def _breaks_data(case: Case) -> bool:
    """It says something of how the operation looks at data, not of whether a thing is there."""
    return case.intent == "negative" and not {"nonexistent", "media_type", "method"} & set(case.tags)


def _kind(case: Case) -> str:
    if _only_guesses(case):
        return "guess"
    if case.intent == "security":
        return case.intent
    return next((tag for tag in ("method", "alone", "combination") if tag in case.tags), case.intent)


def _only_guesses(case: Case) -> bool:
    """Whatever it finds is advisory; a valid request may still be the first that succeeds."""
    if case.intent == "positive":
        return False
    bases = [getattr(check, "basis", "") for step in case.steps for check in step.checks]
    return bool(bases) and all(basis == "guess" for basis in bases)


def _sure(case: Case) -> bool:
    """By the document it must succeed."""
    checks = (check for check in case.steps[-1].checks if isinstance(check, PositiveDataAcceptance))
    return any(check.basis != "guess" for check in checks)
