"""What an http(s) URL names: its origin, and the request target as it may be sent."""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import lru_cache
from urllib.parse import quote, urlsplit

from msgspec import Struct

from testops_lib.errors import TargetError

_NOT_IN_TARGET = re.compile(r"[^\x21-\x22\x24-\x7e]+")  # control characters, space, `#`, non-ASCII


class Origin(Struct, frozen=True):
    """Scheme, host (lower case, IPv6 without brackets) and port."""

    scheme: str
    host: str
    port: int

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}://{host}:{self.port}"


def origin_of(url: str) -> Origin:
    """The origin of an absolute http(s) URL, whatever else stands in it.

    Raises:
        ValueError: another scheme, no host, or an impossible port.
    """
    parts = urlsplit(url)
    scheme, host = parts.scheme.lower(), parts.hostname
    if scheme not in ("http", "https") or not host:
        raise ValueError(f"{url!r} is no http(s) URL")
    return Origin(scheme, host.lower().rstrip("."), parts.port or (443 if scheme == "https" else 80))


@lru_cache(maxsize=256)
def origin(url: str) -> Origin:
    """The origin of a URL that requests are sent to.

    Raises:
        TargetError: another scheme, no host, credentials inside, or an impossible port.
    """
    try:
        place, netloc = origin_of(url), urlsplit(url).netloc
    except ValueError as error:
        raise TargetError(
            f"{url!r} is not an http(s) URL with a host", next_step="give http://host[:port][/path]"
        ) from error
    if "\\" in netloc or _NOT_IN_TARGET.search(netloc):
        raise TargetError(f"{url!r} has a host that cannot be", next_step="give http://host[:port][/path]")
    if "@" in netloc:
        raise TargetError("a URL must not hold credentials", next_step="declare an identity with headers or a login")
    return place


def allowed(where: Origin, base: Origin, hosts: Iterable[str]) -> bool:
    """Whether the policy lets `where` be called: the base's own origin, or one of `hosts`.

    An entry `host` stands for the default ports of http and https, `host:port` for exactly that port.
    """
    if where == base:
        return True
    if base.scheme == "https" and where.scheme == "http":
        return False
    for entry in hosts:
        try:
            entry_parts = urlsplit(f"//{entry.strip().lower()}")
            host, port = (entry_parts.hostname or "").rstrip("."), entry_parts.port
        except ValueError:
            continue
        if host == where.host and (where.port in (80, 443) if port is None else where.port == port):
            return True
    return False


def escape_target(target: str) -> str:
    """`target` with spaces, control characters, `#` and non-ASCII percent-encoded, all else as it is."""
    if _NOT_IN_TARGET.search(target):
        return _NOT_IN_TARGET.sub(lambda m: quote(m.group().encode("utf-8", "surrogatepass"), safe=""), target)
    return target
