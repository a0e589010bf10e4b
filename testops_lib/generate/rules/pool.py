"""Values seen in answers -> the value a parameter or field needs, by what the names say of the things they name."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from testops_lib.generate.rules.resources import ENVELOPES, Need, Output, fitness
from testops_lib.generate.rules.words import collection_noun, noun, words
from testops_lib.spec.operation import Operation

_ENOUGH = 6
"""Fit below which two names have too little in common: nothing said so but the schema's shape."""


class Pool:
    """What earlier rounds saw: `GET /users` answered `id` 7, so `{user_id}` may be 7.

    Args:
        seen: operation key -> dotted place in its successful answers -> values (`feedback.Seen`).
        operations: the spec's, by key; what others answered is left out.
    """

    def __init__(
        self, seen: Mapping[str, Mapping[str, tuple[str | int | float, ...]]], operations: Mapping[str, Operation]
    ) -> None:
        self._known: list[tuple[Output, tuple[str | int | float, ...]]] = []
        for key, places in seen.items():
            if key not in operations:
                continue
            whole = collection_noun(operations[key].path)
            for place, values in places.items():
                *around, name = place.split(".")
                for thing in _things(around, whole):
                    output = Output(path="", item="", name=name, thing=thing, schema=True, many=False)
                    self._known.append((output, values))

    def __bool__(self) -> bool:
        return bool(self._known)

    def values(self, need: Need) -> Iterator[str | int | float]:
        """Values that may be what is needed, the likeliest first."""
        rated = [(fitness(output, need, False), values) for output, values in self._known]
        for rating, values in sorted(rated, key=lambda each: -each[0]):
            if rating >= _ENOUGH:
                yield from values


def _things(around: list[str], whole: str) -> list[str]:
    """What the object may be that holds a value: `data.members` are members, or as `data` says nothing, the whole."""
    found: list[str] = []
    for name in reversed(around):
        found.append(noun(name))
        if words(name)[-1:] and words(name)[-1] not in ENVELOPES:
            return found
    return [*found, whole]
