"""Response -> failures: pure judging, no clock and no network."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import lru_cache
from operator import itemgetter
from typing import Any

import jsonpath_rfc9535 as jsonpath
import jsonschema_rs
import msgspec
from jsonpath_rfc9535.segments import JSONPathChildSegment
from jsonpath_rfc9535.selectors import IndexSelector, NameSelector

from testops_lib.errors import CaseError
from testops_lib.model import (
    Check,
    ContentTypeConformance,
    Contract,
    EnsureResourceAvailability,
    Failure,
    HeaderContract,
    HeaderIs,
    IgnoredAuth,
    JsonPathIs,
    MaxResponseTime,
    NegativeDataRejection,
    NotAServerError,
    Pairs,
    PositiveDataAcceptance,
    ResponseContract,
    ResponseHeadersConformance,
    ResponseSchemaConformance,
    StatusCodeConformance,
    StatusIs,
    Step,
    UnsupportedMethod,
    UseAfterFree,
    Value,
)

_LIMIT = 8
"""Schema errors reported of one body."""

_LONGEST = 16_384
"""Characters quoted of an answer. Whoever keeps a message masks secrets in it first and shortens it afterwards: a
secret that was cut is not found any more."""

_UNDECIDED = frozenset({401, 403, 407, 429})
"""Answers to valid data that say something of the credentials or the pace, nothing of the data."""

_NOTHING = object()
_UNREAD = object()


class Answer(Value, frozen=True, kw_only=True):
    """A whole response as it came."""

    status: int
    headers: Pairs = ()
    body: bytes = b""
    elapsed_ms: float = 0
    truncated: bool = False
    """The body was cut at the policy's limit."""


@lru_cache(maxsize=4096)
def _query(path: str) -> jsonpath.JSONPathQuery:
    try:
        return jsonpath.compile(path)
    except (jsonpath.JSONPathError, RecursionError) as error:
        raise CaseError(
            f"not a JSONPath (RFC 9535): {error}", where=repr(path), next_step="a query looks like $.items[0].id"
        ) from error


@lru_cache(maxsize=4096)
def _way(path: str) -> tuple[str | int, ...] | None:
    """The names and indexes of a singular query (RFC 9535, section 2.3.5.1); None when it may select several nodes."""
    query = _query(path)
    way: list[str | int] = []
    for segment in query.segments:
        if not isinstance(segment, JSONPathChildSegment) or len(segment.selectors) != 1:
            return None
        match segment.selectors[0]:
            case NameSelector(name=name):
                way.append(name)
            case IndexSelector(index=index):
                way.append(index)
            case _:
                return None
    return tuple(way)


def select(path: str, document: Any) -> list[Any]:
    """The values that an RFC 9535 query selects, in document order.

    Raises:
        CaseError: the query is not well-formed.
    """
    if (way := _way(path)) is not None:
        for part in way:
            if isinstance(part, str):
                if not isinstance(document, dict) or part not in document:
                    return []
            elif not isinstance(document, list) or not -len(document) <= part < len(document):
                return []
            document = document[part]
        return [document]
    try:
        return [node.value for node in _query(path).find(document)]
    except (jsonpath.JSONPathError, RecursionError) as error:
        raise CaseError(f"the JSONPath could not be applied: {error}", where=repr(path)) from error


def equal(a: Any, b: Any) -> bool:
    """Equality of JSON values: numbers by value, but true is not 1, and object members in any order."""
    if isinstance(a, bool) or isinstance(b, bool):
        return a is b
    if isinstance(a, dict) and isinstance(b, dict):
        return a.keys() == b.keys() and all(equal(value, b[key]) for key, value in a.items())
    if isinstance(a, list) and isinstance(b, list):
        return len(a) == len(b) and all(map(equal, a, b))
    return bool(a == b)


def fill(value: Any, captured: Mapping[str, Any]) -> Any:
    """`value` with `{name}` in its strings replaced by captured values; a string that is just `{name}` takes the
    captured value with its type. Names that were not captured stay as they are.
    """
    if isinstance(value, str):
        if "{" not in value:
            return value
        if value[0] == "{" and value[-1] == "}" and value[1:-1] in captured:
            return captured[value[1:-1]]
        for name, known in captured.items():
            if (mark := "{" + name + "}") in value:
                value = value.replace(mark, known if isinstance(known, str) else msgspec.json.encode(known).decode())
        return value
    if isinstance(value, dict):
        return {fill(key, captured): fill(item, captured) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [fill(item, captured) for item in value]
    return value


def response_for(contract: Contract, status: int) -> ResponseContract | None:
    """The documented response of a status: exact, then its range (`4XX`), then `default`."""
    responses = contract.responses
    return responses.get(str(status)) or responses.get(f"{status // 100}XX") or responses.get("default")


def media_type(headers: Pairs) -> str:
    """The response's media type in lower case without parameters; "" when there is none."""
    for name, value in headers:
        if name.lower() == "content-type":
            return value.split(";", 1)[0].strip().lower()
    return ""


def is_json(media: str) -> bool:
    """`application/json`, `text/json` and every `+json` type."""
    return media in ("application/json", "text/json") or media.endswith("+json")


def fits(documented: str, actual: str) -> bool:
    """Whether a media type is one that a documented type or range (`*/*`, `text/*`) means."""
    if documented == actual:
        return True
    documented = documented.split(";", 1)[0].strip().lower()
    if documented in (actual, "*/*", "*"):
        return True
    head, _, tail = documented.partition("/")
    if tail == "*":
        return actual.partition("/")[0] == head
    return is_json(documented) and is_json(actual) and actual.endswith("+json") and documented == "application/json"


def _refuse(uri: str) -> Any:
    raise ValueError(f"a contract refers to {uri}, outside itself")


def compile_schema(schema: Any) -> jsonschema_rs.Draft202012Validator:
    """A validator that asserts formats and fetches nothing.

    Raises:
        ValueError: the schema cannot be compiled (jsonschema_rs.ValidationError is one).
    """
    return jsonschema_rs.Draft202012Validator(schema, validate_formats=True, retriever=_refuse)


class Judge:
    """Judges answers against contracts; each schema is compiled once, when first needed."""

    def __init__(self, contracts: Mapping[str, Contract]) -> None:
        self._contracts = contracts
        self._validators: dict[tuple[str, ...], jsonschema_rs.Draft202012Validator | None] = {}

    def judge(self, step: Step, answer: Answer, captured: Mapping[str, Any], *, index: int = 0) -> tuple[Failure, ...]:
        """What did not hold, in order of importance.

        Consequences are not repeated: after a server error, an unwanted acceptance or refusal, or an undocumented
        status nothing else is said of the same answer. What is expected of headers and values is expected of the answer
        that was asked for (a 2xx, or the statuses listed), not of a refusal in its place. `captured` holds the names of
        earlier steps, and `unique`.
        """
        if not step.checks:
            return ()
        contract = self._contracts.get(step.operation)
        response = response_for(contract, answer.status) if contract else None
        accepted = contract is not None and answer.status in contract.accepted_statuses
        checks: dict[type[Check], Check] = {type(check): check for check in step.checks}

        def failed(check: Check, message: str, cause: str) -> Failure:
            return Failure(
                check=type(check).__struct_config__.tag,  # type: ignore[arg-type]
                operation=step.operation,
                message=message,
                cause=cause,
                basis=check.basis,
                quote=check.quote,
                step=index,
            )

        if not accepted:
            wrong = [
                (_STATUS_RANKS[kind], failed(check, *said))
                for kind, check in checks.items()
                if kind in _STATUS_RANKS and (said := _status_fault(check, answer.status, contract, response))
            ]
            if wrong:
                ordered = [failure for _, failure in sorted(wrong, key=itemgetter(0))]
                return (next((failure for failure in ordered if failure.basis != "guess"), ordered[0]),)
        found: list[Failure] = []
        body = _Body(answer.body)
        if response is not None:
            bodiless = step.request.method == "HEAD" or answer.status in (204, 205, 304) or not answer.body
            media = media_type(answer.headers)
            typed = True
            if (check := checks.get(ContentTypeConformance)) and not bodiless and response.content:
                if not any(fits(documented, media) for documented in response.content):
                    typed = False
                    wanted = ", ".join(response.content)
                    found.append(failed(check, f"content type {media or 'missing'}, documented: {wanted}", media))
            if check := checks.get(ResponseHeadersConformance):
                found += [failed(check, *said) for said in self._header_faults(step.operation, response, answer)]
            if (check := checks.get(ResponseSchemaConformance)) and typed and not bodiless and not answer.truncated:
                found += [
                    failed(check, *said) for said in self._body_faults(step.operation, response, media, answer, body)
                ]
        due = 200 <= answer.status < 300 or NegativeDataRejection in checks
        if isinstance(status := checks.get(StatusIs), StatusIs):
            due = answer.status in status.any_of
        for check in step.checks:
            if isinstance(check, HeaderIs):
                said = _header_is(check, answer, captured) if due else None
            elif isinstance(check, JsonPathIs):
                said = _json_path_is(check, body, captured) if due else None
            elif isinstance(check, MaxResponseTime) and not found and answer.elapsed_ms > check.limit_ms:
                said = f"answered after {answer.elapsed_ms:.0f} ms, limit {check.limit_ms} ms", "slow"
            else:
                continue
            if said:
                found.append(failed(check, *said))
        return tuple(found)

    def _validator(self, key: tuple[str, ...], schema: Any) -> jsonschema_rs.Draft202012Validator | None:
        if key not in self._validators:
            try:
                self._validators[key] = None if schema is None or schema is True else compile_schema(schema)
            except ValueError:
                self._validators[key] = None
        return self._validators[key]

    def _header_faults(self, operation: str, response: ResponseContract, answer: Answer) -> Iterable[tuple[str, str]]:
        if not response.headers:
            return
        present: dict[str, list[str]] = {}
        for name, value in answer.headers:
            present.setdefault(name.lower(), []).append(value)
        for name, contract in response.headers.items():
            values = present.get(name.lower())
            if values is None:
                if contract.required:
                    yield f"response header {name} is missing", f"{answer.status} {name.lower()} missing"
                continue
            validator = self._validator((operation, str(answer.status), "header", name), contract.schema)
            if validator and not any(map(validator.is_valid, _header_values(contract, values))):
                yield (
                    f"response header {name}: {', '.join(values)[:_LONGEST]!r} does not fit its schema",
                    f"{answer.status} {name.lower()} schema",
                )

    def _body_faults(
        self, operation: str, response: ResponseContract, media: str, answer: Answer, body: _Body
    ) -> Iterable[tuple[str, str]]:
        documented = media if media in response.content and len(response.content) == 1 else ""
        if not documented:
            documented = next((known for known in response.content if fits(known, media)), "")
        if not documented or not is_json(media):
            return ()
        document = body.document()
        if document is _NOTHING:
            return [("the body is not JSON", f"{answer.status} malformed")]
        schema = response.content[documented].schema
        validator = self._validator((operation, str(answer.status), documented), schema)
        if validator is None or validator.is_valid(document):
            return ()
        return _schema_faults(validator, document, answer.status)


def _schema_faults(
    validator: jsonschema_rs.Draft202012Validator, document: Any, status: int
) -> Iterable[tuple[str, str]]:
    seen = set()
    for error in validator.iter_errors(document):
        place = "/" + "/".join("*" if isinstance(part, int) else part for part in error.instance_path)
        rule = str(error.schema_path[-1]) if error.schema_path else "false"
        message = error.message[:_LONGEST]
        cause = f"{status} {place} {rule}"
        if rule in ("required", "additionalProperties", "unevaluatedProperties"):
            cause += " " + message
        if cause not in seen:
            seen.add(cause)
            yield f"body at {place}: {message}", cause
        if len(seen) >= _LIMIT:
            return


def decode(body: bytes) -> Any:
    """The JSON value of a body, or a private marker that equals nothing when it is not JSON."""
    try:
        return msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, ValueError):
        return _NOTHING


class _Body:
    """A body that is decoded once, when first asked for."""

    __slots__ = ("_data", "_document")

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._document: Any = _UNREAD

    def document(self) -> Any:
        if self._document is _UNREAD:
            self._document = decode(self._data)
        return self._document


def _header_values(contract: HeaderContract, values: list[str]) -> Iterable[Any]:
    """The readings of a header's text that its schema may mean: as a number, a boolean, a list, or as it stands."""
    text = ", ".join(values)
    yield text
    try:
        number = float(text)
        yield int(text) if text.lstrip("+-").isdigit() else number
    except (ValueError, OverflowError):
        pass
    if text.lower() in ("true", "false"):
        yield text.lower() == "true"
    yield [part.strip() for part in text.split(",")]


def _status_fault(
    check: Check, status: int, contract: Contract | None, response: ResponseContract | None
) -> tuple[str, str] | None:
    """Message and cause when the status breaks the check."""
    success = 200 <= status < 300
    match check:
        case NotAServerError() if status >= 500:
            return f"answered {status}", f"status {status}"
        case IgnoredAuth() if success:
            return f"answered {status} without valid credentials", "accepted"
        case UnsupportedMethod() if success:
            return f"answered {status} to a method that the document does not offer", "accepted"
        case UseAfterFree() if success:
            return f"answered {status} for a resource that was deleted", "accessible"
        case EnsureResourceAvailability() if status in (404, 410):
            return f"answered {status} for a resource that was just created", "unavailable"
        case NegativeDataRejection(location=location, rule=rule) if success:
            return f"answered {status} to invalid data: {location} ({rule})", f"{location} {rule}"
        case PositiveDataAcceptance(also=also) if 400 <= status and status not in also and status not in _UNDECIDED:
            return f"answered {status} to valid data", f"status {status}"
        case StatusIs(any_of=wanted) if status not in wanted:
            return f"answered {status}, expected {' or '.join(map(str, wanted))}", f"status {status}"
        case StatusCodeConformance() if response is None and contract and contract.responses:
            documented = ", ".join(contract.responses)
            return f"answered {status}, documented: {documented}", f"status {status}"
    return None


_STATUS_KINDS: tuple[type[Check], ...] = (
    NotAServerError,
    IgnoredAuth,
    UnsupportedMethod,
    UseAfterFree,
    EnsureResourceAvailability,
    NegativeDataRejection,
    StatusIs,
    PositiveDataAcceptance,
    StatusCodeConformance,
)
"""Checks that the status alone decides, the telling ones first: the first that fails speaks for all, and what is known
before what is guessed."""
_STATUS_RANKS = {kind: rank for rank, kind in enumerate(_STATUS_KINDS)}


def _header_is(check: HeaderIs, answer: Answer, captured: Mapping[str, Any]) -> tuple[str, str] | None:
    wanted_name = check.name.lower()
    values = [value for name, value in answer.headers if name.lower() == wanted_name]
    if not values:
        return f"response header {check.name} is missing", f"{check.name.lower()} missing"
    wanted = None if check.equals is None else str(fill(check.equals, captured))
    if wanted is not None and wanted not in values:
        return f"response header {check.name} is {values[0]!r}, expected {wanted!r}", f"{check.name.lower()} value"
    return None


def _json_path_is(check: JsonPathIs, body: _Body, captured: Mapping[str, Any]) -> tuple[str, str] | None:
    document = body.document()
    if document is _NOTHING:
        return "the body is not JSON", "malformed"
    nodes = select(check.path, document)
    wanted = fill(check.value, captured)
    match check.op:
        case "exists":
            holds = bool(nodes)
        case "absent":
            holds = not nodes
        case "equals":
            holds = len(nodes) == 1 and equal(nodes[0], wanted)
        case "contains":
            holds = any(equal(node, wanted) for node in nodes)
        case "excludes":
            holds = not any(equal(node, wanted) for node in nodes)
        case "max_items":
            holds = len(nodes) <= wanted
        case "min_items":
            holds = len(nodes) >= wanted
    if holds:
        return None
    if check.op in ("max_items", "min_items"):
        observed = f"{len(nodes)} items"
    else:
        observed = msgspec.json.encode(nodes[0]).decode()[:_LONGEST] if nodes else "nothing"
    expectation = check.op if wanted is None else f"{check.op} {msgspec.json.encode(wanted).decode()[:_LONGEST]}"
    return f"{check.path} is {observed}, expected: {expectation}", f"{check.path} {check.op}"
