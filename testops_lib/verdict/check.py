"""Response -> failures: pure judging, no clock and no network."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache
from typing import Any

import jsonpath_rfc9535 as jsonpath
import jsonschema_rs
import msgspec
from jsonpath_rfc9535.segments import JSONPathChildSegment
from jsonpath_rfc9535.selectors import IndexSelector, NameSelector

from testops_lib.errors import CaseError
from testops_lib.http.answer import Answer, header_values, media_type
from testops_lib.http.body import NOTHING as _NOTHING
from testops_lib.http.body import Unreadable, decode, why_unreadable
from testops_lib.model import (
    Basis,
    Check,
    ContentTypeConformance,
    Contract,
    EnsureResourceAvailability,
    Failure,
    FilterHonoured,
    FormBody,
    HeaderContract,
    HeaderIs,
    Idempotency,
    IgnoredAuth,
    JsonBody,
    JsonPathIs,
    MaxResponseTime,
    MethodAgreement,
    NegativeDataRejection,
    NoReflection,
    NotAServerError,
    ObjectLevelAuthorization,
    PaginationConsistency,
    PositiveDataAcceptance,
    Request,
    ResponseContract,
    ResponseHeadersConformance,
    ResponseSchemaConformance,
    StatusCodeConformance,
    StatusIs,
    Step,
    TextBody,
    UnsupportedMethod,
    UseAfterFree,
)
from testops_lib.placeholder import fill
from testops_lib.verdict.fingerprint import normalise
from testops_lib.verdict.volatile import alike

_LIMIT = 8
"""Schema errors reported of one body."""

_LONGEST = 16_384
"""Characters quoted of an answer. Whoever keeps a message masks secrets in it first and shortens it afterwards: a
secret that was cut is not found any more."""

_UNDECIDED = frozenset({401, 403, 407, 429})
"""Answers to valid data that say something of the credentials or the pace, nothing of the data."""

_REFUSALS = frozenset({400, 409, 422})
"""Answers to data that is valid by its schema and breaks another rule, if the document lists them."""

_OF_THE_BODY = (
    ResponseSchemaConformance,
    JsonPathIs,
    Idempotency,
    PaginationConsistency,
    FilterHonoured,
    NoReflection,
)

_CONFORMANCE = (ContentTypeConformance, ResponseSchemaConformance, ResponseHeadersConformance)

_SHARED = (
    StatusCodeConformance,
    ContentTypeConformance,
    ResponseHeadersConformance,
    NegativeDataRejection,
    MethodAgreement,
)
"""Checks whose cause says all there is: two operations that fail them with one cause have one defect (a framework's
habit, a shared parameter, a missing sentence of the document)."""

_COMPONENT = "component "
"""How the cause begins when a body breaks a schema that operations share."""

_MOST_READ, _LONGEST_REASON = 65_536, 160
_LEAST_ECHO = 3
_LEAST_WORDS = 2
"""Words beyond the usual ones that a reason must have to tell causes apart."""
_WORD = re.compile(r"[^\W\d_]{3,}")
_SHORT_QUOTED = re.compile(r"""(?<!\w)(["'`]).{0,2}\1(?!\w)""")
_ERROR_MEMBERS = ("detail", "message", "error_description", "error", "errors", "msg", "title", "reason")
_REASON_WORDS = frozenset(
    "internal server error errors exception failure failed unexpected unknown unhandled occurred something went wrong "
    "bad gateway service unavailable temporarily timeout the was has have been your our this that please try again "
    "later contact support administrator request response could not cannot processed process processing while with for "
    "and oops sorry http status code null none problem encountered condition prevented from fulfilling about "
    "blank".split()
)

_Validator = jsonschema_rs.Draft202012Validator

_UNREAD = object()


def why_unjudged(answer: Answer) -> str:
    """Why nothing can be said of the body; "" when something can."""
    if answer.streaming:
        return "the answer is a stream"
    if answer.truncated:
        return f"the body is longer than {len(answer.body):,} bytes"
    return answer.undecodable


def unjudged(step: Step, answer: Answer) -> tuple[str, ...]:
    """The checks of the body that were not made, each with the reason: `response_schema_conformance: …`."""
    why = why_unjudged(answer)
    if not why:
        return ()
    kinds = dict.fromkeys(type(check).__struct_config__.tag for check in step.checks if isinstance(check, _OF_THE_BODY))
    return tuple(f"{kind}: {why}" for kind in kinds)


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


def response_for(contract: Contract, status: int) -> ResponseContract | None:
    """The documented response of a status: exact, then its range (`4XX`), then `default`."""
    responses = contract.responses
    return responses.get(str(status)) or responses.get(f"{status // 100}XX") or responses.get("default")


def is_json(media: str) -> bool:
    """`application/json`, `text/json` and every `+json` type."""
    return media in ("application/json", "text/json") or media.endswith("+json")


def fits(documented: str, actual: str, *, strict: bool = False) -> bool:
    """Whether a media type is one that a documented type or range (`*/*`, `text/*`) means.

    A JSON type of its own (`application/problem+json`) can be read as the documented `application/json`; `strict`: it
    is another type all the same.
    """
    if documented == actual:
        return True
    documented = documented.split(";", 1)[0].strip().lower()
    if documented in (actual, "*/*", "*"):
        return True
    head, _, tail = documented.partition("/")
    if tail == "*":
        return actual.partition("/")[0] == head
    return not strict and documented == "application/json" and actual.endswith("+json")


def _refuse(uri: str) -> Any:
    raise ValueError(f"a contract refers to {uri}, outside itself")


def compile_schema(schema: Any) -> _Validator:
    """A validator that asserts formats and fetches nothing.

    Raises:
        ValueError: the schema cannot be compiled (jsonschema_rs.ValidationError is one).
    """
    return jsonschema_rs.Draft202012Validator(schema, validate_formats=True, retriever=_refuse)


class _Documented:
    """What a contract says of one status of an operation."""

    __slots__ = ("accepted", "contract", "listed", "response", "validators")

    def __init__(self, contract: Contract | None, status: int) -> None:
        self.contract = contract
        self.response = response_for(contract, status) if contract else None
        self.listed = contract is not None and bool({str(status), f"{status // 100}XX"} & contract.responses.keys())
        """The document lists the status itself, or its range; `default` says nothing of it."""
        self.accepted = contract is not None and status in contract.accepted_statuses
        self.validators: dict[tuple[str, str], _Validator | None] = {}
        """By `body` and documented media type, or `header` and name."""

    def validator(self, part: str, name: str, schema: Any) -> _Validator | None:
        """None: anything is valid."""
        key = part, name
        if key not in self.validators:
            try:
                self.validators[key] = None if schema is None or schema is True else compile_schema(schema)
            except ValueError:
                self.validators[key] = None
        return self.validators[key]


class Judge:
    """Judges answers against contracts; each schema is compiled once, when first needed."""

    def __init__(self, contracts: Mapping[str, Contract]) -> None:
        self._contracts = contracts
        self._known: dict[tuple[str, int], _Documented] = {}

    def judge(self, step: Step, answer: Answer, captured: Mapping[str, Any], *, index: int = 0) -> tuple[Failure, ...]:
        """What did not hold, in order of importance.

        Consequences are not repeated: after a server error, an unwanted acceptance or refusal, or an undocumented
        status nothing else is said of the same answer. What is expected of headers and values is expected of the answer
        that was asked for (a 2xx, or the statuses listed), not of a refusal in its place. `captured` holds the names of
        earlier steps, and `unique`.
        """
        if not step.checks:
            return ()
        status = answer.status
        documented = self._known.get((step.operation, status))
        if documented is None:
            documented = _Documented(self._contracts.get(step.operation), status)
            self._known[step.operation, status] = documented
        checks: dict[type[Check], Check] = {type(check): check for check in step.checks}
        if not documented.accepted:
            wrong = {
                kind: said
                for kind, check in checks.items()
                if (fault := _STATUS_FAULTS.get(kind)) and (said := fault(check, status, documented))
            }
            if wrong:
                ordered = [
                    _failure(checks[kind], step, index, wrong[kind], basis=_weaker(checks[kind], status, documented))
                    for kind in _STATUS_FAULTS
                    if kind in wrong
                ]
                failure = next((failure for failure in ordered if failure.basis != "guess"), ordered[0])
                return (_with_reason(failure, step, answer, captured) if status >= 500 else failure,)
        body = _Body(answer.body)
        readable = not (answer.truncated or answer.streaming or answer.undecodable)
        found = _conformance(step, checks, answer, documented, body, index) if documented.response is not None else []
        due = 200 <= status < 300 or NegativeDataRejection in checks
        if isinstance(wanted := checks.get(StatusIs), StatusIs):
            due = status in wanted.any_of
        for check in step.checks:
            if type(check) in _JUDGED_AT_ONCE:
                continue
            if not readable and isinstance(check, _OF_THE_BODY):
                continue
            if isinstance(check, HeaderIs):
                said = _header_is(check, answer, captured) if due else None
            elif isinstance(check, JsonPathIs):
                said = _json_path_is(check, body, captured) if due else None
            elif (oracle := _ORACLES.get(type(check))) is not None:
                said = oracle(check, answer, body, captured)
            elif isinstance(check, MaxResponseTime) and not found and answer.elapsed_ms > check.limit_ms:
                said = f"answered after {answer.elapsed_ms:.0f} ms, limit {check.limit_ms} ms", "slow"
            else:
                continue
            if said:
                disputed = isinstance(check, JsonPathIs) and body.disputed()
                found.append(_failure(check, step, index, said, disputed=disputed))
        return tuple(found)


def _failure(
    check: Check, step: Step, index: int, said: tuple[str, str], *, basis: Basis | None = None, disputed: bool = False
) -> Failure:
    """basis: the check's own by default. disputed: others may well read what we cannot, so it is a guess that something
    is wrong.
    """
    shared = isinstance(check, _SHARED) or said[1].startswith(_COMPONENT)
    return Failure(
        check=type(check).__struct_config__.tag,  # type: ignore[arg-type]
        operation=step.operation,
        message=said[0],
        cause=said[1],
        shared=shared,
        basis="guess" if disputed else basis or check.basis,
        quote=check.quote,
        step=index,
    )


def _weaker(check: Check, status: int, documented: _Documented) -> Basis | None:
    """The basis of a wrong status that the document itself lists, where it is not the check's own.

    A declared 501 or 503 may be by design. A declared 500 contradicts no document, but HTTP calls it an unexpected
    condition (RFC 9110, 15.6.1).
    """
    if check.basis != "spec" or not documented.listed:
        return None
    if status >= 500 and isinstance(check, NotAServerError | PositiveDataAcceptance):
        return "standard" if status == 500 else "guess"
    if isinstance(check, PositiveDataAcceptance) and status in _REFUSALS:
        return None if check.at_limit and status != 409 else "guess"
    return None


def _with_reason(failure: Failure, step: Step, answer: Answer, captured: Mapping[str, Any]) -> Failure:
    """A server error with what its body says of the reason, if it says anything: alike reasons are one finding."""
    if failure.check != NotAServerError.__struct_config__.tag:
        return failure
    reason = _reason(answer, [*_sent_values(step.request), *map(_as_text, captured.values())])
    if not reason:
        return failure
    message, cause = f"{failure.message}: {reason}", f"{failure.cause}: {normalise(reason, quoted=False)}"
    return msgspec.structs.replace(failure, message=message, cause=cause, shared=True)


def _reason(answer: Answer, sent: Iterable[str]) -> str:
    """The first line of an error's text without what the request sent, or "" when it says nothing particular."""
    body = answer.body[:_MOST_READ]
    media = media_type(answer.headers)
    if is_json(media):
        texts = list(_error_texts(decode(body), 0))
    elif media in ("text/plain", ""):
        texts = [body.decode("utf-8", "replace")]
    else:
        return ""
    for text in texts:
        line = next((line.strip() for line in text.splitlines() if line.strip()), "")[:_LONGEST_REASON]
        for value in sorted(sent, key=len, reverse=True):
            if len(value) >= _LEAST_ECHO and value.casefold() not in _REASON_WORDS:
                line = line.replace(value, "*")
        line = _SHORT_QUOTED.sub("'*'", line)
        if len(set(_WORD.findall(line.casefold())) - _REASON_WORDS) >= _LEAST_WORDS:
            return line
    return ""


def _error_texts(document: Any, depth: int) -> Iterable[str]:
    """The texts of an error document that usually say what is wrong, the most telling first (RFC 9457, section 3.1)."""
    if isinstance(document, str):
        yield document
    elif isinstance(document, list) and depth < 3:
        for item in document[:1]:
            yield from _error_texts(item, depth + 1)
    elif isinstance(document, dict) and depth < 3:
        for name in _ERROR_MEMBERS:
            if name in document:
                yield from _error_texts(document[name], depth + 1)


def _sent_values(request: Request) -> Iterable[str]:
    """The texts that a request sends as values, anywhere."""
    yield from request.path.split("/")
    for _, value in (*request.query, *request.headers, *request.cookies):
        yield value
    match request.body:
        case JsonBody(value=document):
            yield from _leaf_texts(document)
        case FormBody(fields=fields):
            yield from (value for _, value in fields)
        case TextBody(text=text):
            yield text


def _leaf_texts(value: Any) -> Iterable[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list | tuple):
        for item in value.values() if isinstance(value, dict) else value:
            yield from _leaf_texts(item)


def _conformance(
    step: Step, checks: Mapping[type[Check], Check], answer: Answer, documented: _Documented, body: _Body, index: int
) -> list[Failure]:
    """What content type, headers and body lack of what the contract says of them."""
    found: list[Failure] = []
    typed, bodied, headed = map(checks.get, _CONFORMANCE)
    response = documented.response
    assert response is not None
    if step.request.method == "HEAD" or answer.status in (204, 205, 304) or not answer.body:
        typed = bodied = None
    media = media_type(answer.headers) if typed or bodied else ""
    if typed and response.content and not any(fits(known, media, strict=True) for known in response.content):
        alike = any(fits(known, media) for known in response.content)
        bodied = bodied if alike else None
        wanted = ", ".join(response.content)
        said = f"content type {media or 'missing'}, documented: {wanted}", f"{media or 'missing'} for {wanted}"
        found.append(_failure(typed, step, index, said, basis="guess" if alike else None))
    if headed and response.headers:
        found += [_failure(headed, step, index, said) for said in _header_faults(documented, response, answer)]
    if bodied and not (answer.truncated or answer.streaming or answer.undecodable):
        faults = list(_body_faults(documented, response, media, answer.status, body))
        disputed = bool(faults) and body.disputed()
        found += [_failure(bodied, step, index, said, disputed=disputed) for said in faults]
    return found


def _header_faults(documented: _Documented, response: ResponseContract, answer: Answer) -> Iterable[tuple[str, str]]:
    for name, contract in response.headers.items():
        lower = name.lower()
        values = header_values(answer.headers, lower)
        if not values:
            if contract.required:
                yield f"response header {name} is missing", f"{answer.status} {lower} missing"
            continue
        validator = documented.validator("header", name, contract.schema)
        if validator and not any(map(validator.is_valid, _header_readings(contract, values))):
            yield (
                f"response header {name}: {', '.join(values)[:_LONGEST]!r} does not fit its schema",
                f"{answer.status} {lower} schema",
            )


def _body_faults(
    documented: _Documented, response: ResponseContract, media: str, status: int, body: _Body
) -> Iterable[tuple[str, str]]:
    content = response.content
    known = media
    if media not in content or len(content) > 1:
        known = next((each for each in content if fits(each, media)), "")
    if not known or not is_json(media):
        return ()
    document = body.document()
    if document is _NOTHING:
        return [(body.unreadable.message, f"{status} {body.unreadable.cause}")]
    validator = documented.validator("body", known, content[known].schema)
    if validator is None or validator.is_valid(document):
        return ()
    return _schema_faults(validator, document, status)


def _schema_faults(validator: _Validator, document: Any, status: int) -> Iterable[tuple[str, str]]:
    seen = set()
    for error in validator.iter_errors(document):
        place = "/" + "/".join("*" if isinstance(part, int) else part for part in error.instance_path)
        rule = str(error.schema_path[-1]) if error.schema_path else "false"
        component = (
            "/".join(str(part) for part in error.schema_path[1:-1]) if error.schema_path[:1] == ["$defs"] else ""
        )
        message = error.message[:_LONGEST]
        cause = f"{_COMPONENT}{component} {rule}" if component else f"{status} {place} {rule}"
        if rule in ("required", "additionalProperties", "unevaluatedProperties"):
            cause += " " + message
        if cause not in seen:
            seen.add(cause)
            yield f"body at {place}: {message}", cause
        if len(seen) >= _LIMIT:
            return


class _Body:
    """A body that is decoded once, when first asked for."""

    __slots__ = ("_data", "_document", "_unreadable")

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._document: Any = _UNREAD
        self._unreadable: Unreadable | None = None

    def document(self) -> Any:
        if self._document is _UNREAD:
            self._document = decode(self._data)
        return self._document

    @property
    def unreadable(self) -> Unreadable:
        """Why there is no document."""
        if self._unreadable is None:
            self._unreadable = why_unreadable(self._data)
        return self._unreadable

    def disputed(self) -> bool:
        """It is JSON, but we cannot read it."""
        return self.document() is _NOTHING and self.unreadable.is_json


def _header_readings(contract: HeaderContract, values: list[str]) -> Iterable[Any]:
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


def _server_error(check: Any, status: int, documented: _Documented) -> tuple[str, str] | None:
    return (f"answered {status}", f"status {status}") if status >= 500 else None


def _accepted_anyway(what: str, cause: str) -> _StatusFault:
    def fault(check: Any, status: int, documented: _Documented) -> tuple[str, str] | None:
        return (f"answered {status} {what}", cause) if 200 <= status < 300 else None

    return fault


def _unavailable(check: Any, status: int, documented: _Documented) -> tuple[str, str] | None:
    if status not in (404, 410):
        return None
    return f"answered {status} for a resource that was just created", "unavailable"


def _not_rejected(check: NegativeDataRejection, status: int, documented: _Documented) -> tuple[str, str] | None:
    if not 200 <= status < 300:
        return None
    return f"answered {status} to invalid data: {check.location} ({check.rule})", f"{check.location} {check.rule}"


def _not_accepted(check: PositiveDataAcceptance, status: int, documented: _Documented) -> tuple[str, str] | None:
    if status < 400 or status in check.also or status in _UNDECIDED:
        return None
    return f"answered {status} to valid data", f"status {status}"


def _another_status(check: StatusIs, status: int, documented: _Documented) -> tuple[str, str] | None:
    if status in check.any_of:
        return None
    return f"answered {status}, expected {' or '.join(map(str, check.any_of))}", f"status {status}"


def _undocumented(check: Any, status: int, documented: _Documented) -> tuple[str, str] | None:
    contract = documented.contract
    if documented.response is not None or contract is None or not contract.responses or status in check.also:
        return None
    instead = [known for known in contract.responses if known.startswith("2")] if 200 <= status < 300 else []
    cause = f"status {status} in place of {', '.join(instead)}" if instead else f"status {status}"
    return f"answered {status}, documented: {', '.join(contract.responses)}", cause


_StatusFault = Callable[[Any, int, _Documented], tuple[str, str] | None]
"""Message and cause when the status breaks the check."""

_STATUS_FAULTS: dict[type[Check], _StatusFault] = {
    NotAServerError: _server_error,
    IgnoredAuth: _accepted_anyway("without valid credentials", "accepted"),
    ObjectLevelAuthorization: _accepted_anyway("to another user than the one who made it", "accepted"),
    UnsupportedMethod: _accepted_anyway("to a method that the document does not offer", "accepted"),
    UseAfterFree: _accepted_anyway("for a resource that was deleted", "accessible"),
    EnsureResourceAvailability: _unavailable,
    NegativeDataRejection: _not_rejected,
    StatusIs: _another_status,
    PositiveDataAcceptance: _not_accepted,
    StatusCodeConformance: _undocumented,
}
"""Checks that the status alone decides, the telling ones first: the first that fails speaks for all, and what is known
before what is guessed."""

_JUDGED_AT_ONCE = frozenset({*_STATUS_FAULTS, *_CONFORMANCE})
"""Checks that have been judged before each of the others is looked at."""


def _repeated(check: Any, answer: Answer, body: _Body, captured: Mapping[str, Any]) -> tuple[str, str] | None:
    first = fill(check.value, captured)
    if not 200 <= answer.status < 300:
        return f"answered {answer.status} to a read that had just succeeded", f"status {answer.status}"
    document = body.document()
    if document is _NOTHING or not isinstance(first, dict | list) or alike(first, document):
        return None
    return "the same request, sent twice, was answered differently", "body"


def _page(check: Any, answer: Answer, body: _Body, captured: Mapping[str, Any]) -> tuple[str, str] | None:
    document, wanted = body.document(), fill(check.value, captured)
    if document is _NOTHING or not any(equal(node, wanted) for node in select(check.path, document)):
        return None
    shown = msgspec.json.encode(wanted).decode()[:_LONGEST]
    return f"{check.path} holds {shown}, which stood on an earlier page", f"{check.path} again"


def _filtered(check: Any, answer: Answer, body: _Body, captured: Mapping[str, Any]) -> tuple[str, str] | None:
    document = body.document()
    if document is _NOTHING or not 200 <= answer.status < 300:
        return None
    wanted = _as_text(fill(check.value, captured))
    other = next((node for node in select(check.path, document) if _as_text(node) != wanted), _NOTHING)
    if other is _NOTHING:
        return None
    shown = msgspec.json.encode(other).decode()[:_LONGEST]
    return f"asked for {check.parameter}={wanted[:_LONGEST]}, {check.path} holds {shown}", f"{check.parameter} ignored"


def _as_text(value: Any) -> str:
    return (value if isinstance(value, str) else msgspec.json.encode(value).decode()).casefold()


def _agreeing(check: Any, answer: Answer, body: _Body, captured: Mapping[str, Any]) -> tuple[str, str] | None:
    status = str(fill(check.status, captured))
    if status and answer.status not in _NOT_OFFERED and str(answer.status) != status:
        return f"HEAD answered {answer.status}, GET {status}", f"HEAD {answer.status} GET {status}"
    listed = ",".join(header_values(answer.headers, "allow")).upper()
    missing = [method for method in check.allow if method not in {each.strip() for each in listed.split(",")}]
    if listed and missing and 200 <= answer.status < 300:
        return f"OPTIONS lists {listed}, the document offers {', '.join(missing)} too", f"Allow without {missing}"
    return None


def _reflected(check: Any, answer: Answer, body: _Body, captured: Mapping[str, Any]) -> tuple[str, str] | None:
    if media_type(answer.headers) not in _PAGES or fill(check.text, captured).encode() not in answer.body:
        return None
    return "a text that was sent as data stands in the page as it is: it would act there", "reflected"


_NOT_OFFERED = (405, 501)
_PAGES = ("text/html", "application/xhtml+xml", "image/svg+xml")

_ORACLES: dict[type[Check], Callable[[Any, Answer, _Body, Mapping[str, Any]], tuple[str, str] | None]] = {
    Idempotency: _repeated,
    PaginationConsistency: _page,
    FilterHonoured: _filtered,
    MethodAgreement: _agreeing,
    NoReflection: _reflected,
}
"""What no document promises, by check: message and cause."""


def _header_is(check: HeaderIs, answer: Answer, captured: Mapping[str, Any]) -> tuple[str, str] | None:
    values = header_values(answer.headers, check.name.lower())
    if not values:
        return f"response header {check.name} is missing", f"{check.name.lower()} missing"
    wanted = None if check.equals is None else str(fill(check.equals, captured))
    if wanted is not None and wanted not in values:
        return f"response header {check.name} is {values[0]!r}, expected {wanted!r}", f"{check.name.lower()} value"
    return None


def _json_path_is(check: JsonPathIs, body: _Body, captured: Mapping[str, Any]) -> tuple[str, str] | None:
    document = body.document()
    if document is _NOTHING:
        return body.unreadable.message, body.unreadable.cause
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
