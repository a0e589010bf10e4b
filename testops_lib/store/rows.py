"""Results to rows: pure."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime

import msgspec

from testops_lib.model import Result

NO_RESULT = "no_result"

_MAX_INT = 2**31 - 1
_FINAL = ("passed", "failed")

Row = tuple[str, str, int, str, str, str, int, float, datetime | None, str]

RESULT_TYPES = ("text", "text", "int4", "text", "text", "text", "int4", "float8", "timestamptz", "text")
"""PostgreSQL types of a `Row`: run, case, attempt, verdict, reason, operation, requests, elapsed_ms, started, JSON."""


def text(value: str) -> str:
    """The text without what PostgreSQL refuses: NUL, and surrogates that UTF-8 cannot hold."""
    if "\x00" in value:
        value = value.replace("\x00", "\ufffd")
    return value if value.isascii() else value.encode("utf-8", "replace").decode()


def row(result: Result) -> Row:
    """The result as a row; hostile numbers are brought into the columns' range, the document stays as it is."""
    return (
        text(result.run),
        text(result.case),
        min(max(result.attempt, 0), _MAX_INT),
        result.verdict,
        text(result.reason),
        text(result.operation),
        min(max(result.requests, 0), _MAX_INT),
        result.elapsed_ms,
        _utc(result.started),
        msgspec.json.encode(result).decode(),
    )


def fits(result: Result) -> bool:
    """The key is one that a run of ours can have; longer ones would not even fit an index."""
    return len(result.run) <= 500 and len(result.case) <= 200


def supersedes(new: Result, old: Result) -> bool:
    """Whether a result takes the place of a stored one with the same key.

    The first passed or failed stays for good. An errored or skipped one gives way to a passed or failed one, to one
    that started later, and, when it is `no_result`, to any real one. So redelivery changes nothing, and two
    collectors that read the same records end with the same row.
    """
    if old.verdict in _FINAL:
        return False
    if new.verdict in _FINAL:
        return True
    if old.reason == NO_RESULT and new.reason != NO_RESULT:
        return True
    started, before = _utc(new.started), _utc(old.started)
    return started is not None and (before is None or started > before)


def dedupe(results: Iterable[Result]) -> list[Result]:
    """One result a key (run, case, attempt), the one that supersedes the others."""
    kept: dict[tuple[str, str, int], Result] = {}
    for result in results:
        key = (text(result.run), text(result.case), min(max(result.attempt, 0), _MAX_INT))
        old = kept.get(key)
        if old is None or supersedes(result, old):
            kept[key] = result
    return list(kept.values())


def _utc(moment: datetime | None) -> datetime | None:
    if moment is None:
        return None
    try:
        return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    except OverflowError:
        return None
