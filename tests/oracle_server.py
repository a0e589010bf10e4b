"""An API that keeps its document, and (where asked) breaks what no document says."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

FAULTS = ("idempotency", "pages", "filter", "head", "allow", "reflection", "bola")

NOTE: dict[str, Any] = {
    "type": "object",
    "required": ["id", "text", "status", "size"],
    "properties": {
        "id": {"type": "integer"},
        "text": {"type": "string"},
        "status": {"type": "string", "enum": ["open", "done"]},
        "size": {"type": "integer"},
    },
}


def _answers(*statuses: str, schema: Any = None) -> dict[str, Any]:
    content = {"application/json": {"schema": schema}} if schema is not None else {}
    return {status: {"description": "", **({"content": content} if status[0] == "2" else {})} for status in statuses}


def _query(name: str, **schema: Any) -> dict[str, Any]:
    return {"name": name, "in": "query", "schema": schema}


DOCUMENT: dict[str, Any] = {
    "openapi": "3.1.0",
    "info": {"title": "Notes", "version": "1"},
    "components": {"securitySchemes": {"bearer": {"type": "http", "scheme": "bearer"}}},
    "security": [{"bearer": []}],
    "paths": {
        "/notes": {
            "get": {
                "parameters": [
                    _query("limit", type="integer", minimum=1, maximum=50),
                    _query("offset", type="integer", minimum=0),
                    _query("status", type="string", enum=["open", "done"]),
                ],
                "responses": _answers("200", "400", "401", schema={"type": "array", "items": NOTE}),
            },
            "post": {
                "requestBody": {
                    "required": True,
                    "content": {
                        "application/json": {
                            "schema": {
                                "type": "object",
                                "required": ["text"],
                                "properties": {"text": {"type": "string"}, "status": NOTE["properties"]["status"]},
                            }
                        }
                    },
                },
                "responses": _answers("201", "400", "401", "415", schema=NOTE),
            },
        },
        "/notes/{note_id}": {
            "parameters": [{"name": "note_id", "in": "path", "required": True, "schema": {"type": "integer"}}],
            "get": {"responses": _answers("200", "400", "401", "404", schema=NOTE)},
            "delete": {"responses": _answers("204", "400", "401", "404")},
        },
        "/greeting": {
            "get": {
                "parameters": [_query("text", type="string")],
                "responses": {
                    "200": {"description": "", "content": {"text/html": {"schema": {"type": "string"}}}},
                    "401": {"description": ""},
                },
            }
        },
    },
}


class _Notes:
    def __init__(self, faults: tuple[str, ...]) -> None:
        self.faults = faults
        self.lock = threading.Lock()
        self.notes: dict[int, dict[str, Any]] = {}
        self.owners: dict[int, str] = {}
        self.next = 1
        for number in range(6):
            self.add("ann", {"text": f"note {number}", "status": "open" if number % 2 else "done"})

    def add(self, who: str, sent: dict[str, Any]) -> dict[str, Any]:
        note = {"id": self.next, "text": sent["text"], "status": sent.get("status", "open"), "size": len(sent["text"])}
        self.notes[self.next], self.owners[self.next] = note, who
        self.next += 1
        return note


def _handler(state: _Notes) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _answer(self, status: int, body: Any = None, media: str = "application/json", **headers: str) -> None:
            data = body.encode() if isinstance(body, str) else b"" if body is None else json.dumps(body).encode()
            self.send_response(status)
            if data:
                self.send_header("Content-Type", media)
            if status not in (204, 304):
                self.send_header("Content-Length", str(len(data)))
            for name, value in headers.items():
                self.send_header(name, value)
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(data)

        def _serve(self) -> None:
            sent = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            url = urlsplit(self.path)
            asked = {name: values[-1] for name, values in parse_qs(url.query, keep_blank_values=True).items()}
            if url.path == "/openapi.json":
                return self._answer(200, DOCUMENT)
            who = {"Bearer ann-token": "ann", "Bearer bob-token": "bob"}.get(self.headers.get("Authorization", ""))
            if self.command == "OPTIONS":
                offered = "GET" if "allow" in state.faults else "GET, POST, DELETE, HEAD, OPTIONS"
                return self._answer(204, None, Allow=offered)
            if who is None:
                return self._answer(401)
            with state.lock:
                return self._route(url.path, asked, sent, who)

        def _route(self, path: str, asked: dict[str, str], sent: bytes, who: str) -> None:
            reading = self.command in ("GET", "HEAD")
            if self.command == "HEAD" and "head" in state.faults:
                return self._answer(404)
            if path == "/greeting" and reading:
                text = asked.get("text", "you")
                if "reflection" not in state.faults:
                    text = text.replace("&", "&amp;").replace("<", "&lt;")
                return self._answer(200, f"<p>Hello {text}</p>", "text/html")
            if path == "/notes" and reading:
                return self._list(asked)
            if path == "/notes" and self.command == "POST":
                return self._create(sent, who)
            name = path.removeprefix("/notes/")
            if not path.startswith("/notes/") or self.command not in ("GET", "HEAD", "DELETE"):
                return self._answer(405 if path in ("/notes", "/greeting") or path.startswith("/notes/") else 404)
            if not name.lstrip("-").isdigit():
                return self._answer(400)
            note = state.notes.get(int(name))
            hidden = note is not None and state.owners[int(name)] != who and "bola" not in state.faults
            if note is None or hidden:
                return self._answer(404)
            if self.command == "DELETE":
                del state.notes[int(name)]
                return self._answer(204)
            if "idempotency" in state.faults:
                note["size"] += 1
            return self._answer(200, note)

        def _list(self, asked: dict[str, str]) -> None:
            try:
                limit, offset = int(asked.get("limit", "10")), int(asked.get("offset", "0"))
            except ValueError:
                return self._answer(400)
            status = asked.get("status", "")
            if not 1 <= limit <= 50 or offset < 0 or ("status" in asked and status not in ("open", "done")):
                return self._answer(400)
            notes = [note for note in state.notes.values() if not status or note["status"] == status]
            if "filter" in state.faults:
                notes = list(state.notes.values())
            if "pages" in state.faults:
                offset = max(0, offset - 1)
            return self._answer(200, notes[offset : offset + limit])

        def _create(self, sent: bytes, who: str) -> None:
            if "json" not in self.headers.get("Content-Type", ""):
                return self._answer(415)
            try:
                body = json.loads(sent)
                good = isinstance(body["text"], str) and body.get("status", "open") in ("open", "done")
            except (ValueError, KeyError, TypeError):
                good = False
            return self._answer(201, state.add(who, body)) if good else self._answer(400)

        do_GET = do_HEAD = do_POST = do_DELETE = do_OPTIONS = do_PUT = do_PATCH = _serve

        def log_message(self, format: str, *arguments: Any) -> None:
            return

    return Handler


@contextmanager
def serving(*faults: str) -> Iterator[str]:
    """URL of the running API with these of `FAULTS`; users: `ann-token`, `bob-token` (bearer)."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(_Notes(faults)))
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
