"""Types that accept exactly what the JSON Schema beside them accepts.

Pydantic on its own takes "1" for 1 and refuses 1.0 as an integer; JSON Schema says the opposite of both.
"""

from __future__ import annotations

import re
from calendar import monthrange
from math import isfinite
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, Field, Strict

_INTEGER = re.compile(r"-?(0|[1-9][0-9]*)(\.0+)?", re.ASCII)
_NUMBER = re.compile(r"-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]+)?", re.ASCII)
_DATE = re.compile(r"([0-9]{4})-([0-9]{2})-([0-9]{2})", re.ASCII)
_TIME = re.compile(r"[Tt]([0-9]{2}):([0-9]{2}):([0-9]{2})(?:\.[0-9]+)?(?:[Zz]|[+-]([0-9]{2}):([0-9]{2}))", re.ASCII)
_UUID = re.compile(r"[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}", re.ASCII)
_MOST_DIGITS = 400
"""Python refuses to read integers of more than 4,300 digits; nothing here is anywhere near."""


def _whole(value: Any) -> Any:
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _integer_text(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    if not _INTEGER.fullmatch(value):
        raise ValueError("is not an integer")
    return int(value.partition(".")[0][:_MOST_DIGITS])


def _finite(value: Any) -> Any:
    if isinstance(value, int) and not isinstance(value, bool):
        try:
            value = float(value)
        except OverflowError as error:
            raise ValueError("is too large") from error
    if isinstance(value, float) and not isfinite(value):
        raise ValueError("is not a finite number")
    return value


def _number_text(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    if not _NUMBER.fullmatch(value):
        raise ValueError("is not a number")
    return _finite(float(value))


def _boolean_text(value: Any) -> Any:
    if value not in ("true", "false"):
        raise ValueError("is neither true nor false")
    return value == "true"


def _uuid(value: str) -> str:
    if not _UUID.fullmatch(value):
        raise ValueError("is not a UUID")
    return value.lower()


def _is_date(value: str) -> bool:
    found = _DATE.fullmatch(value)
    if not found:
        return False
    year, month, day = map(int, found.groups())
    return 1 <= month <= 12 and 1 <= day <= monthrange(year or 4, month)[1]


def _date(value: str) -> str:
    if not _is_date(value):
        raise ValueError("is not a date as in 2030-12-31")
    return value


def _date_time(value: str) -> str:
    found = _TIME.fullmatch(value[10:])
    if not found or not _is_date(value[:10]):
        raise ValueError("is not a date and time as in 2024-05-01T12:00:00Z")
    hour, minute, second, offset_hour, offset_minute = (int(part or 0) for part in found.groups())
    if hour > 23 or minute > 59 or second > 59 or offset_hour > 23 or offset_minute > 59:
        raise ValueError("is not a time of the day")
    return value


WHOLE = BeforeValidator(_whole)
"""For an integer of a JSON body: 1 and 1.0, never "1" or true.

Stands behind the limits, so that they are said of what it reads.
"""

NUMBER = BeforeValidator(_finite)
"""For a number of a JSON body."""

INTEGER_TEXT = BeforeValidator(_integer_text)
"""For an integer of a path or a query."""

NUMBER_TEXT = BeforeValidator(_number_text)

BooleanText = Annotated[bool, BeforeValidator(_boolean_text)]

Text = Annotated[str, Strict()]

Uuid = Annotated[str, Strict(), AfterValidator(_uuid), Field(json_schema_extra={"format": "uuid"})]

Date = Annotated[str, Strict(), AfterValidator(_date), Field(json_schema_extra={"format": "date"})]

DateTime = Annotated[str, Strict(), AfterValidator(_date_time), Field(json_schema_extra={"format": "date-time"})]

EMAIL = r"^[a-z0-9]+([._+-][a-z0-9]+)*@[a-z0-9]+(-[a-z0-9]+)*(\.[a-z]{2,10}){1,3}$"
"""Narrower than the format: what fits it is an e-mail address whoever judges."""

Email = Annotated[
    str, Strict(), Field(min_length=6, max_length=64, pattern=EMAIL, json_schema_extra={"format": "email"})
]
