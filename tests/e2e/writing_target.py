"""An API that only writes, of any size: it costs next to nothing, and counts how often each write arrived.

`python -m tests.e2e.writing_target PORT OPERATIONS` serves it; `WritingTarget` is that process.
"""

from __future__ import annotations

import asyncio
import json
import re
import subprocess
import sys
import time
import urllib.request
from collections import Counter
from types import TracebackType
from typing import Any, cast

from stack import HOST, PROJECT, ports
from testops_lib.launch.tied import tied

FIELDS: dict[str, dict[str, Any]] = {
    "amount": {"type": "integer", "minimum": 1, "maximum": 100_000},
    "discount": {"type": "integer", "minimum": 0, "maximum": 90},
    "items": {"type": "integer", "minimum": 1, "maximum": 500},
    "currency": {"type": "string", "enum": ["EUR", "USD", "GBP", "JPY", "CHF"]},
    "express": {"type": "boolean"},
}
REQUIRED = ("amount", "currency")
PROBLEM = {"type": "object", "required": ["title"], "properties": {"title": {"type": "string"}}}


class WritingTarget:
    """The server in a process of its own."""

    def __init__(self, operations: int) -> None:
        self.operations = operations
        self.url = f"http://{HOST}:{ports.pick()}"
        self._child: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> WritingTarget:
        command = [sys.executable, "-m", "tests.e2e.writing_target", self.url.rpartition(":")[2], str(self.operations)]
        self._child = subprocess.Popen(tied(command), cwd=PROJECT)
        deadline = time.monotonic() + 30
        while True:
            try:
                self.arrived()
                return self
            except OSError:
                assert self._child.poll() is None and time.monotonic() < deadline, "the target did not start"
                time.sleep(0.05)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._child is not None
        self._child.kill()
        self._child.wait(10)

    def arrived(self) -> dict[str, int]:
        """How often each write arrived: `path body` -> times."""
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(f"{self.url}/arrived", timeout=20) as answer:
            arrivals: dict[str, int] = json.load(answer)
            return arrivals


def document(url: str, operations: int) -> dict[str, Any]:
    """The OpenAPI document: one POST for each of that many tills."""
    body = {"type": "object", "required": list(REQUIRED), "additionalProperties": False, "properties": FIELDS}
    write = {
        "requestBody": {"required": True, "content": {"application/json": {"schema": body}}},
        "responses": {
            "204": {"description": "written"},
            "400": {"description": "refused", "content": {"application/problem+json": {"schema": PROBLEM}}},
            "415": {"description": "not JSON", "content": {"application/problem+json": {"schema": PROBLEM}}},
        },
    }
    return {
        "openapi": "3.1.0",
        "info": {"title": "Tills", "version": "1"},
        "servers": [{"url": url}],
        "paths": {f"/tills/{number}": {"post": write} for number in range(operations)},
    }


def refusal(body: bytes) -> str:
    """What is wrong with a body by `FIELDS`; "" nothing."""
    try:
        content = json.loads(body)
    except ValueError:
        return "no JSON"
    if not isinstance(content, dict) or not set(REQUIRED) <= content.keys() <= FIELDS.keys():
        return "not these fields"
    for name, value in content.items():
        schema = FIELDS[name]
        if schema["type"] == "integer":
            whole = isinstance(value, int | float) and not isinstance(value, bool) and value == int(value)
            good = whole and schema["minimum"] <= value <= schema["maximum"]
        elif schema["type"] == "boolean":
            good = isinstance(value, bool)
        else:
            good = value in schema["enum"]
        if not good:
            return f"{name} is wrong"
    return ""


class _Tills(asyncio.Protocol):
    """HTTP/1.1 as far as needed: requests one after the other on a connection, bodies of a known length."""

    def __init__(self, described: bytes, operations: int, arrived: Counter[str]) -> None:
        self._described, self._operations, self._arrived, self._rest = described, operations, arrived, b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        self._rest += data
        while b"\r\n\r\n" in self._rest:
            head, _, rest = self._rest.partition(b"\r\n\r\n")
            length = re.search(rb"(?i)\r\ncontent-length: *([0-9]+)", head)
            size = int(length[1]) if length else 0
            if len(rest) < size:
                return
            self._rest = rest[size:]
            kind = re.search(rb"(?i)\r\ncontent-type: *([a-z/]+)", head)
            method, path, _ = head.partition(b"\r\n")[0].decode("latin-1").split(" ")
            status, answer, *headers = self._answer(method, path, kind[1] if kind else b"", rest[:size])
            lines = [f"HTTP/1.1 {status}", *headers]
            lines += [] if status.startswith("204") else [f"Content-Length: {len(answer)}"]
            self._transport.write("\r\n".join([*lines, "", ""]).encode() + answer)

    def _answer(self, method: str, path: str, kind: bytes, body: bytes) -> tuple[Any, ...]:
        number = path.removeprefix("/tills/")
        if path != number and number.isdigit() and int(number) < self._operations:
            if method != "POST":
                return "405 Method Not Allowed", *_problem("not offered"), "Allow: POST"
            self._arrived[f"{path} {body.decode('utf-8', 'replace')}"] += 1
            if kind != b"application/json":
                return "415 Unsupported Media Type", *_problem("not JSON")
            if wrong := refusal(body):
                return "400 Bad Request", *_problem(wrong)
            return "204 No Content", b""
        if path == "/arrived":
            return "200 OK", json.dumps(self._arrived).encode(), "Content-Type: application/json"
        if path == "/openapi.json":
            return "200 OK", self._described, "Content-Type: application/json"
        return "404 Not Found", *_problem("nothing here")


def _problem(title: str) -> tuple[bytes, str]:
    return json.dumps({"title": title}).encode(), "Content-Type: application/problem+json"


async def _serve(port: int, operations: int) -> None:
    arrived: Counter[str] = Counter()
    described = json.dumps(document(f"http://{HOST}:{port}", operations)).encode()
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: _Tills(described, operations, arrived), HOST, port)
    await server.serve_forever()


if __name__ == "__main__":
    import uvloop

    uvloop.run(_serve(int(sys.argv[1]), int(sys.argv[2])))
