"""A small API with a document, for peers that read one: `python -m bench.app PORT`. It validates what it is sent."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Awaitable, Callable, Iterator, MutableMapping
from contextlib import contextmanager
from typing import Any
from urllib.parse import parse_qsl
from urllib.request import urlopen

from bench.sample import DOCUMENT, SCHEMA
from bench.target import await_server
from stack import HOST, ports
from testops_lib.launch.tied import tied

OPERATIONS = 20
_ALLOWED = b"GET"
_COUNT = "/requests"


def _parameter(name: str, *, required: bool = False) -> dict[str, Any]:
    return {"name": name, "in": "query", "required": required, "schema": {"type": "integer", "minimum": 1}}


def _operation(number: int) -> dict[str, Any]:
    problem = {"description": "invalid", "content": {"application/json": {"schema": {"required": ["error"]}}}}
    answer = {"description": "a page", "content": {"application/json": {"schema": SCHEMA}}}
    return {
        "operationId": f"customers{number}",
        "parameters": [_parameter("page"), _parameter("limit")],
        "responses": {"200": answer, "422": problem},
    }


OPENAPI: dict[str, Any] = {
    "openapi": "3.1.0",
    "info": {"title": "Customers", "version": "1"},
    "paths": {f"/customers/{number}": {"get": _operation(number)} for number in range(OPERATIONS)},
}

_DOCUMENT = json.dumps(OPENAPI).encode()
_asked = 0

_Message = MutableMapping[str, Any]


def _answer(scope: _Message) -> tuple[int, bytes]:
    global _asked
    path = scope["path"]
    if path == "/openapi.json":
        return 200, _DOCUMENT
    if path == _COUNT:
        return 200, b"%d" % _asked
    _asked += 1
    if path not in OPENAPI["paths"]:
        return 404, b'{"error": "no such path"}'
    if scope["method"] != "GET":
        return 405, b'{"error": "method not allowed"}'
    for name, value in parse_qsl(scope["query_string"].decode("latin-1"), keep_blank_values=True):
        known = name in ("page", "limit")
        if known and not (value.isascii() and value.isdigit() and int(value[:400]) >= 1):
            return 422, b'{"error": "invalid"}'
    return 200, DOCUMENT


async def app(scope: _Message, receive: Callable[[], Awaitable[Any]], send: Callable[[Any], Awaitable[None]]) -> None:
    """The ASGI application."""
    status, body = _answer(scope)
    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
    if status == 405:
        headers.append((b"allow", _ALLOWED))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


@contextmanager
def serving(*, core: int) -> Iterator[str]:
    """The URL of one server process on that core."""
    port = ports.pick()
    child = subprocess.Popen(tied([sys.executable, "-m", "bench.app", str(port)]))
    try:
        os.sched_setaffinity(child.pid, {core % (os.cpu_count() or 1)})
        await_server(port, child)
        yield f"http://{HOST}:{port}"
    finally:
        child.terminate()
        child.wait(10)


def requests(url: str) -> int:
    """How many requests to operations it has answered so far."""
    with urlopen(f"{url}{_COUNT}", timeout=30) as answer:
        return int(answer.read())


if __name__ == "__main__":
    import uvicorn

    uvicorn.run(
        app,
        host=HOST,
        port=int(sys.argv[1]),
        lifespan="off",
        access_log=False,
        log_level="warning",
        timeout_keep_alive=60,
    )
