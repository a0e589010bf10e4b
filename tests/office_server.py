"""An API with data of other people, as careless as an API can be: it reads `5abc` as 5, ignores the things around a
thing, serves methods that no document offers, and empties whole lists.
"""

from __future__ import annotations

import copy
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote, urlsplit

TOKEN = "office-token"
THING: dict[str, Any] = {
    "type": "object",
    "required": ["name"],
    "properties": {"id": {"type": "integer", "readOnly": True}, "name": {"type": "string", "maxLength": 60}},
}
KINDS = ("clients", "invoices", "rooms", "archive/rooms", "tags")
"""Rooms and archived rooms are numbered by themselves; nothing says how a tag is made."""


def _answers(*statuses: str, schema: Any = None) -> dict[str, Any]:
    content = {"application/json": {"schema": schema}} if schema is not None else {}
    return {status: {"description": "", **({"content": content} if status[0] == "2" else {})} for status in statuses}


def _body(schema: Any) -> dict[str, Any]:
    return {"required": True, "content": {"application/json": {"schema": schema}}}


def _id(name: str, example: Any = 1, kind: str = "integer") -> dict[str, Any]:
    return {"name": name, "in": "path", "required": True, "schema": {"type": kind}, "example": example}


_SAVED, _READ = _answers("201", "400", "401", schema=THING), _answers("200", "401", "404", schema=THING)
_LISTED = _answers("200", "401", schema={"type": "array", "items": THING})
_CHANGED = {"requestBody": _body(THING), "responses": _answers("200", "400", "401", "404", schema=THING)}
_REMOVED = {"responses": _answers("204", "401", "404")}
_DONE = {"responses": _answers("204", "400", "401", "404")}


def _whole(kind: str, name: str) -> dict[str, Any]:
    return {
        f"/{kind}": {"get": {"responses": _LISTED}, "post": {"requestBody": _body(THING), "responses": _SAVED}},
        f"/{kind}/{{{name}}}": {
            "parameters": [_id(name)],
            "get": {"responses": _READ},
            "put": _CHANGED,
            "patch": _CHANGED,
            "delete": _REMOVED,
        },
    }


DOCUMENT: dict[str, Any] = {
    "openapi": "3.1.0",
    "info": {"title": "Office", "version": "1"},
    "components": {"securitySchemes": {"bearer": {"type": "http", "scheme": "bearer"}}},
    "security": [{"bearer": []}],
    "paths": {
        **_whole("clients", "client_id"),
        **_whole("rooms", "room_id"),
        **_whole("invoices", "invoice_id"),
        # archived rooms are numbered by themselves, and nothing makes one
        "/archive/rooms/{room_id}": {"parameters": [_id("room_id")], "get": {"responses": _READ}, "delete": _REMOVED},
        "/tags": {
            "get": {"responses": _LISTED},
            "delete": _DONE,
            "put": {
                **_CHANGED,
                "requestBody": _body(
                    {
                        **THING,
                        "required": ["id", "name"],
                        "properties": {**THING["properties"], "id": {"type": "integer"}},
                    }
                ),
            },
        },
        "/tags/{tag}": {
            "parameters": [_id("tag", "work", "string")],
            "get": {"responses": _READ},
            "put": _CHANGED,
            "delete": _REMOVED,
        },
        "/tags/remove": {
            "post": {
                "requestBody": _body(
                    {
                        "type": "object",
                        "required": ["ids"],
                        "properties": {
                            "ids": {"type": "array", "items": {"type": "integer"}, "minItems": 1, "example": [1, 2]}
                        },
                    }
                ),
                "responses": _DONE["responses"],
            }
        },
        "/clients/{client_id}/deactivate": {"parameters": [_id("client_id")], "post": _DONE},
        "/clients/{client_id}/notes": {
            "parameters": [_id("client_id")],
            "get": {"responses": _LISTED},
            "post": {"requestBody": _body(THING), "responses": _SAVED},
        },
        "/clients/{client_id}/notes/{note_id}": {
            "parameters": [_id("client_id"), _id("note_id")],
            "delete": _REMOVED,
            "get": {"responses": _READ},
        },
        "/current/user": {"get": {"responses": _READ}, "put": _CHANGED},
        "/current/user/password": {
            "post": {
                "requestBody": _body(
                    {
                        "type": "object",
                        "required": ["password"],
                        "properties": {"password": {"type": "string"}},
                    }
                ),
                "responses": _DONE["responses"],
            }
        },
        "/current/user/token": {"delete": _DONE},
        "/change-secret-word": {
            "post": {
                "requestBody": _body(
                    {
                        "type": "object",
                        "required": ["new_password"],
                        "properties": {"new_password": {"type": "string"}},
                    }
                ),
                "responses": _DONE["responses"],
            }
        },
    },
}


class Office:
    """What the server holds."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.document = DOCUMENT
        self.things: dict[str, dict[int, dict[str, Any]]] = {
            kind: {number: {"id": number, "name": f"{kind} {number}"} for number in range(1, 6)} for kind in KINDS
        }
        self.things["tags"][1]["name"] = "work"
        self.things["notes"] = {number: {"id": number, "name": f"note {number}"} for number in range(1, 6)}
        self.user = {"id": 3, "name": "clients 3"}
        self.next = dict.fromkeys(self.things, 6)
        self.token, self.password_changes = TOKEN, 0
        self.writes: list[str] = []
        self.refused = 0
        self.passwords: dict[str, str] = {}
        self.sessions: dict[str, str] = {}
        self.lost: set[str] = set()
        """Newcomers whose account was changed."""
        self._before = copy.deepcopy((self.things, self.user))

    def harm(self) -> list[str]:
        """What is not as it was before."""
        things, user = self._before
        changed = [
            f"{kind} {number}"
            for kind, known in things.items()
            for number, thing in known.items()
            if self.things[kind].get(number) != thing
        ]
        return changed + ["the user"] * (self.user != user) + ["the password"] * bool(self.password_changes)

    def left(self) -> int:
        """Things that somebody made and nobody deleted."""
        return sum(len(things) for things in self.things.values()) - sum(
            len(things) for things in self._before[0].values()
        )


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    office: Office

    def _any(self) -> None:
        length = int(self.headers.get("Content-Length") or 0)
        data = self.rfile.read(length)
        url = urlsplit(self.path)
        if url.path == "/openapi.json":
            return self._answer(200, self.office.document)
        with self.office.lock:
            if url.path in ("/signup", "/login"):
                return self._answer(*self._newcomer(url.path, json.loads(data)))
            if self._caller() is None:
                self.office.refused += 1
                return self._answer(401, {})
            try:
                body = json.loads(data) if data else {}
            except ValueError:
                return self._answer(400, {})
            if self.command not in ("GET", "HEAD", "OPTIONS"):
                self.office.writes.append(f"{self.command} {self.path}")
            status, answer = self._do([unquote(part) for part in url.path.split("/") if part], body)
        return self._answer(status, answer)

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = do_HEAD = do_OPTIONS = _any

    def _caller(self) -> str | None:
        """Who asks; "" the clerk; None: nobody known."""
        token = (self.headers.get("Authorization") or "").removeprefix("Bearer ")
        return "" if token == self.office.token else self.office.sessions.get(token)

    def _newcomer(self, path: str, body: dict[str, str]) -> tuple[int, Any]:
        if path == "/signup":
            self.office.passwords[body["name"]] = body["password"]
            return 201, {}
        if self.office.passwords.get(body["name"]) != body["password"]:
            return 401, {}
        token = f"session-{len(self.office.sessions)}"
        self.office.sessions[token] = body["name"]
        return 200, {"token": token}

    def _do(self, parts: list[str], body: Any) -> tuple[int, Any]:
        office, method = self.office, self.command
        if parts[:2] == ["current", "user"] or parts == ["change-secret-word"]:
            return self._own(parts, body)
        if parts == ["badges"] and "/badges" in office.document["paths"] and method == "POST":
            if not isinstance(body, dict) or not isinstance(body.get("name"), str):
                return 400, {}
            office.token = "another"
            return 201, {"id": 1, "name": body["name"]}
        if parts == ["tags", "remove"]:
            for number in body["ids"] if isinstance(body, dict) and isinstance(body.get("ids"), list) else []:
                office.things["tags"].pop(_number(str(number)), None)
            return 204, None
        kind = next(
            (kind for kind in ("archive/rooms", *office.things) if parts[: kind.count("/") + 1] == kind.split("/")), ""
        )
        rest = parts[kind.count("/") + 1 :]
        if kind == "clients" and rest[1:2] == ["notes"]:
            kind, rest = "notes", rest[2:]  # whose notes they are is not looked at
        if not kind:
            return 404, {}
        things = office.things[kind]
        if not rest:
            return self._list(kind, body)
        if rest == ["401"]:
            return 401, {}
        number = _number(rest[0])
        named = next((key for key, thing in things.items() if thing["name"] == rest[0]), number)
        if named not in things:
            return 404, {}
        if rest[1:] == ["deactivate"] or method == "DELETE":
            del things[named]
            return 204, None
        if method in ("PUT", "PATCH", "POST"):
            if not isinstance(body, dict) or not isinstance(body.get("name", "x"), str):
                return 400, {}
            things[named]["name"] = body.get("name", "emptied")
        return 200, things[named]

    def _list(self, kind: str, body: Any) -> tuple[int, Any]:
        things = self.office.things[kind]
        match self.command:
            case "DELETE":
                things.clear()
                return 204, None
            case "PUT":
                number = _number(str(body.get("id"))) if isinstance(body, dict) else 0
                if number not in things:
                    return 404, {}
                things[number]["name"] = str(body.get("name"))
                return 200, things[number]
            case "POST":
                if not isinstance(body, dict) or not isinstance(body.get("name"), str):
                    return 400, {}
                number = self.office.next[kind]
                self.office.next[kind] += 1
                things[number] = {"id": number, "name": body["name"]}
                return 201, things[number]
        return 200, list(things.values())

    def _own(self, parts: list[str], body: Any) -> tuple[int, Any]:
        if self.command in ("GET", "HEAD", "OPTIONS"):
            return 200, self.office.user
        caller = self._caller()
        if caller:
            self.office.passwords[caller] = "another"
            self.office.lost.add(caller)
            return (200, self.office.user) if self.command == "PUT" else (204, None)
        self.office.password_changes += 1
        self.office.token = "another"
        return 204, None

    def _answer(self, status: int, body: Any) -> None:
        data = b"" if status == 204 or self.command == "HEAD" else json.dumps(body).encode()
        self.send_response(status)
        if data:
            self.send_header("Content-Type", "application/json")
        if status != 204:
            self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *arguments: Any) -> None:
        return


def _number(text: str) -> int:
    """As JavaScript's parseInt."""
    found = re.match(r"\s*[+-]?\d+", text)
    return int(found[0]) if found else 0


@contextmanager
def serving(
    *, undeletable: bool = False, silent: bool = False, in_body: bool = False, trap: bool = False
) -> Iterator[tuple[str, Office]]:
    """The base URL of a running server, and what it holds.

    undeletable: no document says how to delete an invoice; silent: none says what an answer to POST holds; trap:
    `POST /badges` ends the caller's token, and nothing says so; in_body: tags can be made.
    """
    office = Office()
    office.document = copy.deepcopy(DOCUMENT)
    if trap:
        office.document["paths"]["/badges"] = {"post": {"requestBody": _body(THING), "responses": _SAVED}}
    if in_body:
        office.document["paths"]["/tags"]["post"] = {"requestBody": _body(THING), "responses": _SAVED}
    for path in office.document["paths"].values() if silent else ():
        if "post" in path:
            path["post"]["responses"] = _answers("201", "400")
    if undeletable:
        del office.document["paths"]["/invoices/{invoice_id}"]["delete"]
    handler = type("Handler", (_Handler,), {"office": office})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", office
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
