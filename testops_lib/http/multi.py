"""libcurl's multi interface on an asyncio loop: its sockets in an epoll of its own, its timer, its finished handles."""

from __future__ import annotations

import asyncio
import select
from collections.abc import Callable
from typing import Any

import pycurl

_IN_OR_OUT = select.EPOLLIN | select.EPOLLOUT
_EVENTS_OF = {
    pycurl.POLL_NONE: 0,
    pycurl.POLL_IN: select.EPOLLIN,
    pycurl.POLL_OUT: select.EPOLLOUT,
    pycurl.POLL_INOUT: _IN_OR_OUT,
    pycurl.POLL_REMOVE: 0,
}
_READY_OF = {
    0: 0,
    select.EPOLLIN: pycurl.CSELECT_IN,
    select.EPOLLOUT: pycurl.CSELECT_OUT,
    _IN_OR_OUT: pycurl.CSELECT_IN | pycurl.CSELECT_OUT,
}
_TIMER_UNIT_S = 0.0005
"""Half of what a loop counts time in."""


class MultiLoop:
    """Drives the handles that are added, and calls `finished(handle, code, message)` for each that has ended.

    An epoll that the loop watches as a whole needs a third of the system calls that a reader and a writer of the loop
    for each socket would.
    """

    def __init__(
        self, loop: asyncio.AbstractEventLoop, finished: Callable[[Any, int, str], None], *, max_connections: int
    ) -> None:
        self._loop, self._finished = loop, finished
        self._multi: Any = pycurl.CurlMulti()
        self._multi.setopt(pycurl.M_SOCKETFUNCTION, self._on_socket)
        self._multi.setopt(pycurl.M_TIMERFUNCTION, self._on_timer)
        self._multi.setopt(pycurl.M_MAXCONNECTS, max_connections)
        self._socket_action: Callable[[int, int], Any] = self._multi.socket_action
        self._watched: dict[int, int] = {}
        self._poll = select.epoll()
        self._loop.add_reader(self._poll, self._on_ready)
        self._due = self._timer_at = float("inf")
        self._timer: asyncio.Handle | None = None
        self.add: Callable[[Any], Any] = self._multi.add_handle
        self.remove: Callable[[Any], Any] = self._multi.remove_handle

    def close(self) -> None:
        """Closes every connection."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._multi.close()
        self._loop.remove_reader(self._poll)
        self._poll.close()

    def _on_socket(self, what: int, fd: int, multi: Any, data: Any) -> None:
        wanted = _EVENTS_OF[what]
        before = self._watched.get(fd, 0)
        if wanted == before:
            return
        if wanted:
            self._watched[fd] = wanted
            change = self._poll.modify if before else self._poll.register
            change(fd, wanted)
            return
        del self._watched[fd]
        try:
            self._poll.unregister(fd)
        except OSError:  # closed already, and forgotten with that
            return

    def _on_timer(self, timeout_ms: int) -> None:
        """Notes when libcurl wants to be called; it says so several times a request, and the loop's timers cost more
        than a call that comes too early.
        """
        if timeout_ms < 0:
            self._due = float("inf")
            return
        self._due = self._loop.time() + timeout_ms / 1000
        if self._timer is None or self._due < self._timer_at:
            self._set_timer(timeout_ms / 1000)

    def _set_timer(self, seconds: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer_at = self._due
        if seconds > 0:
            self._timer = self._loop.call_later(seconds, self._on_timeout)
        else:
            self._timer = self._loop.call_soon(self._on_timeout)

    def _on_timeout(self) -> None:
        self._timer = None
        left = self._due - self._loop.time()
        if left > _TIMER_UNIT_S:
            if left < float("inf"):
                self._set_timer(left)
            return
        self._due = float("inf")
        self._socket_action(pycurl.SOCKET_TIMEOUT, 0)
        self._collect()

    def _on_ready(self) -> None:
        for fd, events in self._poll.poll(0):
            self._socket_action(fd, _READY_OF[events & _IN_OR_OUT] or pycurl.CSELECT_ERR)
        self._collect()

    def _collect(self) -> None:
        while True:
            left, whole, broken = self._multi.info_read()
            for handle in whole:
                self._finished(handle, 0, "")
            for handle, code, message in broken:
                self._finished(handle, code, message)
            if not left:
                return
