"""What may differ between two answers to one request: ids, times, tokens, addresses of the host, order of lists."""

from __future__ import annotations

import re
from typing import Any

_WORDS = frozenset(
    "id ids uuid guid etag created updated modified changed date time timestamp at expires expiry expiration until "
    "since revision nonce token hash digest signature link links href url uri self next prev previous cursor request "
    "trace correlation elapsed duration uptime host hostname version now age".split()
)
_WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+")
_VALUE = re.compile(
    r".*\d{4}-\d\d-\d\d.*|.*\d\d:\d\d:\d\d.*|.*[0-9a-f]{12}.*|.*[0-9a-f]{8}-[0-9a-f]{4}-.*|https?://.*|\d{9,}",
    re.DOTALL,
)
_DEPTH = 60
"""Deeper values count as alike."""


def volatile(place: str) -> bool:
    """Whether what stands at this dotted place of a body may differ from answer to answer, by its name."""
    return bool({word.lower() for word in _WORD.findall(place.rpartition(".")[2])} & _WORDS)


def plain(value: str | int | float) -> str:
    """The value as text, 1.0 as 1; `…` for one that looks like a time, an id, a token or an address."""
    text = str(int(value) if isinstance(value, float) and value.is_integer() else value)
    return "…" if _VALUE.fullmatch(text[:2000]) else text


def alike(one: Any, other: Any, depth: int = 0) -> bool:
    """Whether two JSON values say the same, as far as nothing volatile is concerned; lists in any order."""
    if depth > _DEPTH:
        return True
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(
            volatile(str(name)) or alike(value, other[name], depth + 1) for name, value in one.items()
        )
    if isinstance(one, list) and isinstance(other, list):
        if len(one) != len(other):
            return False
        left = list(other)
        for value in one:
            match = next((index for index, item in enumerate(left) if alike(value, item, depth + 1)), None)
            if match is None:
                return False
            del left[match]
        return True
    if isinstance(one, bool) or isinstance(other, bool) or one is None or other is None:
        return one is other
    if isinstance(one, str | int | float) and isinstance(other, str | int | float):
        return isinstance(one, str) is isinstance(other, str) and plain(one) == plain(other)
    return False
