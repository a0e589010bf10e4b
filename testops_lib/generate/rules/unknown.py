"""Requests for resources that need not exist: single requests, which work even where nothing can be made."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import msgspec

from testops_lib import unused_ids
from testops_lib.doubts import Doubt
from testops_lib.generate import wire
from testops_lib.generate.rules import boundary
from testops_lib.generate.rules.builder import (
    ANSWER,
    CONFORMANCE,
    UNROUTED,
    CaseBuilder,
    alternating,
)
from testops_lib.generate.rules.draft import Draft
from testops_lib.generate.rules.invalid import InvalidRequests
from testops_lib.generate.rules.making import Impossible
from testops_lib.generate.rules.resources import creates_by_put
from testops_lib.generate.schemas import UNIQUE
from testops_lib.model import (
    NO_CREDENTIALS,
    Case,
    IgnoredAuth,
    NotAServerError,
    TextBody,
)
from testops_lib.spec.operation import Operation, Parameter

_UNLIKELY_IDS: Final = (unused_ids.NUMBER, 999_999, 99_999, "00000000-0000-4000-8000-{unique}", "{unique}")
"""Well-formed ids for reading that hardly any resource has; changes and deletions take `unused_ids` alone."""


class UnknownResources:
    """Makes the cases of one operation about resources that the case did not make."""

    def __init__(self, builder: CaseBuilder, invalid: InvalidRequests) -> None:
        self._builder = builder
        self.graph, self.schemas, self.maker = builder.graph, builder.schemas, builder.maker
        self.drafter, self.guard = builder.drafter, builder.guard
        self._invalid = invalid

    def standalone(self, operation: Operation, base: Draft) -> Iterator[Case]:
        """The operation without the steps that make what it needs: on an example of the document, which may or may not
        exist, on names that nothing has, and on names that careless code stumbles over.

        Each is one request, and tells something even where nothing can be made.
        """
        names = [p for p in operation.parameters if p.where == "path"]
        key, own_only = operation.key, self.guard.own_only(operation)
        try:
            dummies = {p.name: self.drafter.unused_id(p) if p.name in own_only else self.stand_in(p) for p in names}
            example = self.drafter.standalone(operation, dummies)
            if base.setup and operation.method in ("GET", "HEAD") and any(self._exemplified(p) for p in names):
                yield self._builder.case(f"{key}: as the document's example has it", "positive", example, CONFORMANCE)
            if base.setup and operation.protected and operation.method in ("GET", "HEAD"):
                yield self._builder.case(
                    f"{key}: without credentials, for what may not be there",
                    "security",
                    example,
                    (NotAServerError(), IgnoredAuth(), *ANSWER),
                    identity=NO_CREDENTIALS,
                    tags=("security", "alone"),
                )
            nobody = {p.name: value for p in names if (value := self._unused_value(operation, p)) is not None}
            if base.setup and len(nobody) == len(names):
                draft = self.drafter.standalone(operation, nobody)
                yield self._builder.case(
                    f"{key}: path breaks nonexistent",
                    "negative",
                    draft,
                    CONFORMANCE,
                    tags=("negative", "nonexistent", "alone"),
                )
            if operation.body is None:
                request = msgspec.structs.replace(
                    self.drafter.request(example), body=TextBody(text="", media_type=wire.MULTIPART)
                )
                yield self._builder.case(
                    f"{key}: no body, but the media type of one",
                    "negative",
                    example,
                    (NotAServerError(),),
                    request=request,
                    tags=("negative", "media_type", "alone"),
                )
            for turn in range(len(names)):
                for index, (label, odd) in enumerate(boundary.ODD_NAMES, 1):
                    parameter = names[(index + turn) % len(names)]  # each name's turn comes early
                    if parameter.name in own_only:
                        odd = f"t{UNIQUE}{odd}"  # a name that nothing has
                    if self.schemas.accepts(parameter.schema, odd):
                        path = {**dummies, parameter.name: odd}
                        checks = UNROUTED if label == boundary.UNPRINTABLE else CONFORMANCE
                        yield self._builder.case(
                            f"{key}: path/{parameter.name} at {label}",
                            "boundary",
                            self.drafter.standalone(operation, path),
                            checks,
                            tags=("boundary", label, "alone"),
                        )
            if base.setup and names:
                yield from self._broken_standalone(operation, example)
        except Impossible:
            return

    def nonexistent(self, operation: Operation, base: Draft) -> Iterator[Case]:
        """A well-formed name that nothing has, where the document says 404."""
        names = wire.parameter_names(operation.path)
        if not names or "404" not in operation.responses or creates_by_put(operation) or not base.setup or base.listed:
            return
        parameter = next((p for p in operation.parameters if p.where == "path" and p.name == names[-1]), None)
        if parameter is None or base.path.get(parameter.name) is None:
            return
        value = self._unused_value(operation, parameter)
        if value is None:
            return
        draft = self._builder.another(base.put("path", parameter.name, value))
        place = f"path/{parameter.name}"
        if operation.method in ("PUT", "DELETE"):  # either may rightly succeed: nothing is there afterwards, or it is
            yield self._builder.case(f"{operation.key}: {place} breaks nonexistent", "negative", draft, CONFORMANCE)
        else:
            doubt: Doubt = "" if operation.method == "GET" else "unknown_resource"
            yield self._invalid.refused(operation, draft, place, "nonexistent", doubt)

    def stand_in(self, parameter: Parameter) -> Any:
        examples = [value for value in parameter.examples if self.schemas.accepts(parameter.schema, value)]
        for value in (*self.maker.hint(parameter.name), *examples):
            if value not in ("~", "*", "-") and not isinstance(value, dict | list):
                return value
        flat = self.schemas.flat(parameter.schema)
        options = [value for value in flat.get("enum", ()) if self.schemas.accepts(parameter.schema, value)]
        for value in (*self.maker.examples(parameter.schema), *options):
            return value
        return next((v for v in (1, unused_ids.UUID, "a", True) if self.schemas.accepts(parameter.schema, v)), "1")

    def _broken_standalone(self, operation: Operation, draft: Draft) -> Iterator[Case]:
        """A few invalid requests without earlier steps: most servers check data before they look for the resource."""
        most = 3
        for case in alternating(
            self._invalid.bad_body(operation, draft), self._invalid.bad_parameters(operation, draft)
        ):
            if most and "path/" not in case.name:
                most -= 1
                name = f"{case.name}, for what may not be there"
                yield msgspec.structs.replace(case, name=name, tags=(*case.tags, "alone"))

    def _exemplified(self, parameter: Parameter) -> bool:
        return bool(parameter.examples or self.maker.examples(parameter.schema))

    def _unused_value(self, operation: Operation, parameter: Parameter) -> Any:
        """A well-formed value that nothing is called by, or None."""
        if {"enum", "const"} & set(self.schemas.flat(parameter.schema)):
            return None
        values = unused_ids.CANDIDATES if self.guard.binds(operation.method) else _UNLIKELY_IDS
        return next((value for value in values if self.schemas.accepts(parameter.schema, value)), None)
