"""When two failures are the same finding: one key from check and cause, and from the operation unless all share it."""

from __future__ import annotations

import hashlib
import re

from testops_lib.model import Failure

_LONGEST = 2_000
"""Characters of a message that are looked at."""

_ROUNDS = 6
"""One fold can make room for another (a number before a quote); two rounds do for real messages."""

_HTTP_STATUS = re.compile(r"(?i)\b(status(?: code)?|answered|answers|http|code|returned|got)([ :=]+)([1-5]\d\d)\b")
_KEPT = "\ue000{}\ue001"
_LETTERS = str.maketrans("0123456789", "\ue010\ue011\ue012\ue013\ue014\ue015\ue016\ue017\ue018\ue019")
_DIGITS = str.maketrans("\ue010\ue011\ue012\ue013\ue014\ue015\ue016\ue017\ue018\ue019", "0123456789")
_PRIVATE = re.compile("[\ue000\ue001\ue010-\ue019]")

_QUOTES: tuple[tuple[re.Pattern[str], str], ...] = (
    (re.compile(r'"(?:[^"\\]|\\.)*"'), '"*"'),
    (re.compile(r"(?<![^\W_])'(?:[^'\\]|\\.)*'(?![^\W_])"), "'*'"),
    (re.compile(r"`[^`]*`"), "`*`"),
)

_FOLDS: tuple[tuple[re.Pattern[str], str], ...] = (
    (re.compile(r"\s+"), " "),
    (re.compile(r"\b([a-zA-Z][a-zA-Z0-9+.-]{0,30})://[^\s/'\"`<>)\]}]+"), r"\1://*"),
    *_QUOTES,
    (re.compile(r"(?i)\b[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}\b"), "#"),
    (re.compile(r"\b\d{4}-\d\d-\d\d(?:[T ]\d\d:\d\d(?::\d\d(?:\.\d+)?)?(?:Z|[+-]\d\d:?\d\d)?)?"), "#"),
    (re.compile(r"\b\d{1,2}:\d\d(?::\d\d(?:\.\d+)?)?\b"), "#"),
    (re.compile(r"\b\d{1,3}(?:\.\d{1,3}){3}(?::\d+)?\b"), "*"),
    (re.compile(r"(?i)\b(?:localhost|(?:[a-z0-9](?:[a-z0-9-]{0,62})\.){1,8}[a-z]{2,24}):\d{1,5}\b"), "*"),
    (re.compile(r"(?i)\b(?=[a-f]*\d)(?=\d*[a-f])[0-9a-f]{8,}\b"), "#"),
    (re.compile(r"\[\d+\]"), "[]"),
    (re.compile(r"[-+]?\d+(?:[.,]\d+)*(?:[eE][-+]?\d+)?"), "#"),
    (re.compile(r"#(?:[-.,:_ ]?#)+"), "#"),
)


_UNQUOTED_FOLDS = tuple(fold for fold in _FOLDS if fold not in _QUOTES)


def fingerprint(operation: str, check: str, cause: str) -> str:
    """16 hex digits that name a finding across attempts and runs: equal parts, equal fingerprint."""
    return hashlib.sha256(b"\0".join(_bytes(part) for part in (operation, check, cause))).hexdigest()[:16]


def fingerprint_of(failure: Failure) -> str:
    """The fingerprint of the finding that a failure shows."""
    return fingerprint(*parts_of(failure))


def parts_of(failure: Failure) -> tuple[str, str, str]:
    """Operation, check and cause: what a finding's fingerprint is made of.

    The operation is "" where the cause is shared by operations, and for server errors to requests that no operation
    offers (another method, say). It is so however many operations show it: a finding keeps its fingerprint when
    operations come and go.
    """
    shared = failure.shared or (failure.sent and failure.check == "not_a_server_error")
    return "" if shared else failure.operation, failure.check, cause_of(failure)


def cause_of(failure: Failure) -> str:
    """The part of a fingerprint that tells the failures of one operation and check apart.

    Without a cause of its own it is the normalised message. What another request than the operation's own was answered
    (another method, say) has another cause than the operation.
    """
    cause = failure.cause or normalise(failure.message)
    return f"{cause} (another request)" if failure.sent else cause


def normalise(message: str, *, quoted: bool = True) -> str:
    """A message without what varies between attempts: ids, numbers, times, hosts, quoted values, list indexes.

    An HTTP status after a word such as `status` or `answered` stays: it tells causes apart. Normalising twice
    changes nothing. At most 300 characters. `quoted`: fold quoted values, too.
    """
    text = message[:_LONGEST]
    for _ in range(_ROUNDS):
        before, text = text, _folded(text, quoted)
        if text == before:
            break
    return text


def _folded(text: str, quoted: bool) -> str:
    text = _PRIVATE.sub("", text)
    text = _HTTP_STATUS.sub(lambda m: m[1] + m[2] + _KEPT.format(m[3].translate(_LETTERS)), text)
    for pattern, replacement in _FOLDS if quoted else _UNQUOTED_FOLDS:
        text = pattern.sub(replacement, text)
    text = text.replace("\ue000", "").replace("\ue001", "").translate(_DIGITS)
    return text.strip()[:300].rstrip()


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")
