"""What becomes of an answer that asks to come back later (Retry-After): waited for within bounds. Pure."""

from __future__ import annotations

from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Final

from testops_lib.http.answer import Answer, header_values

LONGEST_S: Final = 60.0
"""A longer wait is refused; after a 503 also one beyond the wait for a target that is down (and `_LONGEST_503_S`)."""

_LONGEST_503_S = 5.0

MOST_S: Final = 600.0
"""The sum of the waits of all cases of an engine."""

TIMES: Final = 2
"""How often one request is sent again for this."""

STATUSES: Final = frozenset({429, 503})
"""Answers that may ask to come back later."""


def retry_after_s(answer: Answer, now: datetime) -> float | None:
    """The seconds that a 429 or 503 asks to wait (RFC 9110, 10.2.3), not below 0; None when it asks for nothing."""
    values = header_values(answer.headers, "retry-after") if answer.status in STATUSES else ()
    if len(values) != 1:
        return None
    text = values[0].strip()
    if text.isascii() and text.isdigit():
        return float(text[:9])
    try:
        at = parsedate_to_datetime(text)
    except (ValueError, IndexError, TypeError, OverflowError):
        return None
    if at.tzinfo is None:
        at = at.replace(tzinfo=UTC)
    return max(0.0, (at - now).total_seconds())


def wait_s(
    answer: Answer, now: datetime, *, repeatable: bool, left_s: float, waited_s: float, down_s: float
) -> float | None:
    """How long to wait before the request is sent again; None: not at all.

    repeatable: the method is idempotent. Others are sent again after a 429 alone, which says that they were not looked
    at. left_s: until the end of the run. waited_s: what was waited in all so far. down_s: the longest wait for a target
    that is down.
    """
    asked = retry_after_s(answer, now)
    if asked is None or not (repeatable or answer.status == 429):
        return None
    longest_s = LONGEST_S if answer.status == 429 else min(LONGEST_S, max(_LONGEST_503_S, down_s))
    return asked if asked <= longest_s and asked < left_s and waited_s + asked <= MOST_S else None
