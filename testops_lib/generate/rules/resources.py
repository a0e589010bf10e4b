"""Which operation's answer holds what another operation's parameter needs.

Names decide: `{order_id}` and a body's `order_id` are fed by what `POST /orders` answers in `$.id`, by the items of
`GET /orders`, or by whatever an OpenAPI link says. Pure analysis; nothing is made here.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any, Final

from testops_lib.generate import wire
from testops_lib.generate.rules.own_account import account_change
from testops_lib.generate.rules.words import (
    IDENTIFYING,
    NOT_STORING,
    REFERRING,
    base_collection,
    collection_noun,
    is_static,
    noun,
    plain,
    segments,
    singular,
    words,
)
from testops_lib.generate.schemas import Flat, Schemas, kinds
from testops_lib.model import SAFE_METHODS, AccountChange, Policy
from testops_lib.spec.operation import Operation, Parameter, Response, Schema, Spec

ENVELOPES: Final = frozenset(
    "data result results item items content contents payload response value values records rows list hits entries "
    "elements objects members resources collection page embedded body metadata meta attributes".split()
)
"""Properties that wrap a thing without naming it."""

_MOST_OUTPUTS: Final = 300

_BARE: Final = frozenset({"id", "name", "key", "slug", "uuid", "code", "number", "value", "type", "title", "handle"})
"""Field names that say nothing of the thing they belong to."""

_NAMES: Final = frozenset({"id", "name", "key", "slug", "code", "handle"})
"""What a request may call the thing that it makes, where the path does not say."""

_CREATING: Final = frozenset({"create", "creates", "upsert", "upserts", "upload", "uploads"})

ALWAYS_DESTRUCTIVE: Final = frozenset(
    {
        "logout",
        "signout",
        "shutdown",
        "selfdestruct",
        "poweroff",
        "createdb",
        "resetdb",
        "initdb",
        "dropdb",
    }
)
_SERVICE_WIDE: Final = frozenset(
    {
        "restart",
        "reboot",
        "stop",
        "terminate",
        "revoke",
        "deactivate",
        "reset",
        "suspend",
        "disable",
        "wipe",
        "purge",
        "drain",
        "maintenance",
    }
)
"""Destructive where the path names no single thing: `POST /restart`, not `POST /containers/{id}/restart`."""


@dataclass(frozen=True, kw_only=True)
class Output:
    """One field of a successful answer."""

    path: str
    """RFC 9535."""
    item: str
    """Path of the object that holds it."""
    name: str
    thing: str
    """What the object is, as `noun` says it."""
    schema: Schema
    many: bool
    """It is the first item of a list."""


@dataclass(frozen=True, kw_only=True)
class Supply:
    """One value taken from an answer, or (`echo`) from the request that made the thing."""

    need: str
    """Name of the parameter or field that it feeds."""
    source: str = "body"
    """body, header, echo (`path` is then the property of the request body), path (the producer's own parameter)."""
    path: str = ""
    schema: Schema = True


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """An operation that can supply what another needs."""

    operation: Operation
    kind: str
    """create, list, link, put."""
    supplies: tuple[Supply, ...]
    score: int
    own: bool = True
    """It is about the very collection that the need is about, so what it supplies exists there."""


@dataclass(frozen=True)
class Need:
    """What is looked for: `{order_id}` below `/orders` is thing `order`, attribute `id`."""

    name: str
    thing: str
    attribute: str
    schema: Schema
    prefix: str = ""
    """The collection's path template with nameless parameters; "" for a body field."""


def nameless(template: str) -> str:
    """A path template with its parameters' names taken out: equal for `/a/{x}` and `/a/{id}`."""
    return re.sub(r"\{[^{}]*\}", "{}", template).rstrip("/") or "/"


def prefix_of(template: str, name: str) -> str:
    """The part of a template before a parameter, nameless: `/a/{x}/b/{y}`, y -> `/a/{}/b`."""
    return nameless(template[: template.index("{" + name + "}")].rstrip("/"))


def json_path(parts: list[str | int]) -> str:
    """An RFC 9535 query for one place."""
    whole = "$"
    for part in parts:
        if isinstance(part, int):
            whole += f"[{part}]"
        elif re.fullmatch(r"[A-Za-z_]\w*", part, re.ASCII):
            whole += f".{part}"
        else:
            escaped = part.replace("\\", "\\\\").replace("'", "\\'")
            whole += f"['{escaped}']"
    return whole


def is_destructive(operation: Operation) -> bool:
    """It may end the session or the service, or delete everything; what it does to the caller's account says
    `own_account`.
    """
    static = [part for part in segments(operation.path) if is_static(part)]
    tail = {*words(static[-1]), plain(static[-1])} if static else set()
    spoken = {*words(operation.operation_id)[:1], plain(operation.operation_id)}
    if (tail | spoken) & ALWAYS_DESTRUCTIVE or {"sign", "out"} <= tail or {"log", "out"} <= tail:
        return True
    if operation.method in SAFE_METHODS or "{" in operation.path:
        return False
    if operation.method == "DELETE":
        return True  # all of a collection, or the one thing of its kind
    named = {word for part in static for word in words(part)}
    return bool(tail & _SERVICE_WIDE) and "password" not in named


def success(operation: Operation) -> tuple[str, Response] | None:
    """The first documented 2xx response, one with a JSON body preferred."""
    successes = [(status, response) for status, response in operation.responses.items() if status[:1] == "2"]
    for status, response in successes:
        if any(wire.is_json(media) for media in response.content):
            return status, response
    return successes[0] if successes else None


def success_schema(operation: Operation) -> Schema | None:
    """The schema of the JSON body that success gives."""
    answer = success(operation)
    if answer is None:
        default = operation.responses.get("default")
        if default is None or len(operation.responses) > 1:
            return None
        answer = ("default", default)
    for media, described in answer[1].content.items():
        if wire.is_json(media):
            return described.schema
    return None


class Graph:
    """Operations and what they give each other."""

    def __init__(self, spec: Spec, schemas: Schemas, policy: Policy) -> None:
        self.spec = spec
        self._schemas = schemas
        self._safe_only = policy.methods == "safe"
        self.by_key = {operation.key: operation for operation in spec.operations}
        self._by_path: dict[str, list[Operation]] = defaultdict(list)
        self._shapes: dict[tuple[str, int], list[list[str]]] = defaultdict(list)
        self._greedy: dict[str, list[list[str]]] = defaultdict(list)
        self._outputs: dict[str, tuple[Output, ...]] = {}
        self._usable = [
            operation
            for operation in spec.operations
            if operation.key not in spec.unusable and not self.destructive(operation) and self.allowed(operation)
        ]
        self._creators_at: dict[str, list[Operation]] = defaultdict(list)
        self._creators_of: dict[str, list[Operation]] = defaultdict(list)
        self._lists_at: dict[str, list[Operation]] = defaultdict(list)
        self._lists_with: dict[str, list[Operation]] = defaultdict(list)
        self._lists_of: dict[str, list[Operation]] = defaultdict(list)
        self._deleters_at: dict[str, list[Operation]] = defaultdict(list)
        self._links: dict[tuple[str, str], list[Candidate]] = defaultdict(list)
        for operation in spec.operations:
            self._by_path[nameless(operation.path)].append(operation)
            parts = segments(operation.path)
            if parts and re.search(r"\{[^{}]*([=*+]|path)[^{}]*\}$", parts[-1]):
                self._greedy[operation.method].append(parts)
            self._shapes[operation.method, len(parts)].append(parts)
        for operation in self._usable:
            self._index(operation)
        self._found: dict[tuple[str, str], tuple[Candidate, ...]] = {}

    def allowed(self, operation: Operation) -> bool:
        """The target's policy lets us call it, and it is one a client can send."""
        if operation.method in ("TRACE", "CONNECT"):
            return False
        return not self._safe_only or operation.method in SAFE_METHODS

    def destructive(self, operation: Operation) -> bool:
        """It may end the session, the caller's account or the service, or delete everything."""
        return is_destructive(operation) or bool(self.account_change(operation))

    def account_change(self, operation: Operation) -> AccountChange:
        """As `own_account.account_change`, the body looked into."""
        bodies = operation.body.content.values() if operation.body is not None else ()
        required = {name for body in bodies for name in self._schemas.flat(body.schema).get("required", ())}
        return account_change(operation, required)

    def at(self, template: str) -> list[Operation]:
        """The operations at a path template, whatever its parameters are called."""
        return self._by_path.get(nameless(template), [])

    def shaped(self, method: str, length: int) -> list[list[str]]:
        """Path templates of this many segments that offer the method, in segments."""
        return self._shapes.get((method, length), [])

    def greedy(self, method: str) -> list[list[str]]:
        """Path templates whose last parameter may take several segments (`{name=a/*}`, `{file_path}`)."""
        return self._greedy.get(method, [])

    def _index(self, operation: Operation) -> None:
        parts = segments(operation.path)
        if operation.method == "DELETE" and len(parts) > 1 and parts[-1].startswith("{") and parts[-1].endswith("}"):
            self._deleters_at[nameless(base_collection("/" + "/".join(parts[:-1])))].append(operation)
        if parts and is_static(parts[-1]):
            collection = nameless(base_collection(operation.path))
            if operation.method == "POST" and not set(words(parts[-1])) & NOT_STORING:
                self._creators_at[collection].append(operation)
                self._creators_of[collection_noun(operation.path)].append(operation)
            elif operation.method == "GET":
                outputs = self.outputs(operation)
                if any(output.many for output in outputs):
                    self._lists_at[collection].append(operation)
                for thing in dict.fromkeys(output.thing for output in outputs if output.many):
                    self._lists_of[thing].append(operation)
                for name in dict.fromkeys(plain(output.name) for output in outputs if output.many):
                    if name not in _BARE:
                        self._lists_with[name].append(operation)
        for response in operation.responses.values():
            for link in response.links:
                for name, expression in link.parameters.items():
                    supply = _expression(name.rpartition(".")[2], expression)
                    if supply is not None:
                        score = 130 if operation.method == "POST" else 65
                        candidate = Candidate(operation=operation, kind="link", supplies=(supply,), score=score)
                        self._links[link.operation, supply.need].append(candidate)

    def creates(self, operation: Operation) -> bool:
        """A POST that may add a thing to a collection."""
        beside = self._creators_at.get(nameless(base_collection(operation.path)), ())
        return any(other.key == operation.key for other in beside)

    def lists(self, collection: str, thing: str) -> list[Operation]:
        """The lists at a nameless collection, then others of the same thing."""
        lists = [*self._lists_at.get(collection, ()), *self._lists_of.get(thing, ())]
        return list({operation.key: operation for operation in lists}.values())

    def listed(self, lister: Operation, need: Need, *, same: bool) -> Supply | None:
        """Where the items of a list hold what is needed."""
        return self._match(lister, need, many=True, same=same)[0]

    # ------------------------------------------------------------------ what an operation gives

    def outputs(self, operation: Operation) -> tuple[Output, ...]:
        """The scalar fields of a successful answer, nearest to the root first."""
        outputs = self._outputs.get(operation.key)
        if outputs is None:
            schema = success_schema(operation)
            walk = self._walk(schema, [], collection_noun(operation.path), False, 0) if schema is not None else ()
            walked = list(islice(walk, _MOST_OUTPUTS))
            outputs = self._outputs[operation.key] = tuple(walked)
        return outputs

    def _walk(self, schema: Schema, at: list[str | int], thing: str, many: bool, depth: int) -> Iterator[Output]:
        flat = self._object(schema)
        if "array" in kinds(flat) and "items" in flat:
            items = flat["items"]
            if kinds(self._schemas.flat(items)) <= {"string", "integer"}:
                yield Output(
                    path=json_path([*at, 0]), item=json_path([*at, 0]), name="", thing=thing, schema=items, many=True
                )
            elif depth < 5:
                yield from self._walk(items, [*at, 0], thing, True, depth + 1)
            return
        deeper: list[tuple[str, Schema]] = []
        for name, declared in flat.get("properties", {}).items():
            field = self._schemas.flat(declared)
            if field.get("writeOnly") is True:
                continue
            if kinds(field) - {"null"} <= {"string", "integer", "number"} and kinds(field) != {"null"}:
                yield Output(
                    path=json_path([*at, name]), item=json_path(at), name=name, thing=thing, schema=declared, many=many
                )
            else:
                deeper.append((name, declared))
        if depth < 3:
            for name, declared in deeper:
                inner = thing if words(name)[-1:] and words(name)[-1] in ENVELOPES else noun(name)
                yield from self._walk(declared, [*at, name], inner, many, depth + 1)

    def _object(self, schema: Schema) -> Flat:
        """The schema, or its first alternative with properties or items."""
        flat = self._schemas.flat(schema)
        if "properties" not in flat and "items" not in flat:
            for branch in self._schemas.branches(flat):
                inner = self._schemas.flat(branch)
                if "properties" in inner or "items" in inner:
                    return inner
        return flat

    # ------------------------------------------------------------------ what an operation needs

    def for_parameter(self, operation: Operation, parameter: Parameter) -> tuple[Candidate, ...]:
        """Who can supply a path parameter, best first; a list may supply the parameters before it as well."""
        key = (operation.key, parameter.name)
        if key not in self._found:
            self._found[key] = tuple(self._for_parameter(operation, parameter))
        return self._found[key]

    def _for_parameter(self, operation: Operation, parameter: Parameter) -> list[Candidate]:
        need = path_need(operation.path, parameter)
        candidates = [*self._links.get((operation.key, parameter.name), ()), *self.by_name(need)]
        if not self._safe_only:
            candidates += self._put(operation, parameter, need)
        item = operation.path[: operation.path.index("{" + parameter.name + "}")] + "{}"
        shown = {self._schemas.name(success_schema(other)) for other in self.at(item)} - {""}
        for index, candidate in enumerate(candidates):
            if candidate.kind == "create" and not candidate.own:
                if self._schemas.name(success_schema(candidate.operation)) in shown:  # the same thing by another path
                    candidates[index] = replace(candidate, score=candidate.score + 25, own=True)
        joined = [self._joined(candidate, operation, parameter) for candidate in candidates]
        return _best(joined)

    def for_field(self, name: str, schema: Schema) -> tuple[Candidate, ...]:
        """Who can supply a body field or query parameter that points at another thing: `product_id`, `tagIds`."""
        shape = ",".join(sorted(kinds(self._schemas.flat(schema))))
        key = (plain(name), shape)
        if key not in self._found:
            candidates: list[Candidate] = []
            for need in field_needs(name, schema):
                candidates = self.by_name(need)
                if candidates:
                    break
            self._found[key] = tuple(_best(candidates))
        return self._found[key]

    def by_name(self, need: Need) -> list[Candidate]:
        """Who can supply what is needed, as far as names say so, in no order."""
        candidates: list[Candidate] = []
        creators = [(op, 100) for op in self._creators_at.get(need.prefix, ())] if need.prefix else []
        near = {op.key for op, _ in creators}
        creators += [(op, 60) for op in self._creators_of.get(need.thing, ()) if op.key not in near]
        for operation, score in creators:
            exact = segments(operation.path)[-1:] == segments(base_collection(operation.path))[-1:]
            supply, fit = self._match(operation, need, many=False, same=score == 100)
            if supply is None and score == 100:
                supply, fit = self._echo(operation, need), 0
            if supply is not None:
                total = score + fit + (5 if exact else 0) - 15 * operation.deprecated
                candidates.append(
                    Candidate(operation=operation, kind="create", supplies=(supply,), score=total, own=score == 100)
                )
        lists = [(op, 70) for op in self._lists_at.get(need.prefix, ())] if need.prefix else []
        near = {op.key for op, _ in lists}
        for operation in (*self._lists_of.get(need.thing, ()), *self._lists_with.get(plain(need.name), ())):
            if operation.key not in near:
                near.add(operation.key)
                akin = collection_noun(operation.path) == need.thing
                lists.append((operation, (45 if akin else 30) - 5 * operation.path.count("{")))
        for operation, score in lists:
            supply, fit = self._match(operation, need, many=True, same=score == 70)
            if supply is not None:
                total = score + fit - 15 * operation.deprecated
                candidates.append(
                    Candidate(operation=operation, kind="list", supplies=(supply,), score=total, own=score == 70)
                )
        return candidates

    def _match(self, operation: Operation, need: Need, *, many: bool, same: bool) -> tuple[Supply | None, int]:
        best: tuple[Supply | None, int] = (None, 0)
        for output in self.outputs(operation):
            if output.many is not many or not self._feeds(output.schema, need):
                continue
            fit = fitness(output, need, same)
            if fit:
                fit = max(1, fit - 8 * max(0, output.path.count("[") - many))
            if fit and "null" in kinds(self._schemas.flat(output.schema)):
                fit = max(1, fit - 10)
            if fit > best[1]:
                best = (Supply(need=need.name, path=output.path, schema=output.schema), fit)
        return best

    def _echo(self, operation: Operation, need: Need) -> Supply | None:
        """The thing is named by what the request itself sends: `username` of `POST /users`."""
        for media in wire.media_types(operation.body)[:1]:
            assert operation.body is not None
            flat = self._object(operation.body.content[media].schema or True)
            for name in flat.get("required") or flat.get("properties", ()):
                declared = flat.get("properties", {}).get(name, True)
                wanted = {plain(need.name), need.attribute}
                if need.attribute not in IDENTIFYING:  # `/tenants/{tenant}`: whatever names a tenant
                    wanted |= {*_NAMES, *(need.thing + suffix for suffix in _NAMES)}
                if plain(name) in wanted and kinds(self._schemas.flat(declared)) == {"string"}:
                    return Supply(need=need.name, source="echo", path=name, schema=declared)
        return None

    def _put(self, operation: Operation, parameter: Parameter, need: Need) -> list[Candidate]:
        """`PUT /things/{name}` that documents 201 makes the thing under a name of our choice."""
        parts = segments(operation.path)
        index = parts.index("{" + parameter.name + "}") if "{" + parameter.name + "}" in parts else -1
        if index < 0:
            return []
        item = "/" + "/".join(parts[: index + 1])
        return [
            Candidate(
                operation=other,
                kind="put",
                supplies=(Supply(need=parameter.name, source="path", path=wire.parameter_names(other.path)[-1]),),
                score=85,
            )
            for other in self.at(item)
            if other.method == "PUT"
            and creates_by_put(other)
            and other.key != operation.key
            and not self.destructive(other)
        ]

    def _feeds(self, schema: Schema, need: Need) -> bool:
        given = kinds(self._schemas.flat(schema)) - {"null"}
        wanted = kinds(self._schemas.flat(need.schema))
        if "array" in wanted and "string" not in wanted:
            wanted = kinds(self._schemas.flat(self._schemas.flat(need.schema).get("items")))
        if need.prefix:  # in a URL everything is text
            return bool(given & wanted) or "string" in wanted or len(wanted) == 7
        return bool(given & wanted) or ("number" in wanted and "integer" in given)

    def _joined(self, candidate: Candidate, operation: Operation, parameter: Parameter) -> Candidate:
        """A list that also holds the parameters before this one supplies them, too, from the same item."""
        if candidate.kind != "list":
            return candidate
        names = [name for name in wire.parameter_names(operation.path) if name != parameter.name]
        item = next((o.item for o in self.outputs(candidate.operation) if o.path == candidate.supplies[0].path), "")
        more: list[Supply] = []
        for name in names:
            if plain(name) in _BARE:
                continue
            for output in self.outputs(candidate.operation):
                if output.item == item and plain(output.name) == plain(name):
                    more.append(Supply(need=name, path=output.path, schema=output.schema))
                    break
        return replace(candidate, supplies=(*candidate.supplies, *more), score=candidate.score + 5 * len(more))

    def deleter(self, creator: Operation) -> tuple[Operation, Supply] | None:
        """The operation that removes what `creator` makes, and what it needs to know of it."""
        return next(self.deleters(creator), None)

    def deletes_below(self, creator: Operation) -> list[Operation]:
        """The operations that delete one thing of the collection in which `creator` makes things."""
        return self._deleters_at.get(nameless(base_collection(creator.path)), [])

    def deleters(self, creator: Operation) -> Iterator[tuple[Operation, Supply]]:
        """All that remove what `creator` makes."""
        for other in self._deleters_at.get(nameless(base_collection(creator.path)), ()):
            last = wire.parameter_names(other.path)[-1]
            parameter = next((p for p in other.parameters if p.name == last and p.where == "path"), None)
            if parameter is None:
                continue
            for candidate in self.for_parameter(other, parameter):
                if candidate.operation.key == creator.key:
                    yield other, candidate.supplies[0]
                    break


def creates_by_put(operation: Operation) -> bool:
    """`PUT /things/{name}` makes the thing under a name of our choice: it documents 201, or says so in its summary."""
    if operation.method != "PUT" or not operation.path.rstrip("/").endswith("}"):
        return False
    said = {*words(operation.summary), *words(operation.operation_id)}
    return "201" in operation.responses or bool(said & _CREATING)


def _best(candidates: list[Candidate]) -> list[Candidate]:
    return sorted(candidates, key=lambda candidate: -candidate.score)


def path_need(template: str, parameter: Parameter) -> Need:
    """What a path parameter names, by its own name and the collection before it."""
    prefix = nameless(base_collection(prefix_of(template, parameter.name)))
    name_words = words(parameter.name)
    attribute = name_words[-1] if name_words and name_words[-1] in IDENTIFYING else ""
    before = name_words[:-1] if attribute else name_words
    thing = "".join((*before[:-1], singular(before[-1]))) if before and attribute else ""
    return Need(
        parameter.name, thing or collection_noun(prefix), attribute or plain(parameter.name), parameter.schema, prefix
    )


def field_needs(name: str, schema: Schema) -> Iterator[Need]:
    """What a field that points at another thing may name: `home_team_id` a hometeam, or a team."""
    name_words = words(name)
    if len(name_words) > 1 and name_words[-1] in REFERRING:
        for start in range(len(name_words) - 1):
            thing = "".join((*name_words[start:-2], singular(name_words[-2])))
            yield Need(name, thing, singular(name_words[-1]), schema)


def fitness(output: Output, need: Need, same: bool) -> int:
    """How well a field's name answers a need; 0: not at all."""
    name, full = plain(output.name), plain(need.name)
    listed = output.many and output.item.count("[") == 1 and output.item.endswith("]")
    akin = output.thing == need.thing or (same and (listed or output.thing in ("", collection_noun(need.prefix))))
    if name == full and full == need.thing:
        return 12  # `namespace` of a namespace is more likely the one around it than its own name
    if name == full and (full not in _BARE or akin):
        return 30
    if not akin:
        return 0
    if not name:
        return 8 if same else 0
    if name in (need.attribute, need.thing + need.attribute):
        return 25
    if same and len(name) > 4 and full.endswith(name):
        return 22
    if need.attribute in ("name", "code", "sku", "slug", "handle"):
        return 6 if name == "id" else 0
    return {"id": 18, need.thing + "id": 18, "uuid": 14, "guid": 14, "key": 10, "name": 14, "slug": 8}.get(name, 0)


def _expression(name: str, expression: Any) -> Supply | None:
    if not isinstance(expression, str):
        return None
    if expression.startswith("$response.body#"):
        pointer = expression.removeprefix("$response.body#")
        parts: list[str | int] = [
            int(part) if part.isdigit() else part.replace("~1", "/").replace("~0", "~")
            for part in pointer.split("/")[1:]
        ]
        return Supply(need=name, path=json_path(parts))
    if expression.startswith("$response.header."):
        return Supply(need=name, source="header", path=expression.removeprefix("$response.header."))
    if expression.startswith("$request.path."):
        return Supply(need=name, source="path", path=expression.removeprefix("$request.path."))
    return None
