"""Questions that no document answers: is a read repeatable, do pages overlap, does a filter filter, do HEAD and OPTIONS
agree with GET, does a probe break or come back, does one user reach another's things.

What they find rests on a guess unless the target says more; nothing here counts against a gate by itself.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Final, Literal

from testops_lib.generate import wire
from testops_lib.generate.rules.builder import ORIGIN
from testops_lib.generate.rules.chains import LIMITS, Chains
from testops_lib.generate.rules.draft import ABSENT, Draft
from testops_lib.generate.rules.drafts import Drafter
from testops_lib.generate.rules.making import Impossible
from testops_lib.generate.rules.resources import Graph, json_path, success_schema
from testops_lib.generate.rules.words import IDENTIFYING, plain, words
from testops_lib.generate.schemas import UNIQUE, Schemas, kinds
from testops_lib.model import (
    AnyCheck,
    Capture,
    Case,
    FilterHonoured,
    Idempotency,
    Intent,
    MethodAgreement,
    NoReflection,
    NotAServerError,
    ObjectLevelAuthorization,
    PaginationConsistency,
    Request,
    StatusCodeConformance,
    Step,
    make_case,
)
from testops_lib.spec.operation import Operation, Parameter, Schema

Users = Literal["separate", "shared", "unknown"]
"""Whether what one user of the target makes is hidden from the others."""

PROBE: Final = f"'\"><script>t{UNIQUE}</script>{{{{7*7}}}}%00\\"
"""Ends strings, tags and templates of careless servers. It changes no query's meaning: a server that is taken in by it
shows an error, and nothing else."""
_REFLECTED: Final = f"<script>t{UNIQUE}</script>"
_MOST_PROBES: Final = 3

_OFFSETS: Final = frozenset({"offset", "skip", "start", "from", "startindex"})
_PAGES: Final = frozenset({"page", "pagenumber", "pageno", "pageindex"})
_FILTERING: Final = frozenset("status state type kind category currency country code role level id".split())
_NOT_PROBED: Final = frozenset({"password", "passwd", "pwd", "email", "url", "uri", "href"})


class Oracles:
    """Makes these cases for the operations of one spec."""

    def __init__(
        self, graph: Graph, schemas: Schemas, drafter: Drafter, chains: Chains, identities: Sequence[str], users: Users
    ) -> None:
        self.graph, self.schemas, self.drafter, self.chains = graph, schemas, drafter, chains
        self._other = identities[1] if len(identities) > 1 else ""
        self._users = users

    def plan(self, operation: Operation) -> list[Case]:
        """The cases about one operation; empty for what may end the session or the service."""
        if self.graph.destructive(operation):
            return []
        made: list[Case] = []
        for question in (self._another_user, self._read_twice, self._filters, self._pages, self._head, self._probes):
            try:
                made += question(operation)
            except Impossible:
                continue
        return made

    # ------------------------------------------------------------------ questions

    def _another_user(self, operation: Operation) -> Iterator[Case]:
        """Broken object level authorization: what the first user made, read or changed by the second."""
        if not self._other or self._users == "shared" or not operation.protected or not operation.path.endswith("}"):
            return
        if self._users == "unknown" and operation.method != "GET":
            return  # nothing is changed on a mere suspicion
        draft = self.chains.made(operation)
        if draft is None:
            return
        separation = ObjectLevelAuthorization(basis="guess", doubt="shared_resources")
        if self._users == "separate":
            separation = ObjectLevelAuthorization(basis="human")
        checks = (NotAServerError(), separation)
        step = Step(operation=operation.key, request=self.drafter.request(draft), checks=checks, identity=self._other)
        name = f"{operation.key}: what another user made"
        yield self._case(name, operation, (*draft.setup, step), draft, "security", "security")

    def _read_twice(self, operation: Operation) -> Iterator[Case]:
        """Of a thing that the case itself made: others leave it alone meanwhile."""
        if operation.method != "GET" or not operation.path.endswith("}"):
            return
        draft = self.chains.made(operation)
        if draft is None or success_schema(operation) is None:
            return
        request = self.drafter.request(draft)
        first = Step(operation=operation.key, request=request, setup=True, captures=(Capture(name="first", path="$"),))
        again = Step(
            operation=operation.key,
            request=request,
            checks=(Idempotency(value="{first}", basis="guess", doubt="unstated_rule"),),
        )
        yield self._case(f"{operation.key}: the same twice", operation, (*draft.setup, first, again), draft)

    def _filters(self, operation: Operation) -> Iterator[Case]:
        """A list asked for one value of a member holds no other."""
        items = self._items(operation)
        if items is None:
            return
        base = self.drafter.draft(operation)
        members = self._members(operation, items)
        for parameter in self.drafter.parameters(operation):
            if parameter.where != "query" or parameter.required:
                continue
            member = next((name for name in members if plain(name) == plain(parameter.name)), None)
            flat = self.schemas.flat(parameter.schema)
            if member is None or kinds(flat) & {"array", "object"}:
                continue
            closed = flat.get("enum") if isinstance(flat.get("enum"), list) else None
            if closed is None and kinds(flat) == {"boolean"}:
                closed = [True, False]
            if closed is None and not set(words(parameter.name)) & _FILTERING:
                continue  # a text to search for, rather than a value to match
            path = _member_path(items, member)
            if closed:
                values = [value for value in closed if isinstance(value, str | int | bool)][:2]
                setup: tuple[Step, ...] = ()
            else:
                values = ["{wanted}"]
                look = Step(
                    operation=operation.key,
                    request=self.drafter.request(base),
                    setup=True,
                    captures=(Capture(name="wanted", path=_member_path(_first(items), member)),),
                )
                setup = (look,)
            for value in values:
                check = FilterHonoured(
                    parameter=parameter.name, path=path, value=value, basis="guess", doubt="unstated_rule"
                )
                request = self.drafter.request(base.put("query", parameter.name, value))
                step = Step(operation=operation.key, request=request, checks=(NotAServerError(), check))
                name = f"{operation.key}: only what {parameter.name} asks for"
                yield self._case(name, operation, (*base.setup, *setup, step), base)

    def _pages(self, operation: Operation) -> Iterator[Case]:
        """The second page repeats nothing of the first. Last of all, since others make and delete things meanwhile."""
        items = self._items(operation)
        if items is None:
            return
        query = [parameter for parameter in self.drafter.parameters(operation) if parameter.where == "query"]
        limit = next((parameter for parameter in query if plain(parameter.name) in LIMITS), None)
        offset = next((parameter for parameter in query if plain(parameter.name) in _OFFSETS | _PAGES), None)
        members = self._members(operation, items)
        key = next((name for name in members if words(name)[-1:] and words(name)[-1] in IDENTIFYING), None)
        if limit is None or offset is None or key is None or not self.schemas.accepts(limit.schema, 2):
            return
        low, high = (0, 2) if plain(offset.name) in _OFFSETS else (1, 2)
        if not self.schemas.accepts(offset.schema, low) or not self.schemas.accepts(offset.schema, high):
            return
        base = self.drafter.draft(operation).put("query", limit.name, 2)
        captures = tuple(
            Capture(name=f"item_{index + 1}", path=_member_path(_first(items, index), key), optional=True)
            for index in range(2)
        )
        first = Step(
            operation=operation.key,
            request=self.drafter.request(base.put("query", offset.name, low)),
            setup=True,
            captures=captures,
        )
        path = _member_path(items, key)
        repeats = (
            PaginationConsistency(path=path, value=f"{{{capture.name}}}", basis="guess", doubt="unstated_rule")
            for capture in captures
        )
        checks: tuple[AnyCheck, ...] = (NotAServerError(), *repeats)
        second = Step(
            operation=operation.key, request=self.drafter.request(base.put("query", offset.name, high)), checks=checks
        )
        name = f"{operation.key}: the second page repeats nothing"
        yield self._case(name, operation, (*base.setup, first, second), base, last=True)

    def _head(self, operation: Operation) -> Iterator[Case]:
        """HEAD and OPTIONS beside a documented GET."""
        if operation.method != "GET":
            return
        offered = {sibling.method for sibling in self.graph.at(operation.path)}
        draft = self.drafter.draft(operation)
        request = self.drafter.request(draft)
        if "HEAD" not in offered:
            get = Step(operation=operation.key, request=request, captures=(Capture(name="answered", source="status"),))
            check = MethodAgreement(status="{answered}", basis="guess", doubt="unstated_rule")
            head = Step(operation=operation.key, request=_as("HEAD", request), checks=(check,))
            yield self._case(f"{operation.key}: HEAD agrees", operation, (*draft.setup, get, head), draft)
        if "OPTIONS" not in offered:
            allow = MethodAgreement(allow=tuple(sorted(offered)), basis="guess", doubt="unstated_rule")
            step = Step(operation=operation.key, request=_as("OPTIONS", request), checks=(allow,))
            yield self._case(f"{operation.key}: OPTIONS agrees", operation, (*draft.setup, step), draft)

    def _probes(self, operation: Operation) -> Iterator[Case]:
        """A text that breaks out of strings, tags and templates, in each place that takes any text."""
        if operation.method not in ("GET", "POST", "PUT", "PATCH"):
            return
        base = self.drafter.draft(operation)
        checks: tuple[AnyCheck, ...] = (
            NotAServerError(),
            StatusCodeConformance(),
            NoReflection(text=_REFLECTED, basis="guess", doubt="unstated_rule"),
        )
        for place, draft in self._probed(operation, base):
            step = Step(operation=operation.key, request=self.drafter.request(draft), checks=checks)
            captures, cleanup = self.drafter.made_by(draft)
            step = Step(operation=step.operation, request=step.request, checks=checks, captures=captures)
            yield make_case(
                name=f"{operation.key}: {place} breaks out",
                intent="security",
                operation=operation.key,
                steps=(*base.setup, step),
                cleanup=(*cleanup, *base.cleanup),
                origin=ORIGIN,
                tags=("security", "injection"),
            )

    # ------------------------------------------------------------------ parts

    def _probed(self, operation: Operation, base: Draft) -> Iterator[tuple[str, Draft]]:
        count = 0
        for parameter in self.drafter.parameters(operation):
            if parameter.where == "query" and count < _MOST_PROBES and self._takes_any_text(parameter):
                count += 1
                yield f"query/{parameter.name}", base.put("query", parameter.name, PROBE)
        if (
            base.body is ABSENT
            or not isinstance(base.body, dict)
            or operation.body is None
            or not wire.is_json(base.media)
        ):
            return
        schema = operation.body.content[base.media].schema
        properties: Mapping[str, Schema] = self.schemas.flat(schema).get("properties", {}) if schema is not None else {}
        count = 0
        for name, declared in properties.items():
            free = kinds(self.schemas.flat(declared)) - {"null"} == {"string"} and self._accepts_probe(name, declared)
            if free and count < _MOST_PROBES:
                count += 1
                yield f"body/{name}", replace(base, body={**base.body, name: PROBE})

    def _takes_any_text(self, parameter: Parameter) -> bool:
        schema = self.schemas.flat(parameter.schema)
        return kinds(schema) == {"string"} and self._accepts_probe(parameter.name, parameter.schema)

    def _accepts_probe(self, name: str, schema: Schema) -> bool:
        flat = self.schemas.flat(schema)
        if {"enum", "const", "format", "pattern"} & set(flat) or flat.get("readOnly") is True:
            return False
        return not set(words(name)) & _NOT_PROBED and self.schemas.accepts(schema, PROBE.replace(UNIQUE, "0" * 12))

    def _items(self, operation: Operation) -> str | None:
        if operation.method != "GET" or operation.path.endswith("}"):
            return None
        return self.chains.items(operation)

    def _members(self, operation: Operation, items: str) -> Mapping[str, Schema]:
        """The scalar members of a list's items."""
        flat = self.schemas.flat(success_schema(operation) or True)
        if items != "$[*]":
            flat = next(
                (
                    self.schemas.flat(declared)
                    for name, declared in flat.get("properties", {}).items()
                    if json_path([name]) + "[*]" == items
                ),
                flat,
            )
        inner = self.schemas.flat(flat.get("items", True))
        return {
            name: declared
            for name, declared in inner.get("properties", {}).items()
            if not kinds(self.schemas.flat(declared)) & {"object", "array"}
        }

    def _case(
        self,
        name: str,
        operation: Operation,
        steps: tuple[Step, ...],
        draft: Draft,
        intent: Intent = "stateful",
        tag: str = "stateful",
        *,
        last: bool = False,
    ) -> Case:
        return make_case(
            name=name,
            intent=intent,
            operation=operation.key,
            steps=steps,
            cleanup=draft.cleanup,
            origin=ORIGIN,
            tags=(tag, "oracle"),
            last=last,
        )


def _as(method: str, request: Request) -> Request:
    return Request(
        method=method, path=request.path, query=request.query, headers=request.headers, cookies=request.cookies
    )


def _first(items: str, index: int = 0) -> str:
    """The query of one item out of that of all: `$.data[*]` -> `$.data[0]`."""
    return f"{items.removesuffix('[*]')}[{index}]"


def _member_path(items: str, member: str) -> str:
    return items + json_path([member]).removeprefix("$")
