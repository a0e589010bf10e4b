"""What HTTP asks of any operation: credentials, conditions, conflicts, methods that are not offered."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

import msgspec

from testops_lib.generate import wire
from testops_lib.generate.rules.builder import (
    ANSWER,
    CONFORMANCE,
    ORIGIN,
    CaseBuilder,
    renamed,
)
from testops_lib.generate.rules.draft import ABSENT, Draft
from testops_lib.generate.rules.invalid import InvalidRequests
from testops_lib.generate.rules.making import Impossible
from testops_lib.generate.rules.unknown import UnknownResources
from testops_lib.generate.rules.words import is_static, segments
from testops_lib.model import (
    INVALID_CREDENTIALS,
    NO_CREDENTIALS,
    Capture,
    Case,
    IgnoredAuth,
    NotAServerError,
    Request,
    StatusIs,
    Step,
    UnsupportedMethod,
    make_case,
)
from testops_lib.spec.operation import Operation

_PROBED: Final = ("DELETE", "PUT", "PATCH", "POST")


class ProtocolRequests:
    """Makes the cases of one operation, or one path, about HTTP itself."""

    def __init__(self, builder: CaseBuilder, invalid: InvalidRequests, unknown: UnknownResources) -> None:
        self._builder = builder
        self.graph, self.schemas, self.maker = builder.graph, builder.schemas, builder.maker
        self.drafter, self.guard = builder.drafter, builder.guard
        self._invalid, self._unknown = invalid, unknown

    def security(self, operation: Operation, base: Draft, *, last: bool = False) -> Iterator[Case]:
        if not operation.protected:
            return
        checks = (NotAServerError(), IgnoredAuth(), *ANSWER)
        for identity, label in (
            (NO_CREDENTIALS, "without credentials"),
            (INVALID_CREDENTIALS, "with credentials nobody owns"),
        ):
            yield self._builder.case(
                f"{operation.key}: {label}",
                "security",
                self._builder.another(base),
                checks,
                identity=identity,
                tags=("security",),
                last=last or (operation.method == "DELETE" and base.listed),
                keep=True,
            )

    def twice(self, operation: Operation, base: Draft) -> Iterator[Case]:
        """The same thing made twice, where the document says 409."""
        if operation.method != "POST" or "409" not in operation.responses or base.body is ABSENT:
            return
        captures, cleanup = self.drafter.made_by(base)
        request = self.drafter.request(base)
        first = Step(operation=operation.key, request=request, captures=captures, setup=True)
        names = {capture.name: f"{capture.name}_again" for capture in captures}
        others = tuple(msgspec.structs.replace(capture, name=names[capture.name]) for capture in captures)
        again = Step(operation=operation.key, request=request, checks=CONFORMANCE, captures=others)
        cleanup = (*(renamed(step, names) for step in cleanup if captures), *cleanup)
        yield make_case(
            name=f"{operation.key}: the same again",
            intent="stateful",
            operation=operation.key,
            steps=(*base.setup, first, again),
            cleanup=(*cleanup, *base.cleanup),
            origin=ORIGIN,
            tags=("stateful",),
        )

    def conditions(self, operation: Operation, base: Draft) -> Iterator[Case]:
        """Answers to conditions and wishes in headers, where the document has their status (RFC 9110, 12.5.1, 13.1)."""
        if "406" in operation.responses:
            draft = base.put("header", "Accept", "application/x-nothing")
            yield self._invalid.refused(operation, draft, "header/Accept", "accept", "optional_feature")
        if "412" in operation.responses and operation.method in ("PUT", "PATCH", "DELETE"):
            draft = base.put("header", "If-Match", '"{unique}"')
            yield self._invalid.refused(operation, draft, "header/If-Match", "precondition", "optional_feature")
        if "304" in operation.responses and operation.method == "GET":
            capture = Capture(name="entity_tag", source="header", path="ETag")
            first = Step(operation=operation.key, request=self.drafter.request(base), captures=(capture,), setup=True)
            again = self.drafter.request(base.put("header", "If-None-Match", "{entity_tag}"))
            checks = (*CONFORMANCE, StatusIs(any_of=(304,), basis="guess", doubt="optional_feature"))
            yield make_case(
                name=f"{operation.key}: not modified since",
                intent="stateful",
                operation=operation.key,
                steps=(*base.setup, first, Step(operation=operation.key, request=again, checks=checks)),
                cleanup=base.cleanup,
                origin=ORIGIN,
                tags=("stateful", "conditional"),
            )

    def unsupported(self, operations: Sequence[Operation]) -> Iterator[Case]:
        """Methods that the document does not offer on a path; `operations` are those it offers."""
        offered = {operation.method for operation in operations}
        about = next((op for op in operations if op.method == "GET"), operations[0])
        names = {p.name: p for p in about.parameters if p.where == "path"}
        for method in _PROBED:
            probed = msgspec.structs.replace(about, method=method, key=f"{method} {about.path}")
            own_only = self.guard.own_only(probed)
            try:
                values = {
                    name: self.drafter.unused_id(parameter) if name in own_only else self._unknown.stand_in(parameter)
                    for name, parameter in names.items()
                }
            except Impossible:
                continue
            path = wire.path(about.path, names, values)
            if method in offered or self._served(path, method) or self._builder.left_out(probed):
                continue
            if self.guard.spares_collection(probed, documented=False):
                continue
            last = any(map(self.graph.destructive, operations)) or self.graph.destructive(probed)
            step = Step(
                identity=self._builder.spare_identity(probed) if last else "",
                operation=about.key,
                request=Request(method=method, path=path),
                checks=(NotAServerError(), UnsupportedMethod()),
            )
            yield make_case(
                name=f"{about.path}: {method} is not offered",
                intent="negative",
                operation=about.key,
                steps=(step,),
                origin=ORIGIN,
                tags=("negative", "method"),
                last=last,
            )

    def _served(self, path: str, method: str) -> bool:
        """Another template of the document matches the path and offers the method."""
        sent = segments(path)
        alike = (*self.graph.shaped(method, len(sent)), *self.graph.greedy(method))
        return any(
            all(not is_static(part) or part == mine for part, mine in zip(parts, sent, strict=False)) for parts in alike
        )
