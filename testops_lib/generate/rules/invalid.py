"""Requests that break one rule of the document each, and must be refused."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from typing import Any, Final

import msgspec

from testops_lib import unused_ids
from testops_lib.doubts import Doubt
from testops_lib.generate import wire
from testops_lib.generate.rules import mutations
from testops_lib.generate.rules.builder import (
    ANSWER,
    CONFORMANCE,
    UNROUTED,
    CaseBuilder,
    alternating,
    documents_refusals,
    place_of,
)
from testops_lib.generate.rules.draft import ABSENT, Draft
from testops_lib.generate.schemas import UNIQUE
from testops_lib.model import (
    AnyCheck,
    Case,
    NegativeDataRejection,
    NotAServerError,
    Request,
    TextBody,
)
from testops_lib.spec.operation import Operation, Parameter, Schema

_MOST_NEGATIVES: Final = 60


class InvalidRequests:
    """Makes the negative cases of one operation at a time."""

    def __init__(self, builder: CaseBuilder) -> None:
        self._builder = builder
        self.graph, self.schemas, self.maker = builder.graph, builder.schemas, builder.maker
        self.drafter, self.guard = builder.drafter, builder.guard
        self.judge = builder.judge

    def all(self, operation: Operation, base: Draft) -> Iterator[Case]:
        kinds_of_violation = (
            self._missing(operation, base),
            self.bad_parameters(operation, base),
            self.bad_body(operation, base),
            self._bad_media(operation, base),
        )
        for index, case in enumerate(alternating(*kinds_of_violation)):
            if index == _MOST_NEGATIVES:
                return
            yield case

    def _missing(self, operation: Operation, base: Draft) -> Iterator[Case]:
        for parameter in self.drafter.parameters(operation):
            if parameter.required and parameter.where in ("query", "header", "cookie"):
                if "default" not in self.schemas.flat(parameter.schema):
                    draft = base.drop(parameter.where, parameter.name)
                    yield from self._invalid(operation, draft, f"{parameter.where}/{parameter.name}", "required")
        if operation.body is not None and operation.body.required and base.body is not ABSENT:
            yield from self._invalid(operation, replace(base, body=ABSENT, media=""), "body", "required")

    def bad_parameters(self, operation: Operation, base: Draft) -> Iterator[Case]:
        per_parameter: list[Iterator[Case]] = []
        for parameter in self.drafter.parameters(operation):
            if parameter.content_type:
                if wire.is_json(parameter.content_type) and parameter.where == "query":
                    draft = base.put("query", parameter.name, '{"unfinished": ')
                    yield from self._invalid(operation, draft, f"query/{parameter.name}", "malformed")
                continue
            good = base.values(parameter.where).get(parameter.name)
            if good is None or (isinstance(good, str) and "{" in good):
                made = self.drafter.optional(base, parameter)
                good = made.value if made else None
            per_parameter.append(self._bad_parameter(operation, base, parameter, good))
        yield from alternating(*per_parameter)

    def _bad_parameter(self, operation: Operation, base: Draft, parameter: Parameter, good: Any) -> Iterator[Case]:
        place = f"{parameter.where}/{parameter.name}"

        def readable(rule: str, bad: Any) -> bool:
            sure = self._breaks(operation, base.put(parameter.where, parameter.name, bad), place)
            return sure is None or (not sure and rule != "format")

        for rule, bad, doubt in mutations.broken_parameter(self.schemas, parameter.schema, good, readable):
            if parameter.where in ("header", "cookie") and isinstance(bad, dict):
                continue
            if parameter.where == "path":
                bad = self._harmless(operation, parameter, bad)
                if not wire.text(bad).strip("./") or self._other_path(operation, parameter, bad):
                    continue
            draft = base.put(parameter.where, parameter.name, bad)
            # A path that routes nowhere answers 404, whether the document of the operation says so or not.
            routed = parameter.where != "path" or documents_refusals(operation)
            yield from self._invalid(operation, draft, place, rule, doubt, routed=routed)

    def _harmless(self, operation: Operation, parameter: Parameter, bad: Any) -> Any:
        """The invalid value, as it is or so that it hits nothing; "" when it might."""
        if parameter.name not in self.guard.own_only(operation):
            return bad
        for value in (bad, f"{wire.text(bad)}-{UNIQUE}", f"t{UNIQUE}"):
            if unused_ids.is_unused(wire.text(value), UNIQUE) and self.schemas.rejects(parameter.schema, value):
                return value
        return ""

    def _other_path(self, operation: Operation, parameter: Parameter, bad: Any) -> bool:
        """The path filled so is another operation's: `/users/me` beside `/users/{id}`."""
        filled = operation.path.replace("{" + parameter.name + "}", wire.text(bad))
        return filled != operation.path and bool(self.graph.at(filled)) and "{" + parameter.name not in filled

    def bad_body(self, operation: Operation, base: Draft) -> Iterator[Case]:
        schema = self._builder.body_schema(operation, base)
        if schema is None:
            return
        if wire.is_json(base.media):
            for mutation in mutations.of_body(self.schemas, schema, base.body, base.samples):
                draft, place = replace(base, body=mutation.value), place_of("body", mutation.place)
                yield from self._invalid(operation, draft, place, mutation.rule, mutation.doubt)
        elif base.media in (wire.FORM, wire.MULTIPART):
            yield from self._bad_form(operation, base, schema)

    def _bad_form(self, operation: Operation, base: Draft, schema: Schema) -> Iterator[Case]:
        """In a form all is text, as in a query."""
        for mutation in mutations.of_body(self.schemas, schema, base.body, base.samples, nested=0):
            if len(mutation.place) != 1 or mutation.rule in ("null", "additionalProperties"):
                continue
            draft, place = replace(base, body=mutation.value), place_of("body", mutation.place)
            if mutation.rule == "required" or self._breaks(operation, draft, place) or mutation.rule == "format":
                yield from self._invalid(operation, draft, place, mutation.rule, mutation.doubt)

    def _bad_media(self, operation: Operation, base: Draft) -> Iterator[Case]:
        if base.body is ABSENT or operation.body is None or not wire.is_json(base.media) or base.media == "*/*":
            return
        request = self.drafter.request(base)
        broken = TextBody(text='{"unfinished": ', media_type="application/json" if "*" in base.media else base.media)
        yield from self._invalid(
            operation, base, "body", "malformed", request=msgspec.structs.replace(request, body=broken)
        )
        taken = any(media.startswith(("text/", "*/")) for media in operation.body.content)
        if not taken and "*" not in base.media:
            plain = TextBody(text=json.dumps(base.body, ensure_ascii=False), media_type="text/plain")
            documented = "415" in operation.responses
            yield self.refused(
                operation,
                base,
                "body",
                "media_type",
                "" if documented else "undocumented_refusal",
                request=msgspec.structs.replace(request, body=plain),
                status=documented,
            )

    def _breaks(self, operation: Operation, draft: Draft, place: str, request: Request | None = None) -> bool | None:
        """Whether the request is surely invalid at `place`, or only perhaps; None: it is valid there."""
        judgement = self.judge.judge(operation.key, request or self.drafter.request(draft), draft.samples)
        about = [
            violation.sure
            for violation in judgement.violations
            if f"{violation.place}/".startswith(f"{place}/") or f"{place}/".startswith(f"{violation.place}/")
        ]
        return any(about) if about else None

    def _invalid(
        self,
        operation: Operation,
        draft: Draft,
        place: str,
        rule: str,
        doubt: Doubt = "",
        *,
        request: Request | None = None,
        routed: bool = True,
    ) -> Iterator[Case]:
        """A request that the judge finds invalid at `place`; its refusal is a guess where the judge is unsure."""
        sure = self._breaks(operation, draft, place, request)
        if sure is not None:
            yield self.refused(
                operation,
                draft,
                place,
                rule,
                doubt or ("" if sure else "lenient_server"),
                request=request,
                routed=routed,
            )

    def refused(
        self,
        operation: Operation,
        draft: Draft,
        place: str,
        rule: str,
        doubt: Doubt = "",
        *,
        request: Request | None = None,
        status: bool = True,
        routed: bool = True,
    ) -> Case:
        conformance: tuple[AnyCheck, ...] = CONFORMANCE if status else (NotAServerError(), *ANSWER)
        conformance = conformance if routed else UNROUTED
        checks = (
            *conformance,
            NegativeDataRejection(basis="guess" if doubt else "spec", doubt=doubt, location=place, rule=rule),
        )
        return self._builder.case(
            f"{operation.key}: {place} breaks {rule}",
            "negative",
            self._builder.another(draft),
            checks,
            request=request,
            tags=("negative", rule),
        )
