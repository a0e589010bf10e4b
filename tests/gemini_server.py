"""A server on 127.0.0.1 that speaks the Gemini protocol with scripted answers.

It proves our side of the protocol, not the obedience of a model.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

USAGE = {
    "promptTokenCount": 1000, "candidatesTokenCount": 200, "thoughtsTokenCount": 30, "cachedContentTokenCount": 400,
    "totalTokenCount": 1230,
}  # fmt: skip


@dataclass(frozen=True)
class Reply:
    """One scripted answer."""

    status: int = 200
    body: bytes = b""
    delay_s: float = 0
    hang_up: bool = False
    """Close the connection without an answer."""


@dataclass(frozen=True)
class Received:
    """One request as it came."""

    path: str
    headers: dict[str, str]
    body: dict[str, Any]
    at_s: float = 0
    """When, on the monotonic clock."""

    @property
    def user(self) -> str:
        return "".join(part["text"] for content in self.body["contents"] for part in content["parts"])

    @property
    def system(self) -> str:
        return "".join(part["text"] for part in self.body["systemInstruction"]["parts"])

    @property
    def config(self) -> dict[str, Any]:
        found: dict[str, Any] = self.body["generationConfig"]
        return found


def text(text: str, *, finish: str = "STOP", usage: dict[str, int] | None = None, delay_s: float = 0) -> Reply:
    """An answer of one candidate with this text (and a thought before it, which must be left out)."""
    parts = [{"text": '{"cases": []}', "thought": True}, {"text": text}]
    answer = {
        "candidates": [{"content": {"role": "model", "parts": parts}, "finishReason": finish, "index": 0}],
        "usageMetadata": USAGE if usage is None else usage,
        "modelVersion": "gemini-test",
        "responseId": "r-1",
    }
    return Reply(body=json.dumps(answer).encode(), delay_s=delay_s)


def cases(*proposed: Any, delay_s: float = 0) -> Reply:
    """A good answer."""
    return text(json.dumps({"cases": list(proposed)}), delay_s=delay_s)


def truncated(*proposed: Any, keep: int) -> Reply:
    """A good answer cut in the middle, after `keep` whole cases."""
    whole = json.dumps({"cases": list(proposed)})
    head = json.dumps({"cases": list(proposed[:keep])})[:-2]
    return text(whole[: len(head) + 25], finish="MAX_TOKENS")


def prose(*proposed: Any) -> Reply:
    inner = json.dumps({"cases": list(proposed)}, indent=1)
    return text(f"Sure! Here are {{some}} cases:\n```json\n{inner}\n```\nLet me know {{if}} you need more.")


def error(status: int, name: str, message: str, *, retry_delay: str = "", reason: str = "") -> Reply:
    """A google.rpc.Status, with RetryInfo or ErrorInfo where asked."""
    details: list[dict[str, Any]] = []
    if retry_delay:
        details.append({"@type": "type.googleapis.com/google.rpc.QuotaFailure", "violations": []})
        details.append({"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": retry_delay})
    if reason:
        details.append({"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": reason})
    body = {"error": {"code": status, "message": message, "status": name, "details": details}}
    return Reply(status=status, body=json.dumps(body).encode())


def safety_block(reason: str = "SAFETY") -> Reply:
    """The prompt is refused: no candidates."""
    answer = {"promptFeedback": {"blockReason": reason}, "usageMetadata": {"promptTokenCount": 1000}}
    return Reply(body=json.dumps(answer).encode())


def blocked_candidate() -> Reply:
    """The answer is refused: a candidate without content."""
    answer = {"candidates": [{"finishReason": "SAFETY", "index": 0}], "usageMetadata": {"promptTokenCount": 1000}}
    return Reply(body=json.dumps(answer).encode())


def no_candidates() -> Reply:
    return Reply(body=b"{}")


Script = Callable[[Received], Reply]


@dataclass
class GeminiServer:
    """Use as a context manager. `script` answers each request; an iterable of replies answers in turn."""

    script: Script | Iterable[Reply]
    received: list[Received] = field(default_factory=list)
    most_at_once: int = 0
    url: str = ""

    def __enter__(self) -> GeminiServer:
        lock = threading.Lock()
        replies = None if callable(self.script) else iter(self.script)
        script = self.script if callable(self.script) else None
        stop = self._stop = threading.Event()
        owner, under_way = self, [0]

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                raw = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                request = Received(
                    path=self.path, headers=dict(self.headers.items()), body=json.loads(raw), at_s=time.monotonic()
                )
                with lock:
                    owner.received.append(request)
                    under_way[0] += 1
                    owner.most_at_once = max(owner.most_at_once, under_way[0])
                    reply = next(replies, None) if replies is not None else None
                if reply is None:
                    reply = script(request) if script is not None else error(500, "INTERNAL", "the script has ended")
                stop.wait(reply.delay_s)
                with lock:
                    under_way[0] -= 1
                if reply.hang_up:
                    self.close_connection = True
                    return
                try:
                    self.send_response(reply.status)
                    self.send_header("Content-Type", "application/json; charset=UTF-8")
                    self.send_header("Content-Length", str(len(reply.body)))
                    self.end_headers()
                    self.wfile.write(reply.body)
                except OSError:
                    self.close_connection = True

            def log_message(self, format: str, *args: Any) -> None:
                pass

        class Server(ThreadingHTTPServer):
            daemon_threads = True
            block_on_close = False
            request_queue_size = 64

        self._server = Server(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(5)
