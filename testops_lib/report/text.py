"""Words that the formats share."""

from __future__ import annotations

from collections import Counter

from testops_lib.cost import in_words
from testops_lib.model import CONCURRENCY, Finding, GateReport, Report
from testops_lib.text import one_line, plural

TITLES: dict[str, str] = {
    "not_a_server_error": "Server error",
    "status_code_conformance": "Undocumented status",
    "content_type_conformance": "Undocumented content type",
    "response_headers_conformance": "Response header breaks the contract",
    "response_schema_conformance": "Response body breaks the schema",
    "negative_data_rejection": "Invalid data accepted",
    "positive_data_acceptance": "Valid data refused",
    "use_after_free": "Deleted resource still there",
    "ensure_resource_availability": "Created resource not found",
    "ignored_auth": "Credentials not required",
    "unsupported_method": "Unoffered method answered",
    "object_level_authorization": "Another user's resource reached",
    "idempotency": "The same request, another answer",
    "pagination_consistency": "Pages overlap",
    "filter_honoured": "Filter ignored",
    "method_agreement": "HEAD or OPTIONS disagrees with GET",
    "no_reflection": "Input reflected in a page",
    "max_response_time": "Too slow",
    "response_time_history": "Slower than it used to be",
    "status": "Unexpected status",
    "header": "Unexpected header",
    "jsonpath": "Unexpected value in the body",
    "differential": "Answers differently than before",
    "no_answer": "Connection broken without an answer",
    "content_encoding_conformance": "Body not encoded as announced",
    "endless_response": "Body without an end",
    "response_timeout": "Never answers in time",
    "concurrency": "Fails only while other cases run",
}
"""Check name -> what its failure says to people."""

_MOST_LEFT = 5
"""Operations on the line of what is left behind."""

_MOST_STREAMS = 5
_MOST_SIGNS = 5
"""Signs of overload on their line."""


def title(check: str) -> str:
    """A check's title for people; the name itself when it has none."""
    return TITLES.get(check) or one_line(check)


def proof(finding: Finding) -> str:
    """`reproduced 3 of 3`, `intermittent: reproduced 1 of 3`, `not repeated: budget spent`, or ""."""
    if finding.executed and finding.check != CONCURRENCY:
        words = f"reproduced {finding.reproduced} of {finding.executed}"
        return words if finding.reproduced == finding.executed else f"intermittent: {words}"
    return f"not repeated: {one_line(finding.not_repeated, 60)}" if finding.not_repeated else ""


def shown_findings(report: Report) -> list[Finding]:
    """The findings of this run, in the report's order: neither muted nor fixed."""
    return [finding for finding in report.findings if finding.state in ("new", "known")]


def operations_of(finding: Finding) -> dict[str, int]:
    """The operations that show a finding -> results, the most frequent first."""
    return finding.operations or {finding.operation: finding.count}


def where(finding: Finding) -> str:
    """The place of a finding on one line: what its example sent, and how many other operations show it."""
    others = len(operations_of(finding).keys() - {finding.operation})
    place = one_line(finding.sent or finding.operation)
    return f"{place} and {others:,} more" if others else place


def quiet(report: Report) -> str:
    """`2 muted and 1 fixed finding`, or "" when there is none."""
    states = Counter(finding.state for finding in report.findings)
    counts = [(states["muted"], "muted"), (states["fixed"], "fixed")]
    words = " and ".join(f"{number} {state}" for number, state in counts if number)
    return f"{words} finding{'' if sum(number for number, _ in counts) == 1 else 's'}" if words else ""


def verdict(gate: GateReport | None) -> str:
    """`PASSED`, `FAILED`, or "" when no gate was asked."""
    return "" if gate is None else "PASSED" if gate.passed else "FAILED"


def costs(report: Report) -> list[str]:
    """A line for each source that called a language model: what it cost, whole and for each confirmed finding."""
    lines = []
    for source, cost in report.costs.items():
        tokens = cost.input_tokens + cost.output_tokens
        spent = f"{plural(round(cost.calls), 'call')}, {tokens:,} tokens, {in_words(cost.money, report.currency)}"
        gained = "no confirmed finding"
        if cost.findings:
            price = f" and {in_words(cost.money_per_finding, report.currency)}" if cost.money is not None else ""
            gained = f"{plural(cost.findings, 'confirmed finding')}: {cost.tokens_per_finding:,.0f} tokens{price} each"
        lines.append(f"{one_line(source, 40)}: {spent}; {gained}")
    return lines


def transfers(report: Report) -> list[str]:
    """A line each for overload, waits that the target asked for, streams, and bodies that could not be judged."""
    lines, load = [], report.load
    if load is not None and load.overloaded:
        signs = ", ".join(
            f"{one_line(sign, 60)} ({count:,})" for sign, count in list(load.overloaded.items())[:_MOST_SIGNS]
        )
        lowered = f"; cases at once went down to {load.concurrency}" if load.concurrency else ""
        lines.append(f"overload: {signs}{lowered}")
    if load is not None and load.asked_to_wait:
        waited = f"we waited {duration(load.waited_s)}" if load.waited_s else "we did not wait"
        lines.append(f"the target asked {plural(load.asked_to_wait, 'time')} to come back later: {waited}")
    streams = [key for key, operation in report.operations.items() if operation.streams]
    if streams:
        more = f" and {len(streams) - _MOST_STREAMS} more" if len(streams) > _MOST_STREAMS else ""
        shown = ", ".join(one_line(key, 80) for key in streams[:_MOST_STREAMS])
        lines.append(f"streams, judged by status and headers: {shown}{more}")
    unjudged = [sum(operation.unjudged.values()) for operation in report.operations.values() if operation.unjudged]
    if unjudged:
        operations = plural(len(unjudged), "operation")
        lines.append(f"{plural(sum(unjudged), 'check')} of response bodies could not be made, in {operations}")
    return lines


def failed_sources(report: Report) -> list[tuple[str, str]]:
    """Sources that failed, each with its first reason, in the order in which they ran."""
    failures: dict[str, str] = {}
    for generation in report.generation:
        if generation.failed:
            failures.setdefault(one_line(generation.source), generation.failed)
    return list(failures.items())


def seconds(report: Report) -> float | None:
    """How long the run took."""
    if report.started is None or report.finished is None:
        return None
    return max(0.0, (report.finished - report.started).total_seconds())


def duration(total_s: float) -> str:
    """`8.4 s`, `3 min 20 s`, `2 h 05 min`."""
    if total_s < 60:
        return f"{total_s:.1f} s"
    minutes, rest_s = divmod(round(total_s), 60)
    if minutes < 60:
        return f"{minutes} min {rest_s:02} s"
    return f"{minutes // 60} h {minutes % 60:02} min"


def protection(report: Report) -> list[str]:
    """What the run left behind and which requests it did not send: lines for the first screen, safe to show."""
    lines = []
    if report.left_behind:
        shown = [
            f"{left.count:,} by {one_line(left.operation)} ({one_line(left.why)})"
            for left in report.left_behind[:_MOST_LEFT]
        ]
        more = len(report.left_behind) - _MOST_LEFT
        lines.append(f"left behind: {', '.join(shown)}{f', and {more} more in the report' if more > 0 else ''}")
    if report.totals.withheld:
        requests = plural(report.totals.withheld, "request")
        lines.append(
            f"withheld: {requests} that would have changed what this run did not create, or the user's own account"
        )
    return lines
