"""Reading over HTTP and from files: what may be read, and nothing else."""

from __future__ import annotations

import gzip
import json
import os
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from testops_lib.errors import AddressError, SpecError
from testops_lib.spec import Limits, Spec, load, load_bytes

Answer = Callable[[BaseHTTPRequestHandler], None]
DOCUMENT = b'{"openapi": "3.0.0", "info": {"title": "served"}, "paths": {"/a": {"get": {}}}}'


class Site:
    """A real server: path -> what it does; `seen` holds the requests."""

    def __init__(self) -> None:
        self.answers: dict[str, Answer] = {}
        self.seen: list[tuple[str, dict[str, str]]] = []
        site = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                site.seen.append((self.path, {name.lower(): value for name, value in self.headers.items()}))
                try:
                    site.answers.get(self.path, missing)(self)
                except (BrokenPipeError, ConnectionResetError):
                    pass

            def log_message(self, *args: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.thread = threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.05})
        self.thread.start()
        self.url = f"http://127.0.0.1:{self.server.server_port}"

    def close(self) -> None:
        self.server.shutdown()
        self.thread.join()
        self.server.server_close()


def reply(body: bytes, status: int = 200, **headers: str) -> Answer:
    def answer(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(status)
        for name, value in headers.items():
            handler.send_header(name.replace("_", "-"), value)
        handler.send_header("Content-Length", str(len(body)))
        handler.end_headers()
        handler.wfile.write(body)

    return answer


missing = reply(b"no", 404)


def endless(handler: BaseHTTPRequestHandler) -> None:
    handler.send_response(200)
    handler.end_headers()
    while True:
        handler.wfile.write(b" " * 65536)


def slow(handler: BaseHTTPRequestHandler) -> None:
    handler.send_response(200)
    handler.send_header("Content-Length", "1000")
    handler.end_headers()
    for _ in range(50):
        handler.wfile.write(b" ")
        time.sleep(0.1)


@pytest.fixture
def site() -> Iterator[Site]:
    served = Site()
    yield served
    served.close()


@pytest.fixture
def other() -> Iterator[Site]:
    served = Site()
    yield served
    served.close()


def referring(ref: str) -> bytes:
    schema = {"application/json": {"schema": {"$ref": ref}}}
    operation = {"responses": {"200": {"description": "", "content": schema}}}
    return json.dumps({"openapi": "3.0.0", "paths": {"/a": {"get": operation}}}).encode()


def definitions(spec: Spec) -> list[Any]:
    return list(spec.definitions.values())


def test_a_document_is_read_whatever_its_content_type_says(site: Site) -> None:
    site.answers["/plain"] = reply(DOCUMENT, Content_Type="text/plain")
    site.answers["/yaml"] = reply(b"openapi: 3.0.0\npaths: {/a: {get: {}}}\n", Content_Type="application/json")
    site.answers["/gzip"] = reply(gzip.compress(DOCUMENT), Content_Encoding="gzip")
    for path in ("/plain", "/yaml", "/gzip"):
        assert [operation.key for operation in load(site.url + path).operations] == ["GET /a"]


def test_headers_are_sent_and_secrets_in_the_address_are_not_told(site: Site) -> None:
    site.answers["/x?token=s3cret"] = reply(DOCUMENT)
    spec = load(f"{site.url}/x?token=s3cret", headers={"Authorization": "Bearer t"})
    assert site.seen[0][1]["authorization"] == "Bearer t"
    assert spec.source == f"{site.url}/x"
    with pytest.raises(SpecError) as error:
        load(f"{site.url}/none?token=s3cret")
    assert "404" in str(error.value)
    assert "s3cret" not in str(error.value)
    with pytest.raises(SpecError):
        load(f"{site.url}/x", headers={"A": "b\r\nC: d"})


def test_what_no_request_line_may_hold_is_percent_encoded_in_the_address(site: Site) -> None:
    site.answers["/a%20b/%C3%A9?x=%0D%0AA:%20b"] = reply(DOCUMENT)
    assert load(f"{site.url}/a b/é?x=\r\nA: b").title == "served"
    assert "a" not in site.seen[0][1]
    with pytest.raises(SpecError, match="no usable URL"):
        load("http://no host/x")


@pytest.mark.parametrize(
    ("answer", "what"),
    [
        (reply(b"<!doctype html><html>Log in</html>", Content_Type="text/html"), "web page"),
        (reply(b"", 200), "empty"),
        (reply(b"no", 401), "401"),
        (reply(b"no", 503), "503"),
        (endless, "more than 2,000,000 bytes"),
        (reply(gzip.compress(b" " * 50_000_000, 9), Content_Encoding="gzip"), "more than 2,000,000 bytes"),
        (reply(b"not gzip", Content_Encoding="gzip"), "could not be fetched"),
        (slow, "could not be fetched"),
    ],
)
def test_a_bad_answer_gives_one_error_in_time(site: Site, answer: Answer, what: str) -> None:
    site.answers["/x"] = answer
    started = time.monotonic()
    with pytest.raises(SpecError) as error:
        load(f"{site.url}/x", limits=Limits(max_bytes=2_000_000, fetch_seconds=1))
    assert what in error.value.what
    assert error.value.where.startswith(site.url)
    assert time.monotonic() - started < 4


def test_private_addresses_are_refused_when_they_are_not_allowed(site: Site) -> None:
    site.answers["/x"] = reply(DOCUMENT)
    for host in ("127.0.0.1", "localhost"):
        with pytest.raises(AddressError):
            load(f"http://{host}:{site.server.server_port}/x", allow_private=False)
    assert site.seen == []
    with pytest.raises(AddressError):
        load("http://169.254.169.254/latest/meta-data", limits=Limits(fetch_seconds=2))


def test_redirects_stay_on_the_host_unless_another_is_allowed(site: Site, other: Site) -> None:
    site.answers["/here"] = reply(b"", 302, Location="/docs/real")
    site.answers["/docs/real"] = reply(DOCUMENT)
    site.answers["/away"] = reply(b"", 302, Location=f"{other.url}/x")
    site.answers["/loop"] = reply(b"", 302, Location="/loop")
    site.answers["/file"] = reply(b"", 302, Location="file:///etc/passwd")
    site.answers["/none"] = reply(b"", 302, Location="http://[")
    other.answers["/x"] = reply(DOCUMENT)
    assert load(f"{site.url}/here").title == "served"
    for path in ("/away", "/loop", "/file", "/none"):
        with pytest.raises(SpecError):
            load(site.url + path)
    assert other.seen == []
    host = other.url.removeprefix("http://")
    assert load(f"{site.url}/away", allow_hosts=[host], headers={"Authorization": "x"}).title == "served"
    assert "authorization" not in other.seen[0][1]


def test_references_are_fetched_from_the_own_host_only(site: Site, other: Site) -> None:
    site.answers["/api/doc"] = reply(referring("../shared/types.json#/T"))
    site.answers["/shared/types.json"] = reply(b'{"T": {"$ref": "#/U"}, "U": {"type": "integer"}}')
    site.answers["/away"] = reply(referring(f"{other.url}/types.json#/T"))
    site.answers["/file"] = reply(referring("file:///etc/passwd"))
    other.answers["/types.json"] = reply(b'{"T": {"type": "string"}}')
    spec = load(f"{site.url}/api/doc")
    assert {"type": "integer"} in definitions(spec)
    assert not spec.warnings
    for path in ("/away", "/file"):
        spec = load(site.url + path)
        assert definitions(spec) == [True]
        assert "is refused" in spec.warnings[0]
    assert other.seen == []
    allowed = load(f"{site.url}/away", allow_hosts=["127.0.0.1"])
    assert definitions(allowed) == [{"type": "string"}]


def test_a_reference_that_redirects_away_is_refused(site: Site, other: Site) -> None:
    site.answers["/doc"] = reply(referring("/types.json#/T"))
    site.answers["/types.json"] = reply(b"", 302, Location=f"{other.url}/types.json")
    assert definitions(load(f"{site.url}/doc")) == [True]
    assert other.seen == []


def test_references_between_documents_are_limited(site: Site) -> None:
    def chain(handler: BaseHTTPRequestHandler) -> None:
        number = int(handler.path.removeprefix("/n"))
        reply(json.dumps({"T": {"properties": {"x": {"$ref": f"/n{number + 1}#/T"}}}}).encode())(handler)

    site.answers = {f"/n{i}": chain for i in range(50)}
    site.answers["/doc"] = reply(referring("/n0#/T"))
    with pytest.raises(SpecError, match="max_documents"):
        load(f"{site.url}/doc", limits=Limits(max_documents=10))
    assert len(site.seen) == 10


def test_files_outside_the_documents_directory_are_never_read(tmp_path: Path) -> None:
    inside = tmp_path / "inside"
    (inside / "sub").mkdir(parents=True)
    (tmp_path / "secret.json").write_text('{"T": {"const": "secret"}}')
    (inside / "sub" / "good.json").write_text('{"T": {"const": "fine"}}')
    (inside / "link.json").symlink_to(tmp_path / "secret.json")
    (inside / "linked").symlink_to(tmp_path)
    os.mkfifo(inside / "pipe.json")
    document = inside / "doc.json"
    refused = [
        "../secret.json",
        "sub/../../secret.json",
        "..%2fsecret.json",
        "%2e%2e/secret.json",
        str(tmp_path / "secret.json"),
        "link.json",
        "linked/secret.json",
        "pipe.json",
        "sub",
        "file:secret.json",
        f"file://{tmp_path}/secret.json",
        "a%00b",
    ]
    for ref in refused:
        document.write_bytes(referring(f"{ref}#/T"))
        spec = load(document)
        assert definitions(spec) == [True], ref
        assert "refused" in spec.warnings[0], ref
    for ref in ("sub/good.json", "./sub/../sub/good.json", "sub%2Fgood.json"):
        document.write_bytes(referring(f"{ref}#/T"))
        assert definitions(load(document)) == [{"const": "fine"}], ref
    elsewhere = tmp_path / "elsewhere.json"
    elsewhere.symlink_to(document)
    assert definitions(load(elsewhere)) == [{"const": "fine"}]


def test_bytes_in_memory_read_no_files(tmp_path: Path) -> None:
    (tmp_path / "types.json").write_text('{"T": {"type": "string"}}')
    spec = load_bytes(referring("types.json#/T"), str(tmp_path / "doc.json"))
    assert definitions(spec) == [True]


def test_a_pipe_is_read_and_a_silent_one_given_up(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with pytest.raises(SpecError, match="nothing came"):
        load(pipe, limits=Limits(fetch_seconds=0.2))
    writer = threading.Thread(target=lambda: pipe.write_bytes(DOCUMENT))
    writer.start()
    assert load(pipe).title == "served"
    writer.join()
    with pytest.raises(SpecError, match="max_bytes"):
        load("/dev/zero", limits=Limits(max_bytes=1_000_000))


def test_the_limit_of_values_is_for_all_documents_together(tmp_path: Path) -> None:
    for i in range(3):
        (tmp_path / f"n{i}.json").write_text(json.dumps({"T": {"enum": list(range(40)), "$ref": f"n{i + 1}.json#/T"}}))
    (tmp_path / "doc.json").write_bytes(referring("n0.json#/T"))
    spec = load(tmp_path / "doc.json", limits=Limits(max_values=110))
    assert "more than 110 values" in spec.warnings[0]
