"""What an answer was and should not have been, in words."""

from __future__ import annotations

from typing import Any, NamedTuple

import msgspec

LONGEST_QUOTE = 16_384
"""Characters quoted of an answer. Whoever keeps a message masks the secrets in it before shortening it further: a
secret that was cut in two is no longer recognised."""


class Mismatch(NamedTuple):
    """How an answer breaks a check."""

    message: str
    """For people; may quote what was observed."""
    cause: str
    """The message without what varies between attempts: it goes into the fingerprint."""


def quoted(value: Any) -> str:
    """A value as JSON text, of at most `LONGEST_QUOTE` characters."""
    return msgspec.json.encode(value).decode()[:LONGEST_QUOTE]
