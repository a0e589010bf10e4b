"""A proposed case -> a case, or what is wrong with it: the one judge of every source that may invent things.

Pure: nothing is fetched, executed or templated. A case that passes holds no credential, calls only operations that
the spec offers and the policy allows, and says of each check truly why it may be believed.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any
from urllib.parse import quote as percent_encode

import msgspec

from testops_lib.errors import CaseError
from testops_lib.generate.jsonpath import closure, reach, refusal
from testops_lib.generate.judge import RequestJudge, Validity, Violation
from testops_lib.generate.llm.proposal import (
    PLACES,
    Expectation,
    Place,
    Proposal,
    ProposedCapture,
    ProposedStep,
    convert,
)
from testops_lib.generate.llm.proposal import json_value as read_json_value
from testops_lib.generate.rules.own_account import account_change
from testops_lib.model import (
    INVALID_CREDENTIALS,
    NO_CREDENTIALS,
    SAFE_METHODS,
    AnyBody,
    AnyCheck,
    Basis,
    Capture,
    Case,
    ContentTypeConformance,
    FormBody,
    HeaderIs,
    IgnoredAuth,
    JsonBody,
    JsonPathIs,
    MultipartBody,
    NegativeDataRejection,
    NotAServerError,
    Pairs,
    Part,
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
    UseAfterFree,
    Value,
    make_case,
)
from testops_lib.placeholder import fill
from testops_lib.redact import sensitive
from testops_lib.spec.operation import MediaType, Operation, Response, Spec
from testops_lib.verdict.documented import compile_schema, is_json
from testops_lib.verdict.json_values import equal, select

MAX_STEPS = 12
MAX_BODY_BYTES = 64 * 1024
MAX_CASE_BYTES = 256 * 1024
MAX_TEXT = 4096
"""Characters of one parameter value."""

UNIQUE_SAMPLE = "0123456789ab"
"""What stands for `{unique}` while data is validated."""

GENERAL_HEADERS = frozenset(
    {
        "accept",
        "accept-language",
        "if-match",
        "if-none-match",
        "if-modified-since",
        "if-unmodified-since",
        "range",
        "prefer",
        "idempotency-key",
        "x-request-id",
    }
)
"""Request headers of HTTP itself that may be sent though no document lists them."""

_TRANSPORT_HEADERS = frozenset(
    {
        "host",
        "content-length",
        "transfer-encoding",
        "connection",
        "upgrade",
        "te",
        "trailer",
        "expect",
        "keep-alive",
        "proxy-connection",
        "content-type",
        "content-encoding",
        "forwarded",
        "x-forwarded-for",
        "x-forwarded-host",
        "x-forwarded-proto",
        "x-original-url",
        "x-rewrite-url",
        "x-http-method-override",
        "x-http-method",
        "x-method-override",
    }
)

_PLACEHOLDER = re.compile(r"\{([A-Za-z_][A-Za-z0-9_]*)\}")
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,63}")
_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,128}")
_MEDIA_TYPE = re.compile(r"[\w!#$&^.+-]+/[\w!#$&^.+*-]+(\s*;\s*[\w-]+=(\"[^\"\r\n]*\"|[\w.+/-]+))*", re.ASCII)
_ENDS = re.compile(
    r"(?i)log[-_]?(out|off)|sign[-_]?(out|off)|shut[-_]?down|/(terminate|restart|reboot|kill|halt|maintenance)\b"
    r"|(revoke|invalidate)[^/]*(token|session)|(deactivate|close)[^/]*account"
)
_OWN_ACCOUNT = re.compile(r"(?i)/(me|self|account|profile|session|current)/?$")
_WORDS = re.compile(r"\s+")

_UNJUDGED = frozenset({"schema", "style"})
"""Rules of faults that say that nothing is known of the data: no reason to refuse it, nor to call it negative."""

_Wrong = Callable[..., None]
"""Notes a problem: rule, (place,) message."""


class Problem(Value, frozen=True, kw_only=True):
    """Why a proposed case is refused."""

    rule: str
    """Short and stable: what dropped cases are counted by."""
    where: str
    """`steps[1].query`."""
    message: str
    """For the model (repair) and for people."""

    def __str__(self) -> str:
        return f"{self.where}: {self.message}" if self.where else self.message


class _Data(Value, frozen=True, kw_only=True):
    """A step's request with what the spec says of its data."""

    request: Request
    validity: Validity
    faults: tuple[Violation, ...]
    """What is not valid by the spec: wanted in a negative case, refused in a positive one; the surest first."""


class Validator:
    """Judges proposals against one spec and one policy; each schema is compiled once, when first needed.

    `assumed`: what an expectation rests on for which the document gives no reason: `human` where a person wrote it.
    """

    def __init__(
        self,
        spec: Spec,
        *,
        policy: Policy,
        origin: Provenance,
        identities: Sequence[str] = (),
        values: Mapping[str, tuple[Any, ...]] | None = None,
        assumed: Basis = "guess",
    ) -> None:
        self._assumed = assumed
        self._spec = spec
        self._operations = {operation.key: operation for operation in spec.operations}
        self._policy = policy
        self._origin = origin
        self._identities = frozenset(identities)
        self._values = dict(values or {})
        self._judge = RequestJudge(spec)
        self._validators: dict[tuple[str, ...], Any] = {}
        self._texts: dict[str, tuple[str, ...]] = {}
        self._scheme_names = frozenset(
            (scheme.where, scheme.name.lower()) for scheme in spec.security_schemes.values() if scheme.name
        )

    def check(self, raw: Any, *, asked: Iterable[str] | None = None) -> Case | tuple[Problem, ...]:
        """The case that a raw JSON value proposes, or every problem found with it (at least one).

        With `asked`, the case must be about one of these operations.
        """
        try:
            proposal = convert(raw)
        except ValueError as error:
            return (Problem(rule="wrong shape", where="", message=str(error)),)
        problems = list(self._outline(proposal, frozenset(asked) if asked is not None else None))
        if problems:
            return tuple(problems)
        return self._case(proposal)

    # ------------------------------------------------------------------ the whole

    def _outline(self, proposal: Proposal, asked: frozenset[str] | None) -> Iterator[Problem]:
        if not proposal.steps:
            yield Problem(rule="no steps", where="steps", message="a case has at least one step")
        if len(proposal.steps) + len(proposal.cleanup) > MAX_STEPS:
            yield Problem(rule="too many steps", where="steps", message=f"at most {MAX_STEPS} steps, cleanup included")
            return
        if proposal.operation not in self._operations:
            yield Problem(rule="unknown operation", where="operation", message=_unknown(proposal.operation))
        elif asked is not None and proposal.operation not in asked:
            yield Problem(rule="operation not asked for", where="operation", message="nobody asked for this operation")
        for where, step in _steps(proposal):
            operation = self._operations.get(step.operation)
            if operation is None:
                yield Problem(rule="unknown operation", where=where, message=_unknown(step.operation))
            elif step.operation in self._spec.unusable:
                yield Problem(rule="unusable operation", where=where, message=self._spec.unusable[step.operation])
            elif self._policy.methods == "safe" and operation.method not in SAFE_METHODS:
                yield Problem(rule="unsafe method", where=where, message=f"the policy allows no {operation.method}")
        if proposal.operation not in {step.operation for step in proposal.steps}:
            yield Problem(rule="operation not called", where="steps", message="no step calls the case's operation")

    def _case(self, proposal: Proposal) -> Case | tuple[Problem, ...]:
        problems: list[Problem] = []
        known: set[str] = set()
        known_before: list[frozenset[str]] = []
        data: list[_Data] = []
        captures: list[tuple[Capture, ...]] = []
        for where, step in _steps(proposal):
            # cleanup runs as far as its captures exist, so it may use every name that the steps capture
            known_before.append(frozenset(known))
            read = self._data(step, where, known_before[-1], problems)
            data.append(read)
            captures.append(self._captures(step, read, where, known, problems))
        if problems:
            return tuple(problems)
        count = len(proposal.steps)
        problems.extend(self._intent(proposal, data))
        after_delete = _after_delete(proposal, data)
        needed = _needed(proposal, data) | after_delete.keys() | set(after_delete.values())
        steps: list[Step] = []
        for index, (where, step) in enumerate(list(_steps(proposal))[:count]):
            freed = index in after_delete
            checks = self._checks(proposal, step, data[index], where, known_before[index], freed, problems)
            setup = index < count - 1 and index in needed and not freed and _may_prepare(checks, data[index])
            steps.append(
                Step(
                    operation=step.operation,
                    request=data[index].request,
                    checks=checks,
                    captures=captures[index],
                    identity=step.identity,
                    setup=setup,
                )
            )
        cleanup = tuple(
            Step(operation=step.operation, request=read.request, identity=step.identity)
            for step, read in zip(proposal.cleanup, data[count:], strict=True)
        )
        if problems:
            return tuple(problems)
        return self._made(proposal, tuple(steps), cleanup)

    def _made(
        self, proposal: Proposal, steps: tuple[Step, ...], cleanup: tuple[Step, ...]
    ) -> Case | tuple[Problem, ...]:
        name = _WORDS.sub(" ", "".join(c if c.isprintable() else " " for c in proposal.name)).strip()[:200]
        last = any(self._ends(step.operation) for step in (*steps, *cleanup))
        try:
            case = make_case(
                name=name or proposal.operation,
                intent=proposal.intent,
                operation=proposal.operation,
                steps=steps,
                cleanup=cleanup,
                origin=self._origin,
                last=last,
            )
            encoded = msgspec.json.encode(case)
            msgspec.json.decode(encoded, type=Case)
        except (msgspec.MsgspecError, UnicodeEncodeError, RecursionError, OverflowError) as error:
            return (Problem(rule="no JSON", where="", message=f"the case cannot be written as JSON: {error}"),)
        if len(encoded) > MAX_CASE_BYTES:
            return (Problem(rule="too large", where="", message=f"the case is larger than {MAX_CASE_BYTES} bytes"),)
        return case

    def _ends(self, key: str) -> bool:
        """The operation may end the session, the account or the service."""
        operation = self._operations[key]
        if operation.method in SAFE_METHODS and operation.method != "GET":
            return False
        text = f"{operation.path} {operation.operation_id}"
        if account_change(operation) or _ENDS.search(text):
            return True
        return operation.method == "DELETE" and bool(_OWN_ACCOUNT.search(operation.path))

    # ------------------------------------------------------------------ one request

    def _data(self, step: ProposedStep, where: str, known: frozenset[str], problems: list[Problem]) -> _Data:
        operation = self._operations[step.operation]
        before = len(problems)

        def wrong(rule: str, place: str, message: str) -> None:
            problems.append(Problem(rule=rule, where=f"{where}.{place}", message=message))

        if step.identity and step.identity not in self._identities | {NO_CREDENTIALS, INVALID_CREDENTIALS}:
            wrong("unknown identity", "identity", f"there is no identity {step.identity[:60]!r}")
        for place in PLACES:
            self._parameters(operation, place, getattr(step, place), known, wrong)
        body = self._body(operation, step, known, wrong)
        path = _path(operation, dict(step.path_params), known)
        request = Request(
            method=operation.method, path=path, query=step.query, headers=step.headers, cookies=step.cookies, body=body
        )
        if len(problems) > before:
            return _Data(request=request, validity="unsure", faults=())
        judgement = self._judge.judge(step.operation, request, known)
        faults = [fault for fault in judgement.faults if not self._withheld(fault)]
        faults.sort(key=lambda fault: not fault.sure)
        validity: Validity = "valid" if not faults else "invalid" if faults[0].sure else "unsure"
        return _Data(request=request, validity=validity, faults=tuple(f for f in faults if f.rule not in _UNJUDGED))

    def _withheld(self, fault: Violation) -> bool:
        """A required parameter that no case may set, because it carries credentials."""
        where, _, name = fault.place.partition("/")
        return fault.rule == "required" and where != "body" and self._secret(name, where)

    def _parameters(
        self, operation: Operation, place: Place, given: Pairs, known: frozenset[str], wrong: _Wrong
    ) -> None:
        where = {"path_params": "path", "query": "query", "headers": "header", "cookies": "cookie"}[place]
        documented = {_folded(p.name, where): p for p in operation.parameters if p.where == where}
        elsewhere = {p.name.lower(): p.where for p in operation.parameters if p.where != where}
        grouped: dict[str, list[str]] = {}
        for name, value in given:
            if _controls(name) or _controls(value):
                wrong("control characters", place, "line breaks and control characters are allowed in bodies only")
                continue
            if len(value) > MAX_TEXT:
                wrong("too large", place, f"the value of {name[:60]!r} is longer than {MAX_TEXT} characters")
            if place in ("headers", "cookies") and not _TOKEN.fullmatch(name):
                wrong("bad header", place, f"{name[:60]!r} is no {where} name")
            if self._secret(name, where):
                wrong("credentials", place, f"{name[:60]!r} carries credentials: choose an identity instead")
                continue
            if where == "header" and name.lower() in _TRANSPORT_HEADERS:
                wrong("transport header", place, f"{name[:60]!r} is set by the client (media_type sets Content-Type)")
                continue
            for unknown in _unknown_names(value, known):
                wrong("unknown capture", place, f"{{{unknown}}} is captured by no earlier step")
            found = documented.get(_folded(name, where)) or documented.get(_folded(name.split("[", 1)[0], where))
            if found is None and not (where == "header" and name.lower() in GENERAL_HEADERS):
                if (right := elsewhere.get(name.lower())) is not None:
                    wrong("wrong parameter place", place, f"{name[:60]!r} is a {right} parameter of {operation.key}")
                else:
                    wrong("unknown parameter", place, f"{operation.key} has no {where} parameter {name[:60]!r}")
                continue
            if found is not None and "[" not in name:
                grouped.setdefault(_folded(name, where), []).append(value)
            elif found is not None:
                grouped.setdefault(_folded(found.name, where), [])
        for key, parameter in documented.items():
            if key not in grouped:
                if where == "path":
                    wrong("missing path parameter", place, f"{parameter.name!r} is missing")
                continue
            values = grouped[key]
            if where == "path":
                if len(values) > 1:
                    wrong("wrong parameter place", place, f"{parameter.name!r} is given more than once")
                if not values[0] or values[0] in (".", ".."):
                    wrong("bad path value", place, f"{parameter.name!r} would change which operation is called")
                if re.match(r"(?i)[a-z][a-z0-9+.-]*://|//", values[0]):
                    wrong("absolute URL", place, f"{parameter.name!r} holds an absolute URL")

    def _secret(self, name: str, where: str) -> bool:
        if where == "path":
            return False
        return (where, name.lower()) in self._scheme_names or sensitive(name)

    # ------------------------------------------------------------------ body

    def _body(self, operation: Operation, step: ProposedStep, known: frozenset[str], wrong: _Wrong) -> AnyBody | None:
        given = [name for name in ("body_json", "body_text", "form") if getattr(step, name) is not msgspec.UNSET]
        if step.form == () and len(given) > 1:
            given.remove("form")
        for empty in ("body_text", "body_json"):  # structured output likes to fill every field
            if len(given) > 1 and getattr(step, empty) == "" and empty in given:
                given.remove(empty)
        if given == ["form"] and step.form == ():
            given = []
        if operation.body is None and given in (["body_json"], ["body_text"]) and getattr(step, given[0]) == "":
            given = []
        if not given:
            return None
        if len(given) > 1:
            wrong("body contradicts itself", "body_json", f"give one of {', '.join(given)}")
            return None
        if operation.body is None:
            wrong("body not documented", given[0], f"{operation.key} takes no body")
            return None
        return self._filled_body(operation, step, given[0], known, wrong)

    def _filled_body(
        self, operation: Operation, step: ProposedStep, kind: str, known: frozenset[str], wrong: _Wrong
    ) -> AnyBody | None:
        assert operation.body is not None
        documented = operation.body.content
        media = step.media_type.strip() or _usual(documented, kind)
        if len(media) > 200 or not _MEDIA_TYPE.fullmatch(media):
            wrong("bad media type", "media_type", f"{media[:60]!r} is no media type")
            return None
        plain = media.split(";", 1)[0].strip().lower()
        if kind == "body_text":
            text = str(step.body_text)
            self._size(text, kind, wrong)
            for unknown in _unknown_names(text, known) if not is_json(plain) else ():
                wrong("unknown capture", kind, f"{{{unknown}}} is captured by no earlier step")
            return TextBody(text=text, media_type=media)
        if kind == "form":
            assert not isinstance(step.form, msgspec.UnsetType)
            return self._form(step.form, plain, known, wrong)
        try:
            value = read_json_value(step.body_json)
        except ValueError as error:
            wrong("no JSON", kind, f"it is no JSON ({error}); malformed text belongs in body_text")
            return None
        trouble = _unfit(value)
        if trouble:
            wrong("no JSON", kind, trouble)
            return None
        self._size(value, kind, wrong)
        for unknown in _unknown_in(value, known):
            wrong("unknown capture", kind, f"{{{unknown}}} is captured by no earlier step")
        if plain in ("application/x-www-form-urlencoded", "multipart/form-data") and isinstance(value, dict):
            fields = tuple((str(key), _as_text(item)) for key, item in value.items())
            return self._form(fields, plain, known, wrong)
        return JsonBody(value=value, media_type=media)

    def _form(self, fields: Pairs, media: str, known: frozenset[str], wrong: _Wrong) -> AnyBody | None:
        self._size(fields, "form", wrong)
        for name, value in fields:
            if _controls(name):
                wrong("control characters", "form", "a field's name holds control characters")
            for unknown in _unknown_names(value, known):
                wrong("unknown capture", "form", f"{{{unknown}}} is captured by no earlier step")
        if media == "multipart/form-data":
            return MultipartBody(
                parts=tuple(Part(name=name, data=value.encode("utf-8", "replace")) for name, value in fields)
            )
        return FormBody(fields=fields)

    def _size(self, value: Any, place: str, wrong: _Wrong) -> None:
        try:
            size = len(msgspec.json.encode(value))
        except (UnicodeEncodeError, msgspec.MsgspecError, RecursionError, OverflowError, TypeError) as error:
            wrong("no JSON", place, f"it cannot be sent: {error}")
            return
        if size > MAX_BODY_BYTES:
            wrong("too large", place, f"a body has at most {MAX_BODY_BYTES} bytes")

    def _validator(self, place: tuple[str, ...], schema: Any) -> Any:
        """A compiled schema, or None when no engine can compile it: then its data is not judged."""
        if place not in self._validators:
            try:
                self._validators[place] = compile_schema(
                    {
                        "allOf": [schema],
                        "$defs": closure([schema], self._spec.definitions),
                    }
                )
            except ValueError:
                self._validators[place] = None
        return self._validators[place]

    # ------------------------------------------------------------------ intent

    def _intent(self, proposal: Proposal, data: Sequence[_Data]) -> Iterator[Problem]:
        own = [index for index, step in enumerate(proposal.steps) if step.operation == proposal.operation]
        wants_faults = proposal.intent == "negative"
        if wants_faults and not any(data[index].faults for index in own):
            yield Problem(
                rule="intent contradicts data",
                where="intent",
                message="intent is negative, but parameters and body are all valid by the spec"
                " (for data that is valid but refused by a rule in prose use intent boundary or stateful)",
            )
        for index, (where, step) in enumerate(_steps(proposal)):
            for fault in data[index].faults:
                cleanup = index >= len(proposal.steps)
                allowed = not cleanup and (
                    proposal.intent in ("boundary", "security") or (wants_faults and index in own)
                )
                if not allowed:
                    yield Problem(
                        rule="intent contradicts data",
                        where=where,
                        message=f"{fault.place} is invalid by the spec: {fault.message}",
                    )
            anonymous = step.identity in (NO_CREDENTIALS, INVALID_CREDENTIALS)
            protected = self._operations[step.operation].protected
            if anonymous and protected and proposal.intent != "security":
                yield Problem(
                    rule="intent contradicts identity",
                    where=where,
                    message=f"{step.operation} needs credentials: identity {step.identity} belongs to intent security",
                )

    # ------------------------------------------------------------------ checks

    def _checks(
        self,
        proposal: Proposal,
        step: ProposedStep,
        data: _Data,
        where: str,
        known: frozenset[str],
        freed: bool,
        problems: list[Problem],
    ) -> tuple[AnyCheck, ...]:
        operation = self._operations[step.operation]
        anonymous = operation.protected and step.identity in (NO_CREDENTIALS, INVALID_CREDENTIALS)
        statuses = frozenset(s for wanted in step.expect if wanted.kind == "status" for s in wanted.statuses)
        checks: list[AnyCheck] = [NotAServerError()]
        if operation.responses:
            checks += [
                StatusCodeConformance(),
                ContentTypeConformance(),
                ResponseHeadersConformance(),
                ResponseSchemaConformance(),
            ]
        refused = statuses and not any(200 <= status < 400 for status in statuses)
        if anonymous:
            checks.append(IgnoredAuth())
        elif data.faults:
            fault = data.faults[0]
            checks.append(
                NegativeDataRejection(
                    location=fault.place, rule=fault.rule, basis="spec" if data.validity == "invalid" else "guess"
                )
            )
        elif freed:
            checks.append(UseAfterFree())
        elif proposal.intent == "positive" and not refused:
            also = (404,) if self._may_be_unknown(operation, step, known) else ()
            # a schema does not say all that a body must fulfil, and the model made this one up
            firm = data.validity == "valid" and (operation.method in SAFE_METHODS or self._assumed == "human")
            checks.append(PositiveDataAcceptance(also=also, basis="spec" if firm else "guess"))
        for number, wanted in enumerate(step.expect):
            place = f"{where}.expect[{number}]"
            made = self._expectation(operation, data, wanted, statuses, known, anonymous, place, problems)
            if made is not None and made not in checks:
                checks.append(made)
        return tuple(checks)

    def _may_be_unknown(self, operation: Operation, step: ProposedStep, known: frozenset[str]) -> bool:
        """A path value that is neither captured nor documented nor seen may name nothing."""
        for name, value in step.path_params:
            parameter = next(p for p in operation.parameters if p.where == "path" and p.name == name)
            documented = [*parameter.examples, *self._values.get(name, ())]
            if isinstance(parameter.schema, dict):
                documented += [parameter.schema.get("example"), parameter.schema.get("default")]
                documented += list(parameter.schema.get("examples") or ()) + list(parameter.schema.get("enum") or ())
            if not _captured(value, known) and value not in {str(item) for item in documented if item is not None}:
                return True
        return False

    def _expectation(
        self,
        operation: Operation,
        data: _Data,
        wanted: Expectation,
        statuses: frozenset[int],
        known: frozenset[str],
        anonymous: bool,
        where: str,
        problems: list[Problem],
    ) -> AnyCheck | None:
        def wrong(rule: str, message: str) -> None:
            problems.append(Problem(rule=rule, where=where, message=message))

        quote = self._quoted(operation, wanted) if wanted.basis == "description" else ""
        basis: Basis = "description" if quote else self._assumed
        match wanted.kind:
            case "status":
                return self._status(operation, data, wanted, anonymous, basis, quote, wrong)
            case "header":
                if not _TOKEN.fullmatch(wanted.name):
                    wrong("bad header", f"{wanted.name[:60]!r} is no header name")
                    return None
                if wanted.equals is not None and _controls(wanted.equals):
                    wrong("control characters", "a header's value holds no line break")
                    return None
                for unknown in _unknown_names(wanted.equals or "", known):
                    wrong("unknown capture", f"{{{unknown}}} is captured by no earlier step")
                documented = {
                    name.lower(): header
                    for response in self._responses(operation, data, statuses)
                    for name, header in response.headers.items()
                }
                header = documented.get(wanted.name.lower())
                if not quote and wanted.equals is None and header is not None and header.required:
                    basis = "spec"
                return HeaderIs(name=wanted.name, equals=wanted.equals, basis=basis, quote=quote)
            case "jsonpath":
                return self._json_path(operation, data, wanted, statuses, known, basis, quote, wrong)

    def _status(
        self,
        operation: Operation,
        data: _Data,
        wanted: Expectation,
        anonymous: bool,
        basis: Basis,
        quote: str,
        wrong: _Wrong,
    ) -> AnyCheck | None:
        if not wanted.statuses or not all(100 <= status <= 599 for status in wanted.statuses):
            wrong("bad status", "statuses are a list of numbers from 100 to 599")
            return None
        if any(status >= 500 for status in wanted.statuses):
            wrong("expects a server error", "a server error is never expected")
            return None
        accepted = [status for status in wanted.statuses if 200 <= status < 300]
        if accepted and data.validity == "invalid":
            fault = data.faults[0]
            wrong("intent contradicts data", f"expects {accepted[0]}, but {fault.place} is invalid: {fault.message}")
            return None
        undocumented = [status for status in wanted.statuses if not _documents(operation, status)]
        if undocumented and wanted.basis not in ("description", "guess"):
            listed = ", ".join(operation.responses)
            wrong("undocumented status", f"{undocumented[0]} is not documented ({listed})")
            return None
        if basis == "guess" and not undocumented and _follows(operation, data, wanted.statuses, anonymous):
            basis = "spec"
        return StatusIs(any_of=tuple(dict.fromkeys(wanted.statuses)), basis=basis, quote=quote)

    def _json_path(
        self,
        operation: Operation,
        data: _Data,
        wanted: Expectation,
        statuses: frozenset[int],
        known: frozenset[str],
        basis: Basis,
        quote: str,
        wrong: _Wrong,
    ) -> AnyCheck | None:
        if trouble := refusal(wanted.path):
            wrong("bad JSONPath", trouble)
            return None
        value: Any = None
        if wanted.op not in ("exists", "absent"):
            if wanted.value_json is msgspec.UNSET:
                wrong("bad expectation", f"{wanted.op} needs value_json")
                return None
            value = self._expected_value(wanted, known, wrong)
            if value is msgspec.UNSET:
                return None
        if wanted.op in ("min_items", "max_items") and (not isinstance(value, int) or isinstance(value, bool)):
            wrong("bad expectation", f"{wanted.op} needs a number of items")
            return None
        schemas = self._json_schemas(operation, data, statuses)
        if schemas and wanted.op != "absent":
            reached = reach(wanted.path, schemas, self._spec.definitions)
            if not reached:
                wrong("JSONPath cannot match", f"{wanted.path} matches nothing in the documented response")
                return None
            if wanted.op in ("equals", "contains") and not self._possible(operation, reached, value, known):
                wrong("JSONPath cannot match", f"{wanted.path} is never {_shown(value)} in the documented response")
                return None
        if not quote and wanted.basis == "example" and self._exemplified(operation, data, wanted, statuses, value):
            basis = "example"
        return JsonPathIs(path=wanted.path, op=wanted.op, value=value, basis=basis, quote=quote)

    def _expected_value(self, wanted: Expectation, known: frozenset[str], wrong: _Wrong) -> Any:
        given = wanted.value_json
        try:
            value = read_json_value(given)
        except ValueError:
            # a bare word is what a model writes for a string
            value = given
        if trouble := _unfit(value):
            wrong("no JSON", trouble)
            return msgspec.UNSET
        unknown = next(_unknown_in(value, known - {"unique"}), None)
        if unknown is not None:
            wrong("unknown capture", f"{{{unknown}}} is captured by no earlier step")
            return msgspec.UNSET
        return value

    def _possible(self, operation: Operation, reached: Sequence[Any], value: Any, known: frozenset[str]) -> bool:
        """Whether some schema of `reached` allows the value; values that rest on captures are not judged."""
        if any(True for _ in _captured_in(value, known)):
            return True
        for schema in reached:
            place = (operation.key, "reached", msgspec.json.encode(schema, order="deterministic").decode())
            validator = self._validator(place, schema)
            if validator is None or validator.is_valid(fill(value, {"unique": UNIQUE_SAMPLE})):
                return True
        return False

    def _exemplified(
        self, operation: Operation, data: _Data, wanted: Expectation, statuses: frozenset[int], value: Any
    ) -> bool:
        """The document's own examples of the answer show it: all of them, and there is one."""
        shown = [
            example
            for response in self._responses(operation, data, statuses)
            for media, content in response.content.items()
            if is_json(media)
            for example in content.examples
        ]
        holds = []
        for example in shown:
            try:
                nodes = select(wanted.path, example)
            except CaseError:
                return False
            match wanted.op:
                case "exists":
                    holds.append(bool(nodes))
                case "equals":
                    holds.append(len(nodes) == 1 and equal(nodes[0], value))
                case "contains":
                    holds.append(any(equal(node, value) for node in nodes))
                case _:
                    holds.append(False)
        return bool(holds) and all(holds)

    def _responses(self, operation: Operation, data: _Data, statuses: frozenset[int]) -> list[Response]:
        """The documented responses that a step's expectations speak of."""
        if statuses:
            found = [_response(operation, status) for status in sorted(statuses)]
            return [response for response in found if response is not None]
        wanted = "4" if data.faults else "2"
        chosen = [response for key, response in operation.responses.items() if key[:1] == wanted]
        return chosen or [operation.responses["default"]] if chosen or "default" in operation.responses else []

    def _json_schemas(self, operation: Operation, data: _Data, statuses: frozenset[int]) -> list[Any]:
        """Schemas of the JSON answers that may come; empty when one of them is not described."""
        schemas: list[Any] = []
        for response in self._responses(operation, data, statuses):
            for media, content in response.content.items():
                if is_json(media.split(";", 1)[0].strip().lower()) or media in ("*/*", "application/*"):
                    if content.schema is None or content.schema is True:
                        return []
                    schemas.append(content.schema)
        return schemas

    def _quoted(self, operation: Operation, wanted: Expectation) -> str:
        """The quote, when it really stands in one of the operation's own texts, is long enough to say something, and
        speaks of what is expected: any sentence of the document would promote any guess otherwise.
        """
        quote = _WORDS.sub(" ", wanted.quote).strip()
        if len(quote) < 12 or quote.count(" ") < 2 or len(quote) > 500 or not _speaks_of(quote, wanted, operation):
            return ""
        if operation.key not in self._texts:
            found = {_WORDS.sub(" ", text).lower() for text in texts(operation, self._spec)}
            self._texts[operation.key] = tuple(found)
        return quote if any(quote.lower() in text for text in self._texts[operation.key]) else ""

    # ------------------------------------------------------------------ captures

    def _captures(
        self, step: ProposedStep, data: _Data, where: str, known: set[str], problems: list[Problem]
    ) -> tuple[Capture, ...]:
        operation = self._operations[step.operation]
        statuses = frozenset(s for wanted in step.expect if wanted.kind == "status" for s in wanted.statuses)
        made: list[Capture] = []
        for number, capture in enumerate(step.captures):
            place = f"{where}.captures[{number}]"
            if trouble := self._capture_trouble(operation, data, capture, statuses):
                problems.append(Problem(rule=trouble[0], where=place, message=trouble[1]))
                continue
            known.add(capture.name)
            made.append(Capture(name=capture.name, source=capture.source, path=capture.path))
        return tuple(made)

    def _capture_trouble(
        self, operation: Operation, data: _Data, capture: ProposedCapture, statuses: frozenset[int]
    ) -> tuple[str, str] | None:
        if not _NAME.fullmatch(capture.name) or capture.name == "unique":
            return "bad capture", f"{capture.name[:60]!r} is no name for a capture"
        if capture.source == "header":
            if not _TOKEN.fullmatch(capture.path) or sensitive(capture.path):
                return "bad capture", f"{capture.path[:60]!r} is no header that may be captured"
        elif capture.source == "body":
            if trouble := refusal(capture.path):
                return "bad JSONPath", trouble
            schemas = self._json_schemas(operation, data, statuses)
            if schemas and not reach(capture.path, schemas, self._spec.definitions):
                return "JSONPath cannot match", f"{capture.path} matches nothing in the documented response"
        return None


# ---------------------------------------------------------------------- texts


def texts(operation: Operation, spec: Spec) -> Iterator[str]:
    """Every text that the document says of an operation: its own, its parameters', its bodies' and its schemas'."""
    yield operation.summary
    yield operation.description
    schemas: list[Any] = []
    for parameter in operation.parameters:
        yield parameter.description
        schemas.append(parameter.schema)
    if operation.body is not None:
        yield operation.body.description
        schemas += [media.schema for media in operation.body.content.values()]
    for response in operation.responses.values():
        yield response.description
        schemas += [media.schema for media in response.content.values()]
        schemas += [header.schema for header in response.headers.values()]
    for schema in (*schemas, *closure(schemas, spec.definitions).values()):
        yield from _descriptions(schema)


def _descriptions(schema: Any) -> Iterator[str]:
    pending = [schema]
    while pending:
        node = pending.pop()
        if isinstance(node, dict):
            if isinstance(node.get("description"), str):
                yield node["description"]
            pending += [value for key, value in node.items() if key not in ("example", "examples", "default", "enum")]
        elif isinstance(node, list):
            pending += node


# ---------------------------------------------------------------------- small decisions


def _speaks_of(quote: str, wanted: Expectation, operation: Operation) -> bool:
    """Whether a sentence names what is expected: the status (or the document lists it), the field or header, the value.

    Names count however they are written: `created_at` is spoken of as "created at".
    """
    said = quote.lower()
    if wanted.kind == "status":
        return all(str(status) in operation.responses or _has_word(str(status), said) for status in wanted.statuses)
    value = wanted.equals if wanted.kind == "header" else wanted.value_json
    if isinstance(value, str | int | float) and _has_word(str(value).strip('"').lower(), said):
        return True
    fields = re.findall(r"[A-Za-z_][\w-]*", wanted.path)
    name = wanted.name if wanted.kind == "header" else fields[-1] if fields else ""
    bare = re.sub(r"[^a-z0-9]", "", name.lower())
    return _has_word(name.lower(), said) or (len(bare) > 3 and bare in re.sub(r"[^a-z0-9]", "", said))


def _has_word(word: str, text: str) -> bool:
    return bool(word) and re.search(rf"(?<![a-z0-9]){re.escape(word)}(?![a-z0-9])", text) is not None


def _steps(proposal: Proposal) -> Iterator[tuple[str, ProposedStep]]:
    for index, step in enumerate(proposal.steps):
        yield f"steps[{index}]", step
    for index, step in enumerate(proposal.cleanup):
        yield f"cleanup[{index}]", step


def _unknown(key: str) -> str:
    return f"the document has no operation {key[:80]!r}"


def _folded(name: str, where: str) -> str:
    return name.lower() if where == "header" else name


def _controls(text: str) -> bool:
    return any(ord(c) < 32 or ord(c) == 127 or 0xD800 <= ord(c) <= 0xDFFF or c in "\x85\u2028\u2029" for c in text)


def _names(text: str) -> Iterator[str]:
    for found in _PLACEHOLDER.finditer(text):
        yield found.group(1)


def _unknown_names(text: str, known: frozenset[str]) -> Iterator[str]:
    return (name for name in _names(text) if name != "unique" and name not in known)


def _captured(text: str, known: frozenset[str]) -> bool:
    return any(name in known for name in _names(text))


def _strings(value: Any) -> Iterator[str]:
    pending = [value]
    while pending:
        node = pending.pop()
        if isinstance(node, str):
            yield node
        elif isinstance(node, dict):
            pending += [*node.keys(), *node.values()]
        elif isinstance(node, list):
            pending += node


def _unknown_in(value: Any, known: frozenset[str]) -> Iterator[str]:
    return (name for text in _strings(value) for name in _unknown_names(text, known))


def _captured_in(value: Any, known: frozenset[str]) -> Iterator[str]:
    return (text for text in _strings(value) if _captured(text, known))


def _unfit(value: Any) -> str:
    """Why a decoded JSON value cannot be sent, or ""."""
    pending, seen = [(value, 0)], 0
    while pending:
        node, depth = pending.pop()
        seen += 1
        if depth > 60 or seen > 20_000:
            return "it is nested too deeply or holds too many values"
        if isinstance(node, float) and not math.isfinite(node):
            return "it holds a number that JSON cannot write"
        if isinstance(node, dict):
            pending += [(item, depth + 1) for item in node.values()]
        elif isinstance(node, list):
            pending += [(item, depth + 1) for item in node]
    try:
        msgspec.json.encode(value)
    except (UnicodeEncodeError, OverflowError, msgspec.MsgspecError):
        return "it holds text or a number that cannot be encoded"
    return ""


def _as_text(value: Any) -> str:
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()


def _shown(value: Any) -> str:
    return _as_text(value)[:80]


def _path(operation: Operation, given: Mapping[str, str], known: frozenset[str]) -> str:
    """The template with its parameters filled; captured names stay as `{name}`, all else is percent-encoded."""

    def encoded(text: str) -> str:
        parts, at = [], 0
        for found in _PLACEHOLDER.finditer(text):
            if found.group(1) in known or found.group(1) == "unique":
                parts += [percent_encode(text[at : found.start()], safe="", errors="replace"), found.group(0)]
                at = found.end()
        return "".join([*parts, percent_encode(text[at:], safe="", errors="replace")])

    pieces = re.split(r"(\{[^{}]*\})", operation.path)
    return "".join(encoded(given[p[1:-1]]) if p[:1] == "{" and p[1:-1] in given else p for p in pieces)


def _usual(documented: Mapping[str, MediaType], kind: str) -> str:
    """The media type meant when a step names none."""
    if kind == "form":
        forms = [name for name in documented if name.startswith(("application/x-www-form", "multipart/form-data"))]
        return forms[0] if forms else "application/x-www-form-urlencoded"
    json_types = [name for name in documented if is_json(name.split(";", 1)[0].strip().lower())]
    if json_types:
        return json_types[0]
    first = next(iter(documented), "")
    if first and "*" not in first:
        return first
    return "application/json" if kind == "body_json" else "text/plain"


def _documents(operation: Operation, status: int) -> bool:
    return not operation.responses or _response(operation, status) is not None


def _response(operation: Operation, status: int) -> Response | None:
    responses = operation.responses
    for key in (str(status), f"{status // 100}XX", f"{status // 100}xx", "default"):
        if key in responses:
            return responses[key]
    return None


def _follows(operation: Operation, data: _Data, statuses: Sequence[int], anonymous: bool) -> bool:
    """Whether a status expectation follows from the document alone, so that its basis is `spec`.

    Each status is documented by its own code, and nothing documented that fits the data as well is left out: for valid
    data every 2xx, for invalid data 400 and 422 (or, with neither, every 4xx but those about credentials and
    existence), without credentials 401 and 403.
    """
    codes = {int(key) for key in operation.responses if key.isascii() and key.isdigit()}
    wanted = set(statuses)
    if not wanted <= codes or any(not key.isdigit() and key[:1] in "24" for key in operation.responses):
        return False
    if anonymous:
        return bool(wanted & {401, 403}) and codes & {401, 403} <= wanted
    if data.validity == "unsure":
        return False
    if data.faults:
        refusals = codes & {400, 422} or {code for code in codes if 400 <= code < 500} - {401, 403, 404, 410, 429}
    else:
        refusals = {code for code in codes if 200 <= code < 300}
    return bool(refusals) and refusals <= wanted and wanted <= refusals | {401, 403, 404, 410, 429}


def _after_delete(proposal: Proposal, data: Sequence[_Data]) -> dict[int, int]:
    """Steps that read what an earlier step deleted -> that step."""
    deleted: dict[tuple[str, str], int] = {}
    found: dict[int, int] = {}
    for index, step in enumerate(proposal.steps):
        request = data[index].request
        template = step.operation.partition(" ")[2]
        resource = (template, request.path)
        if request.method == "DELETE" and _PLACEHOLDER.search(request.path) and not data[index].faults:
            deleted.setdefault(resource, index)
        elif request.method in ("PUT", "POST", "PATCH"):
            deleted.pop(resource, None)
        elif request.method in ("GET", "HEAD") and resource in deleted:
            found[index] = deleted[resource]
    return found


def _needed(proposal: Proposal, data: Sequence[_Data]) -> set[int]:
    """Steps whose success the rest depends on: they capture, or come before the case's own operation."""
    first_own = next(i for i, step in enumerate(proposal.steps) if step.operation == proposal.operation)
    if proposal.intent in ("negative", "boundary", "security"):
        own = [i for i, step in enumerate(proposal.steps) if step.operation == proposal.operation]
        first_own = next((i for i in own if data[i].faults), own[-1])
    needed = set(range(first_own))
    return needed | {index for index, step in enumerate(proposal.steps) if step.captures}


def _may_prepare(checks: Sequence[AnyCheck], data: _Data) -> bool:
    """A step that is meant to be refused prepares nothing."""
    refused = any(isinstance(c, StatusIs) and not any(200 <= s < 300 for s in c.any_of) for c in checks)
    return not data.faults and not refused and not any(isinstance(c, IgnoredAuth | UseAfterFree) for c in checks)
