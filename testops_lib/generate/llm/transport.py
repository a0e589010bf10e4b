"""HTTP to language models, by httpx2: the only module that knows it."""

from __future__ import annotations

import time
from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from re import fullmatch
from typing import Any

from testops_lib.generate.llm.provider import Unavailable

_LOWER_LAYERS = ("httpcore2", "anyio")
"""Packages below httpx2, some of whose exceptions it passes on."""
_DECIMAL = r"\d{1,9}(\.\d{1,9})?"


def open_client(timeout_s: float) -> Any:
    """An `httpx2.AsyncClient`, for whoever enters it. It follows no redirect, which would take the key along.

    Raises:
        ImportError: httpx2 is not installed.
    """
    import httpx2

    return httpx2.AsyncClient(timeout=timeout_s, follow_redirects=False)


def unavailable(error: Exception, timeout_s: float) -> Unavailable | None:
    """What an exception of the transport means; None: it does not mean that another attempt may help."""
    import httpx2

    if isinstance(error, TimeoutError | httpx2.ReadTimeout | httpx2.WriteTimeout):
        return Unavailable(f"no answer within {timeout_s:g} s", maybe_billed=True)
    lower_layer = type(error).__module__.partition(".")[0] in _LOWER_LAYERS
    if lower_layer or isinstance(error, OSError | httpx2.TransportError | httpx2.DecodingError):
        return Unavailable(f"connection failed: {type(error).__name__}")
    return None


def is_unusable_address(error: Exception) -> bool:
    """Whether the exception says that no request can be made to the address."""
    import httpx2

    return isinstance(error, httpx2.HTTPError | httpx2.InvalidURL | UnicodeError)


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds that the server asks to wait (RFC 9110, section 10.2.3), or None."""
    milliseconds, value = headers.get("retry-after-ms", ""), headers.get("retry-after", "")
    if fullmatch(_DECIMAL, milliseconds):
        return float(milliseconds) / 1000
    if fullmatch(_DECIMAL, value):
        return float(value)
    try:
        return max(0.0, parsedate_to_datetime(value).timestamp() - time.time()) if value else None
    except (ValueError, OverflowError):
        return None
