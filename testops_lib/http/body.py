"""Bytes of an answer -> JSON value, or why there is none: no JSON, or JSON that no reader of ours takes."""

from __future__ import annotations

import re
from typing import Any, Final

import msgspec
from msgspec import Struct

NOTHING: Final = object()
"""Stands for a body that cannot be read; equals nothing."""

MAX_LEVELS: Final = 500
"""Readers refuse JSON of too many levels: Python's of about 1,000, others of 128."""

_TOKEN = re.compile(
    r"[ \t\n\r]*+(?:(?P<mark>[][{},:])"
    r'|(?P<string>"(?:[^"\\\x00-\x1f]++|\\(?:["\\/bfnrt]|u[0-9a-fA-F]{4}))*+")'
    r"|(?P<number>-?(?:0|[1-9][0-9]*+)(?:\.[0-9]++)?(?:[eE][+-]?[0-9]++)?)"
    r"|(?P<word>true|false|null))"
)
"""A token of JSON (RFC 8259, 2)."""

_SURROGATE = re.compile(r"\\u[dD][89abAB][0-9a-fA-F]{2}(?P<low>\\u[dD][c-fC-F][0-9a-fA-F]{2})?|\\u[dD][c-fC-F]..")
_SHOWN = 40


class Unreadable(Struct, frozen=True, kw_only=True):
    """Why a body could not be read."""

    message: str
    cause: str
    """The message without what varies."""
    is_json: bool = False
    """It is JSON by its grammar (RFC 8259), but not such that readers agree on it (RFC 7493, 2)."""


_NO_JSON = Unreadable(message="the body is not JSON", cause="malformed")


def decode(body: bytes) -> Any:
    """The JSON value of a body, or `NOTHING`."""
    try:
        return msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, ValueError):
        return NOTHING


def why_unreadable(body: bytes) -> Unreadable:
    """Why `decode` gave `NOTHING`."""
    try:
        text = body.decode()
    except UnicodeDecodeError:
        return _NO_JSON
    levels, number, surrogate = 0, "", ""
    open_marks: list[str] = []
    expected = "value"
    position, end = 0, len(text.rstrip(" \t\n\r"))
    while position < end:
        token = _TOKEN.match(text, position)
        if token is None or expected == "end":
            return _NO_JSON
        position = token.end()
        mark = token["mark"]
        if token["number"] and not number and float(token["number"]) in (float("inf"), float("-inf")):
            number = token["number"]
        if token["string"] and not surrogate and "\\u" in token["string"]:
            surrogate = next((m[0] for m in _SURROGATE.finditer(token["string"]) if not m["low"]), "")
        after = _next(expected, mark, bool(token["string"]), open_marks)
        if after is None:
            return _NO_JSON
        expected = after
        levels = max(levels, len(open_marks))
    if expected != "end":
        return _NO_JSON
    if levels > MAX_LEVELS:
        return Unreadable(
            message=f"the body is JSON of {levels:,} levels, more than readers take", cause="levels", is_json=True
        )
    if number:
        return Unreadable(
            message=f"the body is JSON with a number that no double holds: {number[:_SHOWN]}",
            cause="number out of range",
            is_json=True,
        )
    if surrogate:
        return Unreadable(
            message=f"the body is JSON with half of a surrogate pair: {surrogate}", cause="lone surrogate", is_json=True
        )
    return Unreadable(message="the body is JSON that could not be read", cause="unreadable", is_json=True)


def _next(expected: str, mark: str | None, is_string: bool, open_marks: list[str]) -> str | None:
    """What may follow a token, "end" after the whole value; None where the token must not stand. Keeps `open_marks`."""
    if mark is None or mark in "[{":
        if expected in ("key", "key or }"):
            return "colon" if is_string else None
        if expected not in ("value", "value or ]"):
            return None
        if mark:
            open_marks.append(mark)
            return "value or ]" if mark == "[" else "key or }"
    elif mark in "]}":
        closes = {"]": ("value or ]", "["), "}": ("key or }", "{")}[mark]
        if expected not in (closes[0], "comma") or not open_marks or open_marks.pop() != closes[1]:
            return None
    elif mark == ",":
        if expected != "comma":
            return None
        return "value" if open_marks[-1] == "[" else "key"
    else:
        return "value" if expected == "colon" else None
    return "comma" if open_marks else "end"
