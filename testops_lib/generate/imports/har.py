"""HAR recordings (a browser's or a proxy's): values that one answer gave and a later request used become captures."""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import Iterator, Sequence
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from testops_lib.generate.imports.calls import (
    MAX_CALLS,
    SECRETS_LEFT_OUT,
    Call,
    Imported,
    Router,
    body_of,
    documented,
    proposals,
    without_secrets,
)
from testops_lib.generate.rules.resources import json_path
from testops_lib.generate.rules.words import REFERRING, words

_MOST_VALUES = 300
"""Of one answer."""


def read(entries: Sequence[Any], router: Router) -> Imported:
    """Proposals for the recorded requests; what calls no operation of the document is noted, not proposed."""
    calls: list[Call] = []
    seen: dict[str, tuple[int, str]] = {}
    foreign: dict[str, int] = {}
    broken = secrets = 0
    for entry in entries[:MAX_CALLS]:
        try:
            made = _call(entry["request"], entry.get("response") or {}, router)
        except (KeyError, TypeError, AttributeError, ValueError):
            broken += 1
            continue
        if isinstance(made, str):
            foreign[made] = foreign.get(made, 0) + 1
            continue
        call, answer = made
        _link(call, calls, seen)
        secrets += without_secrets(call, router.credentials)
        for path, value in _scalars(answer):
            first = seen.get(str(value))
            if first is None or (call.operation.method == "POST" and calls[first[0]].operation.method != "POST"):
                seen[str(value)] = (len(calls), path)  # the call that created a thing wins over one that showed it
        calls.append(call)
    notes = [f"{count} × {what}: no operation of the document" for what, count in foreign.items()]
    notes += [f"{broken} entries could not be read"] if broken else []
    notes += [SECRETS_LEFT_OUT.format(secrets)] if secrets else []
    notes += [f"only the first {MAX_CALLS} of {len(entries)} entries"] if len(entries) > MAX_CALLS else []
    return Imported(form="har", proposals=tuple(proposals(calls)), notes=tuple(notes))


def _call(request: Any, response: Any, router: Router) -> tuple[Call, Any] | str:
    """The call and its JSON answer; a text: the method and path that no operation documents."""
    method, url = str(request["method"]).upper(), str(request["url"])
    route = router.route(method, url)
    if route is None:
        return f"{method[:20]} {urlsplit(url).path[:100]}"
    operation, path = route
    status = int(response.get("status") or 0)
    post = request.get("postData") or {}
    media_type = str(post.get("mimeType") or "")
    form = [(str(pair["name"]), str(pair.get("value", ""))) for pair in post.get("params") or ()]
    headers = [(str(pair["name"]), str(pair["value"])) for pair in request.get("headers") or ()]
    cookies = [(str(pair["name"]), str(pair["value"])) for pair in request.get("cookies") or ()]
    plain = media_type.split(";", 1)[0].strip().lower()
    if plain == "application/x-www-form-urlencoded" and not form:
        form = parse_qsl(str(post.get("text") or ""), keep_blank_values=True)
    call = Call(
        name=f"{operation.key}: recorded",
        operation=operation,
        path=path,
        query=documented(operation, "query", parse_qsl(urlsplit(url).query, keep_blank_values=True)),
        headers=documented(operation, "header", headers),
        cookies=documented(operation, "cookie", cookies),
        media_type=media_type if plain != "multipart/form-data" else plain,
        body=body_of(media_type, str(post.get("text") or ""), form),
        expect=[{"kind": "status", "statuses": [status], "basis": "guess"}] if 200 <= status < 500 else [],
        succeeded=200 <= status < 400,
    )
    return call, _answer(response) if call.succeeded else None


def _answer(response: Any) -> Any:
    content = response.get("content") or {}
    text = str(content.get("text") or "")
    try:
        if content.get("encoding") == "base64":
            text = base64.b64decode(text, validate=True).decode("utf-8", "replace")
        return json.loads(text)
    except (ValueError, binascii.Error, RecursionError):
        return None


def _scalars(document: Any) -> Iterator[tuple[str, str | int]]:
    """JSONPath and value of the texts and whole numbers that may identify a resource."""
    waiting: list[tuple[list[str | int], Any]] = [([], document)]
    count = 0
    for place, value in waiting:
        if count > _MOST_VALUES or len(place) > 8:
            return
        count += 1
        if isinstance(value, dict):
            waiting += [([*place, str(name)], item) for name, item in value.items()]
        elif isinstance(value, list):
            waiting += [([*place, index], item) for index, item in enumerate(value[:20])]
        elif isinstance(value, str | int) and not isinstance(value, bool) and place and 0 < len(str(value)) <= 100:
            yield json_path(place), value


def _link(call: Call, calls: list[Call], seen: dict[str, tuple[int, str]]) -> None:
    """Replaces values that occurred in earlier answers by captures of those answers."""

    def captured(value: str, about: str) -> str:
        if value not in seen:
            return value
        index, path = seen[value]
        producer = calls[index]
        capture = next((name for name, where in producer.captures.items() if where == path), "")
        if not capture:
            stem = "_".join(words(about)) or "value"
            taken = {name for other in calls for name in other.captures}
            capture, number = re.sub(r"\W", "", f"{stem}"), 2
            while capture in taken or capture == "unique":
                capture, number = f"{stem}_{number}", number + 1
            producer.captures[capture] = path
        return "{" + capture + "}"

    call.path = {name: captured(value, name) for name, value in call.path.items()}
    call.query = [(name, captured(value, name) if _refers(name) else value) for name, value in call.query]
    text = call.body.get("body_json")
    if isinstance(text, str):
        try:
            call.body = {"body_json": _replaced(json.loads(text), captured)}
        except (ValueError, RecursionError):
            call.body = {"body_text": text}


def _replaced(value: Any, captured: Any, name: str = "") -> Any:
    if isinstance(value, dict):
        return {key: _replaced(item, captured, str(key)) for key, item in value.items()}
    if isinstance(value, list):
        return [_replaced(item, captured, name) for item in value]
    if _refers(name) and isinstance(value, str | int) and not isinstance(value, bool):
        reference = captured(str(value), name)
        return value if reference == str(value) else reference
    return value


def _refers(name: str) -> bool:
    parts = words(name)
    return bool(parts) and parts[-1] in REFERRING
