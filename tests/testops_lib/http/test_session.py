"""Sessions of `requests`: what they take from the environment, and what they do not."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import requests

from testops_lib.http.session import open_session, reason

CLOSED = "http://127.0.0.1:9"


class Greeting(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Greeting) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def test_this_machine_is_called_without_the_proxy_of_the_environment(
    server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTP_PROXY", CLOSED)
    with open_session(host="127.0.0.1") as session:
        assert session.get(server, timeout=10).status_code == 200


def test_another_machine_is_called_through_the_proxy_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.setenv("HTTP_PROXY", CLOSED)
    with open_session(host="airflow.example") as session, pytest.raises(requests.exceptions.ProxyError):
        session.get("http://airflow.example/", timeout=10)


def test_an_entry_of_netrc_does_not_replace_our_credentials(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "netrc").write_text("machine airflow.example login somebody password else\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    request = requests.Request("GET", "http://airflow.example/", headers={"Authorization": "Bearer ours"})
    with open_session(host="airflow.example") as session:
        assert session.prepare_request(request).headers["Authorization"] == "Bearer ours"


def test_the_bundle_of_the_environment_is_trusted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", "/etc/company.pem")
    with open_session(host="airflow.example") as session:
        assert session.verify == "/etc/company.pem"


def test_the_reason_of_a_refused_connection_holds_no_url() -> None:
    with open_session(host="127.0.0.1") as session, pytest.raises(requests.ConnectionError) as raised:
        session.get(f"{CLOSED}/services/SECRET", timeout=10)
    assert reason(raised.value) == "Connection refused"
