from __future__ import annotations

from typing import Any

import pytest

from testops_lib.http.answer import Answer
from testops_lib.model import (
    ContentTypeConformance,
    Contract,
    HeaderContract,
    MediaContract,
    Request,
    ResponseContract,
    ResponseHeadersConformance,
    ResponseSchemaConformance,
    Step,
)
from testops_lib.verdict.check import Judge
from testops_lib.verdict.documented import Documented, is_json

JSON = (("Content-Type", "application/json"),)


def mismatches(
    response: ResponseContract,
    *,
    status: int = 200,
    headers: tuple[tuple[str, str], ...] = JSON,
    body: bytes = b"{}",
    method: str = "GET",
) -> list[tuple[str, str]]:
    """Message and cause of each failure."""
    contract = Contract(operation="GET /a", responses={str(status): response})
    checks = (ContentTypeConformance(), ResponseSchemaConformance(), ResponseHeadersConformance())
    step = Step(operation="GET /a", request=Request(method=method, path="/a"), checks=checks)
    answer = Answer(status=status, headers=headers, body=body)
    return [(failure.message, failure.cause) for failure in Judge({"GET /a": contract}).judge(step, answer, {})]


def of_json(schema: Any) -> ResponseContract:
    return ResponseContract(content={"application/json": MediaContract(schema=schema)})


# ------------------------------------------------------------------------ headers


@pytest.mark.parametrize(
    ("schema", "values", "fits"),
    [
        ({"type": "integer"}, ["7"], True),
        ({"type": "integer"}, ["-7"], True),
        ({"type": "integer"}, ["+7"], True),
        ({"type": "integer"}, ["7.5"], False),
        ({"type": "integer", "maximum": 2**60}, [str(2**60 + 1)], False),
        ({"type": "number", "minimum": 1}, ["1.5"], True),
        ({"type": "number", "minimum": 1}, ["0.5"], False),
        ({"type": "boolean"}, ["True"], True),
        ({"type": "boolean"}, ["false"], True),
        ({"type": "boolean"}, ["yes"], False),
        ({"const": True}, ["false"], False),
        ({"const": False}, ["false"], True),
        ({"const": True}, ["true"], True),
        ({"type": "string", "pattern": "^7$"}, ["7"], True),
        ({"const": ["a", "b"]}, ["a,  b"], True),
        ({"const": ["a", "b"]}, ["a", "b"], True),
        ({"const": "a, b"}, ["a", "b"], True),
        ({"const": ["a b"]}, ["a b"], True),
    ],
)
def test_a_header_fits_its_schema_as_text_number_flag_or_list(schema: Any, values: list[str], fits: bool) -> None:
    headers = tuple(("X-A", value) for value in values)
    response = ResponseContract(headers={"X-A": HeaderContract(schema=schema)})
    shown = ", ".join(values)
    broken = [(f"response header X-A: {shown!r} does not fit its schema", "200 x-a schema")]
    assert mismatches(response, headers=headers) == ([] if fits else broken)


def test_each_documented_header_is_judged_whether_others_came_or_not() -> None:
    response = ResponseContract(
        headers={
            "X-Optional": HeaderContract(schema={"type": "integer"}),
            "X-Any": HeaderContract(required=True),
            "X-Needed": HeaderContract(required=True, schema={"type": "integer"}),
            "X-Number": HeaderContract(schema={"type": "integer"}),
            "X-Text": HeaderContract(schema={"type": "string", "pattern": "^t"}),
        }
    )
    came = (("x-any", ""), ("x-number", "n"), ("x-text", "x"))
    assert [cause for _, cause in mismatches(response, headers=came)] == [
        "200 x-needed missing",
        "200 x-number schema",
        "200 x-text schema",
    ]


# ------------------------------------------------------------------------ content types and bodies


def test_another_content_type_names_all_that_are_documented() -> None:
    content = {name: MediaContract(schema=False) for name in ("application/json", "text/csv")}
    response = ResponseContract(content=content)
    headers = (("Content-Type", "text/html; charset=utf-8"),)
    assert mismatches(response, headers=headers, body=b"<p>") == [
        (
            "content type text/html, documented: application/json, text/csv",
            "text/html for application/json, text/csv",
        )
    ]
    assert mismatches(response, headers=(), body=b"<p>") == [
        ("content type missing, documented: application/json, text/csv", "missing for application/json, text/csv")
    ]


@pytest.mark.parametrize(("documented", "judged"), [("*/*", True), ("application/*", True), ("text/*", False)])
def test_a_range_of_types_judges_json_by_its_schema(documented: str, judged: bool) -> None:
    response = ResponseContract(content={documented: MediaContract(schema={"type": "array"})})
    assert ("200 / type" in [cause for _, cause in mismatches(response)]) is judged


def test_of_several_documented_types_the_schema_of_the_one_that_came_judges() -> None:
    content = {
        "application/problem+json": MediaContract(schema={"required": ["title"]}),
        "application/json": MediaContract(schema={"required": ["id"]}),
        "text/json": MediaContract(),
    }
    for media, cause in (
        ("application/problem+json", '200 / required "title" is a required property'),
        ("application/json", '200 / required "id" is a required property'),
    ):
        actual = mismatches(ResponseContract(content=content), headers=(("Content-Type", media),))
        assert [entry for _, entry in actual] == [cause]
    assert mismatches(ResponseContract(content=content), headers=(("Content-Type", "text/json"),)) == []


def test_a_body_that_is_not_json_is_not_judged_by_a_schema() -> None:
    response = ResponseContract(content={"application/xml": MediaContract(schema=False)})
    assert mismatches(response, headers=(("Content-Type", "application/xml"),), body=b"<a/>") == []
    nothing = ResponseContract()
    assert mismatches(nothing, headers=(("Content-Type", "text/html"),), body=b"<p>") == []


@pytest.mark.parametrize("status", [204, 205, 304])
def test_a_status_that_has_no_body_is_not_judged_for_one(status: int) -> None:
    assert mismatches(of_json(False), status=status) == []


def test_without_a_body_neither_type_nor_schema_is_judged() -> None:
    assert mismatches(of_json(False), headers=(), body=b"") == []
    assert mismatches(of_json(False), headers=(("Content-Type", "text/html"),), body=b"<p>", method="HEAD") == []


@pytest.mark.parametrize(
    ("schema", "body", "cause"),
    [
        (False, b"{}", "200 / false"),
        ({"properties": {"a": False}}, b'{"a": 1}', "200 /a a"),
        ({"items": {"type": "string"}}, b'["x", 1, 2]', "200 /* type"),
        ({"properties": {"a": {"items": {"minimum": 5}}}}, b'{"a": [5, 4]}', "200 /a/* minimum"),
    ],
)
def test_the_cause_of_a_breach_is_its_place_and_rule(schema: Any, body: bytes, cause: str) -> None:
    ((_, actual),) = mismatches(of_json(schema), body=body)
    assert actual == cause


@pytest.mark.parametrize("rule", ["additionalProperties", "unevaluatedProperties"])
def test_a_member_too_many_is_named_by_its_cause(rule: str) -> None:
    schema = {"properties": {"a": {}}, rule: False}
    ((message, cause),) = mismatches(of_json(schema), body=b'{"extra": 1}')
    assert cause.startswith(f"200 / {rule} ") and "extra" in cause
    assert message == f"body at /: {cause.removeprefix(f'200 / {rule} ')}"


def test_where_no_member_is_allowed_the_cause_does_not_depend_on_the_value() -> None:
    causes = {
        mismatches(of_json({"additionalProperties": False}), body=body)[0][1] for body in (b'{"a": 1}', b'{"b": 2}')
    }
    assert causes == {"200 / additionalProperties"}


def test_a_body_that_is_no_json_says_so_with_its_status() -> None:
    assert mismatches(of_json({}), status=201, body=b"<p>") == [("the body is not JSON", "201 malformed")]


# ------------------------------------------------------------------------ what is documented


def test_a_body_and_a_header_of_one_name_have_validators_of_their_own() -> None:
    documented = Documented(None, 200)
    of_body, of_header = (
        documented.validator(part, "a", {"type": kind}) for part, kind in (("body", "array"), ("header", "string"))
    )
    assert of_body is not None and of_body.is_valid([]) and not of_body.is_valid("")
    assert of_header is not None and of_header.is_valid("") and not of_header.is_valid([])
    assert documented.validator("body", "a", None) is of_body, "compiled once"


@pytest.mark.parametrize(
    ("statuses", "listed"),
    [(("200",), True), (("2XX",), True), (("default",), False), (("201",), False), ((), False)],
)
def test_a_status_is_listed_by_itself_or_by_its_range(statuses: tuple[str, ...], listed: bool) -> None:
    contract = Contract(operation="GET /a", responses={status: ResponseContract() for status in statuses})
    assert Documented(contract, 200).listed is listed


def test_without_a_contract_nothing_is_documented() -> None:
    documented = Documented(None, 200)
    assert (documented.response, documented.listed, documented.accepted) == (None, False, False)


@pytest.mark.parametrize(
    ("media", "json"),
    [
        ("application/json", True),
        ("text/json", True),
        ("application/hal+json", True),
        ("application/jsonp", False),
        ("text/plain", False),
        ("", False),
    ],
)
def test_types_of_json_are_recognised(media: str, json: bool) -> None:
    assert is_json(media) is json
