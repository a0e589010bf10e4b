from __future__ import annotations

from typing import Any

import msgspec
import pytest

from testops_lib.http.answer import Answer
from testops_lib.model import FormBody, JsonBody, Request, TextBody
from testops_lib.verdict.error_reason import error_reason, sent_values

TEXT = "text/plain; charset=utf-8"


def reason(body: Any, *sent: str, media: str = "application/json") -> str:
    raw = body if isinstance(body, bytes) else body.encode() if isinstance(body, str) else msgspec.json.encode(body)
    return error_reason(Answer(status=500, headers=(("Content-Type", media),), body=raw), sent)


def test_the_most_telling_member_of_an_error_says_the_reason() -> None:
    error = {"title": "table locked", "detail": "division by zero", "message": "database is gone"}
    assert reason(error) == "division by zero"
    del error["detail"]
    assert reason(error) == "database is gone"
    assert reason({"title": "table locked", "code": "E17 unrelated words"}) == "table locked"


@pytest.mark.parametrize(
    "member", ["detail", "message", "error_description", "error", "errors", "msg", "title", "reason"]
)
def test_members_that_frameworks_write_reasons_in_are_read(member: str) -> None:
    assert reason({member: "division by zero"}) == "division by zero"
    assert reason({"other": "division by zero"}) == ""


def test_a_member_that_says_nothing_gives_way_to_the_next() -> None:
    assert reason({"detail": "Internal Server Error", "message": "division by zero"}) == "division by zero"
    assert reason({"detail": "Internal Server Error"}) == ""


def test_reasons_are_found_inside_objects_and_in_the_first_item_of_lists() -> None:
    assert reason({"error": {"error": {"message": "division by zero"}}}) == "division by zero"
    assert reason({"error": {"error": {"error": {"message": "division by zero"}}}}) == "", "three levels down"
    assert reason({"errors": ["division by zero", "table locked"]}) == "division by zero"
    assert reason([{"detail": "division by zero"}]) == "division by zero"
    assert reason([[["division by zero"]]]) == "division by zero"
    assert reason([[[["division by zero"]]]]) == ""
    assert reason({"errors": []}) == reason(17) == reason(b"{") == ""
    assert reason('"division by zero"') == "division by zero"


def test_the_first_line_with_text_is_the_reason() -> None:
    assert reason("\n  \n  division by zero  \n at line 3", media=TEXT) == "division by zero"
    assert reason("division by zero", media="") == "division by zero"
    assert reason(b"division by \xff zero", media=TEXT) == "division by \ufffd zero"
    assert reason("division by zero", media="text/html") == ""


def test_a_reason_has_at_most_160_characters_of_the_first_65536_bytes() -> None:
    assert reason("division by " + "x" * 400, media=TEXT) == "division by " + "x" * 148
    assert (
        reason(b" " * 65_500 + b"division by zero and more than that", media=TEXT)
        == "division by zero and more than that"
    )
    assert reason(b" " * 65_536 + b"division by zero", media=TEXT) == ""


def test_words_that_every_error_has_are_no_reason() -> None:
    assert reason("Unexpected error: division", media=TEXT) == "", "one word of its own"
    assert reason("Unexpected error: division by zero", media=TEXT) == "Unexpected error: division by zero"
    assert reason("zero ZERO Zero", media=TEXT) == "", "one word three times"
    assert reason("17 18 19", media=TEXT) == ""


def test_sent_values_in_a_reason_are_stars_the_longest_first() -> None:
    assert reason("no column Rex in table Rexes", "Rex", "Rexes", media=TEXT) == "no column * in table *"
    assert reason("no column ab in table", "ab", media=TEXT) == "no column ab in table", "too short to be an echo"
    assert reason("no column error in table", "Error", "error", media=TEXT) == "no column error in table", (
        "a usual word"
    )
    assert reason("no column 'ab' in table \"c\" or `` there", media=TEXT) == "no column '*' in table '*' or '*' there"
    assert reason("it isn't 'abc' of the table", media=TEXT) == "it isn't 'abc' of the table"


def test_everything_that_a_request_sends_as_a_value_is_known() -> None:
    request = Request(
        method="POST",
        path="/pets/rex",
        query=(("q", "in-query"),),
        headers=(("X-A", "in-header"),),
        cookies=(("c", "in-cookie"),),
        body=JsonBody(value={"a": ["in-list", 7], "b": {"c": "in-object"}}),
    )
    values = ["", "pets", "rex", "in-query", "in-header", "in-cookie"]
    assert list(sent_values(request)) == [*values, "in-list", "in-object"]
    form = msgspec.structs.replace(request, body=FormBody(fields=(("name", "in-form"),)))
    assert list(sent_values(form)) == [*values, "in-form"]
    text = msgspec.structs.replace(request, body=TextBody(text="in-text"))
    assert list(sent_values(text)) == [*values, "in-text"]
    assert list(sent_values(msgspec.structs.replace(request, body=None))) == values
