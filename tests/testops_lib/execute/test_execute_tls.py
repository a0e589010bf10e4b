"""TLS as people have it: authorities of their own, servers that ask for a client certificate."""

from __future__ import annotations

import ssl
from pathlib import Path

import pytest
from msgspec.structs import replace

from stack import certificates
from testops_lib.errors import TargetError
from testops_lib.execute import Engine
from testops_lib.model import Plan, StatusIs, Tls
from tests.testops_lib.execute.engine_server import Serve, Server, answer, case, execute, plan, run_one, step


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of an authority's, a server's and a client's certificates."""
    made = tmp_path_factory.mktemp("tls")
    certificates.make(made, "127.0.0.1")
    return made


@pytest.fixture(params=[ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3], ids=["1.2", "1.3"])
def strict(request: pytest.FixtureRequest, serve: Serve, folder: Path) -> Server:
    """A server that answers only to who shows a certificate of the authority."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.maximum_version = request.param
    context.load_cert_chain(folder / "server.pem")
    context.load_verify_locations(folder / "ca.pem")
    context.verify_mode = ssl.CERT_REQUIRED
    return serve(None, context=context)


def with_tls(server: Server, tls: Tls, **policy: object) -> Plan:
    return replace(plan(server.url, **policy), tls=tls)


def test_a_client_certificate_is_shown_where_it_is_asked_for(strict: Server, folder: Path) -> None:
    ca, cert, key = (str(folder / name) for name in ("ca.pem", "client.pem", "client.key"))
    result = run_one(with_tls(strict, Tls(ca=ca, cert=cert, key=key)), case(step("GET", "/x", expect=200)), environ={})
    assert (result.verdict, result.reason) == ("passed", "")
    both = folder / "both.pem"
    both.write_bytes(Path(cert).read_bytes() + Path(key).read_bytes())
    assert run_one(with_tls(strict, Tls(ca=ca, cert=str(both))), case(step()), environ={}).verdict == "passed"
    texts = {"CA": Path(ca).read_text(), "CERT": Path(cert).read_text(), "KEY": Path(key).read_text()}
    by_name = Tls(ca="${CA}", cert="${CERT}", key="${KEY}")
    assert run_one(with_tls(strict, by_name), case(step()), environ=texts).verdict == "passed"
    paths = {"CA": ca, "CERT": cert, "KEY": key}
    assert run_one(with_tls(strict, by_name), case(step()), environ=paths).verdict == "passed"


def test_without_a_client_certificate_the_reason_says_so(strict: Server, folder: Path) -> None:
    authority = Tls(ca=str(folder / "ca.pem"))
    cases = [case(step(method, "/")) for method in ("GET", "POST")]
    results = execute(Engine(with_tls(strict, authority, concurrency=1), {}, run="r", environ={}), cases)
    assert {result.verdict for result in results} == {"errored"}, "no finding: we were not let in"
    for result in results:  # with TLS 1.3 a reset of the connection may overtake the server's words
        asked = result.reason == "TLS: the server asks for a client certificate"
        assert asked or result.reason.startswith("target down: ")
    assert not strict.seen


def test_who_speaks_without_credentials_shows_no_client_certificate(serve: Serve, folder: Path) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "server.pem")
    context.load_verify_locations(folder / "ca.pem")
    context.verify_mode = ssl.CERT_OPTIONAL
    server = serve(lambda connection, seen: answer(200 if connection.getpeercert() else 401), context=context)
    tls = Tls(ca=str(folder / "ca.pem"), cert=str(folder / "client.pem"), key=str(folder / "client.key"))
    cases = [
        case(step("GET", f"/{number}", checks=(StatusIs(any_of=(status,)),), identity=identity))
        for number, (identity, status) in enumerate([("", 200), ("none", 401), ("", 200), ("invalid", 401), ("", 200)])
    ]
    results = execute(Engine(with_tls(server, tls, concurrency=1), {}, run="r", environ={}), cases)
    assert [result.verdict for result in results] == ["passed"] * 5, [result.failures for result in results]


def test_a_server_that_talks_to_nobody_without_a_certificate_is_no_finding_and_not_down(
    strict: Server, folder: Path
) -> None:
    tls = Tls(ca=str(folder / "ca.pem"), cert=str(folder / "client.pem"), key=str(folder / "client.key"))
    cases = [case(step("GET", f"/{number}", identity="none" if number % 2 else "")) for number in range(30)]
    results = execute(Engine(with_tls(strict, tls), {}, run="r", environ={}), cases)
    reasons = {result.reason for result in results if result.verdict == "skipped"}
    assert not [r.reason for r in results if r.verdict == "errored"]
    assert sorted(result.verdict for result in results) == ["passed"] * 15 + ["skipped"] * 15
    assert reasons == {"no connection without the client certificate"}


def test_a_client_certificate_is_not_shown_elsewhere(serve: Serve, strict: Server, folder: Path) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "server.pem")
    target = serve(lambda c, s: answer(302, "", f"Location: {strict.url}/there"), context=context)
    tls = Tls(ca=str(folder / "ca.pem"), cert=str(folder / "client.pem"), key=str(folder / "client.key"))
    policy = {"follow_redirects": 1, "hosts": (f"127.0.0.1:{strict.port}",), "breaker_after": 0}
    result = run_one(with_tls(target, tls, **policy), case(step()), environ={})
    assert result.verdict == "errored", result.failures
    assert not strict.seen


@pytest.mark.parametrize(
    ("tls", "environ", "message"),
    [
        (Tls(ca="/no/such/file"), {}, "is no file"),
        (Tls(cert="${CERT}"), {}, "${CERT} is not set in the environment"),
        (Tls(key="{folder}/client.key"), {}, "has a key and no certificate"),
        (Tls(ca="{folder}/client.key"), {}, "the certificates cannot be used"),
        (Tls(cert="{folder}/client.pem", key="{folder}/server.pem"), {}, "the certificates cannot be used"),
        (Tls(cert="{folder}/client.pem"), {}, "the certificates cannot be used"),
        (Tls(ca="${CA}"), {"CA": "-----BEGIN CERTIFICATE-----\nx\n-----END CERTIFICATE-----"}, "cannot be used"),
    ],
)
def test_certificates_that_cannot_be_used_are_a_configuration_error(
    serve: Serve, folder: Path, tls: Tls, environ: dict[str, str], message: str
) -> None:
    server = serve()
    parts = {name: getattr(tls, name).replace("{folder}", str(folder)) for name in ("ca", "cert", "key")}
    with pytest.raises(TargetError) as caught:
        run_one(replace(plan(server.url), tls=Tls(**parts)), case(step()), environ=environ)
    assert message in caught.value.what and "tls" in caught.value.where
    assert not server.connections


def test_a_key_with_a_password_is_refused_without_asking(serve: Serve, folder: Path) -> None:
    from cryptography.hazmat.primitives import serialization

    key = serialization.load_pem_private_key((folder / "client.key").read_bytes(), None)
    encrypted = folder / "encrypted.key"
    encrypted.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.BestAvailableEncryption(b"secret"),
        )
    )
    with pytest.raises(TargetError):
        run_one(replace(plan(serve().url), tls=Tls(cert=str(folder / "client.pem"), key=str(encrypted))), case(step()))
