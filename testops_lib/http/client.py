"""One HTTP exchange over libcurl, many at a time: exact bytes out, a bounded answer or the reason for none back."""

from __future__ import annotations

import asyncio
import os
import select
import socket
import ssl
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any, Literal

import pycurl
from msgspec import Struct
from msgspec.structs import replace

from testops_lib.http.address import refusal
from testops_lib.http.answer import Answer, Wire, header_values, media_type, no_codings
from testops_lib.http.stream import LOOK_EVERY_S, Progress, is_stream
from testops_lib.http.tls import Material
from testops_lib.model import Pairs, Policy

_MAX_IDLE_S = 1
"""A kept connection idle for longer is not used again: servers close theirs after 2 s (gunicorn) or 5 s (uvicorn,
Node), and a request that crosses with the close looks like a crash."""

_ENDLESS = 4
"""So many times the limit a body without a Content-Length is read (and thrown away) before it counts as endless; or for
`_ENDLESS_S` beyond the limit."""
_ENDLESS_S = 2.0

_LONGEST_KEPT_LINE = 4_096
_KEPT = 1_024
_SILENT_CLOSES = 3
"""Kept connections found closed before the server is known to close without saying so; from then on what may go out
only once gets a connection of its own.
"""

TransportFailureKind = Literal["timeout", "broken", "unreachable", "refused", "stopped"]


class TransportFailure(Struct, frozen=True, kw_only=True):
    """Why there is no whole answer.

    kind: `broken` the connection was closed or broken after the request went out, or what came is no HTTP;
    `unreachable` no connection could be made; `refused` we did not want to connect there; `stopped` by us.
    """

    kind: TransportFailureKind
    reason: str
    elapsed_ms: float = 0
    silent: bool = False
    """Nothing of an answer came: a target that is down looks like this."""
    kept: bool = False
    """It broke on a connection that had carried an earlier answer: the server may have closed it before this request
    came."""


class Exchange(Struct, frozen=True, kw_only=True):
    """What became of one request. `sent` counts how often it went out: 0, 1, or 2 after a kept connection had died."""

    outcome: Answer | TransportFailure
    sent: int


_FAULTS: dict[int, tuple[TransportFailureKind, str]] = {
    pycurl.E_UNSUPPORTED_PROTOCOL: ("broken", "answer is not HTTP"),
    pycurl.E_URL_MALFORMAT: ("refused", "refused: malformed URL"),
    pycurl.E_COULDNT_RESOLVE_PROXY: ("unreachable", "proxy name not resolved"),
    pycurl.E_COULDNT_RESOLVE_HOST: ("unreachable", "name not resolved"),
    pycurl.E_COULDNT_CONNECT: ("unreachable", "connection refused"),
    8: ("broken", "answer is not HTTP"),  # CURLE_WEIRD_SERVER_REPLY
    pycurl.E_HTTP2: ("broken", "HTTP/2 error"),
    pycurl.E_PARTIAL_FILE: ("broken", "closed before the answer was whole"),
    pycurl.E_OPERATION_TIMEDOUT: ("timeout", "timeout"),
    pycurl.E_SSL_CONNECT_ERROR: ("unreachable", "TLS handshake failed"),
    pycurl.E_GOT_NOTHING: ("broken", "closed without a response"),
    pycurl.E_SEND_ERROR: ("broken", "closed while the request was sent"),
    pycurl.E_RECV_ERROR: ("broken", "connection broken while the answer came"),
    pycurl.E_PEER_FAILED_VERIFICATION: ("unreachable", "TLS certificate not accepted"),
    65: ("broken", "closed while the request was sent"),  # CURLE_SEND_FAIL_REWIND
    92: ("broken", "HTTP/2 stream was reset"),  # CURLE_HTTP2_STREAM
    100: ("broken", "answer headers are too large"),  # CURLE_TOO_LARGE
}


_SILENT = frozenset(
    {
        pycurl.E_COULDNT_CONNECT,
        pycurl.E_COULDNT_RESOLVE_HOST,
        pycurl.E_OPERATION_TIMEDOUT,
        pycurl.E_GOT_NOTHING,
        pycurl.E_SSL_CONNECT_ERROR,
        pycurl.E_SEND_ERROR,
        pycurl.E_RECV_ERROR,
        65,
        pycurl.E_ABORTED_BY_CALLBACK,
    }
)
"""Codes that a target which is down can cause."""

_IN_OR_OUT = select.EPOLLIN | select.EPOLLOUT
_POLLED = {
    pycurl.POLL_NONE: 0,
    pycurl.POLL_IN: select.EPOLLIN,
    pycurl.POLL_OUT: select.EPOLLOUT,
    pycurl.POLL_INOUT: _IN_OR_OUT,
    pycurl.POLL_REMOVE: 0,
}
_READY = {
    0: 0,
    select.EPOLLIN: pycurl.CSELECT_IN,
    select.EPOLLOUT: pycurl.CSELECT_OUT,
    _IN_OR_OUT: pycurl.CSELECT_IN | pycurl.CSELECT_OUT,
}
_TIMER_UNIT_S = 0.0005
"""Half of what a loop counts time in."""

_GO, _ABORT = int(pycurl.PREREQFUNC_OK), int(pycurl.PREREQFUNC_ABORT)


def _has_ended(fd: int | None) -> bool:
    """An idle HTTP/1.1 connection with something to read has been closed (or spoken into) by the server."""
    if fd is None:
        return False
    poll = select.poll()
    poll.register(fd, select.POLLIN | select.POLLRDHUP)
    return bool(poll.poll(0))


class _Descriptor:
    """What pycurl wants of a new socket: it duplicates `fileno()` and lets go of this."""

    __slots__ = ("_fd",)

    def __init__(self, fd: int) -> None:
        self._fd = fd

    def fileno(self) -> int:
        return self._fd

    def __del__(self) -> None:
        os.close(self._fd)


class _Slot:
    """An easy handle that is used over and over, with the place where its answer collects."""

    __slots__ = (
        "bodiless",
        "body",
        "byte_at",
        "certified",
        "easy",
        "endless",
        "fresh",
        "full_at",
        "future",
        "has_length",
        "head_at",
        "header_lines",
        "keep",
        "kept",
        "lines",
        "media_type",
        "own_port",
        "plain",
        "plain_body",
        "refused",
        "repeat",
        "room",
        "site",
        "size",
        "size_seen",
        "spoiled",
        "stale",
        "streams",
        "timeout_ms",
        "tries",
        "truncated",
        "wanted",
    )

    def __init__(self, allow_private: bool, vet: bool, kept: dict[int, int], spoiled: set[int]) -> None:
        self.easy: Any = pycurl.Curl()
        self.kept, self.spoiled = kept, spoiled
        self.own_port = 0
        self.fresh = False
        self.stale: Literal["", "closed", "spoiled"] = ""
        self.lines: list[bytes] = []
        self.body: list[bytes] = []
        self.future: asyncio.Future[Exchange] | None = None
        self.size = self.room = self.tries = 0
        self.repeat = self.truncated = self.keep = self.endless = self.streams = self.wanted = False
        self.head_at = self.byte_at = self.full_at = 0.0
        self.size_seen = -1
        self.has_length, self.media_type = False, ""
        self.refused = ""
        # What the handle is set to already, so that equal options are not set again:
        self.plain, self.certified, self.plain_body = True, False, False
        self.bodiless = self.site = ""
        self.timeout_ms = 0
        self.header_lines: list[str | bytes] | None = None
        easy = self.easy
        easy.setopt(pycurl.PREREQFUNCTION, self._before_request)
        easy.setopt(pycurl.HEADERFUNCTION, self.lines.append)
        easy.setopt(pycurl.WRITEFUNCTION, self._write)
        if vet:
            easy.setopt(pycurl.OPENSOCKETFUNCTION, lambda purpose, at: self._open(at, allow_private))

    def _write(self, data: bytes) -> int | None:
        before, self.size = self.size, self.size + len(data)
        if self.size <= self.room:
            self.body.append(data)
            return None
        if before < self.room:
            self.body.append(data[: self.room - before])
        self.truncated = True
        if not self.has_length and not _announces_length(self.lines):
            self.endless = self.size > _ENDLESS * self.room
            if not self.endless:
                return None
        return 0  # anything but len(data) ends the transfer

    def _before_request(self, host: str, own_host: str, port: int, own_port: int) -> int:
        # libcurl repeats by itself what a kept connection swallowed, whatever the method; here it asks first.
        if self.tries:
            if self.tries > 1 or not self.repeat:
                return _ABORT
        elif not self.fresh and own_port in self.spoiled:
            # Servers answer 500 and then close without a word: the abort closes it here first.
            self.spoiled.discard(own_port)
            self.stale = "spoiled"
            return _ABORT
        elif not self.repeat and not self.fresh and _has_ended(self.kept.get(own_port)):
            # What may go out only once must not go into a connection that the server has closed meanwhile, and
            # libcurl does not look at one that was used a moment ago.
            self.stale = "closed"
            return _ABORT
        self.tries += 1
        self.own_port = own_port
        return _GO

    def _open(self, at: Any, allow_private: bool) -> Any:
        if at.family not in (socket.AF_INET, socket.AF_INET6):
            self.refused = "not an internet address"
            return pycurl.SOCKET_BAD
        self.refused = refusal(at.addr[0], allow_private=allow_private)
        if self.refused:
            return pycurl.SOCKET_BAD
        try:
            return _Descriptor(socket.socket(at.family, at.socktype, at.protocol).detach())
        except OSError:
            return pycurl.SOCKET_BAD


class Client:
    """Sends requests for one policy on the running loop, reusing connections and handles. Close it on that loop.

    With a `proxy` the proxy resolves names, so the address guard cannot see them: it is for operators to set, and
    nothing is taken from the environment's proxy variables.
    """

    def __init__(
        self, policy: Policy, *, ca_file: str = "", proxy: str = "", certificates: Material | None = None, own: str = ""
    ) -> None:
        """`own`: the origin, with a slash at its end, that the client certificate is shown to."""
        self._loop = asyncio.get_running_loop()
        self._policy = policy
        self._ca_file, self._proxy = ca_file, proxy
        self._certificates, self._own = certificates or Material(), own
        self._multi: Any = pycurl.CurlMulti()
        self._multi.setopt(pycurl.M_SOCKETFUNCTION, self._on_socket)
        self._multi.setopt(pycurl.M_TIMERFUNCTION, self._on_timer)
        self._multi.setopt(pycurl.M_MAXCONNECTS, max(16, 2 * policy.concurrency))
        self._socket_action: Callable[[int, int], Any] = self._multi.socket_action
        self._poll = select.epoll()
        self._loop.add_reader(self._poll, self._on_ready)
        self._due = self._timer_at = float("inf")
        self._timer: asyncio.Handle | None = None
        self._look: asyncio.TimerHandle | None = None
        self._free: list[_Slot] = []
        self._free_certified: list[_Slot] = []
        """Those that show the client certificate: libcurl cannot be told to forget it."""
        self._busy: dict[Any, _Slot] = {}
        self._watched: dict[int, int] = {}
        self._silent_closes = 0
        self._plain = False
        """The target has named a Content-Encoding that does not exist: no coding is asked for, and nothing decoded."""
        self._kept: dict[int, int] = {}
        """Local port -> descriptor of HTTP/1.1 connections that may be used again; may hold some long closed."""
        self._spoiled: set[int] = set()
        """Local ports of HTTP/1.1 connections whose last answer was a server error; may hold some long closed."""

    async def send(
        self,
        wire: Wire,
        *,
        timeout_s: float,
        repeat: bool = False,
        keep: bool = False,
        fresh: bool = False,
        streams: bool = False,
        wanted: bool = False,
    ) -> Exchange:
        """Sends once and waits for the whole answer, at most `timeout_s` from now.

        `repeat`: the request may go out a second time when a kept connection died before any byte came back.
        `keep`: `abort_all` leaves it alone unless told otherwise. `fresh`: over a new connection.
        `streams`: a body without an end is to be expected; `wanted`: the body is needed. A body that goes on and on
        is read for a moment only (see `stream`).
        """
        if timeout_s <= 0:
            return Exchange(outcome=TransportFailure(kind="timeout", reason="timeout"), sent=0)
        slot = self._slot_for(wire)
        easy = slot.easy
        slot.room, slot.repeat, slot.keep = self._policy.max_response_bytes, repeat, keep
        slot.size = slot.tries = 0
        slot.truncated, slot.stale, slot.endless = False, "", False
        slot.streams, slot.wanted = streams, wanted
        slot.head_at = slot.full_at = 0.0
        slot.has_length = False
        slot.fresh = fresh or wire.isolated or (not repeat and self._silent_closes >= _SILENT_CLOSES)
        slot.refused = ""
        try:
            self._load(slot, wire, timeout_s)
        except pycurl.error as error:
            easy.close()
            return Exchange(outcome=TransportFailure(kind="refused", reason=f"refused: {error.args[-1]}"), sent=0)
        future: asyncio.Future[Exchange] = self._loop.create_future()
        slot.future = future
        self._busy[easy] = slot
        self._multi.add_handle(easy)
        if self._look is None:
            self._look = self._loop.call_later(LOOK_EVERY_S, self._look_at_all)
        try:
            return await future
        except asyncio.CancelledError:
            if easy in self._busy:
                self._release(slot)
            raise

    def abort_all(self, reason: str, kept_too: bool = False) -> None:
        """Every request in flight ends now, as a fault `stopped`."""
        for slot in list(self._busy.values()):
            if slot.keep and not kept_too:
                continue
            future = slot.future
            sent = slot.tries
            self._release(slot)
            if future is not None and not future.done():
                future.set_result(Exchange(outcome=TransportFailure(kind="stopped", reason=reason), sent=sent))

    def close(self) -> None:
        """Ends what is in flight and closes every connection."""
        self.abort_all("stopped", kept_too=True)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._look is not None:
            self._look.cancel()
            self._look = None
        for slot in (*self._free, *self._free_certified):
            slot.easy.close()
        self._free.clear()
        self._free_certified.clear()
        self._multi.close()
        self._loop.remove_reader(self._poll)
        self._poll.close()

    def _new_slot(self) -> _Slot:
        slot = _Slot(self._policy.allow_private, vet=not self._proxy, kept=self._kept, spoiled=self._spoiled)
        setopt = slot.easy.setopt
        setopt(pycurl.NOSIGNAL, 1)
        setopt(pycurl.PATH_AS_IS, 1)
        setopt(pycurl.PROXY, self._proxy)
        setopt(pycurl.NOPROXY, "")
        setopt(pycurl.PROTOCOLS, pycurl.PROTO_HTTP | pycurl.PROTO_HTTPS)
        setopt(pycurl.HTTP_VERSION, pycurl.CURL_HTTP_VERSION_2TLS)
        setopt(pycurl.USERAGENT, "")
        setopt(pycurl.MAXAGE_CONN, _MAX_IDLE_S)
        setopt(pycurl.NETRC, pycurl.NETRC_IGNORED)
        setopt(pycurl.ACCEPT_ENCODING, None if self._plain else "")  # all that it can decode
        slot.plain_body = self._plain
        if not self._policy.verify_tls:
            setopt(pycurl.SSL_VERIFYPEER, 0)
            setopt(pycurl.SSL_VERIFYHOST, 0)
        elif isinstance(self._certificates.ca, bytes):
            setopt(pycurl.CAINFO_BLOB, self._certificates.ca)
        elif authorities := self._certificates.ca or self._ca_file:
            setopt(pycurl.CAINFO, authorities)
        return slot

    def _slot_for(self, wire: Wire) -> _Slot:
        """An idle slot, or a new one, that shows the client certificate where the request may."""
        if not self._certificates.cert or wire.anonymous or not wire.url.startswith(self._own):
            return self._free.pop() if self._free else self._new_slot()
        if self._free_certified:
            return self._free_certified.pop()
        slot = self._new_slot()
        slot.certified = True
        material, setopt = self._certificates, slot.easy.setopt
        setopt(pycurl.KEYPASSWD, "")  # else OpenSSL would ask the terminal
        parts = (pycurl.SSLCERT, pycurl.SSLCERT_BLOB, material.cert), (pycurl.SSLKEY, pycurl.SSLKEY_BLOB, material.key)
        for by_path, by_text, value in parts:
            if value:
                setopt(by_text if isinstance(value, bytes) else by_path, value)
        return slot

    def _load(self, slot: _Slot, wire: Wire, timeout_s: float) -> None:
        setopt = slot.easy.setopt
        if self._proxy:
            setopt(pycurl.URL, wire.url)
        else:  # libcurl would write `%2e` as `%2E`; the request target it takes as it is
            if slot.site and wire.url.startswith(slot.site):
                target = wire.url[len(slot.site) - 1 :]
            else:
                slot.site, target = _split(wire.url)
                setopt(pycurl.URL, slot.site)
            setopt(pycurl.REQUEST_TARGET, target)
        if self._plain and not slot.plain_body:
            setopt(pycurl.ACCEPT_ENCODING, None)
            slot.plain_body = True
        if wire.body is not None:
            setopt(pycurl.NOBODY, 0)
            setopt(pycurl.POST, 1)
            setopt(pycurl.POSTFIELDS, wire.body)
            setopt(pycurl.CUSTOMREQUEST, wire.method)
            slot.bodiless = ""
        elif slot.bodiless != wire.method:
            if wire.method == "HEAD":
                setopt(pycurl.NOBODY, 1)
            else:
                setopt(pycurl.HTTPGET, 1)
            setopt(pycurl.CUSTOMREQUEST, wire.method)
            slot.bodiless = wire.method
        lines = _header_lines(wire.headers, wire.body is not None)
        if lines is not slot.header_lines:
            setopt(pycurl.HTTPHEADER, lines)
            slot.header_lines = lines
        timeout_ms = max(1, int(timeout_s * 1000))
        if timeout_ms != slot.timeout_ms:
            setopt(pycurl.TIMEOUT_MS, timeout_ms)
            slot.timeout_ms = timeout_ms
        if slot.fresh or not slot.plain:
            setopt(pycurl.FRESH_CONNECT, int(slot.fresh))
            setopt(pycurl.FORBID_REUSE, int(wire.isolated))
            slot.plain = not slot.fresh

    # -- libcurl's events

    def _on_socket(self, what: int, fd: int, multi: Any, data: Any) -> None:
        now = _POLLED[what]
        before = self._watched.get(fd, 0)
        if now == before:
            return
        if now:
            self._watched[fd] = now
            change = self._poll.modify if before else self._poll.register
            change(fd, now)
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
            self._socket_action(fd, _READY[events & _IN_OR_OUT] or pycurl.CSELECT_ERR)
        self._collect()

    def _collect(self) -> None:
        while True:
            left, whole, broken = self._multi.info_read()
            for easy in whole:
                self._finish(easy, 0, "")
            for easy, code, message in broken:
                self._finish(easy, code, message)
            if not left:
                return

    def _finish(self, easy: Any, code: int, message: str) -> None:
        slot = self._busy.get(easy)
        if slot is None or slot.future is None:
            return
        if slot.stale:
            self._send_fresh(slot)
            return
        future, sent = slot.future, slot.tries
        info = easy.getinfo
        elapsed_ms = round((info(pycurl.TOTAL_TIME) - info(pycurl.PRETRANSFER_TIME)) * 1000, 3)
        outcome: Answer | TransportFailure
        if code == pycurl.E_OPERATION_TIMEDOUT and self._comes(slot) and not slot.has_length and not slot.truncated:
            self._end_stream(slot)
            return
        if code == pycurl.E_BAD_CONTENT_ENCODING and (headers := parse_headers(slot.lines)) is not None:
            coding = ", ".join(header_values(headers, "content-encoding"))
            none = no_codings(headers)
            self._plain = self._plain or bool(none)
            lie = "" if "Unrecognized" in message else f"the body is not {coding}"
            outcome = Answer(
                status=info(pycurl.RESPONSE_CODE),
                headers=headers,
                elapsed_ms=elapsed_ms,
                undecodable=lie or f"the body is encoded as {coding}",
                wrong_coding=f"{none} is no content coding" if none else lie,
            )
        elif code == 0 or slot.truncated:
            self._silent_closes += sent > 1
            headers = parse_headers(slot.lines)
            if headers is None:  # libcurl is content with half a head
                reason = "closed before the answer was whole"
                outcome = TransportFailure(kind="broken", reason=reason, elapsed_ms=elapsed_ms, kept=_was_kept(slot))
            else:
                outcome = Answer(
                    status=info(pycurl.RESPONSE_CODE),
                    headers=headers,
                    body=_joined(slot.body),
                    elapsed_ms=elapsed_ms,
                    truncated=slot.truncated,
                    endless=slot.endless,
                )
                if self._plain:
                    outcome = _as_it_came(outcome)
                if info(pycurl.INFO_HTTP_VERSION) <= pycurl.CURL_HTTP_VERSION_1_1:
                    self._note_kept(slot.own_port, info(pycurl.ACTIVESOCKET), outcome.status)
        else:
            outcome = self._fault(slot, code, message, info(pycurl.TOTAL_TIME) * 1000)
        self._release(slot, again=code == 0 and isinstance(outcome, Answer))
        if not future.done():
            future.set_result(Exchange(outcome=outcome, sent=sent))

    # -- answers that go on and on

    def _look_at_all(self) -> None:
        """Ends what is a stream, or has been read beyond its limit for long enough."""
        now = self._loop.time()
        for slot in list(self._busy.values()):
            if slot.lines and slot.future is not None and self._goes_on(slot, now):
                self._end_stream(slot)
        self._look = self._loop.call_later(LOOK_EVERY_S, self._look_at_all) if self._busy else None

    def _goes_on(self, slot: _Slot, now: float) -> bool:
        if slot.truncated:
            slot.full_at = slot.full_at or now
            slot.endless = now - slot.full_at >= _ENDLESS_S
            return slot.endless
        if not slot.head_at:
            if not self._comes(slot):
                return False
            slot.head_at, slot.size_seen = now, -1
        if slot.size != slot.size_seen:
            slot.byte_at, slot.size_seen = now, slot.size
        progress = Progress(
            status=slot.easy.getinfo(pycurl.RESPONSE_CODE),
            media_type=slot.media_type,
            has_length=slot.has_length,
            head_s=now - slot.head_at,
            byte_s=now - slot.byte_at,
            size=slot.size,
            known=slot.streams,
            wanted=slot.wanted,
        )
        return is_stream(progress)

    def _comes(self, slot: _Slot) -> bool:
        """The head of a 2xx is complete; notes what it says of the body."""
        headers = parse_headers(slot.lines)
        if headers is None or not 200 <= slot.easy.getinfo(pycurl.RESPONSE_CODE) < 300:
            return False
        slot.has_length, slot.media_type = bool(header_values(headers, "content-length")), media_type(headers)
        return True

    def _end_stream(self, slot: _Slot) -> None:
        """What came is the answer, and its connection is closed."""
        info, future = slot.easy.getinfo, slot.future
        headers = parse_headers(slot.lines)
        assert headers is not None and future is not None
        elapsed_ms = round((info(pycurl.STARTTRANSFER_TIME) - info(pycurl.PRETRANSFER_TIME)) * 1000, 3)
        outcome = Answer(
            status=info(pycurl.RESPONSE_CODE),
            headers=headers,
            body=_joined(slot.body),
            elapsed_ms=elapsed_ms,
            truncated=slot.truncated,
            endless=slot.endless,
            streaming=not slot.truncated,
        )
        sent = slot.tries
        self._release(slot)
        if not future.done():
            future.set_result(Exchange(outcome=outcome, sent=sent))

    def _note_kept(self, own_port: int, descriptor: int, status: int) -> None:
        if len(self._kept) > _KEPT:
            self._kept.clear()
        self._kept[own_port] = descriptor
        if status >= 500:
            self._spoiled.add(own_port)
        elif self._spoiled:
            self._spoiled.discard(own_port)

    def _send_fresh(self, slot: _Slot) -> None:
        self._silent_closes += slot.stale == "closed"
        self._multi.remove_handle(slot.easy)
        slot.stale, slot.fresh, slot.plain = "", True, False
        slot.easy.setopt(pycurl.FRESH_CONNECT, 1)
        self._multi.add_handle(slot.easy)

    @staticmethod
    def _fault(slot: _Slot, code: int, message: str, elapsed_ms: float) -> TransportFailure:
        if slot.refused and code == pycurl.E_COULDNT_CONNECT:
            return TransportFailure(kind="refused", reason=f"refused: {slot.refused}", elapsed_ms=elapsed_ms)
        silent = code in _SILENT and not slot.lines and not slot.size
        kept = _was_kept(slot)
        if code == pycurl.E_ABORTED_BY_CALLBACK:
            reason = "closed without a response"
            return TransportFailure(kind="broken", reason=reason, elapsed_ms=elapsed_ms, silent=silent, kept=True)
        if "alert certificate required" in message:  # TLS 1.3: said after the handshake
            reason = "TLS: the server asks for a client certificate"
            return TransportFailure(kind="unreachable", reason=reason, elapsed_ms=elapsed_ms)
        if code == pycurl.E_OPERATION_TIMEDOUT and not slot.tries:
            return TransportFailure(
                kind="unreachable", reason="timeout while connecting", elapsed_ms=elapsed_ms, silent=silent
            )
        kind, reason = _FAULTS.get(code, ("broken" if slot.tries else "unreachable", f"curl error {code}: {message}"))
        if kind == "unreachable" and slot.tries:
            # It went out over a kept connection, and only libcurl's own second try found nobody.
            kind, reason, kept = "broken", "closed without a response", slot.tries == 1
        return TransportFailure(kind=kind, reason=reason, elapsed_ms=elapsed_ms, silent=silent, kept=kept)

    def _release(self, slot: _Slot, *, again: bool = False) -> None:
        del self._busy[slot.easy]
        self._multi.remove_handle(slot.easy)
        slot.future = None
        if not again:  # after half an answer libcurl keeps the other half's beginning in the handle
            slot.easy.close()
            return
        slot.lines.clear()
        slot.body.clear()
        (self._free_certified if slot.certified else self._free).append(slot)


def _was_kept(slot: _Slot) -> bool:
    """The request went out over a connection that was there before."""
    return slot.tries > 0 and not slot.easy.getinfo(pycurl.NUM_CONNECTS)


def _split(url: str) -> tuple[str, str]:
    """`http://host:port/` and the request target."""
    start = url.find("/", len("https://"))
    query = url.find("?", len("https://"), start) if start >= 0 else url.find("?")
    if query >= 0:
        return f"{url[:query]}/", f"/{url[query:]}"
    if start < 0:
        return f"{url}/", "/"
    return url[: start + 1], url[start:]


def _announces_length(lines: list[bytes]) -> bool:
    return any(line[:15].lower() == b"content-length:" for line in lines)


def _as_it_came(answer: Answer) -> Answer:
    """An answer whose body was not decoded: it can be judged unless a coding that exists is named."""
    coding = ", ".join(header_values(answer.headers, "content-encoding"))
    if not coding or coding.lower() == "identity":
        return answer
    if none := no_codings(answer.headers):
        return replace(answer, wrong_coding=f"{none} is no content coding")
    return replace(answer, body=b"", undecodable=f"the body is encoded as {coding}")


def _joined(chunks: list[bytes]) -> bytes:
    return chunks[0] if len(chunks) == 1 else b"".join(chunks)


def parse_headers(lines: list[bytes]) -> Pairs | None:
    """Names and values of the final response (1xx ones left out) in order, trailers last; None when the head has no
    end.
    """
    pairs: list[tuple[str, str]] = []
    whole = False
    for line in lines:
        read = _header(line)
        if type(read) is tuple:
            pairs.append(read)
        elif read == "end":
            whole = True
        elif read == "start":
            pairs.clear()
            whole = False
    return tuple(pairs) if whole else None


@lru_cache(maxsize=2048)
def _header(line: bytes) -> tuple[str, str] | Literal["start", "end", "none"]:
    """Name and value; or what else the line is to a head."""
    if len(line) > _LONGEST_KEPT_LINE:
        _header.cache_clear()  # a few odd lines must not keep megabytes alive
    if line.startswith(b"HTTP/"):
        return "start"
    if line in (b"\r\n", b"\n"):
        return "end"
    name, colon, value = line.partition(b":")
    if not colon:
        return "none"
    try:
        return name.decode(), value.strip(b" \t\r\n").decode()
    except UnicodeDecodeError:
        return name.decode("latin-1"), value.strip(b" \t\r\n").decode("latin-1")


@lru_cache(maxsize=1024)
def _header_lines(headers: Pairs, has_body: bool) -> list[str | bytes]:
    """The headers as libcurl takes them; those it would add by itself are taken out."""
    lines = [f"{name}: {value}" if value.strip(" \t") else f"{name};" for name, value in headers]
    if has_body:
        named = {name.lower() for name, _ in headers}
        lines += [f"{name}:" for name in ("Expect", "Content-Type") if name.lower() not in named]
    return [line if line.isascii() else line.encode("utf-8", "replace") for line in lines]


def ca_file(environ: Mapping[str, str]) -> str:
    """The certificate bundle to trust: `SSL_CERT_FILE`, else the system's, else certifi's, else libcurl's own ("")."""
    named = environ.get("SSL_CERT_FILE", "")
    if named:
        return named
    system = ssl.get_default_verify_paths().cafile
    if system:
        return system
    try:
        import certifi
    except ImportError:
        return ""
    return certifi.where()
