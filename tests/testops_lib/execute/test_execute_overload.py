"""Overload: fewer cases at once, then more again; and what asks to come back later is heard."""

from __future__ import annotations

import socket
import threading
import time
from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from testops_lib.execute import Engine
from testops_lib.execute.concurrency import ANSWERS_A_STEP, Concurrency, overload
from testops_lib.execute.retry_after import retry_after_s, wait_s
from testops_lib.http.answer import Answer
from testops_lib.model import NotAServerError
from tests.testops_lib.execute.engine_server import (
    Handler,
    Seen,
    Serve,
    answer,
    case,
    execute,
    hang,
    plan,
    run_one,
    step,
)

# -- the decisions


def test_overload_halves_once_for_all_that_was_under_way() -> None:
    cases = Concurrency(8)
    assert cases.overloaded("answered 503", "GET /a", begun=1, at=2, alone=False) and cases.now == 4
    assert not cases.overloaded("answered 503", "GET /a", begun=1.5, at=3, alone=False) and cases.now == 4
    assert cases.overloaded("answered 503", "GET /a", begun=2.5, at=4, alone=False) and cases.now == 2
    assert cases.overloaded("answered 503", "GET /a", begun=5, at=6, alone=False) and cases.now == 1
    assert not cases.overloaded("answered 503", "GET /a", begun=7, at=8, alone=False) and cases.now == 1
    assert str(cases) == "overload: answered 503 (5); cases at once went down to 1 of 8, at the end 1"


def test_answers_raise_it_by_one_each_time_later() -> None:
    cases = Concurrency(3)
    cases.overloaded("timeout", "GET /a", begun=0, at=1, alone=False)
    assert [cases.answered(begun=0.5) for _ in range(100)] == [False] * 100, "sent before it was lowered"
    needed = []
    while cases.now < 3:
        count = 1
        while not cases.answered(begun=2):
            count += 1
        needed.append(count)
    assert needed == [ANSWERS_A_STEP, 2 * ANSWERS_A_STEP]
    assert not cases.answered(begun=3) and cases.now == 3


def test_a_part_of_the_limit_is_what_is_halved() -> None:
    cases = Concurrency(8)
    cases.limit(0)
    cases.limit(4)
    assert cases.now == cases.lowest == 4 and str(cases) == ""
    assert cases.overloaded("timeout", "GET /a", begun=1, at=2, alone=False) and cases.now == 2
    cases.limit(8)
    assert (cases.now, cases.lowest, cases.most) == (2, 2, 8), "more may come, one by one"
    cases.limit(1)
    assert (cases.now, cases.lowest) == (1, 2)


def test_an_operation_that_is_overloaded_alone_lowers_nothing() -> None:
    cases = Concurrency(8)
    assert not cases.overloaded("answered 503", "GET /off", begun=1, at=2, alone=True)
    assert not cases.overloaded("answered 503", "GET /off", begun=3, at=4, alone=False)
    assert cases.now == 8 and str(cases) == ""
    assert cases.overloaded("answered 503", "GET /other", begun=5, at=6, alone=False)


@given(st.integers(1, 40), st.lists(st.tuples(st.booleans(), st.booleans(), st.floats(0, 3)), max_size=300))
def test_it_stays_within_its_bounds(most: int, events: list[tuple[bool, bool, float]]) -> None:
    cases, now = Concurrency(most), 10.0
    for bad, alone, ago in events:
        now += 1
        before = cases.now
        if bad:
            cases.overloaded("timeout", "GET /a", begun=now - ago, at=now, alone=alone)
            assert cases.now in (before, max(1, before // 2))
        else:
            cases.answered(begun=now - ago)
            assert cases.now in (before, before + 1)
        assert 1 <= cases.lowest <= cases.now <= most


@pytest.mark.parametrize(
    ("status", "body", "sign"),
    [
        (200, b"database is locked", ""),
        (500, b"boom", ""),
        (500, b'{"detail": "(sqlite3.OperationalError) database is locked"}', "database is locked"),
        (503, b"Database Is Locked", "database is locked"),
        (500, b"ERROR: deadlock detected", "deadlock detected"),
        (503, b"", "answered 503"),
        (429, b"", "answered 429"),
    ],
)
def test_signs_of_overload(status: int, body: bytes, sign: str) -> None:
    assert overload(Answer(status=status, body=body)) == sign


NOW = datetime(2026, 3, 14, 2, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("3", 3),
        (" 0 ", 0),
        ("Sat, 14 Mar 2026 02:00:05 GMT", 5),
        ("Sat, 14 Mar 2026 01:00:00 GMT", 0),
        ("Saturday, 14-Mar-26 02:00:07 GMT", 7),
        ("-1", None),
        ("1.5", None),
        ("soon", None),
        ("", None),
        ("٣", None),
        ("9" * 400, 999_999_999),
        ("Sat, 99 Mar 2026 02:00:05 GMT", None),
    ],
)
def test_retry_after_is_seconds_or_a_date(value: str, seconds: float | None) -> None:
    headers = (("RETRY-after", value),)
    assert retry_after_s(Answer(status=429, headers=headers), NOW) == seconds
    assert retry_after_s(Answer(status=503, headers=headers), NOW) == seconds
    assert retry_after_s(Answer(status=200, headers=headers), NOW) is None
    assert retry_after_s(Answer(status=429, headers=headers * 2), NOW) is None


def test_waiting_is_bounded_and_harms_nothing() -> None:
    busy = Answer(status=503, headers=(("Retry-After", "5"),))
    limited = Answer(status=429, headers=(("Retry-After", "5"),))
    free: dict[str, Any] = {"repeatable": True, "left_s": float("inf"), "waited_s": 0.0, "down_s": 0.0}
    assert wait_s(busy, NOW, **free) == wait_s(limited, NOW, **free) == 5
    assert wait_s(busy, NOW, **{**free, "repeatable": False}) is None, "it may have been processed"
    assert wait_s(limited, NOW, **{**free, "repeatable": False}) == 5
    assert wait_s(limited, NOW, **{**free, "left_s": 4.0}) is None
    assert wait_s(limited, NOW, **{**free, "waited_s": 596.0}) is None
    assert wait_s(Answer(status=429, headers=(("Retry-After", "61"),)), NOW, **free) is None
    away = Answer(status=503, headers=(("Retry-After", "20"),))
    assert wait_s(away, NOW, **free) is None and wait_s(away, NOW, **{**free, "down_s": 30.0}) == 20


@given(st.text(max_size=40))
def test_any_retry_after_is_read(value: str) -> None:
    seconds = retry_after_s(Answer(status=429, headers=(("Retry-After", value),)), NOW)
    assert seconds is None or seconds >= 0


# -- at work


class Crowded:
    """A server that takes `room` requests at once and refuses the others."""

    def __init__(self, room: int, refusal: bytes) -> None:
        self.room, self.refusal = room, refusal
        self.lock = threading.Lock()
        self.inside = 0
        self.refused = 0

    def __call__(self, connection: socket.socket, seen: Seen) -> bytes:
        with self.lock:
            self.inside += 1
            crowded = self.inside > self.room
            self.refused += crowded
        try:
            time.sleep(0.005)
            return self.refusal if crowded and seen.target != "/" else answer()
        finally:
            with self.lock:
                self.inside -= 1


def test_concurrency_follows_what_the_target_bears(serve: Serve) -> None:
    crowded = Crowded(2, answer(500, '{"error": "database is locked"}'))
    server = serve(crowded)
    engine = Engine(plan(server.url, concurrency=8), {}, run="r")
    cases = [case(step("POST", f"/{n % 20}", checks=(NotAServerError(),)), name=str(n)) for n in range(300)]
    results = execute(engine, cases)
    refused = [result for result in results if result.verdict == "failed"]
    assert 0 < len(refused) < 60, "at 8 at once most of 300 would be"
    assert engine.concurrency.lowest < 8 and "database is locked" in str(engine.concurrency)
    assert {result.steps[0].overload for result in refused} == {"database is locked"}
    assert min(result.concurrency or 8 for result in results) == engine.concurrency.lowest


def test_concurrency_comes_back_when_the_overload_is_over(serve: Serve) -> None:
    server = serve(lambda c, s: answer(503 if s.target.startswith("/busy") else 200))
    engine = Engine(plan(server.url, concurrency=3, breaker_after=0), {}, run="r")
    busy = [case(step("GET", f"/busy/{n}")) for n in range(3)]
    execute(engine, [*busy, *(case(step("GET", f"/{n}")) for n in range(200))])
    assert engine.concurrency.lowest < 3 and engine.concurrency.now == 3


def test_timeouts_in_a_crowd_are_overload(serve: Serve) -> None:
    lock = threading.Lock()

    def handler(connection: socket.socket, seen: Seen) -> bytes:
        with lock:
            time.sleep(0.1)
        return answer()

    engine = Engine(plan(serve(handler).url, concurrency=8, request_timeout_s=0.35, breaker_after=0), {}, run="r")
    results = execute(engine, [case(step("GET", f"/{n}", operation="GET /{n}")) for n in range(30)])
    assert engine.concurrency.lowest < 8 and engine.concurrency.signs["timeout"]
    late = results[-10:]
    assert [result.verdict for result in late].count("passed") >= 8


def test_an_operation_that_never_answers_lowers_nothing(serve: Serve) -> None:
    server = serve(lambda c, s: hang(5)(c, s) if s.target.startswith("/hang") else answer())
    engine = Engine(plan(server.url, concurrency=4, request_timeout_s=0.2, breaker_after=0), {}, run="r")
    cases = [case(step("GET", f"/{kind}/{n}", operation=f"GET /{kind}")) for n in range(6) for kind in ("hang", "ok")]
    execute(engine, cases)
    assert engine.concurrency.lowest == 4


def limited(times: int, status: int, after: str) -> Handler:
    """Refuses each target so many times."""
    asked: Counter[str] = Counter()

    def handler(connection: socket.socket, seen: Seen) -> bytes:
        asked[seen.target] += 1
        return answer(status, "{}", f"Retry-After: {after}") if asked[seen.target] <= times else answer()

    return handler


@pytest.mark.parametrize(("method", "status"), [("GET", 429), ("POST", 429), ("GET", 503)])
def test_a_request_is_sent_again_when_the_target_asked_for_it(serve: Serve, method: str, status: int) -> None:
    server = serve(limited(2, status, "0"))
    result = run_one(plan(server.url), case(step(method, "/x", expect=200)))
    assert (result.verdict, result.requests, result.steps[0].repeated) == ("passed", 3, f"answered {status}")
    assert result.steps[0].asked_to_wait == 2


def test_the_wait_is_what_was_asked_for_and_not_the_cases_time(serve: Serve) -> None:
    server = serve(limited(1, 429, "1"))
    result = run_one(plan(server.url, case_timeout_s=0.8), case(step("POST", "/x", expect=200)))
    assert result.verdict == "passed" and result.steps[0].waited_s == 1
    assert server.seen[1].at - server.seen[0].at >= 0.99


def test_an_unsafe_request_is_not_sent_again_after_a_503(serve: Serve) -> None:
    server = serve(lambda c, s: answer(200) if s.target == "/" else limited(9, 503, "0")(c, s))
    result = run_one(plan(server.url), case(step("POST", "/x", checks=(NotAServerError(),))))
    assert [failure.check for failure in result.failures] == ["not_a_server_error"]
    assert server.targets().count("POST /x") == 1


def test_a_429_that_is_expected_is_an_answer(serve: Serve) -> None:
    server = serve(limited(9, 429, "0"))
    assert run_one(plan(server.url), case(step("GET", "/x", expect=429))).verdict == "passed"
    assert len(server.seen) == 1


def test_waiting_ends_with_the_run_and_repeats_stay_in_the_budget(serve: Serve) -> None:
    server = serve(limited(9, 429, "30"))
    before = time.monotonic()
    result = run_one(plan(server.url), case(step("GET", "/x", expect=200)), max_time_s=5)
    assert result.verdict == "failed" and time.monotonic() - before < 3
    assert (result.steps[0].asked_to_wait, result.steps[0].waited_s) == (1, 0)
    server = serve(limited(9, 429, "0"))
    result = run_one(plan(server.url), case(step("GET", "/x", expect=200)), max_requests=2)
    assert len(server.seen) == result.requests == 2


def test_a_login_comes_back_when_it_was_asked_to(serve: Serve) -> None:
    from testops_lib.model import Identity, Login, TokenUse

    refuse = limited(1, 429, (datetime.now(UTC) - timedelta(seconds=9)).strftime("%a, %d %b %Y %H:%M:%S GMT"))

    def handler(connection: socket.socket, seen: Seen) -> Any:
        refused = refuse(connection, seen) if seen.target == "/login" else b""
        return refused if b" 429 " in refused else answer(body='{"token": "t"}')

    token = TokenUse(extract_from="body", selector="/token", send_in="header", send_name="Authorization")
    identity = Identity(name="u", login=Login(url="/login", payload="{}", token=token))
    server = serve(handler)
    result = run_one(plan(server.url, identities=(identity,)), case(step("GET", "/x", expect=200)))
    assert (result.verdict, result.requests) == ("passed", 3)
