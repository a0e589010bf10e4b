"""Text that cannot break out of its line or comment, and JSONPaths that name one place."""

from __future__ import annotations

import re

HIDDEN = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2066-\u2069\ufeff\ud800-\udfff]")
"""Controls, direction changes, invisible characters, lone surrogates."""

TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
"""A header's or method's name (RFC 9110, section 5.6.2)."""

PLACEHOLDER = re.compile(r"\{([A-Za-z_]\w*)\}", re.ASCII)

_STEP = re.compile(r"\.([A-Za-z_]\w*)|\['((?:[^'\\]|\\['\\])*)'\]|\[(\d{1,9})\]", re.ASCII)


def comment(text: str) -> str:
    """Text fit for one comment line."""
    return HIDDEN.sub(lambda match: f"\\u{ord(match[0]):04x}", text.replace("\n", " "))[:300]


def places(path: str) -> list[str | int] | None:
    """The members and indexes of a JSONPath that selects at most one node (RFC 9535, singular query); else None."""
    keys: list[str | int] = []
    position = 1
    if not path.startswith("$"):
        return None
    while position < len(path):
        part = _STEP.match(path, position)
        if part is None:
            return None
        if part[3] is not None:
            keys.append(int(part[3]))
        else:
            keys.append(part[1] if part[1] is not None else part[2].replace("\\'", "'").replace("\\\\", "\\"))
        position = part.end()
    return keys
