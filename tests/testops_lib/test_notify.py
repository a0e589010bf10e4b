from __future__ import annotations

import hashlib
import hmac
import json
import logging
import socket
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, ClassVar

import msgspec
import pytest

from testops_lib.model import Failure, GateRules, Report, Result
from testops_lib.notify import (
    NEXT_SIGNATURE_HEADER,
    SIGNATURE_HEADER,
    Message,
    log,
    message,
    summary,
    unfinished,
    webhook,
)
from testops_lib.verdict.analyze import analyze
from testops_lib.verdict.gate import decide

HOSTILE = "<!channel> @here \x1b[31m\nPASSED: all is well `x` [a](http://evil)"


def report(findings: int = 7, text: str = "answered 500") -> Report:
    results = [
        Result(
            run="r",
            case=f"{number}",
            operation="GET /a",
            verdict="failed",
            failures=(
                Failure(check="not_a_server_error", operation=f"GET /{number}", message=text, cause=f"{number}"),
            ),
        )
        for number in range(findings)
    ]
    results.append(Result(run="r", case="ok", operation="GET /a", verdict="passed"))
    made = analyze(results, target="shop", run="r", operations={"GET /a": ("200",)}, title="Shop")
    return msgspec.structs.replace(made, gate=decide(made, GateRules()))


class Hook(BaseHTTPRequestHandler):
    answers: ClassVar[list[int]] = []
    seen: ClassVar[list[tuple[str, dict[str, str], bytes]]] = []

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.seen.append((self.path, dict(self.headers), body))
        status = self.answers.pop(0) if self.answers else 200
        if status == 0:
            self.connection.shutdown(socket.SHUT_RDWR)
            return
        if status == -1:
            time.sleep(0.5)
            return
        self.send_response(status)
        if status == 302:
            self.send_header("Location", "/elsewhere")
        self.send_header("Content-Length", "0")
        self.end_headers()

    do_GET = do_POST

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def hook(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    Hook.answers, Hook.seen = [], []
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hook)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/services/SECRET"
    server.shutdown()
    thread.join()
    server.server_close()


def test_summary_leads_with_the_verdict_and_the_new_findings() -> None:
    assert summary(report(), "http://ui/run/r").splitlines() == [
        "FAILED: Shop, run r",
        "8 cases: 1 passed, 7 failed, 0 errored, 0 skipped",
        "Findings: 7 new, 0 known, 0 fixed",
        *(f"- GET /{number}: not_a_server_error (high, 1 case)" for number in range(5)),
        "- and 2 more new findings",
        "Gate: max_findings: 7 findings, at most 0 allowed",
        "http://ui/run/r",
    ]
    assert summary(report(0)).startswith("PASSED: Shop")


def test_what_a_target_says_cannot_mention_people_or_forge_lines() -> None:
    text = summary(msgspec.structs.replace(report(2, HOSTILE), title=HOSTILE, run=HOSTILE))
    assert "<!channel>" not in text and "@here" not in text and "\x1b" not in text
    assert not any(line.startswith("PASSED") for line in text.splitlines())
    assert "<!channel>" not in msgspec.json.encode(message(report(1, HOSTILE))).decode()


def test_webhook_posts_the_message_as_json(hook: str) -> None:
    answer = webhook(hook, message(report(2), "http://ui"))
    assert (answer.sent, answer.attempts, answer.status, answer.error) == (True, 1, 200, "")
    ((path, headers, body),) = Hook.seen
    assert path == "/services/SECRET" and headers["Content-Type"] == "application/json"
    assert SIGNATURE_HEADER not in headers
    sent = msgspec.json.decode(body, type=Message)
    assert sent.verdict == "failed" and sent.totals["findings"] == 2 and sent.url == "http://ui"
    assert [finding["operation"] for finding in sent.new_findings] == ["GET /0", "GET /1"]
    assert sent.text.startswith("FAILED: Shop") and json.loads(body)["reasons"]


def test_a_secret_signs_the_bytes_of_the_body(hook: str) -> None:
    webhook(hook, message(report(1)), secret="s3cret")
    ((_, headers, body),) = Hook.seen
    signed = {name.lower(): value for name, value in headers.items()}[SIGNATURE_HEADER.lower()]
    assert signed == "sha256=" + hmac.new(b"s3cret", body, hashlib.sha256).hexdigest()
    assert b"s3cret" not in body


def test_a_receiver_may_change_its_secret_at_any_moment_between_two_steps(hook: str) -> None:
    def verifies(secret: bytes) -> bool:
        """Whether a receiver with this secret takes the last notification."""
        _, headers, body = Hook.seen[-1]
        signature = "sha256=" + hmac.new(secret, body, hashlib.sha256).hexdigest()
        return signature in (headers.get(SIGNATURE_HEADER), headers.get(NEXT_SIGNATURE_HEADER))

    webhook(hook, message(report(1)), secret="old")
    assert verifies(b"old") and not verifies(b"new")
    webhook(hook, message(report(1)), secret="old", next_secret="new")
    assert verifies(b"old") and verifies(b"new")
    assert Hook.seen[-1][1][SIGNATURE_HEADER] == Hook.seen[-2][1][SIGNATURE_HEADER], (
        "who knows one header sees no change"
    )
    webhook(hook, message(report(1)), secret="new")
    assert verifies(b"new") and not verifies(b"old")


@pytest.mark.parametrize("first", [500, 503, 429, 0])
def test_what_may_pass_is_tried_again(hook: str, first: int) -> None:
    Hook.answers = [first]
    answer = webhook(hook, message(report(1)), pause_s=0.01)
    assert (answer.sent, answer.attempts, answer.status) == (True, 2, 200)
    assert len({body for _, _, body in Hook.seen}) == 1


@pytest.mark.parametrize("status", [400, 401, 404, 302])
def test_a_refusal_is_reported_and_not_repeated(hook: str, status: int) -> None:
    Hook.answers = [status]
    answer = webhook(hook, message(report(1)), pause_s=0.01)
    assert (answer.sent, answer.attempts, answer.status, answer.error) == (False, 1, status, f"answered {status}")
    assert len(Hook.seen) == 1


def test_a_lasting_failure_ends_after_the_attempts(hook: str) -> None:
    Hook.answers = [500] * 9
    answer = webhook(hook, message(report(1)), pause_s=0.01, attempts=3)
    assert (answer.sent, answer.attempts, answer.status) == (False, 3, 500) and len(Hook.seen) == 3


def test_a_silent_webhook_ends_by_its_timeout(hook: str) -> None:
    Hook.answers = [-1, -1]
    answer = webhook(hook, message(report(1)), pause_s=0.01, attempts=1, timeout_s=0.1)
    assert not answer.sent and answer.status == 0 and answer.error


def test_nobody_listening_is_a_result_and_no_exception() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    answer = webhook(f"http://127.0.0.1:{port}/SECRET", message(report(1)), pause_s=0.01, attempts=2)
    assert (answer.sent, answer.attempts, answer.error) == (False, 2, "no connection: Connection refused")


@pytest.mark.parametrize(
    "url", ["file:///etc/passwd", "ftp://h/x", "", "http://", "http://h:no/SECRET", "http://h/a b", "http://[SECRET"]
)
def test_unusable_urls_are_refused_without_an_exception(url: str, caplog: pytest.LogCaptureFixture) -> None:
    answer: Any = webhook(url, message(report(1)), pause_s=0, attempts=1)
    assert not answer.sent and answer.error
    assert "SECRET" not in answer.error + caplog.text


def test_a_run_without_a_report_is_sent_too(hook: str) -> None:
    assert webhook(hook, unfinished("shop", "r", "http://ui/r")).sent
    sent = msgspec.json.decode(Hook.seen[0][2], type=Message)
    assert (sent.verdict, sent.target, sent.run) == ("none", "shop", "r")
    assert sent.text.splitlines()[0] == "NOT FINISHED: shop, run r" and sent.text.endswith("http://ui/r")


def test_a_run_without_a_verdict_says_why(hook: str) -> None:
    reasons = ["open_run: there is no target 'shopp'", "<@everyone>"]
    assert webhook(hook, unfinished("shopp", "r", reasons=reasons)).sent
    sent = msgspec.json.decode(Hook.seen[0][2], type=Message)
    assert sent.reasons == tuple(reasons)
    assert "open_run: there is no target 'shopp'" in sent.text and "<@" not in sent.text


def test_the_webhook_s_url_never_reaches_the_log(hook: str, caplog: pytest.LogCaptureFixture) -> None:
    Hook.answers = [404]
    with caplog.at_level(logging.DEBUG):
        webhook(hook, message(report(1)))
    assert "webhook not sent" in caplog.text and "SECRET" not in caplog.text


def test_a_failed_gate_is_logged_as_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, logger="testops.notify"):
        assert log(message(report(1))).sent and log(message(report(0))).sent
    assert [record.levelname for record in caplog.records] == ["WARNING", "INFO"]
    assert caplog.records[0].getMessage().startswith("FAILED: Shop")
