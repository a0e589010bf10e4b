"""Every keyword of a schema gets a value just inside and one just outside, in a body and, as text, in the query."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from testops_lib import spec as specs
from testops_lib.generate.rules import generate
from testops_lib.model import JsonBody, Policy

INT, TEXT = {"type": "integer"}, {"type": "string"}

KEYWORDS: list[tuple[str, dict[str, Any], list[Any], list[Any]]] = [
    ("3.0.3", {**INT, "minimum": 3, "maximum": 9}, [3, 9], [2, 10, "not-a-value"]),
    ("3.0.3", {**INT, "minimum": 3, "exclusiveMinimum": True, "maximum": 9, "exclusiveMaximum": True}, [4, 8], [3, 9]),
    ("3.1.0", {**INT, "exclusiveMinimum": 3, "exclusiveMaximum": 9}, [4, 8], [3, 9]),
    ("3.1.0", {"type": "number", "minimum": 0.5}, [0.5], [-0.5]),
    ("3.1.0", {**INT, "multipleOf": 5, "minimum": 5}, [5, 10], [0, 11]),
    ("3.1.0", {"type": "number", "multipleOf": 0.5}, [1], [0.75]),
    ("3.0.3", {**INT, "format": "int32"}, [2**31 - 1, -(2**31)], [2**31]),
    ("3.1.0", {**TEXT, "minLength": 3, "maxLength": 6}, ["tes", "testtt"], ["te", "testttt"]),
    ("3.1.0", {**TEXT, "pattern": "^ab$"}, ["ab"], ["ab!"]),
    ("3.1.0", {**TEXT, "enum": ["a", "b"]}, ["a", "b"], ["not-an-option"]),
    ("3.1.0", {"const": "x"}, ["x"], ["not-an-option"]),
    ("3.1.0", {**TEXT, "format": "date"}, ["2024-05-17"], ["2024-13-45"]),
    ("3.1.0", {**TEXT, "format": "date-time"}, ["2024-05-17T12:30:00Z"], ["2024-13-45T99:99:99Z"]),
    ("3.1.0", {**TEXT, "format": "email"}, ["test@example.com"], ["not-an-email"]),
    ("3.1.0", {**TEXT, "format": "uuid"}, ["b5b6d8f0-3c1e-4a6b-9c55-0d5f4a0e7b11"], ["not-a-uuid"]),
    ("3.1.0", {**TEXT, "format": "ipv4"}, ["192.0.2.1"], ["999.1.1.1"]),
    ("3.1.0", {**TEXT, "format": "ipv6"}, ["2001:db8::1"], ["2001:db8::zz"]),
    ("3.1.0", {**TEXT, "format": "uri"}, ["https://example.com/a"], ["not a uri"]),
    ("3.1.0", {"type": "array", "items": INT, "minItems": 2, "maxItems": 3}, [[1, 2], [1, 2, 1]], [[1], [1, 2, 1, 2]]),
    ("3.1.0", {"type": "array", "items": INT, "uniqueItems": True}, [[1]], [[1, 1]]),
    ("3.1.0", {"oneOf": [{**INT, "minimum": 1}, {**TEXT, "minLength": 2}]}, [1, "test1"], [0]),
    ("3.1.0", {"type": "boolean"}, [True, False], ["not-a-value"]),
]
IN_BODIES: list[tuple[str, dict[str, Any], list[Any], list[Any]]] = [
    ("3.0.3", TEXT, ["test", ""], [None, {"unexpected": "object"}]),
    ("3.0.3", {**TEXT, "nullable": True}, [None], [{"unexpected": "object"}]),
    ("3.1.0", {"type": ["string", "null"]}, [None], [{"unexpected": "object"}]),
    (
        "3.1.0",
        {"type": "object", "required": ["a"], "properties": {"a": INT}, "additionalProperties": False},
        [{"a": 1}],
        [{}, {"a": None}, {"a": 1, "unexpected_property": "x"}],
    ),
    (
        "3.1.0",
        {"type": "object", "additionalProperties": INT, "minProperties": 1, "maxProperties": 2},
        [{"key0": 1}],
        [{}, {"key0": 1, "property0": 1, "property1": 1}, {"key0": 1, "unexpected_property": "not-a-value"}],
    ),
    (
        "3.1.0",
        {
            "type": "object",
            "required": ["a"],
            "properties": {"a": INT, "b": INT},
            "dependentRequired": {"a": ["b"]},
        },
        [{"a": 1, "b": 1}],
        [{"a": 1}],
    ),
]


def sent(folder: Path, version: str, schema: dict[str, Any], where: str) -> tuple[list[Any], list[Any]]:
    """Values of valid and of negative cases."""
    operation: dict[str, Any] = {"responses": {"200": {"description": "ok"}}}
    if where == "body":
        body = {"type": "object", "required": ["v"], "properties": {"v": schema}}
        operation["requestBody"] = {"required": True, "content": {"application/json": {"schema": body}}}
    else:
        operation["parameters"] = [{"name": "v", "in": "query", "required": True, "schema": schema}]
    paths = {"/things": {"post" if where == "body" else "get": operation}}
    (folder / "d.json").write_text(
        json.dumps({"openapi": version, "info": {"title": "t", "version": "1"}, "paths": paths})
    )
    valid: list[Any] = []
    negative: list[Any] = []
    for case in generate(specs.load(folder / "d.json"), policy=Policy()).cases:
        request, into = case.steps[-1].request, negative if case.intent == "negative" else valid
        if where == "query":
            into.append([value for name, value in request.query if name == "v"])
        elif isinstance(request.body, JsonBody) and isinstance(request.body.value, dict):
            into += [value for name, value in request.body.value.items() if name == "v"]
    return valid, negative


def text(value: Any) -> list[str]:
    return [json.dumps(one) if not isinstance(one, str) else one for one in (value if type(value) is list else [value])]


def among(value: Any, values: list[Any]) -> bool:
    """Equal and of one type: `True` is not 1."""
    return json.dumps(value) in map(json.dumps, values)


@pytest.mark.parametrize(("version", "schema", "inside", "outside"), [*KEYWORDS, *IN_BODIES])
def test_a_body_has_values_just_inside_and_just_outside(
    tmp_path: Path, version: str, schema: dict[str, Any], inside: list[Any], outside: list[Any]
) -> None:
    valid, negative = sent(tmp_path, version, schema, "body")
    assert [value for value in inside if not among(value, valid)] == [], valid
    assert [value for value in outside if not among(value, negative)] == [], negative
    assert not any(among(value, negative) for value in inside) and not any(among(value, valid) for value in outside)


@pytest.mark.parametrize(("version", "schema", "inside", "outside"), KEYWORDS)
def test_a_query_has_values_just_inside_and_just_outside(
    tmp_path: Path, version: str, schema: dict[str, Any], inside: list[Any], outside: list[Any]
) -> None:
    valid, negative = sent(tmp_path, version, schema, "query")
    assert [value for value in inside if text(value) not in valid] == [], valid
    assert [value for value in outside if text(value) not in negative] == [], negative
