"""How a case goes: steps, captures, setup, cleanup, verdicts and evidence."""

from __future__ import annotations

import json
import socket
import struct
import time
from collections.abc import Callable
from typing import Any

import pytest
from msgspec import structs

from testops_lib.execute import Engine, run
from testops_lib.model import (
    Capture,
    Contract,
    EnsureResourceAvailability,
    JsonBody,
    JsonPathIs,
    MaxResponseTime,
    NotAServerError,
    ResponseContract,
    Result,
    StatusCodeConformance,
    UseAfterFree,
)
from tests.testops_lib.execute.engine_server import Seen, Serve, answer, case, execute, hang, plan, run_one, step

SENT = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"


def by_path(replies: dict[str, Any]) -> Callable[[socket.socket, Seen], bytes | None]:
    """Answers by `METHOD /path`, else 200 `{}`."""

    def handler(connection: socket.socket, seen: Seen) -> bytes | None:
        reply = replies.get(f"{seen.method} {seen.target}", answer())
        return reply(connection, seen) if callable(reply) else reply

    return handler


def created() -> bytes:
    return answer(201, json.dumps({"id": 7, "token": "tok-very-secret"}), "Location: /things/7")


KEEP_ID = (Capture(name="id", path="$.id"),)


def test_chain_passes_without_evidence(serve: Serve) -> None:
    server = serve(by_path({"POST /things": created()}))
    captures = (*KEEP_ID, Capture(name="at", source="header", path="location"), Capture(name="s", source="status"))
    read = step("GET", "/things/{id}", query=(("s", "{s}"),), expect=200, headers=(("X-At", "{at}"),))
    result = run_one(plan(server.url), case(step("POST", "/things", expect=201, captures=captures), read))
    assert (result.verdict, result.reason, result.failures, result.requests) == ("passed", "", (), 2)
    assert [(s.status, s.requests, s.request, s.response) for s in result.steps] == [
        (201, 1, None, None),
        (200, 1, None, None),
    ]
    assert server.seen[1].target == "/things/7?s=201" and server.seen[1].header("x-at") == "/things/7"
    assert result.origin == "human" and result.started is not None and result.elapsed_ms > 0


def test_failed_case_shows_redacted_evidence_of_every_step(serve: Serve) -> None:
    server = serve(by_path({"POST /things": created()}))
    captures = (*KEEP_ID, Capture(name="token", path="$.token"))
    use = step(
        "GET", "/things/{id}", headers=(("X-Custom", "a {token}"), ("Authorization", "Bearer {token}")), expect=404
    )
    send = step("POST", "/things", body=JsonBody(value={"password": "hunter22", "name": "n"}), captures=captures)
    result = run_one(plan(server.url), case(send, use))
    assert result.verdict == "failed" and [f.step for f in result.failures] == [1]
    first, second = result.steps
    assert first.request is not None and first.response is not None and second.request is not None
    assert first.request.body == '{"password":"[redacted]","name":"n"}' and first.request.body_bytes == 34
    assert first.response.body == '{"id": 7, "token": "[redacted]"}'
    assert first.response.status == 201 and ("Location", "/things/7") in first.response.headers
    assert second.request.url == f"{server.url}/things/7" and second.request.method == "GET"
    assert dict(second.request.headers)["X-Custom"] == "a [redacted]"
    assert "tok-very-secret" not in repr(result) and "hunter22" not in repr(result)
    assert server.seen[1].header("x-custom") == "a tok-very-secret"


def test_evidence_is_cut(serve: Serve) -> None:
    many = [f"X-{i}: {'v' * 3000}" for i in range(60)]
    server = serve(lambda c, s: answer(500, "é" * 10_000, *many))
    (outcome,) = run_one(plan(server.url), case(step("POST", "/", body=JsonBody(value="x" * 9_000), expect=200))).steps
    assert outcome.request is not None and outcome.response is not None
    assert len(outcome.request.body) == len(outcome.response.body) == 4096
    assert (outcome.request.body_bytes, outcome.response.body_bytes) == (9_002, 20_000)
    assert len(outcome.response.headers) == 50
    assert max(len(value) for _, value in outcome.response.headers) <= 2_048


@pytest.mark.parametrize(
    "capture",
    [
        Capture(name="x", path="$.missing"),
        Capture(name="x", source="header", path="X-Missing"),
        Capture(name="x", path="$[?@.a == 1]"),
    ],
)
def test_capture_that_selects_nothing_ends_the_case(serve: Serve, capture: Capture) -> None:
    server = serve()
    result = run_one(plan(server.url), case(step(captures=(capture,)), step("GET", "/after")))
    assert (result.verdict, result.reason) == ("errored", "capture x selected nothing")
    assert result.steps[0].response is not None
    assert server.targets() == ["GET /"]


def test_missing_capture_after_a_failure_is_a_failure(serve: Serve) -> None:
    server = serve()
    check = JsonPathIs(path="$.id")
    result = run_one(plan(server.url), case(step(checks=(check,), captures=KEEP_ID), step("GET", "/after")))
    assert (result.verdict, result.reason, [f.check for f in result.failures]) == ("failed", "", ["jsonpath"])
    assert server.targets() == ["GET /"]


def test_optional_capture_may_select_nothing_and_stays_literal(serve: Serve) -> None:
    server = serve(lambda c, s: answer(200, "no json", media="text/plain"))
    optional = Capture(name="id", path="$.id", optional=True)
    assert run_one(plan(server.url), case(step(captures=(optional,)), step("GET", "/{id}"))).verdict == "passed"
    assert server.seen[1].target == "/{id}"


def test_malformed_capture_query_is_an_error(serve: Serve) -> None:
    result = run_one(plan(serve().url), case(step(captures=(Capture(name="x", path="$["),))))
    assert result.verdict == "errored" and result.reason.startswith("capture x: ")


def test_wrong_status_stops_the_case_and_a_wrong_value_does_not(serve: Serve) -> None:
    server = serve()
    result = run_one(plan(server.url), case(step("GET", "/a", expect=201), step("GET", "/b")))
    assert result.verdict == "failed" and server.targets() == ["GET /a"]
    wrong_value = step("GET", "/c", checks=(JsonPathIs(path="$.x"),))
    result = run_one(plan(server.url), case(wrong_value, step("GET", "/d"), wrong_value))
    assert [f.step for f in result.failures] == [0, 2]
    assert server.targets()[1:] == ["GET /c", "GET /d", "GET /c"]


def test_setup_without_success_skips_the_case(serve: Serve) -> None:
    server = serve(by_path({"POST /things": answer(403)}))
    setup = step("POST", "/things", setup=True, captures=KEEP_ID)
    result = run_one(plan(server.url), case(setup, step("GET", "/things/{id}")))
    assert (result.verdict, result.reason) == ("skipped", "setup failed: POST /things answered 403")
    assert server.targets() == ["POST /things"]


def test_setup_that_fails_its_own_check_fails_the_case(serve: Serve) -> None:
    server = serve(by_path({"POST /things": answer(500)}))
    setup = step("POST", "/things", setup=True, checks=(NotAServerError(),))
    result = run_one(plan(server.url), case(setup, step("GET", "/after")))
    assert (result.verdict, [f.check for f in result.failures]) == ("failed", ["not_a_server_error"])


def test_cleanup_runs_whatever_happened_as_far_as_its_captures_exist(serve: Serve) -> None:
    server = serve(by_path({"POST /things": created(), "DELETE /things/7": answer(500), "GET /bad": answer(500)}))
    cleanup = (
        step("DELETE", "/other/{missing}"),
        step("DELETE", "/things/{id}", expect=204),
        step("DELETE", "/u/{unique}"),
    )
    missing = Capture(name="missing", path="$.missing")
    steps = (
        step("POST", "/things", captures=KEEP_ID),
        step("GET", "/bad", expect=200),
        step("GET", "/", captures=(missing,)),
    )
    result = run_one(plan(server.url), case(*steps, cleanup=cleanup))
    assert server.targets()[:3] == ["POST /things", "GET /bad", "DELETE /things/7"]
    assert server.targets()[3].startswith("DELETE /u/") and len(server.seen) == 4
    assert [f.step for f in result.failures] == [1]
    assert [s.status for s in result.steps] == [201, 500, 500, 200]
    assert result.requests == 4


def test_failing_cleanup_leaves_a_passed_case_passed(serve: Serve) -> None:
    server = serve(by_path({"DELETE /x": lambda connection, seen: None}))
    result = run_one(plan(server.url), case(step("GET", "/"), cleanup=(step("DELETE", "/x", expect=204),)))
    assert result.verdict == "passed"
    assert [s.error for s in result.steps] == ["", "closed without a response"]


def test_nothing_is_cleaned_up_when_nothing_was_sent(serve: Serve) -> None:
    server = serve()
    run_one(plan(server.url), case(step("GET", "/", headers=(("A", "\n"),)), cleanup=(step("DELETE", "/x"),)))
    assert server.connections == 0


# -- no whole answer


def reset(connection: socket.socket, seen: Seen) -> None:
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


BROKEN = {
    "closed": lambda c, s: None,
    "reset": reset,
    "partial body": lambda c, s: c.sendall(SENT.encode() + b"Content-Length: 100\r\n\r\n{"),
    "partial chunk": lambda c, s: c.sendall(SENT.encode() + b"Transfer-Encoding: chunked\r\n\r\n5\r\nab"),
    "malformed chunk": lambda c, s: c.sendall(
        SENT.encode() + b"Transfer-Encoding: chunked\r\n\r\nzz\r\nab\r\n0\r\n\r\n"
    ),
    "not http": lambda c, s: c.sendall(b"hello\r\n"),
    "half a head": lambda c, s: c.sendall(b"HTTP/1.1 200 OK\r\nX-A: "),
    "endless head": lambda c, s: c.sendall(b"HTTP/1.1 200 OK\r\n" + b"X-A: " + b"b" * 600_000),
}


@pytest.mark.parametrize("how", BROKEN)
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_broken_answer_of_a_living_target_is_a_failure(serve: Serve, how: str, method: str) -> None:
    server = serve(by_path({f"{method} /bad": BROKEN[how]}))
    result = run_one(plan(server.url), case(step(method, "/bad"), step("GET", "/after")))
    assert result.verdict == "failed", result.reason
    (failure,) = result.failures
    assert (failure.check, failure.operation, failure.step) == ("no_answer", f"{method} /bad", 0)
    assert result.steps[0].status == 0 and result.steps[0].error == failure.cause != ""
    assert "GET /after" not in server.targets()


def test_target_that_never_answers_is_down_not_wrong(serve: Serve) -> None:
    server = serve(lambda connection, seen: None)
    result = run_one(plan(server.url), case(step("GET", "/bad")))
    assert (result.verdict, result.reason) == ("errored", "target down: closed without a response")


def test_unreachable_target_is_an_error(serve: Serve) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        port = closed.getsockname()[1]
        assert run_one(plan(f"http://127.0.0.1:{port}"), case(step())).reason == "target down: connection refused"
    assert run_one(plan("http://no-such-host.invalid"), case(step())).reason == "target down: name not resolved"


def test_kept_connection_that_died_is_retried_once_for_idempotent_methods(serve: Serve) -> None:
    def handler(connection: socket.socket, seen: Seen) -> bytes | None:
        return (
            None
            if seen.target == "/die-first" and server.targets().count(f"{seen.method} /die-first") == 1
            else answer()
        )

    server = serve(handler)
    result = run_one(plan(server.url, concurrency=1), case(step("GET", "/"), step("GET", "/die-first")))
    assert result.verdict == "passed"
    assert result.steps[1].requests == 2 and result.requests == 3 == len(server.seen)


def test_post_that_died_with_a_kept_connection_is_sent_again_only_with_its_whole_case(serve: Serve) -> None:
    server = serve(by_path({"POST /die": lambda connection, seen: None}))
    result = run_one(
        plan(server.url, concurrency=1), case(step("GET", "/"), step("POST", "/die", body=JsonBody(value=1)))
    )
    assert [f.check for f in result.failures] == ["no_answer"]
    assert server.targets() == ["GET /", "POST /die", "GET /"] * 2, "and a probe after each"
    assert result.requests == 6 and [step.requests for step in result.steps] == [1, 1]


def test_server_that_closes_without_saying_so_is_not_at_fault(serve: Serve) -> None:
    server = serve(lambda connection, seen: connection.sendall(answer()))

    class Slow:
        def judge(self, *_: Any, **__: Any) -> Any:
            time.sleep(0.005)  # the close is certain to have arrived
            return ()

    result = run_one(plan(server.url), case(*(step("POST", f"/{i}") for i in range(10))), judge=Slow())
    assert result.verdict == "passed" and len(server.seen) == result.requests == 10


def test_get_that_kills_every_connection_fails_after_one_retry(serve: Serve) -> None:
    server = serve(by_path({"GET /die": lambda connection, seen: None}))
    result = run_one(plan(server.url, concurrency=1), case(step("GET", "/"), step("GET", "/die")))
    assert [f.check for f in result.failures] == ["no_answer"]
    assert server.targets() == ["GET /", "GET /die", "GET /die", "GET /"], "and one probe"


# -- size and time


def test_endless_body_is_cut_at_the_limit(serve: Serve) -> None:
    def endless(connection: socket.socket, seen: Seen) -> None:
        connection.sendall(SENT.encode() + b"Transfer-Encoding: chunked\r\n\r\n")
        while not server.closing.is_set():
            connection.sendall(b"2000\r\n" + b"x" * 0x2000 + b"\r\n")

    server = serve(by_path({"GET /endless": endless}))
    result = run_one(plan(server.url, max_response_bytes=100_000), case(step("GET", "/endless", expect=404)))
    response = result.steps[0].response
    assert response is not None and response.truncated and response.body_bytes == 100_000
    assert [f.check for f in result.failures] == ["status", "endless_response"]


def test_hanging_answer_is_a_timeout(serve: Serve) -> None:
    server = serve(by_path({"GET /hang": hang()}))
    before = time.monotonic()
    result = run_one(plan(server.url, request_timeout_s=0.2), case(step("GET", "/hang"), step("GET", "/after")))
    assert (result.verdict, result.reason, result.steps[0].error) == ("errored", "timeout", "timeout")
    assert 0.19 < time.monotonic() - before < 2
    assert server.targets() == ["GET /hang"]


def test_case_deadline_ends_the_case(serve: Serve) -> None:
    server = serve(lambda c, s: hang(0.15)(c, s))
    before = time.monotonic()
    result = run_one(plan(server.url, case_timeout_s=0.4), case(*(step("GET", f"/{i}") for i in range(10))))
    assert (result.verdict, result.reason) == ("errored", "case timeout")
    assert 2 <= len(server.seen) <= 3
    assert time.monotonic() - before < 2


def slow_step(path: str, limit_ms: int, method: str = "GET") -> Any:
    return step(method, path, checks=(MaxResponseTime(limit_ms=limit_ms),))


def test_slow_answer_is_confirmed_by_a_second_request(serve: Serve) -> None:
    server = serve(by_path({"GET /slow": hang(0.12)}))
    result = run_one(plan(server.url), case(slow_step("/slow", 50)))
    assert [f.check for f in result.failures] == ["max_response_time"]
    assert result.steps[0].requests == 2 == len(server.seen)


def test_slow_once_is_no_failure(serve: Serve) -> None:
    def handler(connection: socket.socket, seen: Seen) -> bytes | None:
        return hang(0.12)(connection, seen) if len(server.seen) == 1 else answer()

    server = serve(handler)
    result = run_one(plan(server.url), case(slow_step("/slow", 60), step("GET", "/after")))
    assert result.verdict == "passed" and result.requests == 3
    assert server.targets() == ["GET /slow", "GET /slow", "GET /after"]


def test_slow_post_is_not_sent_twice(serve: Serve) -> None:
    server = serve(by_path({"POST /slow": hang(0.12)}))
    result = run_one(plan(server.url), case(slow_step("/slow", 50, "POST")))
    assert [f.check for f in result.failures] == ["max_response_time"]
    assert len(server.seen) == 1


def test_timeout_fails_the_response_time_check_of_the_step(serve: Serve) -> None:
    server = serve(by_path({"GET /hang": hang()}))
    result = run_one(plan(server.url, request_timeout_s=0.15), case(slow_step("/hang", 50)))
    assert (result.verdict, [f.check for f in result.failures]) == ("failed", ["max_response_time"])
    assert server.targets() == ["GET /hang", "GET /", "GET /hang"], "one probe between"
    result = run_one(plan(server.url, request_timeout_s=0.15), case(slow_step("/hang", 500)))
    assert (result.verdict, result.reason) == ("errored", "timeout")


# -- the crowd


def test_conformance_is_judged_by_the_contract(serve: Serve) -> None:
    server = serve()
    contract = Contract(operation="GET /", responses={"404": ResponseContract()})
    engine = Engine(plan(server.url), {"GET /": contract}, run="r")
    (result,) = execute(engine, [case(step(checks=(StatusCodeConformance(),)))])
    assert [f.check for f in result.failures] == ["status_code_conformance"]


def test_each_case_has_one_result_and_concurrency_holds(serve: Serve) -> None:
    running = peak = 0

    def handler(connection: socket.socket, seen: Seen) -> bytes:
        nonlocal running, peak
        with server.lock:
            running += 1
            peak = max(peak, running)
        time.sleep(0.005)
        with server.lock:
            running -= 1
        return answer()

    server = serve(handler)
    cases = [case(step("GET", f"/{i}")) for i in range(40)]
    found: list[Result] = []
    engine = Engine(plan(server.url, concurrency=4), {}, run="r", attempt=3)
    run(engine, iter(cases), found.append)
    assert sorted(r.case for r in found) == sorted(c.id for c in cases)
    assert {(r.run, r.attempt, r.verdict) for r in found} == {("r", 3, "passed")}
    assert 2 <= peak <= 4
    assert engine.requests_sent == 40


def test_results_come_while_others_still_run(serve: Serve) -> None:
    server = serve(by_path({"GET /slow": hang(0.3)}))
    cases = [case(step("GET", "/slow")), *(case(step("GET", f"/{i}")) for i in range(3))]
    order = [r.operation for r in execute(Engine(plan(server.url, concurrency=2), {}, run="r"), cases)]
    assert order[-1] == "GET /slow"


def test_last_cases_run_after_all_others_one_by_one(serve: Serve) -> None:
    server = serve(lambda c, s: hang(0.05)(c, s))
    cases = [
        case(step("GET", "/end1"), last=True),
        case(step("GET", "/a")),
        case(step("GET", "/end2"), last=True),
        case(step("GET", "/b")),
    ]
    results = execute(Engine(plan(server.url), {}, run="r"), cases)
    assert len(results) == 4
    assert server.targets()[2:] == ["GET /end1", "GET /end2"]
    assert server.seen[3].at - server.seen[2].at > 0.04


def test_engine_bug_is_an_errored_case_not_a_lost_one(serve: Serve) -> None:
    class Broken:
        def judge(self, *_: Any, **__: Any) -> Any:
            raise RuntimeError("boom")

    results = execute(Engine(plan(serve().url), {}, run="r", judge=Broken()), [case(step()), case(step("GET", "/2"))])
    assert [(r.verdict, r.reason) for r in results] == [("errored", "engine: RuntimeError: boom")] * 2


def test_failing_source_ends_the_run_after_what_was_taken(serve: Serve) -> None:
    def cases() -> Any:
        yield case(step())
        raise ValueError("source broke")

    found: list[Result] = []
    with pytest.raises(ValueError, match="source broke"):
        run(Engine(plan(serve().url, concurrency=1), {}, run="r"), cases(), found.append)
    assert len(found) == 1


def test_slow_consumer_holds_back_the_source(serve: Serve) -> None:
    server = serve()
    taken = 0

    def cases() -> Any:
        nonlocal taken
        for i in range(600):
            taken += 1
            yield case(step("GET", f"/{i}"))

    import asyncio

    async def main() -> int:
        results = Engine(plan(server.url, concurrency=8), {}, run="r").run(cases())
        await anext(results)
        await asyncio.sleep(1.0)
        held = taken
        await results.aclose()
        return held

    assert asyncio.run(main()) < 300


def test_a_target_that_has_fallen_silent_is_not_waited_for_with_every_case(serve: Serve) -> None:
    server = serve(hang())
    cases = [case(step(path=f"/{n}"), name=f"c{n}") for n in range(300)]
    the_plan = plan(server.url, concurrency=4, request_timeout_s=0.2)
    started = time.monotonic()
    results = execute(Engine(the_plan, {}, run="r"), cases)
    assert time.monotonic() - started < 5
    assert len(results) == 300
    assert {(result.verdict, result.reason) for result in results} == {
        ("errored", "timeout"),
        ("skipped", "target down"),
    }
    assert len(server.seen) < 30


def test_a_silent_operation_does_not_end_the_tests_of_the_others(serve: Serve) -> None:
    def handler(connection: socket.socket, seen: Seen) -> bytes | None:
        return hang()(connection, seen) if seen.target == "/slow" else answer()

    server = serve(handler)
    cases = [case(step(path="/slow"), name=f"c{n}") for n in range(20)]
    cases += [case(step(path="/"), name=f"d{n}") for n in range(20)]
    results = execute(Engine(plan(server.url, concurrency=4, request_timeout_s=0.2), {}, run="r"), cases)
    assert sorted(result.verdict for result in results) == ["errored"] * 20 + ["passed"] * 20


@pytest.mark.parametrize("made", [202, 201])
def test_what_was_only_accepted_may_not_be_there_yet(serve: Serve, made: int) -> None:
    server = serve(lambda connection, seen: answer(made if seen.method == "POST" else 404))
    available = step(checks=(EnsureResourceAvailability(),))
    assert run_one(plan(server.url), case(step("POST"), available)).verdict == ("passed" if made == 202 else "failed")


@pytest.mark.parametrize("deleted", [202, 204])
def test_what_is_only_going_to_be_deleted_may_still_be_there(serve: Serve, deleted: int) -> None:
    server = serve(lambda connection, seen: answer(deleted if seen.method == "DELETE" else 200, b""))
    gone = step(checks=(UseAfterFree(),))
    assert run_one(plan(server.url), case(step("DELETE"), gone)).verdict == ("passed" if deleted == 202 else "failed")
    written = step(checks=(UseAfterFree(basis="human"),))
    assert run_one(plan(server.url), case(step("DELETE"), written)).verdict == "failed"


# ------------------------------------------------------------------------ what was sent instead


@pytest.mark.parametrize(
    ("operation", "method", "path", "instead"),
    [
        ("GET /things/{id}", "GET", "/things/7", ""),
        ("GET /things/{id}", "GET", "/things/a%2Fb", ""),
        ("GET /thi\u00f1gs/{a}-{b}", "GET", "/thi\u00f1gs/1-2", ""),
        ("GET /files/{file_path}", "GET", "/files/a/b", ""),
        ("GET /search?kind=a", "GET", "/search?kind=a", ""),
        ("GET /things/{id}", "PATCH", "/things/7", "PATCH /things/{id}"),
        ("GET /things/{id}", "OPTIONS", "/things/7", "OPTIONS /things/{id}"),
        ("GET /things/{id}", "GET", "/things/", "GET /things/"),
        ("GET /things/{id}", "GET", "/things/..", "GET /things/.."),
        ("GET /things/{id}", "GET", "/things/7/8", "GET /things/7/8"),
        ("GET /things", "GET", "/elsewhere?a=1", "GET /elsewhere"),
    ],
)
def test_a_step_says_what_was_sent_instead_of_its_operation(
    serve: Serve, operation: str, method: str, path: str, instead: str
) -> None:
    server = serve(lambda connection, seen: answer(500))
    probe = structs.replace(step(method, path, checks=(NotAServerError(),), query=(("b", "2"),)), operation=operation)
    for base_url in (server.url, f"{server.url}/v1"):
        result = run_one(plan(base_url, foreign="write"), case(probe))
        assert [failure.operation for failure in result.failures] == [operation]
        assert [outcome.sent for outcome in (*result.steps, *result.failures)] == [instead, instead]
