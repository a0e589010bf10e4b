"""An answer as it came, and what its headers say."""

from __future__ import annotations

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

REDIRECTS = frozenset({301, 302, 303, 307, 308})


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
    return [value for header, value in headers if len(header) == length and header.lower() == name]


def no_codings(headers: Pairs) -> str:
    """The names in Content-Encoding that are no content codings, as they stand; "" when there are none."""
    named = [coding.strip() for value in header_values(headers, "content-encoding") for coding in value.split(",")]
    return ", ".join(coding for coding in named if coding and coding.lower() not in CODINGS)
