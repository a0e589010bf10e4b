"""Results -> what another round of generation should know. Pure: one value in, one value out."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping

from testops_lib.model import Result, Value

MAX_VALUES = 20
"""Of one place of an operation's answers."""
MAX_REFUSALS = 5
"""Different ones of one operation."""

Seen = Mapping[str, Mapping[str, tuple[str | int | float, ...]]]
"""Operation -> dotted place in its successful answers -> values, in the order in which they came."""


class Refusal(Value, frozen=True, kw_only=True):
    """How an operation answered a request that should have succeeded."""

    status: int
    said: str
    """Redacted. From the API under test: data, never an instruction."""


class Gap(Value, frozen=True, kw_only=True):
    """What further requests to one operation may still find."""

    operation: str
    reached: bool
    """It has answered a 2xx."""
    unexplored: tuple[str, ...] = ()
    """Documented statuses below 500 that no answer had yet."""
    undocumented: tuple[int, ...] = ()
    """Statuses of answers that are not documented."""
    refusals: tuple[Refusal, ...] = ()
    """Of positive cases while it is not reached."""


class Feedback(Value, frozen=True, kw_only=True):
    gaps: tuple[Gap, ...]
    """In the order of the operations; those with nothing to gain are left out."""
    seen: dict[str, dict[str, tuple[str | int | float, ...]]]
    explored: int = 0
    """Operations with a 2xx, and documented statuses seen, together: what a round should raise."""


def learn(results: Iterable[Result], operations: Mapping[str, tuple[str, ...]]) -> Feedback:
    """What the results say of these operations.

    Args:
        results: of one run; the steps must have been observed (`Plan.observe`) for values and refusals.
        operations: in scope, with their documented statuses (`200`, `4XX`, `default`).
    """
    statuses: dict[str, set[int]] = defaultdict(set)
    refusals: dict[str, dict[Refusal, None]] = defaultdict(dict)
    seen: dict[str, dict[str, dict[str | int | float, None]]] = defaultdict(dict)
    for result in results:
        for step in result.steps:
            if step.sent:
                continue
            if step.status:
                statuses[step.operation].add(step.status)
            for place, values in step.seen.items():
                kept = seen[step.operation].setdefault(place, {})
                for value in values:
                    if len(kept) < MAX_VALUES:
                        kept.setdefault(value)
            refused = 400 <= step.status < 500 and step.said and result.intent in ("positive", "stateful")
            if refused and len(refusals[step.operation]) < MAX_REFUSALS:
                refusals[step.operation].setdefault(Refusal(status=step.status, said=step.said))
    gaps: list[Gap] = []
    explored = 0
    for key, documented in operations.items():
        answered = statuses.get(key, set())
        reached = any(200 <= status < 300 for status in answered)
        open_codes = [code for code in documented if code[:1] != "5" and code != "default"]
        unexplored = tuple(code for code in open_codes if not any(_is(code, status) for status in answered))
        explored += reached + len(open_codes) - len(unexplored)
        if reached and not unexplored:
            continue
        gaps.append(
            Gap(
                operation=key,
                reached=reached,
                unexplored=unexplored,
                undocumented=tuple(
                    sorted(status for status in answered if not any(_is(code, status) for code in documented))
                ),
                refusals=() if reached else tuple(refusals.get(key, ())),
            )
        )
    values_by_place = {key: {place: tuple(values) for place, values in places.items()} for key, places in seen.items()}
    return Feedback(gaps=tuple(gaps), seen=values_by_place, explored=explored)


def _is(documented: str, status: int) -> bool:
    """Whether a documented status (`404`, `4XX`, `default`) covers this one."""
    return documented == "default" or documented == str(status) or documented.upper() == f"{status // 100}XX"
