"""An API of any size that costs next to nothing and answers as its document says: a target for large runs.

`python -m tests.e2e.big_target PORT OPERATIONS` serves it; `BigTarget` is that process.
"""

from __future__ import annotations

import asyncio
import json
import re
import subprocess
import sys
import time
import urllib.request
from types import TracebackType
from typing import Any, cast
from urllib.parse import parse_qsl

from stack import HOST, PROJECT, ports
from testops_lib.launch.tied import tied

PARAMETERS: dict[str, dict[str, Any]] = {
    "page": {"type": "integer", "minimum": 1, "maximum": 1000},
    "size": {"type": "integer", "minimum": 1, "maximum": 50},
    "sort": {"type": "string", "enum": ["name", "price", "-name", "-price"]},
    "min_price": {"type": "integer", "minimum": 0, "maximum": 100_000},
    "max_price": {"type": "integer", "minimum": 0, "maximum": 100_000},
    "currency": {"type": "string", "enum": ["EUR", "USD", "GBP", "JPY", "CHF"]},
    "in_stock": {"type": "boolean"},
}
"""Query parameters of every operation; the rules make about fifty cases of them."""

REQUIRED = "page"
ANSWER = {
    "type": "object",
    "required": ["page", "items"],
    "additionalProperties": False,
    "properties": {
        "page": {"type": "integer"},
        "items": {"type": "array", "items": {"type": "object", "required": ["id"]}},
    },
}
PROBLEM = {"type": "object", "required": ["title"], "properties": {"title": {"type": "string"}}}


class BigTarget:
    """The server in a process of its own, with `operations` operations; `stop` kills it, `start` brings it back."""

    def __init__(self, operations: int) -> None:
        self.operations = operations
        self.url = f"http://{HOST}:{ports.pick()}"
        self._child: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> BigTarget:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def start(self, *, patience_s: float = 30) -> None:
        """Returns when it answers, at the same address as before; its counts begin anew."""
        port = self.url.rpartition(":")[2]
        command = [sys.executable, "-m", "tests.e2e.big_target", port, str(self.operations)]
        self._child = subprocess.Popen(tied(command), cwd=PROJECT)
        deadline = time.monotonic() + patience_s
        while True:
            try:
                self.served()
                return
            except OSError:
                assert self._child.poll() is None and time.monotonic() < deadline, "the target did not start"
                time.sleep(0.05)

    def stop(self) -> None:
        """SIGKILL: what is in flight gets no answer, whoever comes then is refused."""
        if self._child is not None:
            self._child.kill()
            self._child.wait(10)
            self._child = None

    def served(self) -> dict[str, int]:
        """What it was asked since its start: `requests` of its operations, and `probes` of whether it is there."""
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(f"{self.url}/served", timeout=10) as answer:
            counts: dict[str, int] = json.load(answer)
            return counts


def document(url: str, operations: int) -> dict[str, Any]:
    """The OpenAPI document: one listing for each of that many shelves."""
    listing = {
        "parameters": [
            {"name": name, "in": "query", "required": name == REQUIRED, "schema": schema}
            for name, schema in PARAMETERS.items()
        ],
        "responses": {
            "200": {"description": "a page", "content": {"application/json": {"schema": ANSWER}}},
            "400": {"description": "refused", "content": {"application/problem+json": {"schema": PROBLEM}}},
        },
    }
    return {
        "openapi": "3.1.0",
        "info": {"title": "Shelves", "version": "1"},
        "servers": [{"url": url}],
        "paths": {f"/shelves/{number}": {"get": listing} for number in range(operations)},
    }


def refusal(query: str) -> str:
    """What is wrong with a query string by `PARAMETERS`; "" nothing."""
    parameters = dict(parse_qsl(query, keep_blank_values=True))
    if REQUIRED not in parameters:
        return f"{REQUIRED} is missing"
    for name, schema in PARAMETERS.items():
        text = parameters.get(name)
        if text is None:
            continue
        if schema["type"] == "integer":
            number = int(text) if re.fullmatch(r"-?[0-9]{1,18}", text) else None
            good = number is not None and schema["minimum"] <= number <= schema["maximum"]
        else:
            good = text in schema.get("enum", ("true", "false"))
        if not good:
            return f"{name} is wrong"
    return ""


class _Shelves(asyncio.Protocol):
    """HTTP/1.1 as far as needed: requests one after the other on a connection, bodies of a known length."""

    def __init__(self, described: bytes, operations: int, served: dict[str, int]) -> None:
        self._described, self._operations, self._served, self._rest = described, operations, served, b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        self._rest += data
        while b"\r\n\r\n" in self._rest:
            head, _, rest = self._rest.partition(b"\r\n\r\n")
            length = re.search(rb"(?i)\r\ncontent-length: *([0-9]+)", head)
            body = int(length[1]) if length else 0
            if len(rest) < body:
                return
            self._rest = rest[body:]
            method, target, _ = head.partition(b"\r\n")[0].decode("latin-1").split(" ")
            path, _, query = target.partition("?")
            status, body_bytes, *headers = self._answer(method, path, query)
            lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body_bytes)}", *headers]
            self._transport.write("\r\n".join([*lines, "", ""]).encode() + body_bytes)

    def _answer(self, method: str, path: str, query: str) -> tuple[Any, ...]:
        number = path.removeprefix("/shelves/")
        if path != number and number.isdigit() and int(number) < self._operations:
            self._served["requests"] += 1
            if method != "GET":
                return "405 Method Not Allowed", *_problem("not offered"), "Allow: GET"
            if wrong := refusal(query):
                return "400 Bad Request", *_problem(wrong)
            parameters = dict(parse_qsl(query))
            items = [{"id": each} for each in range(min(int(parameters.get("size", 3)), 3))]
            return "200 OK", *_json({"page": int(parameters["page"]), "items": items})
        if path == "/served":
            return "200 OK", *_json(self._served)
        if path == "/openapi.json":
            return "200 OK", self._described, "Content-Type: application/json"
        self._served["probes"] += path == "/"
        return "404 Not Found", *_problem("nothing here")


def _json(value: Any) -> tuple[bytes, str]:
    return json.dumps(value).encode(), "Content-Type: application/json"


def _problem(title: str) -> tuple[bytes, str]:
    return json.dumps({"title": title}).encode(), "Content-Type: application/problem+json"


async def _serve(port: int, operations: int) -> None:
    served = {"requests": 0, "probes": 0}
    described = json.dumps(document(f"http://{HOST}:{port}", operations)).encode()
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: _Shelves(described, operations, served), HOST, port)
    await server.serve_forever()


if __name__ == "__main__":
    import uvloop

    uvloop.run(_serve(int(sys.argv[1]), int(sys.argv[2])))
