"""Two readings of an OpenAPI document -> what changed, operation by operation, and whether it breaks a client.

Pure. What a client sends and what it receives are judged apart: a request breaks it by asking more than before, a
response by holding what was not announced or by lacking what was. The effort is bounded whatever the documents are.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from itertools import islice
from typing import Any, Literal

import msgspec

from testops_lib.model import Value
from testops_lib.spec.operation import Header, MediaType, Operation, Parameter, Response, Schema, Spec

Side = Literal["operation", "request", "response"]

MOST_DIFFERENCES = 200
"""Of one operation; further ones are counted."""
MOST_NODES = 1_000_000
"""Schema nodes compared in all."""
_MOST_TOLD = 20_000
"""Differences of one operation that are looked at."""
_DEEPEST = 60
"""Levels of schemas inside each other."""
_MOST_OF_DEFINITION = 50
_MOST_VALUES = 20
"""Of an enum, named one by one."""

_PREFIX = "#/$defs/"
_TYPES = frozenset({"null", "boolean", "object", "array", "number", "integer", "string"})
_LOWER = ("minimum", "exclusiveMinimum", "minLength", "minItems", "minProperties", "minContains")
_UPPER = ("maximum", "exclusiveMaximum", "maxLength", "maxItems", "maxProperties", "maxContains")
_RULES = ("pattern", "format", "multipleOf", "contentEncoding", "contentMediaType")
"""Keywords that restrict a value and whose two values cannot be compared by size."""
_OPAQUE = (
    "not",
    "if",
    "then",
    "else",
    "dependentSchemas",
    "dependentRequired",
    "patternProperties",
    "propertyNames",
    "contains",
    "prefixItems",
    "unevaluatedItems",
    "unevaluatedProperties",
)
_ABSENT: Any = object()


class Difference(Value, frozen=True, kw_only=True):
    """One thing that changed within an operation."""

    side: Side
    where: str
    """`query limit`, `body name`, `200 body items[].price`; "" the operation itself."""
    what: str
    """In words: `became required`."""
    breaking: bool = False


class Changed(Value, frozen=True, kw_only=True):
    operation: str
    differences: tuple[Difference, ...]
    """Breaking ones first."""
    more: int = 0
    """Differences beyond `MOST_DIFFERENCES`."""

    @property
    def breaking(self) -> bool:
        return any(difference.breaking for difference in self.differences)


class Drift(Value, frozen=True, kw_only=True):
    """What changed between two documents; operations in the documents' order."""

    added: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    changed: tuple[Changed, ...] = ()
    whole: bool = True
    """False: the documents are too large to be compared to the end."""

    @property
    def breaking(self) -> bool:
        """Whether a client of the old document may fail with the new one."""
        return bool(self.removed) or any(changed.breaking for changed in self.changed)

    @property
    def empty(self) -> bool:
        return not (self.added or self.removed or self.changed)


def compare(old: Spec, new: Spec) -> Drift:
    """What changed from `old` to `new`. A path parameter's name is no part of an operation's identity."""
    before, after = ({_identity(operation): operation for operation in spec.operations} for spec in (old, new))
    walk = _Walk(old, new)
    changed = []
    for identity, operation in before.items():
        other = after.get(identity)
        if other is None or (
            operation.key == other.key and operation.content_hash == other.content_hash and operation.content_hash
        ):
            continue
        differences = sorted(walk.operation(operation, other), key=lambda difference: not difference.breaking)
        if differences:
            more = max(0, len(differences) - MOST_DIFFERENCES)
            changed.append(Changed(operation=other.key, differences=tuple(differences[:MOST_DIFFERENCES]), more=more))
    return Drift(
        added=tuple(operation.key for identity, operation in after.items() if identity not in before),
        removed=tuple(operation.key for identity, operation in before.items() if identity not in after),
        changed=tuple(changed),
        whole=walk.whole,
    )


def lines(drift: Drift) -> Iterator[str]:
    """The drift for people, in plain lines; names are the documents' own and may hold anything."""
    breaking = len(drift.removed) + sum(
        difference.breaking for changed in drift.changed for difference in changed.differences
    )
    harmless = len(drift.added) + sum(
        not difference.breaking for changed in drift.changed for difference in changed.differences
    )
    if drift.empty:
        yield "nothing changed"
    else:
        yield (
            f"{len(drift.removed)} removed, {len(drift.added)} added, {len(drift.changed)} changed operations: "
            f"{breaking} breaking, {harmless} harmless"
        )
    for key in drift.removed:
        yield f"{key}"
        yield "  breaking  removed"
    for key in drift.added:
        yield f"{key}"
        yield "  harmless  added"
    for changed in drift.changed:
        yield changed.operation
        for difference in changed.differences:
            place = " ".join(
                filter(None, (difference.side if difference.side != "operation" else "", difference.where))
            )
            kind = "breaking" if difference.breaking else "harmless"
            yield f"  {kind}  {place + ': ' if place else ''}{difference.what}"
        if changed.more:
            yield f"  … and {changed.more} more"
    if not drift.whole:
        yield "the documents are too large: not everything was compared"


def _identity(operation: Operation) -> tuple[str, str]:
    return operation.method, re.sub(r"\{[^{}/]*\}", "{}", operation.path)


def _shown(value: Any) -> str:
    text = msgspec.json.encode(value).decode("utf-8", "replace")
    return text if len(text) <= 80 else text[:79] + "…"


class _Walk:
    """The comparison of two documents. Each pair of definitions is compared once."""

    def __init__(self, old: Spec, new: Spec) -> None:
        self._old, self._new = old, new
        self._differences: dict[tuple[str | int, str | int, Side], list[Difference]] = {}
        self._nodes = 0
        self.whole = True

    def operation(self, old: Operation, new: Operation) -> list[Difference]:
        """Every difference once, as they stand in the document."""
        differences = list(islice(self._operation(old, new), _MOST_TOLD + 1))
        self.whole = self.whole and len(differences) <= _MOST_TOLD
        return list(dict.fromkeys(differences))

    def _operation(self, old: Operation, new: Operation) -> Iterator[Difference]:
        if old.key != new.key:
            yield Difference(side="request", where="path", what=f"{old.path} is written {new.path}")
        yield from _documentation(old, new)
        if new.deprecated != old.deprecated:
            yield Difference(
                side="operation", where="", what="is deprecated" if new.deprecated else "is not deprecated any more"
            )
        yield from self._security(old, new)
        yield from self._parameters(old, new)
        yield from self._body(old, new)
        yield from self._responses(old, new)

    def _security(self, old: Operation, new: Operation) -> Iterator[Difference]:
        # no requirement at all and an empty alternative both mean: anonymous
        before, after = (
            {frozenset(names) for names in operation.security} or {frozenset()} for operation in (old, new)
        )
        if frozenset() in before and frozenset() not in after:
            yield Difference(side="request", where="credentials", what="became required", breaking=True)
        elif frozenset() in after and frozenset() not in before:
            yield Difference(side="request", where="credentials", what="are not required any more")
        for names in sorted(map(sorted, before - after - {frozenset()})):
            if frozenset() not in after:
                what = f"{' and '.join(names)} is not accepted any more"
                yield Difference(side="request", where="credentials", what=what, breaking=True)
        for names in sorted(map(sorted, after - before - {frozenset()})):
            if frozenset() not in before:
                yield Difference(side="request", where="credentials", what=f"{' and '.join(names)} is accepted, too")

    def _parameters(self, old: Operation, new: Operation) -> Iterator[Difference]:
        before, after = _parameters(old), _parameters(new)
        for key, parameter in before.items():
            other = after.get(key)
            where = f"{parameter.where} {parameter.name}"
            if other is None:
                yield Difference(side="request", where=where, what="removed", breaking=True)
                continue
            if parameter.required != other.required:
                what = "became required" if other.required else "became optional"
                yield Difference(side="request", where=where, what=what, breaking=other.required)
            how, anew = ((version.style, version.explode, version.content_type) for version in (parameter, other))
            if how != anew:
                yield Difference(side="request", where=where, what="is written in another style", breaking=True)
            if other.deprecated and not parameter.deprecated:
                yield Difference(side="request", where=where, what="is deprecated")
            if (parameter.description, parameter.examples) != (other.description, other.examples):
                yield Difference(side="request", where=where, what="description or examples changed")
            yield from self._schemas(parameter.schema, other.schema, "request", where, 0)
        for key, other in after.items():
            if key not in before:
                what = "new and required" if other.required else "new and optional"
                yield Difference(
                    side="request", where=f"{other.where} {other.name}", what=what, breaking=other.required
                )

    def _body(self, old: Operation, new: Operation) -> Iterator[Difference]:
        if old.body is None and new.body is None:
            return
        if old.body is None or new.body is None:
            required = new.body is not None and new.body.required
            what = "removed" if new.body is None else "new and required" if required else "new and optional"
            yield Difference(side="request", where="body", what=what, breaking=new.body is None or required)
            return
        if old.body.required != new.body.required:
            what = "became required" if new.body.required else "became optional"
            yield Difference(side="request", where="body", what=what, breaking=new.body.required)
        if old.body.description != new.body.description:
            yield Difference(side="request", where="body", what="description or examples changed")
        yield from self._content(old.body.content, new.body.content, "request", "body")

    def _content(
        self, old: Mapping[str, MediaType], new: Mapping[str, MediaType], side: Side, where: str
    ) -> Iterator[Difference]:
        for name, media in old.items():
            if name not in new:
                yield Difference(side=side, where=where, what=f"is not offered as {name} any more", breaking=True)
                continue
            if media.examples != new[name].examples:
                yield Difference(side=side, where=where, what="description or examples changed")
            before, after = (True if content.schema is None else content.schema for content in (media, new[name]))
            yield from self._schemas(before, after, side, where, 0)
        for name in new:
            if name not in old:
                yield Difference(side=side, where=where, what=f"is offered as {name}, too")

    def _responses(self, old: Operation, new: Operation) -> Iterator[Difference]:
        for status, response in old.responses.items():
            other = new.responses.get(status)
            if other is None:
                success = status.startswith(("2", "3"))
                yield Difference(side="response", where=status, what="is not answered any more", breaking=success)
                continue
            if response.description != other.description or response.links != other.links:
                yield Difference(side="response", where=status, what="description or links changed")
            yield from self._headers(response, other, status)
            yield from self._content(response.content, other.content, "response", f"{status} body")
        for status in new.responses:
            if status not in old.responses:
                yield Difference(side="response", where=status, what="new")

    def _headers(self, old: Response, new: Response, status: str) -> Iterator[Difference]:
        before, after = (
            {name.lower(): (name, header) for name, header in version.headers.items()} for version in (old, new)
        )
        for key, (name, header) in before.items():
            where = f"{status} header {name}"
            other: Header | None = after.get(key, (name, None))[1]
            if other is None:
                yield Difference(side="response", where=where, what="removed", breaking=True)
                continue
            if header.required != other.required:
                what = "is always there" if other.required else "may be missing"
                yield Difference(side="response", where=where, what=what, breaking=header.required)
            schema, another = (True if version.schema is None else version.schema for version in (header, other))
            yield from self._schemas(schema, another, "response", where, 0)
        for key, (name, _) in after.items():
            if key not in before:
                yield Difference(side="response", where=f"{status} header {name}", what="new")

    # ------------------------------------------------------------------ schemas

    def _schemas(self, old: Schema, new: Schema, side: Side, where: str, depth: int) -> Iterator[Difference]:
        """What changed between two schemas, `where` they stand."""
        key = (_reference(old), _reference(new), side)
        if not key[0] or not key[1]:
            yield from self._compared(old, new, side, where, depth)
            return
        if key not in self._differences:
            self._differences[key] = []  # a pair within itself is a cycle, which shows no more than its first round
            differences = dict.fromkeys(self._compared(old, new, side, "", depth))
            # the worst first: what is cut here is cut for every operation
            self._differences[key] = sorted(differences, key=lambda difference: not difference.breaking)[
                :_MOST_OF_DEFINITION
            ]
        for known_difference in self._differences[key]:
            yield msgspec.structs.replace(known_difference, where=_joined(where, known_difference.where))

    def _compared(self, old: Schema, new: Schema, side: Side, where: str, depth: int) -> Iterator[Difference]:
        self._nodes += 1
        if self._nodes > MOST_NODES or depth > _DEEPEST:
            self.whole = False
            return
        if isinstance(old, bool) and old is new:
            return
        before, after = _flat(old, self._old.definitions), _flat(new, self._new.definitions)
        narrows, widens = _verbs(side)

        def difference(what: str, *, narrower: bool | None) -> Difference:
            breaking = narrows if narrower else widens if narrower is False else True
            return Difference(side=side, where=where, what=what, breaking=breaking)

        yield from _types(before, after, difference)
        yield from _enums(before, after, difference)
        for keyword in (*_LOWER, *_UPPER):
            least, most = _number(before.get(keyword)), _number(after.get(keyword))
            if least == most:
                continue
            if least is None or most is None:
                what = f"{keyword} {least} removed" if most is None else f"{keyword} {most} added"
                yield difference(what, narrower=least is None)
            else:
                yield difference(f"{keyword} {least} -> {most}", narrower=(most > least) == (keyword in _LOWER))
        for keyword in _RULES:
            value, other = before.get(keyword, _ABSENT), after.get(keyword, _ABSENT)
            if value is _ABSENT and other is not _ABSENT:
                yield difference(f"{keyword} {_shown(other)} added", narrower=True)
            elif other is _ABSENT and value is not _ABSENT:
                yield difference(f"{keyword} {_shown(value)} removed", narrower=False)
            elif value is not other and value != other:
                yield difference(f"{keyword} {_shown(value)} -> {_shown(other)}", narrower=None)
        if bool(before.get("uniqueItems")) != bool(after.get("uniqueItems")):
            yield difference(
                f"uniqueItems {'added' if after.get('uniqueItems') else 'removed'}",
                narrower=bool(after.get("uniqueItems")),
            )
        if side == "request" and before.get("default", _ABSENT) != after.get("default", _ABSENT):
            what = f"default {_default(before)} -> {_default(after)}"
            yield Difference(side=side, where=where, what=what, breaking="default" in before)
        for keyword in _OPAQUE:
            if before.get(keyword) != after.get(keyword):
                yield difference(f"the rule `{keyword}` changed, which may break a client", narrower=None)
        if any(before.get(name) != after.get(name) for name in ("title", "description", "examples")):
            yield Difference(side=side, where=where, what="description or examples changed")
        yield from self._fields(before, after, side, where, depth)
        if "items" in before or "items" in after:
            yield from self._schemas(before.get("items", True), after.get("items", True), side, f"{where}[]", depth + 1)
        for keyword in ("oneOf", "anyOf"):
            yield from self._branches(before, after, keyword, side, where, depth)

    def _fields(
        self, before: Mapping[str, Any], after: Mapping[str, Any], side: Side, where: str, depth: int
    ) -> Iterator[Difference]:
        hidden = "readOnly" if side == "request" else "writeOnly"
        fields, others = (
            {
                name: schema
                for name, schema in version.get("properties", {}).items()
                if not (isinstance(schema, dict) and schema.get(hidden))
            }
            for version in (before, after)
        )
        required, demanded = (set(version.get("required", ())) for version in (before, after))
        for name in fields:
            place = _joined(where, name)
            if name not in others:
                yield Difference(side=side, where=place, what="removed", breaking=True)
                continue
            if (name in required) != (name in demanded):
                always = name in demanded
                if side == "request":
                    what = "became required" if always else "became optional"
                else:
                    what = "is always there" if always else "may be missing"
                yield Difference(side=side, where=place, what=what, breaking=always == (side == "request"))
            yield from self._schemas(fields[name], others[name], side, place, depth + 1)
        for name in others:
            if name not in fields:
                place, must = _joined(where, name), side == "request" and name in demanded
                what = "new and required" if must else "new and optional" if side == "request" else "new"
                yield Difference(side=side, where=place, what=what, breaking=must)
        extra, more = (version.get("additionalProperties", True) for version in (before, after))
        if extra is not more and (extra is False or more is False):
            what = "further fields are refused" if more is False else "further fields are allowed"
            yield Difference(side=side, where=where, what=what, breaking=more is False and side == "request")
        elif isinstance(extra, dict) or isinstance(more, dict):
            yield from self._schemas(extra, more, side, _joined(where, "*"), depth + 1)

    def _branches(
        self, before: Mapping[str, Any], after: Mapping[str, Any], keyword: str, side: Side, where: str, depth: int
    ) -> Iterator[Difference]:
        """Alternatives: equal ones are matched first, then those of one definition's name, then the others in order."""
        narrows, widens = _verbs(side)
        old, new = list(before.get(keyword, ())), list(after.get(keyword, ()))
        if bool(old) != bool(new):
            what = f"{keyword} {'added' if new else 'removed'}"
            yield Difference(side=side, where=where, what=what, breaking=narrows if new else widens)
            return
        pairs: list[tuple[Schema, Schema]] = []
        for match in (_title, _text):
            indexes: dict[str, list[int]] = {}
            for index, schema in enumerate(new):
                if schema is not _ABSENT and match(schema):
                    indexes.setdefault(match(schema), []).append(index)
            for index, schema in enumerate(old):
                if schema is not _ABSENT and indexes.get(match(schema)):
                    other = indexes[match(schema)].pop(0)
                    pairs.append((schema, new[other]))
                    old[index] = new[other] = _ABSENT
        rest, others = ([schema for schema in branches if schema is not _ABSENT] for branches in (old, new))
        if len(rest) == len(others):
            pairs += zip(rest, others, strict=True)
        else:
            for schema in rest:
                what = f"{keyword}: {_title(schema) or _shown(schema)} removed"
                yield Difference(side=side, where=where, what=what, breaking=narrows)
            for schema in others:
                what = f"{keyword}: {_title(schema) or _shown(schema)} added"
                yield Difference(side=side, where=where, what=what, breaking=widens)
        for schema, other_schema in pairs:
            yield from self._schemas(schema, other_schema, side, where, depth + 1)


def _verbs(side: Side) -> tuple[bool, bool]:
    """Whether narrowing a schema breaks a client, and whether widening it does."""
    return side == "request", side == "response"


def _joined(where: str, name: str) -> str:
    if not where or not name:
        return where or name
    if name.startswith("["):
        return where + name
    return f"{where}{' ' if where.endswith('body') else '.'}{name}"


def _documentation(old: Operation, new: Operation) -> Iterator[Difference]:
    for name in ("summary", "description", "tags"):
        if getattr(old, name) != getattr(new, name):
            yield Difference(side="operation", where="", what=f"{name} changed")
    if old.operation_id != new.operation_id:
        what = f"operationId {old.operation_id or 'none'} -> {new.operation_id or 'none'}"
        yield Difference(side="operation", where="", what=what)


def _parameters(operation: Operation) -> dict[tuple[str, str], Parameter]:
    """By place and name; path parameters, whose names no client sends, by their number."""
    template = re.findall(r"\{([^{}/]*)\}", operation.path)
    parameters = {}
    for parameter in operation.parameters:
        name = parameter.name.lower() if parameter.where == "header" else parameter.name
        if parameter.where == "path" and parameter.name in template:
            name = str(template.index(parameter.name))
        parameters[parameter.where, name] = parameter
    return parameters


def _reference(schema: Schema) -> str | int:
    """Identity of a schema with references or alternatives, so that it is compared once; "" for plain ones."""
    if not isinstance(schema, dict) or not schema.keys() & {"$ref", "allOf", "oneOf", "anyOf"}:
        return ""
    return str(schema["$ref"]) if len(schema) == 1 and "$ref" in schema else id(schema)


def _flat(schema: Schema, definitions: Mapping[str, Schema]) -> dict[str, Any]:
    """The schema with its references and `allOf` taken in: fields and required names together, else the first wins."""
    if isinstance(schema, bool):
        return {} if schema else {"not": True}
    flat: dict[str, Any] = {}
    fields: dict[str, Any] = {}
    required: dict[str, None] = {}
    seen: set[int] = set()
    waiting: list[Schema] = [schema]
    while waiting and len(seen) < 1000:
        node = waiting.pop(0)
        if not isinstance(node, dict) or id(node) in seen:
            continue
        seen.add(id(node))
        for key, value in node.items():
            if key == "$ref":
                waiting.append(definitions.get(str(value).removeprefix(_PREFIX), True))
            elif key == "allOf":
                waiting.extend(value)
            elif key == "properties":
                for name, field in value.items():
                    fields.setdefault(name, field)
            elif key == "required":
                required.update(dict.fromkeys(value))
            else:
                flat.setdefault(key, value)
    if fields:
        flat["properties"] = fields
    if required:
        flat["required"] = list(required)
    return flat


def _type_set(schema: Mapping[str, Any]) -> frozenset[str]:
    declared = schema.get("type")
    types = {declared} if isinstance(declared, str) else set(declared) if isinstance(declared, list) else set(_TYPES)
    return frozenset(types | ({"integer"} if "number" in types else set()))


def _types(before: Mapping[str, Any], after: Mapping[str, Any], difference: Any) -> Iterator[Difference]:
    old, new = _type_set(before), _type_set(after)
    if old == new:
        return
    if old ^ new == {"null"}:
        yield difference("may be null" if "null" in new else "may not be null any more", narrower="null" in old)
        return
    what = f"type {_named(old)} -> {_named(new)}"
    yield difference(what, narrower=True if new < old else False if new > old else None)


def _named(types: frozenset[str]) -> str:
    if types == _TYPES:
        return "any"
    shown = types - {"integer"} if "number" in types else types
    return " or ".join(sorted(shown)) or "none"


def _enums(before: Mapping[str, Any], after: Mapping[str, Any], difference: Any) -> Iterator[Difference]:
    old, new = (
        [schema["const"]] if "const" in schema else schema.get("enum") if isinstance(schema.get("enum"), list) else None
        for schema in (before, after)
    )
    if old is None and new is None:
        return
    if old is None or new is None:
        values = old if new is None else new
        what = f"only {_shown(values)} {'is taken' if old is None else 'was taken, now any value is'}"
        yield difference(what, narrower=old is None)
        return
    texts, others = ({_text(value): value for value in values} for values in (old, new))
    for narrower, gone in ((True, texts.keys() - others.keys()), (False, others.keys() - texts.keys())):
        verb = "removed" if narrower else "added"
        for text in sorted(gone)[:_MOST_VALUES]:
            yield difference(f"value {text if len(text) <= 80 else text[:79] + '…'} {verb}", narrower=narrower)
        if len(gone) > _MOST_VALUES:
            yield difference(f"{len(gone) - _MOST_VALUES} more values {verb}", narrower=narrower)


def _number(value: Any) -> float | None:
    return value if isinstance(value, int | float) and not isinstance(value, bool) else None


def _default(schema: Mapping[str, Any]) -> str:
    return _shown(schema["default"]) if "default" in schema else "none"


def _text(value: Any) -> str:
    return msgspec.json.encode(value, order="deterministic").decode("utf-8", "replace")


def _title(schema: Any) -> str:
    """What an alternative is called: its definition's name, or its title."""
    if not isinstance(schema, dict):
        return ""
    return str(schema.get("$ref", "")).removeprefix(_PREFIX) or str(schema.get("title", ""))
