"""Parts of a case's requests as most formats write them."""

from __future__ import annotations

from urllib.parse import urlencode

import msgspec

from testops_lib.model import AnyBody, AnyCheck, BytesBody, Case, JsonBody, MultipartBody, Pairs, Request, TextBody


def body_text(body: AnyBody | None) -> tuple[str, str]:
    """The body as text (bytes that are no UTF-8 replaced) and its media type."""
    if body is None or isinstance(body, MultipartBody):
        return "", ""
    if isinstance(body, JsonBody):
        return msgspec.json.encode(body.value).decode(), body.media_type
    if isinstance(body, TextBody):
        return body.text, body.media_type
    if isinstance(body, BytesBody):
        return body.data.decode("utf-8", "replace"), body.media_type
    return urlencode(body.fields, safe="{}", errors="replace"), "application/x-www-form-urlencoded"


def names(pairs: Pairs) -> set[str]:
    """Names of headers, in lower case."""
    return {name.lower() for name, _ in pairs}


def with_media_type(headers: Pairs, media_type: str) -> Pairs:
    """The headers with a Content-Type, unless they have one or the body has no media type ("")."""
    if not media_type or "content-type" in names(headers):
        return headers
    return (*headers, ("Content-Type", media_type))


def cookie_header(request: Request) -> Pairs:
    """The header that sends the request's cookies; without cookies none."""
    if not request.cookies:
        return ()
    return (("Cookie", "; ".join(f"{name}={value}" for name, value in request.cookies)),)


def captured_names(case: Case) -> set[str]:
    """Names that stand for values in the case's requests."""
    return {capture.name for step in (*case.steps, *case.cleanup) for capture in step.captures} | {"unique"}


def check_name(check: AnyCheck) -> str:
    return str(type(check).__struct_config__.tag)
