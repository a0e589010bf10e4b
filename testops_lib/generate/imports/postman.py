"""Postman collections, format v2.1: requests in order, variables, usual lines of test scripts (read, never run)."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
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
from testops_lib.redact import sensitive

_VARIABLE = re.compile(r"\{\{\s*(\$?[A-Za-z_][\w .-]{0,79}?)\s*\}\}")
"""Postman sends any other text in double braces unchanged (`{{7*7}}`, a probe for template injection)."""
_STATUS = re.compile(r"(?:to\.have\.status|response\.code\)\s*\.to\.(?:eql|equals?|be\.equal))\(\s*(\d{3})\s*\)")
_ONE_OF = re.compile(r"response\.code\)\s*\.to\.be\.oneOf\(\s*\[([\d,\s]+)\]")
_SET = re.compile(
    r"(?:collectionVariables|environment|globals|variables)\.set\(\s*[\"']([\w-]{1,60})[\"']\s*,\s*([\w.$\[\]()\"']{1,200}?)\s*\)\s*;?"
)
_DOCUMENT = re.compile(r"(?:const|let|var)\s+(\w+)\s*=\s*(?:pm\.response\.json\(\)|JSON\.parse\(\s*responseBody\s*\))")
_WALK = re.compile(r"\.(\w+)|\[(\d+)\]|\[[\"']([^\"'\]]+)[\"']\]")
_MAX_DEPTH = 20


def read(collection: Mapping[str, Any], router: Router, values: Mapping[str, Sequence[Any]]) -> Imported:
    """Proposals for the collection's requests; `values` win over the collection's own variables."""
    notes: list[str] = []
    variables = _variables(collection)
    variables |= {name: str(choices[0]) for name, choices in values.items() if choices}
    calls: list[Call] = []
    captured: dict[str, str] = {}
    secrets = 0
    for item, label in _requests(collection["item"]):
        if len(calls) == MAX_CALLS:
            notes.append(f"only the first {MAX_CALLS} requests")
            break
        try:
            made = _call(item, label, router, variables, captured)
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            made = f"cannot be read ({type(error).__name__})"
        if isinstance(made, str):
            notes.append(f"{label[:80]}: {made}")
            continue
        secrets += without_secrets(made, router.credentials)
        calls.append(made)
        captured |= {name: f"{{{name}}}" for name in made.captures}
    notes += [SECRETS_LEFT_OUT.format(secrets)] if secrets else []
    return Imported(form="postman", proposals=tuple(proposals(calls)), notes=tuple(notes))


def _variables(collection: Mapping[str, Any]) -> dict[str, str]:
    listed = collection.get("variable")
    return {
        str(variable.get("key") or variable.get("id")): str(variable.get("value", ""))
        for variable in (listed if isinstance(listed, list) else ())
        if isinstance(variable, dict)
    }


def _requests(items: Any, label: str = "", depth: int = 0) -> Iterator[tuple[dict[str, Any], str]]:
    for item in items if isinstance(items, list) and depth < _MAX_DEPTH else ():
        if not isinstance(item, dict):
            continue
        name = f"{label} / {item.get('name', '')}".strip(" /")
        if "item" in item:
            yield from _requests(item["item"], name, depth + 1)
        elif "request" in item:
            yield item, name


def _call(
    item: dict[str, Any], label: str, router: Router, variables: Mapping[str, str], captured: Mapping[str, str]
) -> Call | str:
    """The call; a text: why the request is left out."""
    request = item["request"]
    if isinstance(request, str):
        request = {"method": "GET", "url": request}
    missing: set[str] = set()

    def fill(text: Any) -> str:
        def value(match: re.Match[str]) -> str:
            name = match[1]
            if name in captured:
                return captured[name]
            if name in variables and variables[name] != "":
                return variables[name]
            if name.startswith("$") or name == "unique":  # `{{$guid}}`: a fresh value for each execution
                return "{unique}"
            missing.add(name)
            return match[0]

        return _VARIABLE.sub(value, str(text))

    url = request["url"]
    raw = str(url.get("raw") or _raw(url)) if isinstance(url, dict) else str(url)
    raw = re.sub(r"^\{\{[^{}]+\}\}", "http://base", raw)  # the base, whatever the variable says
    of_path = {
        str(parameter.get("key")): fill(parameter.get("value", ""))
        for parameter in (url.get("variable") if isinstance(url, dict) else None) or ()
    }
    whole, _, query = raw.partition("?")
    parts = [of_path.get(part[1:], part) if part.startswith(":") else fill(part) for part in whole.split("/")]
    method = str(request.get("method") or "GET").upper()
    route = router.route(method, "/".join(parts))
    if route is None:
        return f"no operation of the document is {method[:20]} {urlsplit('/'.join(parts)).path[:100]}"
    operation, path = route
    headers = [
        (str(header["key"]), fill(header.get("value", "")))
        for header in _enabled(request.get("header"))
        if not sensitive(str(header["key"]))
    ]
    pairs = [(name, fill(value)) for name, value in parse_qsl(query, keep_blank_values=True)]
    media_type, body = _body(request.get("body") or {}, headers, fill)
    if missing:
        return f"the variable {sorted(missing)[0]!r} has no value: give one by `values`"
    script = _script(item)
    statuses = [int(status) for status in _STATUS.findall(script)]
    for listed in _ONE_OF.findall(script):
        statuses += [int(status) for status in re.findall(r"\d{3}", listed)]
    expect = [{"kind": "status", "statuses": statuses, "basis": "guess"}] if statuses else []
    return Call(
        name=label or operation.key,
        operation=operation,
        path=path,
        query=documented(operation, "query", pairs),
        headers=documented(operation, "header", headers),
        media_type=media_type,
        body=body,
        expect=expect,
        captures=_captures(script),
        succeeded=not statuses or all(200 <= status < 400 for status in statuses),
    )


def _raw(url: Mapping[str, Any]) -> str:
    host, path = url.get("host") or "", url.get("path") or ""
    text = ".".join(host) if isinstance(host, list) else str(host)
    text += "/" + ("/".join(map(str, path)) if isinstance(path, list) else str(path))
    pairs = [f"{pair.get('key')}={pair.get('value', '')}" for pair in _enabled(url.get("query"))]
    return text + ("?" + "&".join(pairs) if pairs else "")


def _enabled(listed: Any) -> list[dict[str, Any]]:
    entries = listed if isinstance(listed, list) else ()
    return [entry for entry in entries if isinstance(entry, dict) and not entry.get("disabled") and entry.get("key")]


def _body(body: Mapping[str, Any], headers: list[tuple[str, str]], fill: Any) -> tuple[str, dict[str, Any]]:
    media_type = next((value for name, value in headers if name.lower() == "content-type"), "")
    mode = body.get("mode")
    if mode == "urlencoded":
        form = [(str(field["key"]), fill(field.get("value", ""))) for field in _enabled(body.get("urlencoded"))]
        return "application/x-www-form-urlencoded", body_of("", "", form)
    if mode == "formdata":
        form = [
            (str(field["key"]), fill(field.get("value", "")))
            for field in _enabled(body.get("formdata"))
            if field.get("type", "text") == "text"
        ]
        return "multipart/form-data", body_of("", "", form)
    text = str(body.get("raw") or "")
    language = ((body.get("options") or {}).get("raw") or {}).get("language", "")
    if not media_type and (language == "json" or text.lstrip()[:1] in ("{", "[")):
        media_type = "application/json"
    # A placeholder that stands for a number or an object is not quoted; as a text of its own it takes any type.
    text = re.sub(r"(?<=[:\[,])(\s*)(\{\{[^{}]+\}\})(?=\s*[,}\]])", r'\1"\2"', text)
    return media_type, body_of(media_type, fill(text), ())


def _own_captures(script: str) -> dict[str, str]:
    """Those of a script that our own export wrote: they stand in its first line, as JSON."""
    head = script.partition("\n")[0]
    if not head.startswith("const STEP = "):
        return {}
    step = json.loads(head.removeprefix("const STEP = ").rstrip(";"))
    return {str(capture["name"]): json_path(capture["places"]) for capture in step["captures"] if capture.get("places")}


def _script(item: Mapping[str, Any]) -> str:
    lines: list[str] = []
    for event in item.get("event") or ():
        if isinstance(event, dict) and event.get("listen") == "test":
            said = (event.get("script") or {}).get("exec") or ()
            lines += [said] if isinstance(said, str) else map(str, said)
    return "\n".join(lines)[:100_000]


def _captures(script: str) -> dict[str, str]:
    """Variables that the script takes out of the JSON body by a plain walk: `pm.environment.set("id", data.id)`."""
    documents = {"pm.response.json()", *_DOCUMENT.findall(script)}
    captures = _own_captures(script)
    for variable, expression in _SET.findall(script):
        expression = expression + ")" if expression.count("(") > expression.count(")") else expression
        head = next((name for name in sorted(documents, key=len, reverse=True) if expression.startswith(name)), None)
        rest = expression[len(head) :] if head is not None else "?"
        parts = [member or quoted or int(index) for member, index, quoted in _WALK.findall(rest)]
        if "".join(part.group() for part in _WALK.finditer(rest)) == rest and parts:
            captures[re.sub(r"\W", "_", variable)] = json_path(parts)
    return captures
