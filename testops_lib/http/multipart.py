"""multipart/form-data (RFC 7578), byte for byte as it is sent and exported."""

from __future__ import annotations

import hashlib
import re

from testops_lib.errors import CaseError
from testops_lib.model import Part

_BREAKS_LINE = re.compile(r"[\r\n\0]")


def encode_multipart(parts: tuple[Part, ...]) -> tuple[bytes, str]:
    """The body and its media type; equal parts, equal bytes.

    Raises:
        CaseError: a part's media type would break its header line.
    """
    digest = hashlib.sha256(b"\0".join(part.data for part in parts)).hexdigest()
    boundaries = (f"testops-{digest[:24]}-{number}" for number in range(1_000))
    boundary = next(text for text in boundaries if not any(text.encode() in part.data for part in parts))
    out = bytearray()
    for part in parts:
        out += f'--{boundary}\r\nContent-Disposition: form-data; name="{_in_quotes(part.name)}"'.encode()
        if part.filename:
            out += f'; filename="{_in_quotes(part.filename)}"'.encode()
        if part.media_type:
            if _BREAKS_LINE.search(part.media_type):
                raise CaseError(f"part {part.name!r}: the media type holds CR, LF or NUL")
            out += f"\r\nContent-Type: {part.media_type}".encode()
        out += b"\r\n\r\n" + part.data + b"\r\n"
    out += f"--{boundary}--\r\n".encode()
    return bytes(out), f"multipart/form-data; boundary={boundary}"


def _in_quotes(text: str) -> str:
    """Source: the HTML standard, "multipart/form-data encoding algorithm"."""
    escaped = text.replace("\r", "%0D").replace("\n", "%0A").replace('"', "%22")
    return escaped.encode("utf-8", "replace").decode()
