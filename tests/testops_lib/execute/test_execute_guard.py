"""Where the engine may go: addresses, hosts, redirects, methods, schemes, TLS."""

from __future__ import annotations

import socket
import ssl
from pathlib import Path
from typing import Any

import pytest

from stack import certificates
from testops_lib.errors import TargetError
from testops_lib.execute import Engine
from testops_lib.model import Identity, JsonBody
from tests.testops_lib.execute.engine_server import Seen, Serve, Server, answer, case, execute, plan, run_one, step


def redirect(to: str, status: int = 302) -> Any:
    return lambda connection, seen: answer(status, "", f"Location: {to}") if seen.target == "/go" else answer()


def test_private_address_is_refused_unless_the_policy_allows_it(serve: Serve) -> None:
    server = serve()
    result = run_one(plan(server.url, allow_private=False), case(step()))
    assert result.verdict == "errored"
    assert result.reason.startswith("refused: 127.0.0.1 is a loopback or private address")
    assert server.connections == 0


def test_name_is_judged_by_the_address_it_resolves_to(serve: Serve) -> None:
    server = serve()
    url = f"http://localhost:{server.port}"
    assert run_one(plan(url, allow_private=False), case(step())).reason.startswith("refused: ")
    assert server.connections == 0
    assert run_one(plan(url), case(step())).verdict == "passed"


@pytest.mark.parametrize("host", ["169.254.169.254", "[fe80::1]", "[::ffff:169.254.169.254]", "0.0.0.0", "2852039166"])
def test_metadata_and_no_host_addresses_are_never_called(host: str) -> None:
    result = run_one(plan(f"http://{host}:1"), case(step()))
    assert result.verdict == "errored" and result.reason.startswith("refused: "), result.reason
    assert "never allowed" in result.reason


def test_redirect_is_judged_and_not_followed_by_default(serve: Serve) -> None:
    server = serve(redirect("/there"))
    assert run_one(plan(server.url), case(step("GET", "/go", expect=302))).verdict == "passed"
    assert server.targets() == ["GET /go"]


@pytest.mark.parametrize(
    ("status", "method", "then", "body"),
    [
        (302, "POST", "GET", b""),
        (301, "POST", "GET", b""),
        (303, "PUT", "GET", b""),
        (307, "POST", "POST", b"1"),
        (308, "PUT", "PUT", b"1"),
        (302, "PUT", "PUT", b"1"),
    ],
)
def test_followed_redirect_keeps_or_changes_the_method(
    serve: Serve, status: int, method: str, then: str, body: bytes
) -> None:
    server = serve(redirect("there?a=1#frag", status))
    result = run_one(
        plan(server.url, follow_redirects=1), case(step(method, "/go", body=JsonBody(value=1), expect=200))
    )
    assert result.verdict == "passed" and result.requests == 2
    assert server.targets() == [f"{method} /go", f"{then} /there?a=1"]
    assert server.seen[1].body == body
    assert (server.seen[1].header("content-type") is None) == (not body)


def test_redirects_end_at_the_limit(serve: Serve) -> None:
    server = serve(redirect("/go"))
    result = run_one(plan(server.url, follow_redirects=3), case(step("GET", "/go", expect=302)))
    assert result.verdict == "passed" and len(server.seen) == 4


@pytest.mark.parametrize(
    "to",
    [
        "http://127.0.0.1:1/",
        "http://169.254.169.254/latest/meta-data/",
        "https://127.0.0.1/",
        "//evil.example/",
        "file:///etc/passwd",
        "gopher://127.0.0.1/",
        "http://u:p@127.0.0.1/",
        "http://[",
        "http://localhost/",
    ],
)
def test_redirect_elsewhere_is_refused(serve: Serve, to: str) -> None:
    server = serve(redirect(to))
    result = run_one(plan(server.url, follow_redirects=5), case(step("GET", "/go")))
    assert result.verdict == "errored" and result.reason.startswith("refused: redirect to"), result.reason
    assert result.steps[0].error == result.reason
    assert len(server.seen) == 1


def test_redirect_to_an_allowed_host_still_meets_the_address_guard(serve: Serve) -> None:
    server = serve(redirect("http://169.254.169.254/latest"))
    policy = {"follow_redirects": 5, "hosts": ("169.254.169.254",)}
    result = run_one(plan(server.url, **policy), case(step("GET", "/go")))
    assert result.verdict == "errored" and "metadata address: never allowed" in result.reason


def test_redirect_to_another_origin_carries_no_credentials(serve: Serve) -> None:
    other = serve()
    server = serve(redirect(f"{other.url}/there"))
    identity = Identity(name="a", headers=(("X-Custom-Auth", "key-12345"),), cookies=(("sid", "s-12345"),))
    own_headers = (("Authorization", "Bearer own"), ("X-Api-Key", "own"), ("X-Plain", "kept"))
    result = run_one(
        plan(server.url, follow_redirects=1, hosts=(f"127.0.0.1:{other.port}",), identities=(identity,)),
        case(step("GET", "/go", headers=own_headers)),
    )
    assert result.verdict == "passed"
    assert server.seen[0].header("x-custom-auth") == "key-12345" and server.seen[0].header("cookie") == "sid=s-12345"
    names = [line.split(":")[0] for line in other.seen[0].header_lines]
    assert names == ["Host", "Accept-Encoding", "X-Plain", "Accept", "User-Agent"]


def test_safe_policy_skips_whole_cases_and_cleanup(serve: Serve) -> None:
    server = serve()
    cases = [
        case(step("GET", "/"), step("POST", "/x")),
        case(step("GET", "/ok"), cleanup=(step("DELETE", "/x"),)),
        case(step("get", "/lower")),
    ]
    results = {r.operation: r for r in execute(Engine(plan(server.url, methods="safe"), {}, run="r"), cases)}
    assert (results["GET /"].verdict, results["GET /"].reason) == ("skipped", "not allowed by policy: POST")
    assert results["GET /ok"].verdict == "passed"
    assert results["get /lower"].reason == "not allowed by policy: get"
    assert server.targets() == ["GET /ok"]


@pytest.mark.parametrize("value", ["other.example", "127.0.0.1:1", "metadata.google.internal"])
def test_host_header_of_another_site_is_refused(serve: Serve, value: str) -> None:
    server = serve()
    result = run_one(plan(server.url), case(step("GET", "/", headers=(("hOST", value),))))
    assert result.reason == "refused: header Host names another host than the target"
    assert server.connections == 0


@pytest.mark.parametrize("url", ["ftp://127.0.0.1/", "file:///etc/passwd", "http://u:p@h/", "http://h/?q=1", "h"])
def test_unusable_base_url_is_a_configuration_error(url: str) -> None:
    with pytest.raises(TargetError):
        Engine(plan(url), {}, run="r")


def test_environment_proxies_are_not_used(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    proxy, server = serve(), serve()
    for name in ("http_proxy", "HTTP_PROXY", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, proxy.url)
    assert run_one(plan(server.url), case(step())).verdict == "passed"
    assert (proxy.connections, server.connections) == (0, 1)
    assert run_one(plan(server.url), case(step("GET", "/%2e")), proxy=proxy.url).verdict == "passed"
    assert proxy.seen[0].target.startswith(f"{server.url}/%2")


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The authority's certificate, and the server's with its key."""
    return certificates.make(tmp_path_factory.mktemp("tls"), "127.0.0.1")


@pytest.fixture
def tls(serve: Serve, certificate: tuple[Path, Path]) -> Server:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate[1])
    return serve(None, context=context)


def test_unknown_certificate_is_refused_unless_told_otherwise(tls: Server, certificate: tuple[Path, Path]) -> None:
    result = run_one(plan(tls.url), case(step()), environ={})
    assert (result.verdict, result.reason) == ("errored", "TLS certificate not accepted")
    assert not tls.seen
    assert run_one(plan(tls.url, verify_tls=False), case(step())).verdict == "passed"
    trusted = {"SSL_CERT_FILE": str(certificate[0])}
    assert run_one(plan(tls.url), case(step()), environ=trusted).verdict == "passed"


def test_http_2_is_spoken_when_offered(certificate: tuple[Path, Path]) -> None:
    """The server is a preface check: it agrees on h2 and closes, which is all that negotiation needs."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate[1])
    context.set_alpn_protocols(["h2", "http/1.1"])
    got: list[Any] = []

    def handler(connection: socket.socket, seen: Seen) -> bytes | None:
        got.append((connection.selected_alpn_protocol(), seen.head))  # type: ignore[attr-defined]
        return None

    server = Server(handler, context=context)
    try:
        result = run_one(plan(server.url, verify_tls=False), case(step()))
    finally:
        server.close()
    assert got[0] == ("h2", b"PRI * HTTP/2.0")
    assert result.verdict == "errored" and result.reason.startswith("target down: ")
