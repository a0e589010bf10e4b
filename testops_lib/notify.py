"""Tells people how a run ended: one log record, one webhook call."""

from __future__ import annotations

import hashlib
import hmac
import logging
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import urlsplit

import msgspec

from testops_lib.http.session import open_session, reason
from testops_lib.model import Finding, Report, Value
from testops_lib.text import plural

if TYPE_CHECKING:
    import requests

_log = logging.getLogger("testops.notify")

SIGNATURE_HEADER = "X-TestOps-Signature"
"""Of a webhook with a secret: `sha256=` and the hex HMAC-SHA256 of the body's bytes."""

NEXT_SIGNATURE_HEADER = "X-TestOps-Signature-Next"
"""The same with the secret to come, so that the receiver may change its own at any moment in between."""

_UNUSABLE = "the webhook's URL is not usable"
_MOST_FINDINGS = 5
_MOST_REASONS = 3


class Message(Value, frozen=True, kw_only=True):
    """What a webhook receives as JSON. Chat systems need `text` alone. The target's answers enter
    `new_findings[].message` and nothing else.
    """

    text: str
    verdict: str
    """`passed`, `failed`, or `none` when the run came to no verdict."""
    target: str
    run: str
    totals: dict[str, Any]
    reasons: tuple[str, ...] = ()
    new_findings: tuple[dict[str, Any], ...] = ()
    """fingerprint, operation, operations (how many show it), check, severity, count, advisory, message; the most severe
    first, at most 50."""
    url: str = ""


class NotifyResult(Value, frozen=True, kw_only=True):
    """How a notification ended."""

    sent: bool
    attempts: int
    status: int = 0
    """HTTP status of the last answer; 0: none."""
    error: str = ""
    """Why it was not sent; without the URL, since URLs of webhooks are secrets."""


def summary(report: Report, ui_url: str = "") -> str:
    """A few lines for a chat or a log: the verdict, the new findings, a link.

    They hold nothing from the target's answers, so that no answer can mention people or forge a line.
    """
    new = [finding for finding in report.findings if finding.state == "new"]
    known = sum(finding.state == "known" for finding in report.findings)
    fixed = sum(finding.state == "fixed" for finding in report.findings)
    results = report.totals.results
    counts = ", ".join(f"{results.get(name, 0)} {name}" for name in ("passed", "failed", "errored", "skipped"))
    lines = [f"{_verdict(report).upper()}: {_plain(report.title or report.target)}, run {_plain(report.run)}"]
    lines.append(f"{plural(report.totals.cases, 'case')}: {counts}")
    lines.append(f"Findings: {len(new)} new, {known} known, {fixed} fixed")
    lines += [f"- {_finding(finding)}" for finding in new[:_MOST_FINDINGS]]
    if len(new) > _MOST_FINDINGS:
        lines.append(f"- and {len(new) - _MOST_FINDINGS} more new findings")
    failed = sorted({generation.source for generation in report.generation if generation.failed})
    lines += [f"No new cases from {_plain(source)}: it failed" for source in failed]
    reasons = report.gate.reasons if report.gate else ()
    lines += [f"Gate: {_plain(reason)}" for reason in reasons[:_MOST_REASONS]]
    if ui_url:
        lines.append(ui_url)
    return "\n".join(lines)


def message(report: Report, ui_url: str = "") -> Message:
    """The webhook's document."""
    new = [finding for finding in report.findings if finding.state == "new"][:50]
    return Message(
        text=summary(report, ui_url),
        verdict=_verdict(report),
        target=report.target,
        run=report.run,
        url=ui_url,
        totals=cast(dict[str, Any], msgspec.to_builtins(report.totals)),
        reasons=report.gate.reasons if report.gate else (),
        new_findings=tuple(
            {
                "fingerprint": finding.fingerprint,
                "operation": finding.operation,
                "operations": len(finding.operations) or 1,
                "check": finding.check,
                "severity": finding.severity,
                "count": finding.count,
                "advisory": finding.advisory,
                "message": _plain(finding.message),
            }
            for finding in new
        ),
    )


def log(document: Message) -> NotifyResult:
    """Writes the message's text to the log `testops.notify`: a warning unless the gate passed."""
    _log.log(logging.INFO if document.verdict == "passed" else logging.WARNING, "%s", document.text)
    return NotifyResult(sent=True, attempts=1)


def unfinished(target: str, run: str, ui_url: str = "", *, reasons: Sequence[str] = ()) -> Message:
    """The message about a run that ended without a verdict, with the reasons."""
    lines = [f"NOT FINISHED: {_plain(target)}, run {_plain(run)}"]
    lines += [_plain(reason) for reason in reasons[:_MOST_REASONS]] or ["The run ended without a verdict."]
    return Message(
        text="\n".join([*lines, *filter(None, [ui_url])]),
        verdict="none",
        target=target,
        run=run,
        totals={},
        reasons=tuple(reasons),
        url=ui_url,
    )


def webhook(
    url: str,
    document: Message,
    *,
    secret: str = "",
    next_secret: str = "",
    timeout_s: float = 10,
    attempts: int = 3,
    pause_s: float = 1,
) -> NotifyResult:
    """POSTs the message as JSON; a failure is part of the result and raises nothing.

    5xx, 429 and broken connections are tried again, `attempts` times in all, after a pause of `pause_s` that doubles up
    to 30 s. Redirects are not followed.
    """
    host = _host(url)
    if not host:
        return NotifyResult(sent=False, attempts=0, error="the webhook's URL must begin with http:// or https://")
    body = msgspec.json.encode(document)
    headers = {"Content-Type": "application/json", "User-Agent": "ai-testops"}
    for name, key in ((SIGNATURE_HEADER, secret), (NEXT_SIGNATURE_HEADER, next_secret)):
        if key:
            headers[name] = "sha256=" + hmac.new(key.encode(), body, hashlib.sha256).hexdigest()
    with open_session(host=host) as session:
        session.headers.clear()
        session.headers.update(headers)
        attempt = 1
        while _is_worth_repeating(result := _post(session, url, body, timeout_s, attempt)) and attempt < attempts:
            time.sleep(min(pause_s * 2 ** (attempt - 1), 30))
            attempt += 1
    if not result.sent:
        _log.warning("webhook not sent after %d attempts: %s", result.attempts, result.error)
    return result


def _host(url: str) -> str:
    """The host of an http(s) URL; "" for anything else."""
    try:
        parts = urlsplit(url)
    except ValueError:  # a broken IPv6 address
        return ""
    return parts.hostname or "" if parts.scheme in ("http", "https") else ""


def _post(session: requests.Session, url: str, body: bytes, timeout_s: float, attempt: int) -> NotifyResult:
    import requests

    try:
        # Streamed: what the webhook answers is not read.
        with session.post(url, data=body, timeout=timeout_s, allow_redirects=False, stream=True) as answer:
            status = answer.status_code
    except ValueError:  # requests cannot use the URL; the error's text may hold it
        return NotifyResult(sent=False, attempts=attempt, error=_UNUSABLE)
    except requests.ConnectionError as error:
        return NotifyResult(sent=False, attempts=attempt, error=f"no connection: {reason(error)}")
    except requests.RequestException as error:
        return NotifyResult(sent=False, attempts=attempt, error=f"no answer: {reason(error)}")
    if 200 <= status < 300:
        return NotifyResult(sent=True, attempts=attempt, status=status)
    return NotifyResult(sent=False, attempts=attempt, status=status, error=f"answered {status}")


def _is_worth_repeating(result: NotifyResult) -> bool:
    if result.sent or result.error == _UNUSABLE:
        return False
    return result.status in (0, 429) or result.status >= 500


def _verdict(report: Report) -> str:
    return "none" if report.gate is None else "passed" if report.gate.passed else "failed"


def _finding(finding: Finding) -> str:
    cases = f"{finding.count} case{'' if finding.count == 1 else 's'}"
    notes = f"{finding.severity}, {cases}" + (", advisory" if finding.advisory else "")
    others = len(finding.operations.keys() - {finding.operation})
    place = _plain(finding.sent or finding.operation) + (f" and {others} more" if others else "")
    return f"{place}: {_plain(finding.check)} ({notes})"


def _plain(text: str) -> str:
    """One line without characters that chats or terminals act on."""
    line = " ".join("".join(char if char.isprintable() else " " for char in text[:400]).split())
    for char, harmless in (("<", "‹"), (">", "›"), ("@", "@\u2060"), ("`", "'")):  # noqa: RUF001
        line = line.replace(char, harmless)
    return line[:200]
