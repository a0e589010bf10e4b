"""Errors as problem documents (RFC 9457): what is sent, and how the OpenAPI document says it."""

from __future__ import annotations

import json
from http import HTTPStatus
from typing import Annotated, Any

from fastapi import Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import Response
from pydantic import BaseModel, ConfigDict, Field
from starlette.exceptions import HTTPException

MEDIA_TYPE = "application/problem+json"


class Fault(BaseModel):
    """One thing that is wrong with a request."""

    model_config = ConfigDict(extra="forbid")

    location: Annotated[str, Field(description="Where: `body/price`, `query/limit`.", examples=["body/price"])]
    message: str


class Problem(BaseModel):
    """Why a request was not fulfilled (RFC 9457)."""

    model_config = ConfigDict(extra="forbid")

    type: Annotated[str, Field(json_schema_extra={"const": "about:blank"})]
    title: Annotated[str, Field(min_length=1, examples=["Not Found"])]
    status: Annotated[int, Field(ge=400, le=499)]
    detail: str
    errors: Annotated[list[Fault], Field(description="What is wrong, place by place; empty when it is not the data.")]


class ProblemResponse(Response):
    media_type = MEDIA_TYPE


def problem(
    status: int, detail: str, *, errors: list[dict[str, str]] | None = None, headers: dict[str, str] | None = None
) -> ProblemResponse:
    """The answer that says a request failed."""
    document = {
        "type": "about:blank",
        "title": HTTPStatus(status).phrase,
        "status": status,
        "detail": detail,
        "errors": errors or [],
    }
    return ProblemResponse(json.dumps(document), status_code=status, headers=headers)


def not_found(what: str) -> HTTPException:
    return HTTPException(404, f"There is no such {what}.")


async def on_http_exception(request: Request, error: Exception) -> Response:
    """404 and 405 of the router as well as everything that a handler raises."""
    assert isinstance(error, HTTPException)
    headers = dict(error.headers or {})
    if error.status_code == 405:
        headers["Allow"] = ", ".join(_allowed(request))
    return problem(error.status_code, error.detail, headers=headers)


def _allowed(request: Request) -> list[str]:
    """The methods of every route on the path; the router itself names the first route's only."""
    methods: set[str] = set()
    for route in request.app.state.routes:
        if route.path_regex.match(request.url.path):
            methods |= route.methods
    return sorted(methods)


async def on_invalid(request: Request, error: Exception) -> Response:
    """What does not fit the document, place by place. The values themselves are not repeated."""
    assert isinstance(error, RequestValidationError)
    faults = [
        {"location": "/".join(map(str, error_entry["loc"])), "message": str(error_entry["msg"])}
        for error_entry in error.errors()
    ]
    return problem(422, "The request does not fit the document.", errors=faults)


_SAID = {
    400: "The body is not JSON.",
    401: "Credentials are missing, malformed, unknown or expired.",
    403: "The credentials are known but do not allow this.",
    404: "There is no such thing.",
    409: "It belongs to the shop's fixed stock and cannot be removed.",
    415: "The body's media type is not application/json.",
    422: "A parameter or the body does not fit this document.",
}


def documented(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The `responses` of an operation that may fail with these statuses."""
    schema = {"$ref": "#/components/schemas/Problem"}
    responses: dict[int | str, dict[str, Any]] = {}
    for status in statuses:
        responses[status] = {"description": _SAID[status], "content": {MEDIA_TYPE: {"schema": schema}}}
        if status == 401:
            responses[status]["headers"] = {
                "WWW-Authenticate": {
                    "description": "The scheme to use.",
                    "required": True,
                    "schema": {"type": "string", "const": "Bearer"},
                }
            }
    return responses
