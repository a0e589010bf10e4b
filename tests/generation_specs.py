"""Small documents built by hand, for the tests of generation."""

from __future__ import annotations

from typing import Any

from testops_lib.spec.operation import (
    Header,
    MediaType,
    Operation,
    Parameter,
    RequestBody,
    Response,
    SecurityScheme,
    Spec,
)

PET = {"$ref": "#/$defs/Pet"}

NAMES = {"type": "array", "items": {"type": "string"}}

PETS_TEXT = "Creates a pet. Two pets of one owner must not share a name: the second one is refused with 409."


def json_body(schema: Any, *examples: Any) -> dict[str, MediaType]:
    return {"application/json": MediaType(schema=schema, examples=examples)}


def pets(*, description: str = PETS_TEXT, protected: bool = True) -> Spec:
    """Five operations on pets, one definition, an API key in a header."""
    security: tuple[tuple[str, ...], ...] = (("key",),) if protected else ()
    identifier = Parameter(name="id", where="path", required=True, schema={"type": "integer", "minimum": 1})
    missing = Response(description="There is no such pet.", content=json_body({"$ref": "#/$defs/Error"}))
    pet_response = Response(description="The pet.", content=json_body(PET, {"id": 7, "name": "Rex", "tag": "dog"}))
    return Spec(
        title="Pets",
        version="1",
        dialect="3.1",
        source="pets.yaml",
        security_schemes={"key": SecurityScheme(kind="apiKey", name="X-Pets", where="header")},
        definitions={
            "Pet": {
                "type": "object",
                "required": ["id", "name"],
                "properties": {
                    "id": {"type": "integer"},
                    "name": {"type": "string", "maxLength": 40},
                    "tag": {"type": "string"},
                    "parents": {"type": "array", "items": PET},
                },
            },
            "NewPet": {
                "type": "object",
                "required": ["name"],
                "properties": {
                    "name": {"type": "string", "minLength": 1, "maxLength": 40},
                    "age": {"type": "integer", "minimum": 0, "description": "Whole years; a pet is younger than 200."},
                    "tag": {"type": "string"},
                    "mother": {"type": "integer"},
                },
            },
            "Error": {"type": "object", "required": ["message"], "properties": {"message": {"type": "string"}}},
            "Unused": {"type": "object", "description": "Nobody refers to this."},
        },
        operations=(
            Operation(
                key="GET /pets",
                method="GET",
                path="/pets",
                operation_id="listPets",
                summary="Lists pets",
                security=security,
                parameters=(
                    Parameter(name="limit", where="query", schema={"type": "integer", "minimum": 1, "maximum": 100}),
                    Parameter(name="tag", where="query", schema=NAMES, style="form", explode=True),
                    Parameter(name="X-Trace", where="header", schema={"type": "string", "maxLength": 10}),
                    Parameter(
                        name="Authorization",
                        where="header",
                        schema={"type": "string"},
                        examples=("Bearer abcdef123456789",),
                    ),
                ),
                responses={
                    "200": Response(
                        description="A page of pets.",
                        content=json_body({"type": "array", "items": PET}),
                        headers={"X-Total": Header(required=True, schema={"type": "integer"})},
                    )
                },
            ),
            Operation(
                key="POST /pets",
                method="POST",
                path="/pets",
                operation_id="createPet",
                description=description,
                security=security,
                body=RequestBody(content=json_body({"$ref": "#/$defs/NewPet"}), required=True),
                responses={
                    "201": Response(description="Created.", content=json_body(PET)),
                    "422": Response(description="Invalid.", content=json_body({"$ref": "#/$defs/Error"})),
                },
            ),
            Operation(
                key="GET /pets/{id}",
                method="GET",
                path="/pets/{id}",
                summary="One pet",
                security=security,
                parameters=(identifier,),
                responses={"200": pet_response, "404": missing},
            ),
            Operation(
                key="DELETE /pets/{id}",
                method="DELETE",
                path="/pets/{id}",
                security=security,
                parameters=(identifier,),
                responses={"204": Response(description="Gone."), "404": missing},
            ),
            Operation(
                key="POST /logout",
                method="POST",
                path="/logout",
                responses={"204": Response(description="Bye.")},
            ),
        ),
    )


def positive(name: str = "Rex", **changes: Any) -> dict[str, Any]:
    """A proposal that is right in every way."""
    create = {
        "operation": "POST /pets",
        "body_json": f'{{"name": "{name}"}}',
        "expect": [{"kind": "jsonpath", "path": "$.name", "op": "equals", "value_json": f'"{name}"', "basis": "guess"}],
        "captures": [{"name": "pet", "source": "body", "path": "$.id"}],
    }
    delete = {"operation": "DELETE /pets/{id}", "path_params": [{"name": "id", "value": "{pet}"}]}
    case = {
        "name": "creates a pet",
        "intent": "positive",
        "operation": "POST /pets",
        "steps": [create],
        "cleanup": [delete],
    }
    return case | changes


def step(operation: str, **fields: Any) -> dict[str, Any]:
    proposed: dict[str, Any] = {"operation": operation}
    for name, value in fields.items():
        pairs = name in ("path_params", "query", "headers", "cookies", "form") and isinstance(value, dict)
        proposed[name] = [{"name": key, "value": item} for key, item in value.items()] if pairs else value
    return proposed


def case(
    intent: str, *steps: dict[str, Any], about: str = "", cleanup: tuple[dict[str, Any], ...] = ()
) -> dict[str, Any]:
    return {
        "name": f"a {intent} case",
        "intent": intent,
        "operation": about or steps[-1]["operation"],
        "steps": list(steps),
        "cleanup": list(cleanup),
    }
