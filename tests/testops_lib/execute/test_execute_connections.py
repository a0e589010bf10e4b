"""Kept connections: what a server does to one says nothing of the next request."""

from __future__ import annotations

import socket

from testops_lib.execute import Engine
from testops_lib.model import NotAServerError
from tests.testops_lib.execute.engine_server import Seen, Serve, answer, case, execute, hang, plan, step


def test_a_server_that_hangs_up_after_a_500_breaks_no_later_request(serve: Serve) -> None:
    def handler(connection: socket.socket, seen: Seen) -> bytes | None:
        if seen.target != "/boom":
            return answer()
        connection.sendall(answer(500))
        hang(0.05)(connection, seen)  # the connection looks alive, and whatever comes now is lost
        return None

    server = serve(handler)
    cases = []
    for number in range(5):
        cases.append(case(step("GET", "/boom", expect=500), name=f"boom {number}"))
        cases.append(case(step("POST", f"/{number}", expect=200)))
    results = execute(Engine(plan(server.url, concurrency=1, breaker_wait_s=5), {}, run="r"), cases)
    assert [(result.verdict, result.reason) for result in results] == [("passed", "")] * 10
    assert len(server.seen) == 10 and server.connections == 6, "no repeats, no probes; a connection after each 500"


def breaks_second_requests(connection: socket.socket, seen: Seen, firsts: dict[int, int]) -> bytes | None:
    firsts[seen.connection] = firsts.get(seen.connection, 0) + 1
    if firsts[seen.connection] == 1:
        return answer()
    connection.sendall(b"HTTP/1.1 2")
    return None


def test_what_breaks_on_a_kept_connection_is_repeated_on_a_fresh_one(serve: Serve) -> None:
    firsts: dict[int, int] = {}
    server = serve(lambda connection, seen: breaks_second_requests(connection, seen, firsts))
    cases = [case(step("GET", f"/{number}", expect=200)) for number in range(6)]
    results = execute(Engine(plan(server.url, concurrency=1, breaker_wait_s=5), {}, run="r"), cases)
    assert {result.verdict for result in results} == {"passed"}
    assert {result.steps[0].repeated for result in results} == {"", "closed without a response"}
    assert len(server.seen) == sum(result.requests for result in results)


def test_an_unsafe_request_that_breaks_on_a_kept_connection_begins_its_case_anew(serve: Serve) -> None:
    firsts: dict[int, int] = {}

    def handler(connection: socket.socket, seen: Seen) -> bytes | None:
        return answer() if seen.target == "/" else breaks_second_requests(connection, seen, firsts)

    server = serve(handler)
    steps = [step("POST", f"/a/{n}?{{unique}}", expect=200, operation="POST /a/{id}") for n in range(4)]
    engine = Engine(plan(server.url, concurrency=1, breaker_wait_s=5, foreign="write"), {}, run="r")
    results = execute(engine, [case(only_step) for only_step in steps])
    reason = "on a kept connection: closed without a response"
    assert [(result.verdict, result.steps[0].repeated) for result in results] == [
        ("passed", ""),
        ("passed", reason),
        ("passed", ""),
        ("passed", ""),
    ]
    sent = [target for target in server.targets() if target.startswith("POST")]
    assert [target.partition("?")[0] for target in sent] == [f"POST /a/{n}" for n in (0, 1, 1, 2, 3)]
    assert len(set(sent)) == 5, "what is sent again has a name of its own"


def test_without_budget_an_unsafe_request_that_breaks_on_a_kept_connection_is_no_finding(serve: Serve) -> None:
    firsts: dict[int, int] = {}
    server = serve(lambda connection, seen: breaks_second_requests(connection, seen, firsts))
    engine = Engine(plan(server.url, concurrency=1, breaker_after=0), {}, run="r", max_requests=2)
    results = execute(engine, [case(step("POST", f"/{n}", expect=200)) for n in range(2)])
    assert [result.verdict for result in results] == ["passed", "errored"]
    assert results[1].reason == "on a kept connection: closed without a response"
    assert server.targets() == ["POST /0", "POST /1"]


def test_an_operation_that_breaks_every_connection_is_a_finding_though_connections_are_kept(serve: Serve) -> None:
    server = serve(lambda connection, seen: None if seen.target == "/crash" else answer())
    crash = [case(step("POST", "/crash", checks=(NotAServerError(),)), name=f"crash {number}") for number in range(3)]
    others = [case(step("GET", f"/{number}")) for number in range(3)]
    mixed = [member for pair in zip(others, crash, strict=True) for member in pair]
    results = execute(Engine(plan(server.url, concurrency=1, breaker_wait_s=5), {}, run="r"), mixed)
    crashed = [result for result in results if result.operation == "POST /crash"]
    assert [result.verdict for result in crashed] == ["failed"] * 3
    assert [result.requests for result in crashed] == [4, 1, 1], (
        "the first broke on a kept connection: twice, and a probe each"
    )
    assert {failure.check for result in crashed for failure in result.failures} == {"no_answer"}
