from __future__ import annotations

import http.client
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
import yaml

from bench.apis import SAMPLES, known
from bench.faults import REVIEWED, Review, Router, judged, reviewed
from bench.fuzzers import Outcome, Reported
from bench.proxy import NUMBER, Seen, counting

OPERATIONS = ["GET /pets", "GET /pets/{id}", "GET /pets/mine", "POST /pets"]


class _Echo(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(201)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self) -> None:
        if self.path == "/cut":
            self.send_response(200)
            self.send_header("Content-Length", "100")
            self.end_headers()
            self.wfile.write(b"half")
            self.close_connection = True
            return
        self.send_response(200)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        self.wfile.write(b"3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n")

    def log_message(self, *_: Any) -> None: ...


@pytest.fixture
def echo() -> Iterator[int]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Echo)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield server.server_port
    server.shutdown()
    thread.join()
    server.server_close()


def _connection(url: str) -> http.client.HTTPConnection:
    return http.client.HTTPConnection(url.removeprefix("http://"), timeout=10)


def test_the_proxy_numbers_what_it_forwards_and_ends_at_the_budget(echo: int) -> None:
    with counting(echo, 2) as counted:
        client = _connection(counted.url)
        client.request("POST", "/pets", body=b"x" * 70_000)
        first = client.getresponse()
        assert (first.status, first.headers[NUMBER], len(first.read())) == (201, "1", 70_000)
        client.request("GET", "/pets?a=b")
        second = client.getresponse()
        assert (second.headers[NUMBER], second.read()) == ("2", b"abcde")
        assert not counted.spent.is_set()
        client.request("GET", "/pets")
        with pytest.raises((http.client.RemoteDisconnected, ConnectionError)):
            client.getresponse()
        client.close()
        assert counted.spent.is_set()
        assert counted.log == [Seen("POST", "/pets", 201), Seen("GET", "/pets?a=b", 200)]


def test_the_proxy_passes_a_broken_answer_on_as_broken(echo: int) -> None:
    with counting(echo, 10) as counted:
        client = _connection(counted.url)
        client.request("GET", "/cut")
        answer = client.getresponse()
        with pytest.raises(http.client.IncompleteRead):
            answer.read()
        client.close()
        assert counted.log == [Seen("GET", "/cut", 0)]


def test_a_request_line_is_the_operation_with_the_fewest_parameters() -> None:
    route = Router(OPERATIONS, "/v1")
    assert route("GET", "/v1/pets/mine?x=1") == "GET /pets/mine"
    assert route("GET", "/v1/pets/7") == "GET /pets/{id}"
    assert route("GET", "/v1/pets/7/toys") == "" == route("DELETE", "/v1/pets")


def _report(code: int, operation: str, check: str, status: int, number: int) -> Reported:
    return Reported(code, operation, check, status, number, "")


def test_faults_count_once_by_code_and_operation_at_the_request_that_shows_them_first() -> None:
    log = [
        Seen("GET", "/pets", 200),
        Seen("GET", "/pets/7", 500),
        Seen("POST", "/pets", 201),
        Seen("GET", "/pets", 200),
    ]
    outcome = Outcome(
        [
            _report(100, "GET /pets/{id}", "not_a_server_error", 500, 2),
            _report(101, "GET /pets/{id}", "status_code_conformance", 500, 2),
            _report(102, "POST /pets", "negative_data_rejection", 201, 4),
            _report(102, "POST /pets", "negative_data_rejection", 201, 3),
            _report(210, "GET /pets", "unsupported_method", 404, 1),
            _report(920, "POST /pets", "positive_data_acceptance", 400, 4),
            _report(100, "GET /pets", "not_a_server_error", 500, 5),
        ],
        cpu_s=1.0,
    )
    found = judged("some", OPERATIONS, "", log, outcome, Review())
    assert found.reached == {"GET /pets": 1, "POST /pets": 3}
    assert found.faults == {(100, "GET /pets/{id}"): 2, (102, "POST /pets"): 3}
    assert found.open == {(920, "POST /pets"): 4} and not found.wrong
    assert found.at(2) == (1, 1)
    listed = Review(wrong=[("positive_data_acceptance", "POST *")])
    assert judged("some", OPERATIONS, "", log, outcome, listed).wrong == {(920, "POST /pets"): 4}


def test_what_is_no_seeded_defect_of_the_shop_is_wrong() -> None:
    log = [Seen("POST", "/payments", 500), Seen("GET", "/health", 500)]
    reports = [_report(100, "POST /payments", "not_a_server_error", 500, 1), _report(100, "GET /health", "x", 500, 2)]
    found = judged("shop", ["POST /payments", "GET /health"], "", log, Outcome(reports, 0.0), reviewed("shop"))
    assert set(found.faults) == {(100, "POST /payments")} and set(found.wrong) == {(100, "GET /health")}


def test_every_recipe_is_complete_and_every_review_has_a_reason() -> None:
    apis = known()
    assert {"shop", "httpbin", "kinto"} <= set(apis)
    assert all(api.start and api.document and api.install for name, api in apis.items() if name not in SAMPLES)
    listed = yaml.safe_load(REVIEWED.read_text("utf-8"))
    assert set(listed) <= set(apis)
    for reviews in listed.values():
        assert set(reviews) <= {"faults", "wrong", "neither", "unreachable"}
        assert all(entry["why"] and entry["operation"] for entries in reviews.values() for entry in entries)
