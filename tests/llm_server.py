"""A server on 127.0.0.1 that speaks the protocols of language models with scripted answers.

It proves our side of the protocols, not the obedience of a model. A script is written once: each protocol writes a
`Reply` in its own words. Gemini: generateContent and cachedContents of the v1beta API, errors as google.rpc.Status.
OpenAI: chat completions, errors as {"error": {…}}. Nothing is streamed.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Literal

Protocol = Literal["gemini", "openai"]


@dataclass(frozen=True)
class Usage:
    """Tokens as the service counts them; thinking is part of the output."""

    input: int = 1000
    output: int = 230
    cached: int = 400


@dataclass(frozen=True)
class Reply:
    """One scripted answer: a model's text, or an error (`status`), or raw bytes (`body`)."""

    text: str = ""
    usage: Usage | None = Usage()
    cut: bool = False
    """It ends at the limit of its length."""
    blocked: str = ""
    """`prompt`, `answer` or `nothing`: what the service holds back."""
    finish: str = ""
    status: int = 200
    code: str = ""
    message: str = ""
    parameter: str = ""
    retry_s: float | None = None
    body: bytes | None = None
    headers: tuple[tuple[str, str], ...] = ()
    delay_s: float = 0
    hang_up: bool = False
    """Close the connection without an answer."""


@dataclass(frozen=True)
class Received:
    """One request as it came."""

    method: str
    path: str
    headers: dict[str, str]
    body: dict[str, Any]
    at_s: float = 0
    """When, on the monotonic clock."""

    @property
    def gemini(self) -> bool:
        return "messages" not in self.body

    @property
    def user(self) -> str:
        if not self.gemini:
            return str(self.body["messages"][1]["content"])
        return "".join(part["text"] for content in self.body["contents"] for part in content["parts"])

    @property
    def system(self) -> str:
        if not self.gemini:
            return str(self.body["messages"][0]["content"])
        return "".join(part["text"] for part in self.body["systemInstruction"]["parts"])

    @property
    def config(self) -> dict[str, Any]:
        """All but the texts."""
        found: dict[str, Any] = self.body
        return found["generationConfig"] if self.gemini else {k: v for k, v in found.items() if k != "messages"}

    @property
    def most_output(self) -> int:
        names = ("maxOutputTokens", "max_tokens", "max_completion_tokens")
        return int(next(self.config[name] for name in names if name in self.config))


def text(text: str, **changes: Any) -> Reply:
    return Reply(text=text, **changes)


def cases(*proposed: Any, **changes: Any) -> Reply:
    """A good answer."""
    return text(json.dumps({"cases": list(proposed)}), **changes)


def truncated(*proposed: Any, keep: int) -> Reply:
    """A good answer cut in the middle, after `keep` whole cases."""
    whole = json.dumps({"cases": list(proposed)})
    head = json.dumps({"cases": list(proposed[:keep])})[:-2]
    return text(whole[: len(head) + 25], cut=True)


def prose(*proposed: Any) -> Reply:
    inner = json.dumps({"cases": list(proposed)}, indent=1)
    return text(f"Sure! Here are {{some}} cases:\n```json\n{inner}\n```\nLet me know {{if}} you need more.")


def error(status: int, code: str = "", message: str = "", **changes: Any) -> Reply:
    return Reply(status=status, code=code, message=message, **changes)


# --------------------------------------------------------------------------- in the words of a protocol


def _gemini(reply: Reply) -> dict[str, Any]:
    if reply.status != 200:
        details: list[dict[str, Any]] = []
        if reply.retry_s is not None:
            details.append({"@type": "type.googleapis.com/google.rpc.QuotaFailure", "violations": []})
            details.append({"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": f"{reply.retry_s:g}s"})
        if reply.parameter:
            details.append({"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": reply.parameter})
        return {"error": {"code": reply.status, "message": reply.message, "status": reply.code, "details": details}}
    usage: dict[str, Any] = {}
    if reply.usage is not None:
        thoughts = min(30, reply.usage.output)
        usage["usageMetadata"] = {
            "promptTokenCount": reply.usage.input,
            "candidatesTokenCount": reply.usage.output - thoughts,
            "thoughtsTokenCount": thoughts,
            "cachedContentTokenCount": reply.usage.cached,
            "totalTokenCount": reply.usage.input + reply.usage.output,
        }
    if reply.blocked == "prompt":
        return {"promptFeedback": {"blockReason": "SAFETY"}, **usage}
    if reply.blocked == "answer":
        return {"candidates": [{"finishReason": "SAFETY", "index": 0}], **usage}
    if reply.blocked:
        return {}
    # a thought before the answer, which must be left out
    parts = [{"text": '{"cases": []}', "thought": True}, {"text": reply.text}]
    finish = reply.finish or ("MAX_TOKENS" if reply.cut else "STOP")
    return {
        "candidates": [{"content": {"role": "model", "parts": parts}, "finishReason": finish, "index": 0}],
        "modelVersion": "gemini-test",
        "responseId": "r-1",
        **usage,
    }


def _openai(reply: Reply) -> dict[str, Any]:
    if reply.status != 200:
        failure = {"message": reply.message, "type": "error", "param": reply.parameter or None, "code": reply.code}
        return {"error": failure}
    message: dict[str, Any] = {"role": "assistant", "content": reply.text, "refusal": None}
    finish = reply.finish or ("length" if reply.cut else "stop")
    if reply.blocked == "prompt":
        message |= {"content": None, "refusal": "I cannot help with that."}
    elif reply.blocked == "answer":
        message["content"], finish = '{"cases": [', "content_filter"
    choices = [] if reply.blocked == "nothing" else [{"index": 0, "message": message, "finish_reason": finish}]
    made: dict[str, Any] = {"id": "c-1", "object": "chat.completion", "created": 1, "model": "m", "choices": choices}
    if reply.usage is not None:
        made["usage"] = {
            "prompt_tokens": reply.usage.input,
            "completion_tokens": reply.usage.output,
            "total_tokens": reply.usage.input + reply.usage.output,
            "prompt_tokens_details": {"cached_tokens": reply.usage.cached},
            "completion_tokens_details": {"reasoning_tokens": min(30, reply.usage.output)},
        }
    return made


def _written(reply: Reply, protocol: Protocol) -> tuple[bytes, tuple[tuple[str, str], ...]]:
    headers = reply.headers
    if reply.retry_s is not None and protocol == "openai":
        headers = (*headers, ("Retry-After", f"{reply.retry_s:g}"))
    if reply.body is not None:
        return reply.body, headers
    return json.dumps(_gemini(reply) if protocol == "gemini" else _openai(reply)).encode(), headers


# --------------------------------------------------------------------------- the server

Script = Callable[[Received], Reply]


@dataclass
class ModelServer:
    """Use as a context manager. `script` answers each request; an iterable of replies answers in turn.

    Requests about Gemini's caches are not the script's: `cache_reply` answers them (None: they are kept and deleted as
    documented, and stand in `caches`).
    """

    script: Script | Iterable[Reply]
    protocol: Protocol = "gemini"
    received: list[Received] = field(default_factory=list)
    most_at_once: int = 0
    url: str = ""
    cache_reply: Reply | None = None
    caches: dict[str, dict[str, Any]] = field(default_factory=dict)
    """Those alive: name -> what they hold."""
    asked_for_caches: list[Received] = field(default_factory=list)

    def __enter__(self) -> ModelServer:
        lock = threading.Lock()
        replies = None if callable(self.script) else iter(self.script)
        script = self.script if callable(self.script) else None
        stop = self._stop = threading.Event()
        owner, under_way = self, [0]

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                raw = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                request = self._received(json.loads(raw or b"{}"))
                if "cachedContents" in self.path:
                    self._send(owner._cached(request))
                    return
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
                self._send(reply)

            def do_DELETE(self) -> None:
                self._send(owner._cached(self._received({})))

            def _received(self, body: dict[str, Any]) -> Received:
                headers = {name.lower(): value for name, value in self.headers.items()}
                return Received(method=self.command, path=self.path, headers=headers, body=body, at_s=time.monotonic())

            def _send(self, reply: Reply) -> None:
                if reply.hang_up:
                    self.close_connection = True
                    return
                body, headers = _written(reply, owner.protocol)
                try:
                    self.send_response(reply.status)
                    self.send_header("Content-Type", "application/json; charset=UTF-8")
                    self.send_header("Content-Length", str(len(body)))
                    for name, value in headers:
                        self.send_header(name, value)
                    self.end_headers()
                    self.wfile.write(body)
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

    def _cached(self, request: Received) -> Reply:
        self.asked_for_caches.append(request)
        if self.cache_reply is not None:
            return self.cache_reply
        if request.method == "DELETE":
            self.caches.pop(request.path.partition("/cachedContents/")[2], None)
            return Reply(body=b"{}")
        name = f"c{len(self.asked_for_caches)}"
        self.caches[name] = request.body
        made = {
            "name": f"cachedContents/{name}",
            "model": "models/gemini-test",
            "usageMetadata": {"totalTokenCount": 3000},
            "createTime": "2026-01-01T00:00:00Z",
            "expireTime": "2026-01-01T00:10:00Z",
        }
        return Reply(body=json.dumps(made).encode())
