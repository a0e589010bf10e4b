"""Ids that no resource has: a request may name them without touching anything that somebody else made."""

from __future__ import annotations

import re
from typing import Final

NUMBER: Final = 2_000_000_011
"""Within int32, and beyond what counting from 1 reaches."""

UUID: Final = "00000000-0000-4000-8000-000000000000"

TEXTS: Final = ("t{unique}", "{unique}", "00000000-0000-4000-8000-{unique}", UUID)
"""As a case writes them, the likeliest to fit a schema first."""

CANDIDATES: Final = (NUMBER, *TEXTS)
"""Numbers first: a schema that takes both is likely to mean a number."""

_NUMBERS: Final = range(2_000_000_000, 2**31)
_BEFORE_TOKEN: Final = re.compile(r"[A-Za-z_][^\x00-\x1f]*|00000000-0000-4000-8000-|")
_CHANGES_PATH: Final = re.compile(r"[/\\;?#\0]|\.\.")


def is_unused(value: str, token: str) -> bool:
    """Whether no resource can have the decoded id `value`; `token` replaces `{unique}` in this attempt.

    A text must contain the token, and nothing that turns it into another id: no digit at the beginning, because a
    careless server reads `5abc` as the number 5, and nothing that ends or changes the path.
    """
    if value.isascii() and value.isdecimal():
        return int(value[:12]) in _NUMBERS and len(value) <= 10
    if value == UUID:
        return True
    before, separator, _ = value.partition(token)
    return bool(separator) and _BEFORE_TOKEN.fullmatch(before) is not None and not _CHANGES_PATH.search(value)
