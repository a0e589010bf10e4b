"""What everything is: frozen values, without behaviour of the outside world.

`docs/decisions` and the glossary of `CONTRIBUTING.md` hold the words. Every struct rejects unknown
fields, so a document that says more than we understand is refused, not half-read.
"""

from __future__ import annotations

import hashlib
from datetime import datetime
from typing import Annotated, Any, Literal, get_args

import msgspec
from msgspec import Meta, Struct, field

Basis = Literal["spec", "example", "description", "guess", "human", "stable", "standard"]
"""Why a check may be believed. `standard`: HTTP itself says so, though the document does not. `guess` makes it
advisory: reported, never failing a gate alone. `stable`: a guess that held in many runs in a row."""

Intent = Literal["positive", "negative", "boundary", "stateful", "security"]

VerdictName = Literal["passed", "failed", "errored", "skipped"]
"""failed: it answered wrongly. errored: we could not find out. skipped: deliberately not executed."""

SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS", "TRACE"})

METHODS = ("GET", "HEAD", "OPTIONS", "POST", "PUT", "PATCH", "DELETE", "TRACE", "QUERY")

NO_CREDENTIALS = "none"
"""The identity under which a step sends no credentials at all."""

INVALID_CREDENTIALS = "invalid"
"""The identity under which a step sends well-formed credentials that nobody owns."""

Pairs = tuple[tuple[str, str], ...]

Count = Annotated[int, Meta(ge=0, le=1_000_000_000)]

Share = Annotated[float, Meta(ge=0, le=1)]

Status = Annotated[int, Meta(ge=100, le=599)]
"""An HTTP status code (RFC 9110, 15)."""


class Value(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """Base of the values below: frozen, keyword-only, strict, defaults left out of JSON."""

    __test__ = False


# --------------------------------------------------------------------------- checks


class Check(Value, tag_field="check", frozen=True, kw_only=True):
    """What one response must fulfil: data until judged. The tag is its stable name."""

    basis: Basis = "spec"
    quote: str = ""
    """With basis `description`: the sentence the check was read from."""
    doubt: str = ""
    """With basis `guess`: the name of what makes it one (`testops_lib.doubts`)."""


class NotAServerError(Check, tag="not_a_server_error", frozen=True, kw_only=True):
    """The status is below 500."""


class StatusCodeConformance(Check, tag="status_code_conformance", frozen=True, kw_only=True):
    """The status is one the operation documents (`default` and `4XX` ranges count), or one of `also`."""

    also: tuple[int, ...] = ()


class ContentTypeConformance(Check, tag="content_type_conformance", frozen=True, kw_only=True):
    """The media type is one documented for the status."""


class ResponseHeadersConformance(Check, tag="response_headers_conformance", frozen=True, kw_only=True):
    """Documented required headers are there and every documented header fits its schema."""


class ResponseSchemaConformance(Check, tag="response_schema_conformance", frozen=True, kw_only=True):
    """The body fits the schema documented for the status and media type."""


class NegativeDataRejection(Check, tag="negative_data_rejection", frozen=True, kw_only=True):
    """Invalid data is not accepted: no 2xx."""

    location: str = ""
    """Where the invalid datum stands: `body/price`, `query/limit`, `header/X-Tenant`."""
    rule: str = ""
    """What it breaks: `minimum`, `type`, `required`, `enum`, `malformed`, `media_type`, …"""


class PositiveDataAcceptance(Check, tag="positive_data_acceptance", frozen=True, kw_only=True):
    """Valid data is accepted: a 2xx (or 3xx), or one of `also`.

    A refusal that the document lists (400, 409, 422) may rest on a rule that no schema says: it is a guess that it is
    wrong, where only the schema speaks for the data (basis `spec`).
    """

    also: tuple[int, ...] = ()
    at_limit: bool = False
    """The data is the usual but for one value at a limit that the schema states: a 400 or 422 contradicts it."""


class UseAfterFree(Check, tag="use_after_free", frozen=True, kw_only=True):
    """A deleted resource answers 404 or 410 (any 4xx is taken), never 2xx."""


class EnsureResourceAvailability(Check, tag="ensure_resource_availability", frozen=True, kw_only=True):
    """A resource just created can be read: not 404 or 410."""


class IgnoredAuth(Check, tag="ignored_auth", frozen=True, kw_only=True):
    """A protected operation without valid credentials does not answer 2xx."""


class UnsupportedMethod(Check, tag="unsupported_method", frozen=True, kw_only=True):
    """A method the document does not offer on the path is refused: no 2xx, no 5xx."""


class MaxResponseTime(Check, tag="max_response_time", frozen=True, kw_only=True):
    """The whole answer arrived within the limit."""

    limit_ms: int


class StatusIs(Check, tag="status", frozen=True, kw_only=True):
    """The status is one of those listed."""

    any_of: tuple[int, ...]


class HeaderIs(Check, tag="header", frozen=True, kw_only=True):
    """A response header is present and, when `equals` is given, has exactly this value (after substitution)."""

    name: str
    equals: str | None = None


class ObjectLevelAuthorization(Check, tag="object_level_authorization", frozen=True, kw_only=True):
    """One user does not reach what another has made: no 2xx."""


class Idempotency(Check, tag="idempotency", frozen=True, kw_only=True):
    """A repeated read gives the same JSON, volatile members and the order of lists aside (RFC 9110, 9.2.2)."""

    value: Any
    """The earlier answer's body: usually `{name}` of a capture."""


class PaginationConsistency(Check, tag="pagination_consistency", frozen=True, kw_only=True):
    """What `path` selects on this page does not hold `value`, which stood on an earlier one."""

    path: str
    value: Any


class FilterHonoured(Check, tag="filter_honoured", frozen=True, kw_only=True):
    """Each node that `path` selects is the value that was asked for (as text, in small letters)."""

    parameter: str
    path: str
    value: Any


class MethodAgreement(Check, tag="method_agreement", frozen=True, kw_only=True):
    """HEAD answers the status of GET, unless it is not offered (405, 501); OPTIONS lists the documented methods, if it
    lists any (RFC 9110, 9.3.2 and 10.2.1).
    """

    status: str = ""
    """HEAD: GET's status, usually `{name}` of a capture."""
    allow: tuple[str, ...] = ()
    """OPTIONS: methods that a header Allow must hold."""


class NoReflection(Check, tag="no_reflection", frozen=True, kw_only=True):
    """A page (HTML, SVG) does not hold the text, which was sent as data, as it is."""

    text: str


class JsonPathIs(Check, tag="jsonpath", frozen=True, kw_only=True):
    """What an RFC 9535 query selects from the JSON body satisfies a condition.

    op: `exists` at least one node; `absent` none; `equals` exactly one node, equal to `value` as JSON
    (numbers by value, captured names substituted); `contains` some node equals `value`;
    `excludes` no node equals `value`; `max_items`/`min_items` the number of selected nodes against `value`.
    """

    path: str
    op: Literal["exists", "absent", "equals", "contains", "excludes", "max_items", "min_items"] = "exists"
    value: Any = None


AnyCheck = (
    NotAServerError
    | StatusCodeConformance
    | ContentTypeConformance
    | ResponseHeadersConformance
    | ResponseSchemaConformance
    | NegativeDataRejection
    | PositiveDataAcceptance
    | UseAfterFree
    | EnsureResourceAvailability
    | IgnoredAuth
    | UnsupportedMethod
    | MaxResponseTime
    | StatusIs
    | HeaderIs
    | JsonPathIs
    | ObjectLevelAuthorization
    | Idempotency
    | PaginationConsistency
    | FilterHonoured
    | MethodAgreement
    | NoReflection
)

NO_ANSWER = "no_answer"
"""Not asked for by a case: the connection was closed or broken without a whole response."""

CONTENT_ENCODING = "content_encoding_conformance"
"""Not asked for by a case: the body is not what the header Content-Encoding says."""

ENDLESS = "endless_response"
"""Not asked for by a case: the body went on far beyond the policy's limit, and nothing announced its end."""

RESPONSE_TIMEOUT = "response_timeout"
"""Not asked for by a case: no request of an operation was answered within the deadline, while others were."""

SLOWER = "response_time_history"
"""Not asked for by a case: an operation is slower than in any of the last runs."""

DIFFERENTIAL = "differential"
"""Not asked for by a case: two runs answered differently."""

CONCURRENCY = "concurrency"
"""Not asked for by a case: failures that appeared while other cases ran, and not when repeated alone."""

CHECKS = frozenset(str(kind.__struct_config__.tag) for kind in get_args(AnyCheck)) | {
    NO_ANSWER,
    CONTENT_ENCODING,
    ENDLESS,
    RESPONSE_TIMEOUT,
    SLOWER,
    DIFFERENTIAL,
    CONCURRENCY,
}
"""Names of everything that a finding may be about."""

WFC_CODES: dict[str, int] = {
    "not_a_server_error": 100,
    "status_code_conformance": 101,
    "content_type_conformance": 101,
    "response_headers_conformance": 101,
    "response_schema_conformance": 101,
    "negative_data_rejection": 102,
    "use_after_free": 103,
    "object_level_authorization": 206,
    "ignored_auth": 207,
    "unsupported_method": 210,
    "no_reflection": 201,
}
"""Check name -> Web Fuzzing Commons fault code, where there is one."""

Severity = Literal["critical", "high", "medium", "low"]
"""critical: the service crashes, or shows somebody else's data. high: server errors, broken authentication, lost or
stale data. medium: it breaks its contract. low: it answers in a way that nobody documented, or slower than before."""

SEVERITIES: dict[str, Severity] = {
    "no_answer": "critical",
    "object_level_authorization": "critical",
    "not_a_server_error": "high",
    "response_timeout": "high",
    "ignored_auth": "high",
    "no_reflection": "high",
    "use_after_free": "high",
    "ensure_resource_availability": "high",
    "pagination_consistency": "high",
    "jsonpath": "medium",
    "response_schema_conformance": "medium",
    "status": "medium",
    "negative_data_rejection": "medium",
    "positive_data_acceptance": "medium",
    "unsupported_method": "medium",
    "filter_honoured": "medium",
    "idempotency": "medium",
    "header": "medium",
    "response_headers_conformance": "medium",
    "content_type_conformance": "medium",
    "content_encoding_conformance": "medium",
    "endless_response": "medium",
    "max_response_time": "medium",
    "concurrency": "medium",
    "differential": "medium",
    "status_code_conformance": "low",
    "method_agreement": "low",
    "response_time_history": "low",
}
"""Check name -> severity of what it finds, the most severe first."""


def severity_of(check: str) -> Severity:
    """The check's severity; `medium` when it has none of its own."""
    return SEVERITIES.get(check, "medium")


# --------------------------------------------------------------------------- case


class JsonBody(Value, tag="json", tag_field="kind", frozen=True, kw_only=True):
    """A JSON value. A string leaf that is exactly `{name}` becomes the captured value with its own type."""

    value: Any
    media_type: str = "application/json"


class TextBody(Value, tag="text", tag_field="kind", frozen=True, kw_only=True):
    """Text sent as UTF-8 as it stands (malformed JSON lives here), with any media type, or with none ("")."""

    text: str
    media_type: str = "text/plain"


class BytesBody(Value, tag="bytes", tag_field="kind", frozen=True, kw_only=True):
    data: bytes
    media_type: str = "application/octet-stream"


class FormBody(Value, tag="form", tag_field="kind", frozen=True, kw_only=True):
    """application/x-www-form-urlencoded, in this order."""

    fields: Pairs


class Part(Value, frozen=True, kw_only=True):
    name: str
    data: bytes
    filename: str = ""
    media_type: str = ""


class MultipartBody(Value, tag="multipart", tag_field="kind", frozen=True, kw_only=True):
    """multipart/form-data."""

    parts: tuple[Part, ...]


AnyBody = JsonBody | TextBody | BytesBody | FormBody | MultipartBody


class Request(Value, frozen=True, kw_only=True):
    """One HTTP request as data.

    `{name}` in the path, in query and header values and in string leaves of the body is replaced when, and only
    when, an earlier step of the case captured `name`, or it is `{unique}`: a token of 12 lower-case hex digits, new
    for every attempt. Nothing else is ever substituted or evaluated.
    """

    method: str
    path: str
    """Below the base URL, starts with `/`, percent-encoded where it must be; captured values are encoded when
    substituted."""
    query: Pairs = ()
    """Names and values unencoded, in order; encoded when sent."""
    headers: Pairs = ()
    cookies: Pairs = ()
    body: AnyBody | None = None


class Capture(Value, frozen=True, kw_only=True):
    """A value kept from a response for later steps. A capture that selects nothing ends the case as errored,
    unless `optional`.
    """

    name: str
    source: Literal["body", "header", "status"] = "body"
    path: str = ""
    """body: an RFC 9535 query, its first node is taken; header: the header's name."""
    optional: bool = False


class Step(Value, frozen=True, kw_only=True):
    operation: str
    """`GET /pets/{id}`: the operation of the spec this request belongs to; its contract judges conformance."""
    request: Request
    checks: tuple[AnyCheck, ...] = ()
    captures: tuple[Capture, ...] = ()
    identity: str = ""
    """"" the target's default identity; a name from the authentication file; `none`; `invalid`."""
    setup: bool = False
    """The step only prepares the case: when its status is not 2xx the case is skipped as `setup failed`, not failed,
    but its own checks still count."""


class Provenance(Value, frozen=True, kw_only=True):
    source: str
    """rules, property, gemini, openai, import, human."""
    version: str = ""
    model: str = ""
    prompt: str = ""
    """Version of the prompt."""


class Case(Value, frozen=True, kw_only=True):
    """One test: an ordered list of steps, as data. `id` is the hash of the content (`case_id`)."""

    id: str
    name: str
    """For people: what is tested, in one line."""
    intent: Intent
    operation: str
    """The operation the case is about (its steps may call others)."""
    steps: tuple[Step, ...]
    cleanup: tuple[Step, ...] = ()
    """Run after the steps whatever happened, as far as their captures exist; their failures never fail the case."""
    origin: Provenance
    tags: tuple[str, ...] = ()
    last: bool = False
    """May end the session, the account or the service: runs after every other case, under an identity of its own."""
    repeat: int = 0
    """Above 0: a repetition within the run, of this number. It runs alone, to see whether a failure comes back; no part
    of the content."""


def execution_key(case: str, repeat: int) -> str:
    """What tells the executions of a case within an attempt apart: its id, and of a repetition its number as well."""
    return f"{case}#{repeat}" if repeat else case


class _Content(Value, frozen=True, kw_only=True):
    intent: Intent
    operation: str
    steps: tuple[Step, ...]
    cleanup: tuple[Step, ...]
    last: bool


def case_id(intent: Intent, operation: str, steps: tuple[Step, ...], cleanup: tuple[Step, ...], last: bool) -> str:
    """32 hex digits of SHA-256 over the canonical JSON of what the test does (not its name, tags, origin or doubts)."""
    content = _Content(
        intent=intent,
        operation=operation,
        steps=tuple(map(_without_doubts, steps)),
        cleanup=tuple(map(_without_doubts, cleanup)),
        last=last,
    )
    return hashlib.sha256(msgspec.json.encode(content, order="deterministic")).hexdigest()[:32]


def _without_doubts(step: Step) -> Step:
    """The step as it is hashed: a doubt explains a basis, and the same request with the same basis is the same test."""
    if not any(check.doubt for check in step.checks):
        return step
    return msgspec.structs.replace(
        step, checks=tuple(msgspec.structs.replace(check, doubt="") if check.doubt else check for check in step.checks)
    )


def make_case(
    *,
    name: str,
    intent: Intent,
    operation: str,
    steps: tuple[Step, ...],
    origin: Provenance,
    cleanup: tuple[Step, ...] = (),
    tags: tuple[str, ...] = (),
    last: bool = False,
) -> Case:
    """A case with its content-hash id: equal content, equal id."""
    return Case(
        id=case_id(intent, operation, steps, cleanup, last),
        name=name,
        intent=intent,
        operation=operation,
        steps=steps,
        cleanup=cleanup,
        origin=origin,
        tags=tags,
        last=last,
    )


# --------------------------------------------------------------------------- plan: what a runner must know of a target


class MediaContract(Value, frozen=True, kw_only=True):
    schema: Any = None
    """JSON Schema 2020-12, self-contained (`$ref` only into its own `$defs`); None: anything."""


class HeaderContract(Value, frozen=True, kw_only=True):
    required: bool = False
    schema: Any = None


class ResponseContract(Value, frozen=True, kw_only=True):
    content: dict[str, MediaContract] = field(default_factory=dict)
    """Media type (may hold wildcards) -> schema. Empty: no body is documented."""
    headers: dict[str, HeaderContract] = field(default_factory=dict)


class Existing(Value, frozen=True, kw_only=True):
    """Where a thing that exists already can be had from, when the operation that makes such things is refused."""

    operation: str = ""
    """A list: `GET /categories`. "": the document or the target file states `values`."""
    request: Request | None = None
    beside: bool = False
    """The list stands at the path of the refused request, whose path is taken."""
    places: dict[str, str] = field(default_factory=dict)
    """Where the refused operation's answer would hold a value -> where the list's answer does (both RFC 9535)."""
    values: dict[str, str | int | float] = field(default_factory=dict)
    """Where the refused operation's answer would hold a value -> the stated value."""


class Maker(Value, frozen=True, kw_only=True):
    """A request whose success makes a thing, and where the thing's id stands."""

    operation: str
    source: Literal["body", "header", "request", "path", "answer"] = "body"
    """body, header: of the answer; request: a member of the JSON body that was sent; path: a parameter of the path that
    was sent; answer: nothing says where, so the answer's `id` or the member that is called as the parameter."""
    path: str = ""
    """RFC 9535 query (body), or a name."""
    below: bool = True
    """The thing lies below the very path that made it."""
    certain: bool = True
    """It is surely the same kind of thing; otherwise only an id that no other thing can have is taken for it."""


class Removal(Value, frozen=True, kw_only=True):
    """How the document lets a thing be deleted that an operation has made."""

    operation: str
    """`DELETE /orders/{order_id}`: needs nothing but its path."""
    maker: Maker
    """Where the last path parameter's value stands; those before it are the maker's own, in order."""


AccountChange = Literal["", "session", "account"]
"""What a request may do to whoever sends it: end the session; change the password, token or account."""


class Ownership(Value, frozen=True, kw_only=True):
    """What the document says of the things an operation makes, changes and deletes."""

    things: dict[str, tuple[Maker, ...]] = field(default_factory=dict)
    """Place of an id in the request (`path/order_id`, `query/id`, `body/id`) -> who makes such things."""
    collection: bool = False
    """The path is that of a whole collection: DELETE and PUT concern all of its things."""
    makes: bool = False
    removal: Removal | None = None
    account: AccountChange = ""


class Contract(Value, tag="contract", tag_field="kind", frozen=True, kw_only=True):
    """What the spec promises of one operation's answers: all that judging needs, without the spec."""

    operation: str
    responses: dict[str, ResponseContract]
    """By `200`, `4XX`, `default`."""
    protected: bool = False
    accepted_statuses: tuple[int, ...] = ()
    """Statuses that the target file declares to be by design: neither server errors nor undocumented."""
    existing: tuple[Existing, ...] = ()
    """Where things such as this operation makes can be had from, best first."""
    ownership: Ownership | None = None
    """None: nobody looked; then each path parameter is taken for an id."""


_HeaderName = Annotated[
    str,
    Meta(
        pattern=r"^(?!(?i:authorization|connection|content-.*|cookie|expect|host|te|trailer|transfer-encoding|upgrade)$)"
        r"[!#$%&'*+.^_`|~0-9A-Za-z-]*$",
        max_length=100,
    ),
]


class Trace(Value, frozen=True, kw_only=True):
    """Headers that tell the target which run and case a request belongs to, so that its logs can be joined; "": that
    one is not sent.
    """

    run: _HeaderName = "X-TestOps-Run"
    case: _HeaderName = "X-TestOps-Case"


class Policy(Value, frozen=True, kw_only=True):
    """What may be sent to a target, and how fast."""

    methods: Literal["safe", "all"] = "all"
    foreign: Literal["never", "read", "write"] = "read"
    """What may be done to things that the run did not make, such as those that lists show or ids that were guessed:
    nothing, read them, or change and delete them as well."""
    allow_private: bool = False
    """Loopback and private addresses are allowed. Link-local ones never are."""
    hosts: tuple[str, ...] = ()
    """Other hosts than the base URL's that may be called (redirects); empty: none."""
    concurrency: Annotated[int, Meta(ge=1, le=1_000)] = 8
    requests_per_second: Annotated[float, Meta(ge=0, le=1_000_000)] = 0
    """0: no limit."""
    request_timeout_s: Annotated[float, Meta(gt=0, le=3_600)] = 10
    case_timeout_s: Annotated[float, Meta(gt=0, le=86_400)] = 60
    max_response_bytes: Annotated[int, Meta(ge=1, le=1_000_000_000)] = 4_000_000
    max_response_ms: Count = 0
    """Limit of the check `max_response_time`; 0: the check is not made."""
    follow_redirects: Annotated[int, Meta(ge=0, le=20)] = 0
    verify_tls: bool = True
    breaker_after: Count = 10
    """Requests in a row without an answer, or answered 503, after which the target counts as down; 0: never."""
    breaker_wait_s: Annotated[float, Meta(ge=0, le=86_400)] = 120
    """How long a target that is down is waited for before the rest of a batch is skipped; a runner waits 30 s of it."""
    trace: bool | Trace = False
    """Tell the target by headers which run and case a request belongs to; true: by those of the default names."""
    cases_per_batch: Annotated[int, Meta(ge=1, le=1_000_000)] = 200
    on_doubt: Literal["repeat", "error"] = "repeat"
    """What becomes of a case with an unsafe method whose requests may have been sent by a runner that died, or of which
    no verdict is known: it is executed again, or errored."""


class BasicAuth(Value, frozen=True, kw_only=True):
    """User name and password of HTTP Basic (RFC 7617); either may hold `${NAME}`."""

    username: str
    password: str


class TokenUse(Value, frozen=True, kw_only=True):
    """WFC TokenHandling: where a login's token is found and how it is sent."""

    extract_from: Literal["body", "header", "cookie"]
    selector: str
    """JSON Pointer (body), name of the header or the cookie."""
    send_in: Literal["header", "query"]
    send_name: str
    send_template: str = "{token}"
    lifetime: str = ""
    """JSON Pointer to the seconds that the token lives (RFC 6749: `/expires_in`); "": unknown."""


class Invented(Value, frozen=True, kw_only=True):
    """WFC Generator: a text that stands for `place_holder` in the payloads of a user who is created; new each time."""

    place_holder: str
    prefix: str = ""
    postfix: str = ""
    min_length: int = 0
    max_length: int = 0
    """Of the whole text; 0: as it comes."""


class Creation(Value, frozen=True, kw_only=True):
    """WFC CreateUsers: the request that makes the user before the first login."""

    url: str
    """Absolute, or a path below the base URL's origin."""
    method: str = "POST"
    payload: str = ""
    media_type: str = "application/json"
    invented: tuple[Invented, ...] = ()


class Login(Value, frozen=True, kw_only=True):
    """WFC LoginEndpoint, simplified: the raw payload may hold `${NAME}` references to the environment."""

    url: str
    """Absolute, or a path below the base URL's origin."""
    method: str = "POST"
    payload: str = ""
    media_type: str = "application/json"
    headers: Pairs = ()
    basic: BasicAuth | None = None
    """An OAuth 2 client's id and secret: each form-encoded before they are joined (RFC 6749, 2.3.1)."""
    token: TokenUse | None = None
    expect_cookies: bool = False


class Identity(Value, frozen=True, kw_only=True):
    """One user of the target. Values may hold `${NAME}`: read from the environment when used, never stored."""

    name: str
    headers: Pairs = ()
    query: Pairs = ()
    cookies: Pairs = ()
    basic: BasicAuth | None = None
    login: Login | None = None
    create: Creation | None = None
    """The user does not exist yet; needs a `login`."""
    spare: bool = False
    """Nothing is lost when this user's password changes or the account ends."""


class Tls(Value, frozen=True, kw_only=True):
    """Certificates by path, or by `${NAME}` that holds a path or PEM text; read when used, never stored."""

    ca: str = ""
    """Authorities that are trusted, in place of the system's."""
    cert: str = ""
    """The certificate shown to the target's own origin."""
    key: str = ""
    """Of the certificate; "": it is in the same file. Without a password."""


class Plan(Value, tag="plan", tag_field="kind", frozen=True, kw_only=True):
    """The head of what a runner needs besides cases; contracts follow it record by record. Holds no secret."""

    target: str
    base_url: str
    """Without a trailing slash."""
    policy: Policy
    identities: tuple[Identity, ...] = ()
    """The first is the default."""
    tls: Tls = Tls()
    spec_title: str = ""
    spec_hash: str = ""
    given: dict[str, tuple[str, ...]] = field(default_factory=dict)
    """Path parameter -> values that the target file states: things may be made below them."""
    observe: bool = False
    """Results tell what the answers held (`StepOutcome.seen`, `said`): for another round of generation."""


# --------------------------------------------------------------------------- batch


class Batch(Value, frozen=True, kw_only=True):
    """An immutable slice of a topic: [first, end) of one partition."""

    topic: str
    partition: int
    first: int
    end: int

    def __str__(self) -> str:
        return f"{self.topic}:{self.partition}:{self.first}-{self.end}"


class BatchOrder(Value, tag="order", tag_field="kind", frozen=True, kw_only=True):
    """One batch, to be executed by a member of the fleet: what a runner's command line would hold, and until when."""

    id: str
    run: str
    plan: str
    batch: str
    attempt: int = 1
    results: str = ""
    """Where the run's results begin (`0:120,1:98`)."""
    outcomes: str = ""
    """Where the outcomes of this order and of the run's others begin."""
    partitions: tuple[int, ...]
    """Those of the orders' topic that the run's orders lie in: each stands for one part of the target's limits."""
    try_number: int = 1
    """Above 1: the batch may have been executed before."""
    down_since: float = 0
    """When the target was found down before (seconds since the epoch); 0: it was not."""
    expires: datetime
    """Later nobody waits for it any more, and it is not executed."""


class Taken(Value, tag="taken", tag_field="kind", frozen=True, kw_only=True):
    """A member began with an order. Delivered before it sends the first request."""

    order: str
    run: str
    member: str


class Returned(Value, tag="returned", tag_field="kind", frozen=True, kw_only=True):
    """A member gave an order back unfinished: it was stopped, or another one joined."""

    order: str
    run: str
    member: str


class Ended(Value, tag="ended", tag_field="kind", frozen=True, kw_only=True):
    """An order is done with. Delivered after all results of its batch."""

    order: str
    run: str
    member: str
    code: int
    """A runner's exit code: 0 done, 1 to be executed again, 2 it would not help."""
    text: str = ""


Outcome = Taken | Returned | Ended


# --------------------------------------------------------------------------- result


class RequestEvidence(Value, frozen=True, kw_only=True):
    """What was sent, redacted and cut. Enough to write a curl line."""

    method: str
    url: str
    headers: Pairs = ()
    body: str = ""
    body_bytes: int = 0


class ResponseEvidence(Value, frozen=True, kw_only=True):
    status: int
    headers: Pairs = ()
    body: str = ""
    """At most a few KB, redacted, undecodable bytes replaced."""
    body_bytes: int = 0
    truncated: bool = False


class Failure(Value, frozen=True, kw_only=True):
    """One check that did not hold."""

    check: str
    operation: str
    message: str
    """For people; may hold observed values."""
    cause: str = ""
    """The message without anything that varies (ids, numbers, indexes): the part that goes into a fingerprint."""
    shared: bool = False
    """The cause is the same thing wherever it shows (a component of the document, a header, an undocumented status):
    failures with it are one finding, whatever their operations."""
    basis: Basis = "spec"
    quote: str = ""
    doubt: str = ""
    """As `Check.doubt`."""
    sent: str = ""
    """As `StepOutcome.sent`."""
    step: int = 0
    """Index among the case's steps, from 0."""


class StepOutcome(Value, frozen=True, kw_only=True):
    operation: str
    sent: str = ""
    """Method and path that were sent, where they are not those of `operation`: another method (`PATCH /pets/{id}`), or
    a path that its template does not match. What was answered then says nothing of the operation's own answers."""
    status: int = 0
    """0: no whole response."""
    elapsed_ms: float = 0
    requests: int = 1
    error: str = ""
    """Why there was no response: `timeout`, `connection refused`, `closed without a response`, …"""
    streaming: bool = False
    """The body went on without an end in sight: read for a moment, and judged by status and headers."""
    overload: str = ""
    """The sign of overload in the last answer: `answered 503`, `database is locked`, `timeout`, …"""
    asked_to_wait: int = 0
    """Answers 429 or 503 with Retry-After."""
    waited_s: float = 0
    """What was waited because of these, before the request was sent again."""
    unjudged: tuple[str, ...] = ()
    """Checks of the body that could not be made, each with the reason: `response_schema_conformance: …`."""
    repeated: str = ""
    """Why the request went out again though nothing asked for it: what became of the first. Only where it surely was
    not processed, or the method is idempotent, or its case was begun anew (`on a kept connection: …`)."""
    request: RequestEvidence | None = None
    response: ResponseEvidence | None = None
    seen: dict[str, tuple[str | int | float, ...]] = field(default_factory=dict)
    """Where the plan observes: texts and numbers of a successful JSON answer by dotted place (`id`, `owner.id`; lists
    are looked through), without credentials."""
    said: str = ""
    """Where the plan observes: what a refusal (4xx) said, redacted and cut."""


class Left(Value, frozen=True, kw_only=True):
    """Things that were made and are still there."""

    operation: str
    """Which made them."""
    count: int
    why: str
    """Why they were not deleted: `no DELETE documented`, `DELETE answered 409`, …"""


IN_DOUBT = "in doubt: its requests may have been sent, and what came of them is not known"
"""The reason of a case's result from its beginning to its end, where the policy's `on_doubt` is `error`."""


class Result(Value, tag="result", tag_field="kind", frozen=True, kw_only=True):
    """The verdict of one attempt with its evidence. Keyed (run, case, attempt)."""

    run: str
    case: str
    attempt: int = 1
    case_name: str = ""
    operation: str = ""
    intent: Intent = "positive"
    verdict: VerdictName
    reason: str = ""
    """errored/skipped: why (`no_result`, `timeout`, `target down`, `setup failed: …`, `stopped`)."""
    failures: tuple[Failure, ...] = ()
    steps: tuple[StepOutcome, ...] = ()
    """In order, cleanup last; evidence (request, response) is kept for cases that did not pass, and for no other."""
    requests: int = 0
    """All that were sent for it: steps, cleanup, repeats, redirects, and the logins and probes that fell due."""
    elapsed_ms: float = 0
    concurrency: int = 0
    """How many cases could run at once when it ended, where overload had made that fewer than the policy's; 0: it had
    not."""
    started: datetime | None = None
    origin: str = ""
    """The source that made the case."""
    withheld: int = 0
    """Requests that were not sent, cleanup included, because of what they would have changed."""
    left: tuple[Left, ...] = ()
    """What the case has made and could not delete."""
    passed_again: int = 0
    """Set when a run is analysed: this attempt failed, and that later one passed."""
    performed: tuple[Step, ...] = ()
    """Of a failed one: the steps as they were executed, where they are not the case's (things that exist took the place
    of those that may not be made)."""
    repeat: int = 0
    """Above 0: a repetition alone within the attempt, of this number. It tells whether a finding comes back, and counts
    for no verdict."""


# --------------------------------------------------------------------------- report


class FindingExample(Value, frozen=True, kw_only=True):
    case: str
    case_name: str
    message: str
    curl: str = ""
    recipe: str = ""
    """A shell script that shows it again: every step with its captures, credentials as variables, cleanup."""
    steps: tuple[StepOutcome, ...] = ()
    performed: tuple[Step, ...] = ()
    """As `Result.performed`."""
    failing_step: int = 0
    source: str = ""
    """Of the case: `rules`, `gemini`, …"""


FindingState = Literal["new", "known", "fixed", "muted"]


class Finding(Value, frozen=True, kw_only=True):
    """What a team must look at: failures with one fingerprint, of one operation or of many (`Failure.shared`)."""

    fingerprint: str
    operation: str
    """The example's."""
    operations: dict[str, int] = field(default_factory=dict)
    """Every operation that shows it -> results; the most frequent first."""
    sent: str = ""
    """Method and path of the example's failing request, where they are not those of `operation`."""
    check: str
    severity: Severity = "medium"
    wfc_code: int | None = None
    count: int
    """Results that show it."""
    advisory: bool
    basis: Basis
    message: str
    state: FindingState = "new"
    first_seen_run: str = ""
    quote: str = ""
    doubt: str = ""
    """Of an advisory finding that rests on a guess: the name of what makes it one (`testops_lib.doubts`)."""
    passed_again: int = 0
    """Every case that shows it passed when it was executed again; the latest such attempt. It still counts."""
    reproduced: int = 0
    """How many executions of the example's case showed it: the first, and repetitions alone within the run."""
    executed: int = 0
    """Of how many; fewer reproduced than executed: intermittent. 0: the case was not repeated."""
    not_repeated: str = ""
    """Why no repetition can tell whether it comes back."""
    together: tuple[str, ...] = ()
    """Finding `concurrency`: what appeared only while other cases ran, each with operation, check and message."""
    folded: tuple[str, ...] = ()
    """Fingerprints of failures that this finding stands for besides its own."""
    example: FindingExample


class OperationReport(Value, frozen=True, kw_only=True):
    cases: int = 0
    requests: int = 0
    statuses: dict[str, int] = field(default_factory=dict)
    """Answers by status code; `none`: no whole response."""
    success_seen: bool = False
    """A 2xx was seen."""
    results: dict[str, int] = field(default_factory=dict)
    """Cases about this operation by verdict."""
    latency_ms: dict[str, float] = field(default_factory=dict)
    """p50, p95, p99, max."""
    streams: int = 0
    """Answers whose bodies went on without an end in sight: judged by status and headers."""
    unjudged: dict[str, int] = field(default_factory=dict)
    """Checks of bodies that could not be made, with the reason -> how often."""
    documented: tuple[str, ...] = ()
    """Documented statuses."""
    cost: Cost | None = None
    """What language models took for its cases; None: none was asked."""
    not_tested: str = ""
    """Why no case of it was executed, where that is known: it could not be planned, or the document is unreadable."""


class Totals(Value, frozen=True, kw_only=True):
    cases: int
    requests: int
    results: dict[str, int]
    operations: int = 0
    operations_with_2xx: int = 0
    operations_not_tested: int = 0
    """Those of `operations` that say why they were not tested."""
    findings: int = 0
    advisory: int = 0
    no_result: int = 0
    target_down: int = 0
    """Those skipped because the target was down, quarantined cases left out: the gate counts them as errored."""
    withheld: int = 0
    """Requests that were not sent because of what they would have changed: `policy.foreign`, the caller's account."""
    left_behind: int = 0
    """Things that the run made and that are still there."""
    quarantined: dict[str, int] = field(default_factory=dict)
    """Results of quarantined cases by verdict: part of `results`, left out by the gate."""


class GateRules(Value, frozen=True, kw_only=True):
    """What a run must fulfil. Rates are shares from 0 to 1.

    Whatever the rules say, a gate is closed when a case has no result, when no case was executed, when none passed, or
    when one global cause spoiled the run; advisory, muted and fixed findings never close it.
    """

    max_findings: Count = 0
    """Most blocking findings that still pass."""
    only_new: bool = False
    """Only findings first seen in this run block."""
    ignore: tuple[str, ...] = ()
    """Names of checks whose findings do not block."""
    min_pass_rate: Share = 0
    """Least share of passed among passed and failed cases (a case that fails an advisory check alone counts as its
    verdict says)."""
    min_operations_2xx: Share = 0
    """Least share of the operations in scope that answered a 2xx at least once."""
    concurrency: bool = False
    """What appears only while other cases run (finding `concurrency`) blocks as well; else it is advisory."""
    max_errored_rate: Share = 0.05
    """Most errored among passed and errored cases (failed ones are left out, so that they cannot thin errors out).
    Cases that were skipped because the target was down count as errored."""


class Load(Value, frozen=True, kw_only=True):
    """What a run saw of the target's limits."""

    overloaded: dict[str, int] = field(default_factory=dict)
    """Sign of overload (`answered 503`, `database is locked`, …) -> requests that ended with it."""
    concurrency: int = 0
    """The fewest cases that could run at once because of it; 0: it was never lowered."""
    asked_to_wait: int = 0
    """Answers 429 or 503 with Retry-After."""
    waited_s: float = 0
    """What was waited because of these, in all cases together."""


class GateReport(Value, frozen=True, kw_only=True):
    passed: bool
    reasons: tuple[str, ...] = ()


class Cost(Value, frozen=True, kw_only=True):
    """What calls of a language model took."""

    calls: float = 0
    """A call about several operations is shared out among them."""
    input_tokens: int = 0
    output_tokens: int = 0
    """Thinking included."""
    cached_tokens: int = 0
    """Those of the input that came from a cache."""
    money: float | None = None
    """None: the model's price is not known."""


class Call(Cost, frozen=True, kw_only=True):
    """One request to a provider that was answered, or may have been billed."""

    operations: tuple[str, ...]
    repair: bool = False
    """Asked again for cases that were refused."""


class Generation(Value, frozen=True, kw_only=True):
    """How the suite came to be: counts, not cases."""

    source: str
    cases: int = 0
    """Those that the source made."""
    reused: int = 0
    """Those that the target's suite had already."""
    model: str = ""
    calls: int = 0
    """Requests to the provider, unanswered ones included."""
    input_tokens: int = 0
    output_tokens: int = 0
    cached_tokens: int = 0
    money: float | None = None
    """What the calls cost; None: the model's price is not known, or nothing was called."""
    currency: str = ""
    """Of all money here."""
    spent: tuple[Call, ...] = ()
    operations: dict[str, Cost] = field(default_factory=dict)
    """What each operation cost."""
    dropped: dict[str, int] = field(default_factory=dict)
    """Reason -> cases dropped."""
    failed: str = ""
    """Why the source made nothing: it was away, refused, or cannot work as it is set up. The others went on."""
    notes: tuple[str, ...] = ()
    not_tested: dict[str, str] = field(default_factory=dict)
    """Operation -> why the source made no case of it, where it should have."""


class SourceCost(Cost, frozen=True, kw_only=True):
    """What a source that asks a language model cost the run, and what it found."""

    findings: int = 0
    """Confirmed ones: not advisory, seen in this run, and their example is a case of this source."""
    money_per_finding: float | None = None
    tokens_per_finding: float | None = None
    """Input and output. None: nothing was found."""


class Report(Value, frozen=True, kw_only=True):
    """A run in one value: what every format renders. Its JSON Schema stands in docs/report.schema.json."""

    schema_version: str = "1"
    target: str
    run: str
    title: str = ""
    base_url: str = ""
    started: datetime | None = None
    finished: datetime | None = None
    totals: Totals
    operations: dict[str, OperationReport]
    """By `METHOD /path`; every operation in scope is listed, called or not."""
    findings: tuple[Finding, ...]
    """Most severe first: those that count before advisory ones, these before muted and fixed ones; then by severity,
    new before known, by check and operation."""
    errors: dict[str, int] = field(default_factory=dict)
    """Reason of errored and skipped results -> count."""
    quarantined: tuple[str, ...] = ()
    """Ids of executed cases that a person set aside: what they alone show is advisory."""
    left_behind: tuple[Left, ...] = ()
    """Most first."""
    previous_run: str = ""
    generation: tuple[Generation, ...] = ()
    costs: dict[str, SourceCost] = field(default_factory=dict)
    """By source; only those that asked a language model."""
    currency: str = ""
    """Of the money in `costs` and `operations`."""
    load: Load | None = None
    """Signs of overload, and what was done about them; None: there were none."""
    gate: GateReport | None = None
