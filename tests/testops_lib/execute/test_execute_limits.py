"""Budgets, rate and stopping."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest
from msgspec import structs
from test_execute_cases import hang

from testops_lib.execute import Engine, run
from testops_lib.model import (
    Case,
    Identity,
    JsonPathIs,
    Login,
    MaxResponseTime,
    NotAServerError,
    Result,
    TokenUse,
)
from tests.testops_lib.execute.engine_server import Seen, Serve, answer, case, execute, plan, run_one, step


@pytest.mark.parametrize("limit", [1, 4, 7])
def test_request_budget_holds_exactly(serve: Serve, limit: int) -> None:
    server = serve()
    cases = [case(step("GET", f"/{i}")) for i in range(12)]
    results = execute(Engine(plan(server.url, concurrency=5), {}, run="r", max_requests=limit), cases)
    assert len(server.seen) == limit
    assert [r.verdict for r in results].count("passed") == limit
    assert {(r.verdict, r.reason, r.requests) for r in results} == {("passed", "", 1), ("skipped", "budget spent", 0)}
    assert len(results) == 12


def test_case_that_does_not_fit_is_not_begun_and_smaller_ones_go_on(serve: Serve) -> None:
    server = serve()
    big = case(step("GET", "/big"), step("GET", "/big2"), cleanup=(step("DELETE", "/big"),))
    cases = [case(step("GET", "/1")), big, case(step("GET", "/2"))]
    results = execute(Engine(plan(server.url, concurrency=1), {}, run="r", max_requests=3), cases)
    assert {r.operation: r.reason for r in results} == {"GET /1": "", "GET /big": "budget spent", "GET /2": ""}
    assert server.targets() == ["GET /1", "GET /2"]


def test_a_fifth_of_the_budget_is_kept_for_what_comes_last(serve: Serve) -> None:
    server = serve()
    cases = [case(step("GET", f"/{i}")) for i in range(20)]
    cases += [case(step("DELETE", "/all"), last=True), case(step("POST", "/logout"), last=True)]
    results = execute(Engine(plan(server.url, concurrency=3), {}, run="r", max_requests=10), cases)
    assert len(server.seen) == 10 and server.targets()[8:] == ["DELETE /all", "POST /logout"]
    assert [r.reason for r in results].count("budget spent") == 12


def probe(path: str) -> Case:
    return structs.replace(case(step("DELETE", path), last=True), intent="negative")


def test_little_of_the_budget_is_kept_for_probes_that_come_last(serve: Serve) -> None:
    server = serve()
    cases = [case(step("GET", f"/{i}")) for i in range(120)]
    cases += [*(probe(f"/probe/{i}") for i in range(20)), case(step("POST", "/logout"), last=True)]
    results = execute(Engine(plan(server.url, concurrency=3), {}, run="r", max_requests=100), cases)
    ends = ["DELETE /probe/0", "DELETE /probe/1", "POST /logout"]
    assert len(server.seen) == 100 and server.targets()[97:] == ends
    assert [r.reason for r in results].count("budget spent") == len(cases) - 100


def test_probes_that_come_last_take_what_nobody_else_needs(serve: Serve) -> None:
    server = serve()
    cases = [case(step("GET", "/0")), *(probe(f"/probe/{i}") for i in range(8)), case(step("POST", "/out"), last=True)]
    execute(Engine(plan(server.url, concurrency=3), {}, run="r", max_requests=7), cases)
    assert server.targets() == ["GET /0", *(f"DELETE /probe/{i}" for i in range(5)), "POST /out"]


def test_what_a_case_sets_aside_and_does_not_send_is_given_back(serve: Serve) -> None:
    server = serve(lambda c, s: hang(0.05)(c, s))
    short = case(step("GET", "/stop", expect=500), *(step("GET", f"/never/{i}") for i in range(4)))
    cases = [short, *(case(step("GET", f"/{i}")) for i in range(4))]
    results = execute(Engine(plan(server.url, concurrency=3), {}, run="r", max_requests=5), cases)
    assert len(server.seen) == 5 and {r.reason for r in results} == {""}


def test_confirmations_and_redirects_count_and_never_exceed(serve: Serve) -> None:
    def handler(connection: Any, seen: Seen) -> bytes | None:
        return answer(302, "", "Location: /go") if seen.target == "/go" else hang(0.08)(connection, seen)

    server = serve(handler)
    slow = case(step("GET", "/slow", checks=(MaxResponseTime(limit_ms=20),)))
    engine = Engine(plan(server.url, concurrency=1, follow_redirects=9), {}, run="r", max_requests=2)
    results = execute(engine, [slow, case(step("GET", "/x"))])
    assert [(r.verdict, r.requests) for r in results] == [("failed", 2), ("skipped", 0)]
    assert run_one(plan(server.url), slow, max_requests=1).verdict == "passed"  # no request left to confirm with
    assert run_one(plan(server.url, follow_redirects=9), case(step("GET", "/go")), max_requests=4).requests == 4
    assert len(server.seen) == 2 + 1 + 4


def test_a_broken_kept_connection_without_budget_for_another_is_no_finding(serve: Serve) -> None:
    server = serve(lambda c, s: None if s.target == "/die" else answer())
    result = run_one(plan(server.url), case(step("GET", "/"), step("GET", "/die")), max_requests=2)
    assert (result.verdict, result.reason, result.requests) == ("skipped", "budget spent", 2)
    assert server.targets() == ["GET /", "GET /die"]


@pytest.mark.parametrize("limit", [1, 2, 5, 13, 60, 200])
@pytest.mark.parametrize("concurrency", [1, 6])
def test_every_request_on_the_wire_is_counted(serve: Serve, limit: int, concurrency: int) -> None:
    def handler(connection: Any, seen: Seen) -> bytes | None:
        kind = len(seen.target) and int(seen.target[-1]) % 5 if seen.target[-1].isdigit() else 0
        if seen.target == "/login":
            return answer(200, '{"token": "t0p"}')
        return {1: answer(503), 2: None, 3: answer(500), 4: answer(401)}.get(kind, answer())

    token = TokenUse(extract_from="body", selector="/token", send_in="header", send_name="X-Token")
    users = tuple(
        Identity(name=name, login=Login(url="/login", payload="{}", token=token)) for name in ("one", "two", "three")
    )
    server = serve(handler)
    cases = [
        case(
            step(method, f"/a/{n}", identity=user.name, operation=f"{method} /a/{n % 5}"),
            step("GET", f"/b/{n + 1}"),
            cleanup=(step("DELETE", f"/c/{n}"),),
            last=n == 19,
        )
        for n in range(20)
        for method in ("GET", "POST")
        for user in users
    ]
    engine = Engine(
        plan(server.url, concurrency=concurrency, breaker_wait_s=0.3, identities=users), {}, run="r", max_requests=limit
    )
    results = execute(engine, cases)
    assert len(results) == len(cases)
    assert len(server.seen) == engine.requests_sent == sum(result.requests for result in results) <= limit
    assert limit < 5 or len(server.seen) > limit / 2


def test_an_operation_that_is_always_unavailable_costs_no_probe_each_time(serve: Serve) -> None:
    server = serve(lambda c, s: answer(200 if s.target != "/off" else 503))
    off = [step("GET", "/off", checks=(NotAServerError(),)) for _ in range(30)]
    cases = [case(each, step("GET", f"/{n}"), name=str(n)) for n, each in enumerate(off)]
    cases = [item for n in range(30) for item in (case(step("GET", f"/fine/{n}")), cases[n])]
    results = execute(Engine(plan(server.url, concurrency=2, breaker_wait_s=5), {}, run="r"), cases)
    assert [result.verdict for result in results].count("failed") == 30
    assert server.targets().count("GET /") <= 4


def test_time_budget_ends_everything(serve: Serve) -> None:
    server = serve(lambda c, s: hang(0.1)(c, s))
    cases = [case(step("GET", f"/{i}"), step("GET", f"/{i}/b")) for i in range(50)]
    before = time.monotonic()
    results = execute(Engine(plan(server.url, concurrency=2), {}, run="r", max_time_s=0.35), cases)
    assert 0.3 < time.monotonic() - before < 1
    assert len(results) == 50
    assert {(r.verdict, r.reason) for r in results} == {("passed", ""), ("skipped", "budget spent")}
    assert 4 <= len(server.seen) <= 10


def test_time_budget_still_cleans_up(serve: Serve) -> None:
    server = serve(lambda c, s: hang()(c, s) if s.target == "/hang" else answer())
    the_case = case(step("GET", "/a"), step("GET", "/hang"), cleanup=(step("DELETE", "/a"),))
    result = run_one(plan(server.url), the_case, max_time_s=0.2)
    assert (result.verdict, result.reason) == ("skipped", "budget spent")
    assert server.targets() == ["GET /a", "GET /hang", "DELETE /a"]


def test_rate_is_smooth(serve: Serve) -> None:
    """A busy machine sends later than planned, never earlier: no request may arrive before its turn."""
    server, rate = serve(), 8
    cases = [case(step("GET", f"/{i}"), step("GET", f"/{i}/b")) for i in range(8)]
    engine = Engine(plan(server.url, concurrency=8, requests_per_second=rate, case_timeout_s=1.5), {}, run="r")
    begun = time.monotonic()
    results = execute(engine, cases)
    assert {r.verdict for r in results} == {"passed"}  # waiting for the rate is not the case's time
    assert len(server.seen) == 16
    for turn, seen in enumerate(sorted(server.seen, key=lambda seen: seen.at)):
        assert seen.at - begun >= turn / rate


def test_a_part_of_the_limits_is_all_that_is_used_and_may_grow_and_shrink(serve: Serve) -> None:
    under_way, most, lock = 0, 0, threading.Lock()

    def handler(connection: Any, seen: Seen) -> bytes | None:
        nonlocal under_way, most
        with lock:
            under_way += 1
            most = max(most, under_way)
        time.sleep(0.02)
        with lock:
            under_way -= 1
        return answer()

    engine = Engine(plan(serve(handler).url, concurrency=6), {}, run="r")
    mosts: list[int] = []

    def cases() -> Any:
        nonlocal most
        for number in range(120):
            if number in (40, 80):
                time.sleep(0.2)  # nothing is under way when the limit changes
                mosts.append(most)
                most = 0
                width = {40: 6, 80: 1}[number]
                other = threading.Thread(target=engine.limit, kwargs={"concurrency": width, "requests_per_second": 0})
                other.start()
                other.join()
            if number == 90:
                most = 0  # those who had begun have ended
            yield case(step("GET", f"/{number}"))

    engine.limit(concurrency=2, requests_per_second=0)
    results = execute(engine, cases())
    assert [r.verdict for r in results] == ["passed"] * 120
    assert mosts[0] == 2 and 2 < mosts[1] <= 6
    assert most == 1, "of the last cases one after the other"


def test_those_who_wait_for_a_part_end_with_the_cases_and_with_a_stop(serve: Serve) -> None:
    server = serve(lambda c, s: hang(0.05)(c, s))
    for stops in (False, True):
        engine = Engine(plan(server.url, concurrency=8), {}, run="r")
        engine.limit(concurrency=1, requests_per_second=0)
        if stops:
            threading.Timer(0.2, engine.stop).start()
        begun = time.monotonic()
        results = execute(engine, [case(step("GET", f"/{number}")) for number in range(20 if stops else 4)])
        assert time.monotonic() - begun < 3
        assert (len(results) == 4) if not stops else (1 <= len(results) < 20)


@pytest.mark.timeout(30)
def test_without_a_part_nothing_is_sent_and_a_stop_ends_it(serve: Serve) -> None:
    server = serve()
    engine = Engine(plan(server.url, concurrency=3), {}, run="r")
    engine.limit(concurrency=0, requests_per_second=0)
    threading.Timer(0.5, engine.stop).start()
    assert execute(engine, [case(step("GET", f"/{number}")) for number in range(9)]) == []
    assert server.seen == []


def test_a_rate_may_change_on_the_way(serve: Serve) -> None:
    server = serve()
    engine = Engine(plan(server.url, concurrency=1, requests_per_second=20), {}, run="r")

    def cases() -> Any:
        for number in range(30):
            if number == 10:
                engine.limit(concurrency=1, requests_per_second=100)
            yield case(step("GET", f"/{number}"))

    execute(engine, cases())
    times = [seen.at for seen in server.seen]
    assert times[9] - times[0] >= 9 / 20 * 0.95
    assert 19 / 100 * 0.95 <= times[29] - times[10] < 19 / 20 * 0.8


def collect(engine: Engine, cases: Any, **options: Any) -> list[Result]:
    found: list[Result] = []
    run(engine, cases, found.append, **options)
    return found


def test_stop_lets_what_is_in_flight_finish(serve: Serve) -> None:
    server = serve(lambda c, s: hang(0.15)(c, s))
    engine = Engine(plan(server.url, concurrency=2), {}, run="r")
    timer = threading.Timer(0.08, engine.stop)
    timer.start()
    results = collect(engine, (case(step("GET", f"/{i}")) for i in range(50)))
    timer.join()
    assert engine.stopped and [r.verdict for r in results] == ["passed", "passed"]


def test_stop_marks_what_does_not_finish_in_time_and_cleans_up(serve: Serve) -> None:
    server = serve(lambda c, s: hang()(c, s) if s.target.startswith("/hang") else answer())
    cases = [case(step("POST", "/x"), step("GET", f"/hang{i}"), cleanup=(step("DELETE", f"/x{i}"),)) for i in range(9)]
    engine = Engine(plan(server.url, concurrency=3), {}, run="r")
    timer = threading.Timer(0.1, engine.stop, (0.1,))
    before = time.monotonic()
    timer.start()
    results = collect(engine, iter(cases))
    timer.join()
    assert time.monotonic() - before < 2
    assert [(r.verdict, r.reason) for r in results] == [("errored", "stopped")] * 3
    assert sorted(t for t in server.targets() if t.startswith("DELETE")) == ["DELETE /x0", "DELETE /x1", "DELETE /x2"]


def test_failure_found_before_the_stop_stays_a_failure(serve: Serve) -> None:
    server = serve(lambda c, s: hang()(c, s) if s.target == "/hang" else answer())
    engine = Engine(plan(server.url), {}, run="r")
    timer = threading.Timer(0.1, engine.stop, (0.0,))
    timer.start()
    (result,) = collect(engine, [case(step(checks=(JsonPathIs(path="$.x"),)), step("GET", "/hang"))])
    timer.join()
    assert result.verdict == "failed"


def test_hanging_cleanup_does_not_outlive_a_stop(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    from testops_lib.execute import shutdown

    monkeypatch.setattr(shutdown, "CLEANUP_AFTER_STOP_S", 0.2)
    server = serve(lambda c, s: hang()(c, s) if s.method != "POST" else answer())
    engine = Engine(plan(server.url), {}, run="r")
    timer = threading.Timer(0.1, engine.stop, (0.0,))
    before = time.monotonic()
    timer.start()
    cases = [
        case(step("POST", "/x"), cleanup=(step("DELETE", "/x"), step("DELETE", "/y"))),
        case(step("POST", "/x"), step("GET", "/hang"), cleanup=(step("DELETE", "/z"),)),
    ]
    results = collect(engine, cases)
    timer.join()
    assert time.monotonic() - before < 1.5
    assert sorted(r.verdict for r in results) == ["errored", "passed"]


def test_stop_wakes_those_who_wait_for_the_rate(serve: Serve) -> None:
    server = serve()
    engine = Engine(plan(server.url, requests_per_second=0.1, concurrency=2), {}, run="r")
    timer = threading.Timer(0.15, engine.stop, (0.05,))
    before = time.monotonic()
    timer.start()
    results = collect(engine, (case(step("GET", f"/{i}")) for i in range(9)))
    timer.join()
    assert time.monotonic() - before < 2
    assert {r.verdict for r in results} == {"passed", "errored"} and len(results) <= 3


def test_signal_stops_the_run(serve: Serve) -> None:
    server = serve(lambda c, s: hang(0.05)(c, s))
    engine = Engine(plan(server.url, concurrency=2), {}, run="r")
    timer = threading.Timer(0.12, os.kill, (os.getpid(), signal.SIGUSR1))
    timer.start()
    results = collect(engine, (case(step("GET", f"/{i}")) for i in range(500)), signals=(signal.SIGUSR1,))
    timer.join()
    assert 2 <= len(results) < 20 and {r.verdict for r in results} == {"passed"}


def test_stop_before_the_start_takes_nothing(serve: Serve) -> None:
    engine = Engine(plan(serve().url), {}, run="r")
    engine.stop()
    assert collect(engine, [case(step())]) == []


def test_stop_ends_the_wait_for_more_cases(serve: Serve) -> None:
    server = serve()

    async def cases() -> AsyncIterator[Case]:
        yield case(step("GET", "/1"))
        yield case(step("GET", "/2"))
        await asyncio.sleep(60)
        yield case(step("GET", "/3"))

    engine = Engine(plan(server.url), {}, run="r")
    timer = threading.Timer(0.2, engine.stop)
    timer.start()
    results = collect(engine, cases())
    timer.join()
    assert sorted(r.operation for r in results) == ["GET /1", "GET /2"]


def test_cases_that_come_by_the_list_are_each_executed_once(serve: Serve) -> None:
    server = serve()
    made = [case(step("GET", f"/{i}")) for i in range(50)]

    async def cases() -> AsyncIterator[list[Case]]:
        for part in (made[:20], [], made[20:21], made[21:]):
            await asyncio.sleep(0)
            yield part

    results = collect(Engine(plan(server.url, concurrency=7), {}, run="r"), cases())
    assert sorted(r.case for r in results) == sorted(item.id for item in made)
    assert sorted(server.targets()) == sorted(item.operation for item in made)


def test_what_is_left_of_a_list_is_not_started_after_stop(serve: Serve) -> None:
    server = serve(lambda c, s: hang(0.05)(c, s))

    async def cases() -> AsyncIterator[list[Case]]:
        yield [case(step("GET", f"/{i}")) for i in range(500)]

    engine = Engine(plan(server.url, concurrency=2), {}, run="r")
    timer = threading.Timer(0.2, engine.stop)
    timer.start()
    results = collect(engine, cases())
    timer.join()
    assert 2 <= len(results) < 20 and len(server.seen) == len(results)


def test_deferred_last_cases_are_marked_when_stopped(serve: Serve) -> None:
    server = serve(lambda c, s: hang(0.2)(c, s))
    engine = Engine(plan(server.url), {}, run="r")
    timer = threading.Timer(0.1, engine.stop)
    timer.start()
    results = collect(engine, [case(step("GET", "/end"), last=True), case(step("GET", "/a"))])
    timer.join()
    assert [(r.operation, r.verdict, r.reason) for r in results] == [
        ("GET /a", "passed", ""),
        ("GET /end", "errored", "stopped"),
    ]


def test_closing_the_results_early_ends_everything(serve: Serve) -> None:
    server = serve(lambda c, s: hang()(c, s) if s.target != "/0" else answer())

    async def main() -> None:
        results = Engine(plan(server.url), {}, run="r").run([case(step("GET", f"/{i}")) for i in range(20)])
        assert (await anext(results)).operation == "GET /0"
        await results.aclose()

    before = time.monotonic()
    asyncio.run(main())  # the standard loop serves as well
    assert time.monotonic() - before < 2


def test_engine_can_run_again(serve: Serve) -> None:
    server = serve()
    engine = Engine(plan(server.url), {}, run="r")
    assert len(collect(engine, [case(step())])) == len(collect(engine, [case(step())])) == 1
    assert engine.requests_sent == 2
