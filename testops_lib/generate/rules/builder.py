"""Drafts and checks -> cases: what every kind of case is assembled with."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any, Final

import msgspec

from testops_lib.generate.judge import RequestJudge
from testops_lib.generate.rules import mutations
from testops_lib.generate.rules.acceptance import ValidRequest, acceptance
from testops_lib.generate.rules.draft import ABSENT, Draft
from testops_lib.generate.rules.drafts import Drafter
from testops_lib.generate.rules.making import Impossible
from testops_lib.generate.rules.own_account import NO_SPARE, Spares
from testops_lib.generate.rules.ownership import WHOLE_COLLECTION
from testops_lib.generate.rules.resources import Graph
from testops_lib.generate.rules.values import Maker
from testops_lib.generate.schemas import Schemas
from testops_lib.model import (
    INVALID_CREDENTIALS,
    NO_CREDENTIALS,
    AnyCheck,
    Case,
    ContentTypeConformance,
    Intent,
    MaxResponseTime,
    NotAServerError,
    Policy,
    Provenance,
    Request,
    ResponseHeadersConformance,
    ResponseSchemaConformance,
    StatusCodeConformance,
    Step,
    make_case,
)
from testops_lib.spec.operation import Operation, Parameter, Schema

ORIGIN: Final = Provenance(source="rules", version="1")

ANSWER: Final[tuple[AnyCheck, ...]] = (
    ContentTypeConformance(),
    ResponseHeadersConformance(),
    ResponseSchemaConformance(),
)
CONFORMANCE: Final[tuple[AnyCheck, ...]] = (NotAServerError(), StatusCodeConformance(), *ANSWER)

UNROUTED: Final[tuple[AnyCheck, ...]] = (NotAServerError(), StatusCodeConformance(also=(404,)), *ANSWER)
"""Of an answer that may come from the router: 404, whatever the document says of the operation."""


_REFUSALS: Final = frozenset({"400", "404", "422", "4XX", "default"})


class CaseBuilder:
    """Assembles the cases of one operation at a time."""

    def __init__(
        self,
        graph: Graph,
        schemas: Schemas,
        maker: Maker,
        drafter: Drafter,
        policy: Policy,
        spares: Spares,
        origin: Provenance = ORIGIN,
    ) -> None:
        self.graph, self.schemas, self.maker, self.drafter, self.policy = graph, schemas, maker, drafter, policy
        self.guard, self._spares, self._origin = drafter.guard, spares, origin
        self.judge = RequestJudge(graph.spec, schemas)
        self._used = 0

    def start(self, operation: Operation) -> Draft:
        """The draft that the operation's cases vary; they depend on no case made before.

        Raises:
            Impossible: not even one valid request can be made.
        """
        self._used = 0
        return self.drafter.draft(operation)

    def left_out(self, operation: Operation) -> str:
        """Why the operation is not to be called at all, by whoever makes cases; "" when it may be."""
        change = self.graph.account_change(operation)
        if change and self._spares.of(change) is None:
            return NO_SPARE[change]
        return WHOLE_COLLECTION if self.guard.spares_collection(operation) else ""

    def spare_identity(self, operation: Operation) -> str:
        """The identity of a case that comes last."""
        return self._spares.of(self.graph.account_change(operation) or "session") or ""

    def case(
        self,
        name: str,
        intent: Intent,
        draft: Draft,
        checks: Iterable[AnyCheck],
        *,
        request: Request | None = None,
        identity: str = "",
        tags: tuple[str, ...] = (),
        last: bool = False,
        keep: bool = False,
    ) -> Case:
        operation = draft.operation
        request = request or self.drafter.request(draft)
        captures, cleanup = self.drafter.made_by(draft)
        setup, undo = draft.setup, draft.cleanup
        if not draft.echoed and not _mentions(request, draft.samples):
            setup, undo = (), ()
        if operation.method == "DELETE" and intent in ("positive", "boundary") and not keep:
            undo = tuple(step for step in undo if step.operation != operation.key)
        if last and identity and identity not in (NO_CREDENTIALS, INVALID_CREDENTIALS):
            setup = tuple(msgspec.structs.replace(step, identity=identity) for step in setup)
        step = Step(
            operation=operation.key, request=request, checks=tuple(checks), captures=captures, identity=identity
        )
        return make_case(
            name=name,
            intent=intent,
            operation=operation.key,
            steps=(*setup, step),
            cleanup=(*cleanup, *undo),
            origin=self._origin,
            tags=tags,
            last=last,
        )

    def another(self, draft: Draft) -> Draft:
        """The draft for one more case: what should be unique but cannot hold a token gets other values."""
        if not draft.salted:
            return draft
        self._used += 1
        try:
            other = self.drafter.draft(draft.operation, salt=self._used + 10, media=draft.media)
        except Impossible:
            return draft
        return replace(draft, setup=other.setup, cleanup=other.cleanup, samples={**draft.samples, **other.samples})

    def body_schema(self, operation: Operation, base: Draft) -> Schema | None:
        if base.body is ABSENT or operation.body is None:
            return None
        return operation.body.content[base.media].schema

    def fingerprint(self, draft: Draft) -> bytes:
        return msgspec.json.encode(self.drafter.request(draft))

    def acceptance_checks(self, operation: Operation, draft: Draft, chained: bool) -> tuple[AnyCheck, ...]:
        """The acceptance check of a valid request, as far as the document alone can promise it."""
        validity = self.judge.judge(operation.key, self.drafter.request(draft), draft.samples).validity
        if draft.guessed or validity == "invalid":
            return ()
        others_delete = self.policy.methods == "all"
        return (acceptance(ValidRequest(draft=draft, validity=validity, chained=chained, others_delete=others_delete)),)

    def positive_checks(self, operation: Operation, draft: Draft, chained: bool) -> tuple[AnyCheck, ...]:
        """All checks of a valid request."""
        return (*CONFORMANCE, *self.acceptance_checks(operation, draft, chained), *self.speed_checks())

    def speed_checks(self) -> tuple[AnyCheck, ...]:
        limit = self.policy.max_response_ms
        return (MaxResponseTime(limit_ms=limit),) if limit > 0 else ()

    def is_invented(self, parameter: Parameter, value: Any) -> bool:
        """An optional query parameter whose value neither the target nor the document names."""
        if parameter.required or parameter.where != "query":
            return False
        sent = value if isinstance(value, list) else [value]
        flat = self.schemas.flat(parameter.schema)
        flats = [flat, *map(self.schemas.flat, self.schemas.branches(flat)), self.schemas.flat(flat.get("items", True))]
        named = [*self.maker.hint(parameter.name), *parameter.examples]
        for each in flats:
            named += [each.get("default"), each.get("const"), *each.get("enum", ()), *self.maker.examples(each)]
        return any(not isinstance(item, bool) and item not in named for item in sent)


def _mentions(request: Request, samples: Mapping[str, Any]) -> bool:
    if not samples:
        return False
    written = msgspec.json.encode(request).decode()
    return any("{" + name + "}" in written for name in samples)


def documents_refusals(operation: Operation) -> bool:
    """The document says that the operation may refuse a request for its data or its path."""
    return bool(_REFUSALS & set(operation.responses))


def renamed(step: Step, names: Mapping[str, str]) -> Step:
    """The step with other capture names in its path."""
    path = step.request.path
    for old, new in names.items():
        path = path.replace("{" + old + "}", "{" + new + "}")
    return msgspec.structs.replace(step, request=msgspec.structs.replace(step.request, path=path))


def alternating(*sources: Iterable[Case]) -> Iterator[Case]:
    """One of each in turn, until all are used up; none is made before it is wanted."""
    waiting = [iter(source) for source in sources]
    while waiting:
        left: list[Iterator[Case]] = []
        for source in waiting:
            case = next(source, None)
            if case is not None:
                left.append(source)
                yield case
        waiting = left


def place_of(root: str, place: mutations.Place) -> str:
    return "/".join((root, *map(str, place)))
