"""Why a request got no whole answer: libcurl's error codes in our words."""

from __future__ import annotations

from typing import Literal

import pycurl
from msgspec import Struct

TransportFailureKind = Literal["timeout", "broken", "unreachable", "refused", "malformed", "stopped"]


class TransportFailure(Struct, frozen=True, kw_only=True):
    """Why there is no whole answer.

    kind: `broken` the connection was closed or broken after the request went out, or what came is no HTTP;
    `unreachable` no connection could be made; `refused` we did not want to connect there; `malformed`
    it is no URL; `stopped` by us.
    """

    kind: TransportFailureKind
    reason: str
    elapsed_ms: float = 0
    silent: bool = False
    """Nothing of an answer came: a target that is down looks like this."""
    kept: bool = False
    """It broke on a connection that had carried an earlier answer: the server may have closed it before this request
    came."""


REASONS: dict[int, tuple[TransportFailureKind, str]] = {
    pycurl.E_UNSUPPORTED_PROTOCOL: ("broken", "answer is not HTTP"),
    pycurl.E_URL_MALFORMAT: ("malformed", "refused: malformed URL"),
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
"""libcurl's error code -> what it means for the request; `unreachable` ones were raised before it went out."""

SILENT = frozenset(
    {
        pycurl.E_COULDNT_CONNECT,
        pycurl.E_COULDNT_RESOLVE_HOST,
        pycurl.E_OPERATION_TIMEDOUT,
        pycurl.E_GOT_NOTHING,
        pycurl.E_SSL_CONNECT_ERROR,
        pycurl.E_SEND_ERROR,
        pycurl.E_RECV_ERROR,
        65,  # CURLE_SEND_FAIL_REWIND
        pycurl.E_ABORTED_BY_CALLBACK,
    }
)
"""Codes that a target which is down can cause."""
