from __future__ import annotations

from typing import Any

import jsonpath_rfc9535
import pytest
from hypothesis import given
from hypothesis import strategies as st

from testops_lib.check import Answer, Judge, equal, fits, select
from testops_lib.errors import CaseError
from testops_lib.model import (
    AnyCheck,
    ContentTypeConformance,
    Contract,
    EnsureResourceAvailability,
    HeaderContract,
    HeaderIs,
    IgnoredAuth,
    JsonPathIs,
    MaxResponseTime,
    MediaContract,
    NegativeDataRejection,
    NotAServerError,
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
    assert judge(answer, *CONFORMANCE) == [("content_type_conformance", "text/html")]


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
