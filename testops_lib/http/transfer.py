"""One transfer over libcurl: a handle that is used again and again, and what came of its latest request."""

from __future__ import annotations

import asyncio
from typing import Any, Literal

import pycurl
from msgspec import Struct
from msgspec.structs import replace

from testops_lib.http.answer import Answer, header_values, media_type, no_codings
from testops_lib.http.connections import KeptConnections
from testops_lib.http.failure import REASONS, SILENT, TransportFailure
from testops_lib.http.guard import AddressGuard
from testops_lib.http.head import announces_length, parse_headers
from testops_lib.http.stream import Progress, is_stream

_ENDLESS = 4
"""So many times the limit a body without a Content-Length is read (and thrown away) before it counts as endless; or for
`_ENDLESS_S` beyond the limit."""
_ENDLESS_S = 2.0

_GO, _ABORT = int(pycurl.PREREQFUNC_OK), int(pycurl.PREREQFUNC_ABORT)


class Exchange(Struct, frozen=True, kw_only=True):
    """What became of one request. `sent` counts how often it went out: 0, 1, or 2 after a kept connection had died."""

    outcome: Answer | TransportFailure
    sent: int


class Transfer:
    """A handle of libcurl with the place where its answer collects."""

    __slots__ = (
        "base",
        "bodiless_method",
        "body",
        "body_needed",
        "byte_at",
        "connections",
        "default_reuse",
        "easy",
        "endless",
        "finds_end",
        "fresh",
        "full_at",
        "future",
        "guard",
        "has_length",
        "head_at",
        "header_lines",
        "lines",
        "max_bytes",
        "may_repeat",
        "media_type",
        "port",
        "sent",
        "shows_certificate",
        "size",
        "size_seen",
        "stale",
        "stream_expected",
        "survives_abort",
        "timeout_ms",
        "truncated",
        "undecoded",
    )

    def __init__(self, connections: KeptConnections, guard: AddressGuard | None) -> None:
        """`guard`: None where a proxy opens the connections to the target."""
        self.easy: Any = pycurl.Curl()
        self.connections, self.guard = connections, guard
        self.future: asyncio.Future[Exchange] | None = None
        self.lines: list[bytes] = []
        self.body: list[bytes] = []
        # What the handle is set to already, so that equal options are not set again:
        self.default_reuse, self.shows_certificate, self.undecoded = True, False, False
        self.bodiless_method = self.base = ""
        self.timeout_ms = 0
        self.header_lines: list[str | bytes] | None = None
        self.port = 0
        """The local one of the connection."""
        self.stale: Literal["", "closed", "spoiled"] = ""
        """Why the request was not sent on the kept connection that libcurl took for it."""
        self.media_type = ""
        self.size_seen, self.byte_at = -1, 0.0
        self.begin(max_bytes=0)
        setopt = self.easy.setopt
        setopt(pycurl.PREREQFUNCTION, self._before_request)
        setopt(pycurl.HEADERFUNCTION, self.lines.append)
        setopt(pycurl.WRITEFUNCTION, self._write)
        if guard is not None:
            setopt(pycurl.OPENSOCKETFUNCTION, guard.open)

    def begin(
        self,
        *,
        max_bytes: int,
        may_repeat: bool = False,
        survives_abort: bool = False,
        fresh: bool = False,
        stream_expected: bool = False,
        body_needed: bool = False,
        finds_end: bool = True,
    ) -> None:
        """Forgets the request before. `finds_end`: a body beyond the limit is read on to see whether it ends."""
        self.max_bytes, self.may_repeat, self.survives_abort, self.fresh = max_bytes, may_repeat, survives_abort, fresh
        self.stream_expected, self.body_needed, self.finds_end = stream_expected, body_needed, finds_end
        self.size = self.sent = 0
        self.truncated = self.endless = self.has_length = False
        self.head_at = self.full_at = 0.0
        if self.guard is not None:
            self.guard.refused = ""

    def outcome(self, code: int, message: str) -> Answer | TransportFailure:
        """What came of the request, by libcurl's error code, 0 for none, and its message."""
        info = self.easy.getinfo
        if code == pycurl.E_BAD_CONTENT_ENCODING and (headers := parse_headers(self.lines)) is not None:
            return self._undecodable(headers, "Unrecognized" in message)
        if code and not self.truncated:
            return self._failure(code, message, info(pycurl.TOTAL_TIME) * 1000)
        elapsed_ms = round((info(pycurl.TOTAL_TIME) - info(pycurl.PRETRANSFER_TIME)) * 1000, 3)
        headers = parse_headers(self.lines)
        if headers is None:  # libcurl is content with half a head
            reason = "closed before the answer was whole"
            return TransportFailure(kind="broken", reason=reason, elapsed_ms=elapsed_ms, kept=self._was_kept)
        answer = Answer(
            status=info(pycurl.RESPONSE_CODE),
            headers=headers,
            body=self.body[0] if len(self.body) == 1 else b"".join(self.body),
            elapsed_ms=elapsed_ms,
            truncated=self.truncated,
            endless=self.endless,
        )
        return _as_it_came(answer) if self.undecoded else answer

    def stream_outcome(self) -> Answer:
        """What came of a stream so far; its head must be complete."""
        headers = parse_headers(self.lines)
        assert headers is not None
        return Answer(
            status=self.easy.getinfo(pycurl.RESPONSE_CODE),
            headers=headers,
            body=b"".join(self.body),
            elapsed_ms=self._elapsed_ms(pycurl.STARTTRANSFER_TIME),
            truncated=self.truncated,
            endless=self.endless,
            streaming=not self.truncated,
        )

    def is_stream(self) -> bool:
        """Whether the head of a 2xx is complete, and no length and no limit ends its body."""
        return self._head_is_complete() and not self.has_length and not self.truncated

    def goes_on(self, now: float) -> bool:
        """Whether nothing more is to be expected of waiting for the end of the body; `now`: the loop's time."""
        if self.truncated:
            self.full_at = self.full_at or now
            self.endless = now - self.full_at >= _ENDLESS_S
            return self.endless
        if not self.head_at:
            if not self._head_is_complete():
                return False
            self.head_at, self.size_seen = now, -1
        if self.size != self.size_seen:
            self.byte_at, self.size_seen = now, self.size
        progress = Progress(
            status=self.easy.getinfo(pycurl.RESPONSE_CODE),
            media_type=self.media_type,
            has_length=self.has_length,
            head_s=now - self.head_at,
            byte_s=now - self.byte_at,
            size=self.size,
            streamed_before=self.stream_expected,
            body_needed=self.body_needed,
        )
        return is_stream(progress)

    def _head_is_complete(self) -> bool:
        """The head of a 2xx is complete; notes what it says of the body."""
        headers = parse_headers(self.lines)
        if headers is None or not 200 <= self.easy.getinfo(pycurl.RESPONSE_CODE) < 300:
            return False
        self.has_length, self.media_type = bool(header_values(headers, "content-length")), media_type(headers)
        return True

    def _elapsed_ms(self, until: int) -> float:
        """From when the request could go out until one of libcurl's times."""
        info = self.easy.getinfo
        elapsed_s: float = info(until) - info(pycurl.PRETRANSFER_TIME)
        return round(elapsed_s * 1000, 3)

    @property
    def _was_kept(self) -> bool:
        """The request went out over a connection that was there before."""
        return self.sent > 0 and not self.easy.getinfo(pycurl.NUM_CONNECTS)

    def _undecodable(self, headers: tuple[tuple[str, str], ...], unrecognized: bool) -> Answer:
        """The answer whose Content-Encoding libcurl does not know, or whose body is not encoded so."""
        coding = ", ".join(header_values(headers, "content-encoding"))
        unregistered = no_codings(headers)
        lie = "" if unrecognized else f"the body is not {coding}"
        return Answer(
            status=self.easy.getinfo(pycurl.RESPONSE_CODE),
            headers=headers,
            elapsed_ms=self._elapsed_ms(pycurl.TOTAL_TIME),
            undecodable=lie or f"the body is encoded as {coding}",
            wrong_coding=f"{unregistered} is no content coding" if unregistered else lie,
        )

    def _failure(self, code: int, message: str, elapsed_ms: float) -> TransportFailure:
        if self.guard is not None and self.guard.refused and code == pycurl.E_COULDNT_CONNECT:
            return TransportFailure(kind="refused", reason=f"refused: {self.guard.refused}", elapsed_ms=elapsed_ms)
        silent = code in SILENT and not self.lines and not self.size
        kept = self._was_kept
        if code == pycurl.E_ABORTED_BY_CALLBACK:
            reason = "closed without a response"
            return TransportFailure(kind="broken", reason=reason, elapsed_ms=elapsed_ms, silent=silent, kept=True)
        if "alert certificate required" in message:  # TLS 1.3: said after the handshake
            reason = "TLS: the server asks for a client certificate"
            return TransportFailure(kind="unreachable", reason=reason, elapsed_ms=elapsed_ms)
        if code == pycurl.E_OPERATION_TIMEDOUT and not self.sent:
            reason = "timeout while connecting"
            return TransportFailure(kind="unreachable", reason=reason, elapsed_ms=elapsed_ms, silent=silent)
        kind, reason = REASONS.get(code, ("broken" if self.sent else "unreachable", f"curl error {code}: {message}"))
        if kind == "unreachable" and self.sent:
            # It went out over a kept connection, and only libcurl's own second try found nobody.
            kind, reason, kept = "broken", "closed without a response", self.sent == 1
        return TransportFailure(kind=kind, reason=reason, elapsed_ms=elapsed_ms, silent=silent, kept=kept)

    # -- called by libcurl

    def _write(self, data: bytes) -> int | None:
        before, self.size = self.size, self.size + len(data)
        if self.size <= self.max_bytes:
            self.body.append(data)
            return None
        if before < self.max_bytes:
            self.body.append(data[: self.max_bytes - before])
        self.truncated = True
        if self.finds_end and not self.has_length and not announces_length(self.lines):
            self.endless = self.size > _ENDLESS * self.max_bytes
            if not self.endless:
                return None
        return 0  # anything but len(data) ends the transfer

    def _before_request(self, host: str, local_host: str, port: int, local_port: int) -> int:
        # libcurl repeats by itself what a kept connection swallowed, whatever the method; here it asks first.
        if self.sent:
            if self.sent > 1 or not self.may_repeat:
                return _ABORT
        elif not self.fresh:
            if local_port in self.connections.spoiled:
                # Servers answer 500 and then close without a word: the abort closes it here first.
                self.connections.spoiled.discard(local_port)
                self.stale = "spoiled"
                return _ABORT
            if not self.may_repeat and self.connections.has_ended(local_port):
                # What may go out only once must not go into a connection that the server has closed meanwhile, and
                # libcurl does not look at one that was used a moment ago.
                self.stale = "closed"
                return _ABORT
        self.sent += 1
        self.port = local_port
        return _GO


def _as_it_came(answer: Answer) -> Answer:
    """An answer whose body was not decoded: it can be judged unless a coding that exists is named."""
    coding = ", ".join(header_values(answer.headers, "content-encoding"))
    if not coding or coding.lower() == "identity":
        return answer
    if unregistered := no_codings(answer.headers):
        return replace(answer, wrong_coding=f"{unregistered} is no content coding")
    return replace(answer, body=b"", undecodable=f"the body is encoded as {coding}")
