"""Bytes of a document from a file, a pipe or a URL, within limits; every address is checked before it is called."""

from __future__ import annotations

import os
import select
import stat
import time
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from urllib.parse import unquote, urljoin, urlsplit

from testops_lib.errors import AddressError, DocumentRefusedError, SpecAwayError, SpecError
from testops_lib.http.address import is_url
from testops_lib.http.answer import REDIRECTS, Answer, header_values
from testops_lib.http.request import PreparedRequest
from testops_lib.http.tls import Material, ca_file
from testops_lib.http.url import escape_target, origin_of
from testops_lib.model import Policy
from testops_lib.spec.limits import Limits

_ACCEPT = "application/vnd.oai.openapi+json, application/json, application/vnd.oai.openapi, application/yaml, */*;q=0.5"

_BREAKS_LINE = frozenset("\r\n\0")


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
        self._own = {origin_of(source)} if is_url(source) else set()
        self._hosts = {host.lower() for host in allow_hosts}

    def add(self, url: str) -> None:
        """The origin that the document was in the end read from (an upgrade to https) counts as its own."""
        self._own.add(origin_of(url))

    def allows(self, url: str) -> bool:
        try:
            place = origin_of(url)
        except ValueError:
            return False
        bare = f"[{place.host}]" if ":" in place.host else place.host
        return place in self._own or not self._hosts.isdisjoint({place.host, bare, f"{bare}:{place.port}"})

    def own(self, url: str) -> bool:
        return origin_of(url) in self._own


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
        answer = _get(at, headers if own else {}, allow_private, room, end, certificates)
        location = header_values(answer.headers, "location")
        if answer.status not in REDIRECTS or not location:
            break
        try:
            to = urljoin(at, location[-1])
            same_host = (urlsplit(to).hostname or "").lower() == (urlsplit(at).hostname or "").lower()
        except ValueError as error:
            raise SpecError("redirected to something that is no URL", where=shown(at)) from error
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
    if answer.status != 200:
        refused = answer.status in (401, 403)
        away = answer.status == 429 or answer.status >= 500
        raise (DocumentRefusedError if refused else SpecAwayError if away else SpecError)(
            f"the server answered with status {answer.status}, not with the document",
            where=shown(at),
            next_step="give the credentials as a header" if refused else "check the address of the OpenAPI document",
        )
    return answer.body, at


def _get(
    url: str, headers: Mapping[str, str], allow_private: bool, room: int, end: float, certificates: Material
) -> Answer:
    from testops_lib.http.client import send_blocking
    from testops_lib.http.failure import TransportFailure

    where = shown(url)
    pairs = tuple({"Accept": _ACCEPT, "User-Agent": "testops", **headers}.items())
    if any(not _BREAKS_LINE.isdisjoint(name + value) for name, value in pairs):
        raise SpecError("a header for fetching the document holds a line break", where=where)
    outcome = send_blocking(
        PreparedRequest(method="GET", url=escape_target(url.split("#", 1)[0]), headers=pairs),
        Policy(allow_private=allow_private, max_response_bytes=room),
        timeout_s=end - time.monotonic(),
        ca_file=ca_file(os.environ),
        certificates=certificates,
    )
    if isinstance(outcome, TransportFailure):
        if outcome.kind == "refused":
            raise AddressError(
                f"the OpenAPI document was not fetched: {outcome.reason.removeprefix('refused: ')}",
                where=where,
                next_step="allow private addresses for this target, if it is meant",
            )
        if outcome.kind == "malformed":
            raise SpecError("this is no usable URL", where=where)
        raise _away(outcome.reason, where)
    if outcome.undecodable:
        raise _away(outcome.undecodable, where)
    if outcome.truncated:
        raise SpecError(
            f"the answer has more than {room:,} bytes",
            where=where,
            next_step="check the address, or raise the limit `max_bytes`",
        )
    return outcome


def _away(reason: str, where: str) -> SpecAwayError:
    return SpecAwayError(
        f"the document could not be fetched: {reason}",
        where=where,
        next_step="check the address, and that the server is running",
    )


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
