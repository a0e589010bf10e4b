"""Bytes of a document from a file, a pipe or a URL, within limits; every address is checked before it is called."""

from __future__ import annotations

import os
import select
import socket
import ssl
import stat
import time
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import SplitResult, unquote, urljoin, urlsplit

from testops_lib.errors import AddressError, DocumentRefusedError, SpecAwayError, SpecError
from testops_lib.http.address import is_url, refusal
from testops_lib.http.tls import Material
from testops_lib.spec.limits import Limits

_ACCEPT = "application/vnd.oai.openapi+json, application/json, application/vnd.oai.openapi, application/yaml, */*;q=0.5"


def origin(url: str) -> tuple[str, str, int]:
    """Scheme, host and port of an http(s) URL, comparable.

    Raises:
        ValueError: it is no such URL.
    """
    parts = urlsplit(url)
    if parts.scheme.lower() not in ("http", "https") or not parts.hostname:
        raise ValueError(f"{url!r} is no http(s) URL")
    return parts.scheme.lower(), parts.hostname.lower(), port_of(parts)


def port_of(parts: SplitResult) -> int:
    return parts.port or (443 if parts.scheme.lower() == "https" else 80)


def shown(url: str) -> str:
    """The URL without what may be secret: user, password, query and fragment."""
    try:
        parts = urlsplit(url)
        host = parts.hostname or ""
        port = f":{parts.port}" if parts.port else ""
    except ValueError:
        return url.split("?", 1)[0].rpartition("@")[2]
    return f"{parts.scheme}://{f'[{host}]' if ':' in host else host}{port}{parts.path}"


class Origins:
    """Which URLs may be read: those of the document's own origin, and hosts allowed by name.

    An allowed entry is `host` (any port) or `host:port`.
    """

    def __init__(self, source: str, allow_hosts: Collection[str], certificates: Material | None = None) -> None:
        """`certificates`: what is trusted, and shown to the document's own origin."""
        self.certificates = certificates or Material()
        self._own = {origin(source)} if is_url(source) else set()
        self._hosts = {host.lower() for host in allow_hosts}

    def add(self, url: str) -> None:
        """The origin that the document was in the end read from (an upgrade to https) counts as its own."""
        self._own.add(origin(url))

    def allows(self, url: str) -> bool:
        try:
            scheme, host, port = origin(url)
        except ValueError:
            return False
        bare = f"[{host}]" if ":" in host else host
        return (scheme, host, port) in self._own or bool({host, bare, f"{bare}:{port}"} & self._hosts)

    def own(self, url: str) -> bool:
        return origin(url) in self._own


def fetch(
    url: str,
    *,
    origins: Origins,
    allow_private: bool,
    headers: Mapping[str, str],
    limits: Limits,
    room: int,
    seconds: float,
) -> tuple[bytes, str]:
    """The body of a GET and the URL it came from after allowed redirects.

    `headers` go to the document's own origin only. No proxy is used: the address we check is the one we call.

    Raises:
        AddressError: the address is one that must not be called.
        SpecError: no whole answer of status 200, or a limit is broken.
    """
    end = time.monotonic() + min(limits.fetch_seconds, seconds)
    at = url
    for _ in range(limits.max_redirects + 1):
        own = origins.own(at)
        certificates = origins.certificates if own else origins.certificates.without_client()
        status, location, body = _get(at, headers if own else {}, allow_private, room, end, certificates)
        if status not in (301, 302, 303, 307, 308) or not location:
            break
        to = urljoin(at, location)
        same_host = (urlsplit(to).hostname or "").lower() == (urlsplit(at).hostname or "").lower()
        upgrade = same_host and own and at.lower().startswith("http:") and to.lower().startswith("https:")
        if not origins.allows(to) and not upgrade:
            raise SpecError(
                f"redirected to {shown(to)}, which is another host, port or scheme",
                where=shown(at),
                next_step="give that address directly, or allow its host",
            )
        at = to
    else:
        raise SpecError(f"more than {limits.max_redirects} redirects", where=shown(url))
    if status != 200:
        refused = status in (401, 403)
        away = status == 429 or status >= 500
        raise (DocumentRefusedError if refused else SpecAwayError if away else SpecError)(
            f"the server answered with status {status}, not with the document",
            where=shown(at),
            next_step="give the credentials as a header" if refused else "check the address of the OpenAPI document",
        )
    return body, at


def _get(
    url: str, headers: Mapping[str, str], allow_private: bool, room: int, end: float, certificates: Material
) -> tuple[int, str, bytes]:
    import pycurl

    where = shown(url)
    refused: list[str] = []
    sockets: list[socket.socket] = []
    chunks: list[bytes] = []
    size, over, location = 0, False, ""

    def opened(purpose: int, address: Any) -> Any:
        family, kind, protocol, peer = address
        reason = refusal(peer[0], allow_private=allow_private)
        if reason:
            refused.append(reason)
            return pycurl.SOCKET_BAD
        # libcurl works on a duplicate of the descriptor; ours is closed at the end.
        sockets.append(socket.socket(family, kind, protocol))
        return sockets[-1]

    def body(data: bytes) -> int | None:
        nonlocal size, over
        size += len(data)
        if size > room:
            over = True
            return 0
        chunks.append(data)
        return None

    def head(line: bytes) -> None:
        nonlocal location
        if line.startswith(b"HTTP/"):
            location = ""
        name, _, value = line.partition(b":")
        if name.strip().lower() == b"location":
            location = value.strip().decode("latin-1")

    lines = [f"{name}: {value}" for name, value in {"Accept": _ACCEPT, "User-Agent": "testops", **headers}.items()]
    if any("\r" in line or "\n" in line or "\0" in line for line in lines):
        raise SpecError("a header for fetching the document holds a line break", where=where)
    curl = pycurl.Curl()
    try:
        try:
            curl.setopt(pycurl.URL, url.split("#", 1)[0])
        except (ValueError, UnicodeError, pycurl.error) as error:
            raise SpecError("this is no usable URL", where=where) from error
        curl.setopt(pycurl.PROTOCOLS, pycurl.PROTO_HTTP | pycurl.PROTO_HTTPS)
        curl.setopt(pycurl.PROXY, "")
        curl.setopt(pycurl.NOSIGNAL, 1)
        curl.setopt(pycurl.FOLLOWLOCATION, 0)
        curl.setopt(pycurl.ACCEPT_ENCODING, "")
        curl.setopt(pycurl.TIMEOUT_MS, max(1, int((end - time.monotonic()) * 1000)))
        curl.setopt(pycurl.HTTPHEADER, lines)
        curl.setopt(pycurl.OPENSOCKETFUNCTION, opened)
        curl.setopt(pycurl.WRITEFUNCTION, body)
        curl.setopt(pycurl.HEADERFUNCTION, head)
        authorities = os.environ.get("SSL_CERT_FILE") or ssl.get_default_verify_paths().cafile
        if isinstance(certificates.ca, bytes):
            curl.setopt(pycurl.CAINFO_BLOB, certificates.ca)
        elif authorities := certificates.ca or authorities or "":
            curl.setopt(pycurl.CAINFO, authorities)
        if certificates.cert:
            curl.setopt(pycurl.KEYPASSWD, "")  # else OpenSSL would ask the terminal
            in_memory = isinstance(certificates.cert, bytes)
            curl.setopt(pycurl.SSLCERT_BLOB if in_memory else pycurl.SSLCERT, certificates.cert)
            in_memory = isinstance(certificates.key, bytes)
            curl.setopt(pycurl.SSLKEY_BLOB if in_memory else pycurl.SSLKEY, certificates.key)
        try:
            curl.perform()
        except pycurl.error as error:
            if refused:
                raise AddressError(
                    f"the OpenAPI document was not fetched: {refused[0]}",
                    where=where,
                    next_step="allow private addresses for this target, if it is meant",
                ) from error
            if over:
                raise SpecError(
                    f"the answer has more than {room:,} bytes",
                    where=where,
                    next_step="check the address, or raise the limit `max_bytes`",
                ) from error
            raise SpecAwayError(
                f"the document could not be fetched: {error.args[-1]}",
                where=where,
                next_step="check the address, and that the server is running",
            ) from error
        return int(curl.getinfo(pycurl.RESPONSE_CODE)), location, b"".join(chunks)
    finally:
        curl.close()
        for one in sockets:
            one.close()


def read(path: Path, *, limits: Limits, room: int) -> bytes:
    """The bytes of a file or a pipe.

    Raises:
        SpecError: it is missing, a directory, unreadable, too large, or a pipe that stays silent.
    """
    where = str(path)
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise SpecError(
            f"the document could not be read: {reason}", where=where, next_step="give an existing file or a URL"
        ) from error
    try:
        if stat.S_ISDIR(os.fstat(handle).st_mode):
            raise SpecError("this is a directory", where=where, next_step="give the OpenAPI document in it")
        wait = _wait_for_pipe(handle, where, limits) if not stat.S_ISREG(os.fstat(handle).st_mode) else None
        chunks: list[bytes] = []
        size = 0
        while True:
            if wait:
                wait()
            try:
                data = os.read(handle, 1 << 20)
            except OSError as error:
                raise SpecError(f"the document could not be read: {error.strerror}", where=where) from error
            if not data:
                return b"".join(chunks)
            size += len(data)
            if size > room:
                raise SpecError(
                    f"the document has more than {room:,} bytes",
                    where=where,
                    next_step="split it, or raise the limit `max_bytes`",
                )
            chunks.append(data)
    finally:
        os.close(handle)


def _wait_for_pipe(handle: int, where: str, limits: Limits) -> Callable[[], None]:
    end = time.monotonic() + limits.fetch_seconds
    poll = select.poll()
    poll.register(handle, select.POLLIN | select.POLLHUP)

    def wait() -> None:
        if not poll.poll(max(0, end - time.monotonic()) * 1000):
            raise SpecError(f"nothing came for {limits.fetch_seconds:g} s", where=where)

    return wait


def inside(directory: Path, relative: str) -> Path:
    """The file that a reference means, links resolved.

    Raises:
        ValueError: it lies outside `directory`, or is no regular file.
    """
    try:
        path = (directory / unquote(relative)).resolve()
        regular = path.is_file()
    except (OSError, ValueError, RuntimeError) as error:
        raise ValueError(f"{relative!r} cannot be read") from error
    if not path.is_relative_to(directory):
        raise ValueError(f"{relative!r} is outside the document's directory, where nothing is read")
    if not regular:
        raise ValueError(f"there is no file {relative!r}")
    return path
