"""Why a server failed, as far as the body of its answer says so: equal reasons are one defect, wherever they show."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from testops_lib.http.answer import Answer, media_type
from testops_lib.http.body import decode
from testops_lib.model import FormBody, JsonBody, Request, TextBody
from testops_lib.verdict.documented import is_json

_MOST_READ = 65_536
"""Bytes of the body that are read."""

_LONGEST_REASON = 160
"""Characters."""

_LEAST_ECHO = 3
"""Characters of a sent value that is recognised inside the reason."""

_LEAST_WORDS = 2
"""Words beyond the usual ones that a reason must have to tell causes apart."""

_WORD = re.compile(r"[^\W\d_]{3,}")
_SHORT_QUOTED = re.compile(r"""(?<!\w)(["'`]).{0,2}\1(?!\w)""")
_ERROR_MEMBERS = ("detail", "message", "error_description", "error", "errors", "msg", "title", "reason")
_USUAL_WORDS = frozenset(
    "internal server error errors exception failure failed unexpected unknown unhandled occurred something went wrong "
    "bad gateway service unavailable temporarily timeout the was has have been your our this that please try again "
    "later contact support administrator request response could not cannot processed process processing while with for "
    "and oops sorry http status code null none problem encountered condition prevented from fulfilling about "
    "blank".split()
)


def error_reason(answer: Answer, sent: Iterable[str]) -> str:
    """The first line of an error's text without what the request sent, or "" when it says nothing particular."""
    body = answer.body[:_MOST_READ]
    media = media_type(answer.headers)
    if is_json(media):
        texts = list(_error_texts(decode(body), 0))
    elif media in ("text/plain", ""):
        texts = [body.decode("utf-8", "replace")]
    else:
        return ""
    echoes = sorted(sent, key=len, reverse=True)
    for text in texts:
        line = next((line.strip() for line in text.splitlines() if line.strip()), "")[:_LONGEST_REASON]
        for value in echoes:
            if len(value) >= _LEAST_ECHO and value.casefold() not in _USUAL_WORDS:
                line = line.replace(value, "*")
        line = _SHORT_QUOTED.sub("'*'", line)
        if len(set(_WORD.findall(line.casefold())) - _USUAL_WORDS) >= _LEAST_WORDS:
            return line
    return ""


def sent_values(request: Request) -> Iterable[str]:
    """The texts that a request sends as values, anywhere."""
    yield from request.path.split("/")
    for _, value in (*request.query, *request.headers, *request.cookies):
        yield value
    match request.body:
        case JsonBody(value=document):
            yield from _leaf_texts(document)
        case FormBody(fields=fields):
            yield from (value for _, value in fields)
        case TextBody(text=text):
            yield text


def _error_texts(document: Any, depth: int) -> Iterable[str]:
    """The texts of an error document that usually say what is wrong, the most telling first (RFC 9457, section 3.1)."""
    if isinstance(document, str):
        yield document
    elif isinstance(document, list) and depth < 3:
        for item in document[:1]:
            yield from _error_texts(item, depth + 1)
    elif isinstance(document, dict) and depth < 3:
        for name in _ERROR_MEMBERS:
            if name in document:
                yield from _error_texts(document[name], depth + 1)


def _leaf_texts(value: Any) -> Iterable[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list | tuple):
        for item in value.values() if isinstance(value, dict) else value:
            yield from _leaf_texts(item)
