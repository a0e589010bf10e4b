"""What a language model is asked to answer, and how its text is read: shapes only, nothing is believed yet."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import msgspec
from msgspec import UNSET, Struct, UnsetType

from testops_lib.model import Intent, Pairs, Value

Place = Literal["path_params", "query", "headers", "cookies"]

PLACES: tuple[Place, ...] = ("path_params", "query", "headers", "cookies")

JSONPATH_OPS = ("exists", "absent", "equals", "contains", "excludes", "min_items", "max_items")


class Expectation(Value, frozen=True, kw_only=True):
    """What the model believes of an answer: a status, a header or what a JSONPath selects."""

    kind: Literal["status", "jsonpath", "header"]
    statuses: tuple[int, ...] = ()
    path: str = ""
    op: Literal["exists", "absent", "equals", "contains", "excludes", "min_items", "max_items"] = "exists"
    value_json: Any = UNSET
    """A JSON value, or its text."""
    name: str = ""
    equals: str | None = None
    basis: str = "guess"
    """A claim, checked: never taken as it is."""
    quote: str = ""


class ProposedCapture(Value, frozen=True, kw_only=True):
    name: str
    source: Literal["body", "header", "status"] = "body"
    path: str = ""


class ProposedStep(Value, frozen=True, kw_only=True):
    operation: str
    path_params: Pairs = ()
    query: Pairs = ()
    headers: Pairs = ()
    cookies: Pairs = ()
    media_type: str = ""
    body_json: Any = UNSET
    """A JSON value, or its text."""
    body_text: str | UnsetType = UNSET
    form: Pairs | UnsetType = UNSET
    identity: str = ""
    expect: tuple[Expectation, ...] = ()
    captures: tuple[ProposedCapture, ...] = ()


class Proposal(Value, frozen=True, kw_only=True):
    name: str
    intent: Intent
    operation: str
    steps: tuple[ProposedStep, ...]
    cleanup: tuple[ProposedStep, ...] = ()


class Reading(Struct, frozen=True, kw_only=True):
    """What could be read from an answer's text."""

    cases: tuple[Any, ...] = ()
    """Raw JSON values, one for each proposed case."""
    problem: str = ""
    """Why the text is no whole answer, or "". With `cut` whole cases may have been read before the end."""
    cut: bool = False


def schema(operations: Sequence[str], identities: Sequence[str], *, cases: int, repair: bool = False) -> dict[str, Any]:
    """The JSON Schema of an answer, in the small dialect that structured output obeys (no `$ref`, no free objects).

    With `repair` each case carries `repairs`: the number of the refused case that it replaces.
    """
    text = {"type": "string"}
    pair = {"type": "object", "properties": {"name": text, "value": text}, "required": ["name", "value"]}
    pairs = {"type": "array", "items": pair}
    expectation = {
        "type": "object",
        "properties": {
            "kind": {"type": "string", "enum": ["status", "jsonpath", "header"]},
            "statuses": {"type": "array", "items": {"type": "integer"}},
            "path": {"type": "string", "description": "kind jsonpath: an RFC 9535 query on the JSON body"},
            "op": {"type": "string", "enum": list(JSONPATH_OPS)},
            "value_json": {"type": "string", "description": "kind jsonpath: the value as JSON text"},
            "name": {"type": "string", "description": "kind header: the header's name"},
            "equals": {"type": "string", "description": "kind header: its exact value, when known"},
            "basis": {"type": "string", "enum": ["spec", "example", "description", "guess"]},
            "quote": {"type": "string", "description": "basis description: the sentence, copied exactly"},
        },
        "required": ["kind", "basis"],
    }
    capture = {
        "type": "object",
        "properties": {
            "name": text,
            "source": {"type": "string", "enum": ["body", "header", "status"]},
            "path": {"type": "string", "description": "body: an RFC 9535 query; header: the header's name"},
        },
        "required": ["name", "source"],
    }
    step: dict[str, Any] = {
        "type": "object",
        "properties": {
            "operation": {"type": "string", "enum": list(operations)},
            "path_params": pairs,
            "query": pairs,
            "headers": pairs,
            "cookies": pairs,
            "media_type": text,
            "body_json": {"type": "string", "description": "the body as JSON text"},
            "body_text": {"type": "string", "description": "the body as raw text, e.g. malformed JSON"},
            "form": pairs,
            "identity": {"type": "string", "enum": [*identities, "none", "invalid"]},
            "expect": {"type": "array", "items": expectation},
            "captures": {"type": "array", "items": capture},
        },
        "required": ["operation"],
    }
    case: dict[str, Any] = {
        "type": "object",
        "properties": {
            "name": text,
            "intent": {"type": "string", "enum": ["positive", "negative", "boundary", "stateful", "security"]},
            "operation": {"type": "string", "enum": list(operations)},
            "steps": {"type": "array", "items": step, "minItems": 1, "maxItems": 12},
            "cleanup": {"type": "array", "items": step, "maxItems": 4},
        },
        "required": ["name", "intent", "operation", "steps"],
    }
    if repair:
        case["properties"]["repairs"] = {"type": "integer", "description": "number of the refused case"}
        case["required"].append("repairs")
    return {
        "type": "object",
        "properties": {"cases": {"type": "array", "items": case, "maxItems": cases}},
        "required": ["cases"],
    }


def read(text: str) -> Reading:
    """The proposed cases in an answer's text, with prose or code fences around the JSON and cut ends tolerated."""
    try:
        whole = json.loads(text, parse_constant=_refuse_constant)
    except (ValueError, RecursionError):
        whole = _embedded(text)
    if isinstance(whole, Mapping) and isinstance(whole.get("cases"), list):
        return Reading(cases=tuple(whole["cases"]))
    if isinstance(whole, list):
        return Reading(cases=tuple(whole))
    if whole is not None:
        return Reading(problem='the answer is JSON, but not an object with an array "cases"')
    salvaged = _salvaged(text)
    if salvaged is None:
        return Reading(problem="the answer holds no JSON object with an array of cases")
    problem = f"the answer ends in the middle, after {len(salvaged)} whole cases"
    return Reading(cases=tuple(salvaged), cut=True, problem=problem)


def convert(raw: Any) -> Proposal:
    """The proposal in a raw JSON value; nulls count as absent and `{"id": 1}` as a list of pairs.

    Raises:
        ValueError: it does not have the shape; the message names the place.
    """
    if not isinstance(raw, Mapping):
        raise ValueError("a case is an object")
    tidy = {name: value for name, value in raw.items() if value is not None and name != "repairs"}
    for part in ("steps", "cleanup"):
        if isinstance(tidy.get(part), list):
            tidy[part] = [_tidy_step(step) for step in tidy[part]]
    try:
        return msgspec.convert(tidy, Proposal, strict=False)
    except (msgspec.ValidationError, RecursionError) as error:
        raise ValueError(str(error)) from None


def json_value(given: Any) -> Any:
    """The JSON value of a field that holds a value or its text.

    Raises:
        ValueError: it is a text that is no JSON.
    """
    if not isinstance(given, str):
        return given
    try:
        return json.loads(given, parse_constant=_refuse_constant)
    except RecursionError:
        raise ValueError("nested too deeply") from None


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


def _embedded(text: str) -> Any:
    """The first JSON object in a text that looks like an answer, or None."""
    decoder = json.JSONDecoder(parse_constant=_refuse_constant)
    start = text.find("{")
    for _ in range(20):
        if start < 0:
            return None
        try:
            value, _end = decoder.raw_decode(text, start)
        except (ValueError, RecursionError):
            value = None
        if isinstance(value, dict) and "cases" in value:
            return value
        start = text.find("{", start + 1)
    return None


def _salvaged(text: str) -> list[Any] | None:
    """The whole cases at the start of a cut answer; None when it has no such start."""
    key = text.find('"cases"')
    start = text.find("[", key) if key >= 0 else -1
    if start < 0 or text[key + 7 : start].strip() != ":":
        return None
    decoder, found, at = json.JSONDecoder(parse_constant=_refuse_constant), list[Any](), start + 1
    while True:
        at += len(text[at:]) - len(text[at:].lstrip(" \t\r\n,"))
        try:
            value, at = decoder.raw_decode(text, at)
        except (ValueError, RecursionError):
            return found
        found.append(value)


def _tidy_step(step: Any) -> Any:
    if not isinstance(step, Mapping):
        return step
    # body_json may be null on purpose only as the text "null": structured output writes null for "absent".
    tidy = {name: value for name, value in step.items() if value is not None}
    for place in (*PLACES, "form"):
        if place in tidy:
            tidy[place] = _pairs(tidy[place])
    for part in ("expect", "captures"):
        if isinstance(tidy.get(part), list):
            tidy[part] = [_without_nulls(item) for item in tidy[part]]
    return tidy


def _without_nulls(item: Any) -> Any:
    return {name: value for name, value in item.items() if value is not None} if isinstance(item, Mapping) else item


def _pairs(given: Any) -> Any:
    if isinstance(given, Mapping):
        given = [{"name": name, "value": value} for name, value in given.items()]
    if not isinstance(given, list):
        return given
    return [
        (item["name"], _text(item.get("value", "")))
        if isinstance(item, Mapping) and set(item) <= {"name", "value"} and "name" in item
        else item
        for item in given
    ]


def _text(value: Any) -> Any:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value) if isinstance(value, int | float) else value
