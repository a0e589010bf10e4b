"""What the benchmarks send and expect: one small JSON document with its contract, and cases that differ in a query."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from testops_lib.model import (
    Case,
    Check,
    Contract,
    HeaderIs,
    JsonPathIs,
    MediaContract,
    Plan,
    Policy,
    Provenance,
    Request,
    ResponseContract,
    ResponseSchemaConformance,
    StatusCodeConformance,
    Step,
    make_case,
)

OPERATION = "GET /customers"
CONNECTIONS = 16


def customers(count: int) -> dict[str, Any]:
    """A page of customers: 4 are about 1 KB, 240 about 53 KB."""
    return {
        "total": count,
        "page": 1,
        "data": [
            {
                "id": f"7f8a1b2c-3d4e-4f5a-8b6c-{number:012d}",
                "name": f"Customer {number}",
                "email": f"customer{number}@example.com",
                "active": number % 2 == 0,
                "score": number * 1.5,
                "tags": ["new", "web"],
                "address": {"street": "Long Street 1", "zip": f"{10000 + number}", "city": "Town"},
            }
            for number in range(count)
        ],
    }


DOCUMENT = json.dumps(customers(4)).encode()

SCHEMA: dict[str, Any] = {
    "type": "object",
    "required": ["total", "page", "data"],
    "additionalProperties": False,
    "properties": {
        "total": {"type": "integer", "minimum": 0},
        "page": {"type": "integer", "minimum": 1},
        "data": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["id", "name", "email", "active"],
                "additionalProperties": False,
                "properties": {
                    "id": {"type": "string", "format": "uuid"},
                    "name": {"type": "string", "minLength": 1, "maxLength": 100},
                    "email": {"type": "string", "format": "email"},
                    "active": {"type": "boolean"},
                    "score": {"type": "number"},
                    "tags": {"type": "array", "items": {"type": "string"}, "maxItems": 10},
                    "address": {
                        "type": "object",
                        "required": ["zip"],
                        "properties": {
                            "street": {"type": "string"},
                            "zip": {"type": "string", "pattern": "^[0-9]{5}$"},
                            "city": {"type": "string"},
                        },
                    },
                },
            },
        },
    },
}

CHECKS: tuple[Check, ...] = (
    StatusCodeConformance(),
    HeaderIs(name="Content-Type", equals="application/json"),
    ResponseSchemaConformance(),
    JsonPathIs(path="$.data[0].email", op="equals", value="customer0@example.com"),
)
"""Status, header, schema and JSONPath."""

CONTRACT = Contract(
    operation=OPERATION,
    responses={"200": ResponseContract(content={"application/json": MediaContract(schema=SCHEMA)})},
)


def plan(url: str, *, concurrency: int = CONNECTIONS) -> Plan:
    """A target without limits but its connections."""
    return Plan(target="bench", base_url=url, policy=Policy(allow_private=True, concurrency=concurrency))


def cases(count: int, *, checks: tuple[Check, ...] = CHECKS, path: str = "/customers") -> Iterator[Case]:
    """That many different cases of one request, without a body."""
    operation = f"GET {path}"
    for number in range(1, count + 1):
        request = Request(method="GET", path=path, query=(("page", str(number)),))
        step = Step(operation=operation, request=request, checks=checks)  # type: ignore[arg-type]
        yield make_case(
            name=f"customers, page {number}",
            intent="positive",
            operation=operation,
            steps=(step,),
            origin=Provenance(source="human"),
        )
