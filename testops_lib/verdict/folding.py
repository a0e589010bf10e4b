"""Failures that one cause outside of the operations explains -> errored results with one reason, and no findings."""

from __future__ import annotations

from typing import Final

from testops_lib.verdict import global_causes as causes
from testops_lib.verdict.coverage import OperationTally
from testops_lib.verdict.reasons import (
    LOCKED_OUT,
    NO_ANSWER_AT_ALL,
    NOT_FOUND_ANYWHERE,
    PAGES_EVERYWHERE,
    REDIRECTED_EVERYWHERE,
    REFUSED_CREDENTIALS,
)
from testops_lib.verdict.tally import Tally

_IS_THE_PATH_RIGHT: Final = f"{NOT_FOUND_ANYWHERE}: is the path of the base URL right?"
_IS_THE_URL_RIGHT: Final = (
    f"{REDIRECTED_EVERYWHERE}: are scheme, host and path of the base URL right, or is a login asked for?"
)
_IS_IT_THE_API: Final = f"{PAGES_EVERYWHERE}: does the base URL lead to the API, or to its web pages?"


def fold_global_causes(tally: Tally, credentials_hint: str) -> None:
    """Moves the results that a global cause explains to errored, once all results are in.

    credentials_hint: what to do when every valid request is answered 401; ends that reason.
    """
    operations = tally.operations.values()
    executed = sum(tally.verdicts[name] for name in ("passed", "failed", "errored"))
    same_reason = max(
        (count for reason, count in tally.reasons.items() if not reason.startswith("setup failed")), default=0
    )
    silent = tally.by_global_cause[causes.SILENT]
    if causes.is_global(silent, executed) or (silent and causes.is_global(same_reason, executed)):
        _fold(tally, causes.SILENT, NO_ANSWER_AT_ALL)
    if not any(operation.reached for operation in operations):
        judged = sum(tally.verdicts[name] for name in causes.JUDGED)
        not_found = tally.by_global_cause[causes.NOT_FOUND]
        if causes.is_global(not_found, judged) and _touched(tally, causes.NOT_FOUND, by_fixed_path=True):
            _fold(tally, causes.NOT_FOUND, _IS_THE_PATH_RIGHT)
        if causes.is_global(tally.by_global_cause[causes.REDIRECTED], judged):
            _fold(tally, causes.REDIRECTED, _IS_THE_URL_RIGHT)
    reached = [operation for operation in operations if operation.reached]
    with_pages = [operation for operation in reached if operation.pages and not operation.other_answers]
    pages = sum(operation.pages for operation in with_pages)
    if len(with_pages) >= causes.LARGE_SHARE * len(reached) and pages >= causes.LEAST_RESULTS:
        _fold(tally, causes.PAGES, _IS_IT_THE_API)
    locked_out = next((reason for reason in tally.reasons if reason.startswith(LOCKED_OUT)), "")
    refused = locked_out or REFUSED_CREDENTIALS + (f": {credentials_hint}" if credentials_hint else "")
    if locked_out or causes.is_global(tally.by_global_cause[causes.REFUSED], tally.wanted_success):
        _fold(tally, causes.REFUSED, refused)
    shut = [operation for operation in operations if operation.shut]
    if len(shut) > 1 and len(shut) > sum(bool(operation.statuses) for operation in operations) / 2:
        _take_back(tally, shut, refused)


def _fold(tally: Tally, cause: str, reason: str) -> None:
    touched = _touched(tally, cause)
    if len(touched) < 2:
        return  # one operation's own fault
    for operation in touched:
        for verdict in causes.JUDGED:
            moved = operation.by_global_cause[cause, verdict]
            for verdicts in (operation.verdicts, tally.verdicts):
                verdicts[verdict] -= moved
                verdicts["errored"] += moved
            tally.reasons[reason] += moved
    for occurrences in tally.findings.values():
        occurrences.take_away(cause)


def _take_back(tally: Tally, shut: list[OperationTally], reason: str) -> None:
    """Most operations let no request in: what passed there with a 401 has shown nothing."""
    moved = 0
    for operation in shut:
        operation.verdicts["passed"] -= operation.passed_with_401
        operation.verdicts["errored"] += operation.passed_with_401
        moved += operation.passed_with_401
    tally.verdicts["passed"] -= moved
    tally.verdicts["errored"] += moved
    if moved:
        tally.reasons[reason] += moved


def _touched(tally: Tally, cause: str, *, by_fixed_path: bool = False) -> list[OperationTally]:
    """The operations with results that this cause would explain; by_fixed_path: those without path parameters."""
    return [
        operation
        for key, operation in tally.operations.items()
        if any(operation.by_global_cause[cause, verdict] for verdict in causes.JUDGED)
        and not (by_fixed_path and "{" in key)
    ]
