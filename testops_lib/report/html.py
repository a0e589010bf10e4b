"""The report as one HTML file: no request to anywhere, hostile text shown as text."""

from __future__ import annotations

import base64
import hashlib
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, get_args

import msgspec
from markupsafe import escape

from testops_lib.cost import in_words
from testops_lib.doubts import because
from testops_lib.model import (
    Finding,
    OperationReport,
    Pairs,
    Report,
    RequestEvidence,
    ResponseEvidence,
    Severity,
    StepOutcome,
    Value,
    VerdictName,
)
from testops_lib.report.text import (
    costs,
    duration,
    operations_of,
    proof,
    protection,
    quiet,
    seconds,
    shown_findings,
    title,
    transfers,
    verdict,
    where,
)
from testops_lib.text import one_line, plural, visible

if TYPE_CHECKING:
    from jinja2 import Template

_EVIDENCE_BUDGET = 600_000
"""Bytes of evidence in one page; findings further down point to the JSON report instead."""

_MOST_BODY = 6_000
_MOST_VALUE = 1_000
_MOST_FINDINGS = 300
_MOST_OPERATIONS = 1_000
_MOST_REASONS = 100
_MOST_SHOWN = 50
_VERDICT_ORDER: tuple[VerdictName, ...] = ("passed", "failed", "errored", "skipped")


class _Exchange(Value, frozen=True, kw_only=True):
    """One step's request and response as shown."""

    title: str
    failing: bool
    note: str
    request: str
    response: str
    response_note: str


class _Card(Value, frozen=True, kw_only=True):
    """One finding as shown."""

    number: int
    finding: Finding
    title: str
    message: str
    curl: str
    recipe: str
    exchanges: tuple[_Exchange, ...]
    left_out: bool
    operations: tuple[tuple[str, int], ...]
    """All that show it, when they are several; at most `_MOST_SHOWN`."""


class _Bar(Value, frozen=True, kw_only=True):
    """A piece of the bar of verdicts, in percent of its width."""

    name: str
    number: int
    start: float
    width: float


def render_html(report: Report) -> str:
    """The page: gate, totals, findings with their evidence, operations, errors, generation.

    Below 2 MB: long bodies are cut, when there is much evidence the last findings come without, and what exceeds 300
    findings or 1,000 operations is in the JSON report alone.
    """
    template, style_hash, script_hash = _template()
    taken = seconds(report)
    open_findings = shown_findings(report)
    cards = _cards(report)
    return template.render(
        report=report,
        totals=report.totals,
        verdict=verdict(report.gate),
        style_hash=style_hash,
        script_hash=script_hash,
        severities=sorted({finding.severity for finding in open_findings}, key=get_args(Severity).index),
        duration=duration(taken) if taken is not None else "",
        bars=_bars(report),
        to_look_at=len(open_findings),
        advisory=sum(finding.advisory for finding in open_findings),
        shown=[card for card in cards if card.finding.state in ("new", "known")],
        quiet=[card for card in cards if card.finding.state not in ("new", "known")],
        quiet_words=quiet(report),
        protection=protection(report),
        left_out=max(0, len(report.findings) - _MOST_FINDINGS),
        operations=_operations(report),
        operations_left_out=max(0, len(report.operations) - _MOST_OPERATIONS),
        errors=list(report.errors.items())[:_MOST_REASONS],
        costs=costs(report),
        transfers=transfers(report),
        with_cost=any(operation.cost for operation in report.operations.values()),
    )


@cache
def _template() -> tuple[Template, str, str]:
    """The page's template, and the source expressions that allow exactly its style and its script (CSP Level 3, section
    2.3.1).
    """
    from jinja2 import Environment, StrictUndefined

    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters.update(
        visible=visible, one_line=one_line, because=because, where=where, plural=plural, proof=proof, in_words=in_words
    )
    source = (Path(__file__).parent / "report.html").read_text(encoding="utf-8")
    return environment.from_string(source), _hash(source, "style"), _hash(source, "script")


def _hash(source: str, element: str) -> str:
    content = source.partition(f"<{element}>")[2].partition(f"</{element}>")[0]
    return f"sha256-{base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()}"


def _bars(report: Report) -> list[_Bar]:
    total = sum(report.totals.results.values())
    bars, start = [], 0.0
    for name in _VERDICT_ORDER:
        number = report.totals.results.get(name, 0)
        if number:
            width = 100 * number / total
            bars.append(_Bar(name=name, number=number, start=round(start, 3), width=round(width, 3)))
            start += width
    return bars


def _operations(report: Report) -> list[tuple[str, str, OperationReport, list[tuple[str, int, bool]], list[str]]]:
    """Method, path, report, statuses as (status, times, documented) and fingerprints, in the report's order."""
    findings: dict[str, list[str]] = {}
    for finding in shown_findings(report):
        for key in operations_of(finding):
            findings.setdefault(key, []).append(finding.fingerprint)
    rows = []
    for key, operation in list(report.operations.items())[:_MOST_OPERATIONS]:
        method, _, path = key.partition(" ")
        documented, statuses = operation.documented, operation.statuses
        seen = [(status, number, _documented(status, documented)) for status, number in statuses.items()]
        unseen = [(status, 0, True) for status in documented if not _seen(status, statuses)]
        rows.append((method, path, operation, seen + unseen, findings.get(key, [])))
    return rows


def _documented(status: str, documented: tuple[str, ...]) -> bool:
    return (
        status == "none"
        or not documented
        or status in documented
        or "default" in documented
        or any(entry.upper() == f"{status[0]}XX" for entry in documented)
    )


def _seen(documented: str, statuses: dict[str, int]) -> bool:
    if documented == "default":
        return True  # stands for whatever else comes
    if documented.upper().endswith("XX"):
        return any(status[0] == documented[0] for status in statuses)
    return documented in statuses


def _cards(report: Report) -> list[_Card]:
    budget = _EVIDENCE_BUDGET
    cards = []
    for number, finding in enumerate(report.findings[:_MOST_FINDINGS], 1):
        example = finding.example
        exchanges = tuple(
            _exchange(index, step, index == example.failing_step)
            for index, step in enumerate(example.steps)
            if step.request or step.response or step.error
        )
        operations = operations_of(finding)
        curl = visible(example.curl) if len(exchanges) < 2 or not example.recipe else ""
        recipe = visible(example.recipe)
        message = visible(finding.message[:2_000])
        evidence = (text for exchange in exchanges for text in (exchange.request, exchange.response))
        size = sum(map(_size, (message, curl, recipe, *evidence)))
        fits = size <= budget
        budget -= size if fits else 0
        cards.append(
            _Card(
                number=number,
                finding=finding,
                title=title(finding.check),
                message=message if fits else one_line(finding.message),
                curl=curl if fits else "",
                recipe=recipe if fits else "",
                exchanges=exchanges if fits else (),
                left_out=not fits,
                operations=tuple(operations.items())[:_MOST_SHOWN] if len(operations) > 1 else (),
            )
        )
    return cards


def _size(text: str) -> int:
    """Bytes of the text in the page, escaped."""
    return len(escape(text).encode())


def _exchange(index: int, step: StepOutcome, failing: bool) -> _Exchange:
    response = step.response
    notes = [f"{step.elapsed_ms:,.0f} ms"] if step.elapsed_ms else []
    if step.requests > 1:
        notes.append(f"{step.requests} requests")
    if step.streaming:
        notes.append("a stream, read for a moment")
    notes += [f"not judged: {one_line(reason)}" for reason in step.unjudged]
    return _Exchange(
        title=f"{index + 1}. {one_line(step.operation)}",
        failing=failing,
        note=", ".join(notes),
        request=_request(step.request) if step.request else "",
        response=_response(response) if response else visible(step.error or "no response"),
        response_note=f"{response.body_bytes:,} bytes, cut" if response and _cut(response) else "",
    )


def _cut(response: ResponseEvidence) -> bool:
    return response.truncated or len(response.body) > _MOST_BODY


def _request(request: RequestEvidence) -> str:
    return _message(f"{request.method} {request.url}", request.headers, request.body)


def _response(response: ResponseEvidence) -> str:
    return _message(str(response.status), response.headers, response.body)


def _message(first: str, headers: Pairs, body: str) -> str:
    lines = [one_line(first, _MOST_VALUE), *(one_line(f"{name}: {value}", _MOST_VALUE) for name, value in headers[:60])]
    text = "\n".join(lines)
    return f"{text}\n\n{visible(_readable(body)[:_MOST_BODY])}" if body else text


def _readable(body: str) -> str:
    """JSON with line breaks; anything else as it stands."""
    if len(body) <= _MOST_BODY and body.lstrip()[:1] in ("{", "["):
        try:
            return msgspec.json.format(body, indent=2)
        except (msgspec.DecodeError, UnicodeEncodeError, RecursionError):
            return body
    return body
