"""What a name says of a time -> values in order: a start before its end, and in the future where the name says so.

Never today: what depends on the day of its making would be another case every night.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Final, Literal

from testops_lib.generate.rules.words import words

_START: Final = frozenset(
    "start starts starting from since begin begins beginning open opens effective departure scheduled checkin".split()
)
_END: Final = frozenset(
    "end ends ending to until till through finish finishes stop stops close closes closing expires expire expiry "
    "expiration due deadline checkout return arrival".split()
)
_FUTURE: Final = frozenset(
    "expires expire expiry expiration due deadline scheduled schedule planned upcoming appointment reservation booking "
    "reminder departure arrival checkin checkout".split()
)
_SPANS: Final = frozenset("in days hours minutes seconds weeks months years duration ttl for interval".split())
_MOMENTS: Final = frozenset("at on time timestamp epoch unix".split())
_DAYS: Final = frozenset({"date", "day"})
_EXPIRY: Final = frozenset({"expires", "expiry", "expiration", "deadline"})


def part(name: str) -> Literal["start", "end", ""]:
    """Which end of a range a name speaks of: `not_before`, `created_after` and `valid_from` of its start."""
    spoken = _spoken(name)
    if "before" in spoken or "after" in spoken:
        return "end" if ("before" in spoken) != ("not" in spoken) else "start"
    for word in reversed(spoken):
        if word in _END:
            return "end"
        if word in _START:
            return "start"
    return ""


def text(name: str, form: str, *, storing: bool, salt: int = 0) -> str:
    """A `date`, `date-time` or `time` for this name; "" when the name says nothing of when it is.

    With `storing` the value is kept: what starts or ends then is ahead. In a search it lies behind.
    """
    moment = _moment(name, storing, salt)
    if moment is None:
        return ""
    written = {"date": "%Y-%m-%d", "date-time": "%Y-%m-%dT%H:%M:%SZ", "time": "%H:%M:%SZ"}.get(form)
    return moment.strftime(written) if written else ""


def form_of(name: str) -> Literal["date", "date-time", ""]:
    """The format that a name speaks of where the schema has none: `start_date`, `expires_at`, `expires`."""
    spoken = set(_spoken(name))
    if spoken & _SPANS:
        return ""
    if spoken & _DAYS:
        return "date"
    return "date-time" if spoken & _MOMENTS or spoken & _EXPIRY else ""


def number(name: str, *, storing: bool, salt: int = 0) -> int | None:
    """Seconds since 1970 (milliseconds where the name says so); None when the name speaks of no moment."""
    spoken = set(_spoken(name))
    moment = _moment(name, storing, salt) if spoken & (_MOMENTS | _DAYS | _EXPIRY) and not spoken & _SPANS else None
    if moment is None:
        return None
    return int(moment.timestamp()) * (1000 if spoken & {"ms", "millis", "milliseconds"} else 1)


def _spoken(name: str) -> tuple[str, ...]:
    """The words of a name, `check in` and `check out` as one each."""
    spoken = words(name)
    for index, word in enumerate(spoken[:-1]):
        if word == "check" and spoken[index + 1] in ("in", "out"):
            return (*spoken[:index], word + spoken[index + 1], *spoken[index + 2 :])
    return spoken


def _moment(name: str, storing: bool, salt: int) -> datetime | None:
    which, ahead = part(name), bool(set(_spoken(name)) & _FUTURE)
    if not which and not ahead:
        return None
    year = 2099 if ahead or storing else 2024
    if which == "end":
        return datetime(year, 6, 18 + salt % 2, 17, 30, tzinfo=UTC)
    return datetime(year, 5, 17 + salt % 2, 9, 30, tzinfo=UTC)
