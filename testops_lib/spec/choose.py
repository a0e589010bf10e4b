"""Which operations, and where they are served."""

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

    def fits(one: Operation, globs: list[re.Pattern[str]]) -> bool:
        return any(glob.match(one.key) or glob.match(one.path) or glob.match(one.operation_id) for glob in globs)

    return tuple(
        one
        for one in spec.operations
        if (not wanted or fits(one, wanted))
        and not fits(one, unwanted)
        and (not tags or not set(tags).isdisjoint(one.tags))
        and (not safe_only or one.method in SAFE_METHODS)
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
    found = override.strip() or server
    if not override.strip() and not urlsplit(found).netloc and is_url(source):
        found = urljoin(source, found or "/")
    elif found.startswith("//"):
        found = f"{urlsplit(source).scheme if is_url(source) else 'https'}:{found}"
    elif not found or not is_url(found):
        raise SpecError(
            f"the base URL {shown(found)!r} names no host" if found else "the document names no server",
            where=shown(source) if is_url(source) else source,
            next_step="give the base URL, such as http://localhost:8080",
        )
    if fault := base_url_fault(found):
        raise SpecError(
            f"the base URL {shown(found)} {fault}",
            where=shown(source) if is_url(source) else source,
            next_step="give http(s)://host[:port][/path]; for credentials see docs/targets.md",
        )
    return found.rstrip("/")
