"""A reverse proxy that counts: the ruler by which different tools are measured.

Every request gets a number, which its answer carries (`X-Request-Number`), and a line in the log. When the budget is
spent nothing is forwarded any more: connections are closed without an answer.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import NamedTuple

from stack import HOST

NUMBER = "X-Request-Number"

_LONGEST = 64 * 1024 * 1024
_BODILESS = (204, 304)


class Seen(NamedTuple):
    """One request as it passed; its number is its place in the log, from 1. Status 0: no whole answer came."""

    method: str
    target: str
    status: int


@dataclass
class Counted:
    """What passed through a proxy so far."""

    url: str
    budget: int
    log: list[Seen] = field(default_factory=list)
    spent: threading.Event = field(default_factory=threading.Event)
    """The budget is spent, and somebody wanted more."""


@contextmanager
def counting(port: int, budget: int) -> Iterator[Counted]:
    """A proxy in front of 127.0.0.1:`port`, in a thread of its own, on a free port."""
    loop = asyncio.new_event_loop()
    counted = Counted(url="", budget=budget)
    serving: set[asyncio.Task[object]] = set()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()

    async def start() -> asyncio.Server:
        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            task = asyncio.current_task()
            assert task is not None
            serving.add(task)  # the loop itself holds its tasks weakly
            try:
                await _Client(counted, port, reader, writer).serve()
            except asyncio.CancelledError:
                pass
            finally:
                serving.discard(task)

        return await asyncio.start_server(serve, HOST, 0, limit=_LONGEST)

    async def stop() -> None:
        server.close()
        while waiting := [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]:
            for task in waiting:
                task.cancel()
            await asyncio.gather(*waiting, return_exceptions=True)
            await asyncio.sleep(0)  # what was accepted meanwhile gets its task

    server = asyncio.run_coroutine_threadsafe(start(), loop).result(10)
    counted.url = f"http://{HOST}:{server.sockets[0].getsockname()[1]}"
    try:
        yield counted
    finally:
        asyncio.run_coroutine_threadsafe(stop(), loop).result(20)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(10)
        loop.close()


class _Broken(Exception):
    """The other side closed, or spoke no HTTP."""


class _Client:
    """One connection of a tool, and the one to the target that belongs to it."""

    def __init__(self, counted: Counted, port: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._counted, self._port, self._reader, self._writer = counted, port, reader, writer
        self._target: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def serve(self) -> None:
        try:
            while await self._one():
                pass
        except (_Broken, OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            pass
        finally:
            self._writer.close()
            self._drop()

    def _drop(self) -> None:
        if self._target is not None:
            self._target[1].close()
            self._target = None

    async def _one(self) -> bool:
        """Forwards one exchange; whether the connection lives on."""
        try:
            head = await self._reader.readuntil(b"\r\n\r\n")
        except asyncio.IncompleteReadError:
            return False
        method, target = [*head.split(b" ", 2), b"", b""][:2]
        if b"\r\nexpect: 100-continue\r\n" in head.lower():
            self._writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            head = b"\r\n".join(line for line in head.split(b"\r\n") if not line.lower().startswith(b"expect:"))
        body = await _body(self._reader, _fields(head))
        log = self._counted.log
        if len(log) >= self._counted.budget:
            self._counted.spent.set()
            return False
        log.append(Seen(method.decode("latin-1"), target.decode("latin-1"), 0))
        number = len(log)
        status, lives = await self._forward(head + body, method == b"HEAD", number)
        log[number - 1] = log[number - 1]._replace(status=status)
        return lives

    async def _forward(self, request: bytes, headless: bool, number: int) -> tuple[int, bool]:
        """Status (0: no whole answer) and whether the tool's connection lives on."""
        for fresh in (False, True):  # a kept connection may have been closed by the target meanwhile
            reader, writer = await self._connected(fresh)
            with suppress(OSError):
                writer.write(request)
                await writer.drain()
            try:
                head = await reader.readuntil(b"\r\n\r\n")
                while head.split(b" ", 2)[1][:1] == b"1" and head.split(b" ", 2)[1] != b"101":
                    head = await reader.readuntil(b"\r\n\r\n")
                break
            except (asyncio.IncompleteReadError, OSError):
                if fresh:
                    return 0, False
        status = int(head.split(b" ", 2)[1][:3])
        fields = _fields(head)
        self._writer.write(head[:-2] + f"{NUMBER}: {number}\r\n\r\n".encode())
        whole = True
        ends = b"close" in fields.get(b"connection", b"").lower() or head.startswith(b"HTTP/1.0")
        if not headless and status not in _BODILESS:
            sized = b"content-length" in fields or b"chunked" in fields.get(b"transfer-encoding", b"").lower()
            try:
                self._writer.write(await _body(reader, fields) if sized else await reader.read(_LONGEST))
            except asyncio.IncompleteReadError as cut:
                self._writer.write(cut.partial)
                whole = False
            ends = ends or not sized
        await self._writer.drain()
        if ends or not whole:
            self._drop()
        return status if whole else 0, whole and not ends

    async def _connected(self, fresh: bool) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        if fresh or self._target is None:
            self._drop()
            self._target = await asyncio.open_connection(HOST, self._port, limit=_LONGEST)
        return self._target


def _fields(head: bytes) -> dict[bytes, bytes]:
    """Header fields by lower-case name, the last of equals."""
    lines = (line.partition(b":") for line in head.split(b"\r\n")[1:] if line)
    return {name.strip().lower(): value.strip() for name, _, value in lines}


async def _body(reader: asyncio.StreamReader, fields: dict[bytes, bytes]) -> bytes:
    """The body as it stands on the wire, chunk marks included."""
    if b"chunked" in fields.get(b"transfer-encoding", b"").lower():
        whole = b""
        while True:
            line = await reader.readuntil(b"\r\n")
            size = int(line.split(b";", 1)[0], 16)
            whole += line
            if size == 0:
                while (trailer := await reader.readuntil(b"\r\n")) != b"\r\n":
                    whole += trailer
                return whole + b"\r\n"
            whole += await reader.readexactly(size + 2)
    length = fields.get(b"content-length", b"0")
    if not length.isdigit():
        raise _Broken
    return await reader.readexactly(int(length)) if int(length) else b""
