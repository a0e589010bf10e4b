"""One operation -> its cases, the most valuable first."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import msgspec

from testops_lib.generate.feedback import Feedback
from testops_lib.generate.rules.builder import (
    ANSWER,
    CONFORMANCE,
    ORIGIN,
    CaseBuilder,
    alternating,
    documents_refusals,
)
from testops_lib.generate.rules.draft import Draft
from testops_lib.generate.rules.edges import EdgeRequests
from testops_lib.generate.rules.invalid import InvalidRequests
from testops_lib.generate.rules.making import Impossible
from testops_lib.generate.rules.protocol import ProtocolRequests
from testops_lib.generate.rules.unknown import UnknownResources
from testops_lib.generate.rules.valid import ValidRequests
from testops_lib.model import (
    Case,
    NegativeDataRejection,
    NotAServerError,
    Request,
    make_case,
)
from testops_lib.spec.operation import Operation


class Untested(Impossible):
    """The operation is not to be called, though a request could be made."""


class Planner:
    """Makes the cases of one operation at a time."""

    def __init__(self, builder: CaseBuilder, feedback: Feedback | None = None) -> None:
        self._builder, self.judge = builder, builder.judge
        self.graph, self.schemas, self.maker = builder.graph, builder.schemas, builder.maker
        self.drafter, self.guard = builder.drafter, builder.guard
        unreached = {gap.operation: gap for gap in feedback.gaps if not gap.reached} if feedback else {}
        self._valid, self._boundary = ValidRequests(builder, unreached), EdgeRequests(builder)
        self._invalid = InvalidRequests(builder)
        self._unknown = UnknownResources(builder, self._invalid)
        self._protocol = ProtocolRequests(builder, self._invalid, self._unknown)

    def plan(self, operation: Operation, chains: Sequence[Case] = (), *, chained: bool = False) -> Iterator[Case]:
        """All cases; `chains` are the stateful ones about it, `chained` says that one of them reads what was made.

        Raises:
            Untested: it is not to be called.
            Impossible: not even one valid request can be made.
        """
        if why := self._builder.left_out(operation):
            raise Untested(why)
        base = self._builder.start(operation)
        if self.graph.destructive(operation):
            yield from self._destructive(operation, base)
            return
        happy = self._valid.happy(operation, base, chained)
        yield next(happy)
        security = self._protocol.security(operation, base)
        first = next(security, None)
        if first is not None:
            yield first
        yield from chains
        yield from security
        yield from alternating(
            alternating(happy, self._valid.parameters(operation, base, chained)),
            self._invalid.all(operation, base),
            self._boundary.edges(operation, base, chained),
            self._unknown.standalone(operation, base),
        )
        yield from self._unknown.nonexistent(operation, base)
        yield from self._protocol.twice(operation, base)
        yield from self._protocol.conditions(operation, base)
        yield from self._valid.pairs(operation, base, chained)

    def _destructive(self, operation: Operation, base: Draft) -> Iterator[Case]:
        spared, spare = replace(base, cleanup=()), self._builder.spare_identity(operation)
        checks = self._builder.positive_checks(operation, base, False)
        yield self._builder.case(
            f"{operation.key}: as documented", "positive", spared, checks, identity=spare, last=True
        )
        for case in self._protocol.security(operation, spared, last=True):
            yield case
            break
        for index, case in enumerate(self._invalid.all(operation, base)):
            if index == 2:
                break
            steps = tuple(msgspec.structs.replace(step, identity=step.identity or spare) for step in case.steps)
            yield make_case(
                name=case.name,
                intent=case.intent,
                operation=case.operation,
                steps=steps,
                origin=ORIGIN,
                tags=case.tags,
                last=True,
            )

    def of_valid(self, name: str, draft: Draft, *, tags: tuple[str, ...] = ()) -> Case:
        """A case of valid data; its acceptance is only asked for where the document alone promises it.

        That what was made can be read is asked by the rules' own cases.
        """
        again = self._builder.another(draft)
        for parameter in self.drafter.parameters(draft.operation):
            value = draft.query.get(parameter.name) if parameter.where == "query" else None
            if value is not None and self._builder.is_invented(parameter, value):
                again = replace(again, narrowed=True)
        accepted = self._builder.acceptance_checks(draft.operation, again, True) if not again.doubt else ()
        promised = tuple(check for check in accepted if check.basis != "guess")
        checks = (*CONFORMANCE, *promised, *self._builder.speed_checks())
        return self._builder.case(name, "positive", again, checks, tags=tags)

    def of_unknown(self, name: str, draft: Draft, *, tags: tuple[str, ...] = ()) -> Case:
        """A case about something that need not exist: a status is judged only where a refusal is documented."""
        checks = CONFORMANCE if documents_refusals(draft.operation) else (NotAServerError(), *ANSWER)
        return self._builder.case(name, "boundary", draft, checks, tags=tags)

    def of_invalid(
        self,
        name: str,
        draft: Draft,
        place: str,
        rule: str,
        *,
        request: Request | None = None,
        tags: tuple[str, ...] = (),
    ) -> Case:
        """A case of data that breaks `rule` at `place`."""
        checks = (*CONFORMANCE, NegativeDataRejection(location=place, rule=rule))
        return self._builder.case(name, "negative", self._builder.another(draft), checks, request=request, tags=tags)

    def left_out(self, operation: Operation) -> str:
        """Why the operation is not to be called at all, by whoever makes cases; "" when it may be."""
        return self._builder.left_out(operation)

    def start(self, operation: Operation) -> Draft:
        """The draft that the operation's cases vary; they depend on no case made before.

        Raises:
            Impossible: not even one valid request can be made.
        """
        return self._builder.start(operation)

    def unsupported(self, operations: Sequence[Operation]) -> Iterator[Case]:
        """Methods that the document does not offer on a path; `operations` are those it offers."""
        return self._protocol.unsupported(operations)
