"""A case as a Hurl file (https://hurl.dev): requests, captures and asserts in plain text."""

from __future__ import annotations

import base64
import re
from typing import Any
from urllib.parse import quote

import msgspec

from testops_lib.export.request import body_text, captured_names, check_name, with_media_type
from testops_lib.export.request import names as header_names
from testops_lib.export.statuses import accepted_statuses, bounds
from testops_lib.export.text import HIDDEN, PLACEHOLDER, TOKEN, comment
from testops_lib.http.multipart import encode_multipart
from testops_lib.model import (
    INVALID_CREDENTIALS,
    NO_CREDENTIALS,
    AnyBody,
    AnyCheck,
    Capture,
    Case,
    FormBody,
    HeaderIs,
    JsonBody,
    JsonPathIs,
    MaxResponseTime,
    MultipartBody,
    Part,
    Step,
    TextBody,
)

_METHOD = re.compile(r"[A-Z]{1,20}")
_NAME = re.compile(r"[A-Za-z][\w-]*", re.ASCII)
_KEY = re.compile(r"[A-Za-z0-9_.\[\]-]+")


def hurl(case: Case) -> str:
    """The case as one Hurl file; `base_url`, `unique` and, where credentials are sent, `authorization` are variables:

        hurl --variable base_url=http://127.0.0.1:8000 --variable unique=$RANDOM --variable authorization='Bearer …' F

    Checks that need the API description stand as comments. Cleanup steps come last, without asserts; Hurl leaves them
    out when an assert before them failed.
    """
    variables = {name for name in captured_names(case) if _NAME.fullmatch(name)}
    parts = [f"# {comment(case.name)}"]
    for step in case.steps:
        parts.append(_entry(step, variables, judged=True))
    for step in case.cleanup:
        parts.append("# cleanup\n" + _entry(step, variables, judged=False))
    return "\n\n".join(parts) + "\n"


def _entry(step: Step, variables: set[str], *, judged: bool) -> str:
    request = step.request
    lines = [f"# {comment(step.operation)}"]
    if not _METHOD.fullmatch(request.method):
        return "\n".join([*lines, f"# not written: the method {comment(request.method)!r} is none of Hurl's"])
    url = "{{base_url}}" + _url_text(request.path, variables)
    if request.query:
        url += "?" + "&".join(
            f"{_url_part(name, variables)}={_url_part(value, variables)}" for name, value in request.query
        )
    lines.append(f"{request.method} {url}")
    body, media_type = _body(request.body, variables)
    headers = with_media_type(tuple(pair for pair in request.headers if TOKEN.fullmatch(pair[0])), media_type)
    if step.identity != NO_CREDENTIALS and "authorization" not in header_names(headers):
        credentials = "Bearer invalid" if step.identity == INVALID_CREDENTIALS else "{{authorization}}"
        lines.append(f"Authorization: {credentials}")
    lines += [f"{name}: {_value(value, variables)}" for name, value in headers]
    if request.cookies:
        lines.append(
            "Cookie: " + "; ".join(f"{_value(n, variables)}={_value(v, variables)}" for n, v in request.cookies)
        )
    lines += body
    lines.append("HTTP *")
    captures = [line for capture in step.captures if (line := _capture(capture))]
    if captures:
        lines += ["[Captures]", *captures]
    asserts, notes = _asserts(step, variables) if judged else ([], [])
    if asserts:
        lines += ["[Asserts]", *asserts]
    return "\n".join([*lines, *notes])


def _value(text: str, variables: set[str]) -> str:
    """Hurl's value-string: `#`, `\\`, braces and what does not print are escaped, placeholders become templates."""
    return _filled(text, variables, lambda plain: "".join(map(_escaped, plain)))


def _escaped(char: str) -> str:
    if char in "#\\{}" or char in "\n\r" or HIDDEN.match(char):
        return f"\\u{{{ord(char):x}}}" if not 0xD800 <= ord(char) < 0xE000 else "?"
    return char


def _filled(text: str, variables: set[str], write: Any) -> str:
    out, at = [], 0
    for match in PLACEHOLDER.finditer(text):
        if match[1] in variables:
            out += [write(text[at : match.start()]), "{{" + match[1] + "}}"]
            at = match.end()
    return "".join([*out, write(text[at:])])


def _url_text(path: str, variables: set[str]) -> str:
    return _filled(path, variables, lambda plain: quote(plain, safe="/%:@!$&'()*+,;=~-._"))


def _url_part(text: str, variables: set[str]) -> str:
    return _filled(text, variables, lambda plain: quote(plain, safe="", errors="replace"))


def _body(body: AnyBody | None, variables: set[str]) -> tuple[list[str], str]:
    """Lines of the body, and its media type."""
    match body:
        case None:
            return [], ""
        case JsonBody():
            text = msgspec.json.encode(body.value).decode()
            if not any(match[1] in variables for match in PLACEHOLDER.finditer(text)):
                return [_exact(text.encode())], body.media_type
            return [_json(body.value, variables)], body.media_type
        case FormBody() if all(_KEY.fullmatch(name) for name, _ in body.fields):
            return ["[Form]", *(f"{name}: {_value(value, variables)}" for name, value in body.fields)], ""
        case FormBody():  # Hurl has no words for such variables
            return [_exact(body_text(body)[0].encode())], "application/x-www-form-urlencoded"
        case MultipartBody() if any(part.filename or part.media_type or _is_binary(part) for part in body.parts):
            data, media_type = encode_multipart(body.parts)  # Hurl takes files from the disk alone
            return [_exact(data)], media_type
        case MultipartBody():
            lines = [
                f"{_key(part.name, variables)}: {_value(part.data.decode('utf-8', 'replace'), variables)}"
                for part in body.parts
            ]
            return ["[Multipart]", *lines], ""
    text, media_type = body_text(body)
    data = text.encode("utf-8", "replace") if isinstance(body, TextBody) else body.data
    return [_exact(data)], media_type


def _is_binary(part: Part) -> bool:
    try:
        part.data.decode()
    except UnicodeDecodeError:
        return True
    return False


def _key(name: str, variables: set[str]) -> str:
    return _value(name, variables).replace(":", "\\u{3a}").replace(" ", "\\u{20}") or "\\u{20}"


def _exact(data: bytes) -> str:
    return f"base64,{base64.b64encode(data).decode()};"


def _json(value: Any, variables: set[str]) -> str:
    """JSON text in which a string that is just a placeholder becomes the captured value with its own type."""
    if isinstance(value, dict):
        return (
            "{"
            + ", ".join(f"{_json_text(str(key), set())}: {_json(item, variables)}" for key, item in value.items())
            + "}"
        )
    if isinstance(value, list | tuple):
        return "[" + ", ".join(_json(item, variables) for item in value) + "]"
    if isinstance(value, str):
        whole = PLACEHOLDER.fullmatch(value)
        if whole and whole[1] in variables and whole[1] != "unique":
            return "{{" + whole[1] + "}}"
        return _json_text(value, variables)
    return msgspec.json.encode(value).decode()


def _json_text(text: str, variables: set[str]) -> str:
    def write(plain: str) -> str:
        return msgspec.json.encode(plain.encode("utf-8", "replace").decode()).decode()[1:-1].replace("{", "\\u007b")

    return '"' + _filled(text, variables, write) + '"'


def _capture(capture: Capture) -> str:
    if not _NAME.fullmatch(capture.name):
        return ""
    match capture.source:
        case "status":
            return f"{capture.name}: status"
        case "header":
            return f"{capture.name}: header {_quoted(capture.path)}"
    return f"{capture.name}: jsonpath {_quoted(capture.path)}" + ("" if not capture.optional else " nth 0")


def _quoted(text: str) -> str:
    """Hurl's quoted-string."""
    return '"' + "".join('\\"' if char == '"' else _escaped(char) for char in text) + '"'


def _literal(value: Any, variables: set[str]) -> str | None:
    """A predicate's value; None: Hurl cannot express it."""
    if isinstance(value, str):
        whole = PLACEHOLDER.fullmatch(value)
        if whole and whole[1] in variables:
            return "{{" + whole[1] + "}}"
        return '"' + _filled(value, variables, lambda plain: _quoted(plain)[1:-1]) + '"'
    if value is None or isinstance(value, bool | int | float):
        return msgspec.json.encode(value).decode()
    return None


def _asserts(step: Step, variables: set[str]) -> tuple[list[str], list[str]]:
    """Asserts, and comments for the checks that Hurl cannot express."""
    lines = ["status >= 200", "status < 300"] if step.setup else []
    notes: list[str] = []
    for check in step.checks:
        asserts = _assert(check, variables)
        if asserts is None:
            notes.append(f"# not asserted here: {check_name(check)}")
        else:
            lines += asserts
    return lines, notes


def _assert(check: AnyCheck, variables: set[str]) -> list[str] | None:
    if (accepted := accepted_statuses(check)) is not None:
        if not accepted.also:
            return [f"status {sign} {status}" for sign, status in bounds(accepted)]
        hundreds = "".join(str(digit) for digit in range(max(2, accepted.lowest // 100), accepted.below // 100))
        patterns = [*([f"[{hundreds}].."] if hundreds else []), *map(str, accepted.also)]
        return [f"status toString matches /^({'|'.join(patterns)})$/"]
    match check:
        case MaxResponseTime(limit_ms=limit):
            return [f"duration <= {limit}"]
        case HeaderIs(name=name, equals=None):
            return [f"header {_quoted(name)} exists"]
        case HeaderIs(name=name, equals=equals):
            wanted_text = _literal(str(equals), variables)
            return [f"header {_quoted(name)} == {wanted_text}"]
        case JsonPathIs(path=path, op=op, value=value):
            query, literal = f"jsonpath {_quoted(path)}", _literal(value, variables)
            match op:
                case "exists":
                    return [f"{query} exists"]
                case "absent":
                    return [f"{query} not exists"]
                case "equals" if literal is not None:
                    return [f"{query} == {literal}"]
                case "min_items" | "max_items" if isinstance(value, int):
                    return [f"{query} count {'>=' if op == 'min_items' else '<='} {value}"]
    return None
