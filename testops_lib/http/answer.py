"""One HTTP exchange as data: the request as it will be sent, the answer as it came."""

from __future__ import annotations

from msgspec import Struct

from testops_lib.model import Pairs, Value

CODINGS = frozenset(
    {
        "aes128gcm",
        "br",
        "compress",
        "dcb",
        "dcz",
        "deflate",
        "exi",
        "gzip",
        "identity",
        "pack200-gzip",
        "x-compress",
        "x-gzip",
        "zstd",
    }
)
"""Source: IANA, HTTP Content Coding Registry."""


class Wire(Struct, frozen=True, kw_only=True):
    """One request as it will be sent."""

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


class Answer(Value, frozen=True, kw_only=True):
    """A response: whole, or what came of it before we ended it."""

    status: int
    headers: Pairs = ()
    body: bytes = b""
    """Decoded as Content-Encoding says."""
    elapsed_ms: float = 0
    truncated: bool = False
    """The body was cut at the policy's limit."""
    endless: bool = False
    """Beyond the limit it went on, and nothing announced an end."""
    streaming: bool = False
    """The headers came, the body went on without an end in sight, and we read it for a moment only."""
    undecodable: str = ""
    """Why the body could not be decoded as Content-Encoding says; it is left out."""
    wrong_coding: str = ""
    """What is wrong with Content-Encoding itself: the body is not that, or there is no such coding."""


def media_type(headers: Pairs) -> str:
    """The response's media type in lower case without parameters; "" when there is none."""
    values = header_values(headers, "content-type")
    return values[0].split(";", 1)[0].strip().lower() if values else ""


def header_values(headers: Pairs, name: str) -> list[str]:
    """The values of a header, whose name is given in lower case, in order."""
    length = len(name)  # most names differ in length, and comparing that is much cheaper
    return [value for known, value in headers if len(known) == length and known.lower() == name]


def no_codings(headers: Pairs) -> str:
    """What Content-Encoding names that is no content coding, as it stands; "" when there is nothing such."""
    named = [coding.strip() for value in header_values(headers, "content-encoding") for coding in value.split(",")]
    return ", ".join(coding for coding in named if coding and coding.lower() not in CODINGS)
