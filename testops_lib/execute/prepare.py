"""Request as data -> the bytes that go out: substitution, encoding, and what is refused before it is sent."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Any
from urllib.parse import quote, urlencode

import msgspec
from msgspec import structs

from testops_lib.errors import CaseError, TargetError
from testops_lib.http.multipart import encode_multipart
from testops_lib.http.request import PreparedRequest
from testops_lib.http.url import escape_target, origin
from testops_lib.model import METHODS, BytesBody, FormBody, JsonBody, MultipartBody, Pairs, Request, TextBody
from testops_lib.placeholder import encode, fill, fill_text, names

USER_AGENT = "ai-testops/0.1.0"

_BREAKS_LINE = re.compile(r"[\r\n\0]")
_NOT_TOKEN = re.compile(r"[\x00-\x20\x7f:]")
_DOT_SEGMENT = frozenset({".", "..", "%2e", "%2E", "%2e%2e", "%2E%2E", ".%2e", ".%2E", "%2e.", "%2E."})
"""Servers and proxies resolve them (RFC 3986, 5.2.4): the request reaches another path."""
_LONGEST_PATH = 200
_COMMON = frozenset(METHODS)
_AS_LETTER = dict(zip("0123456789abcdef", "abcdefabcdefabcd", strict=True))
_BODY_EXPECTED = frozenset({"POST", "PUT", "PATCH"})
_FRAMING = frozenset({"content-length", "transfer-encoding", "connection", "upgrade", "te", "trailer", "expect"})


def unique_token(run: str, case: str, attempt: int, repeat: int = 0, *, anew: bool = False) -> str:
    """What `{unique}` stands for: 12 lower-case hex digits, the same for the same attempt and repetition, another for
    any other. The first is a letter: where a number is expected a careless server reads `5abc` as the id 5.

    anew: the attempt was begun a second time.
    """
    repetition = f"\0{repeat}" if repeat else ""
    digits = hashlib.sha256(f"{run}\0{case}\0{attempt}{anew or ''}{repetition}".encode()).hexdigest()[:12]
    return _AS_LETTER[digits[0]] + digits[1:]


def prepare(base_url: str, request: Request, captured: Mapping[str, Any]) -> PreparedRequest:
    """The request with captured values in their places, encoded below `base_url`; no credentials yet.

    Raises:
        CaseError: it must not be sent (a line break or NUL where it would end a line, no absolute path, …).
    """
    method = request.method
    if method not in _COMMON and (not method or _NOT_TOKEN.search(method) or not method.isascii()):
        raise CaseError(f"method {method!r} is not a token")
    path = request.path
    if "{" in path:
        _refuse_path(path)
        url = base_url + escape_target(fill_text(path, captured, _quoted))
    else:
        url = base_url + _fixed_target(path)
    if request.query:
        url = add_query(url, [(fill_text(n, captured), fill_text(v, captured)) for n, v in request.query])
    headers = request.headers
    if headers:
        headers = tuple([(name, fill_text(value, captured)) for name, value in headers])
    if request.cookies:
        headers = (*headers, ("Cookie", "; ".join(f"{n}={fill_text(v, captured)}" for n, v in request.cookies)))
    body: bytes | None = None
    media_type = ""
    if request.body is not None:
        body, media_type = _encode(request.body, captured)
        if method == "HEAD":
            raise CaseError("HEAD with a body: its answer could not be told from a hanging one")
    elif method in _BODY_EXPECTED:
        body = b""
    whole, isolated = _whole_head(headers, media_type, base_url)
    return PreparedRequest(method=method, url=url, headers=whole, body=body, isolated=isolated)


def _refuse_path(path: str) -> None:
    """Raises CaseError for a path that must not be sent."""
    if not path.startswith("/"):
        raise CaseError(f"path {path[:80]!r} does not start with a slash")
    if _BREAKS_LINE.search(path):
        raise CaseError("path holds CR, LF or NUL")


@lru_cache(maxsize=1024)
def _fixed_target(path: str) -> str:
    """The request target of a path without placeholders; raises as `_refuse_path`."""
    _refuse_path(path)
    return escape_target(path)


@lru_cache(maxsize=1024)
def _whole_head(headers: Pairs, media_type: str, base_url: str) -> tuple[Pairs, bool]:
    """The headers with those that every request has, and whether one touches the framing.

    Raises:
        CaseError: one must not be sent.
    """
    for name, value in headers:
        if name.lower() == "host" and not _same_host(value, base_url):
            raise CaseError("header Host names another host than the target")
    names = {name.lower() for name, _ in headers}
    usual = (("Content-Type", media_type), ("Accept", "*/*"), ("User-Agent", USER_AGENT))
    whole = (*headers, *((name, value) for name, value in usual if value and name.lower() not in names))
    for name, value in whole:
        refuse_header(name, value)
    return whole, not names.isdisjoint(_FRAMING)


def refuse_header(name: str, value: str) -> None:
    """Raises CaseError for a header that would break the header block."""
    if not name or _NOT_TOKEN.search(name) or not name.isascii():
        raise CaseError(f"header name {name[:80]!r} is not a token")
    if _BREAKS_LINE.search(value):
        raise CaseError(f"header {name}: the value holds CR, LF or NUL")


def _same_host(value: str, base_url: str) -> bool:
    base = origin(base_url)
    try:
        return origin(f"{base.scheme}://{value.strip()}") == base
    except TargetError:
        return not value.strip()


def add_query(url: str, pairs: Iterable[tuple[str, str]]) -> str:
    """`url` with the pairs appended, everything but unreserved characters percent-encoded."""
    query = "&".join(f"{_quoted(name)}={_quoted(value)}" for name, value in pairs)
    if not query:
        return url
    return f"{url}{'&' if '?' in url else '?'}{query}"


def sent_instead(operation: str, method: str, url: str, base_url: str) -> str:
    """What was sent in the operation's place: empty when method and URL are its own (`GET /pets/{id}`).

    Another method on the operation's path gives `PATCH /pets/{id}`, another path the path itself, without its query.
    """
    path = url[len(base_url) :].partition("?")[0]
    if operation == f"{method} {path}" and "." not in path:
        return ""
    own_method, _, template = operation.partition(" ")
    if not _template_pattern(template).fullmatch(path) or not _DOT_SEGMENT.isdisjoint(path.split("/")):
        return f"{method} {path[:_LONGEST_PATH]}"
    return "" if method == own_method else f"{method} {template}"


@lru_cache(maxsize=4096)
def _template_pattern(template: str) -> re.Pattern[str]:
    """What a path must match as a whole; the last parameter may take several segments where its name says so."""
    statics = re.split(r"(\{[^{}]*\})", template.partition("?")[0])
    greedy = re.search(r"\{[^{}]*([=:*+]|path)[^{}]*\}$", template) is not None
    parameter = "[^/?#]+"
    parts = [parameter if part.startswith("{") else re.escape(escape_target(part)) for part in statics]
    if greedy and len(parts) > 1:
        parts[-2] = "[^?#]+"
    return re.compile("".join(parts))


def with_values(request: Request, values: Mapping[str, Any]) -> Request:
    """The request with these captured values as texts of its own."""

    def filled(pairs: Pairs) -> Pairs:
        return tuple((fill_text(name, values), fill_text(value, values)) for name, value in pairs)

    body = request.body
    if isinstance(body, JsonBody):
        body = structs.replace(body, value=fill(body.value, values))
    elif isinstance(body, FormBody):
        body = structs.replace(body, fields=filled(body.fields))
    return structs.replace(
        request,
        path=fill_text(request.path, values, _quoted),
        query=filled(request.query),
        headers=tuple((name, fill_text(value, values)) for name, value in request.headers),
        cookies=tuple((name, fill_text(value, values)) for name, value in request.cookies),
        body=body,
    )


def placeholders(value: Any) -> set[str]:
    """The names in `{name}` anywhere in a struct's strings (a superset of what substitution looks at)."""
    try:
        text = msgspec.json.encode(value).decode()
    except UnicodeEncodeError:
        text = repr(value)
    return set(names(text))


def _quoted(text: str) -> str:
    return text if text.isascii() and text.isalnum() else quote(text.encode("utf-8", "surrogatepass"), safe="")


def _encode(
    body: JsonBody | TextBody | BytesBody | FormBody | MultipartBody, captured: Mapping[str, Any]
) -> tuple[bytes, str]:
    if isinstance(body, JsonBody):
        plain = encode(body.value)
        if b"{" in plain and any(f"{{{name}}}".encode("utf-8", "replace") in plain for name in captured):
            plain = encode(fill(body.value, captured))
        return plain, body.media_type
    if isinstance(body, TextBody):
        return body.text.encode("utf-8", "surrogatepass"), body.media_type
    if isinstance(body, BytesBody):
        return body.data, body.media_type
    if isinstance(body, FormBody):
        fields = [(fill_text(n, captured), fill_text(v, captured)) for n, v in body.fields]
        return urlencode(fields, encoding="utf-8", errors="surrogatepass").encode(), "application/x-www-form-urlencoded"
    return encode_multipart(body.parts)
