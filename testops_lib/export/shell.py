"""curl commands for a recorded request and for the steps of a case."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable
from urllib.parse import quote, urlencode

from testops_lib.export.request import body_text, cookie_header, names, with_media_type
from testops_lib.export.text import HIDDEN, TOKEN, comment
from testops_lib.model import (
    Case,
    MultipartBody,
    Pairs,
    Part,
    RequestEvidence,
    Step,
)

PLACEHOLDER = "[redacted]"
"""As the redactor writes it."""

_VARIABLE = re.compile(r'"\$([A-Z_][A-Z0-9_]*)"')
_RESERVED = {"PATH", "HOME", "PWD", "IFS", "USER"}
_CURL_MAKES = {"content-length", "accept-encoding", "transfer-encoding"}
# A header that starts with `@` would make curl read a file: names that are no tokens are left out.


def curl(evidence: RequestEvidence) -> str:
    """One line of shell that sends the request again: every value is quoted, redacted ones are variables that the line
    sets first. What the runner alone says of itself is left out.

    Line feeds, control and direction characters are written as bash's `$'\\xHH'`, so that the line is safe to print. A
    body that was cut in the evidence is cut here too. NUL cannot be an argument and is left out.
    """
    headers = tuple(pair for pair in evidence.headers if not _is_noise(*pair))
    line = _curl(evidence.method, evidence.url, headers, evidence.body)
    sets = "".join(f"{name}='…'; " for name in dict.fromkeys(_VARIABLE.findall(line)))
    return f"{sets}{line}"


def _is_noise(name: str, value: str) -> bool:
    """Headers that curl sends anyway, or that only say who asks."""
    return (name.lower(), value) == ("accept", "*/*") or (
        name.lower() == "user-agent" and value.startswith("ai-testops/")
    )


def curl_case(case: Case, base_url: str) -> str:
    """A shell script of curl lines, one a step, cleanup last; captured values stand as `{name}` for the reader."""
    lines = [f"# {comment(case.name)}"]
    steps = [*enumerate(case.steps, 1), *enumerate(case.cleanup, len(case.steps) + 1)]
    for number, step in steps:
        notes = ["cleanup"] if number > len(case.steps) else []
        notes += [f"as {step.identity}"] if step.identity else []
        notes += [f"keeps {{{capture.name}}} from {capture.path or capture.source}" for capture in step.captures]
        lines.append(f"# {number}. {comment('; '.join([step.operation, *notes]))}")
        lines.append(_curl_step(step, base_url))
    return "\n".join(lines) + "\n"


def _curl_step(step: Step, base_url: str) -> str:
    request = step.request
    url = base_url.rstrip("/") + request.path
    if request.query:
        url += "?" + urlencode(request.query, quote_via=quote, safe="{}", errors="replace")
    headers = (*request.headers, *cookie_header(request))
    if isinstance(request.body, MultipartBody):
        return _curl(request.method, url, headers, "", map(_form, request.body.parts))
    text, media_type = body_text(request.body)
    return _curl(request.method, url, with_media_type(headers, media_type), text)


def _form(part: Part) -> str:
    """Curl's option for one part. Bytes that are no UTF-8 are written as bash's `$'\\xHH'`; NUL is left out."""
    data = part.data.decode("utf-8", "surrogateescape")
    if not part.filename and not part.media_type:
        return f"--form-string {_quoted(f'{part.name}={data}')}"
    words = [f"{part.name}={_in_quotes(data)}"]
    if part.filename:
        words.append(f"filename={_in_quotes(part.filename)}")
    if part.media_type:
        words.append(f"type={part.media_type}")
    return f"-F {_quoted(';'.join(words))}"


def _in_quotes(text: str) -> str:
    """In double quotes, which keep curl from reading a file (`@`, `<`) and from ending the value at `;`."""
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _named(name: str, text: str) -> str:
    """One word; what was redacted is a variable named after where it stood."""
    variable = re.sub(r"[^A-Z0-9_]", "_", name.upper()).strip("_") or "SECRET"
    variable = "TOKEN" if f" {PLACEHOLDER}" in text.partition(": ")[2] else variable
    variable = f"V_{variable}" if variable[:1].isdigit() or variable in _RESERVED else variable
    return f'"${variable}"'.join(_quoted(part) if part else "" for part in text.split(PLACEHOLDER))


def _url(url: str) -> str:
    head, mark, query = url.partition("?")
    pairs = [_named(pair.partition("=")[0], pair) for pair in query.split("&")]
    return _named("secret", head) + (_quoted("?") + "\\&".join(pairs) if mark else "")


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
    words += ["--url", _url(url) if PLACEHOLDER in url else _quoted(url)]
    shown = tuple(pair for pair in headers if pair[0].lower() not in _CURL_MAKES and TOKEN.fullmatch(pair[0]))
    for name, value in shown:
        words += ["-H", _named(name, f"{name}: {value}" if value.strip() else f"{name};")]
    if body:
        if "content-type" not in names(shown):
            words += ["-H", _quoted("Content-Type:")]  # else curl adds its own
        words += ["--data-raw", _named("secret", body)]
    return " ".join([*words, *extra])


def _quoted(text: str) -> str:
    text = text.replace("\0", "")
    if not HIDDEN.search(text) and "\n" not in text:
        return shlex.quote(text)
    out = []
    for char in text:
        if char in "'\\":
            out.append("\\" + char)
        elif char == "\n":
            out.append("\\n")
        elif HIDDEN.match(char):
            errors = "surrogateescape" if "\udc80" <= char <= "\udcff" else "surrogatepass"
            out.extend(f"\\x{byte:02x}" for byte in char.encode("utf-8", errors))
        else:
            out.append(char)
    return "$'" + "".join(out) + "'"
