"""Small documents for the tests of the rules, and what the tests ask of the cases made from them."""

from __future__ import annotations

import json
import re
from typing import Any

from testops_lib import spec as specs
from testops_lib.generate import Generated
from testops_lib.model import (
    Case,
    JsonBody,
    Policy,
)
from testops_lib.spec import Spec

ALL = Policy(methods="all")


SAFE = Policy(methods="safe")


def ref(name: str) -> dict[str, Any]:
    return {"$ref": f"#/components/schemas/{name}"}


def says(schema: dict[str, Any] | None, *, status: str = "200", **more: Any) -> dict[str, Any]:
    content = {"content": {"application/json": {"schema": schema}}} if schema else {}
    return {status: {"description": "", **content}, **{code: {"description": ""} for code in more.get("also", ())}}


def takes(schema: dict[str, Any], **media: Any) -> dict[str, Any]:
    return {"required": True, "content": {"application/json": {"schema": schema, **media}}}


def path(name: str, schema: dict[str, Any]) -> dict[str, Any]:
    return {"name": name, "in": "path", "required": True, "schema": schema}


def query(name: str, schema: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"name": name, "in": "query", "schema": schema, **more}


def load(paths: dict[str, Any], **components: Any) -> Spec:
    document = {
        "openapi": "3.1.0",
        "info": {"title": "t", "version": "1"},
        "paths": paths,
        "components": {
            "schemas": components,
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
    }
    return specs.load_bytes(json.dumps(document).encode(), source="t.json")


ORDER_IN = {
    "type": "object",
    "additionalProperties": False,
    "required": ["product_id", "quantity"],
    "properties": {
        "product_id": {"type": "integer"},
        "quantity": {"type": "integer", "minimum": 1, "maximum": 100},
        "note": {"type": "string", "maxLength": 40},
    },
}


PRODUCT_IN = {
    "type": "object",
    "required": ["name", "price"],
    "properties": {
        "id": {"type": "integer", "readOnly": True},
        "name": {"type": "string", "minLength": 1, "maxLength": 60},
        "price": {"type": "number", "minimum": 0.5},
        "kind": {"enum": ["tool", "toy"]},
    },
}


def about(made: Generated, operation: str, intent: str = "") -> list[Case]:
    return [case for case in made.cases if case.operation == operation and (not intent or case.intent == intent)]


def checks(case: Case, kind: type) -> list[Any]:
    return [check for step in case.steps for check in step.checks if isinstance(check, kind)]


def body(case: Case, step: int = -1) -> Any:
    sent = case.steps[step].request.body
    return sent.value if isinstance(sent, JsonBody) else None


def requests(case: Case) -> list[str]:
    return [f"{step.request.method} {step.request.path}" for step in case.steps]


def filled(value: Any) -> Any:
    """A body as it may be sent: whatever is a placeholder alone is a number, a token is 12 digits."""
    if isinstance(value, str):
        return 7 if re.fullmatch(r"\{(?!unique)\w+\}", value) else value.replace("{unique}", "0123456789ab")
    if isinstance(value, dict):
        return {key: filled(item) for key, item in value.items()}
    return [filled(item) for item in value] if isinstance(value, list) else value


def bodies(made: Generated, key: str, intent: str = "") -> list[tuple[Any, Case]]:
    """The JSON bodies that an operation is sent, with their cases."""
    return [
        (case.steps[-1].request.body.value, case)
        for case in made.cases
        if case.operation == key and isinstance(case.steps[-1].request.body, JsonBody) and intent in ("", case.intent)
    ]


def basis_of(case: Case, kind: type[Any]) -> str:
    return next((check.basis for check in case.steps[-1].checks if isinstance(check, kind)), "")


def shop_document() -> Spec:
    item = path("order_id", {"type": "integer"})
    order_out = {"type": "object", "properties": {"id": {"type": "integer"}, **ORDER_IN["properties"]}}  # type: ignore[dict-item]
    signed_in = [{"token": []}]
    return load(
        {
            "/products": {
                "get": {
                    "parameters": [
                        query(
                            "limit",
                            {"type": "integer", "minimum": 1, "maximum": 50},
                            description="At most this many items.",
                        ),
                        query("kind", {"enum": ["tool", "toy"]}),
                    ],
                    "responses": says({"type": "array", "items": ref("Product")}),
                },
                "post": {
                    "requestBody": takes(ref("Product")),
                    "responses": says(ref("Product"), status="201", also=["422"]),
                },
            },
            "/products/{id}": {
                "parameters": [path("id", {"type": "integer"})],
                "get": {"responses": says(ref("Product"), also=["404"])},
                "put": {"requestBody": takes(ref("Product")), "responses": says(None, status="204")},
                "delete": {"responses": says(None, status="204")},
            },
            "/orders": {
                "post": {
                    "security": signed_in,
                    "requestBody": takes(ref("OrderIn")),
                    "responses": says(ref("Order"), status="201"),
                }
            },
            "/orders/{order_id}": {
                "get": {"security": signed_in, "parameters": [item], "responses": says(ref("Order"), also=["404"])},
                "delete": {"security": signed_in, "parameters": [item], "responses": says(None, status="204")},
            },
            "/logout": {"post": {"security": signed_in, "responses": says(None, status="204")}},
        },
        Product=PRODUCT_IN,
        OrderIn=ORDER_IN,
        Order=order_out,
    )
