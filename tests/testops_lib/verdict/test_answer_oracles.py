from __future__ import annotations

from typing import Any

import msgspec
import pytest

from testops_lib.http.answer import Answer
from testops_lib.model import (
    AnyCheck,
    FilterHonoured,
    Idempotency,
    MethodAgreement,
    NoReflection,
    PaginationConsistency,
    Request,
    Step,
)
from testops_lib.verdict.check import Judge

JSON = (("Content-Type", "application/json"),)


def mismatches(check: AnyCheck, answer: Answer, **captured: Any) -> list[tuple[str, str]]:
    """Message and cause of each failure."""
    step = Step(operation="GET /pets", request=Request(method="GET", path="/pets"), checks=(check,))
    return [(failure.message, failure.cause) for failure in Judge({}).judge(step, answer, captured)]


def json_answer(value: Any, status: int = 200) -> Answer:
    return Answer(status=status, headers=JSON, body=msgspec.json.encode(value))


# ------------------------------------------------------------------------ repeated reads


def test_a_read_that_is_answered_alike_is_repeatable_whatever_time_it_is() -> None:
    first = {"name": "Rex", "created_at": "2026-01-01T00:00:00Z"}
    again = {"name": "Rex", "created_at": "2027-02-02T00:00:00Z"}
    assert mismatches(Idempotency(value="{first}"), json_answer(again), first=first) == []
    differs = [("the same request, sent twice, was answered differently", "body")]
    assert mismatches(Idempotency(value="{first}"), json_answer({"name": "Max"}), first=first) == differs


@pytest.mark.parametrize("status", [199, 300, 404])
def test_a_read_that_had_just_succeeded_answers_a_2xx_again(status: int) -> None:
    refused = [(f"answered {status} to a read that had just succeeded", f"status {status}")]
    assert mismatches(Idempotency(value="{first}"), json_answer({"a": 1}, status), first={"a": 1}) == refused


@pytest.mark.parametrize("status", [200, 299])
def test_a_repeated_read_without_json_or_with_a_scalar_says_nothing(status: int) -> None:
    assert mismatches(Idempotency(value="{first}"), Answer(status=status, body=b"<p>"), first={"a": 1}) == []
    assert mismatches(Idempotency(value="{first}"), json_answer("b", status), first="a") == []
    assert mismatches(Idempotency(value="{first}"), json_answer([2], status), first=[1]) != []


# ------------------------------------------------------------------------ pages


def test_an_item_of_an_earlier_page_on_this_one_is_named() -> None:
    check = PaginationConsistency(path="$.items[*].name", value="{earlier}")
    page = json_answer({"items": [{"name": "b"}, {"name": "a"}]})
    assert mismatches(check, page, earlier="a") == [
        ('$.items[*].name holds "a", which stood on an earlier page', "$.items[*].name again")
    ]
    assert mismatches(check, page, earlier="c") == []
    assert mismatches(check, Answer(status=200, body=b"a"), earlier="a") == []


# ------------------------------------------------------------------------ filters


def test_an_item_that_does_not_fit_the_filter_is_named() -> None:
    check = FilterHonoured(path="$[*].colour", parameter="colour", value="{wanted}")
    assert mismatches(check, json_answer([{"colour": "red"}, {"colour": "Blue"}]), wanted="red") == [
        ('asked for colour=red, $[*].colour holds "Blue"', "colour ignored")
    ]
    assert mismatches(check, json_answer([{"colour": "RED"}]), wanted="red") == [], "case does not matter"
    assert mismatches(check, json_answer([]), wanted="red") == []


def test_a_filter_compares_numbers_and_flags_as_a_query_writes_them() -> None:
    check = FilterHonoured(path="$[*].value", parameter="value", value="{wanted}")
    assert mismatches(check, json_answer([{"value": True}, {"value": "true"}]), wanted="true") == []
    assert mismatches(check, json_answer([{"value": 7}]), wanted=7) == []
    assert mismatches(check, json_answer([{"value": None}]), wanted=7) == [
        ("asked for value=7, $[*].value holds null", "value ignored")
    ]


@pytest.mark.parametrize(
    "answer", [json_answer([{"value": 1}], 199), json_answer([{"value": 1}], 300), Answer(status=200)]
)
def test_a_filter_is_judged_by_successful_json_answers(answer: Answer) -> None:
    check = FilterHonoured(path="$[*].value", parameter="value", value="2")
    assert mismatches(check, answer) == []


# ------------------------------------------------------------------------ HEAD and OPTIONS


def test_head_answers_the_status_of_get_unless_it_is_not_offered() -> None:
    check = MethodAgreement(status="{get}")
    assert mismatches(check, Answer(status=200), get=200) == []
    assert mismatches(check, Answer(status=404), get=200) == [("HEAD answered 404, GET 200", "HEAD 404 GET 200")]
    assert mismatches(check, Answer(status=405), get=200) == mismatches(check, Answer(status=501), get=200) == []


def test_options_lists_the_methods_that_the_document_offers() -> None:
    check = MethodAgreement(allow=("GET", "PUT"))
    listed = (("Allow", "get , head"), ("allow", "POST"))
    assert mismatches(check, Answer(status=204, headers=listed)) == [
        ("OPTIONS lists GET , HEAD,POST, the document offers PUT too", "Allow without ['PUT']")
    ]
    assert mismatches(check, Answer(status=200, headers=(("Allow", "GET, PUT, HEAD"),))) == []
    assert mismatches(check, Answer(status=200)) == [], "no Allow header, nothing listed"
    assert len(mismatches(check, Answer(status=200, headers=listed))) == 1
    for status in (199, 300, 404):
        assert mismatches(check, Answer(status=status, headers=listed)) == []


# ------------------------------------------------------------------------ reflected text


@pytest.mark.parametrize("media", ["text/html; charset=utf-8", "application/xhtml+xml", "image/svg+xml"])
def test_sent_text_that_stands_in_a_page_unescaped_is_reflected(media: str) -> None:
    page = Answer(status=400, headers=(("Content-Type", media),), body=b"no such pet: <b>x7</b>")
    reflected = [("a text that was sent as data stands in the page as it is: a browser would execute it", "reflected")]
    assert mismatches(NoReflection(text="<b>{unique}</b>"), page, unique="x7") == reflected
    assert mismatches(NoReflection(text="<i>{unique}</i>"), page, unique="x7") == []


def test_sent_text_in_json_is_data() -> None:
    answer = Answer(status=400, headers=JSON, body=b'"<b>x</b>"')
    assert mismatches(NoReflection(text="<b>x</b>"), answer) == []
