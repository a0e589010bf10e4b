"""A byte-recording HTTP server on real sockets that can also misbehave, and short ways to make cases."""

from __future__ import annotations

import asyncio
import contextlib
import re
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterable
from typing import Any

import uvloop

from testops_lib.execute import Engine
from testops_lib.model import Case, Plan, Policy, Provenance, Request, Result, StatusIs, Step, make_case


class Seen:
    """One request as it arrived, byte for byte."""

    def __init__(self, connection: int, head: bytes, body: bytes) -> None:
        self.connection, self.head, self.body = connection, head, body
        self.at = time.monotonic()

    @property
    def line(self) -> str:
        return self.head.split(b"\r\n", 1)[0].decode("latin-1")

    @property
    def target(self) -> str:
        return self.line.split(" ")[1]

    @property
    def method(self) -> str:
        return self.line.split(" ")[0]

    @property
    def header_lines(self) -> list[str]:
        return self.head.decode("utf-8", "replace").split("\r\n")[1:]

    def header(self, name: str) -> str | None:
        for line in self.header_lines:
            key, _, value = line.partition(":")
            if key.lower() == name.lower():
                return value.strip()
        return None


Handler = Callable[[socket.socket, Seen], Any]


def answer(status: int = 200, body: bytes | str = b"{}", *headers: str, media: str = "application/json") -> bytes:
    data = body.encode() if isinstance(body, str) else body
    lines = [f"HTTP/1.1 {status} X", f"Content-Length: {len(data)}", f"Content-Type: {media}", *headers]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + data


def hang(seconds: float = 30) -> Handler:
    """A handler that answers after so long, unless the client goes away before."""

    def handler(connection: socket.socket, seen: Seen) -> bytes | None:
        connection.settimeout(seconds)
        try:
            connection.recv(1)
        except TimeoutError:
            return answer()
        return None

    return handler


class Server:
    """One thread a connection. A handler returns bytes to send, or acts on the socket and returns None to close."""

    def __init__(self, handler: Handler, *, context: ssl.SSLContext | None = None, port: int = 0) -> None:
        self.handler, self._context = handler, context
        self.seen: list[Seen] = []
        self.connections = 0
        self.lock = threading.Lock()
        self.closing = threading.Event()
        self._open: list[socket.socket] = []
        self._listener = socket.create_server(("127.0.0.1", port), backlog=128)
        self.port: int = self._listener.getsockname()[1]
        self._threads = [threading.Thread(target=self._accept)]
        self._threads[0].start()

    @property
    def url(self) -> str:
        return f"{'https' if self._context else 'http'}://127.0.0.1:{self.port}"

    def targets(self) -> list[str]:
        return [f"{seen.method} {seen.target}" for seen in self.seen]

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            with self.lock:
                self.connections += 1
                number = self.connections
                thread = threading.Thread(target=self._serve, args=(connection, number))
                self._threads.append(thread)
            thread.start()

    def _serve(self, connection: socket.socket, number: int) -> None:
        with contextlib.suppress(OSError, ssl.SSLError):
            if self._context is not None:
                connection = self._context.wrap_socket(connection, server_side=True)
        self._open.append(connection)
        with connection, contextlib.suppress(OSError):
            buffer = b""
            while True:
                while b"\r\n\r\n" not in buffer:
                    data = connection.recv(65536)
                    if not data:
                        return
                    buffer += data
                head, _, buffer = buffer.partition(b"\r\n\r\n")
                announced = re.search(rb"(?i)\r\ncontent-length: *(\d+)", head)
                length = int(announced[1]) if announced else 0
                while len(buffer) < length:
                    data = connection.recv(65536)
                    if not data:
                        return
                    buffer += data
                seen = Seen(number, head, buffer[:length])
                buffer = buffer[length:]
                with self.lock:
                    self.seen.append(seen)
                reply = self.handler(connection, seen)
                if reply is None:
                    return
                connection.sendall(reply)

    def close(self) -> None:
        self.closing.set()
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for connection in self._open:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            if thread is not threading.current_thread():
                thread.join(5)


Serve = Callable[..., Server]


def plan(base_url: str, **policy: Any) -> Plan:
    identities = policy.pop("identities", ())
    policy.setdefault("allow_private", True)
    policy.setdefault("breaker_wait_s", 0)
    return Plan(target="t", base_url=base_url, policy=Policy(**policy), identities=identities)


def step(method: str = "GET", path: str = "/", **options: Any) -> Step:
    request = {name: options.pop(name) for name in ("query", "headers", "cookies", "body") if name in options}
    expect = options.pop("expect", None)
    if expect is not None:
        options["checks"] = (*options.get("checks", ()), StatusIs(any_of=(expect,)))
    options.setdefault("operation", f"{method} {path}")
    return Step(request=Request(method=method, path=path, **request), **options)


def case(*steps: Step, name: str = "c", **options: Any) -> Case:
    return make_case(
        name=name,
        intent="positive",
        operation=steps[0].operation,
        steps=steps,
        origin=Provenance(source="human"),
        **options,
    )


def execute(engine: Engine, cases: Iterable[Case]) -> list[Result]:
    """All results, in the order they came."""

    async def main() -> list[Result]:
        return [result async for result in engine.run(cases)]

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(main())


def run_one(the_plan: Plan, the_case: Case, **options: Any) -> Result:
    """The result of one case under a fresh engine."""
    options.setdefault("run", "r1")
    (result,) = execute(Engine(the_plan, {}, **options), [the_case])
    return result
