"""The finishing of the OpenAPI document that FastAPI writes."""

from __future__ import annotations

import json
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from examples.shop.problem import Problem
from examples.shop.routes.supply import VERSION

DESCRIPTION = """\
A small shop to test tests on.

Reading the catalogue is open to everybody; the rest needs a bearer token. Lists take `limit` and `offset` and say in
`X-Total-Count` how many items there are in all. What is refused is explained by a problem document (RFC 9457).
Nothing ever runs out, and the oldest things make room when a collection grows beyond 20,000.
"""

_REQUEST_ID = {
    "description": "Names this request in the shop's logs.",
    "required": True,
    "schema": {"type": "string", "pattern": "^[0-9a-f]{32}$"},
}


def finished(app: FastAPI) -> dict[str, Any]:
    """The OpenAPI 3.1 document of the app, with the problem schema and the header that every answer carries."""
    document = get_openapi(
        title="Sample shop", version=VERSION, description=DESCRIPTION, routes=app.routes, openapi_version="3.1.0"
    )
    components = document["components"]
    schema = Problem.model_json_schema(ref_template="#/components/schemas/{model}")
    components["schemas"] |= schema.pop("$defs")
    components["schemas"]["Problem"] = schema
    components["headers"] = {"X-Request-Id": _REQUEST_ID}
    for operations in document["paths"].values():
        for operation in operations.values():
            for response in operation["responses"].values():
                response.setdefault("headers", {})["X-Request-Id"] = {"$ref": "#/components/headers/X-Request-Id"}
    return json.loads(json.dumps(document), parse_float=_shortest)  # type: ignore[no-any-return]


def _shortest(number: str) -> int | float:
    """FastAPI writes the limits of integers as 1.0."""
    value = float(number)
    return int(value) if value.is_integer() else value
