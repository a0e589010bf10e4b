"""HTTP exchanges over libcurl: exact bytes out, a bounded answer or the reason for none back."""

from __future__ import annotations

import asyncio
from typing import Any

import pycurl

from testops_lib.http.answer import Answer, no_codings
from testops_lib.http.failure import TransportFailure
from testops_lib.http.handles import Handles
from testops_lib.http.multi import MultiLoop
from testops_lib.http.request import PreparedRequest
from testops_lib.http.stream import LOOK_EVERY_S
from testops_lib.http.tls import Material
from testops_lib.http.transfer import Exchange, Transfer
from testops_lib.model import Policy


class Client:
    """Sends requests for one policy on the running loop, many at a time, reusing connections and handles.

    Close it on that loop. For `proxy`, `certificates` and `own` see `Handles`.
    """

    def __init__(
        self, policy: Policy, *, ca_file: str = "", proxy: str = "", certificates: Material | None = None, own: str = ""
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._max_bytes = policy.max_response_bytes
        self._handles = Handles(policy, ca_file=ca_file, proxy=proxy, certificates=certificates, own=own)
        self._multi = MultiLoop(self._loop, self._finish, max_connections=max(16, 2 * policy.concurrency))
        self._busy: dict[Any, Transfer] = {}
        self._look: asyncio.TimerHandle | None = None

    async def send(
        self,
        prepared: PreparedRequest,
        *,
        timeout_s: float,
        repeat: bool = False,
        survives_abort: bool = False,
        fresh: bool = False,
        stream_expected: bool = False,
        body_needed: bool = False,
    ) -> Exchange:
        """Sends once and waits for the whole answer, at most `timeout_s` from now.

        `repeat`: the request may go out a second time when a kept connection died before any byte came back.
        `survives_abort`: `abort_all` leaves it alone unless told otherwise. `fresh`: over a new connection.
        `stream_expected`: a body without an end would be no surprise; `body_needed`: a later step reads the body. A
        body that goes on and on is read for a moment only (see `stream`).
        """
        if timeout_s <= 0:
            return Exchange(outcome=TransportFailure(kind="timeout", reason="timeout"), sent=0)
        handles = self._handles
        transfer = handles.take(prepared)
        transfer.begin(
            max_bytes=self._max_bytes,
            may_repeat=repeat,
            survives_abort=survives_abort,
            fresh=fresh or prepared.isolated or (not repeat and handles.connections.server_closes_silently),
            stream_expected=stream_expected,
            body_needed=body_needed,
        )
        easy = transfer.easy
        try:
            handles.load(transfer, prepared, timeout_s)
        except pycurl.error as error:
            easy.close()
            return Exchange(outcome=TransportFailure(kind="malformed", reason=f"refused: {error.args[-1]}"), sent=0)
        future: asyncio.Future[Exchange] = self._loop.create_future()
        transfer.future = future
        self._busy[easy] = transfer
        self._multi.add(easy)
        if self._look is None:
            self._look = self._loop.call_later(LOOK_EVERY_S, self._look_at_all)
        try:
            return await future
        except asyncio.CancelledError:
            if easy in self._busy:
                self._release(transfer)
            raise

    def abort_all(self, reason: str, everything: bool = False) -> None:
        """Ends every request in flight as a failure `stopped`; those that survive an abort only with `everything`."""
        for transfer in list(self._busy.values()):
            if everything or not transfer.survives_abort:
                self._answer(transfer, TransportFailure(kind="stopped", reason=reason))

    def close(self) -> None:
        """Ends what is in flight and closes every connection."""
        self.abort_all("stopped", everything=True)
        if self._look is not None:
            self._look.cancel()
            self._look = None
        self._handles.close()
        self._multi.close()

    def _finish(self, easy: Any, code: int, message: str) -> None:
        """The handle's transfer has ended; `code`: libcurl's error, 0 for none."""
        transfer = self._busy.get(easy)
        if transfer is None or transfer.future is None:
            return
        if transfer.stale:
            self._send_on_fresh_connection(transfer)
            return
        if code == pycurl.E_OPERATION_TIMEDOUT and transfer.is_stream():
            self._answer(transfer, transfer.stream_outcome())
            return
        outcome = transfer.outcome(code, message)
        whole = code == 0 and isinstance(outcome, Answer)
        if code == 0 or transfer.truncated:
            connections = self._handles.connections
            if transfer.sent > 1:
                connections.note_silent_close()
            info = easy.getinfo
            if isinstance(outcome, Answer) and info(pycurl.INFO_HTTP_VERSION) <= pycurl.CURL_HTTP_VERSION_1_1:
                connections.note(transfer.port, info(pycurl.ACTIVESOCKET), outcome.status)
        elif code == pycurl.E_BAD_CONTENT_ENCODING and isinstance(outcome, Answer) and no_codings(outcome.headers):
            self._handles.decodes = False
        self._answer(transfer, outcome, whole=whole)

    def _look_at_all(self) -> None:
        """Ends what is a stream, or has been read beyond its limit for long enough."""
        now = self._loop.time()
        for transfer in list(self._busy.values()):
            if transfer.lines and transfer.future is not None and transfer.goes_on(now):
                self._answer(transfer, transfer.stream_outcome())
        self._look = self._loop.call_later(LOOK_EVERY_S, self._look_at_all) if self._busy else None

    def _send_on_fresh_connection(self, transfer: Transfer) -> None:
        """Sends what was not sent on a kept connection that the server has closed, or is about to close."""
        if transfer.stale == "closed":
            self._handles.connections.note_silent_close()
        self._multi.remove(transfer.easy)
        transfer.stale, transfer.fresh, transfer.default_reuse = "", True, False
        transfer.easy.setopt(pycurl.FRESH_CONNECT, 1)
        self._multi.add(transfer.easy)

    def _answer(self, transfer: Transfer, outcome: Answer | TransportFailure, *, whole: bool = False) -> None:
        """Gives the outcome to whoever waits for it; a handle is used again after a whole answer only."""
        future, sent = transfer.future, transfer.sent
        self._release(transfer, whole=whole)
        if future is not None and not future.done():
            future.set_result(Exchange(outcome=outcome, sent=sent))

    def _release(self, transfer: Transfer, *, whole: bool = False) -> None:
        del self._busy[transfer.easy]
        self._multi.remove(transfer.easy)
        transfer.future = None
        if whole:
            self._handles.give_back(transfer)
        else:  # after half an answer libcurl keeps the other half's beginning in the handle
            transfer.easy.close()


def send_blocking(
    prepared: PreparedRequest, policy: Policy, *, timeout_s: float, ca_file: str, certificates: Material
) -> Answer | TransportFailure:
    """Sends one request in this thread, which needs no loop; over a connection of its own, without a proxy.

    The client certificate is shown. A body beyond the policy's limit ends the exchange: what came is `truncated`.
    """
    handles = Handles(policy, ca_file=ca_file, certificates=certificates)
    transfer = handles.take(prepared)
    transfer.begin(max_bytes=policy.max_response_bytes, fresh=True, finds_end=False)
    try:
        handles.load(transfer, prepared, timeout_s)
    except pycurl.error as error:
        return TransportFailure(kind="malformed", reason=f"refused: {error.args[-1]}")
    else:
        code, message = 0, ""
        try:
            transfer.easy.perform()
        except pycurl.error as error:
            code, message = error.args
        return transfer.outcome(code, message)
    finally:
        transfer.easy.close()
