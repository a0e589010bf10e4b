"""pytest source of a case, for reading and debugging; our engine never runs it."""

from __future__ import annotations

import re

from testops_lib.export.request import check_name, with_media_type
from testops_lib.export.statuses import accepted_statuses, bounds
from testops_lib.export.text import HIDDEN, comment
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
    JsonBody,
    JsonPathIs,
    MaxResponseTime,
    MultipartBody,
    Step,
    TextBody,
)

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
        return re.sub(r"\\{{(\\w+)\\}}", lambda m: text(m[0], values) if m[1] in values else m[0], value)
    if isinstance(value, dict):
        return {{key: fill(item, values) for key, item in value.items()}}
    if isinstance(value, (list, tuple)):
        return [fill(item, values) for item in value]
    return value


def text(value, values):
    filled = fill(value, values)
    return filled if isinstance(filled, str) else json.dumps(filled, separators=(",", ":"))


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
        title=_docstring(case.name),
        case=_docstring(case.id),
        base_url=_literal(base_url.rstrip("/")),
        no_credentials=_literal(NO_CREDENTIALS),
        invalid_credentials=_literal(INVALID_CREDENTIALS),
        imports="import jsonpath_rfc9535\n" if uses_paths else "",
        needs=" and jsonpath-rfc9535" if uses_paths else "",
    )
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
    return HIDDEN.sub("?", text.replace("\n", " ").replace('"', "'").replace("\\", "?"))[:200]


def _literal(value: object) -> str:
    return ascii(value)


def _step_source(step: Step, *, judged: bool) -> list[str]:
    request = step.request
    lines = [f"# {comment(step.operation)}"]
    lines += [
        "response = requests.request(",
        f"    {_literal(request.method)},",
        f"    BASE_URL + in_path({_literal(request.path)}, values),",
    ]
    if request.query:
        lines.append(f"    params=[(name, text(value, values)) for name, value in {_literal(list(request.query))}],")
    body, media_type = _body_source(request.body)
    headers = dict(with_media_type(request.headers, media_type))
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
    note = f"  # {check_name(check)}, basis: {check.basis}"
    if (accepted := accepted_statuses(check)) is not None:
        inside = " and ".join(f"response.status_code {sign} {status}" for sign, status in bounds(accepted))
        also = f"response.status_code in {_literal(list(accepted.also))}" if accepted.also else ""
        return [f"assert {' or '.join(filter(None, (inside, also)))}{note}"]
    match check:
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
    return [f"# not asserted here, needs the API description: {check_name(check)}"]


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
