"""Evidence as an HTTP Archive (HAR 1.2), for browsers' tools and proxies."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import msgspec

from testops_lib.model import Pairs, RequestEvidence, ResponseEvidence, Result, StepOutcome

VERSION = "1.2"
_LONG_AGO = datetime.fromtimestamp(0, UTC)


def har(results: Iterable[Result]) -> bytes:
    """JSON of every exchange that the results hold evidence of, in their order: what was redacted or cut stays so.

    Results keep evidence of cases that did not pass. A page is a case; an entry's comment names its operation.
    """
    pages: list[dict[str, Any]] = []
    entries: list[dict[str, Any]] = []
    for result in results:
        shown = [step for step in result.steps if step.request is not None]
        if not shown:
            continue
        started = (result.started or _LONG_AGO).isoformat()
        page = f"{result.run}/{result.case}/{result.attempt}"
        title = f"{result.verdict}: {result.case_name or result.case}"
        pages.append({"startedDateTime": started, "id": page, "title": title, "pageTimings": {}})
        entries += [_entry(step, page, started) for step in shown]
    creator = {"name": "AI TestOps", "version": "0.1.0"}
    log = {"version": VERSION, "creator": creator, "pages": pages, "entries": entries}
    return msgspec.json.encode({"log": log})


def _entry(step: StepOutcome, page: str, started: str) -> dict[str, Any]:
    assert step.request is not None
    return {
        "pageref": page,
        "startedDateTime": started,
        "time": step.elapsed_ms,
        "request": _request(step.request),
        "response": _response(step.response, step.error),
        "cache": {},
        "timings": {"send": 0, "wait": step.elapsed_ms, "receive": 0},
        "comment": step.operation,
    }


def _request(sent: RequestEvidence) -> dict[str, Any]:
    media_type = next((value for name, value in sent.headers if name.lower() == "content-type"), "")
    made: dict[str, Any] = {
        "method": sent.method,
        "url": sent.url,
        "httpVersion": "HTTP/1.1",
        "cookies": [],
        "headers": _pairs(sent.headers),
        "queryString": _pairs(tuple(parse_qsl(urlsplit(sent.url).query, keep_blank_values=True))),
        "headersSize": -1,
        "bodySize": sent.body_bytes,
    }
    if sent.body:
        made["postData"] = {"mimeType": media_type, "text": sent.body}
    return made


def _response(answer: ResponseEvidence | None, error: str) -> dict[str, Any]:
    """HAR says of a response that never came: status 0, and why as a comment."""
    headers = answer.headers if answer else ()
    media_type = next((value for name, value in headers if name.lower() == "content-type"), "")
    content = {
        "size": answer.body_bytes if answer else 0,
        "mimeType": media_type,
        "text": answer.body if answer else "",
    }
    return {
        "status": answer.status if answer else 0,
        "statusText": "",
        "httpVersion": "HTTP/1.1",
        "cookies": [],
        "headers": _pairs(headers),
        "content": content,
        "redirectURL": next((value for name, value in headers if name.lower() == "location"), ""),
        "headersSize": -1,
        "bodySize": answer.body_bytes if answer else -1,
        "comment": error,
    }


def _pairs(pairs: Pairs) -> list[dict[str, str]]:
    return [{"name": name, "value": value} for name, value in pairs]
