from __future__ import annotations

import string

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from testops_lib.model import Failure
from testops_lib.verdict.fingerprint import fingerprint, fingerprint_of, normalise, parts_of


def test_fingerprint_is_16_hex_digits_and_parts_do_not_run_together() -> None:
    assert fingerprint("a", "b", "c") == fingerprint("a", "b", "c")
    assert set(fingerprint("a", "b", "c")) <= set("0123456789abcdef") and len(fingerprint("", "", "")) == 16
    assert len({fingerprint("a", "bc", "d"), fingerprint("ab", "c", "d"), fingerprint("a", "b", "cd")}) == 3


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("pet 17 not found", "pet 4711 not found"),
        ("id 6f1c2d3e-0000-4000-8000-aaaaaaaaaaaa is gone", "id 0f1c2d3e-1111-4000-9000-bbbbbbbbbbbb is gone"),
        ("at 2026-01-02T03:04:05Z it failed", "at 2027-11-12T13:14:15.123+02:00 it failed"),
        ("connect to 10.0.0.1:8080 refused", "connect to 192.168.3.44:9000 refused"),
        ("GET http://a.example:80/x failed", "GET http://b.example/x failed"),
        ('"abc" is too long', '"abd\\"e" is too long'),
        ("value 'x' is not allowed", "value 'something else' is not allowed"),
        ("$.items[3].price is missing", "$.items[12].price is missing"),
        ("body/items/3/price: wrong", "body/items/12/price: wrong"),
        ("token 5f2ab9c0de11 expired", "token 77aa00ff19cd2e expired"),
        ("took 2,140.5 ms", "took 12 ms"),
    ],
)
def test_what_varies_is_folded(one: str, other: str) -> None:
    assert normalise(one) == normalise(other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("answered 500", "answered 404"),
        ("status code 201 is not documented", "status code 302 is not documented"),
        ("$.items is missing", "$.total is missing"),
        ("doesn't fit, isn't right", "doesn't suit, isn't right"),
    ],
)
def test_what_tells_causes_apart_stays(one: str, other: str) -> None:
    assert normalise(one) != normalise(other)


@settings(max_examples=300)
@given(st.text() | st.text(alphabet=string.digits + "abc-:./'\"`[]#* @T,e+status", max_size=60))
@example("'" * 2_000)
@example('"' + "\\" * 1_999)
def test_normalising_twice_changes_nothing_more(message: str) -> None:
    once = normalise(message)
    assert len(once) <= 300
    assert normalise(once) == once


def test_hostile_messages_are_normalised_quickly() -> None:
    import time

    started = time.process_time()
    for text in ("a." * 50_000, "1-" * 50_000, "a" * 100_000, "'a\\" * 30_000, "http://" * 10_000, "0a" * 50_000):
        normalise(text)
    assert time.process_time() - started < 1


def test_a_fingerprint_is_the_same_in_every_version_of_this_program() -> None:
    """Findings are recognised by it for years."""
    assert fingerprint("GET /pets", "status", "status 500") == "d91f5ddd0d2a01e3"
    assert fingerprint("", "a", "\ud800") == "419720519a19a307", "lone surrogates, too"


def test_the_operation_is_part_of_a_fingerprint_unless_operations_share_the_cause() -> None:
    failure = Failure(check="status", operation="GET /a", message="answered 17", cause="c")
    assert parts_of(failure) == ("GET /a", "status", "c")
    assert parts_of(replace(failure, shared=True)) == ("", "status", "c")
    assert parts_of(replace(failure, sent="PATCH /a")) == ("GET /a", "status", "c (another request)")
    assert parts_of(replace(failure, sent="PATCH /a", check="not_a_server_error"))[0] == ""
    assert parts_of(replace(failure, check="not_a_server_error"))[0] == "GET /a"
    assert parts_of(replace(failure, cause="", message="item 17"))[2] == "item #"
    assert fingerprint_of(failure) == fingerprint("GET /a", "status", "c")


def test_a_normalised_message_is_trimmed_and_of_300_characters() -> None:
    assert normalise("  a   b  ") == "a b"
    assert normalise("x" * 299 + " yy") == "x" * 299
    assert len(normalise("x" * 1_000)) == 300


def test_marks_of_our_own_in_a_message_mean_nothing() -> None:
    assert normalise("a\ue000b\ue010c, status 404") == "abc, status 404"


def test_quoted_values_stay_on_request() -> None:
    assert normalise("no 'a1' in \"b\" and `c`", quoted=False) == "no 'a#' in \"b\" and `c`"
    assert normalise("no 'a1' in \"b\" and `c`") == "no '*' in \"*\" and `*`"
