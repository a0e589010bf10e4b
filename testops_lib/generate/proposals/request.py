"""A proposed step's parameters and body -> its request, with what the document says of them."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any, Final
from urllib.parse import quote as percent_encode

import msgspec

from testops_lib.generate.judge import RequestJudge, Validity, Violation
from testops_lib.generate.proposals.captured import PLACEHOLDER, uncaptured_names, uncaptured_names_in
from testops_lib.generate.proposals.document import PLACES, Place, ProposedStep, value_json
from testops_lib.generate.proposals.problem import Problems
from testops_lib.model import (
    INVALID_CREDENTIALS,
    NO_CREDENTIALS,
    AnyBody,
    FormBody,
    JsonBody,
    MultipartBody,
    Pairs,
    Part,
    Request,
    TextBody,
    Value,
)
from testops_lib.redact import sensitive
from testops_lib.spec.operation import MediaType, Operation, Spec
from testops_lib.verdict.documented import is_json

MAX_BODY_BYTES: Final = 64 * 1024
MAX_TEXT: Final = 4096
"""Characters of one parameter value."""

GENERAL_HEADERS: Final = frozenset(
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

_TRANSPORT_HEADERS: Final = frozenset(
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

HEADER_NAME: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,128}")
_MEDIA_TYPE: Final = re.compile(r"[\w!#$&^.+-]+/[\w!#$&^.+*-]+(\s*;\s*[\w-]+=(\"[^\"\r\n]*\"|[\w.+/-]+))*", re.ASCII)
_ABSOLUTE_URL: Final = re.compile(r"(?i)[a-z][a-z0-9+.-]*://|//")
_WHERE: Final[Mapping[Place, str]] = {
    "path_params": "path",
    "query": "query",
    "headers": "header",
    "cookies": "cookie",
}
_UNJUDGED: Final = frozenset({"schema", "style"})
"""Rules of violations that say that nothing is known of the data: no reason to refuse it, nor to call it negative."""


class StepRequest(Value, frozen=True, kw_only=True):
    """A step's request with what the document says of its data."""

    request: Request
    validity: Validity
    violations: tuple[Violation, ...]
    """What is not valid by the document: wanted in a negative case, refused in a positive one; the surest first."""


class RequestReader:
    """Reads the requests of proposed steps."""

    def __init__(self, spec: Spec, *, identities: Sequence[str] = ()) -> None:
        self._operations = {operation.key: operation for operation in spec.operations}
        self._identities = frozenset(identities) | {NO_CREDENTIALS, INVALID_CREDENTIALS}
        self._judge = RequestJudge(spec)
        self._scheme_names = frozenset(
            (scheme.where, scheme.name.lower()) for scheme in spec.security_schemes.values() if scheme.name
        )

    def read(self, step: ProposedStep, captured: frozenset[str], problems: Problems) -> StepRequest:
        """The step's request; with problems added it is no more than a part of it. `captured`: by earlier steps."""
        operation = self._operations[step.operation]
        before = len(problems)
        if step.identity and step.identity not in self._identities:
            problems.at("identity").add("unknown identity", f"there is no identity {step.identity[:60]!r}")
        for place in PLACES:
            self._check_parameters(operation, place, getattr(step, place), captured, problems.at(place))
        body = _body(operation, step, captured, problems)
        path = _path(operation, dict(step.path_params), captured)
        request = Request(
            method=operation.method, path=path, query=step.query, headers=step.headers, cookies=step.cookies, body=body
        )
        if len(problems) > before:
            return StepRequest(request=request, validity="unsure", violations=())
        judgement = self._judge.judge(step.operation, request, captured)
        violations = [violation for violation in judgement.violations if not self._is_withheld(violation)]
        violations.sort(key=lambda violation: not violation.sure)
        validity: Validity = "valid" if not violations else "invalid" if violations[0].sure else "unsure"
        return StepRequest(
            request=request,
            validity=validity,
            violations=tuple(violation for violation in violations if violation.rule not in _UNJUDGED),
        )

    def _is_withheld(self, violation: Violation) -> bool:
        """A required parameter that no case may set, because it carries credentials."""
        where, _, name = violation.place.partition("/")
        return violation.rule == "required" and where != "body" and self._is_secret(name, where)

    def _is_secret(self, name: str, where: str) -> bool:
        if where == "path":
            return False
        return (where, name.lower()) in self._scheme_names or sensitive(name)

    def _check_parameters(
        self, operation: Operation, place: Place, pairs: Pairs, captured: frozenset[str], problems: Problems
    ) -> None:
        where = _WHERE[place]
        documented = {_folded(p.name, where): p for p in operation.parameters if p.where == where}
        elsewhere = {p.name.lower(): p.where for p in operation.parameters if p.where != where}
        values_by_name: dict[str, list[str]] = {}
        for name, value in pairs:
            if has_controls(name) or has_controls(value):
                problems.add("control characters", "line breaks and control characters are allowed in bodies only")
                continue
            if len(value) > MAX_TEXT:
                problems.add("too large", f"the value of {name[:60]!r} is longer than {MAX_TEXT} characters")
            if place in ("headers", "cookies") and not HEADER_NAME.fullmatch(name):
                problems.add("bad header", f"{name[:60]!r} is no {where} name")
            if self._is_secret(name, where):
                problems.add("credentials", f"{name[:60]!r} carries credentials: choose an identity instead")
                continue
            if where == "header" and name.lower() in _TRANSPORT_HEADERS:
                problems.add("transport header", f"{name[:60]!r} is set by the client (media_type sets Content-Type)")
                continue
            add_uncaptured(uncaptured_names(value, captured), problems)
            parameter = documented.get(_folded(name, where)) or documented.get(_folded(name.split("[", 1)[0], where))
            if parameter is None:
                if where == "header" and name.lower() in GENERAL_HEADERS:
                    continue
                if (right := elsewhere.get(name.lower())) is not None:
                    problems.add("wrong parameter place", f"{name[:60]!r} is a {right} parameter of {operation.key}")
                else:
                    problems.add("unknown parameter", f"{operation.key} has no {where} parameter {name[:60]!r}")
            elif "[" not in name:
                values_by_name.setdefault(_folded(name, where), []).append(value)
            else:
                values_by_name.setdefault(_folded(parameter.name, where), [])
        if where == "path":
            for key, parameter in documented.items():
                _check_path_value(parameter.name, values_by_name.get(key), problems)


def _check_path_value(name: str, values: Sequence[str] | None, problems: Problems) -> None:
    if not values:
        problems.add("missing path parameter", f"{name!r} is missing")
        return
    if len(values) > 1:
        problems.add("wrong parameter place", f"{name!r} is given more than once")
    if not values[0] or values[0] in (".", ".."):
        problems.add("bad path value", f"{name!r} would change which operation is called")
    if _ABSOLUTE_URL.match(values[0]):
        problems.add("absolute URL", f"{name!r} holds an absolute URL")


def add_uncaptured(names: Any, problems: Problems) -> None:
    """Adds a problem for each name that no earlier step captures."""
    for name in names:
        problems.add("unknown capture", f"{{{name}}} is captured by no earlier step")


def _folded(name: str, where: str) -> str:
    return name.lower() if where == "header" else name


def has_controls(text: str) -> bool:
    """Whether the text holds a line break, another control character or half a surrogate pair."""
    return any(ord(c) < 32 or ord(c) == 127 or 0xD800 <= ord(c) <= 0xDFFF or c in "\x85\u2028\u2029" for c in text)


def _path(operation: Operation, values: Mapping[str, str], captured: frozenset[str]) -> str:
    """The template with its parameters filled; captured names stay as `{name}`, all else is percent-encoded."""

    def encoded(text: str) -> str:
        parts, end = [], 0
        for match in PLACEHOLDER.finditer(text):
            if match.group(1) in captured or match.group(1) == "unique":
                parts += [percent_encode(text[end : match.start()], safe="", errors="replace"), match.group(0)]
                end = match.end()
        return "".join([*parts, percent_encode(text[end:], safe="", errors="replace")])

    pieces = re.split(r"(\{[^{}]*\})", operation.path)
    return "".join(encoded(values[p[1:-1]]) if p[:1] == "{" and p[1:-1] in values else p for p in pieces)


# --------------------------------------------------------------------------- body


def _body(operation: Operation, step: ProposedStep, captured: frozenset[str], problems: Problems) -> AnyBody | None:
    kinds = [name for name in ("body_json", "body_text", "form") if getattr(step, name) is not msgspec.UNSET]
    if step.form == () and len(kinds) > 1:
        kinds.remove("form")
    for kind in ("body_text", "body_json"):  # structured output likes to fill every field
        if len(kinds) > 1 and getattr(step, kind) == "" and kind in kinds:
            kinds.remove(kind)
    if kinds == ["form"] and step.form == ():
        kinds = []
    if operation.body is None and kinds in (["body_json"], ["body_text"]) and getattr(step, kinds[0]) == "":
        kinds = []
    if not kinds:
        return None
    if len(kinds) > 1:
        problems.at("body_json").add("body contradicts itself", f"give one of {', '.join(kinds)}")
        return None
    kind = kinds[0]
    if operation.body is None:
        problems.at(kind).add("body not documented", f"{operation.key} takes no body")
        return None
    media = step.media_type.strip() or _usual_media_type(operation.body.content, kind)
    if len(media) > 200 or not _MEDIA_TYPE.fullmatch(media):
        problems.at("media_type").add("bad media type", f"{media[:60]!r} is no media type")
        return None
    return _body_of(step, kind, media, captured, problems)


def _body_of(step: ProposedStep, kind: str, media: str, captured: frozenset[str], problems: Problems) -> AnyBody | None:
    at_body = problems.at(kind)
    plain = media.split(";", 1)[0].strip().lower()
    if kind == "body_text":
        text = str(step.body_text)
        _check_size(text, at_body)
        if not is_json(plain):
            add_uncaptured(uncaptured_names(text, captured), at_body)
        return TextBody(text=text, media_type=media)
    if kind == "form":
        assert not isinstance(step.form, msgspec.UnsetType)
        return _form(step.form, plain, captured, problems.at("form"))
    try:
        value = value_json(step.body_json)
    except ValueError as error:
        at_body.add("no JSON", f"it is no JSON ({error}); malformed text belongs in body_text")
        return None
    if reason := unsendable(value):
        at_body.add("no JSON", reason)
        return None
    _check_size(value, at_body)
    add_uncaptured(uncaptured_names_in(value, captured), at_body)
    if plain in ("application/x-www-form-urlencoded", "multipart/form-data") and isinstance(value, dict):
        fields = tuple((str(key), as_text(item)) for key, item in value.items())
        return _form(fields, plain, captured, problems.at("form"))
    return JsonBody(value=value, media_type=media)


def _form(fields: Pairs, media: str, captured: frozenset[str], problems: Problems) -> AnyBody | None:
    _check_size(fields, problems)
    for name, value in fields:
        if has_controls(name):
            problems.add("control characters", "a field's name holds control characters")
        add_uncaptured(uncaptured_names(value, captured), problems)
    if media == "multipart/form-data":
        return MultipartBody(
            parts=tuple(Part(name=name, data=value.encode("utf-8", "replace")) for name, value in fields)
        )
    return FormBody(fields=fields)


def _check_size(value: Any, problems: Problems) -> None:
    try:
        size = len(msgspec.json.encode(value))
    except (UnicodeEncodeError, msgspec.MsgspecError, RecursionError, OverflowError, TypeError) as error:
        problems.add("no JSON", f"it cannot be sent: {error}")
        return
    if size > MAX_BODY_BYTES:
        problems.add("too large", f"a body has at most {MAX_BODY_BYTES} bytes")


def unsendable(value: Any) -> str:
    """Why a decoded JSON value cannot be sent, or ""."""
    pending, count = [(value, 0)], 0
    while pending:
        node, depth = pending.pop()
        count += 1
        if depth > 60 or count > 20_000:
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


def as_text(value: Any) -> str:
    """A text as it is, anything else as JSON."""
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()


def _usual_media_type(documented: Mapping[str, MediaType], kind: str) -> str:
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
