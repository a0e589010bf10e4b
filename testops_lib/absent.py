"""Ids that nothing has: what a request may name that must not hit a thing of somebody else."""

from __future__ import annotations

import re
from typing import Final

NUMBER: Final = 2_000_000_011
"""Within int32, and beyond what counting from 1 reaches."""

UUID: Final = "00000000-0000-4000-8000-000000000000"

TEXTS: Final = ("t{unique}", "{unique}", "00000000-0000-4000-8000-{unique}", UUID)
"""As a case writes them, the likeliest to fit a schema first."""

_NUMBERS: Final = range(2_000_000_000, 2**31)
_BEFORE: Final = re.compile(r"[A-Za-z_][^\x00-\x1f]*|00000000-0000-4000-8000-|")
_CHANGES_THE_PATH: Final = re.compile(r"[/\\;?#\0]|\.\.")


def surely_absent(value: str, token: str) -> bool:
    """Whether no thing can have the id `value`, which is decoded; `token` is the attempt's own `{unique}`.

    Text must hold the token, and nothing that makes another id of it: no digit at its beginning, which a careless
    server reads as a number (`5abc`), nothing that ends or changes the path.
    """
    if value.isascii() and value.isdecimal():
        return int(value[:12]) in _NUMBERS and len(value) <= 10
    if value == UUID:
        return True
    before, found, _ = value.partition(token)
    return bool(found) and _BEFORE.fullmatch(before) is not None and not _CHANGES_THE_PATH.search(value)
