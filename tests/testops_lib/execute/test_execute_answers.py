"""Odd answers: encoded ones, long ones, and those that never end."""

from __future__ import annotations

import gzip
import json
import socket
import time
import tracemalloc
import zlib
from typing import Any

import pytest

from testops_lib.execute import Engine
from testops_lib.http.stream import Progress, is_stream
from testops_lib.model import (
    Capture,
    ContentTypeConformance,
    Contract,
    JsonPathIs,
    MediaContract,
    ResponseContract,
    ResponseSchemaConformance,
    Result,
    StatusCodeConformance,
)
from tests.testops_lib.execute.engine_server import Handler, Seen, Serve, answer, case, execute, plan, run_one, step

SCHEMA = {"type": "object", "required": ["id"]}
CONFORMANCE = (StatusCodeConformance(), ContentTypeConformance(), ResponseSchemaConformance())
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Type: application/json\r\n\r\n"


def contract(operation: str, media: str = "application/json") -> dict[str, Contract]:
    response = ResponseContract(content={media: MediaContract(schema=SCHEMA)})
    return {operation: Contract(operation=operation, responses={"200": response})}


def judged(serve: Serve, handler: Handler, **policy: Any) -> Result:
    """The result of one GET whose body must fit the schema."""
    (result,) = execute(
        Engine(plan(serve(handler).url, **policy), contract("GET /x"), run="r"),
        [case(step("GET", "/x", checks=CONFORMANCE))],
    )
    return result


def brotli_of_id_1() -> bytes:
    """`{"id": 1}` as an uncompressed brotli stream (RFC 7932, 9.2: WBITS 16, one uncompressed meta-block, the end)."""
    data = b'{"id": 1}'
    bits = (0 << 0) | (0 << 1) | (0 << 2) | ((len(data) - 1) << 4) | (1 << 20)
    return bits.to_bytes(3, "little") + data + b"\x03"


@pytest.mark.parametrize(
    ("coding", "body"),
    [
        ("gzip", gzip.compress(b'{"id": 1}')),
        ("x-gzip", gzip.compress(b'{"id": 1}')),
        ("deflate", zlib.compress(b'{"id": 1}')),
        ("br", brotli_of_id_1()),
        ("identity", b'{"id": 1}'),
    ],
    ids=["gzip", "x-gzip", "deflate", "br", "identity"],
)
def test_an_encoded_body_is_judged_by_what_it_holds(serve: Serve, coding: str, body: bytes) -> None:
    result = judged(serve, lambda c, s: answer(200, body, f"Content-Encoding: {coding}"))
    assert (result.verdict, result.steps[0].unjudged) == ("passed", ())
    wrong = gzip.compress(b'{"name": 1}')
    result = judged(serve, lambda c, s: answer(200, wrong, "Content-Encoding: gzip"))
    assert [failure.check for failure in result.failures] == ["response_schema_conformance"]
    assert result.steps[0].response is not None and result.steps[0].response.body == '{"name": 1}'


def test_codings_are_asked_for_unless_the_request_names_its_own(serve: Serve) -> None:
    server = serve()
    run_one(plan(server.url), case(step("GET", "/"), step("GET", "/", headers=(("Accept-Encoding", "br;q=0"),))))
    first, second = (seen.header("accept-encoding") for seen in server.seen)
    assert first is not None and {"gzip", "deflate"} <= {coding.strip() for coding in first.split(",")}
    assert second == "br;q=0"


def test_a_compressed_bomb_stops_at_the_limit(serve: Serve) -> None:
    packer = zlib.compressobj(9, zlib.DEFLATED, 31)
    bomb = b"".join(packer.compress(b"0" * 1_000_000) for _ in range(400)) + packer.flush()
    tracemalloc.start()
    result = judged(serve, lambda c, s: answer(200, bomb, "Content-Encoding: gzip"), max_response_bytes=100_000)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 20_000_000, "400 MB were announced"
    assert result.verdict == "passed" and not result.failures
    assert result.steps[0].unjudged == ("response_schema_conformance: the body is longer than 100,000 bytes",)


@pytest.mark.parametrize(
    ("coding", "body", "message"),
    [
        ("gzip", b'{"id": 1}', "Content-Encoding: the body is not gzip"),
        ("br", b'{"id": 1}', "Content-Encoding: the body is not br"),
        ("gzip", gzip.compress(b"", mtime=0)[:10] + b"\xff" * 20, "Content-Encoding: the body is not gzip"),
        ("utf-8", b'{"id": 1}', "Content-Encoding: utf-8 is no content coding"),
    ],
)
def test_a_lie_about_the_encoding_is_a_finding(serve: Serve, coding: str, body: bytes, message: str) -> None:
    result = judged(serve, lambda c, s: answer(200, body, f"Content-Encoding: {coding}"))
    assert [(failure.check, failure.message, failure.basis) for failure in result.failures] == [
        ("content_encoding_conformance", message, "spec")
    ]
    assert result.steps[0].status == 200 and result.steps[0].unjudged


def test_a_coding_that_does_not_exist_costs_no_later_body_its_checks(serve: Serve) -> None:
    def handler(connection: socket.socket, seen: Seen) -> bytes:
        if seen.target == "/file":
            return answer(200, gzip.compress(b'{"id": 1}'), "Content-Encoding: gzip")
        return answer(200, '{"id": 7}', "Content-Encoding: UTF-8")

    server = serve(handler)
    wanted = step("GET", "/x", checks=CONFORMANCE, captures=(Capture(name="id", path="$.id"),))
    cases = [case(wanted, step("GET", "/y/{id}"), name=str(n)) for n in range(3)]
    results = execute(
        Engine(plan(server.url, concurrency=1), contract("GET /x"), run="r"), [*cases, case(step("GET", "/file"))]
    )
    first, *later, file = results
    assert first.steps[0].unjudged and {result.steps[0].unjudged for result in later} == {()}
    assert {failure.check for result in results for failure in result.failures} == {"content_encoding_conformance"}
    assert server.targets().count("GET /y/7") == 2
    assert (file.verdict, file.failures) == ("passed", ())


def test_a_coding_that_we_cannot_decode_leaves_the_body_unjudged(serve: Serve) -> None:
    result = judged(serve, lambda c, s: answer(200, b"\x28", "Content-Encoding: compress"))
    assert (result.verdict, result.failures) == ("passed", ())
    assert result.steps[0].unjudged == ("response_schema_conformance: the body is encoded as compress",)


def test_a_body_over_the_limit_says_what_was_not_judged(serve: Serve) -> None:
    body = json.dumps({"id": 1, "pad": "x" * 3_000})
    result = judged(serve, lambda c, s: answer(200, body), max_response_bytes=1_000)
    assert (result.verdict, result.failures) == ("passed", ())
    assert result.steps[0].unjudged == ("response_schema_conformance: the body is longer than 1,000 bytes",)
    checked = step("GET", "/x", checks=(JsonPathIs(path="$.id"),))
    result = run_one(plan(serve(lambda c, s: answer(200, body)).url, max_response_bytes=1_000), case(checked))
    assert result.verdict == "passed" and result.steps[0].unjudged[0].startswith("jsonpath: ")


def test_what_a_cut_body_does_not_give_is_said(serve: Serve) -> None:
    body = json.dumps({"pad": "x" * 3_000, "id": 1})
    wanted = step("GET", "/x", captures=(Capture(name="id", path="$.id"),))
    result = run_one(plan(serve(lambda c, s: answer(200, body)).url, max_response_bytes=1_000), case(wanted))
    assert result.reason == "capture id selected nothing: the body is longer than 1,000 bytes"


def chunk(data: bytes) -> bytes:
    return f"{len(data):x}\r\n".encode() + data + b"\r\n"


def test_a_long_body_that_ends_is_not_called_endless(serve: Serve) -> None:
    def handler(connection: socket.socket, seen: Seen) -> bytes:
        return CHUNKED + chunk(b"x" * 2_500) + b"0\r\n\r\n"

    result = judged(serve, handler, max_response_bytes=1_000)
    assert (result.verdict, result.failures) == ("passed", ()) and result.steps[0].unjudged


@pytest.mark.parametrize("pause_s", [0, 0.05])
def test_an_endless_body_is_an_advisory_finding(serve: Serve, pause_s: float) -> None:
    def handler(connection: socket.socket, seen: Seen) -> None:
        connection.sendall(CHUNKED)
        while not server.closing.is_set():
            connection.sendall(chunk(b"x" * 200))
            time.sleep(pause_s)

    server = serve(handler)
    engine = Engine(plan(server.url, max_response_bytes=1_000), contract("GET /x"), run="r")
    (result,) = execute(engine, [case(step("GET", "/x", checks=CONFORMANCE))])
    assert [(failure.check, failure.basis) for failure in result.failures] == [("endless_response", "guess")]
    assert result.steps[0].response is not None and result.steps[0].response.body_bytes == 1_000


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("[" * 1_100 + "]" * 1_100, "the body is JSON of 1,100 levels, more than readers take"),
        ('{"id": 1e400}', "the body is JSON with a number that no double holds: 1e400"),
        ('{"id": "\\ud800"}', "the body is JSON with half of a surrogate pair: \\ud800"),
    ],
)
def test_json_that_cannot_be_read_is_named_and_advisory(serve: Serve, body: str, message: str) -> None:
    result = judged(serve, lambda c, s: answer(200, body))
    assert [(f.check, f.message, f.basis) for f in result.failures] == [
        ("response_schema_conformance", message, "guess")
    ]
    checked = case(step("GET", "/x", checks=(JsonPathIs(path="$.id"),)))
    result = run_one(plan(serve(lambda c, s: answer(200, body)).url), checked)
    assert [(f.check, f.message, f.basis) for f in result.failures] == [("jsonpath", message, "guess")]


# -- streams


def stream_of(media: str, event: bytes, pause_s: float) -> Handler:
    """Sends the headers at once, then an event now and then, for ever."""

    def handler(connection: socket.socket, seen: Seen) -> None:
        connection.sendall(CHUNKED.replace(b"application/json", media.encode()))
        connection.settimeout(pause_s)
        while True:
            connection.sendall(chunk(event))
            try:
                if not connection.recv(1):
                    return
            except TimeoutError:
                continue

    return handler


@pytest.mark.parametrize(
    ("media", "event", "pause_s"),
    [
        ("text/event-stream", b"data: 1\n\n", 0.05),
        ("application/json", b'{"type": "ADDED"}\n', 30),
        ("application/json;stream=watch", b'{"type": "ADDED"}\n', 0.3),
    ],
)
def test_a_stream_is_judged_by_status_and_headers(serve: Serve, media: str, event: bytes, pause_s: float) -> None:
    promised = contract("GET /x", media.partition(";")[0])
    engine = Engine(plan(serve(stream_of(media, event, pause_s)).url), promised, run="r")
    before = time.monotonic()
    (result,) = execute(engine, [case(step("GET", "/x", checks=CONFORMANCE))])
    assert (result.verdict, result.reason, result.failures) == ("passed", "", ())
    assert result.steps[0].streaming and result.steps[0].status == 200
    assert result.steps[0].unjudged == ("response_schema_conformance: the answer is a stream",)
    assert time.monotonic() - before < 8, "the deadline of a request is 10 s"


def test_a_stream_with_another_content_type_is_still_a_finding(serve: Serve) -> None:
    engine = Engine(plan(serve(stream_of("text/html", b"x", 30)).url), contract("GET /x"), run="r")
    (result,) = execute(engine, [case(step("GET", "/x", checks=CONFORMANCE))])
    assert [failure.check for failure in result.failures] == ["content_type_conformance"]


def test_an_operation_that_streams_is_waited_for_once(serve: Serve) -> None:
    server = serve(stream_of("application/json", b"{}\n", 30))
    engine = Engine(plan(server.url, concurrency=1), {}, run="r")
    steps = [step("GET", f"/pods?watch={number}", operation="GET /pods") for number in range(10)]
    results = execute(engine, [case(only_step) for only_step in steps])
    assert all(result.steps[0].streaming for result in results) and len(server.seen) == 10
    assert sum(result.elapsed_ms for result in results[1:]) / 9 < results[0].elapsed_ms / 2


def test_an_answer_that_takes_its_time_and_ends_is_no_stream(serve: Serve) -> None:
    def slow(connection: socket.socket, seen: Seen) -> bytes:
        if seen.target == "/announced":
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n")
            time.sleep(1.5)
            return b'{"id": 1}'
        connection.sendall(CHUNKED)
        time.sleep(0.6 if seen.target == "/chunked" else 1.5)
        return chunk(b'{"id": 1}') + b"0\r\n\r\n"

    server = serve(slow)
    wanted = step("GET", "/wanted", captures=(Capture(name="id", path="$.id"),))
    steps = (step("GET", "/announced"), step("GET", "/chunked"), wanted)
    results = execute(Engine(plan(server.url), {}, run="r"), [case(only_step) for only_step in steps])
    assert {(result.verdict, result.steps[0].streaming) for result in results} == {("passed", False)}


def test_an_error_that_does_not_end_is_a_timeout(serve: Serve) -> None:
    def handler(connection: socket.socket, seen: Seen) -> None:
        connection.sendall(CHUNKED.replace(b"200 OK", b"404 No") + chunk(b"{"))
        connection.recv(1)

    result = run_one(plan(serve(handler).url, request_timeout_s=0.4), case(step("GET", "/x")))
    assert (result.verdict, result.reason, result.steps[0].streaming) == ("errored", "timeout", False)


def test_what_announces_its_end_or_is_no_success_is_never_a_stream() -> None:
    endless = {"media_type": "text/event-stream", "head_s": 1e6, "byte_s": 1e6, "size": 0}
    assert is_stream(Progress(status=200, has_length=False, **endless))
    assert not is_stream(Progress(status=200, has_length=True, streamed_before=True, **endless))
    assert not is_stream(Progress(status=500, has_length=False, streamed_before=True, **endless))
    flowing = {"media_type": "application/json", "head_s": 8, "byte_s": 0.0, "has_length": False, "status": 200}
    assert not is_stream(Progress(size=1_000_000, **flowing)), "a long download"
    assert is_stream(Progress(size=1_000, **flowing)), "a drip"
