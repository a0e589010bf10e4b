"""A request as it will be sent, byte for byte."""

from __future__ import annotations

from msgspec import Struct

from testops_lib.model import Pairs


class PreparedRequest(Struct, frozen=True, kw_only=True):
    """A request with every value in its place."""

    method: str
    url: str
    """Absolute; sent byte for byte."""
    headers: Pairs
    """Every header line but Host and Content-Length, in order; an empty value is sent as an empty value."""
    body: bytes | None = None
    """None: no body and no Content-Length."""
    isolated: bool = False
    """A header touches the framing: the request gets a connection of its own, so that no other case is harmed."""
    anonymous: bool = False
    """The client certificate is not shown: it would say whose request this is."""
