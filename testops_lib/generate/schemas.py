"""Schemas of a spec as a generator needs them: references followed, `allOf` merged, values judged.

Everything here speaks of *requests*: a `readOnly` property is never required (OpenAPI 3.1 §4.8.24, "required" holds for
the response alone) and `int32`/`int64` are ranges.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterator, Mapping
from typing import Any, Final

import jsonschema_rs
import msgspec

from testops_lib.generate.planning import Planning
from testops_lib.placeholder import fill
from testops_lib.spec.operation import Schema

UNIQUE: Final = "{unique}"
"""What a runner replaces by 12 hex digits, new for every attempt."""

_DEFS: Final = "#/$defs/"
_TOKENS: Final = ("0123456789ab", "000000000000", "ffffffffffff")
SCHEMA_MAPS: Final = frozenset({"properties", "patternProperties", "$defs", "definitions", "dependentSchemas"})
"""Keywords whose value is no schema but names of schemas."""

_LITERAL: Final = frozenset({"enum", "const", "default", "example", "examples", "required", "discriminator"})
RANGES: Final = {"int32": (-(2**31), 2**31 - 1), "int64": (-(2**63), 2**63 - 1)}
_KINDS: Final = ("null", "boolean", "integer", "number", "string", "array", "object")

Flat = dict[str, Any]
"""A schema without `$ref` and `allOf` at its top."""


def _is_base64(text: str) -> bool:
    try:
        base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return False
    return True


def target(ref: str) -> str:
    """The definition that a `$ref` names."""
    return ref.removeprefix(_DEFS).replace("~1", "/").replace("~0", "~")


def kinds(schema: Flat) -> frozenset[str]:
    """The JSON types that `schema` allows by its own keywords; all seven when it says nothing."""
    named = schema.get("type")
    if isinstance(named, str):
        return frozenset({named})
    if isinstance(named, list):
        return frozenset(kind for kind in named if isinstance(kind, str))
    if "const" in schema:
        return frozenset({kind_of(schema["const"])})
    if isinstance(schema.get("enum"), list):
        return frozenset(kind_of(item) for item in schema["enum"])
    if "properties" in schema:
        return frozenset({"object"})
    if "items" in schema:
        return frozenset({"array"})
    return frozenset(_KINDS)


def kind_of(value: Any) -> str:
    """The JSON type of a Python value."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "boolean"
    if isinstance(value, int):
        return "integer"
    if isinstance(value, float):
        return "number"
    if isinstance(value, str):
        return "string"
    return "array" if isinstance(value, list | tuple) else "object"


class Schemas:
    """The definitions of one spec; answers are kept, so asking twice is cheap.

    `planning` limits the time that is spent on them, where it was begun.
    """

    def __init__(self, definitions: Mapping[str, Schema]) -> None:
        self.planning = Planning()
        self._definitions = definitions
        # Keyed by identity; the key's object is kept beside the answer so that its id cannot be used again.
        self._flat: dict[int, tuple[Any, Flat]] = {}
        self._by_id: dict[int, tuple[Any, jsonschema_rs.Draft202012Validator | None]] = {}
        self._by_content: dict[bytes, jsonschema_rs.Draft202012Validator | None] = {}
        self._requests: dict[str, tuple[Any, frozenset[str]]] = {}
        self._extending: dict[str, list[str]] = {}
        self._loose: dict[int, tuple[Any, jsonschema_rs.Draft202012Validator | None]] = {}

    def flat(self, schema: Schema | None) -> Flat:
        """`schema` with its reference followed and its `allOf` merged; `anyOf` and `oneOf` stay."""
        if schema is None or schema is True:
            return {}
        if schema is False:
            return {"not": {}}
        found = self._flat.get(id(schema))
        if found is None:
            found = self._flat[id(schema)] = (schema, self._flatten(schema, frozenset()))
        return found[1]

    def _flatten(self, schema: Schema, seen: frozenset[str]) -> Flat:
        if not isinstance(schema, dict):
            return {} if schema else {"not": {}}
        parts: list[Flat] = []
        ref = schema.get("$ref")
        if isinstance(ref, str):
            name = target(ref)
            if name in self._definitions and name not in seen:
                parts.append(self._flatten(self._definitions[name], seen | {name}))
        parts.extend(self._flatten(part, seen) for part in schema.get("allOf", ()))
        own = {key: value for key, value in schema.items() if key not in ("$ref", "allOf")}
        if not parts:
            return self._unwrapped(own if len(own) != len(schema) else schema, seen)
        merged: Flat = {}
        for part in (*parts, own):
            _merge(merged, part)
        return self._unwrapped(merged, seen)

    def _unwrapped(self, flat: Flat, seen: frozenset[str]) -> Flat:
        """`anyOf: [X, null]`, the usual form of nullable, as X that may be null; a single alternative as itself."""
        for key in ("anyOf", "oneOf"):
            branches = flat.get(key)
            if not isinstance(branches, list) or not branches or ("anyOf" in flat and "oneOf" in flat):
                continue
            real = [branch for branch in branches if not (isinstance(branch, dict) and branch.get("type") == "null")]
            if len(real) != 1:
                continue
            merged: Flat = {}
            _merge(merged, self._flatten(real[0], seen))
            _merge(merged, {name: value for name, value in flat.items() if name != key})
            if len(real) < len(branches):
                merged["type"] = (
                    sorted(kinds(merged) | {"null"}) if len(kinds(merged)) < 7 else merged.get("type", list(_KINDS))
                )
                if isinstance(merged.get("enum"), list):
                    merged["enum"] = [*merged["enum"], None]
            return merged
        return flat

    def name(self, schema: Schema | None) -> str:
        """The definition that `schema` refers to, or ""."""
        if isinstance(schema, dict):
            ref = schema.get("$ref")
            if isinstance(ref, str):
                return target(ref)
            if len(schema.get("allOf", ())) == 1:
                return self.name(schema["allOf"][0])
        return ""

    def branches(self, schema: Flat) -> list[Schema]:
        """The alternatives of `oneOf` or `anyOf`, in order; empty when there are none."""
        found = schema.get("oneOf") or schema.get("anyOf") or []
        return found if isinstance(found, list) else []

    def all_kinds(self, schema: Schema | None) -> frozenset[str]:
        """The JSON types that `schema` allows, those of its alternatives included."""
        flat = self.flat(schema)
        branches = self.branches(flat)
        if not branches or {"type", "enum", "const"} & set(flat):
            return kinds(flat)
        return frozenset().union(*(kinds(self.flat(branch)) for branch in branches))

    def members(self, schema: Schema | None) -> frozenset[str]:
        """The names of an object's members that its schema describes."""
        flat = self.flat(schema)
        parts = (flat, *map(self.flat, self.branches(flat)))
        return frozenset(name for part in parts for name in part.get("properties", {}))

    def compiles(self, schema: Schema) -> bool:
        """Values can be judged by it."""
        return self._validator(schema) is not None

    def member(self, schema: Schema | None, name: str) -> Schema:
        """The schema of an object's member; True where nothing is said of it."""
        flat = self.flat(schema)
        parts = (flat, *map(self.flat, self.branches(flat)))
        declared = next((part["properties"][name] for part in parts if name in part.get("properties", {})), None)
        more: Schema = flat.get("additionalProperties", True)
        return declared if declared is not None else more

    def tags(self, schema: Flat, branch: Schema) -> tuple[str, list[str]]:
        """The discriminating property of `schema`, and its values that mean `branch`, the document's own names first.

        No values: the schema has no discriminator, or what it discriminates by is no text.
        """
        tag = schema.get("discriminator")
        name = tag.get("propertyName") if isinstance(tag, dict) else None
        target = self.name(branch)
        if not isinstance(tag, dict) or not isinstance(name, str) or not target:
            return "", []
        mapping = tag.get("mapping")
        goals = mapping.items() if isinstance(mapping, dict) else ()
        meant = [*(key for key, goal in goals if str(goal).rsplit("/", 1)[-1] == target), target]
        declared = self.flat(self.member(branch, name))
        if "string" not in kinds(declared):
            return name, []
        listed = [declared["const"]] if "const" in declared else declared.get("enum")
        if isinstance(listed, list):  # the alternative says itself what it is called
            return name, [value for value in meant if value in listed] or listed
        return name, meant

    def subtypes(self, name: str) -> list[str]:
        """The definitions that extend the definition `name` by `allOf`, in the document's order."""
        if not self._extending:
            for other, schema in self._definitions.items():
                for part in schema.get("allOf", ()) if isinstance(schema, dict) else ():
                    if base := self.name(part):
                        self._extending.setdefault(base, []).append(other)
            self._extending.setdefault("", [])
        return self._extending.get(name, []) if name else []

    def own_tag(self, schema: Flat, name: str) -> tuple[str, str]:
        """The discriminating property of the definition `name` and its value there; empty where it has none."""
        tag = schema.get("discriminator")
        key = tag.get("propertyName") if isinstance(tag, dict) else None
        if not isinstance(tag, dict) or not isinstance(key, str) or not name or self.branches(schema):
            return "", ""
        declared = self.flat(self.member(schema, key))
        if {"const", "enum"} & set(declared) or "string" not in kinds(declared):
            return "", ""
        mapping = tag.get("mapping")
        goals = mapping.items() if isinstance(mapping, dict) else ()
        return key, next((value for value, goal in goals if str(goal).rsplit("/", 1)[-1] == name), name)

    def nullable(self, schema: Schema | None) -> bool:
        flat = self.flat(schema)
        return "null" in kinds(flat) and bool(flat) and self.accepts(schema if schema is not None else True, None)

    def accepts(self, schema: Schema, value: Any) -> bool:
        """`value` is valid, for every token in place of `{unique}`. A schema that cannot be compiled accepts all."""
        validator = self._validator(schema)
        if validator is None:
            return True
        if _holds_token(value):
            return all(validator.is_valid(fill(value, {"unique": token})) for token in _TOKENS)
        return validator.is_valid(value)

    def rejects(self, schema: Schema, value: Any) -> bool:
        """`value` is surely invalid. A schema that cannot be compiled rejects nothing."""
        validator = self._validator(schema)
        if validator is None:
            return False
        if _holds_token(value):
            return not any(validator.is_valid(fill(value, {"unique": token})) for token in _TOKENS)
        return not validator.is_valid(value)

    def takes(self, schema: Schema, value: Any) -> bool:
        """`value` is valid, or it only fits more than one alternative of a `oneOf`: few servers mind that."""
        if self.accepts(schema, value):
            return True
        known = self._loose.get(id(schema))
        if known is None:
            form = self.self_contained(schema)
            loose = _with_any(form)
            known = self._loose[id(schema)] = (schema, None if loose == form else _compiled(loose))
        return known[1] is not None and known[1].is_valid(fill(value, {"unique": _TOKENS[0]}))

    def _validator(self, schema: Schema) -> jsonschema_rs.Draft202012Validator | None:
        self.planning.check()
        known = self._by_id.get(id(schema))
        if known is not None:
            return known[1]
        content = msgspec.json.encode(schema)
        if content not in self._by_content:
            self._by_content[content] = _compiled(self.self_contained(schema))
        compiled = self._by_content[content]
        self._by_id[id(schema)] = (schema, compiled)
        return compiled

    def self_contained(self, schema: Schema) -> Schema:
        """`schema` as it holds for requests, with every definition it needs under `$defs`."""
        form = _request_form(schema, self)
        needed: dict[str, Any] = {}
        waiting = list(_references(form))
        while waiting:
            name = waiting.pop()
            if name in needed:
                continue
            if name not in self._requests:
                body = _request_form(self._definitions.get(name, True), self)
                self._requests[name] = (body, frozenset(_references(body)))
            needed[name], further = self._requests[name]
            waiting.extend(further)
        return {**form, "$defs": needed} if isinstance(form, dict) and needed else form

    def errors(self, schema: Schema, value: Any) -> Iterator[jsonschema_rs.ValidationError]:
        """What is invalid in `value`, one error at a time; nothing for a schema that cannot be compiled."""
        validator = self._validator(schema)
        if validator is not None:
            yield from validator.iter_errors(value)


def _compiled(form: Schema) -> jsonschema_rs.Draft202012Validator | None:
    try:
        return jsonschema_rs.Draft202012Validator(form, validate_formats=True, formats={"byte": _is_base64})
    except (jsonschema_rs.ValidationError, jsonschema_rs.ReferencingError, ValueError):
        return None


def _with_any(schema: Any) -> Any:
    """A copy in which one alternative or more of each `oneOf` may hold."""
    if isinstance(schema, list):
        return [_with_any(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    form: dict[str, Any] = {}
    for key, value in schema.items():
        if key in SCHEMA_MAPS and isinstance(value, dict):
            form[key] = {name: _with_any(item) for name, item in value.items()}
        else:
            form[key] = value if key in _LITERAL else _with_any(value)
    if isinstance(form.get("oneOf"), list):
        form["allOf"] = [*form.get("allOf", ()), {"anyOf": form.pop("oneOf")}]
    return form


def _holds_token(value: Any) -> bool:
    if isinstance(value, str):
        return UNIQUE in value
    if isinstance(value, list):
        return any(_holds_token(item) for item in value)
    if isinstance(value, dict):
        return any(_holds_token(item) for item in value.values())
    return False


def _references(schema: Any) -> Iterator[str]:
    if isinstance(schema, dict):
        for key, value in schema.items():
            if key == "$ref" and isinstance(value, str) and value.startswith(_DEFS):
                yield target(value)
            elif key in SCHEMA_MAPS and isinstance(value, dict):
                for member in value.values():  # a member may be named as a keyword is: `required`, `default`
                    yield from _references(member)
            elif key not in _LITERAL:
                yield from _references(value)
    elif isinstance(schema, list):
        for item in schema:
            yield from _references(item)


def _request_form(schema: Any, schemas: Schemas) -> Any:
    """A copy for requests: read-only properties not required, `int32` and `int64` as ranges, the alternative that a
    discriminator names instead of exactly one of all.
    """
    if isinstance(schema, list):
        return [_request_form(item, schemas) for item in schema]
    if not isinstance(schema, dict):
        return schema
    form: dict[str, Any] = {}
    for key, value in schema.items():
        if key in SCHEMA_MAPS and isinstance(value, dict):
            form[key] = {name: _request_form(item, schemas) for name, item in value.items()}
        elif key in _LITERAL or not isinstance(value, dict | list):
            form[key] = value
        else:
            form[key] = _request_form(value, schemas)
    if isinstance(schema.get("discriminator"), dict):
        _choose_by_tag(form, schema, schemas)
    required = form.get("required")
    if isinstance(required, list):
        properties = schema.get("properties", {})
        form["required"] = [n for n in required if schemas.flat(properties.get(n)).get("readOnly") is not True]
    bounds = RANGES.get(str(form.get("format")))
    if bounds and "integer" in kinds(form):
        form["minimum"] = max(bounds[0], form.get("minimum", bounds[0]))
        form["maximum"] = min(bounds[1], form.get("maximum", bounds[1]))
    return form


def _choose_by_tag(form: dict[str, Any], schema: dict[str, Any], schemas: Schemas) -> None:
    """The discriminator's value says which alternative holds (OpenAPI 3.1, section 4.8.25), whatever others fit too."""
    key = next((key for key in ("oneOf", "anyOf") if isinstance(schema.get(key), list)), None)
    if key is None:
        return
    chosen: list[Any] = []
    for branch, formed in zip(schema[key], form.pop(key), strict=True):
        name, values = schemas.tags(schema, branch)
        tagged = {"required": [name], "properties": {name: {"enum": values}}}
        chosen.append({"allOf": [formed, tagged]} if values else formed)
    form["allOf"] = [*form.get("allOf", ()), {"anyOf": chosen}]


def _merge(into: Flat, part: Flat) -> None:
    """Narrow `into` by `part`, keyword by keyword; where two cannot be joined, both stay under `allOf`."""
    for key, value in part.items():
        if key not in into:
            into[key] = dict(value) if key == "properties" else value
        elif key == "properties":
            for name, schema in value.items():
                held = into[key].get(name)
                into[key][name] = schema if held is None or held == schema else {"allOf": [held, schema]}
        elif key == "required":
            into[key] = [*into[key], *(name for name in value if name not in into[key])]
        elif key in ("minimum", "exclusiveMinimum", "minLength", "minItems", "minProperties"):
            into[key] = max(into[key], value)
        elif key in ("maximum", "exclusiveMaximum", "maxLength", "maxItems", "maxProperties"):
            into[key] = min(into[key], value)
        elif key == "enum":
            into[key] = [item for item in into[key] if item in value]
        elif key == "type":
            both = kinds({"type": into[key]}) & kinds({"type": value})
            into[key] = sorted(both) if len(both) != 1 else next(iter(both))
        elif key == "additionalProperties":
            into[key] = False if value is False or into[key] is False else value
        elif key in ("oneOf", "anyOf"):
            continue  # the first alternatives stay; the whole schema still judges every value
        else:
            into[key] = value
