"""What an RFC 9535 query can select from the documents that a schema describes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import jsonpath_rfc9535 as jsonpath
import msgspec
from jsonpath_rfc9535.filter_expressions import FunctionExtension
from jsonpath_rfc9535.segments import JSONPathRecursiveDescentSegment
from jsonpath_rfc9535.selectors import FilterSelector, IndexSelector, JSONPathSelector, NameSelector

from testops_lib.generate.schemas import SCHEMA_MAPS

MAX_LENGTH = 200
"""Characters of a query."""

_DEFS = "#/$defs/"
_MANY = 400
"""Schemas followed at once; with more, everything is taken to be reachable."""

_BRANCHES = ("allOf", "anyOf", "oneOf")
_ONE_BRANCH = ("if", "then", "else")

_DATA = frozenset({"example", "examples", "default", "enum", "const"})
"""Keywords that hold data, not schemas."""


def refusal(path: str) -> str:
    """Why a query must not be used, or "": not well-formed, or able to cost more than it should on a large answer.

    At most one descendant segment, one filter, and no regular expressions (`match`, `search`).
    """
    if len(path) > MAX_LENGTH:
        return f"a JSONPath has at most {MAX_LENGTH} characters"
    try:
        query = jsonpath.compile(path)
    except (jsonpath.JSONPathError, RecursionError, ValueError) as error:
        return f"{path[:80]!r} is no JSONPath (RFC 9535): {error}"
    descents = sum(isinstance(segment, JSONPathRecursiveDescentSegment) for segment in query.segments)
    selectors = [selector for segment in query.segments for selector in segment.selectors]
    filters = [selector for selector in selectors if isinstance(selector, FilterSelector)]
    nested = sum(str(selector.expression).count("?") for selector in filters)
    if descents > 1 or len(filters) > 1 or nested or any(".." in str(selector.expression) for selector in filters):
        return "at most one descendant segment and one plain filter are allowed"
    if any(_calls(selector.expression, {"match", "search"}) for selector in filters):
        return "the functions match and search are not allowed"
    return ""


def reach(path: str, schemas: Sequence[Any], definitions: Mapping[str, Any]) -> list[Any]:
    """Schemas of what a well-formed query may select from documents of any of `schemas`; empty: it selects nothing.

    `True` among them: something that is not described. A property counts as possible only when it is described, or
    when the document says that others may come (`additionalProperties`, `patternProperties`) or describes none.
    """
    query = jsonpath.compile(path)
    at = list(schemas)
    for segment in query.segments:
        if isinstance(segment, JSONPathRecursiveDescentSegment):
            at = _descend(at, definitions)
        at = _unique(
            reached
            for selector in segment.selectors
            for schema in at
            for reached in _select(selector, schema, definitions)
        )
        if len(at) > _MANY:
            return [True]
        if not at:
            return []
    return at


def closure(schemas: Sequence[Any], definitions: Mapping[str, Any]) -> dict[str, Any]:
    """The definitions that schemas refer to, directly or not, by name, nearest first."""
    found: dict[str, Any] = {}
    pending = list(schemas)
    while pending:
        following: list[Any] = []
        for name in (name for schema in pending for name in _references(schema)):
            if name not in found and name in definitions:
                found[name] = definitions[name]
                following.append(definitions[name])
        pending = following
    return found


def _references(schema: Any) -> Iterator[str]:
    pending = [schema]
    while pending:
        node = pending.pop()
        if isinstance(node, dict):
            target = node.get("$ref")
            if isinstance(target, str) and target.startswith(_DEFS):
                yield target.removeprefix(_DEFS).replace("~1", "/").replace("~0", "~")
            for key, value in reversed(node.items()):
                if key in SCHEMA_MAPS and isinstance(value, dict):
                    pending += reversed(value.values())  # a member may be named as a keyword is: `required`
                elif key not in _DATA:
                    pending.append(value)
        elif isinstance(node, list):
            pending += reversed(node)


def _calls(expression: Any, names: set[str]) -> bool:
    if isinstance(expression, FunctionExtension):
        return expression.name in names or any(_calls(item, names) for item in expression.args)
    slots = [slot for slot in ("expression", "left", "right") if hasattr(expression, slot)]
    return any(_calls(getattr(expression, slot), names) for slot in slots)


def _unique(found: Iterator[Any]) -> list[Any]:
    seen: dict[bytes, Any] = {}
    for schema in found:
        seen.setdefault(msgspec.json.encode(schema), schema)
        if len(seen) > _MANY:
            break
    return list(seen.values())


def _members(schema: Any, definitions: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The schema with all that it combines and refers to, flat: what any of them describes may be there."""
    found: list[dict[str, Any]] = []
    pending, visited = [schema], set[str]()
    while pending and len(found) < _MANY:
        node = pending.pop(0)
        if not isinstance(node, dict):
            continue
        found.append(node)
        target = node.get("$ref")
        if isinstance(target, str) and target.startswith(_DEFS) and target not in visited:
            visited.add(target)
            name = target.removeprefix(_DEFS).replace("~1", "/").replace("~0", "~")
            pending.append(definitions.get(name, True))
        for keyword in _BRANCHES:
            pending += node.get(keyword) or ()
        pending += [node[keyword] for keyword in _ONE_BRANCH if keyword in node]
    return found


def _allows(members: Sequence[dict[str, Any]], kind: str) -> bool:
    """Whether a value of this type may be meant; without any `type` everything may."""
    named = [item["type"] for item in members if "type" in item]
    return not named or any(kind == types or (isinstance(types, list) and kind in types) for types in named)


def _select(selector: JSONPathSelector, schema: Any, definitions: Mapping[str, Any]) -> Iterator[Any]:
    if schema is True or schema == {}:
        yield True
        return
    members = _members(schema, definitions)
    if isinstance(selector, NameSelector):
        yield from _property(members, selector.name)
    elif isinstance(selector, IndexSelector):
        yield from _items(members)
    else:  # wildcard, slice, filter
        yield from _items(members)
        if not hasattr(selector, "slice"):
            yield from _values(members)


def _property(members: Sequence[dict[str, Any]], name: str) -> Iterator[Any]:
    described = [item["properties"][name] for item in members if name in (item.get("properties") or {})]
    if described:
        yield from described
    elif _allows(members, "object"):
        yield from _others(members)


def _others(members: Sequence[dict[str, Any]]) -> Iterator[Any]:
    """Schemas of properties that are not named."""
    for item in members:
        for keyword in ("additionalProperties", "unevaluatedProperties"):
            if item.get(keyword, False) is not False:
                yield item[keyword]
        yield from (item.get("patternProperties") or {}).values()
    shaped = any("properties" in item or "additionalProperties" in item for item in members)
    arrays = any("items" in item or "prefixItems" in item for item in members)
    if not shaped and not arrays:
        yield True


def _items(members: Sequence[dict[str, Any]]) -> Iterator[Any]:
    if not _allows(members, "array"):
        return
    described = False
    for item in members:
        if "items" in item and item["items"] is not False:
            described = True
            yield item["items"]
        if item.get("prefixItems"):
            described = True
            yield from item["prefixItems"]
    if not described and not any("properties" in item for item in members):
        yield True


def _values(members: Sequence[dict[str, Any]]) -> Iterator[Any]:
    if not _allows(members, "object"):
        return
    for item in members:
        yield from (item.get("properties") or {}).values()
    yield from _others(members)


def _descend(schemas: Sequence[Any], definitions: Mapping[str, Any]) -> list[Any]:
    """The schemas and those of everything within."""
    seen: dict[bytes, Any] = {}
    pending = list(schemas)
    while pending:
        schema = pending.pop()
        key = msgspec.json.encode(schema)
        if key in seen:
            continue
        seen[key] = schema
        if schema is True or schema == {} or len(seen) > _MANY:
            return [True]
        members = _members(schema, definitions)
        pending += [*_items(members), *_values(members)]
    return list(seen.values())
