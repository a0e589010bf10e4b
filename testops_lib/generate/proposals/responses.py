"""What an operation's document says of the answers to a step."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from testops_lib.generate.proposals.request import StepRequest
from testops_lib.spec.operation import Operation, Response
from testops_lib.verdict.documented import is_json

_ABOUT_THE_CALLER = frozenset({401, 403, 404, 410, 429})
"""Statuses about credentials, existence and limits, which say nothing of the data."""


def response_of(operation: Operation, status: int) -> Response | None:
    """The documented response to a status: its own, that of its hundred, or the default."""
    for key in (str(status), f"{status // 100}XX", f"{status // 100}xx", "default"):
        if key in operation.responses:
            return operation.responses[key]
    return None


def documents(operation: Operation, status: int) -> bool:
    return not operation.responses or response_of(operation, status) is not None


def expected_responses(operation: Operation, data: StepRequest, statuses: frozenset[int]) -> list[Response]:
    """The documented responses that a step's expectations speak of; `statuses`: those that it expects."""
    if statuses:
        documented = [response_of(operation, status) for status in sorted(statuses)]
        return [response for response in documented if response is not None]
    hundred = "4" if data.violations else "2"
    chosen = [response for key, response in operation.responses.items() if key[:1] == hundred]
    return chosen or [operation.responses["default"]] if chosen or "default" in operation.responses else []


def json_schemas(operation: Operation, data: StepRequest, statuses: frozenset[int]) -> list[Any]:
    """Schemas of the JSON answers that may come; empty when one of them is not described."""
    schemas: list[Any] = []
    for response in expected_responses(operation, data, statuses):
        for media, content in response.content.items():
            if is_json(media.split(";", 1)[0].strip().lower()) or media in ("*/*", "application/*"):
                if content.schema is None or content.schema is True:
                    return []
                schemas.append(content.schema)
    return schemas


def follows(operation: Operation, data: StepRequest, statuses: Sequence[int], *, anonymous: bool) -> bool:
    """Whether a status expectation follows from the document alone, so that its basis is `spec`.

    Each status is documented by its own code, and nothing documented that fits the data as well is left out: for valid
    data every 2xx, for invalid data 400 and 422 (or, with neither, every 4xx but those about credentials and
    existence), without credentials 401 and 403.
    """
    codes = {int(key) for key in operation.responses if key.isascii() and key.isdigit()}
    expected = set(statuses)
    if not expected <= codes or any(not key.isdigit() and key[:1] in "24" for key in operation.responses):
        return False
    if anonymous:
        return bool(expected & {401, 403}) and codes & {401, 403} <= expected
    if data.validity == "unsure":
        return False
    if data.violations:
        fitting = codes & {400, 422} or {code for code in codes if 400 <= code < 500} - _ABOUT_THE_CALLER
    else:
        fitting = {code for code in codes if 200 <= code < 300}
    return bool(fitting) and fitting <= expected and expected <= fitting | _ABOUT_THE_CALLER
