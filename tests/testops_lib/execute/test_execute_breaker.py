from __future__ import annotations

import socket
import threading
import time
from collections import Counter
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from testops_lib.execute import Engine
from testops_lib.execute.breaker import Breaker
from testops_lib.model import Contract, NotAServerError, Result
from tests.testops_lib.execute.engine_server import Seen, Serve, Server, answer, case, execute, hang, plan, step

# -- the decision


@given(st.lists(st.booleans(), max_size=40), st.integers(1, 12))
def test_open_is_so_many_failures_in_a_row_and_no_answer_since(answers: list[bool], after: int) -> None:
    breaker = Breaker(after, 30)
    for now, answered in enumerate(answers):
        if answered:
            breaker.answered()
        else:
            breaker.failed(now)
    row = next((n for n, answered in enumerate(reversed(answers)) if answered), len(answers))
    assert breaker.open == (row >= after)


def test_a_target_is_given_up_when_it_was_silent_for_the_whole_wait() -> None:
    breaker = Breaker(3, 30)
    assert not breaker.given_up(1e9)
    breaker.failed(100)
    breaker.failed(120)
    assert not breaker.given_up(129.9) and breaker.given_up(130)
    breaker.answered()
    breaker.failed(140)
    assert not breaker.given_up(169)


def test_without_a_threshold_it_never_opens() -> None:
    breaker = Breaker(0, 30)
    for now in range(100):
        breaker.failed(now)
    assert not breaker.open


# -- at work


class Outage:
    """A server that goes away when `count` requests have come and is back on its port after `seconds`."""

    def __init__(self, serve: Serve, count: int, seconds: float) -> None:
        self._serve, self._count, self._seconds = serve, count, seconds
        self._lock = threading.Lock()
        self._begun = False
        self.first = serve(self._handle)
        self.url = self.first.url
        self.second: Server | None = None
        self._thread = threading.Thread(target=self._restart)

    def _handle(self, connection: socket.socket, seen: Seen) -> bytes | None:
        time.sleep(0.005)
        with self._lock:
            if len(self.first.seen) >= self._count and not self._begun:
                self._begun = True
                self._thread.start()
            return None if self._begun else answer()

    def _restart(self) -> None:
        self.first.close()
        time.sleep(self._seconds)
        self.second = self._serve(lambda connection, seen: answer(), port=self.first.port)

    def targets(self) -> list[str]:
        self._thread.join()
        assert self.second is not None
        return self.first.targets() + self.second.targets()


def verdicts(results: list[Result]) -> Counter[tuple[str, str]]:
    return Counter((result.verdict, result.reason) for result in results)


def cases(count: int, method: str = "GET") -> list[Any]:
    return [case(step(method, f"/{number}", checks=(NotAServerError(),)), name=str(number)) for number in range(count)]


def test_an_outage_that_ends_in_time_loses_nothing(serve: Serve) -> None:
    outage = Outage(serve, 60, 1.5)
    engine = Engine(plan(outage.url, breaker_wait_s=20), {}, run="r1")
    results = execute(engine, cases(200))
    assert verdicts(results) == {("passed", ""): 200}
    assert sorted(result.case for result in results) == sorted(case.id for case in cases(200))
    repeated = [result for result in results if result.steps[0].repeated]
    assert 1 <= len(repeated) <= 8, "only what was on its way"
    assert not engine.target_down
    probes = outage.targets().count("GET /")
    assert 1 <= probes < 8


def test_what_may_have_been_processed_is_not_repeated_when_that_could_harm(serve: Serve) -> None:
    outage = Outage(serve, 60, 1)
    engine = Engine(plan(outage.url, breaker_wait_s=20, breaker_after=3), {}, run="r1")
    results = execute(engine, cases(150, "POST"))
    assert max(Counter(t for t in outage.targets() if t != "GET /").values()) == 1
    assert {result.verdict for result in results} == {"passed", "errored"}, "an outage is no finding"
    errored = [result for result in results if result.verdict == "errored"]
    assert 1 <= len(errored) <= 8 and all(result.reason.startswith("target down: ") for result in errored)
    assert engine.target_down


def test_the_rest_is_skipped_when_the_target_stays_away(serve: Serve) -> None:
    server = serve()
    server.close()
    engine = Engine(plan(server.url, breaker_wait_s=1), {}, run="r1")
    before = time.monotonic()
    outcomes = verdicts(execute(engine, cases(500)))
    assert outcomes == {("errored", "target down: connection refused"): 8, ("skipped", "target down"): 492}
    assert 1 <= time.monotonic() - before < 4
    assert engine.requests_sent == 0 and engine.target_down


def test_a_storm_of_503_is_an_outage(serve: Serve) -> None:
    storm = {"from": 40, "until": float("inf")}

    def handler(connection: socket.socket, seen: Seen) -> bytes:
        if len(server.seen) == storm["from"]:
            storm["until"] = time.monotonic() + 1.5
        down = len(server.seen) >= storm["from"] and time.monotonic() < storm["until"]
        return answer(503 if down else 200)

    server = serve(handler)
    results = execute(Engine(plan(server.url, breaker_wait_s=20), {}, run="r1"), cases(150))
    assert verdicts(results) == {("passed", ""): 150}
    assert {result.steps[0].repeated for result in results} == {"", "answered 503"}
    assert len(server.seen) < 150 + 8 + 10


def test_a_lasting_storm_of_503_skips_the_rest(serve: Serve) -> None:
    server = serve(lambda connection, seen: answer(503))
    outcomes = verdicts(execute(Engine(plan(server.url, breaker_wait_s=0.5), {}, run="r1"), cases(100)))
    assert set(outcomes) == {("errored", "target down: answered 503"), ("skipped", "target down")}
    assert len(server.seen) < 40


def test_a_503_of_one_operation_is_a_finding(serve: Serve) -> None:
    server = serve(lambda connection, seen: answer(200 if seen.target == "/" else 503))
    outcomes = verdicts(execute(Engine(plan(server.url, breaker_wait_s=5), {}, run="r1"), cases(30)))
    assert outcomes == {("failed", ""): 30}


def test_an_accepted_503_is_an_answer(serve: Serve) -> None:
    server = serve(lambda connection, seen: answer(503))
    contract = Contract(operation="GET /x", responses={}, accepted_statuses=(503,))
    expected = case(step("GET", "/y", expect=503))
    engine = Engine(plan(server.url, breaker_wait_s=5), {"GET /x": contract}, run="r1")
    results = execute(engine, [case(step("GET", "/x", checks=(NotAServerError(),))), expected])
    assert [result.verdict for result in results] == ["passed", "passed"]
    assert "GET /" not in server.targets()


def test_a_request_that_alone_breaks_connections_is_a_finding(serve: Serve) -> None:
    server = serve(lambda connection, seen: answer() if seen.target == "/" else None)
    outcomes = execute(Engine(plan(server.url, breaker_wait_s=5), {}, run="r1"), cases(30, "POST"))
    assert {(result.verdict, result.failures[0].check) for result in outcomes} == {("failed", "no_answer")}


def test_a_hung_target_is_given_up(serve: Serve) -> None:
    server = serve(lambda connection, seen: hang(30)(connection, seen))
    engine = Engine(plan(server.url, breaker_wait_s=0.6, request_timeout_s=0.2), {}, run="r1")
    before = time.monotonic()
    outcomes = verdicts(execute(engine, cases(300)))
    assert set(outcomes) == {("errored", "timeout"), ("skipped", "target down")}
    assert outcomes["skipped", "target down"] > 270
    assert time.monotonic() - before < 4


def test_a_slow_target_that_hangs_has_no_slow_findings(serve: Serve) -> None:
    from testops_lib.model import MaxResponseTime

    server = serve(lambda connection, seen: hang(30)(connection, seen))
    engine = Engine(plan(server.url, request_timeout_s=0.1), {}, run="r1")
    slow = [case(step("GET", f"/{n}", checks=(MaxResponseTime(limit_ms=50),)), name=str(n)) for n in range(20)]
    assert {result.verdict for result in execute(engine, slow)} == {"errored", "skipped"}


@pytest.mark.parametrize("after", [0, 10])
def test_stop_and_time_budget_end_the_wait(serve: Serve, after: int) -> None:
    server = serve()
    server.close()
    engine = Engine(plan(server.url, breaker_wait_s=60, breaker_after=after), {}, run="r1")
    timer = threading.Timer(0.5, engine.stop, (0.1,))
    timer.start()
    before = time.monotonic()
    results = execute(engine, cases(20))
    assert time.monotonic() - before < 3
    assert {result.verdict for result in results} == {"errored"}
    timer.join()
    budget = Engine(plan(server.url, breaker_wait_s=60, breaker_after=after), {}, run="r1", max_time_s=0.5)
    before = time.monotonic()
    results = execute(budget, cases(20))
    assert len(results) == 20 and time.monotonic() - before < 3


def test_a_login_waits_for_the_target_too(serve: Serve) -> None:
    from testops_lib.model import Identity, Login, TokenUse

    token = TokenUse(extract_from="body", selector="/token", send_in="header", send_name="Authorization")
    identity = Identity(name="u", login=Login(url="/login", payload="{}", token=token))
    first = serve()
    first.close()
    made: list[Server] = []

    def later() -> None:
        made.append(serve(lambda connection, seen: answer(body='{"token": "t"}'), port=first.port))

    timer = threading.Timer(0.7, later)
    timer.start()
    engine = Engine(plan(first.url, breaker_wait_s=20, identities=(identity,)), {}, run="r1")
    results = execute(engine, cases(20))
    timer.join()
    assert verdicts(results) == {("passed", ""): 20}
    assert made[0].targets().count("POST /login") == 1


def test_probes_keep_to_the_rate(serve: Serve) -> None:
    server = serve(lambda connection, seen: answer(200 if seen.target == "/" else 503))
    execute(Engine(plan(server.url, requests_per_second=40), {}, run="r1"), cases(15))
    times = [seen.at for seen in server.seen]
    assert server.targets().count("GET /") > 1
    assert times[-1] - times[0] > (len(times) - 1) / 40 * 0.9
