"""One measured client in a process of its own: `python -m bench.subject KIND COUNT URL` prints CPU and wall seconds.

KIND: `bare`, a loop of libcurl's multi interface on uvloop that reads and decodes each answer; `tuned`, the same with
its sockets in an epoll of its own, as the engine's client has them; `plain`, the engine
without checks; `engine`, with status, header, schema and JSONPath checks; both with the result record as JSON.
The first tenth of the requests warms up and is not measured.
"""

from __future__ import annotations

import asyncio
import json
import select
import sys
import time
from collections.abc import AsyncIterator, Iterable
from typing import Any

import msgspec
import pycurl
import uvloop

from bench.sample import CHECKS, CONNECTIONS, CONTRACT, cases, plan
from runner.cases import READ_AHEAD
from testops_lib.bus.encoding import encode_result
from testops_lib.execute import Engine
from testops_lib.model import Case


class Bare:
    """What any client on libcurl must do: keep `CONNECTIONS` transfers going, read and decode the answers."""

    def __init__(self, loop: asyncio.AbstractEventLoop, urls: Iterable[str]) -> None:
        self._loop, self._urls = loop, iter(urls)
        self._watched: dict[int, int] = {}
        self._timer: Any = None
        self.done = loop.create_future()
        self.answered = 0
        self._multi = pycurl.CurlMulti()
        self._multi.setopt(pycurl.M_SOCKETFUNCTION, self._on_socket)
        self._multi.setopt(pycurl.M_TIMERFUNCTION, self._on_timer)
        self._bodies: dict[Any, list[bytes]] = {}
        self._open = 0

    def start(self) -> None:
        """Begins the first transfers."""
        for _ in range(CONNECTIONS):
            easy = pycurl.Curl()
            body: list[bytes] = []
            self._bodies[easy] = body
            easy.setopt(pycurl.WRITEFUNCTION, body.append)
            easy.setopt(pycurl.NOSIGNAL, 1)
            self._next(easy)

    def _next(self, easy: Any) -> None:
        url = next(self._urls, None)
        if url is None:
            if not self._open and not self.done.done():
                self.done.set_result(None)
            return
        easy.setopt(pycurl.URL, url)
        self._open += 1
        self._multi.add_handle(easy)

    def _on_socket(self, what: int, fd: int, multi: Any, data: Any) -> None:
        now = 0 if what == pycurl.POLL_REMOVE else what & 3
        before = self._watched.get(fd, 0)
        if now & 1 and not before & 1:
            self._loop.add_reader(fd, self._on_ready, fd, pycurl.CSELECT_IN)
        elif before & 1 and not now & 1:
            self._loop.remove_reader(fd)
        if now & 2 and not before & 2:
            self._loop.add_writer(fd, self._on_ready, fd, pycurl.CSELECT_OUT)
        elif before & 2 and not now & 2:
            self._loop.remove_writer(fd)
        self._watched[fd] = now

    def _on_timer(self, timeout_ms: int) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if timeout_ms >= 0:
            self._timer = self._loop.call_later(timeout_ms / 1000, self._on_ready, pycurl.SOCKET_TIMEOUT, 0)

    def _on_ready(self, fd: int, event: int) -> None:
        self._multi.socket_action(fd, event)
        _, whole, broken = self._multi.info_read()
        if broken:
            raise SystemExit(f"the bare loop failed: {broken[0][1:]}")
        for easy in whole:
            body = self._bodies[easy]
            if easy.getinfo(pycurl.RESPONSE_CODE) == 200:
                msgspec.json.decode(b"".join(body))
                self.answered += 1
            body.clear()
            self._multi.remove_handle(easy)
            self._open -= 1
            self._next(easy)


class Tuned(Bare):
    """The same, without the loop's reader for each transfer."""

    def __init__(self, loop: asyncio.AbstractEventLoop, urls: Iterable[str]) -> None:
        self._poll = select.epoll()
        super().__init__(loop, urls)
        loop.add_reader(self._poll, self._on_any)

    def _on_socket(self, what: int, fd: int, multi: Any, data: Any) -> None:
        if what == pycurl.POLL_REMOVE:
            self._poll.unregister(fd)
            del self._watched[fd]
            return
        change = self._poll.modify if fd in self._watched else self._poll.register
        change(fd, (select.EPOLLIN if what & 1 else 0) | (select.EPOLLOUT if what & 2 else 0))
        self._watched[fd] = what

    def _on_any(self) -> None:
        for fd, events in self._poll.poll(0):
            ready = (pycurl.CSELECT_IN if events & select.EPOLLIN else 0) | (
                pycurl.CSELECT_OUT if events & select.EPOLLOUT else 0
            )
            self._on_ready(fd, ready)


async def bare(count: int, url: str, made: type[Bare] = Bare) -> int:
    """How many were answered."""
    client = made(asyncio.get_running_loop(), [f"{url}/customers?page={number}" for number in range(count)])
    client.start()
    await client.done
    return client.answered


async def engine(made: list[Case], url: str, streamed: bool) -> int:
    """How many passed."""
    passed = 0
    async for result in Engine(plan(url), {CONTRACT.operation: CONTRACT}, run="bench").run(
        _stream(made) if streamed else made
    ):
        encode_result(result)
        passed += result.verdict == "passed"
    return passed


async def _stream(made: list[Case]) -> AsyncIterator[list[Case]]:
    for first in range(0, len(made), READ_AHEAD):
        yield made[first : first + READ_AHEAD]


def main(kind: str, count: int, url: str) -> None:
    """Warms up, measures, prints JSON."""
    checks = CHECKS if kind in ("engine", "stream") else ()
    loops = {"bare": Bare, "tuned": Tuned}
    made = [] if kind in loops else list(cases(count + count // 10, checks=checks))
    warm, measured = made[: count // 10], made[count // 10 :]

    async def both() -> dict[str, float]:
        await (bare(count // 10, url, loops[kind]) if kind in loops else engine(warm, url, kind == "stream"))
        cpu, wall = time.process_time(), time.monotonic()
        good = await (bare(count, url, loops[kind]) if kind in loops else engine(measured, url, kind == "stream"))
        cpu, wall = time.process_time() - cpu, time.monotonic() - wall
        if good != count:
            raise SystemExit(f"{kind}: {good} of {count} were good")
        return {"cpu_s": cpu, "wall_s": wall}

    print(json.dumps(uvloop.run(both())))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), sys.argv[3])
