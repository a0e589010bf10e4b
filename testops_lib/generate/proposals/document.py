"""A proposed case as a document: the shape that language models and imported files share. Nobody has judged it yet."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Literal

import msgspec
from msgspec import UNSET, UnsetType

from testops_lib.model import Intent, Pairs, Value

Place = Literal["path_params", "query", "headers", "cookies"]

PLACES: tuple[Place, ...] = ("path_params", "query", "headers", "cookies")

JSONPATH_OPS = ("exists", "absent", "equals", "contains", "excludes", "min_items", "max_items")


class Expectation(Value, frozen=True, kw_only=True):
    """What the proposal expects of an answer: a status, a header, or what a JSONPath selects."""

    kind: Literal["status", "jsonpath", "header"]
    statuses: tuple[int, ...] = ()
    path: str = ""
    op: Literal["exists", "absent", "equals", "contains", "excludes", "min_items", "max_items"] = "exists"
    value_json: Any = UNSET
    """A JSON value, or its text."""
    name: str = ""
    equals: str | None = None
    basis: str = "guess"
    """A claim; the validator decides whether it holds."""
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


def convert(raw: Any) -> Proposal:
    """The proposal in a raw JSON value; nulls count as absent and `{"id": 1}` as a list of pairs.

    Raises:
        ValueError: it does not have the shape; the message names the place.
    """
    if not isinstance(raw, Mapping):
        raise ValueError("a case is an object")
    tidy = _without_nulls(raw)
    for part in ("steps", "cleanup"):
        if isinstance(tidy.get(part), list):
            tidy[part] = [_tidy_step(step) for step in tidy[part]]
    try:
        return msgspec.convert(tidy, Proposal, strict=False)
    except (msgspec.ValidationError, RecursionError) as error:
        raise ValueError(str(error)) from None


def value_json(content: Any) -> Any:
    """The JSON value of a field that holds a value or its text.

    Raises:
        ValueError: it is a text that is no JSON.
    """
    if not isinstance(content, str):
        return content
    try:
        return json.loads(content, parse_constant=refuse_constant)
    except RecursionError:
        raise ValueError("nested too deeply") from None


def refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


def _tidy_step(step: Any) -> Any:
    if not isinstance(step, Mapping):
        return step
    # body_json may be null on purpose only as the text "null": structured output writes null for "absent".
    tidy = _without_nulls(step)
    for place in (*PLACES, "form"):
        if place in tidy:
            tidy[place] = _pairs(tidy[place])
    for part in ("expect", "captures"):
        if isinstance(tidy.get(part), list):
            tidy[part] = [_without_nulls(item) for item in tidy[part]]
    return tidy


def _without_nulls(item: Any) -> Any:
    return {name: value for name, value in item.items() if value is not None} if isinstance(item, Mapping) else item


def _pairs(listed: Any) -> Any:
    if isinstance(listed, Mapping):
        listed = [{"name": name, "value": value} for name, value in listed.items()]
    if not isinstance(listed, list):
        return listed
    return [
        (item["name"], _text(item.get("value", "")))
        if isinstance(item, Mapping) and set(item) <= {"name", "value"} and "name" in item
        else item
        for item in listed
    ]


def _text(value: Any) -> Any:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value) if isinstance(value, int | float) else value
