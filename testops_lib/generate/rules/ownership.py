"""Which ids in a request name things, who makes such things, and how the document lets them be deleted."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

from msgspec.structs import replace

from testops_lib.generate import wire
from testops_lib.generate.rules.resources import (
    Candidate,
    Graph,
    Need,
    Supply,
    nameless,
    path_need,
)
from testops_lib.generate.rules.words import (
    IDENTIFYING,
    base_collection,
    collection_noun,
    is_static,
    plain,
    segments,
    singular,
    words,
)
from testops_lib.generate.schemas import Schemas, kinds
from testops_lib.model import SAFE_METHODS, Contract, Maker, Ownership, Policy, Removal
from testops_lib.spec.operation import Operation, Parameter, Schema, Spec

WHOLE_COLLECTION: Final = "it would change or delete things that the run did not make (policy.foreign)"
"""Why an operation on a whole collection is not called."""

_IDS: Final = frozenset({"id", "ids", "uuid", "uuids", "guid", "guids"})
_NAMED: Final = ("name", "id", "uuid", "slug", "key", "code")
_WRITING: Final = frozenset(
    "delete remove update edit patch replace modify change disable enable deactivate activate revoke reset archive "
    "close cancel ban block merge move rename transfer purge destroy drop set".split()
)
"""Words of a POST that changes what its body or query names."""
_SOURCES: Final = {"body": "body", "header": "header", "echo": "request", "path": "path"}


class Things:
    """What the operations of one spec make, change and delete."""

    def __init__(self, graph: Graph, schemas: Schemas) -> None:
        self._graph, self._schemas = graph, schemas
        self._makers: dict[tuple[str, str], tuple[tuple[Candidate, Maker], ...]] = {}

    def is_id(self, operation: Operation, parameter: Parameter) -> bool:
        """The path parameter names a thing, rather than what is to be done: not that of `/delay/{seconds}`."""
        flat = self._schemas.flat(parameter.schema)
        if {"enum", "const"} & set(flat):
            return False
        name_words = words(parameter.name)
        named = bool(name_words) and (name_words[-1] in IDENTIFYING or name_words[-1].endswith(_NAMED))
        before = operation.path[: operation.path.index("{" + parameter.name + "}")]
        static = [part for part in segments(before) if is_static(part)]
        around = words(static[-1])[-1:] if static else ()
        if named or (around and singular(around[0]) != around[0]):
            return True
        if any("404" in other.responses for other in self._graph.at(operation.path)):
            return True
        if self._graph.for_parameter(operation, parameter):
            return True
        return kinds(flat) - {"integer", "number"} != set() and plain(parameter.name) == plain("".join(static[-1:]))

    def last_id(self, operation: Operation) -> Parameter | None:
        """The path parameter that names the thing an operation is about, or below which it is."""
        return next(iter(reversed(self.ids(operation))), None)

    def ids(self, operation: Operation) -> list[Parameter]:
        """The path parameters that name things, in order."""
        declared = {parameter.name: parameter for parameter in operation.parameters if parameter.where == "path"}
        names = [name for name in wire.parameter_names(operation.path) if name in declared]
        return [declared[name] for name in names if self.is_id(operation, declared[name])]

    def makers(self, operation: Operation, parameter: Parameter) -> tuple[tuple[Candidate, Maker], ...]:
        """Who makes what a path parameter names, best first: never a list."""
        key = (operation.key, parameter.name)
        makers = self._makers.get(key)
        if makers is None:
            need = path_need(operation.path, parameter)
            candidates = self._graph.for_parameter(operation, parameter)
            rated: dict[Maker, Candidate] = {}
            for candidate, maker in self._made_by(candidates, need, parameter.name):
                rated.setdefault(maker, candidate)
            makers = self._makers[key] = tuple((candidate, maker) for maker, candidate in rated.items())
        return makers

    def _made_by(self, candidates: Iterable[Candidate], need: Need, name: str) -> Iterator[tuple[Candidate, Maker]]:
        for candidate in candidates:
            supply = next((supply for supply in candidate.supplies if supply.need == name), None)
            if supply is None or candidate.operation.method in SAFE_METHODS or candidate.kind == "list":
                continue
            home = nameless(base_collection(candidate.operation.path))
            below = home == need.prefix
            put = candidate.kind == "put" and nameless(candidate.operation.path).startswith(f"{need.prefix}/")
            certain = below or put or candidate.kind == "link" or candidate.own or _akin(home, need)
            yield candidate, _maker(candidate.operation, supply, below=below or put, certain=certain)

    def ownership(self, operation: Operation) -> Ownership:
        """All of it, for one operation."""
        things = {
            f"path/{parameter.name}": tuple(maker for _, maker in self.makers(operation, parameter))
            for parameter in self.ids(operation)
        }
        if not things and operation.method not in SAFE_METHODS:
            things = {place: tuple(maker for _, maker in makers) for place, makers in self.elsewhere(operation).items()}
        return Ownership(
            things=things,
            collection=is_collection(operation.path),
            removal=self._removal(operation),
            account=self._graph.account_change(operation),
        )

    def elsewhere(self, operation: Operation) -> dict[str, tuple[tuple[Candidate, Maker], ...]]:
        """Places of ids in query and body of the very things that the operation changes (`PUT /pet` with an `id`), and
        who makes these.
        """
        said = {word for part in segments(operation.path)[-1:] for word in words(part)}
        if operation.method == "POST" and not (said | set(words(operation.operation_id)[:1])) & _WRITING:
            return {}
        places: dict[str, Schema] = {
            f"query/{parameter.name}": parameter.schema
            for parameter in operation.parameters
            if parameter.where == "query"
        }
        for described in operation.body.content.values() if operation.body else ():
            flat = self._schemas.flat(described.schema)
            places |= {f"body/{name}": declared for name, declared in flat.get("properties", {}).items()}
        thing = collection_noun(operation.path)
        made: dict[str, tuple[tuple[Candidate, Maker], ...]] = {}
        for place, schema in places.items():
            name_words = words(place.partition("/")[2])
            own = len(name_words) == 1 or "".join((*name_words[:-2], singular(name_words[-2]))) == thing
            if name_words and name_words[-1] in _IDS and own:
                need = Need(place.partition("/")[2], thing, singular(name_words[-1]), schema)
                made[place] = tuple(self._made_by(self._graph.by_name(need), need, need.name))
        return made

    def needs_id_elsewhere(self, operation: Operation) -> bool:
        """It cannot be asked for without an id in its query or body."""
        required = {
            f"query/{parameter.name}"
            for parameter in operation.parameters
            if parameter.where == "query" and parameter.required
        }
        for described in operation.body.content.values() if operation.body and operation.body.required else ():
            required |= {f"body/{name}" for name in self._schemas.flat(described.schema).get("required", ())}
        return any(place in required for place in self.elsewhere(operation))

    def _removal(self, operation: Operation) -> Removal | None:
        """By the collection's own DELETE; `with_ownership` knows of further ones."""
        if operation.method == "PUT":
            own = wire.parameter_names(operation.path)[-1:]
            for other in self._graph.at(operation.path) if own else ():
                if other.method == "DELETE" and self._graph.allowed(other) and needs_path_alone(other):
                    return Removal(
                        operation=other.key, maker=Maker(operation=operation.key, source="path", path=own[0])
                    )
            return None
        if operation.method != "POST":
            return None
        for deleter, supply in self._graph.deleters(operation):
            if needs_path_alone(deleter):
                return Removal(operation=deleter.key, maker=_maker(operation, supply))
        for deleter in self._graph.deletes_below(operation):
            if needs_path_alone(deleter):
                name = wire.parameter_names(deleter.path)[-1]
                return Removal(operation=deleter.key, maker=Maker(operation=operation.key, source="answer", path=name))
        return None


class Guard:
    """What the target's policy lets a case do to things that it did not make."""

    def __init__(self, things: Things, policy: Policy) -> None:
        self._things, self._foreign = things, policy.foreign
        self._own_only: dict[str, frozenset[str]] = {}

    @property
    def lifted(self) -> bool:
        """Things of others may be changed and deleted."""
        return self._foreign == "write"

    def binds(self, method: str) -> bool:
        """A request by this method goes only to what the case made, or to what surely is not there."""
        return self._foreign == "never" or (self._foreign == "read" and method not in SAFE_METHODS)

    def makers_elsewhere(self, operation: Operation, name: str) -> list[Candidate] | None:
        """Who surely makes what an id called `name` in the query or body names; None where it may be any."""
        if not self.binds(operation.method) or self._things.ids(operation):
            return None
        things = self._things.elsewhere(operation)
        makers = things.get(f"body/{name}", things.get(f"query/{name}"))
        return None if makers is None else [candidate for candidate, maker in makers if maker.certain]

    def own_only(self, operation: Operation) -> frozenset[str]:
        """The path parameters that must name what the case made, or what surely is not there."""
        if not self.binds(operation.method):
            return frozenset()
        cached = self._own_only.get(operation.key)
        if cached is None:
            names = frozenset(parameter.name for parameter in self._things.ids(operation))
            cached = self._own_only[operation.key] = names
        return cached

    def makers(self, operation: Operation, parameter: Parameter) -> list[Candidate]:
        """Who surely makes what a path parameter names, best first."""
        return [candidate for candidate, maker in self._things.makers(operation, parameter) if maker.certain]

    def may_be_below(self, operation: Operation, name: str) -> bool:
        """What the target file states for this parameter may be used: something is made or changed below it."""
        last = self._things.last_id(operation)
        if self._foreign == "never" or last is None or last.name != name:
            return self._foreign != "never"
        return operation.method == "POST" and is_collection(operation.path)

    def spares_collection(self, operation: Operation, *, documented: bool = True) -> bool:
        """The request would concern all things of a collection that is nobody's in particular; what no document offers
        is not tried on any collection.
        """
        if self.lifted or operation.method not in ("DELETE", "PUT", "PATCH") or not is_collection(operation.path):
            return False
        elsewhere = documented and self._things.needs_id_elsewhere(operation)
        return not (documented and self._things.ids(operation)) and not elsewhere


def with_ownership(contracts: dict[str, Contract], spec: Spec, policy: Policy) -> dict[str, Contract]:
    """The contracts with what the document says of the things that their operations make, change and delete."""
    schemas = Schemas(spec.definitions)
    things = Things(Graph(spec, schemas, policy), schemas)
    ownerships = {operation.key: things.ownership(operation) for operation in spec.operations}
    makers = {
        maker.operation for ownership in ownerships.values() for makers in ownership.things.values() for maker in makers
    }
    removals = {key: ownership.removal for key, ownership in ownerships.items() if ownership.removal is not None}
    for operation in spec.operations:
        if operation.method == "DELETE" and needs_path_alone(operation) and operation.path.count("{") == 1:
            for maker in next(iter(ownerships[operation.key].things.values()), ()):
                if maker.certain:
                    removals.setdefault(maker.operation, Removal(operation=operation.key, maker=maker))
    return {
        key: replace(contract, ownership=replace(ownerships[key], makes=key in makers, removal=removals.get(key)))
        for key, contract in contracts.items()
    }


def _maker(operation: Operation, supply: Supply, *, below: bool = True, certain: bool = True) -> Maker:
    return Maker(
        operation=operation.key,
        source=_SOURCES[supply.source],  # type: ignore[arg-type]
        path=supply.path,
        below=below,
        certain=certain,
    )


def _akin(home: str, need: Need) -> bool:
    """Things made at `home` are surely of the kind that is needed: `/admin/users` makes what `/users/{id}` names, and
    what `/carts/{id}/items/{product_id}` names is made at `/products`; `/a/items` makes nothing in `/b/items`.
    """
    there = [part for part in segments(home) if is_static(part)]
    here = [part for part in segments(need.prefix) if is_static(part)]
    if need.thing != collection_noun(need.prefix):
        return bool(there) and collection_noun(home) == need.thing
    return set(there) <= set(here) or set(here) <= set(there)


def is_collection(path: str) -> bool:
    """`/orders` and `/`, not `/session`: its last word is a plural."""
    parts = segments(path)
    if not parts:
        return True
    last_words = words(parts[-1])[-1:] if parts and is_static(parts[-1]) else ()
    return bool(last_words) and singular(last_words[0]) != last_words[0]


def needs_path_alone(operation: Operation) -> bool:
    others = (parameter for parameter in operation.parameters if parameter.where != "path")
    return not any(parameter.required for parameter in others) and not (
        operation.body is not None and operation.body.required
    )
