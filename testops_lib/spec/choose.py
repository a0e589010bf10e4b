"""Selects operations, and finds the base URL that serves them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from fnmatch import translate
from urllib.parse import urljoin, urlsplit

from testops_lib.errors import SpecError
from testops_lib.http.address import base_url_fault, is_url
from testops_lib.model import SAFE_METHODS
from testops_lib.spec.fetch import shown
from testops_lib.spec.operation import Operation, Spec


def select(
    spec: Spec, *, patterns: Sequence[str] = (), tags: Sequence[str] = (), safe_only: bool = False
) -> tuple[Operation, ...]:
    """Operations that fit one of the patterns, bear one of the tags, and only read when `safe_only`; in document order.

    A pattern is a glob over keys (`GET /pets*`), paths (`/pets/*`) or operation ids; `*` covers `/` too. One that
    begins with `!` takes out what it fits. Braces stand for themselves. Without patterns (or tags) all fit.
    """
    wanted = [_glob(pattern) for pattern in patterns if not pattern.startswith("!")]
    unwanted = [_glob(pattern[1:]) for pattern in patterns if pattern.startswith("!")]

    def fits(operation: Operation, globs: list[re.Pattern[str]]) -> bool:
        return any(
            glob.match(operation.key) or glob.match(operation.path) or glob.match(operation.operation_id)
            for glob in globs
        )

    return tuple(
        operation
        for operation in spec.operations
        if (not wanted or fits(operation, wanted))
        and not fits(operation, unwanted)
        and (not tags or not set(tags).isdisjoint(operation.tags))
        and (not safe_only or operation.method in SAFE_METHODS)
    )


def select_unusable(
    spec: Spec, *, patterns: Sequence[str] = (), tags: Sequence[str] = (), safe_only: bool = False
) -> dict[str, str]:
    """Keys of operations that the document describes beyond use and `select` would choose otherwise -> why.

    Such an operation has neither an id nor tags: with `tags` there is none. The key `* /pets` stands for a whole path.
    """
    if tags:
        return {}
    wanted = [_glob(pattern) for pattern in patterns if not pattern.startswith("!")]
    unwanted = [_glob(pattern[1:]) for pattern in patterns if pattern.startswith("!")]

    def fits(key: str, globs: list[re.Pattern[str]]) -> bool:
        return any(glob.match(key) or glob.match(key.partition(" ")[2]) for glob in globs)

    return {
        key: why
        for key, why in spec.unusable.items()
        if (not wanted or fits(key, wanted))
        and not fits(key, unwanted)
        and (not safe_only or key.partition(" ")[0] in SAFE_METHODS)
    }


def _glob(pattern: str) -> re.Pattern[str]:
    method, blank, path = pattern.strip().partition(" ")
    return re.compile(translate(f"{method.upper()} {path.strip()}" if blank else method))


def base_url(spec: Spec, source: str, override: str) -> str:
    """The absolute URL that operation paths are appended to, without a trailing slash.

    `override` when given; else the document's first server, a relative one against `source`; else the origin of
    `source` (OpenAPI's default server is `/`).

    Raises:
        SpecError: neither names a host.
    """
    server = spec.servers[0] if spec.servers else ""
    url = override.strip() or server
    if not override.strip() and not urlsplit(url).netloc and is_url(source):
        url = urljoin(source, url or "/")
    elif url.startswith("//"):
        url = f"{urlsplit(source).scheme if is_url(source) else 'https'}:{url}"
    elif not url or not is_url(url):
        raise SpecError(
            f"the base URL {shown(url)!r} names no host" if url else "the document names no server",
            where=shown(source) if is_url(source) else source,
            next_step="give the base URL, such as http://localhost:8080",
        )
    if fault := base_url_fault(url):
        raise SpecError(
            f"the base URL {shown(url)} {fault}",
            where=shown(source) if is_url(source) else source,
            next_step="give http(s)://host[:port][/path]; for credentials see docs/targets.md",
        )
    return url.rstrip("/")
