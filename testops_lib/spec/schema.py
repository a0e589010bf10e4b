"""Schemas of every dialect -> JSON Schema 2020-12 whose references are all `#/$defs/NAME`.

Only keywords with a value of the right type are kept, so what comes out always compiles. Cycles stay references, except
those that a value could never leave (`A: allOf: [A]`), which are cut.
"""

from __future__ import annotations

import hashlib
import json
import re
import time
from typing import Any

from testops_lib.errors import SpecError
from testops_lib.spec.graph import components
from testops_lib.spec.library import Broken, Document, Library, Place, kind
from testops_lib.spec.limits import Deadline, Limits, Notes
from testops_lib.spec.operation import Schema
from testops_lib.spec.parse import escape

PREFIX = "#/$defs/"

ONE = frozenset(
    {
        "additionalProperties",
        "contains",
        "contentSchema",
        "else",
        "if",
        "items",
        "not",
        "propertyNames",
        "then",
        "unevaluatedItems",
        "unevaluatedProperties",
    }
)
"""Keywords that hold a schema."""
MANY = frozenset({"allOf", "anyOf", "oneOf", "prefixItems"})
"""Keywords that hold a list of schemas."""
NAMED = frozenset({"properties", "patternProperties", "dependentSchemas", "$defs"})
"""Keywords that hold schemas by name."""
IN_PLACE_ONE = ("not", "if", "then", "else")
IN_PLACE_MANY = ("allOf", "anyOf", "oneOf")

_TEXTS = frozenset({"title", "description", "format", "contentMediaType", "contentEncoding", "$comment"})
_FLAGS = frozenset({"uniqueItems", "readOnly", "writeOnly", "deprecated"})
_COUNTS = frozenset(
    {
        "minLength",
        "maxLength",
        "minItems",
        "maxItems",
        "minProperties",
        "maxProperties",
        "minContains",
        "maxContains",
    }
)
_TYPES = frozenset({"null", "boolean", "object", "array", "number", "string", "integer"})
_MISNAMED = {
    "int": "integer",
    "int32": "integer",
    "int64": "integer",
    "long": "integer",
    "float": "number",
    "double": "number",
    "bool": "boolean",
    "dict": "object",
    "map": "object",
    "list": "array",
    "none": "null",
    "date": "string",
    "datetime": "string",
    "text": "string",
    "str": "string",
    "uuid": "string",
    "file": "string",
}
_ANNOTATIONS = frozenset(
    {
        "title",
        "description",
        "default",
        "examples",
        "readOnly",
        "writeOnly",
        "deprecated",
        "discriminator",
        "xml",
        "$comment",
    }
)
_SAFE_NAME = re.compile(r"[A-Za-z0-9._-]{1,200}\Z")
_UNSAFE = re.compile(r"[^A-Za-z0-9._-]+")
_PATTERN_CHARS = 10_000
_PATTERN_SECONDS = 3.0
"""For all patterns of a document together; a usual one takes 50 µs."""


class Schemas:
    """Converts the schemas of one description; those referred to become `definitions`."""

    def __init__(self, library: Library, dialect: str, *, limits: Limits, notes: Notes, deadline: Deadline) -> None:
        self._library, self._dialect = library, dialect
        self._limits, self._notes, self._deadline = limits, notes, deadline
        self._home = "/definitions/" if dialect == "2.0" else "/components/schemas/"
        self._queue: list[tuple[str, Place]] = []
        self._names: dict[tuple[str, str], str] = {}
        self._by_ref: dict[tuple[str, str, str], str] = {}
        self._patterns: dict[str, str] = {}
        self._pattern_seconds = 0.0
        self._document: Document = library.first
        self._resource = ""
        self._converted: dict[tuple[int, str], tuple[Any, Schema]] = {}
        """(identity, document) -> the raw schema, which keeps the identity taken, and what became of it."""
        self._count = 0
        self._path: list[str] = []
        self._bases: set[str] = set()
        self.definitions: dict[str, Schema] = {}
        self.broken: dict[str, str] = {}
        """Definition -> why it could not be found; it stands as `true`."""

    def convert(self, raw: Any, document: Document, pointer: str) -> Schema:
        """The schema standing at a place of a document."""
        converted = self._converted.get((id(raw), document.key))
        if converted is not None:
            return converted[1]
        self._document, self._resource, self._path = document, "", [pointer]
        schema = self._schema(raw)
        self._converted[id(raw), document.key] = raw, schema
        return schema

    def finish(self) -> None:
        """Converts what is referred to, and cuts what would keep a validator busy for ever."""
        for count, (name, place) in enumerate(self._queue):  # the queue grows on the way
            if count % 50 == 0:
                self._deadline.check()
            self._document, self._resource, self._path = place.document, place.resource, [place.pointer]
            self.definitions[name] = self._schema(place.value)
        self._queue.clear()
        self._lift_bases()
        self._cut_loops()
        self._cut_explosions()

    # ----------------------------------------------------------------------- conversion

    def _note(self, what: str) -> None:
        self._notes.add(self._document.at("/".join(self._path)), what)

    def _schema(self, raw: Any) -> Schema:
        if raw is True or raw is False:
            return raw
        if not isinstance(raw, dict):
            if raw is not None:
                self._note(f"a schema must be an object, not {kind(raw)}; anything is accepted there")
            return True
        self._count += 1
        if self._count > self._limits.max_schemas:
            raise SpecError(
                f"more than {self._limits.max_schemas:,} schemas when references are followed",
                where=f"{self._library.source}{self._document.at('/'.join(self._path))}",
                next_step="split the document, or raise the limit `max_schemas`",
            )
        outer = self._resource
        if isinstance(raw.get("$id"), str) and self._path:
            self._resource = "/".join(self._path)
        out: dict[str, Any] = {}
        path = self._path
        for key, value in raw.items():
            if key in NAMED:
                if key == "$defs":
                    continue
                if not isinstance(value, dict):
                    self._wrong(key, "an object", value)
                    continue
                named: dict[str, Schema] = {}
                for name, inner in value.items():
                    if key == "patternProperties":
                        usable = self._pattern(name)
                        if usable is None:
                            continue
                        path += (key, escape(name))
                        named[usable] = self._schema(inner)
                    else:
                        path += (key, escape(name))
                        named[name] = self._schema(inner)
                    del path[-2:]
                out[key] = named
            elif key in ONE:
                if key == "items" and isinstance(value, list):
                    self._many("prefixItems", key, value, out)
                    continue
                path.append(key)
                out[key] = self._schema(value)
                path.pop()
            elif key in MANY:
                self._many(key, key, value, out)
            elif key in _TEXTS:
                if isinstance(value, str):
                    out[key] = value
                elif value is not None:
                    self._wrong(key, "a string", value)
            elif key in _COUNTS:
                if type(value) is int and value >= 0:
                    out[key] = value
                elif type(value) is float and value >= 0 and value.is_integer():
                    out[key] = int(value) if value < 2**63 else 2**63
                elif value is not None:
                    self._wrong(key, "a whole number of 0 or more", value)
            elif key in _FLAGS:
                if isinstance(value, bool):
                    out[key] = value
            else:
                handler = _HANDLERS.get(key)
                if handler is not None:
                    handler(self, value, out, raw)
        if isinstance(raw.get("items"), list):
            out.pop("items", None)
            if "additionalItems" in raw:
                path.append("additionalItems")
                out["items"] = self._schema(raw["additionalItems"])
                path.pop()
        if "$ref" in out and self._dialect in ("2.0", "3.0"):
            # Siblings of a reference do not count there; annotations beside it do no harm and are meant.
            out = {key: value for key, value in out.items() if key == "$ref" or key in _ANNOTATIONS}
        if "enum" in out and out.get("type") == "string":
            self._stringify(out)
        if self._dialect != "3.1" and (raw.get("nullable") is True or raw.get("x-nullable") is True):
            out = _nullable(out)
        self._resource = outer
        return out

    def _wrong(self, key: str, wanted: str, value: Any) -> None:
        self._note(f"`{key}` must be {wanted}, not {_seen(value)}; it is left out")

    def _many(self, to: str, key: str, value: Any, out: dict[str, Any]) -> None:
        if not isinstance(value, list):
            self._wrong(key, "a list", value)
            return
        if not value:
            return
        schemas: list[Schema] = []
        for index, inner in enumerate(value):
            self._path += (key, str(index))
            schemas.append(self._schema(inner))
            del self._path[-2:]
        out[to] = schemas

    def _ref(self, value: Any, out: dict[str, Any], raw: dict[str, Any]) -> None:
        out["$ref"] = PREFIX + self._target(value)

    def _dynamic(self, value: Any, out: dict[str, Any], raw: dict[str, Any]) -> None:
        if "$ref" not in raw:
            self._note("a dynamic reference is read as a plain one")
            out["$ref"] = PREFIX + self._target(value)

    def _target(self, ref: Any) -> str:
        """The name of the definition that a reference leads to; a broken reference has one of its own."""
        key = (self._document.key, self._resource, ref if isinstance(ref, str) else repr(ref))
        name = self._by_ref.get(key)
        if name is None:
            try:
                place = self._library.resolve(ref, self._document, resource=self._resource)
            except Broken as error:
                name = f"broken-{_digest(*key)}"
                self.definitions[name] = True
                self.broken[name] = f"{self._document.at('/'.join(self._path))}: {error.reason}"
                self._note(f"{error.reason}; anything is accepted there")
            else:
                name = self._name(place)
            self._by_ref[key] = name
        return name

    def _name(self, place: Place) -> str:
        """The definition for a place: depends on the place alone, never on what else the document holds."""
        key = (place.document.key, place.pointer)
        name = self._names.get(key)
        if name is None:
            token = place.pointer.rpartition("/")[2].replace("~1", "/").replace("~0", "~")
            name = token
            if place.document.key or place.pointer != self._home + token or not _SAFE_NAME.match(token):
                stem = _UNSAFE.sub("_", token or place.document.key.rpartition("/")[2] or "root")[:150]
                name = f"{stem}-{_digest(*key)}"
            self._names[key] = name
            self._queue.append((name, place))
        return name

    def _type(self, value: Any, out: dict[str, Any], raw: dict[str, Any]) -> None:
        if isinstance(value, str) and value in _TYPES:
            out["type"] = value
            return
        if value is None:
            return
        if value == "any":
            return
        kinds: list[str] = []
        for declared in value if isinstance(value, list) else [value]:
            named = "null" if declared is None else declared if isinstance(declared, str) else ""
            type_name = named if named in _TYPES else _MISNAMED.get(named.lower(), named.lower())
            if type_name not in _TYPES:
                self._note(f"`type` {_seen(declared)} is unknown; it is left out")
                return
            if type_name != named and declared is not None:
                if named == "file":
                    out.setdefault("format", "binary")
                else:
                    self._note(f"`type` {named!r} is unknown; it is read as {type_name!r}")
            if type_name not in kinds:
                kinds.append(type_name)
        if kinds:
            out["type"] = kinds[0] if len(kinds) == 1 else kinds

    def _enum(self, value: Any, out: dict[str, Any], raw: dict[str, Any]) -> None:
        if not isinstance(value, list):
            self._wrong("enum", "a list", value)
        elif not value:
            self._note("`enum` is empty; it is left out")
        else:
            out["enum"] = value

    def _stringify(self, out: dict[str, Any]) -> None:
        if not all(isinstance(value, str) or value is None for value in out["enum"]):
            self._note("`enum` of a string holds other values; they are read as text")
            out["enum"] = [
                json.dumps(value) if isinstance(value, bool | int | float) else value for value in out["enum"]
            ]

    def _any(self, value: Any, out: dict[str, Any], raw: dict[str, Any]) -> None:
        out["const"] = value

    def _default(self, value: Any, out: dict[str, Any], raw: dict[str, Any]) -> None:
        out["default"] = value

    def _example(self, value: Any, out: dict[str, Any], raw: dict[str, Any]) -> None:
        out["examples"] = [value, *out.get("examples", ())]

    def _examples(self, value: Any, out: dict[str, Any], raw: dict[str, Any]) -> None:
        if isinstance(value, list):
            out["examples"] = [*out.get("examples", ()), *value]
        elif isinstance(value, dict):
            values = [
                example["value"] for example in value.values() if isinstance(example, dict) and "value" in example
            ]
            out["examples"] = [*out.get("examples", ()), *values]

    def _minimum(self, value: Any, out: dict[str, Any], raw: dict[str, Any]) -> None:
        self._bound("minimum", "exclusiveMinimum", value, out, raw)

    def _maximum(self, value: Any, out: dict[str, Any], raw: dict[str, Any]) -> None:
        self._bound("maximum", "exclusiveMaximum", value, out, raw)

    def _bound(self, key: str, exclusive: str, value: Any, out: dict[str, Any], raw: dict[str, Any]) -> None:
        if not _is_number(value):
            if value is not None:
                self._wrong(key, "a number", value)
        else:
            out[exclusive if raw.get(exclusive) is True else key] = value

    def _exclusive_minimum(self, value: Any, out: dict[str, Any], raw: dict[str, Any]) -> None:
        self._exclusive("exclusiveMinimum", value, out)

    def _exclusive_maximum(self, value: Any, out: dict[str, Any], raw: dict[str, Any]) -> None:
        self._exclusive("exclusiveMaximum", value, out)

    def _exclusive(self, key: str, value: Any, out: dict[str, Any]) -> None:
        if _is_number(value):
            out[key] = value
        elif not isinstance(value, bool) and value is not None:
            self._wrong(key, "a number", value)

    def _multiple(self, value: Any, out: dict[str, Any], raw: dict[str, Any]) -> None:
        if _is_number(value) and value > 0:
            out["multipleOf"] = value
        elif value is not None:
            self._wrong("multipleOf", "a number above 0", value)

    def _required(self, value: Any, out: dict[str, Any], raw: dict[str, Any]) -> None:
        if isinstance(value, list) and all(isinstance(name, str) for name in value):
            if value:
                out["required"] = list(dict.fromkeys(value))
        elif not isinstance(value, bool) and value is not None:
            self._wrong("required", "a list of strings", value)

    def _regex(self, value: Any, out: dict[str, Any], raw: dict[str, Any]) -> None:
        if isinstance(value, str):
            usable = self._pattern(value)
            if usable is not None:
                out["pattern"] = usable
        elif value is not None:
            self._wrong("pattern", "a string", value)

    def _pattern(self, pattern: str) -> str | None:
        usable = self._patterns.get(pattern)
        if usable is None:
            usable = self._compiled(pattern)
            self._patterns[pattern] = usable
        if usable == _NO_PATTERN:
            self._note(f"the pattern {_seen(pattern)} cannot be compiled; it is left out")
            return None
        return usable

    def _compiled(self, pattern: str) -> str:
        if len(pattern) > _PATTERN_CHARS or self._pattern_seconds > _PATTERN_SECONDS:
            return _NO_PATTERN
        began = time.monotonic()
        # `\A`, `\Z` and `(?P=name)` are Python's, which its frameworks write into documents.
        candidates = [pattern]
        if "\\Z" in pattern or "\\A" in pattern:
            candidates.append(pattern.replace("\\Z", "$").replace("\\A", "^"))
        try:
            return next((candidate for candidate in candidates if _compiles(candidate)), _NO_PATTERN)
        finally:
            self._pattern_seconds += time.monotonic() - began

    def _discriminator(self, value: Any, out: dict[str, Any], raw: dict[str, Any]) -> None:
        if isinstance(value, str):
            out["discriminator"] = {"propertyName": value}
            return
        if not isinstance(value, dict) or not isinstance(value.get("propertyName"), str):
            self._wrong("discriminator", "an object with a `propertyName`", value)
            return
        kept: dict[str, Any] = {"propertyName": value["propertyName"]}
        mapping = value.get("mapping")
        if isinstance(mapping, dict):
            targets: dict[str, str] = {}
            for name, ref in mapping.items():
                if not isinstance(ref, str):
                    continue
                bare = "/" not in ref and "#" not in ref and "." not in ref
                full = f"#{self._home}{escape(ref)}" if bare else ref
                try:
                    self._library.resolve(full, self._document, resource=self._resource)
                except Broken as error:
                    self._note(f"`discriminator` maps {_seen(name)} to nothing: {error.reason}")
                else:
                    targets[name] = PREFIX + self._target(full)
            kept["mapping"] = targets
        out["discriminator"] = kept

    def _dependencies(self, value: Any, out: dict[str, Any], raw: dict[str, Any]) -> None:
        if not isinstance(value, dict):
            return
        for name, needed in value.items():
            if isinstance(needed, list) and all(isinstance(name, str) for name in needed):
                out.setdefault("dependentRequired", {})[name] = list(dict.fromkeys(needed))
            elif isinstance(needed, dict | bool):
                self._path += ("dependencies", escape(name))
                out.setdefault("dependentSchemas", {})[name] = self._schema(needed)
                del self._path[-2:]

    def _dependent_required(self, value: Any, out: dict[str, Any], raw: dict[str, Any]) -> None:
        self._dependencies(
            {name: names for name, names in value.items() if isinstance(names, list)}
            if isinstance(value, dict)
            else {},
            out,
            raw,
        )

    def _xml(self, value: Any, out: dict[str, Any], raw: dict[str, Any]) -> None:
        if isinstance(value, dict):
            out["xml"] = value

    # ----------------------------------------------------------------------- loops and explosions

    def _lift_bases(self) -> None:
        """A child that names its base by `allOf`, while the base lists the child by `oneOf`, gets the bare base.

        Usual with `discriminator`: validated literally, each value would be judged for ever.
        """
        edges = {name: {to for _, to, _ in in_place(schema)} for name, schema in self.definitions.items()}
        for part in components(edges):
            if len(part) == 1 and part[0] not in edges[part[0]]:
                continue
            inside = set(part)
            for name in part:
                for node, to, by_all in in_place(self.definitions[name]):
                    base = self.definitions.get(to)
                    if by_all and to in inside and isinstance(base, dict) and ("oneOf" in base or "anyOf" in base):
                        bare = f"{to}.base"
                        while bare in self.definitions and bare not in self._bases:
                            bare += "_"
                        if bare not in self.definitions:
                            drop = ("oneOf", "anyOf", "discriminator")
                            self.definitions[bare] = {key: value for key, value in base.items() if key not in drop}
                            self._bases.add(bare)
                        node["$ref"] = PREFIX + bare

    def _cut_loops(self) -> None:
        edges = {name: [to for _, to, _ in in_place(schema)] for name, schema in self.definitions.items()}
        for part in components(edges):
            if len(part) == 1 and part[0] not in edges[part[0]]:
                continue
            members = set(part)
            entered: set[str] = set()
            left: set[str] = set()
            for start in part:
                if start in entered:
                    continue
                entered.add(start)
                work = [(start, iter(list(in_place(self.definitions[start]))))]
                while work:
                    name, rest = work[-1]
                    for node, to, _ in rest:
                        if to not in members or to in left:
                            continue
                        if to in entered:
                            del node["$ref"]
                            self._notes.add(f"schema {name}", f"refers to itself through {to} without end; cut there")
                            continue
                        entered.add(to)
                        work.append((to, iter(list(in_place(self.definitions[to])))))
                        break
                    else:
                        left.add(name)
                        work.pop()

    def _cut_explosions(self) -> None:
        edges = {name: [to for _, to, _ in in_place(schema)] for name, schema in self.definitions.items()}
        size: dict[str, int] = {}
        for name, *_ in components(edges):
            size[name] = 1 + sum(size.get(to, 1) for to in edges[name])
            if size[name] > self._limits.max_expansion:
                self._notes.add(
                    f"schema {name}",
                    f"expands to more than {self._limits.max_expansion:,} schemas; anything is accepted there",
                )
                self.definitions[name] = True
                size[name] = 1


def in_place(schema: Schema) -> list[tuple[dict[str, Any], str, bool]]:
    """References that apply to the same value as `schema`: the node that holds each, its target, whether by `allOf`."""
    references: list[tuple[dict[str, Any], str, bool]] = []
    waiting: list[tuple[Any, bool]] = [(schema, False)]
    while waiting:
        node, by_all = waiting.pop()
        if not isinstance(node, dict):
            continue
        if "$ref" in node:
            references.append((node, node["$ref"].removeprefix(PREFIX), by_all))
        for key in IN_PLACE_MANY:
            if key in node:
                waiting.extend((part, key == "allOf") for part in reversed(node[key]))
        for key in IN_PLACE_ONE:
            if key in node:
                waiting.append((node[key], False))
        if "dependentSchemas" in node:
            waiting.extend((part, False) for part in node["dependentSchemas"].values())
    return references


def _nullable(schema: dict[str, Any]) -> dict[str, Any]:
    kind = schema.get("type")
    if not any(key in schema for key in ("$ref", "allOf", "anyOf", "oneOf", "not", "const", "if")):
        if kind is not None:
            kinds = kind if isinstance(kind, list) else [kind]
            schema["type"] = kinds if "null" in kinds else [*kinds, "null"]
        if "enum" in schema and None not in schema["enum"]:
            schema["enum"] = [*schema["enum"], None]
        return schema
    outside = {key: value for key, value in schema.items() if key in _ANNOTATIONS}
    inside = {key: value for key, value in schema.items() if key not in _ANNOTATIONS}
    return {**outside, "anyOf": [inside, {"type": "null"}]}


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _seen(value: Any) -> str:
    if isinstance(value, dict | list):
        return kind(value)
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 80 else text[:79] + "…"


def _digest(*parts: str) -> str:
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:8]


def _compiles(pattern: str) -> bool:
    import jsonschema_rs

    try:
        jsonschema_rs.validator_for({"$schema": "https://json-schema.org/draft/2020-12/schema", "pattern": pattern})
    except Exception:
        return False
    return True


_NO_PATTERN = "\0"

_HANDLERS = {
    "$ref": Schemas._ref,
    "$dynamicRef": Schemas._dynamic,
    "$recursiveRef": Schemas._dynamic,
    "type": Schemas._type,
    "enum": Schemas._enum,
    "const": Schemas._any,
    "default": Schemas._default,
    "example": Schemas._example,
    "examples": Schemas._examples,
    "minimum": Schemas._minimum,
    "maximum": Schemas._maximum,
    "exclusiveMinimum": Schemas._exclusive_minimum,
    "exclusiveMaximum": Schemas._exclusive_maximum,
    "multipleOf": Schemas._multiple,
    "required": Schemas._required,
    "pattern": Schemas._regex,
    "discriminator": Schemas._discriminator,
    "dependencies": Schemas._dependencies,
    "dependentRequired": Schemas._dependent_required,
    "xml": Schemas._xml,
}
