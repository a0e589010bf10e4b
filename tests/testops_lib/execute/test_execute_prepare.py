"""What stands on the wire, byte for byte."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from testops_lib.errors import CaseError, TargetError
from testops_lib.execute.prepare import prepare, unique_token
from testops_lib.http.head import parse_headers
from testops_lib.http.url import Origin, allowed, origin
from testops_lib.model import (
    BytesBody,
    Capture,
    FormBody,
    JsonBody,
    MultipartBody,
    Part,
    Request,
    TextBody,
)
from tests.testops_lib.execute.engine_server import Seen, Serve, answer, case, plan, run_one, step


def test_target_is_sent_as_given(serve: Serve) -> None:
    server = serve()
    target = "/a%2Fb/../c//d/./e/%2e%2e?y=a+b&z=%7e\\|[]^`{x}"
    assert run_one(plan(server.url), case(step("GET", target))).verdict == "passed"
    assert server.seen[0].line == f"GET {target} HTTP/1.1"


def test_what_no_target_may_hold_is_percent_encoded(serve: Serve) -> None:
    server = serve()
    run_one(plan(server.url), case(step("GET", "/a b/é/#x\t", query=(("a b", "c&d=é"), ("", ""), ("plus", "+")))))
    assert server.seen[0].target == "/a%20b/%C3%A9/%23x%09?a%20b=c%26d%3D%C3%A9&=&plus=%2B"


@pytest.mark.parametrize("method", ["QUERY", "PROPFIND", "foo", "TRACE", "OPTIONS", "DELETE"])
def test_method_is_sent_as_given(serve: Serve, method: str) -> None:
    server = serve()
    assert run_one(plan(server.url), case(step(method, "/"))).verdict == "passed"
    assert server.seen[0].line == f"{method} / HTTP/1.1"


def test_headers_keep_case_order_duplicates_and_emptiness(serve: Serve) -> None:
    server = serve()
    headers = (("x-b", "1"), ("X-B", "2"), ("X-Empty", ""), ("X-Space", "a  b"), ("x-b", "1"), ("X-Text", "é;,"))
    run_one(plan(server.url), case(step("GET", "/", headers=headers)))
    lines = server.seen[0].header_lines[1:]
    assert lines.pop(0).startswith("Accept-Encoding: ")
    assert lines == [
        "x-b: 1",
        "X-B: 2",
        "X-Empty:",
        "X-Space: a  b",
        "x-b: 1",
        "X-Text: é;,",
        "Accept: */*",
        "User-Agent: ai-testops/0.1.0",
    ]


def test_own_accept_and_agent_replace_ours(serve: Serve) -> None:
    server = serve()
    headers = (("accept", "text/csv"), ("USER-AGENT", ""), ("accept-encoding", "identity"))
    run_one(plan(server.url), case(step("GET", "/", headers=headers)))
    assert server.seen[0].header_lines[1:] == ["accept: text/csv", "USER-AGENT:", "accept-encoding: identity"]


def test_reused_handle_leaves_nothing_of_the_request_before(serve: Serve) -> None:
    server = serve()
    steps = (
        step("POST", "/", body=JsonBody(value={"a": 1}), headers=(("X-One", "1"),)),
        step("GET", "/"),
        step("HEAD", "/"),
        step("PUT", "/", body=TextBody(text="t")),
        step("HEAD", "/"),
        step("POST", "/"),
        step("GET", "/", headers=(("Connection", "keep-alive"),)),
        step("GET", "/"),
    )

    def handler(connection: object, seen: Seen) -> bytes:
        return b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n" if seen.method == "HEAD" else answer()

    server.handler = handler
    assert run_one(plan(server.url, concurrency=1), case(*steps)).verdict == "passed"
    assert [(s.method, s.body, s.header("content-length"), s.header("x-one")) for s in server.seen] == [
        ("POST", b'{"a":1}', "7", "1"),
        ("GET", b"", None, None),
        ("HEAD", b"", None, None),
        ("PUT", b"t", "1", None),
        ("HEAD", b"", None, None),
        ("POST", b"", "0", None),
        ("GET", b"", None, None),
        ("GET", b"", None, None),
    ]
    assert [s.header("content-type") for s in server.seen][:6] == [
        "application/json",
        None,
        None,
        "text/plain",
        None,
        None,
    ]
    assert all(s.header("expect") is None for s in server.seen)


@pytest.mark.parametrize("method", ["GET", "DELETE", "POST"])
def test_body_goes_with_any_method(serve: Serve, method: str) -> None:
    server = serve()
    run_one(
        plan(server.url),
        case(step(method, "/", body=JsonBody(value={"é": [1, None, 1.5]}, media_type="application/x+json"))),
    )
    assert server.seen[0].body == '{"é":[1,null,1.5]}'.encode()
    assert server.seen[0].header("content-type") == "application/x+json"


def test_bodies_are_encoded_by_kind(serve: Serve) -> None:
    server = serve()
    parts = (
        Part(name='a"b', data=b"1"),
        Part(name="f", data=b"\x00\xff\r\n", filename="x\ny.bin", media_type="image/png"),
    )
    run_one(
        plan(server.url),
        case(
            step("POST", "/t", body=TextBody(text='{"a": {unique}', media_type="")),
            step("POST", "/b", body=BytesBody(data=bytes(range(256)))),
            step("POST", "/f", body=FormBody(fields=(("a b", "é&="), ("u", "<{unique}>"), ("e", "")))),
            step("POST", "/m", body=MultipartBody(parts=parts)),
            step("POST", "/j", body=JsonBody(value="x"), headers=(("content-type", "x/y"),)),
            step("POST", "/n", body=JsonBody(value=[10**30, None])),
        ),
    )
    text, raw, form, multipart, typed, big = server.seen
    assert (text.body, text.header("content-type")) == (b'{"a": {unique}', None)
    assert raw.body == bytes(range(256))
    assert form.body.startswith(b"a+b=%C3%A9%26%3D&u=%3C") and form.body.endswith(b"%3E&e=")
    assert b"unique" not in form.body
    boundary = (multipart.header("content-type") or "").partition("boundary=")[2]
    assert (
        multipart.body
        == (
            f'--{boundary}\r\nContent-Disposition: form-data; name="a%22b"\r\n\r\n1\r\n'
            f'--{boundary}\r\nContent-Disposition: form-data; name="f"; filename="x%0Ay.bin"\r\nContent-Type: image/png'
            "\r\n\r\n"
        ).encode()
        + b"\x00\xff\r\n\r\n"
        + f"--{boundary}--\r\n".encode()
    )
    assert (typed.body, typed.header("content-type")) == (b'"x"', "x/y")
    assert big.body == b"[1000000000000000000000000000000,null]"


def test_json_that_is_no_unicode_goes_out_escaped() -> None:
    request = Request(method="POST", path="/", body=JsonBody(value=["\ud800", "{u}"]))
    assert prepare("http://h", request, {"u": "\udfff"}).body == b'["\\ud800","\\udfff"]'


HOSTILE = ["a\r\nX-Evil: 1", "a\nb", "a\rb", "a\0b"]


@pytest.mark.parametrize("evil", HOSTILE)
@pytest.mark.parametrize(
    "build",
    [
        lambda e: step("GET", "/", headers=(("X-A", e),)),
        lambda e: step("GET", "/", headers=((e, "1"),)),
        lambda e: step("GET", "/", cookies=(("c", e),)),
        lambda e: step("GET", "/", cookies=((e, "c"),)),
        lambda e: step("GET", f"/{e}"),
        lambda e: step(e, "/"),
        lambda e: step("POST", "/", body=TextBody(text="", media_type=e)),
        lambda e: step("POST", "/", body=MultipartBody(parts=(Part(name="a", data=b"", media_type=e),))),
    ],
)
def test_line_breaks_are_refused_and_never_sent(serve: Serve, evil: str, build: object) -> None:
    server = serve()
    result = run_one(plan(server.url), case(build(evil)))  # type: ignore[operator]
    assert result.verdict == "errored"
    assert result.reason.startswith("refused: ")
    assert server.connections == 0


def test_captured_line_breaks_are_refused_in_headers_and_encoded_elsewhere(serve: Serve) -> None:
    server = serve(lambda connection, seen: answer(200, json.dumps({"v": "x\r\nX-Evil: 1/?"})))
    capture = (Capture(name="v", path="$.v"),)
    result = run_one(plan(server.url), case(step(captures=capture), step("GET", "/{v}", query=(("q", "{v}"),))))
    assert result.verdict == "passed"
    assert server.seen[1].target == "/x%0D%0AX-Evil%3A%201%2F%3F?q=x%0D%0AX-Evil%3A%201%2F%3F"
    result = run_one(plan(server.url), case(step(captures=capture), step("GET", "/", headers=(("X-A", "{v}"),))))
    assert result.reason == "refused: header X-A: the value holds CR, LF or NUL"
    assert len(server.seen) == 3


@pytest.mark.parametrize("path", ["x", "", "@evil.example/", ":80/", "http://evil.example/"])
def test_path_that_would_change_the_host_is_refused(path: str) -> None:
    with pytest.raises(CaseError):
        prepare("http://127.0.0.1", Request(method="GET", path=path), {})


def test_captured_values_keep_their_type_as_whole_leaves(serve: Serve) -> None:
    document = {"n": 7, "f": 1.5, "t": True, "z": None, "o": {"a": [1]}, "s": "é"}
    server = serve(lambda connection, seen: answer(200, json.dumps(document)))
    captures = tuple(Capture(name=name, path=f"$.{name}") for name in document)
    value = {"{n}": "{n}", "f": ["{f}", "{t}", "{z}"], "o": "{o}", "mixed": "<{n}-{t}-{o}-{s}>", "not": "{other}"}
    posted = step("POST", "/p/{n}/{s}", body=JsonBody(value=value))
    run_one(plan(server.url, foreign="write"), case(step(captures=captures), posted))
    assert server.seen[1].target == "/p/7/%C3%A9"
    assert json.loads(server.seen[1].body) == {
        "{n}": 7,
        "f": [1.5, True, None],
        "o": {"a": [1]},
        "mixed": '<7-true-{"a":[1]}-é>',
        "not": "{other}",
    }


def test_captured_text_is_never_substituted_again(serve: Serve) -> None:
    server = serve(lambda connection, seen: answer(200, json.dumps({"v": "{unique}"})))
    run_one(
        plan(server.url),
        case(step(captures=(Capture(name="v", path="$.v"),)), step("GET", "/", headers=(("X-V", "{v}"),))),
    )
    assert server.seen[1].header("x-v") == "{unique}"


def test_unique_is_12_hex_digits_of_the_attempt(serve: Serve) -> None:
    server = serve()
    the_case = case(step("GET", "/{unique}"), step("GET", "/{unique}"))
    run_one(plan(server.url), the_case)
    run_one(plan(server.url), the_case, attempt=2)
    run_one(plan(server.url), the_case, run="r2")
    tokens = [seen.target[1:] for seen in server.seen]
    assert tokens[0] == tokens[1] == unique_token("r1", the_case.id, 1)
    assert len(tokens[0]) == 12 and int(tokens[0], 16) >= 0
    assert len(set(tokens)) == 3


def test_framing_headers_get_a_connection_of_their_own(serve: Serve) -> None:
    server = serve()
    lying = step("POST", "/", headers=(("Content-Length", "1"),), body=TextBody(text="12345"))
    run_one(plan(server.url, concurrency=1), case(step("GET", "/"), lying, step("GET", "/after")))
    by_connection = {seen.connection: seen.target for seen in server.seen if seen.target == "/after"}
    poisoned = {seen.connection for seen in server.seen if seen.header("content-length") == "1"}
    assert by_connection and not poisoned & by_connection.keys()


def test_base_path_stands_before_the_path(serve: Serve) -> None:
    server = serve()
    run_one(plan(f"{server.url}/api/v1"), case(step("GET", "/x")))
    assert server.seen[0].target == "/api/v1/x"


def test_connection_is_kept_across_cases(serve: Serve) -> None:
    from testops_lib.execute import Engine
    from tests.testops_lib.execute.engine_server import execute

    server = serve()
    cases = [case(step("GET", f"/{i}")) for i in range(30)]
    results = execute(Engine(plan(server.url, concurrency=3), {}, run="r"), cases)
    assert len(results) == len(server.seen) == 30
    assert server.connections <= 3


@pytest.mark.parametrize(
    "url",
    [
        "ftp://h/",
        "file:///etc/passwd",
        "http:///x",
        "http://u:p@h/",
        "http://h:99999/",
        "//h/",
        "http://h\\@e/",
        "x",
        "http://a b/",
    ],
)
def test_unusable_urls_have_no_origin(url: str) -> None:
    with pytest.raises(TargetError):
        origin(url)


def test_origins_compare_by_scheme_host_and_port() -> None:
    base = origin("https://API.example:443/x")
    assert base == Origin("https", "api.example", 443) == origin("https://api.example.")
    assert allowed(origin("https://api.example/y"), base, ())
    assert not allowed(origin("http://api.example"), base, ("api.example",))
    assert not allowed(origin("https://api.example:8443"), base, ("api.example",))
    assert allowed(origin("https://other.example"), base, ("OTHER.example",))
    assert allowed(origin("https://other.example:99"), base, ("other.example:99",))
    assert not allowed(origin("https://other.example:98"), base, ("other.example:99", "[", "h:x"))
    assert allowed(origin("http://[::1]:80"), origin("http://[0::1]:81"), ("[::1]",))


@given(st.text(max_size=60), st.dictionaries(st.sampled_from(["a", "b", "unique"]), st.text(max_size=20)))
@settings(max_examples=150, deadline=None)
def test_no_text_reaches_the_request_line_unencoded(text: str, captured: dict[str, str]) -> None:
    try:
        prepared = prepare("http://h", Request(method="GET", path="/{a}" + text, query=((text, text),)), captured)
    except CaseError:
        assert any(c in text for c in "\r\n\0")
        return
    assert prepared.url.startswith("http://h/") and prepared.url.isascii()
    assert all(0x20 < ord(c) < 0x7F and c != "#" for c in prepared.url)


@given(st.lists(st.binary(max_size=30)))
def test_any_header_lines_are_read(lines: list[bytes]) -> None:
    assert all(isinstance(n, str) and isinstance(v, str) for n, v in parse_headers([*lines, b"\r\n"]) or ())


def test_final_response_headers_are_kept_in_order() -> None:
    lines = [
        b"HTTP/1.1 103 Early Hints\r\n",
        b"Link: x\r\n",
        b"\r\n",
        b"HTTP/1.1 200 OK\r\n",
        b"B: 1\r\n",
        b"a:\r\n",
        b"B:\xff \r\n",
        b"C: \xc3\xa9\r\n",
        b"\r\n",
        b"Trailer: t\r\n",
        b"\r\n",
    ]
    assert parse_headers(lines) == (("B", "1"), ("a", ""), ("B", "ÿ"), ("C", "é"), ("Trailer", "t"))
    assert parse_headers(lines[:3] + lines[3:5]) is None
