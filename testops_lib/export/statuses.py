"""The statuses that a check accepts, for formats that know no checks of ours."""

from __future__ import annotations

from testops_lib.model import (
    AnyCheck,
    IgnoredAuth,
    NegativeDataRejection,
    NotAServerError,
    PositiveDataAcceptance,
    StatusIs,
    UnsupportedMethod,
    UseAfterFree,
    Value,
)


class AcceptedStatuses(Value, frozen=True, kw_only=True):
    """A range of statuses, and single ones besides."""

    lowest: int = 100
    below: int = 1000
    """The first status after the range; `lowest`: the range is empty."""
    also: tuple[int, ...] = ()


def accepted_statuses(check: AnyCheck) -> AcceptedStatuses | None:
    """What an answer's status must be; None: the check is not about the status alone."""
    match check:
        case NotAServerError():
            return AcceptedStatuses(below=500)
        case NegativeDataRejection() | IgnoredAuth() | UseAfterFree():
            return AcceptedStatuses(lowest=300)
        case UnsupportedMethod():
            return AcceptedStatuses(lowest=300, below=500)
        case PositiveDataAcceptance(also=also):
            return AcceptedStatuses(below=400, also=also)
        case StatusIs(any_of=statuses):
            return AcceptedStatuses(below=100, also=statuses)
    return None


def bounds(accepted: AcceptedStatuses) -> list[tuple[str, int]]:
    """The ends of the range as comparisons, `[(">=", 300), ("<", 500)]`; none: the range is empty or has no ends."""
    if accepted.below <= accepted.lowest:
        return []
    lower = [(">=", accepted.lowest)] if accepted.lowest > 100 else []
    return lower + ([("<", accepted.below)] if accepted.below < 1000 else [])
