"""Answer -> captured values: what later steps of the case put in place of `{name}`."""

from __future__ import annotations

from typing import Any

import msgspec

from testops_lib.errors import CaseError
from testops_lib.execute.attempt import CaseEnded
from testops_lib.http.answer import Answer
from testops_lib.model import Capture
from testops_lib.verdict.check import why_unjudged
from testops_lib.verdict.json_values import select

_NO_DOCUMENT = object()


def capture(captures: tuple[Capture, ...], answer: Answer, captured: dict[str, Any]) -> None:
    """Adds to `captured` what the captures select in the answer.

    Raises:
        CaseEnded: one that is not optional selects nothing.
    """
    document: Any = None
    decoded = False
    for wanted in captures:
        values: list[Any]
        if wanted.source == "status":
            values = [answer.status]
        elif wanted.source == "header":
            header = wanted.path.lower()
            values = [value for name, value in answer.headers if name.lower() == header]
        else:
            if not decoded:
                decoded = True
                try:
                    document = msgspec.json.decode(answer.body)
                except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
                    document = _NO_DOCUMENT
            try:
                values = [] if document is _NO_DOCUMENT else select(wanted.path, document)
            except CaseError as error:
                raise CaseEnded("errored", f"capture {wanted.name}: {error.what}") from error
        if values:
            captured[wanted.name] = values[0]
        elif not wanted.optional:
            why = why_unjudged(answer) if wanted.source == "body" else ""
            raise CaseEnded("errored", f"capture {wanted.name} selected nothing" + (f": {why}" if why else ""))
