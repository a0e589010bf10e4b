"""One operation -> its cases, the most valuable first."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

import msgspec

from testops_lib import unused_ids
from testops_lib.doubts import Doubt
from testops_lib.generate import wire
from testops_lib.generate.feedback import Feedback, Gap
from testops_lib.generate.judge import RequestJudge
from testops_lib.generate.rules import boundary, negative
from testops_lib.generate.rules.acceptance import ValidRequest, acceptance
from testops_lib.generate.rules.drafts import ABSENT, Draft, Drafter, makes_things
from testops_lib.generate.rules.own_account import NO_SPARE, Spares
from testops_lib.generate.rules.ownership import WHOLE_COLLECTION
from testops_lib.generate.rules.resources import Graph, creates_by_put
from testops_lib.generate.rules.values import Impossible, Maker
from testops_lib.generate.rules.words import is_static, segments, words
from testops_lib.generate.schemas import UNIQUE, Schemas, kinds
from testops_lib.model import (
    INVALID_CREDENTIALS,
    NO_CREDENTIALS,
    AnyCheck,
    Capture,
    Case,
    ContentTypeConformance,
    IgnoredAuth,
    Intent,
    JsonBody,
    MaxResponseTime,
    NegativeDataRejection,
    NotAServerError,
    Policy,
    PositiveDataAcceptance,
    Provenance,
    Request,
    ResponseHeadersConformance,
    ResponseSchemaConformance,
    StatusCodeConformance,
    StatusIs,
    Step,
    TextBody,
    UnsupportedMethod,
    make_case,
)
from testops_lib.placeholder import fill
from testops_lib.spec.operation import Operation, Parameter, Schema

ORIGIN: Final = Provenance(source="rules", version="1")

ANSWER: Final[tuple[AnyCheck, ...]] = (
    ContentTypeConformance(),
    ResponseHeadersConformance(),
    ResponseSchemaConformance(),
)
CONFORMANCE: Final[tuple[AnyCheck, ...]] = (NotAServerError(), StatusCodeConformance(), *ANSWER)

_UNROUTED: Final[tuple[AnyCheck, ...]] = (NotAServerError(), StatusCodeConformance(also=(404,)), *ANSWER)
"""Of an answer that may be the router's: 404, whatever the document of an operation says."""

_REFUSALS: Final = frozenset({"400", "404", "422", "4XX", "default"})

_MOST: Final = {"paired": 10, "parameters": 24, "negatives": 60, "edges": 40, "examples": 5, "tries": 4}
_OTHERWISE: Final = "with other values in the steps before"
_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_-]*")
_PROBED: Final = ("DELETE", "PUT", "PATCH", "POST")
_NOBODY: Final = (unused_ids.NUMBER, 999_999, 99_999, "00000000-0000-4000-8000-{unique}", "{unique}")
"""Well-formed ids for reading that hardly anything has; what is changed or deleted goes by `unused_ids` alone."""


class Untested(Impossible):
    """The operation is not to be called, though a request could be made."""


class Planner:
    """Makes the cases of one operation at a time."""

    def __init__(
        self,
        graph: Graph,
        schemas: Schemas,
        maker: Maker,
        drafter: Drafter,
        policy: Policy,
        spares: Spares,
        feedback: Feedback | None = None,
        origin: Provenance = ORIGIN,
    ) -> None:
        self.graph, self.schemas, self.maker, self.drafter, self.policy = graph, schemas, maker, drafter, policy
        self.guard, self._spares, self._origin = drafter.guard, spares, origin
        self._unreached = {gap.operation: gap for gap in feedback.gaps if not gap.reached} if feedback else {}
        self.judge = RequestJudge(graph.spec, schemas)
        self._used = 0

    # ------------------------------------------------------------------ the whole of one operation

    def plan(self, operation: Operation, chains: Sequence[Case] = (), *, chained: bool = False) -> Iterator[Case]:
        """All cases; `chains` are the stateful ones about it, `chained` says that one of them reads what was made.

        Raises:
            Untested: it is not to be called.
            Impossible: not even one valid request can be made.
        """
        if why := self.left_out(operation):
            raise Untested(why)
        base = self.start(operation)
        if self.graph.destructive(operation):
            yield from self._destructive(operation, base)
            return
        happy = self._happy(operation, base, chained)
        yield next(happy)
        security = self._security(operation, base)
        first = next(security, None)
        if first is not None:
            yield first
        yield from chains
        yield from security
        yield from _mixed(
            _mixed(happy, self._parameters(operation, base, chained)),
            self._negatives(operation, base),
            self._edges(operation, base, chained),
            self._strangers(operation, base),
        )
        yield from self._nowhere(operation, base)
        yield from self._twice(operation, base)
        yield from self._conditions(operation, base)
        yield from self._pairs(operation, base, chained)

    def left_out(self, operation: Operation) -> str:
        """Why the operation is not to be called at all, by whoever makes cases; "" when it may be."""
        change = self.graph.account_change(operation)
        if change and self._spares.of(change) is None:
            return NO_SPARE[change]
        return WHOLE_COLLECTION if self.guard.spares_collection(operation) else ""

    def _spare(self, operation: Operation) -> str:
        """The identity of a case that comes last."""
        return self._spares.of(self.graph.account_change(operation) or "session") or ""

    def _destructive(self, operation: Operation, base: Draft) -> Iterator[Case]:
        spared, spare = replace(base, cleanup=()), self._spare(operation)
        checks = (*CONFORMANCE, *self._accepted(operation, base, False), *self._fast())
        yield self._case(f"{operation.key}: as documented", "positive", spared, checks, identity=spare, last=True)
        for case in self._security(operation, spared, last=True):
            yield case
            break
        for index, case in enumerate(self._negatives(operation, base)):
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

    # ------------------------------------------------------------------ positive

    def _happy(self, operation: Operation, base: Draft, chained: bool) -> Iterator[Case]:
        key = operation.key
        foreign = operation.method == "DELETE" and base.listed and not base.guessed
        seen = {self._print(base)}
        yield self._positive(f"{key}: valid request", operation, base, chained, last=foreign)
        if foreign:
            return
        for draft, label in self._variants(operation, base):
            shown = self._print(draft)
            if shown not in seen or label == _OTHERWISE:
                seen.add(shown)
                yield self._positive(f"{key}: {label}", operation, draft, chained)

    def _variants(self, operation: Operation, base: Draft) -> Iterator[tuple[Draft, str]]:
        named = self._by_name(operation, base)
        if named is not None:
            yield named, "by its name"
        if base.shaky:
            for draft, label in self._try(operation, _OTHERWISE, salt=1):
                yield replace(draft, doubt=draft.doubt or "further_try"), label
        try:
            full = self.drafter.draft(operation, full=True, salt=1)
        except Impossible:
            full = self._again(base)
        for parameter in self.drafter.parameters(operation):
            if parameter.where != "path" and not parameter.required and not parameter.deprecated:
                made = self.drafter.optional(full, parameter)
                if made is not None:
                    full = replace(
                        full.put(parameter.where, parameter.name, made.value),
                        doubt=full.doubt or made.doubt,
                        invented=full.invented or not made.example,
                        narrowed=full.narrowed or self._invented(parameter, made.value),
                    )
        several = sum(len(full.values(where)) for where in ("query", "header", "cookie")) > 1
        # Optional parameters may contradict each other in ways that no schema says.
        yield (
            replace(full, doubt=full.doubt or ("combined_parameters" if several else "")),
            "all parameters and properties",
        )
        described = operation.body.content.get(base.media) if operation.body else None
        for index, example in enumerate((described.examples if described else ())[1 : _MOST["examples"]]):
            yield from self._try(operation, f"documented example {index + 2}", example=example, salt=index + 2)
        for media in wire.media_types(operation.body)[1:4]:
            if base.body is not ABSENT:
                yield from self._try(operation, f"as {media}", media=media, salt=7)
        if operation.key in self._unreached:
            yield from self._again_after(self._unreached[operation.key], operation, base)

    def _by_name(self, operation: Operation, base: Draft) -> Draft | None:
        """The thing by the name it was given instead of the id it got, where the document speaks of its name."""
        if not base.setup or not operation.path.endswith("}"):
            return None
        last = wire.parameter_names(operation.path)[-1]
        maker = next((s for s in base.setup if any(f"{{{c.name}}}" == base.path.get(last) for c in s.captures)), None)
        sent = maker.request.body if maker is not None else None
        name = sent.value.get("name") if isinstance(sent, JsonBody) and isinstance(sent.value, dict) else None
        told = any("name" in words(f"{other.summary} {other.description}") for other in self.graph.at(operation.path))
        if not told or not isinstance(name, str):
            return None
        return replace(base.put("path", last, name), doubt=base.doubt or "name_for_id", echoed=True)

    def _again_after(self, gap: Gap, operation: Operation, base: Draft) -> Iterator[tuple[Draft, str]]:
        """After a round in which nothing succeeded: with what the refusals name, and with other values."""
        said = {word for refusal in gap.refusals for word in _NAME.findall(refusal.said)}
        asked = base
        for parameter in self.drafter.parameters(operation):
            if parameter.where != "path" and not parameter.required and parameter.name in said:
                made = self.drafter.optional(asked, parameter)
                if made is not None:
                    asked = replace(
                        asked.put(parameter.where, parameter.name, made.value), doubt=asked.doubt or "named_in_refusal"
                    )
        yield self._with_members(operation, asked, said), "with what the refusal names"
        for salt in range(1, _MOST["tries"] + 1):
            for full in (False, True):
                for draft, label in self._try(operation, f"try {salt + 1}", salt=salt, full=full):
                    yield (
                        replace(draft, doubt=draft.doubt or "further_try"),
                        f"{label}, all properties" if full else label,
                    )

    def _with_members(self, operation: Operation, draft: Draft, said: Collection[str]) -> Draft:
        """The draft with those optional members of its body that a refusal names."""
        try:
            full = self.drafter.draft(operation, full=True)
        except Impossible:
            return draft
        if not isinstance(draft.body, dict) or not isinstance(full.body, dict):
            return draft
        named = {name: value for name, value in full.body.items() if name in said and name not in draft.body}
        body = {**draft.body, **named}
        schema = self._body_schema(operation, draft)
        if not named or schema is None or self.schemas.rejects(schema, fill(body, full.samples)):
            return draft
        return replace(
            draft,
            body=body,
            doubt=draft.doubt or "named_in_refusal",
            setup=full.setup,
            cleanup=full.cleanup,
            path=full.path,
            samples=full.samples,
        )

    def _try(self, operation: Operation, label: str, **wanted: Any) -> Iterator[tuple[Draft, str]]:
        try:
            yield self.drafter.draft(operation, **wanted), label
        except Impossible:
            return

    def _parameters(self, operation: Operation, base: Draft, chained: bool) -> Iterator[Case]:
        """Each optional parameter once on its own, and each value of a small enumeration."""
        count = 0
        for parameter in self.drafter.parameters(operation):
            if parameter.where == "path" or (parameter.required and not self._options(parameter)):
                continue
            made = self.drafter.optional(base, parameter)
            if made is None:
                continue
            value, doubt, example = made
            place = f"{parameter.where}/{parameter.name}"
            if not parameter.required:
                draft = self._again(base.put(parameter.where, parameter.name, value))
                draft = replace(
                    draft,
                    doubt=base.doubt or doubt,
                    example=base.example or example,
                    invented=base.invented or not example,
                    narrowed=self._invented(parameter, value),
                )
                yield self._positive(f"{operation.key}: with {place}", operation, draft, chained)
                count += 1
            current = base.values(parameter.where).get(parameter.name, value)
            for option in self._options(parameter):
                sent = [option] if isinstance(current, list) else option
                if sent != current:
                    draft = self._again(base.put(parameter.where, parameter.name, sent))
                    yield self._positive(
                        f"{operation.key}: {place} = {option}", operation, draft, chained, intent="boundary"
                    )
                    count += 1
            if count >= _MOST["parameters"]:
                return

    def _invented(self, parameter: Parameter, value: Any) -> bool:
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

    def _options(self, parameter: Parameter) -> list[Any]:
        flat = self.schemas.flat(parameter.schema)
        if "array" in kinds(flat):
            flat = self.schemas.flat(flat.get("items"))
        found = flat.get("enum")
        return (
            [value for value in found if value is not None and self.schemas.accepts(flat, value)]
            if isinstance(found, list) and len(found) <= boundary.SMALL_ENUM
            else []
        )

    def _edges(self, operation: Operation, base: Draft, chained: bool) -> Iterator[Case]:
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
                draft = self._again(base.put(parameter.where, parameter.name, edge))
                draft = replace(draft, doubt=base.doubt, invented=True, narrowed=self._invented(parameter, edge))
                yield self._edge(operation, f"{parameter.where}/{parameter.name}", label, draft, explicit, chained)
                count += 1
        for edge in self._body_edges(operation, base):
            draft = self._again(replace(base, body=edge.value))
            draft = replace(draft, doubt=base.doubt, invented=True)
            yield self._edge(operation, _place("body", edge.place), edge.label, draft, edge.explicit, chained)
            count += 1
            if count >= _MOST["edges"]:
                return

    def _body_edges(self, operation: Operation, base: Draft) -> Iterator[boundary.Edge]:
        schema = self._body_schema(operation, base)
        if schema is not None:
            yield from boundary.edges(
                self.schemas, self.maker, schema, base.body, base.samples, unique=makes_things(operation)
            )

    def _edge(self, operation: Operation, place: str, label: str, draft: Draft, explicit: bool, chained: bool) -> Case:
        accepted: tuple[AnyCheck, ...] = ()
        if explicit:
            accepted = tuple(
                msgspec.structs.replace(check, at_limit=True) if isinstance(check, PositiveDataAcceptance) else check
                for check in self._accepted(operation, draft, chained)
            )
        checks = (*CONFORMANCE, *accepted, *self._fast())
        return self._case(f"{operation.key}: {place} at {label}", "boundary", draft, checks, tags=("boundary",))

    def _positive(
        self,
        name: str,
        operation: Operation,
        draft: Draft,
        chained: bool,
        *,
        intent: Intent = "positive",
        last: bool = False,
    ) -> Case:
        checks = (*CONFORMANCE, *self._accepted(operation, draft, chained), *self._fast())
        tags = ("happy",) if intent == "positive" else ("boundary",)
        return self._case(name, intent, draft, checks, tags=tags, last=last)

    def _accepted(self, operation: Operation, draft: Draft, chained: bool) -> tuple[AnyCheck, ...]:
        """The acceptance check of a valid request, as far as the document alone can promise it."""
        validity = self.judge.judge(operation.key, self.drafter.request(draft), draft.samples).validity
        if draft.guessed or validity == "invalid":
            return ()
        others_delete = self.policy.methods == "all"
        return (acceptance(ValidRequest(draft=draft, validity=validity, chained=chained, others_delete=others_delete)),)

    def _fast(self) -> tuple[AnyCheck, ...]:
        limit = self.policy.max_response_ms
        return (MaxResponseTime(limit_ms=limit),) if limit > 0 else ()

    # ------------------------------------------------------------------ negative

    def _negatives(self, operation: Operation, base: Draft) -> Iterator[Case]:
        kinds_of_fault = (
            self._missing(operation, base),
            self._bad_parameters(operation, base),
            self._bad_body(operation, base),
            self._bad_media(operation, base),
        )
        for index, case in enumerate(_mixed(*kinds_of_fault)):
            if index == _MOST["negatives"]:
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

    def _bad_parameters(self, operation: Operation, base: Draft) -> Iterator[Case]:
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
        yield from _mixed(*per_parameter)

    def _bad_parameter(self, operation: Operation, base: Draft, parameter: Parameter, good: Any) -> Iterator[Case]:
        place = f"{parameter.where}/{parameter.name}"

        def readable(rule: str, bad: Any) -> bool:
            sure = self._breaks(operation, base.put(parameter.where, parameter.name, bad), place)
            return sure is None or (not sure and rule != "format")

        for rule, bad, doubt in negative.broken_parameter(self.schemas, parameter.schema, good, readable):
            if parameter.where in ("header", "cookie") and isinstance(bad, dict):
                continue
            if parameter.where == "path":
                bad = self._harmless(operation, parameter, bad)
                if not wire.text(bad).strip("./") or self._other_path(operation, parameter, bad):
                    continue
            draft = base.put(parameter.where, parameter.name, bad)
            # A path that routes nowhere answers 404, whether the document of the operation says so or not.
            routed = parameter.where != "path" or bool(set(operation.responses) & _REFUSALS)
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

    def _bad_body(self, operation: Operation, base: Draft) -> Iterator[Case]:
        schema = self._body_schema(operation, base)
        if schema is None:
            return
        if wire.is_json(base.media):
            for fault in negative.faults(self.schemas, schema, base.body, base.samples):
                yield from self._invalid(
                    operation, replace(base, body=fault.value), _place("body", fault.place), fault.rule, fault.doubt
                )
        elif base.media in (wire.FORM, wire.MULTIPART):
            yield from self._bad_form(operation, base, schema)

    def _bad_form(self, operation: Operation, base: Draft, schema: Schema) -> Iterator[Case]:
        """In a form all is text, as in a query."""
        for fault in negative.faults(self.schemas, schema, base.body, base.samples, nested=0):
            if len(fault.place) != 1 or fault.rule in ("null", "additionalProperties"):
                continue
            draft, place = replace(base, body=fault.value), _place("body", fault.place)
            if fault.rule == "required" or self._breaks(operation, draft, place) or fault.rule == "format":
                yield from self._invalid(operation, draft, place, fault.rule, fault.doubt)

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
            yield self._negative(
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
            fault.sure
            for fault in judgement.faults
            if f"{fault.place}/".startswith(f"{place}/") or f"{place}/".startswith(f"{fault.place}/")
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
            yield self._negative(
                operation,
                draft,
                place,
                rule,
                doubt or ("" if sure else "lenient_server"),
                request=request,
                routed=routed,
            )

    def _negative(
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
        conformance = conformance if routed else _UNROUTED
        checks = (
            *conformance,
            NegativeDataRejection(basis="guess" if doubt else "spec", doubt=doubt, location=place, rule=rule),
        )
        return self._case(
            f"{operation.key}: {place} breaks {rule}",
            "negative",
            self._again(draft),
            checks,
            request=request,
            tags=("negative", rule),
        )

    def _strangers(self, operation: Operation, base: Draft) -> Iterator[Case]:
        """The operation without the steps that make what it needs: on an example of the document, which may or may not
        exist, on names that nothing has, and on names that careless code stumbles over.

        Each is one request, and tells something even where nothing can be made.
        """
        names = [p for p in operation.parameters if p.where == "path"]
        key, own_only = operation.key, self.guard.own_only(operation)
        try:
            dummies = {p.name: self.drafter.unused_id(p) if p.name in own_only else self._dummy(p) for p in names}
            example = self.drafter.stranger(operation, dummies)
            if base.setup and operation.method in ("GET", "HEAD") and any(self._exemplified(p) for p in names):
                yield self._case(f"{key}: as the document's example has it", "positive", example, CONFORMANCE)
            if base.setup and operation.protected and operation.method in ("GET", "HEAD"):
                yield self._case(
                    f"{key}: without credentials, for what may not be there",
                    "security",
                    example,
                    (NotAServerError(), IgnoredAuth(), *ANSWER),
                    identity=NO_CREDENTIALS,
                    tags=("security", "alone"),
                )
            nobody = {p.name: value for p in names if (value := self._absent(operation, p)) is not None}
            if base.setup and len(nobody) == len(names):
                draft = self.drafter.stranger(operation, nobody)
                yield self._case(
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
                yield self._case(
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
                        checks = _UNROUTED if label == boundary.UNPRINTABLE else CONFORMANCE
                        yield self._case(
                            f"{key}: path/{parameter.name} at {label}",
                            "boundary",
                            self.drafter.stranger(operation, path),
                            checks,
                            tags=("boundary", label, "alone"),
                        )
            if base.setup and names:
                yield from self._broken_strangers(operation, example)
        except Impossible:
            return

    def _broken_strangers(self, operation: Operation, draft: Draft) -> Iterator[Case]:
        """A few faults without what the operation needs: data are mostly looked at before the thing they are for."""
        most = 3
        for case in _mixed(self._bad_body(operation, draft), self._bad_parameters(operation, draft)):
            if most and "path/" not in case.name:
                most -= 1
                name = f"{case.name}, for what may not be there"
                yield msgspec.structs.replace(case, name=name, tags=(*case.tags, "alone"))

    def _exemplified(self, parameter: Parameter) -> bool:
        return bool(parameter.examples or self.maker.examples(parameter.schema))

    def _absent(self, operation: Operation, parameter: Parameter) -> Any:
        """A well-formed value that nothing is called by, or None."""
        if {"enum", "const"} & set(self.schemas.flat(parameter.schema)):
            return None
        values = unused_ids.CANDIDATES if self.guard.binds(operation.method) else _NOBODY
        return next((value for value in values if self.schemas.accepts(parameter.schema, value)), None)

    def _nowhere(self, operation: Operation, base: Draft) -> Iterator[Case]:
        """A well-formed name that nothing has, where the document says 404."""
        names = wire.parameter_names(operation.path)
        if not names or "404" not in operation.responses or creates_by_put(operation) or not base.setup or base.listed:
            return
        parameter = next((p for p in operation.parameters if p.where == "path" and p.name == names[-1]), None)
        if parameter is None or base.path.get(parameter.name) is None:
            return
        value = self._absent(operation, parameter)
        if value is None:
            return
        draft = self._again(base.put("path", parameter.name, value))
        place = f"path/{parameter.name}"
        if operation.method in ("PUT", "DELETE"):  # either may rightly succeed: nothing is there afterwards, or it is
            yield self._case(f"{operation.key}: {place} breaks nonexistent", "negative", draft, CONFORMANCE)
        else:
            doubt: Doubt = "" if operation.method == "GET" else "unknown_resource"
            yield self._negative(operation, draft, place, "nonexistent", doubt)

    def _twice(self, operation: Operation, base: Draft) -> Iterator[Case]:
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

    def _conditions(self, operation: Operation, base: Draft) -> Iterator[Case]:
        """Answers to conditions and wishes in headers, where the document has their status (RFC 9110, 12.5.1, 13.1)."""
        if "406" in operation.responses:
            draft = base.put("header", "Accept", "application/x-nothing")
            yield self._negative(operation, draft, "header/Accept", "accept", "optional_feature")
        if "412" in operation.responses and operation.method in ("PUT", "PATCH", "DELETE"):
            draft = base.put("header", "If-Match", '"{unique}"')
            yield self._negative(operation, draft, "header/If-Match", "precondition", "optional_feature")
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

    def _pairs(self, operation: Operation, base: Draft, chained: bool) -> Iterator[Case]:
        """Optional parameters together: any two values of any two meet in some case; absent is one."""
        levels: list[list[Any]] = []
        optional = [p for p in self.drafter.parameters(operation) if p.where != "path" and not p.required]
        optional = [p for p in optional if not p.deprecated][: _MOST["paired"]]
        for parameter in optional:
            made = [self.drafter.optional(base, parameter, salt) for salt in (0, 1)]
            values = [parameter_value.value for parameter_value in made if parameter_value is not None]
            levels.append([ABSENT, *(value for index, value in enumerate(values) if value not in values[:index])])
        if len(optional) < 3:
            return  # each alone and all together have been sent already
        for number, row in enumerate(covering([len(values) for values in levels]), 1):
            draft = base
            for parameter, values, level in zip(optional, levels, row, strict=True):
                if level:
                    draft = draft.put(parameter.where, parameter.name, values[level])
            draft = self._again(draft)
            draft = replace(draft, doubt=draft.doubt or "combined_parameters", narrowed=True)
            yield self._positive(
                f"{operation.key}: optional parameters, combination {number}", operation, draft, chained
            )

    # ------------------------------------------------------------------ security

    def _security(self, operation: Operation, base: Draft, *, last: bool = False) -> Iterator[Case]:
        if not operation.protected:
            return
        checks = (NotAServerError(), IgnoredAuth(), *ANSWER)
        for identity, label in (
            (NO_CREDENTIALS, "without credentials"),
            (INVALID_CREDENTIALS, "with credentials nobody owns"),
        ):
            yield self._case(
                f"{operation.key}: {label}",
                "security",
                self._again(base),
                checks,
                identity=identity,
                tags=("security",),
                last=last or (operation.method == "DELETE" and base.listed),
                keep=True,
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
                    name: self.drafter.unused_id(parameter) if name in own_only else self._dummy(parameter)
                    for name, parameter in names.items()
                }
            except Impossible:
                continue
            path = wire.path(about.path, names, values)
            if method in offered or self._served(path, method) or self.left_out(probed):
                continue
            if self.guard.spares_collection(probed, documented=False):
                continue
            last = any(map(self.graph.destructive, operations)) or self.graph.destructive(probed)
            step = Step(
                identity=self._spare(probed) if last else "",
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

    def _dummy(self, parameter: Parameter) -> Any:
        examples = [value for value in parameter.examples if self.schemas.accepts(parameter.schema, value)]
        for value in (*self.maker.hint(parameter.name), *examples):
            if value not in ("~", "*", "-") and not isinstance(value, dict | list):
                return value
        flat = self.schemas.flat(parameter.schema)
        options = [value for value in flat.get("enum", ()) if self.schemas.accepts(parameter.schema, value)]
        for value in (*self.maker.examples(parameter.schema), *options):
            return value
        return next((v for v in (1, unused_ids.UUID, "a", True) if self.schemas.accepts(parameter.schema, v)), "1")

    def _served(self, path: str, method: str) -> bool:
        """Another template of the document matches the path and offers the method."""
        sent = segments(path)
        alike = (*self.graph.shaped(method, len(sent)), *self.graph.greedy(method))
        return any(
            all(not is_static(part) or part == mine for part, mine in zip(parts, sent, strict=False)) for parts in alike
        )

    # ------------------------------------------------------------------ for other sources

    def start(self, operation: Operation) -> Draft:
        """The draft that the operation's cases vary; they depend on no case made before.

        Raises:
            Impossible: not even one valid request can be made.
        """
        self._used = 0
        return self.drafter.draft(operation)

    def of_valid(self, name: str, draft: Draft, *, tags: tuple[str, ...] = ()) -> Case:
        """A case of valid data; its acceptance is only asked for where the document alone promises it.

        That what was made can be read is asked by the rules' own cases.
        """
        again = self._again(draft)
        for parameter in self.drafter.parameters(draft.operation):
            value = draft.query.get(parameter.name) if parameter.where == "query" else None
            if value is not None and self._invented(parameter, value):
                again = replace(again, narrowed=True)
        accepted = self._accepted(draft.operation, again, True) if not again.doubt else ()
        asked = tuple(check for check in accepted if check.basis != "guess")
        return self._case(name, "positive", again, (*CONFORMANCE, *asked, *self._fast()), tags=tags)

    def of_unknown(self, name: str, draft: Draft, *, tags: tuple[str, ...] = ()) -> Case:
        """A case about something that need not exist: a status is judged only where a refusal is documented."""
        told = bool(set(draft.operation.responses) & _REFUSALS)
        return self._case(name, "boundary", draft, CONFORMANCE if told else (NotAServerError(), *ANSWER), tags=tags)

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
        return self._case(name, "negative", self._again(draft), checks, request=request, tags=tags)

    # ------------------------------------------------------------------ assembling

    def _body_schema(self, operation: Operation, base: Draft) -> Schema | None:
        if base.body is ABSENT or operation.body is None:
            return None
        return operation.body.content[base.media].schema

    def _again(self, draft: Draft) -> Draft:
        """The draft for one more case: what should be unique but cannot hold a token gets other values."""
        if not draft.salted:
            return draft
        self._used += 1
        try:
            other = self.drafter.draft(draft.operation, salt=self._used + 10, media=draft.media)
        except Impossible:
            return draft
        return replace(draft, setup=other.setup, cleanup=other.cleanup, samples={**draft.samples, **other.samples})

    def _print(self, draft: Draft) -> bytes:
        return msgspec.json.encode(self.drafter.request(draft))

    def _case(
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


def _mentions(request: Request, samples: Mapping[str, Any]) -> bool:
    if not samples:
        return False
    written = msgspec.json.encode(request).decode()
    return any("{" + name + "}" in written for name in samples)


def _inner(schemas: Schemas, flat: dict[str, Any], good: Any) -> dict[str, Any]:
    for branch in schemas.branches(flat):
        if kinds(schemas.flat(branch)) != {"null"}:
            return schemas.flat(branch)
    return flat


def covering(sizes: Sequence[int]) -> Iterator[tuple[int, ...]]:
    """Rows of levels, one for each factor of `sizes` levels, so that any two levels of any two factors are in some row.

    Greedy, hence not the fewest; the same sizes, the same rows.
    """
    factors = range(len(sizes))
    open_pairs = {
        (a, x, b, y) for a in factors for b in factors if a < b for x in range(sizes[a]) for y in range(sizes[b])
    }
    while open_pairs:
        a, x, b, y = min(open_pairs)
        row = {a: x, b: y}
        for factor in factors:
            if factor not in row:
                row[factor] = max(
                    range(sizes[factor]),
                    key=lambda level, factor=factor: sum(  # type: ignore[misc]
                        (min((factor, level), (o, at)) + max((factor, level), (o, at))) in open_pairs
                        for o, at in row.items()
                    ),
                )
        whole = tuple(row[factor] for factor in factors)
        open_pairs -= {(a, whole[a], b, whole[b]) for a in factors for b in factors if a < b}
        yield whole


def _place(root: str, place: negative.Place) -> str:
    return "/".join((root, *map(str, place)))


def _mixed(*sources: Iterable[Case]) -> Iterator[Case]:
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


def renamed(step: Step, names: Mapping[str, str]) -> Step:
    """The step with other capture names in its path."""
    path = step.request.path
    for old, new in names.items():
        path = path.replace("{" + old + "}", "{" + new + "}")
    return msgspec.structs.replace(step, request=msgspec.structs.replace(step.request, path=path))
