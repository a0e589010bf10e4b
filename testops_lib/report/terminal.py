"""The report for a terminal: what is wrong, where, how often, and how to see it again."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, TextIO

from testops_lib.cost import in_words
from testops_lib.model import Finding, Report
from testops_lib.report.text import (
    costs,
    duration,
    failed_sources,
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
from testops_lib.text import one_line, plural, printable

if TYPE_CHECKING:
    from rich.console import Console

_MOST_FINDINGS = 40
_MOST_CURLS = 3
_MOST_OPERATIONS = 10
_MOST_REASONS = 5
_LONGEST_CURL = 1_500
_LONGEST_MESSAGE = 160
_WIDE = 90
"""Columns from which a finding is a row of a table; below, it is a block of lines."""


def render_terminal(report: Report, *, width: int | None = None, file: TextIO | None = None) -> None:
    """Print the report: coloured on a terminal, plain text (without escape sequences) elsewhere.

    Args:
        width: columns; by default the terminal's, 100 elsewhere.
        file: where to; standard output by default.
    """
    import sys

    from rich.console import Console

    target = file or sys.stdout
    if not target.isatty():
        width = width or 100
    console = Console(file=target, width=width, highlight=False, emoji=False, markup=False)
    _print(console, report)


def terminal_text(report: Report, width: int = 100) -> str:
    """What `render_terminal` prints where there is no terminal."""
    out = io.StringIO()
    render_terminal(report, width=width, file=out)
    return "\n".join(line.rstrip() for line in out.getvalue().splitlines()) + "\n"


def _print(console: Console, report: Report) -> None:
    from rich.text import Text

    _headline(console, report)
    findings = shown_findings(report)
    if findings:
        console.print()
        _findings(console, findings)
    else:
        console.print(Text("\nNo findings.", style="green"))
    if words := quiet(report):
        console.print(Text(f"Also {words}.", style="dim"))
    _curls(console, findings)
    _without_success(console, report)
    _reasons(console, report)
    _failed_sources(console, report)
    _costs(console, report)
    for line in transfers(report):
        console.print(Text(line[:1].upper() + line[1:], style="dim"))


def _headline(console: Console, report: Report) -> None:
    from rich.text import Text

    totals, word = report.totals, verdict(report.gate)
    line = Text()
    if word:
        line.append(f" {word} ", style="bold white on green" if word == "PASSED" else "bold white on red")
        line.append(" ")
    line.append(one_line(report.title or report.target), style="bold")
    line.append(f"  run {one_line(report.run)}", style="dim")
    console.print(line)
    if report.gate is not None:
        for reason in report.gate.reasons:
            console.print(Text(f"  gate: {one_line(reason)}", style="red"))
    traces = protection(report)
    counts = [f"{totals.results.get(name, 0):,} {name}" for name in ("passed", "failed", "errored", "skipped")]
    taken = seconds(report)
    rest = f" in {duration(taken)}" if taken is not None else ""
    aside = f" ({len(report.quarantined):,} quarantined)" if report.quarantined else ""
    console.print(Text(f"{plural(totals.cases, 'case')}: {', '.join(counts)}{aside}"))
    console.print(
        Text(
            f"{plural(totals.requests, 'request')}{rest}; {totals.operations_with_2xx} of "
            f"{plural(totals.operations, 'operation')} answered a 2xx"
            + (f", {totals.operations_not_tested:,} not tested" if totals.operations_not_tested else "")
        )
    )
    for trace in traces:
        console.print(Text(trace))


def _failed_sources(console: Console, report: Report) -> None:
    from rich.text import Text

    for source, reason in failed_sources(report):
        console.print(Text(f"Source {source} failed: {one_line(reason)}", style="yellow"))


def _findings(console: Console, findings: list[Finding]) -> None:
    from rich.table import Table
    from rich.text import Text

    advisory = sum(finding.advisory for finding in findings)
    new = sum(finding.state == "new" for finding in findings)
    notes = ", ".join(f"{number} {word}" for number, word in ((new, "new"), (advisory, "advisory")) if number)
    console.print(Text(plural(len(findings), "finding") + (f" ({notes})" if notes else ""), style="bold"))
    table = Table(box=None, pad_edge=False, expand=False, header_style="dim", padding=(0, 2, 0, 0))
    table.add_column("#", justify="right", no_wrap=True)
    table.add_column("what", ratio=None, overflow="fold")
    narrow = console.width < _WIDE
    if narrow:
        table.show_header = False
    else:
        table.add_column("where", overflow="fold")
        table.add_column("times", justify="right", no_wrap=True)
        table.add_column("", no_wrap=True)
    for number, finding in enumerate(findings[:_MOST_FINDINGS], 1):
        what = Text(title(finding.check), style="yellow" if finding.advisory else "red")
        message = "\n" + one_line(finding.message, _LONGEST_MESSAGE)
        marks = [finding.severity, finding.state] + (["advisory"] if finding.advisory else [])
        marks += [words] if (words := proof(finding)) else []
        marks += [f"passed on attempt {finding.passed_again}"] if finding.passed_again else []
        if narrow:
            what.append(f"  {', '.join([plural(finding.count, 'case'), *marks])}", style="dim")
            what.append("\n" + where(finding), style="none")
            table.add_row(str(number), what.append(message, style="dim"))
        else:
            table.add_row(
                str(number),
                what.append(message, style="dim"),
                Text(where(finding)),
                f"{finding.count:,}",
                Text("\n".join(marks), style="dim"),
            )
    console.print(table)
    if len(findings) > _MOST_FINDINGS:
        console.print(Text(f"and {len(findings) - _MOST_FINDINGS} more in the report", style="dim"))


def _curls(console: Console, findings: list[Finding]) -> None:
    from rich.text import Text

    lines = []
    for number, finding in enumerate(findings, 1):
        example = finding.example
        if len(example.steps) > 1 and example.recipe:
            lines.append(f"{number}. {len(example.steps)} steps: testops reproduce {number}")
        elif 0 < len(example.curl) <= _LONGEST_CURL:
            lines.append(f"{number}. {printable(example.curl)}")
    if lines:
        console.print(Text("\nSee it again", style="bold"))
    for line in lines[:_MOST_CURLS]:
        console.print(Text(line), soft_wrap=True)
    if any(finding.example.recipe for finding in findings):
        console.print(
            Text("Each as a shell script: in report.html, or by `testops reproduce NUMBER --script`", style="dim")
        )


def _without_success(console: Console, report: Report) -> None:
    from rich.text import Text

    _not_tested(console, report)
    without = [key for key, one in report.operations.items() if not one.success_seen and not one.not_tested]
    if not without:
        return
    console.print(Text(f"\nWithout a 2xx: {plural(len(without), 'operation')}", style="bold"))
    for key in without[:_MOST_OPERATIONS]:
        one = report.operations[key]
        seen = ", ".join(f"{status}: {number}" for status, number in one.statuses.items()) or "not called"
        console.print(Text(f"  {one_line(key)}  {one_line(seen)}"))
    if len(without) > _MOST_OPERATIONS:
        console.print(Text(f"  and {len(without) - _MOST_OPERATIONS} more", style="dim"))
    if shut := sum("401" in report.operations[key].statuses for key in without):
        console.print(
            Text(f"  {plural(shut, 'operation')} answered 401 and never a 2xx: are the right credentials given?")
        )


def _not_tested(console: Console, report: Report) -> None:
    from rich.text import Text

    left_out = [(key, one.not_tested) for key, one in report.operations.items() if one.not_tested]
    if left_out:
        console.print(Text(f"\nNot tested: {plural(len(left_out), 'operation')}", style="bold"))
    for key, reason in left_out[:_MOST_OPERATIONS]:
        console.print(Text(f"  {one_line(key)}  {one_line(reason)}"))
    if len(left_out) > _MOST_OPERATIONS:
        console.print(Text(f"  and {len(left_out) - _MOST_OPERATIONS:,} more in the report", style="dim"))


def _reasons(console: Console, report: Report) -> None:
    from rich.text import Text

    if not report.errors:
        return
    console.print(Text("\nErrored and skipped", style="bold"))
    for reason, number in list(report.errors.items())[:_MOST_REASONS]:
        console.print(Text(f"  {number:,}  {one_line(reason)}"))
    if len(report.errors) > _MOST_REASONS:
        console.print(Text(f"  and {plural(len(report.errors) - _MOST_REASONS, 'more reason')}", style="dim"))


def _costs(console: Console, report: Report) -> None:
    from rich.text import Text

    dear = sorted(
        ((one.cost.input_tokens + one.cost.output_tokens, key) for key, one in report.operations.items() if one.cost),
        key=lambda entry: (-entry[0], entry[1]),
    )
    if not report.costs:
        return
    console.print(Text("\nPrice", style="bold"))
    for line in costs(report):
        console.print(Text(f"  {line}"))
    for tokens, key in dear[:_MOST_REASONS]:
        cost = report.operations[key].cost
        assert cost is not None
        console.print(
            Text(f"  {one_line(key)}  {tokens:,} tokens, {in_words(cost.money, report.currency)}", style="dim")
        )
    if len(dear) > _MOST_REASONS:
        console.print(Text(f"  and {plural(len(dear) - _MOST_REASONS, 'operation')} that cost less", style="dim"))
