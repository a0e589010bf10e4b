"""Resources with a life: create, read, replace, change, list, delete, read again; one short case for each question."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any, Final

import msgspec

from testops_lib.doubts import Doubt
from testops_lib.generate import wire
from testops_lib.generate.rules.binding import Binding
from testops_lib.generate.rules.builder import CONFORMANCE, ORIGIN, renamed
from testops_lib.generate.rules.draft import ABSENT, Draft
from testops_lib.generate.rules.drafts import Drafter
from testops_lib.generate.rules.making import Impossible
from testops_lib.generate.rules.resources import Graph, json_path, success_schema
from testops_lib.generate.rules.words import plain, words
from testops_lib.generate.schemas import UNIQUE, Flat, Schemas, kind_of, kinds
from testops_lib.model import (
    SAFE_METHODS,
    AnyCheck,
    Basis,
    Case,
    EnsureResourceAvailability,
    JsonPathIs,
    NotAServerError,
    PositiveDataAcceptance,
    Step,
    UseAfterFree,
    make_case,
)
from testops_lib.placeholder import fill
from testops_lib.spec.operation import Operation, Schema

LIMITS: Final = frozenset(
    {
        "limit",
        "perpage",
        "pagesize",
        "size",
        "count",
        "maxresults",
        "maxresult",
        "top",
        "first",
        "pagelimit",
        "take",
        "maxitems",
    }
)
_LIMIT_WORDS: Final = ("maximum", "at most", "limit", "number of", "up to", "how many", "max ", "page size", "per page")
_SERVER_OWNED: Final = frozenset(
    "status state created updated modified version etag revision role roles password secret token links href self "
    "url".split()
)
_UNSTABLE: Final = frozenset(
    {"date-time", "time", "date", "uri", "url", "iri", "password", "byte", "binary", "duration", "decimal"}
)
_MOST_FIELDS: Final = 8


class Chains:
    """Makes the stateful cases of a spec, each about one operation."""

    def __init__(self, graph: Graph, schemas: Schemas, drafter: Drafter) -> None:
        self.graph, self.schemas, self.drafter = graph, schemas, drafter

    def plan(self, operation: Operation) -> list[Case]:
        """The stateful cases about one operation, the most revealing first; empty when it belongs to no resource."""
        if self.graph.destructive(operation):
            return []
        try:
            return list(self._plan(operation))
        except Impossible:
            return []

    def _plan(self, operation: Operation) -> Iterator[Case]:
        if operation.method == "GET":
            yield from self._page(operation)
        if not operation.path.endswith("}"):
            return
        reader = self._beside(operation, "GET")
        if operation.method == "GET":
            yield from self._read(operation)
        elif operation.method in ("PUT", "PATCH") and reader is not None:
            yield from self._write(operation, reader)
        elif operation.method == "DELETE":
            yield from self._delete(operation, reader)

    def _beside(self, operation: Operation, method: str) -> Operation | None:
        return next((op for op in self.graph.at(operation.path) if op.method == method), None)

    def made(self, operation: Operation, salt: int = 0) -> Draft | None:
        """A draft of an item operation on a thing that the case itself makes; None when no case can make one."""
        draft = self.drafter.draft(operation, salt=salt)
        if not draft.setup or draft.guessed:
            return None
        creator = self.graph.by_key.get(self._creation(draft).operation)
        return draft if creator is not None and creator.method not in SAFE_METHODS else None

    def _creation(self, draft: Draft) -> Step:
        """The setup step whose answer (or request) names the thing."""
        name = wire.parameter_names(draft.operation.path)[-1]
        value = draft.path.get(name)
        for step in reversed(draft.setup):
            if any("{" + capture.name + "}" == value for capture in step.captures):
                return step
        return draft.setup[-1]

    # ------------------------------------------------------------------ questions

    def readable(self, operation: Operation) -> bool:
        """There is a case that makes the thing which this operation reads and then reads it."""
        if operation.method != "GET" or not operation.path.endswith("}") or self.graph.destructive(operation):
            return False
        try:
            return self.made(operation) is not None
        except Impossible:
            return False

    def _read(self, reader: Operation) -> Iterator[Case]:
        draft = self.made(reader)
        if draft is None:
            return
        made = self._creation(draft)
        sent = _body_of(made)
        checks = (
            NotAServerError(),
            EnsureResourceAvailability(),
            *self._kept(sent, made.operation, reader, "server_owned_value"),
        )
        yield self._case(f"{reader.key}: reads what {made.operation} made", reader, draft, (self._step(draft, checks),))

    def _write(self, writer: Operation, reader: Operation) -> Iterator[Case]:
        draft = self.made(writer)
        if draft is None or draft.body is ABSENT:
            return
        changed = self._changed(writer, draft)
        read = self._on_same(reader, changed)
        if read is None:
            return
        # PUT replaces the resource as sent (RFC 9110, 9.3.4); what PATCH does to it is the server's choice.
        doubt: Doubt = "" if writer.method == "PUT" else "server_owned_value"
        kept = self._kept(changed.body, writer.key, reader, doubt)
        if not kept:
            return
        write = self._step(changed, (), setup=True)
        look = self._step(read, (NotAServerError(), *kept))
        verb = "replaces" if writer.method == "PUT" else "changes"
        yield self._case(f"{writer.key}: what it {verb} can be read back", writer, changed, (write, look))
        if writer.method == "PUT":
            again = self._step(changed, (NotAServerError(), PositiveDataAcceptance(also=(409, 412, 428))))
            yield self._case(f"{writer.key}: twice the same is as good as once", writer, changed, (write, again, look))

    def _delete(self, deleter: Operation, reader: Operation | None) -> Iterator[Case]:
        draft = self.made(deleter)
        if draft is None:
            return
        cleanup = tuple(step for step in draft.cleanup if step.operation != deleter.key)
        spared = replace(draft, cleanup=cleanup)
        remove = self._step(spared, (), setup=True)
        read = self._on_same(reader, spared) if reader is not None else None
        if read is not None:
            look = self._step(read, (NotAServerError(), UseAfterFree()))
            yield self._case(f"{deleter.key}: gone for {read.operation.key}", deleter, spared, (remove, look))
        yield self._case(f"{deleter.key}: a second time", deleter, spared, (remove, self._step(spared, CONFORMANCE)))

    def _page(self, lister: Operation) -> Iterator[Case]:
        """A list cut by its limit holds no more than that, when there is more to give."""
        limit = next(
            (p for p in self.drafter.parameters(lister) if p.where == "query" and plain(p.name) in LIMITS), None
        )
        if limit is None or not self.schemas.accepts(limit.schema, 2):
            return
        items = self.items(lister)
        if items is None:
            return
        creator = next(
            (op for op in self.graph.at(lister.path) if op.method == "POST" and self.graph.allowed(op)), None
        )
        base = self.drafter.draft(lister)
        setup, cleanup = list(base.setup), list(base.cleanup)
        if creator is not None:
            try:
                setup, cleanup = self._three(creator)
                bound = Binding(lister.key)
                made = self.drafter.draft(lister, binding=bound)
                if "{" in lister.path:
                    made = replace(made, path=self._parents(creator, lister, made))
                base = made
            except Impossible:
                setup, cleanup = list(base.setup), list(base.cleanup)
        draft = base.put("query", limit.name, 2)
        said = _sentence(limit.description)
        check = JsonPathIs(path=items, op="max_items", value=2, basis="description", quote=said)
        if not said:
            check = JsonPathIs(path=items, op="max_items", value=2, basis="guess", doubt="limit_by_name")
        step = self._step(draft, (NotAServerError(), check))
        yield make_case(
            name=f"{lister.key}: no more than {limit.name} items",
            intent="stateful",
            operation=lister.key,
            steps=(*setup, step),
            cleanup=tuple(cleanup),
            origin=ORIGIN,
            tags=("stateful", "pagination"),
        )

    def _three(self, creator: Operation) -> tuple[list[Step], list[Step]]:
        setup: list[Step] = []
        cleanup: list[Step] = []
        for salt in range(3):
            draft = self.drafter.draft(creator, salt=salt)
            captures, undo = self.drafter.made_by(draft)
            other_names = {capture.name: f"{capture.name}_{salt + 1}" for capture in captures}
            captures = tuple(msgspec.structs.replace(c, name=other_names[c.name]) for c in captures)
            if not salt:
                setup.extend(draft.setup)
                last = list(draft.cleanup)
            setup.append(self._step(draft, (), setup=True, captures=captures))
            cleanup.extend(renamed(step, other_names) for step in undo)
        return setup, cleanup + last

    def _parents(self, creator: Operation, lister: Operation, made: Draft) -> Mapping[str, Any]:
        parents = self.drafter.draft(creator).path
        names = wire.parameter_names(lister.path)
        return {**made.path, **dict(zip(names, (parents[n] for n in wire.parameter_names(creator.path)), strict=False))}

    # ------------------------------------------------------------------ parts

    def _changed(self, writer: Operation, draft: Draft) -> Draft:
        """The writer's request with other values than the thing was made with, and as many as can be told apart."""
        binding = Binding(writer.key, 0)
        self.drafter.draft(writer, binding=binding)
        binding.salt = 3
        other = self.drafter.draft(writer, binding=binding, full=False)
        body = self._told_apart(writer, other, _body_of(self._creation(draft)))
        return replace(
            draft, body=body, setup=other.setup, cleanup=other.cleanup, path=other.path, samples=other.samples
        )

    def _told_apart(self, writer: Operation, draft: Draft, before: Any) -> Any:
        """The body with other values, where the schema leaves room, for what the thing was made with."""
        body = draft.body
        if not isinstance(body, dict) or not isinstance(before, dict) or writer.body is None:
            return body
        schema = writer.body.content[draft.media].schema
        for name, value in body.items():
            if before.get(name) != value or set(words(name)) & _SERVER_OWNED:
                continue
            declared = self._simple(self._sent_properties(writer.key).get(name, True))
            for other in _others(declared, value):
                changed = {**body, name: other}
                if schema is None or self.schemas.accepts(schema, fill(changed, draft.samples)):
                    body = changed
                    break
        return body

    def _on_same(self, reader: Operation | None, draft: Draft) -> Draft | None:
        """A read of the thing that `draft` is about."""
        if reader is None:
            return None
        names = zip(wire.parameter_names(reader.path), wire.parameter_names(draft.operation.path), strict=False)
        read = Draft(operation=reader, path={mine: draft.path.get(theirs, "1") for mine, theirs in names})
        for parameter in self.drafter.parameters(reader):
            if parameter.where != "path" and parameter.required:
                made = self.drafter.optional(read, parameter)
                if made is None:
                    return None
                read = read.put(parameter.where, parameter.name, made.value)
        return read

    def _kept(self, sent: Any, sender: str, reader: Operation, doubt: Doubt) -> tuple[AnyCheck, ...]:
        """What was sent stands in what is read: scalars of the same name and type that the server does not own."""
        answer = success_schema(reader)
        if answer is None or not isinstance(sent, dict):
            return ()
        described = self._sent_properties(sender)
        at: list[str | int] = []
        flat = self.schemas.flat(answer)
        properties = flat.get("properties", {})
        if not set(sent) & set(properties):
            inner = next((n for n in ("data", "result", "item", "payload") if n in properties), None)
            if inner is None:
                return ()
            at, properties = [inner], self.schemas.flat(properties[inner]).get("properties", {})
        basis: Basis = "guess" if doubt else "spec"
        checks: list[AnyCheck] = []
        for name, value in sent.items():
            if name in properties and self._comparable(name, value, described.get(name, True), properties[name]):
                checks.append(
                    JsonPathIs(path=json_path([*at, name]), op="equals", value=value, basis=basis, doubt=doubt)
                )
        return tuple(checks[:_MOST_FIELDS])

    def _sent_properties(self, sender: str) -> Mapping[str, Schema]:
        operation = self.graph.by_key[sender]
        if operation.body is None:
            return {}
        found: dict[str, Schema] = {}
        for described in operation.body.content.values():
            flat = self.schemas.flat(described.schema)
            for source in (flat, *(self.schemas.flat(branch) for branch in self.schemas.branches(flat))):
                found.update(source.get("properties", {}))
        return found

    def _comparable(self, name: str, value: Any, sent: Schema, read: Schema) -> bool:
        kind = kind_of(value)
        if kind not in ("string", "integer", "number", "boolean") or set(words(name)) & _SERVER_OWNED:
            return False
        if isinstance(value, str) and value.startswith("{") and value != UNIQUE:
            kind = ""  # captured: the type is that of the answer it came from
        ways = [self._simple(sent), self._simple(read)]
        for flat in ways:
            if flat.get("writeOnly") is True or flat.get("readOnly") is True or flat.get("format") in _UNSTABLE:
                return False
        given, answered = (kinds(flat) - {"null"} for flat in ways)
        return (
            answered == given
            and len(given) == 1
            and (not kind or kind in given or (kind == "integer" and "number" in given))
        )

    def _simple(self, schema: Schema) -> Flat:
        flat = self.schemas.flat(schema)
        branches = [self.schemas.flat(branch) for branch in self.schemas.branches(flat)]
        real = [branch for branch in branches if kinds(branch) != {"null"}]
        return real[0] if len(real) == 1 else flat

    def items(self, lister: Operation) -> str | None:
        """Where the items of a list answer stand."""
        answer = success_schema(lister)
        if answer is None:
            return None
        flat = self.schemas.flat(answer)
        if kinds(flat) == {"array"}:
            return "$[*]"
        arrays = [
            name
            for name, declared in flat.get("properties", {}).items()
            if kinds(self.schemas.flat(declared)) - {"null"} == {"array"}
        ]
        return json_path([arrays[0]]) + "[*]" if len(arrays) == 1 else None

    def _step(
        self, draft: Draft, checks: tuple[AnyCheck, ...], *, setup: bool = False, captures: tuple[Any, ...] = ()
    ) -> Step:
        return Step(
            operation=draft.operation.key,
            request=self.drafter.request(draft),
            checks=checks,
            setup=setup,
            captures=captures,
        )

    def _case(self, name: str, operation: Operation, draft: Draft, steps: tuple[Step, ...]) -> Case:
        return make_case(
            name=name,
            intent="stateful",
            operation=operation.key,
            steps=(*draft.setup, *steps),
            cleanup=draft.cleanup,
            origin=ORIGIN,
            tags=("stateful",),
        )


def _body_of(step: Step) -> Any:
    body = step.request.body
    return getattr(body, "value", None)


def _sentence(description: str) -> str:
    """The sentence of a parameter's description that speaks of a limit, or ""."""
    for sentence in description.replace("\n", " ").split(". "):
        if any(word in sentence.lower() for word in _LIMIT_WORDS):
            return sentence.strip()[:200]
    return ""


def _others(declared: Flat, value: Any) -> Iterator[Any]:
    """Values near `value` that a server has no more reason to refuse."""
    options = declared.get("enum")
    if isinstance(options, list):
        yield from (option for option in options if option not in (value, None))
    elif isinstance(value, bool):
        yield not value
    elif isinstance(value, int | float):
        yield from (value + 1, value - 1)
    elif isinstance(value, str) and "{" not in value and not {"pattern", "format"} & set(declared):
        yield from (f"{value} 2", f"{value}2")
