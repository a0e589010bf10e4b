"""Tell people how a run ended: one log record, one webhook call."""

from __future__ import annotations

import hashlib
import hmac
import logging
from collections.abc import Sequence
from typing import Any, cast
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit
from urllib.request import HTTPRedirectHandler, OpenerDirector, Request, build_opener

import msgspec

from testops_lib.model import Finding, Report, Value
from testops_lib.text import plural

_log = logging.getLogger("testops.notify")

SIGNATURE_HEADER = "X-TestOps-Signature"
"""Of a webhook with a secret: `sha256=` and the hex HMAC-SHA256 of the body's bytes."""

_MOST_FINDINGS = 5
_MOST_REASONS = 3


class Message(Value, frozen=True, kw_only=True):
    """What a webhook receives as JSON. `text` alone suffices for chat systems; none of it was said by the target,
    except `new_findings[].message`.
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
    """Why it was not sent; holds no URL, since webhook URLs are secrets."""


def summary(report: Report, ui_url: str = "") -> str:
    """A few lines for a chat or a log: verdict, new findings first, where to read on.

    They hold nothing that the target answered, so that no answer can mention people or forge a line.
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
    failed = sorted({one.source for one in report.generation if one.failed})
    lines += [f"No new cases from {_plain(source)}: it could not work" for source in failed]
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
                "fingerprint": one.fingerprint,
                "operation": one.operation,
                "operations": len(one.operations) or 1,
                "check": one.check,
                "severity": one.severity,
                "count": one.count,
                "advisory": one.advisory,
                "message": _plain(one.message),
            }
            for one in new
        ),
    )


def log(told: Message) -> NotifyResult:
    """Write the message's text to the log `testops.notify`: a warning unless the gate passed."""
    _log.log(logging.INFO if told.verdict == "passed" else logging.WARNING, "%s", told.text)
    return NotifyResult(sent=True, attempts=1)


def unfinished(target: str, run: str, ui_url: str = "", *, reasons: Sequence[str] = ()) -> Message:
    """The document of a run that came to no verdict, with the reasons."""
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
    url: str, told: Message, *, secret: str = "", timeout_s: float = 10, attempts: int = 3, pause_s: float = 1
) -> NotifyResult:
    """POST the message as JSON; every failure is told in the result, none is raised.

    5xx, 429 and broken connections are tried again, `attempts` times in all, after a pause of `pause_s` that doubles.
    Redirects are not followed.
    """
    import tenacity

    if not _is_http(url):
        return NotifyResult(sent=False, attempts=0, error="the webhook's URL must begin with http:// or https://")
    body = msgspec.json.encode(told)
    headers = {"Content-Type": "application/json", "User-Agent": "ai-testops"}
    if secret:
        headers[SIGNATURE_HEADER] = "sha256=" + hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()
    result = NotifyResult(sent=False, attempts=0)
    retrying = tenacity.Retrying(
        stop=tenacity.stop_after_attempt(max(1, attempts)),
        wait=tenacity.wait_exponential(multiplier=pause_s, max=30),
        retry=tenacity.retry_if_result(_worth_another),
        retry_error_callback=lambda state: state.outcome.result() if state.outcome else result,
    )
    tried = 0

    def attempt() -> NotifyResult:
        nonlocal tried
        tried += 1
        return _post(Request(url, data=body, headers=headers, method="POST"), timeout_s, tried)

    try:
        result = retrying(attempt)
    except ValueError:  # a URL that urllib cannot use; its text may hold the URL
        result = NotifyResult(sent=False, attempts=tried, error="the webhook's URL is not usable")
    if not result.sent:
        _log.warning("webhook not sent after %d attempts: %s", result.attempts, result.error)
    return result


def _is_http(url: str) -> bool:
    try:
        return urlsplit(url).scheme in ("http", "https")
    except ValueError:  # a broken IPv6 address
        return False


class _NoRedirect(HTTPRedirectHandler):
    def redirect_request(self, *args: Any, **kwargs: Any) -> None:
        return None


def _opener() -> OpenerDirector:
    return build_opener(_NoRedirect)


def _post(request: Request, timeout_s: float, attempt: int) -> NotifyResult:
    from http.client import HTTPException

    try:
        with _opener().open(request, timeout=timeout_s) as answer:
            return NotifyResult(sent=True, attempts=attempt, status=answer.status)
    except HTTPError as error:
        with error:
            return NotifyResult(sent=False, attempts=attempt, status=error.code, error=f"answered {error.code}")
    except URLError as error:
        return NotifyResult(sent=False, attempts=attempt, error=f"no connection: {_kind(error.reason)}")
    except (OSError, HTTPException) as error:
        return NotifyResult(sent=False, attempts=attempt, error=f"no answer: {_kind(error)}")


def _kind(error: object) -> str:
    """What went wrong, by the operating system's words or the error's name."""
    text = getattr(error, "strerror", None)
    return str(text) if text else type(error).__name__


def _worth_another(result: NotifyResult) -> bool:
    return not result.sent and (result.status == 0 or result.status == 429 or result.status >= 500)


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
