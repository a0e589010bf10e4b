"""Cases and evidence in others' forms, for reading and debugging; nothing here is ever executed by us."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable
from urllib.parse import quote, urlencode

import msgspec

from testops_lib.model import (
    INVALID_CREDENTIALS,
    NO_CREDENTIALS,
    AnyBody,
    AnyCheck,
    BytesBody,
    Capture,
    Case,
    FormBody,
    HeaderIs,
    IgnoredAuth,
    JsonBody,
    JsonPathIs,
    MaxResponseTime,
    MultipartBody,
    NegativeDataRejection,
    NotAServerError,
    Pairs,
    PositiveDataAcceptance,
    RequestEvidence,
    StatusIs,
    Step,
    TextBody,
    UnsupportedMethod,
    UseAfterFree,
)

_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
"""A header's or method's name (RFC 9110, section 5.6.2). curl would read a file for a header that starts with `@`."""

_HIDDEN = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2066-\u2069\ufeff\ud800-\udfff]")

_CURL_MAKES = {"content-length", "accept-encoding", "transfer-encoding"}


def curl(evidence: RequestEvidence) -> str:
    """One line of shell that sends the request again: every value is quoted, redacted ones stay redacted.

    Line feeds, control and direction characters are written as bash's `$'\\xHH'`, so that the line is safe to print. A
    body that was cut in the evidence is cut here too. NUL cannot be an argument and is left out.
    """
    return _curl(evidence.method, evidence.url, evidence.headers, evidence.body)


def curl_case(case: Case, base_url: str) -> str:
    """A shell script of curl lines, one a step, cleanup last; captured values stand as `{name}` for the reader."""
    lines = [f"# {_comment(case.name)}"]
    steps = [*enumerate(case.steps, 1), *enumerate(case.cleanup, len(case.steps) + 1)]
    for number, step in steps:
        notes = ["cleanup"] if number > len(case.steps) else []
        notes += [f"as {step.identity}"] if step.identity else []
        notes += [f"keeps {{{capture.name}}} from {capture.path or capture.source}" for capture in step.captures]
        lines.append(f"# {number}. {_comment('; '.join([step.operation, *notes]))}")
        lines.append(_curl_step(step, base_url))
    return "\n".join(lines) + "\n"


def _curl_step(step: Step, base_url: str) -> str:
    request = step.request
    url = base_url.rstrip("/") + request.path
    if request.query:
        url += "?" + urlencode(request.query, quote_via=quote, safe="{}", errors="replace")
    headers = list(request.headers)
    if request.cookies:
        headers.append(("Cookie", "; ".join(f"{name}={value}" for name, value in request.cookies)))
    if isinstance(request.body, MultipartBody):
        extra = []
        for part in request.body.parts:
            value = _quoted(f"{part.name}={part.data.decode('utf-8', 'replace')}")
            extra.append(f"--form-string {value}")
        return _curl(request.method, url, tuple(headers), "", extra)
    text, media_type = _body_text(request.body)
    if media_type and not any(name.lower() == "content-type" for name, _ in headers):
        headers.append(("Content-Type", media_type))
    return _curl(request.method, url, tuple(headers), text)


def _body_text(body: AnyBody | None) -> tuple[str, str]:
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


def _curl(method: str, url: str, headers: Pairs, body: str, extra: Iterable[str] = ()) -> str:
    words = ["curl", "-i"]
    if method == "HEAD" and not body:
        words.append("--head")
    elif method != "GET" or body:
        words += ["-X", _quoted(method)]
    if re.search(r"[\[\]{}]", url):
        words.append("--globoff")
    if re.search(r"/\.\.?(?:/|$|\?|#)", url):
        words.append("--path-as-is")
    words += ["--url", _quoted(url)]
    shown = [(name, value) for name, value in headers if name.lower() not in _CURL_MAKES and _TOKEN.fullmatch(name)]
    for name, value in shown:
        words += ["-H", _quoted(f"{name}: {value}" if value.strip() else f"{name};")]
    if body:
        if not any(name.lower() == "content-type" for name, _ in shown):
            words += ["-H", _quoted("Content-Type:")]  # else curl adds its own
        words += ["--data-raw", _quoted(body)]
    return " ".join([*words, *extra])


def _quoted(text: str) -> str:
    text = text.replace("\0", "")
    if not _HIDDEN.search(text) and "\n" not in text:
        return shlex.quote(text)
    out = []
    for char in text:
        if char in "'\\":
            out.append("\\" + char)
        elif char == "\n":
            out.append("\\n")
        elif _HIDDEN.match(char):
            out.extend(f"\\x{byte:02x}" for byte in char.encode("utf-8", "surrogatepass"))
        else:
            out.append(char)
    return "$'" + "".join(out) + "'"


def _comment(text: str) -> str:
    """Text fit for one comment line of a shell script or of Python source."""
    return _HIDDEN.sub(lambda m: f"\\u{ord(m[0]):04x}", text.replace("\n", " "))[:300]


# --------------------------------------------------------------------------- pytest


_HEAD = '''\
"""{title}

Written from case {case}. Needs pytest, requests{needs}. Credentials: the environment variable API_HEADERS holds a
JSON object of header names and values (API_HEADERS_<IDENTITY> for another identity than the default).
"""

import json
import os
import re
import uuid

{imports}import requests

BASE_URL = os.environ.get("BASE_URL", {base_url})


def credentials(identity):
    if identity == {no_credentials}:
        return {{}}
    if identity == {invalid_credentials}:
        return {{"Authorization": "Bearer invalid"}}
    name = "API_HEADERS" + ("_" + identity.upper() if identity else "")
    return json.loads(os.environ.get(name, "{{}}"))


def fill(value, values):
    """Put captured values in the place of {{name}}; a string that is exactly {{name}} takes the value's own type."""
    if isinstance(value, str):
        whole = re.fullmatch(r"\\{{(\\w+)\\}}", value)
        if whole and whole[1] in values:
            return values[whole[1]]
        return re.sub(r"\\{{(\\w+)\\}}", lambda m: str(values.get(m[1], m[0])), value)
    if isinstance(value, dict):
        return {{key: fill(item, values) for key, item in value.items()}}
    if isinstance(value, (list, tuple)):
        return [fill(item, values) for item in value]
    return value


def text(value, values):
    filled = fill(value, values)
    return filled if isinstance(filled, str) else json.dumps(filled)


def in_path(value, values):
    return re.sub(
        r"\\{{(\\w+)\\}}",
        lambda m: requests.utils.quote(str(values[m[1]]), safe="") if m[1] in values else m[0],
        value,
    )
'''

_SELECT = """

def select(path, document):
    return [node.value for node in jsonpath_rfc9535.find(path, document)]
"""


def pytest_source(case: Case, base_url: str) -> str:
    """Python source of one pytest test that does what the case does, with `requests`.

    Checks that need the API description (schemas, documented statuses) stand as comments. Every string of the case is
    written by `repr`, so that none can become code. Our engine never runs this text.
    """
    steps = [*case.steps, *case.cleanup]
    uses_paths = any(
        any(capture.source == "body" for capture in step.captures)
        or any(isinstance(check, JsonPathIs) for check in step.checks)
        for step in steps
    )
    head = _HEAD.format(
        title=_docstring(case.name), case=_docstring(case.id), base_url=_literal(base_url.rstrip("/")),
        no_credentials=_literal(NO_CREDENTIALS), invalid_credentials=_literal(INVALID_CREDENTIALS),
        imports="import jsonpath_rfc9535\n" if uses_paths else "",
        needs=" and jsonpath-rfc9535" if uses_paths else "",
    )  # fmt: skip
    lines = [head + (_SELECT if uses_paths else ""), "", f"def {_function_name(case)}():"]
    lines.append('    values = {"unique": uuid.uuid4().hex[:12]}')
    for step in case.steps:
        lines += [""] + [f"    {line}" for line in _step_source(step, judged=True)]
    for step in case.cleanup:
        body = [f"        {line}" for line in _step_source(step, judged=False)]
        lines += ["", "    try:  # cleanup", *body, "    except Exception as error:", "        print(error)"]
    return "\n".join(lines) + "\n"


def _function_name(case: Case) -> str:
    words = re.sub(r"[^0-9a-z]+", "_", f"{case.operation} {case.id[:8]}".lower()).strip("_")
    return f"test_{words or 'case'}"


def _docstring(text: str) -> str:
    """Text that cannot leave a triple-quoted string: on one line, no backslash, no double quote."""
    return _HIDDEN.sub("?", text.replace("\n", " ").replace('"', "'").replace("\\", "?"))[:200]


def _literal(value: object) -> str:
    return ascii(value)


def _step_source(step: Step, *, judged: bool) -> list[str]:
    request = step.request
    lines = [f"# {_comment(step.operation)}"]
    lines += [
        "response = requests.request(",
        f"    {_literal(request.method)},",
        f"    BASE_URL + in_path({_literal(request.path)}, values),",
    ]
    if request.query:
        lines.append(f"    params=[(name, text(value, values)) for name, value in {_literal(list(request.query))}],")
    headers = dict(request.headers)
    body, media_type = _body_source(request.body)
    if media_type and not any(name.lower() == "content-type" for name in headers):
        headers["Content-Type"] = media_type
    filled = f"{{name: text(value, values) for name, value in {_literal(headers)}.items()}}"
    lines.append(f"    headers={{**credentials({_literal(step.identity)}), **{filled}}},")
    if request.cookies:
        cookies = _literal(dict(request.cookies))
        lines.append(f"    cookies={{name: text(value, values) for name, value in {cookies}.items()}},")
    if body:
        lines.append(f"    {body},")
    lines += ["    timeout=30,", "    allow_redirects=False,", ")"]
    if judged and step.setup:
        lines.append("assert 200 <= response.status_code < 300, 'the preparation of the case failed'")
    if judged:
        for check in step.checks:
            lines += _check_source(check)
    for capture in step.captures:
        lines += _capture_source(capture)
    return lines


def _body_source(body: AnyBody | None) -> tuple[str, str]:
    """The keyword argument that sends the body, and the media type to name."""
    match body:
        case JsonBody():
            return f"data=json.dumps(fill({_literal(body.value)}, values)).encode()", body.media_type
        case TextBody():
            return f"data={_literal(body.text)}.encode('utf-8', 'replace')", body.media_type
        case BytesBody():
            return f"data={_literal(body.data)}", body.media_type
        case FormBody():
            pairs = _literal(list(body.fields))
            return f"data=[(name, text(value, values)) for name, value in {pairs}]", "application/x-www-form-urlencoded"
        case MultipartBody():
            parts = [(part.name, (part.filename or None, part.data, part.media_type or None)) for part in body.parts]
            return f"files={_literal(parts)}", ""
    return "", ""


def _capture_source(capture: Capture) -> list[str]:
    name = _literal(capture.name)
    if capture.source == "status":
        return [f"values[{name}] = response.status_code"]
    if capture.source == "header":
        got = f"response.headers.get({_literal(capture.path)})"
        return [f"values[{name}] = {got}"] + ([] if capture.optional else [f"assert values[{name}] is not None"])
    lines = [f"found = select({_literal(capture.path)}, response.json())"]
    if not capture.optional:
        lines.append(f"assert found, {_literal('nothing at ' + capture.path)}")
    return [*lines, "if found:", f"    values[{name}] = found[0]"]


def _check_source(check: AnyCheck) -> list[str]:
    """Asserts of one check, or a comment when it needs the API description."""
    note = f"  # {type(check).__struct_config__.tag}, basis: {check.basis}"
    match check:
        case NotAServerError():
            return [f"assert response.status_code < 500{note}"]
        case NegativeDataRejection() | IgnoredAuth() | UseAfterFree():
            return [f"assert not 200 <= response.status_code < 300{note}"]
        case UnsupportedMethod():
            return [f"assert 300 <= response.status_code < 500{note}"]
        case PositiveDataAcceptance():
            also = _literal(list(check.also))
            return [f"assert 200 <= response.status_code < 400 or response.status_code in {also}{note}"]
        case StatusIs():
            return [f"assert response.status_code in {_literal(list(check.any_of))}{note}"]
        case MaxResponseTime():
            return [f"assert response.elapsed.total_seconds() * 1000 <= {check.limit_ms}{note}"]
        case HeaderIs():
            lines = [f"assert {_literal(check.name)} in response.headers{note}"]
            if check.equals is not None:
                got = f"response.headers[{_literal(check.name)}]"
                lines.append(f"assert {got} == text({_literal(check.equals)}, values)")
            return lines
        case JsonPathIs():
            return [f"found = select({_literal(check.path)}, response.json()){note}", _jsonpath_source(check)]
    return [f"# not asserted here, needs the API description: {type(check).__struct_config__.tag}"]


def _jsonpath_source(check: JsonPathIs) -> str:
    value = f"fill({_literal(check.value)}, values)"
    return {
        "exists": "assert found",
        "absent": "assert not found",
        "equals": f"assert found == [{value}]",
        "contains": f"assert {value} in found",
        "excludes": f"assert {value} not in found",
        "max_items": f"assert len(found) <= {value}",
        "min_items": f"assert len(found) >= {value}",
    }[check.op]
