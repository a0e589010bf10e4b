"""Oracles beyond the document: repeatable reads, disjoint pages, honoured filters, agreeing methods, reflected text."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from testops_lib.http.answer import Answer, header_values, media_type
from testops_lib.http.body import NOTHING
from testops_lib.model import (
    Check,
    FilterHonoured,
    Idempotency,
    MethodAgreement,
    NoReflection,
    PaginationConsistency,
)
from testops_lib.placeholder import fill
from testops_lib.verdict.body import Body
from testops_lib.verdict.json_values import equal, select
from testops_lib.verdict.mismatch import LONGEST_QUOTE, Mismatch, quoted
from testops_lib.verdict.volatile import alike

_NOT_OFFERED = (405, 501)
_PAGES = ("text/html", "application/xhtml+xml", "image/svg+xml")


def as_text(value: Any) -> str:
    """A value as a query would hold it, without regard to case."""
    return (value if isinstance(value, str) else msgspec.json.encode(value).decode()).casefold()


def _repeated(check: Any, answer: Answer, body: Body, captured: Mapping[str, Any]) -> Mismatch | None:
    first = fill(check.value, captured)
    if not 200 <= answer.status < 300:
        return Mismatch(f"answered {answer.status} to a read that had just succeeded", f"status {answer.status}")
    document = body.document()
    if document is NOTHING or not isinstance(first, dict | list) or alike(first, document):
        return None
    return Mismatch("the same request, sent twice, was answered differently", "body")


def _page(check: Any, answer: Answer, body: Body, captured: Mapping[str, Any]) -> Mismatch | None:
    document, earlier = body.document(), fill(check.value, captured)
    if document is NOTHING or not any(equal(node, earlier) for node in select(check.path, document)):
        return None
    return Mismatch(f"{check.path} holds {quoted(earlier)}, which stood on an earlier page", f"{check.path} again")


def _filtered(check: Any, answer: Answer, body: Body, captured: Mapping[str, Any]) -> Mismatch | None:
    document = body.document()
    if document is NOTHING or not 200 <= answer.status < 300:
        return None
    wanted = as_text(fill(check.value, captured))
    other = next((node for node in select(check.path, document) if as_text(node) != wanted), NOTHING)
    if other is NOTHING:
        return None
    return Mismatch(
        f"asked for {check.parameter}={wanted[:LONGEST_QUOTE]}, {check.path} holds {quoted(other)}",
        f"{check.parameter} ignored",
    )


def _agreeing(check: Any, answer: Answer, body: Body, captured: Mapping[str, Any]) -> Mismatch | None:
    status = str(fill(check.status, captured))
    if status and answer.status not in _NOT_OFFERED and str(answer.status) != status:
        return Mismatch(f"HEAD answered {answer.status}, GET {status}", f"HEAD {answer.status} GET {status}")
    allow = ",".join(header_values(answer.headers, "allow")).upper()
    missing = [method for method in check.allow if method not in {listed.strip() for listed in allow.split(",")}]
    if allow and missing and 200 <= answer.status < 300:
        return Mismatch(
            f"OPTIONS lists {allow}, the document offers {', '.join(missing)} too", f"Allow without {missing}"
        )
    return None


def _reflected(check: Any, answer: Answer, body: Body, captured: Mapping[str, Any]) -> Mismatch | None:
    if media_type(answer.headers) not in _PAGES or fill(check.text, captured).encode() not in answer.body:
        return None
    return Mismatch("a text that was sent as data stands in the page as it is: a browser would execute it", "reflected")


ORACLES: dict[type[Check], Callable[[Any, Answer, Body, Mapping[str, Any]], Mismatch | None]] = {
    Idempotency: _repeated,
    PaginationConsistency: _page,
    FilterHonoured: _filtered,
    MethodAgreement: _agreeing,
    NoReflection: _reflected,
}
"""What no document promises, by check."""
