from __future__ import annotations

import string

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from testops_lib.verdict.fingerprint import fingerprint, normalise


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
