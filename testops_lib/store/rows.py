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
    """The text without the characters that PostgreSQL refuses: NUL, and surrogates, which UTF-8 cannot hold."""
    if "\x00" in value:
        value = value.replace("\x00", "\ufffd")
    return value if value.isascii() else value.encode("utf-8", "replace").decode()


def row(result: Result) -> Row:
    """The result as a row. Numbers outside a column's range are clipped; the document stays as it is."""
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
    """Whether the key has a length that our runs have; PostgreSQL cannot index much longer ones."""
    return len(result.run) <= 500 and len(result.case) <= 200


def supersedes(new: Result, old: Result) -> bool:
    """Whether a result replaces a stored one with the same key.

    The first passed or failed result stays for good. An errored or skipped one is replaced by a passed or failed one,
    by one that started later, and, if it is `no_result`, by any other. So redelivery changes nothing, and two
    collectors that read the same records end with the same row.
    """
    if old.verdict in _FINAL:
        return False
    if new.verdict in _FINAL:
        return True
    if old.reason == NO_RESULT and new.reason != NO_RESULT:
        return True
    started, old_started = _utc(new.started), _utc(old.started)
    return started is not None and (old_started is None or started > old_started)


def dedupe(results: Iterable[Result]) -> list[Result]:
    """One result for each key (run, case, attempt): the one that supersedes the others."""
    by_key: dict[tuple[str, str, int], Result] = {}
    for result in results:
        key = (text(result.run), text(result.case), min(max(result.attempt, 0), _MAX_INT))
        old = by_key.get(key)
        if old is None or supersedes(result, old):
            by_key[key] = result
    return list(by_key.values())


def _utc(moment: datetime | None) -> datetime | None:
    if moment is None:
        return None
    try:
        return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    except OverflowError:
        return None
