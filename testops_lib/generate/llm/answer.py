"""The form in which a language model is asked to answer, and the proposals in its text, which nobody has judged yet."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from msgspec import Struct

from testops_lib.generate.proposals.document import JSONPATH_OPS, refuse_constant


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
    """The proposed cases in an answer's text. Tolerates prose or code fences around the JSON, and a cut end."""
    try:
        whole = json.loads(text, parse_constant=refuse_constant)
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


def _embedded(text: str) -> Any:
    """The first JSON object in a text that looks like an answer, or None."""
    decoder = json.JSONDecoder(parse_constant=refuse_constant)
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
    decoder, position = json.JSONDecoder(parse_constant=refuse_constant), start + 1
    cases: list[Any] = []
    while True:
        position += len(text[position:]) - len(text[position:].lstrip(" \t\r\n,"))
        try:
            value, position = decoder.raw_decode(text, position)
        except (ValueError, RecursionError):
            return cases
        cases.append(value)
