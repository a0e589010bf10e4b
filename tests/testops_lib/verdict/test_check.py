from __future__ import annotations

from typing import Any

import jsonpath_rfc9535
import pytest
from hypothesis import given
from hypothesis import strategies as st

from testops_lib.errors import CaseError
from testops_lib.http.answer import Answer
from testops_lib.model import (
    AnyCheck,
    ContentTypeConformance,
    Contract,
    EnsureResourceAvailability,
    Failure,
    HeaderContract,
    HeaderIs,
    IgnoredAuth,
    JsonBody,
    JsonPathIs,
    MaxResponseTime,
    MediaContract,
    NegativeDataRejection,
    NotAServerError,
    ObjectLevelAuthorization,
    PositiveDataAcceptance,
    Request,
    ResponseContract,
    ResponseHeadersConformance,
    ResponseSchemaConformance,
    StatusCodeConformance,
    StatusIs,
    Step,
    UnsupportedMethod,
    UseAfterFree,
)
from testops_lib.verdict.check import Judge
from testops_lib.verdict.documented import compile_schema, fits, response_for
from testops_lib.verdict.json_values import equal, select

JSON = (("Content-Type", "application/json; charset=utf-8"),)
PET = {
    "type": "object",
    "required": ["id", "name"],
    "properties": {"id": {"type": "integer"}, "name": {"type": "string"}, "tags": {"items": {"type": "string"}}},
}
CONTRACT = Contract(
    operation="GET /pets/{id}",
    responses={
        "200": ResponseContract(
            content={"application/json": MediaContract(schema=PET)},
            headers={
                "X-Rate": HeaderContract(required=True, schema={"type": "integer", "maximum": 10}),
                "X-Note": HeaderContract(schema={"type": "string", "minLength": 2}),
            },
        ),
        "4XX": ResponseContract(content={"application/problem+json": MediaContract(schema={"required": ["title"]})}),
        "204": ResponseContract(),
    },
    accepted_statuses=(503,),
)
CONFORMANCE: tuple[AnyCheck, ...] = (
    NotAServerError(),
    StatusCodeConformance(),
    ContentTypeConformance(),
    ResponseHeadersConformance(),
    ResponseSchemaConformance(),
)
RATE = (*JSON, ("X-Rate", "3"))


def judge(answer: Answer, *checks: AnyCheck, method: str = "GET", **captured: Any) -> list[tuple[str, str]]:
    step = Step(operation="GET /pets/{id}", request=Request(method=method, path="/pets/1"), checks=checks)
    failures = Judge({CONTRACT.operation: CONTRACT}).judge(step, answer, captured, index=2)
    assert all(failure.step == 2 and failure.operation == step.operation for failure in failures)
    return [(failure.check, failure.cause) for failure in failures]


def test_a_conforming_answer_has_no_failure() -> None:
    answer = Answer(status=200, headers=RATE, body=b'{"id": 1, "name": "Rex"}')
    assert judge(answer, *CONFORMANCE, PositiveDataAcceptance()) == []


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b'{"id": 1}', '200 / required "name" is a required property'),
        (b'{"id": "1", "name": "Rex"}', "200 /id type"),
        (b'{"id": 1, "name": "Rex", "tags": ["a", 2, 3]}', "200 /tags/* type"),
        (b"<html>", "200 malformed"),
        (b"\xff\x00", "200 malformed"),
    ],
)
def test_a_body_outside_its_schema_is_one_failure_without_varying_parts(body: bytes, expected: str) -> None:
    answer = Answer(status=200, headers=RATE, body=body)
    assert judge(answer, *CONFORMANCE) == [("response_schema_conformance", expected)]


def test_an_undocumented_status_says_nothing_more_of_the_answer() -> None:
    assert judge(Answer(status=302, body=b"x"), *CONFORMANCE) == [("status_code_conformance", "status 302")]


def test_a_server_error_speaks_for_everything_else() -> None:
    checks = (*CONFORMANCE, PositiveDataAcceptance(), StatusIs(any_of=(200,)), MaxResponseTime(limit_ms=1))
    answer = Answer(status=500, body=b"boom", elapsed_ms=100)
    assert judge(answer, *checks)[0] == ("not_a_server_error", "status 500")
    assert judge(answer, *checks)[1:] == []


def cause_of_500(body: str, request: Request, media: str = "application/json", **captured: Any) -> tuple[str, bool]:
    step = Step(operation="GET /pets/{id}", request=request, checks=(NotAServerError(),))
    answer = Answer(status=500, headers=(("Content-Type", media),), body=body.encode())
    (failure,) = Judge({}).judge(step, answer, captured)
    return failure.cause, failure.shared


PLAIN = Request(method="GET", path="/pets/1")


@pytest.mark.parametrize(
    ("body", "media", "reason"),
    [
        ('{"path":"/pets/1","message":"cannot parse multipart body"}', "text/json", "cannot parse multipart body"),
        ('{"error":{"code":7,"message":"database is locked"}}', "application/json", "database is locked"),
        ('{"title":"Server Error","detail":"division by zero"}', "application/problem+json", "division by zero"),
        ("KeyError: 'first_name' is missing\n  at line 3", "text/plain", "KeyError: 'first_name' is missing"),
        ("duplicate key 4711 of pet 17", "text/plain", "duplicate key # of pet #"),
    ],
)
def test_a_server_error_that_says_why_is_the_same_finding_wherever_it_shows(body: str, media: str, reason: str) -> None:
    assert cause_of_500(body, PLAIN, media) == (f"status 500: {reason}", True)


@pytest.mark.parametrize(
    ("body", "media"),
    [
        ("Internal Server Error", "text/plain"),
        ('{"message":"An unexpected error occurred. Please try again later."}', "application/json"),
        ('{"error":"oops","id":"7f1c2d3e"}', "application/json"),
        ("<h1>division by zero</h1>", "text/html"),
        ('["x"', "application/json"),
        ("[" * 5000, "application/json"),
        ("", "application/json"),
    ],
)
def test_a_server_error_that_says_nothing_is_the_operation_s_own(body: str, media: str) -> None:
    assert cause_of_500(body, PLAIN, media) == ("status 500", False)


def test_what_a_request_sent_does_not_tell_server_errors_apart() -> None:
    def failed(value: str) -> tuple[str, bool]:
        request = Request(
            method="POST", path=f"/pets/{value}", query=(("q", value),), body=JsonBody(value={"name": [value]})
        )
        return cause_of_500(f"cannot convert {value} to a number, nor {value}", request, "text/plain", made="tok-99")

    assert failed("Fluffy") == failed("Rex-von-Thule") == ("status 500: cannot convert * to a number, nor *", True)
    assert cause_of_500("no column 'a' found", PLAIN, "text/plain") == cause_of_500(
        "no column 'b' found", PLAIN, "text/plain"
    )


def test_a_component_that_operations_share_breaks_once() -> None:
    money = {"type": "object", "properties": {"amount": {"type": "number"}}, "required": ["currency"]}
    shapes: dict[str, Any] = {
        "GET /prices": {"type": "array", "items": {"$ref": "#/$defs/Money"}, "$defs": {"Money": money}},
        "GET /price": {"$ref": "#/$defs/Money", "$defs": {"Money": money}},
    }
    shown: dict[str, set[tuple[str, bool]]] = {}
    for (operation, schema), body in zip(shapes.items(), (b'[{"amount":"1"}]', b'{"amount":"2"}'), strict=True):
        response = ResponseContract(content={"application/json": MediaContract(schema=schema)})
        judge = Judge({operation: Contract(operation=operation, responses={"200": response})})
        step = Step(operation=operation, request=Request(method="GET", path="/"), checks=(ResponseSchemaConformance(),))
        failures = judge.judge(step, Answer(status=200, headers=JSON, body=body), {})
        shown[operation] = {(failure.cause, failure.shared) for failure in failures}
    assert (
        shown["GET /prices"]
        == shown["GET /price"]
        == {
            ("component Money/properties/amount type", True),
            ('component Money required "currency" is a required property', True),
        }
    )


def test_a_schema_of_the_operation_s_own_breaks_for_it_alone() -> None:
    step = Step(
        operation="GET /pets/{id}", request=Request(method="GET", path="/"), checks=(ResponseSchemaConformance(),)
    )
    (failure,) = Judge({CONTRACT.operation: CONTRACT}).judge(
        step, Answer(status=200, headers=RATE, body=b'{"id":"x","name":"n"}'), {}
    )
    assert (failure.cause, failure.shared) == ("200 /id type", False)


def test_an_undocumented_success_names_the_one_it_stands_for() -> None:
    answer = Answer(status=203, headers=RATE, body=b'{"id":1,"name":"n"}')
    assert judge(answer, *CONFORMANCE) == [("status_code_conformance", "status 203 in place of 200, 204")]


LISTED = Contract(
    operation="POST /pets",
    responses={key: ResponseContract() for key in ("201", "400", "409", "422", "500", "501", "503")},
)


def basis_of(status: int, check: AnyCheck, contract: Contract = LISTED) -> str:
    step = Step(operation="POST /pets", request=Request(method="POST", path="/pets"), checks=(check,))
    return "".join(one.basis for one in Judge({"POST /pets": contract}).judge(step, Answer(status=status), {}))


@pytest.mark.parametrize(
    ("status", "basis"), [(500, "standard"), (501, "guess"), (503, "guess"), (502, "spec"), (507, "spec")]
)
def test_a_server_error_that_the_document_declares_does_not_break_the_document(status: int, basis: str) -> None:
    assert basis_of(status, NotAServerError()) == basis
    assert basis_of(status, NotAServerError(basis="human")) == "human"
    ranged = Contract(operation="POST /pets", responses={"201": ResponseContract(), "5XX": ResponseContract()})
    assert basis_of(status, NotAServerError(), ranged) == ("standard" if status == 500 else "guess")
    default = Contract(operation="POST /pets", responses={"201": ResponseContract(), "default": ResponseContract()})
    assert basis_of(status, NotAServerError(), default) == "spec", "`default` declares nothing of it"


@pytest.mark.parametrize("status", [400, 409, 422])
def test_a_listed_refusal_of_data_that_only_the_schema_calls_valid_is_a_guess(status: int) -> None:
    assert basis_of(status, PositiveDataAcceptance()) == "guess"
    assert basis_of(status, PositiveDataAcceptance(basis="example")) == "example", "the document's own example"
    assert basis_of(status, PositiveDataAcceptance(basis="human")) == "human"
    unlisted = Contract(operation="POST /pets", responses={"201": ResponseContract()})
    assert basis_of(status, PositiveDataAcceptance(), unlisted) == "spec"
    assert basis_of(404, PositiveDataAcceptance()) == "spec"


def test_a_listed_refusal_of_a_limit_that_the_schema_states_contradicts_it() -> None:
    assert [basis_of(status, PositiveDataAcceptance(at_limit=True)) for status in (400, 409, 422)] == [
        "spec",
        "guess",
        "spec",
    ]


def test_a_json_type_of_its_own_in_place_of_plain_json_is_advisory_and_its_body_is_judged() -> None:
    schema = {"required": ["code"]}
    contract = Contract(
        operation="GET /a",
        responses={"404": ResponseContract(content={"application/json": MediaContract(schema=schema)})},
    )
    checks = (ContentTypeConformance(), ResponseSchemaConformance())
    step = Step(operation="GET /a", request=Request(method="GET", path="/a"), checks=checks)

    def bases(media: str) -> list[tuple[str, str]]:
        answer = Answer(status=404, headers=(("Content-Type", media),), body=b'{"title":"x"}')
        return [(one.check, one.basis) for one in Judge({"GET /a": contract}).judge(step, answer, {})]

    body = ("response_schema_conformance", "spec")
    assert bases("application/json; charset=utf-8") == [body]
    assert bases("application/problem+json") == [("content_type_conformance", "guess"), body]
    assert bases("text/html") == [("content_type_conformance", "spec")]


def test_a_guess_never_hides_what_the_document_says() -> None:
    checks = (StatusIs(any_of=(200,), basis="guess"), StatusCodeConformance())
    assert judge(Answer(status=302), *checks) == [("status_code_conformance", "status 302")]


def test_a_status_that_the_target_declares_is_neither_an_error_nor_undocumented() -> None:
    assert judge(Answer(status=503, body=b"down for the night"), *CONFORMANCE, PositiveDataAcceptance()) == []


def test_a_status_range_documents_its_statuses() -> None:
    headers = (("content-type", "application/problem+json"),)
    assert judge(Answer(status=404, headers=headers, body=b'{"title": "gone"}'), *CONFORMANCE) == []
    assert judge(Answer(status=404, headers=headers, body=b"{}"), *CONFORMANCE)[0][0] == "response_schema_conformance"


@pytest.mark.parametrize(
    ("check", "bad", "good"),
    [
        (NegativeDataRejection(location="body/price", rule="minimum"), 200, 422),
        (IgnoredAuth(), 204, 401),
        (UnsupportedMethod(), 200, 405),
        (UseAfterFree(), 200, 404),
        (EnsureResourceAvailability(), 404, 200),
        (PositiveDataAcceptance(), 422, 200),
        (PositiveDataAcceptance(also=(404,)), 400, 404),
        (StatusIs(any_of=(201, 202)), 200, 201),
        (NotAServerError(), 502, 499),
    ],
)
def test_a_status_check_tells_the_wrong_status_from_the_right_one(check: AnyCheck, bad: int, good: int) -> None:
    assert [name for name, _ in judge(Answer(status=bad), check)] == [type(check).__struct_config__.tag]
    assert judge(Answer(status=good), check) == []


@pytest.mark.parametrize("status", [401, 403, 429])
def test_missing_rights_are_no_verdict_on_valid_data(status: int) -> None:
    assert judge(Answer(status=status), PositiveDataAcceptance()) == []


def test_headers_are_judged_by_their_documented_schema() -> None:
    pet = b'{"id": 1, "name": "Rex"}'
    missing = judge(Answer(status=200, headers=JSON, body=pet), *CONFORMANCE)
    assert missing == [("response_headers_conformance", "200 x-rate missing")]
    wrong = judge(Answer(status=200, headers=(*JSON, ("x-rate", "11"), ("X-Note", "n")), body=pet), *CONFORMANCE)
    assert wrong == [
        ("response_headers_conformance", "200 x-rate schema"),
        ("response_headers_conformance", "200 x-note schema"),
    ]


def test_another_media_type_is_one_failure_and_its_body_is_not_judged() -> None:
    answer = Answer(status=200, headers=(("Content-Type", "text/html"), ("X-Rate", "1")), body=b"<p>")
    assert judge(answer, *CONFORMANCE) == [("content_type_conformance", "text/html for application/json")]


def test_an_answer_without_a_body_by_definition_is_not_judged_for_one() -> None:
    assert judge(Answer(status=200, headers=(("X-Rate", "1"),)), *CONFORMANCE, method="HEAD") == []
    assert judge(Answer(status=204), *CONFORMANCE) == []


def test_a_cut_body_is_not_judged_by_its_schema() -> None:
    assert judge(Answer(status=200, headers=RATE, body=b'{"id": 1, "na', truncated=True), *CONFORMANCE) == []


def test_slowness_is_reported_alone() -> None:
    answer = Answer(status=200, headers=RATE, body=b'{"id": 1, "name": "Rex"}', elapsed_ms=900)
    assert judge(answer, *CONFORMANCE, MaxResponseTime(limit_ms=800)) == [("max_response_time", "slow")]
    assert judge(answer, *CONFORMANCE, MaxResponseTime(limit_ms=900)) == []


@pytest.mark.parametrize(
    ("check", "holds"),
    [
        (JsonPathIs(path="$.items[0].id", op="equals", value=1), True),
        (JsonPathIs(path="$.items[0].id", op="equals", value=1.0), True),
        (JsonPathIs(path="$.items[0].id", op="equals", value="{known}"), True),
        (JsonPathIs(path="$.items[0].id", op="equals", value=True), False),
        (JsonPathIs(path="$.items[*].id", op="equals", value=1), False),
        (JsonPathIs(path="$.items[*].id", op="contains", value=2), True),
        (JsonPathIs(path="$.items[*].id", op="excludes", value=2), False),
        (JsonPathIs(path="$.items[*]", op="max_items", value=1), False),
        (JsonPathIs(path="$.items[*]", op="min_items", value=2), True),
        (JsonPathIs(path="$.nothing", op="absent"), True),
        (JsonPathIs(path="$.nothing"), False),
    ],
)
def test_a_jsonpath_expectation_holds_or_not(check: JsonPathIs, holds: bool) -> None:
    answer = Answer(status=200, body=b'{"items": [{"id": 1}, {"id": 2}]}')
    assert (judge(answer, check, known=1) == []) is holds


def test_a_header_expectation_is_filled_from_captures() -> None:
    answer = Answer(status=201, headers=(("Location", "/pets/7"),))
    assert judge(answer, HeaderIs(name="location", equals="/pets/{id}"), id=7) == []
    assert judge(answer, HeaderIs(name="location", equals="/pets/{id}"), id=8) == [("header", "location value")]
    assert judge(answer, HeaderIs(name="ETag")) == [("header", "etag missing")]


def test_expectations_are_for_the_answer_that_was_asked_for() -> None:
    refusal = Answer(status=401, headers=JSON, body=b'{"title": "no", "detail": "no"}')
    most = JsonPathIs(path="$[*]", op="max_items", value=1)
    assert judge(refusal, most, HeaderIs(name="ETag")) == []
    assert judge(refusal, most, StatusIs(any_of=(401,))) == [("jsonpath", "$[*] max_items")]
    assert judge(refusal, most, NegativeDataRejection()) == [("jsonpath", "$[*] max_items")]


def test_a_malformed_jsonpath_names_itself() -> None:
    with pytest.raises(CaseError, match=r"\$\.\["):
        select("$.[", {})


@pytest.mark.parametrize(
    ("documented", "actual", "same"),
    [
        ("application/json", "application/json", True),
        ("application/json; charset=utf-8", "application/json", True),
        ("*/*", "image/png", True),
        ("text/*", "text/csv", True),
        ("text/*", "image/png", False),
        ("application/json", "application/problem+json", True),
        ("application/problem+json", "application/json", False),
        ("application/json", "", False),
    ],
)
def test_media_types_are_compared_by_meaning(documented: str, actual: str, same: bool) -> None:
    assert fits(documented, actual) is same


@pytest.mark.parametrize(("a", "b", "same"), [(1, 1.0, True), (1, True, False), ([1], [True], False), (None, 0, False)])
def test_json_values_are_equal_by_json_rules(a: Any, b: Any, same: bool) -> None:
    assert equal(a, b) is same


@given(
    status=st.integers(100, 599),
    body=st.binary(max_size=200),
    headers=st.lists(st.tuples(st.sampled_from(["Content-Type", "X-Rate", "x"]), st.text(max_size=20)), max_size=4),
)
def test_judging_survives_any_answer(status: int, body: bytes, headers: list[tuple[str, str]]) -> None:
    answer = Answer(status=status, body=body, headers=tuple(headers), elapsed_ms=1)
    checks = (*CONFORMANCE, JsonPathIs(path="$..a"), PositiveDataAcceptance(), MaxResponseTime(limit_ms=0))
    failures = judge(answer, *checks)
    assert all(cause or name == "content_type_conformance" for name, cause in failures)


@given(
    st.recursive(
        st.integers(0, 3) | st.text("ab", max_size=1) | st.booleans() | st.none(),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("ab", max_size=1), inner, max_size=3),
    ),
    st.lists(st.sampled_from([".a", ".b", "['']", "[0]", "[-1]", "[2]", "[*]", "..a", "[0,1]", "[::2]"]), max_size=3),
)
def test_a_query_walked_by_hand_selects_what_the_package_selects(document: Any, parts: list[str]) -> None:
    path = "$" + "".join(parts)
    assert select(path, document) == [node.value for node in jsonpath_rfc9535.find(path, document)]


def test_a_failure_carries_the_words_the_basis_and_the_quote_of_its_check() -> None:
    check = StatusIs(any_of=(201, 202), basis="description", quote="creates a pet")
    step = Step(operation="POST /pets", request=Request(method="POST", path="/pets"), checks=(check,))
    assert Judge({}).judge(step, Answer(status=200), {}) == (
        Failure(
            check="status",
            operation="POST /pets",
            message="answered 200, expected 201 or 202",
            cause="status 200",
            basis="description",
            quote="creates a pet",
            step=0,
        ),
    )


def messages(answer: Answer, *checks: AnyCheck, method: str = "GET") -> list[str]:
    step = Step(operation="GET /pets/{id}", request=Request(method=method, path="/pets/1"), checks=checks)
    return [failure.message for failure in Judge({CONTRACT.operation: CONTRACT}).judge(step, answer, {"id": 7})]


@pytest.mark.parametrize(
    ("check", "status", "message"),
    [
        (NotAServerError(), 502, "answered 502"),
        (IgnoredAuth(), 200, "answered 200 without valid credentials"),
        (ObjectLevelAuthorization(), 200, "answered 200 to another user than the one who made it"),
        (UnsupportedMethod(), 200, "answered 200 to a method that the document does not offer"),
        (UseAfterFree(), 200, "answered 200 for a resource that was deleted"),
        (EnsureResourceAvailability(), 410, "answered 410 for a resource that was just created"),
        (
            NegativeDataRejection(location="body/age", rule="minimum"),
            200,
            "answered 200 to invalid data: body/age (minimum)",
        ),
        (PositiveDataAcceptance(), 400, "answered 400 to valid data"),
        (StatusCodeConformance(), 302, "answered 302, documented: 200, 4XX, 204"),
    ],
)
def test_a_wrong_status_is_said_in_words(check: AnyCheck, status: int, message: str) -> None:
    assert messages(Answer(status=status), check) == [message]


def test_wrong_contents_are_said_in_words() -> None:
    checks = (*CONFORMANCE, HeaderIs(name="ETag"), HeaderIs(name="X-Rate", equals="{id}"))
    rex = b'{"id": "1", "name": "Rex"}'
    headers = (*JSON, ("X-Rate", "99"), ("X-Note", "n"))
    assert messages(Answer(status=200, headers=headers, body=rex), *checks) == [
        "response header X-Rate: '99' does not fit its schema",
        "response header X-Note: 'n' does not fit its schema",
        'body at /id: "1" is not of type "integer"',
        "response header ETag is missing",
        "response header X-Rate is '99', expected '7'",
    ]
    page = Answer(status=200, headers=(("Content-Type", "text/html"),), body=b"<p>")
    assert messages(page, *CONFORMANCE) == [
        "content type text/html, documented: application/json",
        "response header X-Rate is missing",
    ]
    bare = Answer(status=200, headers=(("X-Rate", "1"),), body=b"{}")
    assert messages(bare, *CONFORMANCE) == ["content type missing, documented: application/json"]


@pytest.mark.parametrize(
    ("check", "message"),
    [
        (JsonPathIs(path="$.n", op="equals", value=2), "$.n is 1, expected: equals 2"),
        (JsonPathIs(path="$.a", op="exists"), "$.a is nothing, expected: exists"),
        (JsonPathIs(path="$.n", op="absent"), "$.n is 1, expected: absent"),
        (JsonPathIs(path="$.l[*]", op="contains", value="c"), '$.l[*] is "a", expected: contains "c"'),
        (JsonPathIs(path="$.l[*]", op="max_items", value=1), "$.l[*] is 2 items, expected: max_items 1"),
        (JsonPathIs(path="$.l[*]", op="min_items", value=3), "$.l[*] is 2 items, expected: min_items 3"),
    ],
)
def test_an_unexpected_value_is_said_in_words(check: JsonPathIs, message: str) -> None:
    assert messages(Answer(status=200, body=b'{"n": 1, "l": ["a", "b"]}'), check) == [message]


@pytest.mark.parametrize(
    ("op", "limit", "holds"),
    [("max_items", 2, True), ("max_items", 1, False), ("min_items", 2, True), ("min_items", 3, False)],
)
def test_a_limit_of_items_includes_itself(op: Any, limit: int, holds: bool) -> None:
    answer = Answer(status=200, body=b"[1, 2]")
    assert (judge(answer, JsonPathIs(path="$[*]", op=op, value=limit)) == []) is holds


def test_an_answer_after_the_limit_says_how_late_it_was() -> None:
    late = Answer(status=200, elapsed_ms=1234.6)
    assert messages(late, MaxResponseTime(limit_ms=1000)) == ["answered after 1235 ms, limit 1000 ms"]


def test_an_answer_to_head_has_headers_alone_even_when_a_body_came() -> None:
    answer = Answer(status=200, headers=(("X-Rate", "1"), ("Content-Type", "text/html")), body=b"<p>")
    assert judge(answer, *CONFORMANCE, method="HEAD") == []
    assert judge(answer, *CONFORMANCE) != []


def test_values_are_expected_of_a_2xx_alone() -> None:
    absent = JsonPathIs(path="$.a")
    assert [bool(judge(Answer(status=status, body=b"{}"), absent)) for status in (199, 200, 299, 300)] == [
        False,
        True,
        True,
        False,
    ]


def test_json_that_only_we_cannot_read_is_a_guess() -> None:
    """Other readers may take 1,200 levels of brackets."""
    disputed = Answer(status=200, headers=RATE, body=b"[" * 1200 + b"]" * 1200)
    broken = Answer(status=200, headers=RATE, body=b"[1")
    checks = (ResponseSchemaConformance(), JsonPathIs(path="$.a"))
    step = Step(operation="GET /pets/{id}", request=Request(method="GET", path="/pets/1"), checks=checks)

    def bases(answer: Answer) -> list[tuple[str, str]]:
        failures = Judge({CONTRACT.operation: CONTRACT}).judge(step, answer, {})
        return [(failure.check, failure.basis) for failure in failures]

    assert bases(disputed) == [("response_schema_conformance", "guess"), ("jsonpath", "guess")]
    deep = Answer(status=200, headers=RATE, body=b"[" * 300 + b"]" * 300)
    assert bases(deep) == [("response_schema_conformance", "guess"), ("jsonpath", "spec")], "validators take 255 levels"
    assert bases(broken) == [("response_schema_conformance", "spec"), ("jsonpath", "spec")]


def test_a_schema_is_compiled_once_for_all_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    compiled = []

    def counting(schema: Any) -> Any:
        compiled.append(schema)
        return compile_schema(schema)

    monkeypatch.setattr("testops_lib.verdict.documented.compile_schema", counting)
    step = Step(operation="GET /pets/{id}", request=Request(method="GET", path="/pets/1"), checks=CONFORMANCE)
    judge = Judge({CONTRACT.operation: CONTRACT})
    for _ in range(3):
        assert judge.judge(step, Answer(status=200, headers=RATE, body=b'{"id": 1, "name": "Rex"}'), {}) == ()
    assert len(compiled) == 2, "the body's and one header's"


def test_a_schema_that_cannot_be_compiled_judges_nothing() -> None:
    for schema in (None, True, {"type": "nonsense"}, {"$ref": "http://127.0.0.1/elsewhere.json"}):
        response = ResponseContract(content={"application/json": MediaContract(schema=schema)})
        contract = Contract(operation="GET /a", responses={"200": response})
        step = Step(operation="GET /a", request=Request(method="GET", path="/a"), checks=(ResponseSchemaConformance(),))
        answer = Answer(status=200, headers=JSON, body=b"1")
        assert Judge({"GET /a": contract}).judge(step, answer, {}) == ()
    with pytest.raises(ValueError, match="outside itself"):
        compile_schema({"$ref": "http://127.0.0.1/elsewhere.json"})


def test_a_body_names_eight_breaches_at_most() -> None:
    schema = {"required": [f"m{number}" for number in range(20)]}
    response = ResponseContract(content={"application/json": MediaContract(schema=schema)})
    step = Step(operation="GET /a", request=Request(method="GET", path="/a"), checks=(ResponseSchemaConformance(),))
    judge = Judge({"GET /a": Contract(operation="GET /a", responses={"200": response})})
    assert len(judge.judge(step, Answer(status=200, headers=JSON, body=b"{}"), {})) == 8


def test_an_exact_status_is_documented_before_its_range_and_a_range_before_the_default() -> None:
    exact, ranged, default = (ResponseContract(content={name: MediaContract()}) for name in ("a/a", "b/b", "c/c"))
    contract = Contract(operation="GET /a", responses={"404": exact, "4XX": ranged, "default": default})
    assert [response_for(contract, status) for status in (404, 409, 500)] == [exact, ranged, default]
    assert response_for(Contract(operation="GET /a", responses={"200": exact}), 500) is None


def test_values_that_a_body_must_not_hold_and_bodies_without_json_are_said_in_words() -> None:
    check = JsonPathIs(path="$.l[*]", op="excludes", value="b")
    assert messages(Answer(status=200, body=b'{"l": ["a"]}'), check) == []
    assert messages(Answer(status=200, body=b'{"l": ["a", "b"]}'), check) == ['$.l[*] is "a", expected: excludes "b"']
    assert messages(Answer(status=200, body=b"<p>"), check) == ["the body is not JSON"]


@pytest.mark.parametrize(
    ("a", "b", "same"),
    [
        ({"a": 1}, {"a": 1.0}, True),
        ({"a": 1, "b": 2}, {"b": 2, "a": 1}, True),
        ({"a": 1}, {"b": 1}, False),
        ({"a": 1}, [1], False),
        ([1, 2], [1, 2], True),
        ([1, 2], [2, 1], False),
        ([1], [1, 2], False),
        ([], {}, False),
        ("1", 1, False),
    ],
)
def test_objects_and_lists_are_equal_by_json_rules(a: Any, b: Any, same: bool) -> None:
    assert equal(a, b) is same and equal(b, a) is same
