"""What a result shows of an exchange: redacted first, cut afterwards."""

from __future__ import annotations

from testops_lib.check import Answer
from testops_lib.execute.wire import Wire
from testops_lib.model import Pairs, RequestEvidence, ResponseEvidence
from testops_lib.redact import Redactor

MAX_BODY_CHARS = 4_096
MAX_HEADERS = 50
MAX_HEADER_CHARS = 2_048
_LOOK_AT_BYTES = 16_384
"""Redaction looks this far, so that a secret across the cut is seen whole."""


def of_request(wire: Wire, redactor: Redactor) -> RequestEvidence:
    body = wire.body or b""
    return RequestEvidence(
        method=wire.method, url=redactor.url(wire.url)[:MAX_BODY_CHARS], headers=_headers(wire.headers, redactor),
        body=_body(body, redactor), body_bytes=len(body),
    )  # fmt: skip


def of_response(answer: Answer, redactor: Redactor) -> ResponseEvidence:
    return ResponseEvidence(
        status=answer.status, headers=_headers(answer.headers, redactor), body=_body(answer.body, redactor),
        body_bytes=len(answer.body), truncated=answer.truncated,
    )  # fmt: skip


def _headers(headers: Pairs, redactor: Redactor) -> Pairs:
    looked_at = tuple((_storable(name[:MAX_HEADER_CHARS]), _storable(value)) for name, value in headers[:MAX_HEADERS])
    return tuple((name, value[:MAX_HEADER_CHARS]) for name, value in redactor.pairs(looked_at))


def _body(body: bytes, redactor: Redactor) -> str:
    return redactor.text(body[:_LOOK_AT_BYTES].decode("utf-8", "replace"))[:MAX_BODY_CHARS]


def _storable(text: str) -> str:
    return text.encode("utf-8", "replace").decode()
