"""Valid requests with one value at an edge of its schema: the limits, the empty, odd characters."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any, Final

import msgspec

from testops_lib.generate.rules import boundary
from testops_lib.generate.rules.builder import (
    CONFORMANCE,
    CaseBuilder,
    place_of,
)
from testops_lib.generate.rules.draft import Draft
from testops_lib.generate.rules.drafts import makes_things
from testops_lib.generate.schemas import Schemas, kinds
from testops_lib.model import (
    AnyCheck,
    Case,
    PositiveDataAcceptance,
)
from testops_lib.spec.operation import Operation

_MOST_EDGES: Final = 40


class EdgeRequests:
    """Makes the boundary cases of one operation at a time."""

    def __init__(self, builder: CaseBuilder) -> None:
        self._builder = builder
        self.graph, self.schemas, self.maker = builder.graph, builder.schemas, builder.maker
        self.drafter, self.guard = builder.drafter, builder.guard

    def edges(self, operation: Operation, base: Draft, chained: bool) -> Iterator[Case]:
        count = 0
        for parameter in self.drafter.parameters(operation):
            if parameter.where == "path" or parameter.content_type:
                continue
            good = base.values(parameter.where).get(parameter.name)
            if good is None:
                made = self.drafter.optional(base, parameter)
                good = made.value if made else None
            flat = self.schemas.flat(parameter.schema)
            edges = boundary.edge_values(
                self.schemas, flat, _inner(self.schemas, flat, good), parameter.name, good, False
            )
            empty = [("empty", "", True)] if parameter.allow_empty else []
            for label, edge, explicit in (*edges, *empty):
                if edge is None or label.startswith("enum ") or edge == []:
                    continue
                if edge == "" and parameter.where != "query":
                    continue
                if not (edge == "" and parameter.allow_empty) and not self.schemas.accepts(parameter.schema, edge):
                    continue
                if parameter.where != "query" and label in ("odd characters", "control characters", "long"):
                    continue
                draft = self._builder.another(base.put(parameter.where, parameter.name, edge))
                draft = replace(
                    draft, doubt=base.doubt, invented=True, narrowed=self._builder.is_invented(parameter, edge)
                )
                yield self._edge(operation, f"{parameter.where}/{parameter.name}", label, draft, explicit, chained)
                count += 1
        for edge in self._body_edges(operation, base):
            draft = self._builder.another(replace(base, body=edge.value))
            draft = replace(draft, doubt=base.doubt, invented=True)
            yield self._edge(operation, place_of("body", edge.place), edge.label, draft, edge.explicit, chained)
            count += 1
            if count >= _MOST_EDGES:
                return

    def _body_edges(self, operation: Operation, base: Draft) -> Iterator[boundary.Edge]:
        schema = self._builder.body_schema(operation, base)
        if schema is not None:
            yield from boundary.edges(
                self.schemas, self.maker, schema, base.body, base.samples, unique=makes_things(operation)
            )

    def _edge(self, operation: Operation, place: str, label: str, draft: Draft, explicit: bool, chained: bool) -> Case:
        accepted: tuple[AnyCheck, ...] = ()
        if explicit:
            accepted = tuple(
                msgspec.structs.replace(check, at_limit=True) if isinstance(check, PositiveDataAcceptance) else check
                for check in self._builder.acceptance_checks(operation, draft, chained)
            )
        checks = (*CONFORMANCE, *accepted, *self._builder.speed_checks())
        return self._builder.case(f"{operation.key}: {place} at {label}", "boundary", draft, checks, tags=("boundary",))


def _inner(schemas: Schemas, flat: dict[str, Any], good: Any) -> dict[str, Any]:
    for branch in schemas.branches(flat):
        if kinds(schemas.flat(branch)) != {"null"}:
            return schemas.flat(branch)
    return flat
