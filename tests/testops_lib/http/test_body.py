from __future__ import annotations

import json

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from testops_lib.http.body import NOTHING, decode, why_unreadable


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"[" * 1_100 + b"]" * 1_100, "the body is JSON of 1,100 levels, more than readers take"),
        (b'{"a": ' * 1_100 + b"1" + b"}" * 1_100, "the body is JSON of 1,100 levels, more than readers take"),
        (b'{"a": [1, 1e400]}', "the body is JSON with a number that no double holds: 1e400"),
        (b"-1E+999", "the body is JSON with a number that no double holds: -1E+999"),
        (b'["\\ud83d\\ude00", "x\\ud800"]', "the body is JSON with half of a surrogate pair: \\ud800"),
        (b'{"\\udc00": 1}', "the body is JSON with half of a surrogate pair: \\udc00"),
    ],
)
def test_json_that_cannot_be_read_is_called_json_with_the_reason(body: bytes, message: str) -> None:
    assert decode(body) is NOTHING
    why = why_unreadable(body)
    assert why.is_json and why.message == message


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b" ",
        b"<html>",
        b"[" * 1_100,
        b"[" * 1_100 + b"}" * 1_100,
        b'{"a": NaN}',
        b"[1,]",
        b"{,}",
        b'{"a" 1}',
        b'{"a":1 "b":2}',
        b"[1 2]",
        b"1 2",
        b'"\x01"',
        b'"\xff"',
        b"[1e400",
        b'{1: "\\ud800"}',
        b"01",
        b"]",
        b":",
        b"\xef\xbb\xbf{}",
        b'{"a":}',
        b'"\\ud800',
        b"[true, falsch]",
        b'{"a":1,}',
    ],
)
def test_what_is_not_json_is_called_that(body: bytes) -> None:
    assert decode(body) is NOTHING
    assert why_unreadable(body).message == "the body is not JSON"


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers(-9, 9) | st.text(max_size=4),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
        max_leaves=12,
    ),
    st.sampled_from('[]{},:"1 x'),
    st.integers(0, 60),
)
def test_the_grammar_is_that_of_readers(value: object, broken_by: str, place: int) -> None:
    """An unreadable value beside: then only our grammar says whether the whole is JSON."""
    text = json.dumps([value, "mark"]).replace('"mark"', "1e400")
    assert why_unreadable(text.encode()).is_json
    damaged = text[:place] + broken_by + text[place:]
    try:
        json.loads(damaged, parse_constant=lambda _: 1 / 0)
        is_json = True
    except (ValueError, ZeroDivisionError):
        is_json = False
    if decode(damaged.encode()) is NOTHING:
        assert why_unreadable(damaged.encode()).is_json == is_json
    else:
        assert msgspec.json.decode(damaged.encode()) is not NOTHING
