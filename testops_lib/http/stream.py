"""When an answer counts as a stream: its headers came, and its body goes on without an end in sight. Pure."""

from __future__ import annotations

from typing import Final

from msgspec import Struct

LOOK_EVERY_S: Final = 0.1
"""How often an answer that is on its way is looked at."""

_STREAMS = frozenset({"text/event-stream", "multipart/x-mixed-replace", "application/stream+json"})
"""Media types that are made for bodies without an end."""

_DECLARED_S = 0.5
_IDLE_S = 1.0
_SLOW_S = 3.0
_SLOW_BYTES = 100_000
_STREAMED_BEFORE_S = 0.2
_NEEDED = 3
"""The waits are this many times longer for a body that a later step needs."""


class Progress(Struct, frozen=True, kw_only=True):
    """How far an answer has come. Times are seconds ago."""

    status: int
    media_type: str
    has_length: bool
    """A Content-Length announces the end."""
    head_s: float
    """Since its headers were complete."""
    byte_s: float
    """Since the last byte."""
    size: int
    streamed_before: bool = False
    """The operation has streamed before."""
    body_needed: bool = False
    """A later step needs what stands in the body."""


def is_stream(answer: Progress) -> bool:
    """Whether waiting longer for the end of the body is pointless."""
    if answer.has_length or not 200 <= answer.status < 300:
        return False
    factor = _NEEDED if answer.body_needed else 1
    if answer.media_type in _STREAMS:
        return answer.head_s >= (_STREAMED_BEFORE_S if answer.streamed_before else _DECLARED_S) * factor
    if answer.streamed_before:
        return answer.head_s >= _STREAMED_BEFORE_S * factor
    if answer.byte_s >= _IDLE_S * factor:
        return True
    return answer.head_s >= _SLOW_S * factor and answer.size < _SLOW_BYTES
