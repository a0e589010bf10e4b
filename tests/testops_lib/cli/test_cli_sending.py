"""Options of the commands that send something, in process: certificates, credentials and proxies as curl has them."""

from __future__ import annotations

import json
import ssl
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from stack import certificates
from testops_lib.cli import cli
from testops_lib.cli.sending import basic, proxy_of, tls_of
from testops_lib.errors import SettingsError, TestOpsError
from testops_lib.model import Tls
from tests.testops_lib.execute.engine_server import Server, answer

DOCUMENT = {
    "openapi": "3.0.3",
    "info": {"title": "t", "version": "1"},
    "paths": {"/pets": {"get": {"responses": {"200": {"description": "ok"}, "400": {"description": "no"}}}}},
}


@pytest.fixture
def tls(tmp_path: Path) -> Any:
    """A server over TLS that asks for a client certificate, and the folder of the certificates."""
    certificates.make(tmp_path, "127.0.0.1")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "server.pem")
    context.load_verify_locations(tmp_path / "ca.pem")
    context.verify_mode = ssl.CERT_REQUIRED
    document = json.dumps(DOCUMENT)
    server = Server(lambda c, seen: answer(200, document if seen.target == "/openapi.json" else "{}"), context=context)
    yield server, tmp_path
    server.close()


def test_a_local_run_goes_through_mutual_tls_and_basic(tls: Any) -> None:
    server, folder = tls
    arguments = [
        "try",
        f"{server.url}/openapi.json",
        "--base-url",
        server.url,
        "--cacert",
        str(folder / "ca.pem"),
        "--cert",
        str(folder / "client.pem"),
        "--key",
        str(folder / "client.key"),
        "-u",
        "ann:s3cr3t:x",
        "--max-requests",
        "5",
        "--out",
        str(folder / "report"),
    ]
    done = CliRunner().invoke(cli, arguments, standalone_mode=False)
    assert done.return_value in (0, 1), done.output
    assert server.targets()[0] == "GET /openapi.json" and 1 <= len(server.seen) - 1 <= 5
    assert "Basic YW5uOnMzY3IzdDp4" in {seen.header("Authorization") for seen in server.seen}
    shown = (folder / "report" / "report.json").read_text() + done.output
    assert "s3cr3t" not in shown and "YW5uOnMzY3IzdDp4" not in shown


def test_a_document_of_another_origin_sees_no_client_certificate(tls: Any, tmp_path: Path) -> None:
    server, folder = tls
    shown = ["--cert", str(folder / "client.pem"), "--key", str(folder / "client.key")]
    arguments = ["try", f"{server.url}/openapi.json", "--base-url", "https://127.0.0.1:9", *shown]
    done = CliRunner().invoke(cli, [*arguments, "--cacert", str(folder / "ca.pem")], standalone_mode=False)
    assert isinstance(done.exception, TestOpsError) and not server.seen


def test_a_password_that_is_left_out_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("click.prompt", lambda *_, **options: "asked" if options["hide_input"] else "")
    assert basic("ann") == "Basic YW5uOmFza2Vk"
    assert basic("ann:") == "Basic YW5uOg=="


def test_certificates_are_named_together() -> None:
    none = {"cacert": "", "cert": "", "key": ""}
    assert tls_of(none) == Tls()
    with pytest.raises(SettingsError, match="--cert"):
        tls_of({**none, "key": "/key.pem"})


@pytest.mark.parametrize(
    ("variables", "base_url", "said"),
    [
        ({"HTTPS_PROXY": "http://p:1"}, "https://api.example", "HTTPS_PROXY is set and not used"),
        ({"http_proxy": "http://p:1"}, "http://10.0.0.1:8000", "http_proxy is set and not used"),
        ({"HTTPS_PROXY": "http://p:1", "NO_PROXY": "api.example"}, "https://api.example", ""),
        ({"HTTPS_PROXY": "http://p:1"}, "http://127.0.0.1:8000", ""),
        ({}, "https://api.example", ""),
    ],
)
def test_a_proxy_of_the_environment_is_refused_aloud(
    variables: dict[str, str], base_url: str, said: str, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    for name in ("HTTPS_PROXY", "HTTP_PROXY", "ALL_PROXY", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert proxy_of({"proxy": ""}, base_url) == ""
    shown = capsys.readouterr().err
    assert (said in shown) if said else not shown
    assert proxy_of({"proxy": "http://own:3128"}, base_url) == "http://own:3128" and not capsys.readouterr().err
    with pytest.raises(SettingsError):
        proxy_of({"proxy": "own:3128"}, base_url)


def test_the_shell_completes_commands_and_options(monkeypatch: pytest.MonkeyPatch) -> None:
    for words, at, expected in (("testops tr", 1, "try"), ("testops try --max-req", 2, "--max-requests")):
        variables = {"_TESTOPS_COMPLETE": "bash_complete", "COMP_WORDS": words, "COMP_CWORD": str(at)}
        done = CliRunner().invoke(cli, [], env=variables, prog_name="testops", complete_var="_TESTOPS_COMPLETE")
        assert expected in done.output


HOSTILE = {
    "openapi": "3.0.3",
    "info": {"title": "t", "version": "1"},
    "paths": {
        f"/{name}": {
            method: {
                "parameters": [{"name": "n", "in": "query", "schema": {"type": "integer", "maximum": 5}}],
                "responses": {"200": {"description": "ok"}},
            }
            for method in ("get", "post")
        }
        for name in ("fine", "down", "breaks", "fails", "later", "who")
    },
}
USERS = {
    "auth": [
        {
            "name": "ann",
            "loginEndpointAuth": {
                "endpoint": "/login",
                "payloadRaw": "{}",
                "token": {
                    "extractFrom": "body",
                    "extractSelector": "/token",
                    "sendIn": "header",
                    "sendName": "Authorization",
                    "sendTemplate": "Bearer {token}",
                },
            },
        }
    ]
}


@pytest.mark.parametrize("limit", [3, 40, 150])
def test_every_request_of_a_local_run_is_counted(tmp_path: Path, limit: int) -> None:
    def handler(connection: Any, seen: Any) -> bytes | None:
        name = seen.target.partition("?")[0]
        if name == "/breaks":
            return None
        status = {"/down": 503, "/fails": 500, "/later": 429, "/who": 401}.get(name, 200)
        return answer(status, '{"token": "t0k3n", "id": 1}', *(["Retry-After: 0"] if status == 429 else []))

    server = Server(handler)
    (tmp_path / "openapi.json").write_text(json.dumps(HOSTILE))
    (tmp_path / "users.yaml").write_text(json.dumps(USERS))
    arguments = [
        "try",
        str(tmp_path / "openapi.json"),
        "--base-url",
        server.url,
        "--auth",
        str(tmp_path / "users.yaml"),
        "--max-requests",
        str(limit),
        "--rounds",
        "1",
        "--out",
        str(tmp_path / "report"),
    ]
    try:
        CliRunner().invoke(cli, arguments, standalone_mode=False)
    finally:
        server.close()
    report = json.loads((tmp_path / "report" / "report.json").read_bytes())
    assert report["totals"]["requests"] == len(server.seen) <= limit
    assert len(server.seen) > limit / 2
