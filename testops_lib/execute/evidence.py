"""What a result shows of an exchange: redacted first, cut afterwards."""

from __future__ import annotations

from typing import Any

from testops_lib.http.answer import Answer
from testops_lib.http.body import decode
from testops_lib.http.request import PreparedRequest
from testops_lib.model import Pairs, RequestEvidence, ResponseEvidence
from testops_lib.redact import Redactor, sensitive

MAX_BODY_CHARS = 4_096
MAX_SAID_CHARS = 600
MAX_SEEN = 48
"""Places of an answer whose values are kept for later rounds, and (`_VALUES_OF_A_PLACE`) values of each."""
MAX_HEADERS = 50
MAX_HEADER_CHARS = 2_048
_LOOK_AT_BYTES = 16_384
"""Redaction looks this far, so that a secret across the cut is seen whole."""
_VALUES_OF_A_PLACE = 5
_DEPTH = 4
_LONGEST_NAME = 60
_LONGEST_VALUE = 100
_LONGEST_LOOKED_INTO = 262_144


def of_request(prepared: PreparedRequest, redactor: Redactor) -> RequestEvidence:
    body = prepared.body or b""
    return RequestEvidence(
        method=prepared.method,
        url=redactor.url(prepared.url)[:MAX_BODY_CHARS],
        headers=_headers(prepared.headers, redactor),
        body=_body(body, redactor),
        body_bytes=len(body),
    )


def of_response(answer: Answer, redactor: Redactor) -> ResponseEvidence:
    return ResponseEvidence(
        status=answer.status,
        headers=_headers(answer.headers, redactor),
        body=_body(answer.body, redactor),
        body_bytes=len(answer.body),
        truncated=answer.truncated,
    )


def of_success(answer: Answer, redactor: Redactor) -> dict[str, tuple[str | int | float, ...]]:
    """The texts and numbers of a JSON body by dotted place, nearest to the root first; credentials are left out.

    At most `MAX_SEEN` places; short texts only; nothing of a body above 256 KB.
    """
    values_of: dict[str, list[str | int | float]] = {}
    if len(answer.body) > _LONGEST_LOOKED_INTO:
        return {}
    waiting: list[tuple[str, Any, int]] = [("", decode(answer.body), 0)]
    for place, value, depth in waiting:
        if isinstance(value, dict) and depth < _DEPTH:
            waiting += [
                (f"{place}.{name}" if place else name, inner, depth + 1)
                for name, inner in list(value.items())[:MAX_SEEN]
                if len(name) <= _LONGEST_NAME and "." not in name and not sensitive(name)
            ]
        elif isinstance(value, list):
            waiting += [(place, inner, depth) for inner in value[:_VALUES_OF_A_PLACE] if not isinstance(inner, list)]
        elif isinstance(value, str | int | float) and not isinstance(value, bool) and place:
            if isinstance(value, str) and (not 0 < len(value) <= _LONGEST_VALUE or redactor.text(value) != value):
                continue
            values = values_of.get(place)
            if values is None:
                if len(values_of) == MAX_SEEN:
                    continue
                values = values_of[place] = []
            if value not in values and len(values) < _VALUES_OF_A_PLACE:
                values.append(value if not isinstance(value, str) else _storable(value))
    return {place: tuple(values) for place, values in values_of.items()}


def of_refusal(answer: Answer, redactor: Redactor) -> str:
    """What the body says, in one line."""
    text = redactor.text(answer.body[:_LOOK_AT_BYTES].decode("utf-8", "replace"))
    return " ".join(text.split())[:MAX_SAID_CHARS]


def _headers(headers: Pairs, redactor: Redactor) -> Pairs:
    looked_at = tuple((_storable(name[:MAX_HEADER_CHARS]), _storable(value)) for name, value in headers[:MAX_HEADERS])
    return tuple((name, value[:MAX_HEADER_CHARS]) for name, value in redactor.pairs(looked_at))


def _body(body: bytes, redactor: Redactor) -> str:
    return redactor.text(body[:_LOOK_AT_BYTES].decode("utf-8", "replace"))[:MAX_BODY_CHARS]


def _storable(text: str) -> str:
    return text.encode("utf-8", "replace").decode()
