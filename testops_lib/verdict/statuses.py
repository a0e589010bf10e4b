"""Checks that the status alone decides: which statuses break them, and how firmly."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from testops_lib.model import (
    Basis,
    Check,
    EnsureResourceAvailability,
    IgnoredAuth,
    NegativeDataRejection,
    NotAServerError,
    ObjectLevelAuthorization,
    PositiveDataAcceptance,
    StatusCodeConformance,
    StatusIs,
    UnsupportedMethod,
    UseAfterFree,
)
from testops_lib.verdict.documented import Documented
from testops_lib.verdict.mismatch import Mismatch

_NOT_ABOUT_THE_DATA = frozenset({401, 403, 407, 429})
"""Answers to valid data that say something about the credentials or the pace, nothing about the data."""

_REFUSALS = frozenset({400, 409, 422})
"""Answers to data that is valid by its schema and breaks another rule, if the document lists them."""


def wrong_statuses(
    checks: Mapping[type[Check], Check], status: int, documented: Documented
) -> list[tuple[Check, Mismatch]]:
    """The checks that the status breaks, in the order of `STATUS_RULES`."""
    broken = {
        kind: mismatch
        for kind, check in checks.items()
        if (rule := STATUS_RULES.get(kind)) and (mismatch := rule(check, status, documented))
    }
    return [(checks[kind], broken[kind]) for kind in STATUS_RULES if kind in broken] if broken else []


def weakened(check: Check, status: int, documented: Documented) -> Basis | None:
    """The basis of a wrong status that the document itself lists; None where it is the check's own.

    A declared 501 or 503 may be by design. A declared 500 contradicts no document, but HTTP calls it an unexpected
    condition (RFC 9110, 15.6.1).
    """
    if check.basis != "spec" or not documented.listed:
        return None
    if status >= 500 and isinstance(check, NotAServerError | PositiveDataAcceptance):
        return "standard" if status == 500 else "guess"
    if isinstance(check, PositiveDataAcceptance) and status in _REFUSALS:
        return None if check.at_limit and status != 409 else "guess"
    return None


def _server_error(check: Any, status: int, documented: Documented) -> Mismatch | None:
    return Mismatch(f"answered {status}", f"status {status}") if status >= 500 else None


def _accepted_anyway(check: Check, status: int, documented: Documented) -> Mismatch | None:
    if not 200 <= status < 300:
        return None
    what, cause = _NEVER_ACCEPTED[type(check)]
    return Mismatch(f"answered {status} {what}", cause)


def _unavailable(check: Any, status: int, documented: Documented) -> Mismatch | None:
    if status not in (404, 410):
        return None
    return Mismatch(f"answered {status} for a resource that was just created", "unavailable")


def _not_rejected(check: NegativeDataRejection, status: int, documented: Documented) -> Mismatch | None:
    if not 200 <= status < 300:
        return None
    return Mismatch(
        f"answered {status} to invalid data: {check.location} ({check.rule})", f"{check.location} {check.rule}"
    )


def _not_accepted(check: PositiveDataAcceptance, status: int, documented: Documented) -> Mismatch | None:
    if status < 400 or status in check.also or status in _NOT_ABOUT_THE_DATA:
        return None
    return Mismatch(f"answered {status} to valid data", f"status {status}")


def _another_status(check: StatusIs, status: int, documented: Documented) -> Mismatch | None:
    if status in check.any_of:
        return None
    return Mismatch(f"answered {status}, expected {' or '.join(map(str, check.any_of))}", f"status {status}")


def _undocumented(check: Any, status: int, documented: Documented) -> Mismatch | None:
    contract = documented.contract
    if documented.response is not None or contract is None or not contract.responses or status in check.also:
        return None
    successes = [name for name in contract.responses if name.startswith("2")] if 200 <= status < 300 else []
    cause = f"status {status} in place of {', '.join(successes)}" if successes else f"status {status}"
    return Mismatch(f"answered {status}, documented: {', '.join(contract.responses)}", cause)


_NEVER_ACCEPTED: dict[type[Check], tuple[str, str]] = {
    IgnoredAuth: ("without valid credentials", "accepted"),
    ObjectLevelAuthorization: ("to another user than the one who made it", "accepted"),
    UnsupportedMethod: ("to a method that the document does not offer", "accepted"),
    UseAfterFree: ("for a resource that was deleted", "accessible"),
}
"""Requests that no 2xx may answer: how the message goes on, and the cause."""

_StatusRule = Callable[[Any, int, Documented], Mismatch | None]

STATUS_RULES: dict[type[Check], _StatusRule] = {
    NotAServerError: _server_error,
    IgnoredAuth: _accepted_anyway,
    ObjectLevelAuthorization: _accepted_anyway,
    UnsupportedMethod: _accepted_anyway,
    UseAfterFree: _accepted_anyway,
    EnsureResourceAvailability: _unavailable,
    NegativeDataRejection: _not_rejected,
    StatusIs: _another_status,
    PositiveDataAcceptance: _not_accepted,
    StatusCodeConformance: _undocumented,
}
"""The rule of each check that the status alone decides. The first broken one speaks for all the others, so those that
say most come first."""
