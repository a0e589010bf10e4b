"""Operations' response times in earlier runs -> which are slower now than they ever were, beyond noise: pure."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence

from testops_lib.model import OperationReport, Value

RUNS = 10
"""Earlier runs that are looked at."""
LEAST_RUNS = 8
LEAST_ANSWERS = 5
"""2xx answers of an operation in a run, from which its median says anything."""

_FACTOR = 2.5
_FLOOR_MS = 50.0
"""Nobody acts on less, and a busy machine adds as much to an answer of a few milliseconds."""
_SPREADS = 6.0
"""Of the values around their median, as standard deviations (1.4826 × the median absolute deviation)."""
_LEAST_COMMON = 3
"""Operations from which what they have in common says something of the run."""

Medians = Mapping[str, float]
"""Operation -> median response time of its 2xx answers in a run, ms; those with too few are left out."""


class Slower(Value, frozen=True, kw_only=True):
    """An operation that is slower now."""

    operation: str
    now_ms: float
    usual_ms: float
    """The median of its medians."""
    common: bool = False
    """Most operations are: it is the API as a whole, or the machine, and this one shows it best."""


def medians(operations: Mapping[str, OperationReport]) -> dict[str, float]:
    """Of one run."""
    return {
        key: seen.latency_ms["p50"]
        for key, seen in operations.items()
        if "p50" in seen.latency_ms
        and sum(count for status, count in seen.statuses.items() if status.startswith("2")) >= LEAST_ANSWERS
    }


def slower(now: Medians, runs: Sequence[Medians]) -> tuple[Slower, ...]:
    """The operations that are slower than in any of the earlier runs and far beyond what those differ by.

    What all operations of a run have in common (a busy machine) is taken out first; when that is itself far beyond the
    usual, it is one: the operation that shows it best. Nothing without enough runs.
    """
    usual = {}
    for key in now:
        before = [run[key] for run in runs if key in run]
        if len(before) >= LEAST_RUNS:
            usual[key] = statistics.median(before)
    if not usual:
        return ()
    pace, paces = _pace(now, usual), [_pace(run, usual) for run in runs]
    operations = []
    for key, base in usual.items():
        before = [run[key] / paces[index] for index, run in enumerate(runs) if key in run]
        if _beyond(now[key] / pace, before, floor=_FLOOR_MS):
            operations.append(Slower(operation=key, now_ms=now[key], usual_ms=base))
    if not operations and len(usual) >= _LEAST_COMMON and _beyond(pace, paces, floor=0):
        worst = max(usual, key=lambda key: now[key] - usual[key])
        if now[worst] - usual[worst] > _FLOOR_MS:
            operations.append(Slower(operation=worst, now_ms=now[worst], usual_ms=usual[worst], common=True))
    return tuple(sorted(operations, key=lambda slow: (slow.usual_ms / slow.now_ms, slow.operation)))


def known_well(operation: str, runs: Sequence[Medians]) -> bool:
    """Whether enough of the runs say how fast the operation usually is."""
    return sum(operation in run for run in runs) >= LEAST_RUNS


def _pace(run: Medians, usual: Medians) -> float:
    """How slow the run was as a whole: 1 is usual."""
    ratios = [run[key] / base for key, base in usual.items() if key in run and base > 0]
    return statistics.median(ratios) if len(ratios) >= _LEAST_COMMON else 1.0


def _beyond(now: float, before: Sequence[float], *, floor: float) -> bool:
    base = statistics.median(before)
    spread = 1.4826 * statistics.median(abs(median - base) for median in before)
    return now > max(base * _FACTOR, base + floor, base + _SPREADS * spread, *before)
