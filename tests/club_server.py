"""A small API that tells its secrets only in its answers: what it takes no document says, its refusals do."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

TEAMS = [{"title": "rowing", "members": [{"handle": "ann-7"}, {"handle": "bob-9"}]}]
ANSWERED = {"description": "", "content": {"application/json": {"schema": {"type": "object"}}}}
LISTED = {"description": "", "content": {"application/json": {"schema": {}}}}
REFUSED = {"description": "", "content": {"application/json": {"schema": {"type": "object"}}}}


def _operation(success: Any, *parameters: Any, **more: Any) -> dict[str, Any]:
    return {"parameters": parameters, "responses": {"200": success, "400": REFUSED, "404": REFUSED}, **more}


UNWANTED = ("page", "shade", "grade", "shelf", "crate", "tone")
WANTED = ("year", "branch", "book", "folio", "clerk")
TEXT = {"schema": {"type": "string"}}
DOCUMENT = {
    "openapi": "3.1.0",
    "info": {"title": "Club", "version": "1"},
    "paths": {
        "/teams": {"get": {"responses": {"200": LISTED}}},
        "/members/{member_handle}": {
            "get": _operation(ANSWERED, {"name": "member_handle", "in": "path", "required": True, **TEXT})
        },
        "/ledger": {
            "get": _operation(
                ANSWERED,
                *({"name": name, "in": "query", **TEXT} for name in UNWANTED),
                *({"name": name, "in": "query", "schema": {"type": "integer"}} for name in WANTED),
                {"name": "unit", "in": "query", "schema": {"type": "string", "enum": ["barrel"]}},
            )
        },
    },
}


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        url = urlsplit(self.path)
        asked = {name: values[-1] for name, values in parse_qs(url.query, keep_blank_values=True).items()}
        if url.path == "/openapi.json":
            self._answer(200, DOCUMENT)
        elif url.path == "/teams":
            self._answer(200, TEAMS)
        elif url.path.startswith("/members/"):
            handles = [member["handle"] for team in TEAMS for member in team["members"]]
            handle = url.path.removeprefix("/members/")
            self._answer(200 if handle in handles else 404, {"handle": handle})
        elif url.path == "/ledger":
            good = set(asked) == set(WANTED)
            self._answer(
                200 if good else 400,
                {} if good else {"detail": "needed: year, branch, book, folio, clerk; nothing else"},
            )
        else:
            self._answer(404, {})

    def _answer(self, status: int, body: Any) -> None:
        data = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *arguments: Any) -> None:
        return


@contextmanager
def serving() -> Iterator[str]:
    """URL of the running API."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
