"""Contracts of operations: self-contained schemas that answers are judged by."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Any, Literal

from testops_lib.model import Contract, HeaderContract, MediaContract, ResponseContract
from testops_lib.spec.operation import Operation, Response, Schema, Spec
from testops_lib.spec.schema import IN_PLACE_MANY, MANY, NAMED, ONE, PREFIX

Direction = Literal["", "request", "response"]

_HIDDEN = {"request": "readOnly", "response": "writeOnly"}
_JUDGED_ONLY = frozenset(
    {"title", "description", "default", "examples", "discriminator", "xml", "$comment", "deprecated"}
)
_TEXT_TYPES = ("text/", "application/json", "*/", "application/*")


def closed(schema: Schema | None, definitions: Mapping[str, Schema], *, direction: Direction = "") -> dict[str, Any]:
    """The schema with a `$defs` of exactly the definitions it leads to; validators need nothing else.

    With a direction, what that direction does not carry is not required: properties that are `readOnly` in a request,
    `writeOnly` in a response. Annotations stay.
    """
    return _Closer(definitions, direction, slim=False).close(True if schema is None else schema)


def contract(spec: Spec, operation: Operation, *, accepted_statuses: Collection[int] = ()) -> Contract:
    """What the description promises of one operation's answers, self-contained, without annotations.

    Only what can be judged as JSON or text has a schema: bodies in XML, YAML or binary have none.
    """
    return next(iter(contracts(spec, [operation], accepted_statuses=accepted_statuses).values()))


def contracts(
    spec: Spec, operations: Iterable[Operation] | None = None, *, accepted_statuses: Collection[int] = ()
) -> dict[str, Contract]:
    """Operation key -> its contract, for many at once: what they share is built once."""
    closer = _answers(spec.definitions)
    statuses = tuple(sorted(set(accepted_statuses)))
    return {
        operation.key: Contract(
            operation=operation.key,
            responses={status: _response(answer, closer) for status, answer in operation.responses.items()},
            protected=operation.protected,
            accepted_statuses=statuses,
        )
        for operation in (spec.operations if operations is None else operations)
    }


_latest: list[_Closer] = []


def _answers(definitions: Mapping[str, Schema]) -> _Closer:
    """The closer of these definitions; the latest one is kept, since contracts are asked for one after the other."""
    latest = _latest[-1:]
    if latest and latest[0].definitions is definitions:
        return latest[0]
    closer = _Closer(definitions, "response", slim=True)
    _latest[:] = [closer]
    return closer


def _response(answer: Response, closer: _Closer) -> ResponseContract:
    return ResponseContract(
        content={
            name: MediaContract(
                schema=closer.close(media.schema) if media.schema is not None and _judged(name, media.schema) else None
            )
            for name, media in answer.content.items()
        },
        headers={
            name: HeaderContract(
                required=header.required, schema=None if header.schema is None else closer.close(header.schema)
            )
            for name, header in answer.headers.items()
        },
    )


def _judged(media_type: str, schema: Schema) -> bool:
    if schema is True or (isinstance(schema, dict) and schema.get("format") == "binary"):
        return False
    name = media_type.split(";")[0].strip().lower()
    xml = name.endswith(("/xml", "+xml")) or name in ("text/yaml", "text/html", "text/event-stream", "text/csv")
    return not xml and (name.startswith(_TEXT_TYPES) or name.endswith("+json"))


class _Closer:
    """Closes schemas over one set of definitions; each definition is rewritten once and shared."""

    def __init__(self, definitions: Mapping[str, Schema], direction: Direction, *, slim: bool) -> None:
        self.definitions = definitions
        self._hidden = _HIDDEN.get(direction, "")
        self._slim = slim
        self._rewritten: dict[str, tuple[Schema, frozenset[str]]] = {}
        self._reach: dict[frozenset[str], tuple[str, ...]] = {}

    def close(self, schema: Schema) -> dict[str, Any]:
        refs: set[str] = set()
        rewritten = self._rewrite(schema, refs)
        out: dict[str, Any] = dict(rewritten) if isinstance(rewritten, dict) else {} if rewritten else {"not": {}}
        names = self._reached(frozenset(refs))
        if names:
            out["$defs"] = {name: self._definition(name)[0] for name in names}
        return out

    def _reached(self, refs: frozenset[str]) -> tuple[str, ...]:
        names = self._reach.get(refs)
        if names is None:
            seen: set[str] = set()
            waiting = list(refs)
            while waiting:
                name = waiting.pop()
                if name not in seen and name in self.definitions:
                    seen.add(name)
                    waiting.extend(self._definition(name)[1] - seen)
            names = self._reach[refs] = tuple(sorted(seen))
        return names

    def _definition(self, name: str) -> tuple[Schema, frozenset[str]]:
        rewritten = self._rewritten.get(name)
        if rewritten is None:
            refs: set[str] = set()
            schema = self._rewrite(self.definitions[name], refs)
            rewritten = self._rewritten[name] = schema, frozenset(refs)
        return rewritten

    def _rewrite(self, schema: Schema, refs: set[str]) -> Schema:
        if not isinstance(schema, dict):
            return schema
        out: dict[str, Any] = {}
        for key, value in schema.items():
            if key == "$ref":
                refs.add(value.removeprefix(PREFIX))
                out[key] = value
            elif key in ONE:
                out[key] = self._rewrite(value, refs)
            elif key in MANY:
                out[key] = [self._rewrite(item, refs) for item in value]
            elif key in NAMED:
                out[key] = {name: self._rewrite(item, refs) for name, item in value.items()}
            elif key == "discriminator" and not self._slim:
                refs.update(to.removeprefix(PREFIX) for to in value.get("mapping", {}).values())
                out[key] = value
            elif not (self._slim and key in _JUDGED_ONLY):
                out[key] = value
        if self._hidden and ("required" in schema or "allOf" in schema):
            hidden = self._hidden_names(schema)
            if hidden:
                _unrequire(out, hidden)
        return out

    def _hidden_names(self, schema: Schema) -> set[str]:
        """Properties of the object, by itself or by `allOf`, that the direction does not carry."""
        names: set[str] = set()
        for node in self._parts(schema):
            for name, schema_of_property in node.get("properties", {}).items():
                if any(part.get(self._hidden) is True for part in self._parts(schema_of_property)):
                    names.add(name)
        return names

    def _parts(self, schema: Schema) -> list[dict[str, Any]]:
        """The schema and what it includes by `$ref` and `allOf`, each once."""
        parts: list[dict[str, Any]] = []
        seen: set[int] = set()
        waiting = [schema]
        while waiting:
            node = waiting.pop()
            if not isinstance(node, dict) or id(node) in seen:
                continue
            seen.add(id(node))
            parts.append(node)
            if "$ref" in node:
                waiting.append(self.definitions.get(node["$ref"].removeprefix(PREFIX), True))
            waiting.extend(node.get("allOf", ()))
        return parts


def _unrequire(schema: Any, names: set[str]) -> None:
    """Takes names out of `required`, of the schema and of what it combines inline."""
    if not isinstance(schema, dict):
        return
    if "required" in schema:
        schema["required"] = [inner for inner in schema["required"] if inner not in names]
        if not schema["required"]:
            del schema["required"]
    for key in IN_PLACE_MANY:
        for inner in schema.get(key, ()):
            _unrequire(inner, names)
