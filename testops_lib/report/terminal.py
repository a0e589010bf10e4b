"""The report for a terminal: what is wrong, where, how often, and how to see it again."""

from __future__ import annotations

import io
import sys
from typing import TextIO

from testops_lib.cost import in_words
from testops_lib.doubts import because
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

_WIDTH = 100
"""Columns where there is no terminal."""
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
    out = file or sys.stdout
    _print(_Printer(out, width if width or out.isatty() else _WIDTH), report)


def terminal_text(report: Report, width: int = _WIDTH) -> str:
    """What `render_terminal` prints where there is no terminal."""
    out = io.StringIO()
    render_terminal(report, width=width, file=out)
    return "\n".join(line.rstrip() for line in out.getvalue().splitlines()) + "\n"


class _Printer:
    """Prints lines on a console; rich is imported here, when a report is printed, because it is slow to load."""

    def __init__(self, file: TextIO, width: int | None) -> None:
        from rich.console import Console
        from rich.table import Table
        from rich.text import Text

        self.console = Console(file=file, width=width, highlight=False, emoji=False, markup=False)
        self.text, self.table = Text, Table

    def line(self, text: str = "", style: str = "", *, soft_wrap: bool | None = None) -> None:
        self.console.print(self.text(text, style=style), soft_wrap=soft_wrap)


def _print(printer: _Printer, report: Report) -> None:
    _headline(printer, report)
    findings = shown_findings(report)
    if findings:
        printer.line()
        _findings(printer, findings)
    else:
        printer.line("\nNo findings.", "green")
    if words := quiet(report):
        printer.line(f"Also {words}.", "dim")
    _curls(printer, findings)
    _not_tested(printer, report)
    _without_success(printer, report)
    _reasons(printer, report)
    for source, reason in failed_sources(report):
        printer.line(f"Source {source} failed: {one_line(reason)}", "yellow")
    _costs(printer, report)
    for line in transfers(report):
        printer.line(line[:1].upper() + line[1:], "dim")


def _headline(printer: _Printer, report: Report) -> None:
    totals, word = report.totals, verdict(report.gate)
    line = printer.text()
    if word:
        line.append(f" {word} ", style="bold white on green" if word == "PASSED" else "bold white on red")
        line.append(" ")
    line.append(one_line(report.title or report.target), style="bold")
    line.append(f"  run {one_line(report.run)}", style="dim")
    printer.console.print(line)
    if report.gate is not None:
        for reason in report.gate.reasons:
            printer.line(f"  gate: {one_line(reason)}", "red")
    counts = [f"{totals.results.get(name, 0):,} {name}" for name in ("passed", "failed", "errored", "skipped")]
    quarantined = f" ({len(report.quarantined):,} quarantined)" if report.quarantined else ""
    printer.line(f"{plural(totals.cases, 'case')}: {', '.join(counts)}{quarantined}")
    duration_s = seconds(report)
    taken = f" in {duration(duration_s)}" if duration_s is not None else ""
    not_tested = f", {totals.operations_not_tested:,} not tested" if totals.operations_not_tested else ""
    printer.line(
        f"{plural(totals.requests, 'request')}{taken}; {totals.operations_with_2xx} of "
        f"{plural(totals.operations, 'operation')} answered a 2xx{not_tested}"
    )
    for line_of_protection in protection(report):
        printer.line(line_of_protection)


def _findings(printer: _Printer, findings: list[Finding]) -> None:
    advisory = sum(finding.advisory for finding in findings)
    new = sum(finding.state == "new" for finding in findings)
    notes = ", ".join(f"{number} {word}" for number, word in ((new, "new"), (advisory, "advisory")) if number)
    printer.line(plural(len(findings), "finding") + (f" ({notes})" if notes else ""), "bold")
    table = printer.table(box=None, pad_edge=False, expand=False, header_style="dim", padding=(0, 2, 0, 0))
    table.add_column("#", justify="right", no_wrap=True)
    table.add_column("what", ratio=None, overflow="fold")
    narrow = printer.console.width < _WIDE
    if narrow:
        table.show_header = False
    else:
        table.add_column("where", overflow="fold")
        table.add_column("times", justify="right", no_wrap=True)
        table.add_column("", no_wrap=True)
    for number, finding in enumerate(findings[:_MOST_FINDINGS], 1):
        what = printer.text(title(finding.check), style="yellow" if finding.advisory else "red")
        message, place = "\n" + one_line(finding.message, _LONGEST_MESSAGE), where(finding)
        message += f"\nadvisory because {reason}" if (reason := one_line(because(finding.doubt))) else ""
        if narrow:
            what.append(f"  {', '.join([plural(finding.count, 'case'), *_marks(finding)])}", style="dim")
            what.append("\n" + place, style="none")
            table.add_row(str(number), what.append(message, style="dim"))
        else:
            marks = printer.text("\n".join(_marks(finding)), style="dim")
            what.append(message, style="dim")
            table.add_row(str(number), what, printer.text(place), f"{finding.count:,}", marks)
    printer.console.print(table)
    if len(findings) > _MOST_FINDINGS:
        printer.line(f"and {len(findings) - _MOST_FINDINGS} more in the report", "dim")


def _marks(finding: Finding) -> list[str]:
    """What else a person should know of a finding, a word or two each."""
    marks = [finding.severity, finding.state] + (["advisory"] if finding.advisory else [])
    marks += [words] if (words := proof(finding)) else []
    return marks + ([f"passed on attempt {finding.passed_again}"] if finding.passed_again else [])


def _curls(printer: _Printer, findings: list[Finding]) -> None:
    lines = []
    for number, finding in enumerate(findings, 1):
        example = finding.example
        if len(example.steps) > 1 and example.recipe:
            lines.append(f"{number}. {len(example.steps)} steps: testops reproduce {number}")
        elif 0 < len(example.curl) <= _LONGEST_CURL:
            lines.append(f"{number}. {printable(example.curl)}")
    if lines:
        printer.line("\nSee it again", "bold")
    for line in lines[:_MOST_CURLS]:
        printer.line(line, soft_wrap=True)
    if any(finding.example.recipe for finding in findings):
        printer.line("Each as a shell script: in report.html, or by `testops reproduce NUMBER --script`", "dim")


def _not_tested(printer: _Printer, report: Report) -> None:
    not_tested = [(key, operation.not_tested) for key, operation in report.operations.items() if operation.not_tested]
    if not_tested:
        printer.line(f"\nNot tested: {plural(len(not_tested), 'operation')}", "bold")
    for key, reason in not_tested[:_MOST_OPERATIONS]:
        printer.line(f"  {one_line(key)}  {one_line(reason)}")
    if len(not_tested) > _MOST_OPERATIONS:
        printer.line(f"  and {len(not_tested) - _MOST_OPERATIONS:,} more in the report", "dim")


def _without_success(printer: _Printer, report: Report) -> None:
    without = {
        key: operation.statuses
        for key, operation in report.operations.items()
        if not operation.success_seen and not operation.not_tested
    }
    if not without:
        return
    printer.line(f"\nWithout a 2xx: {plural(len(without), 'operation')}", "bold")
    for key, statuses in list(without.items())[:_MOST_OPERATIONS]:
        answered = ", ".join(f"{status}: {number}" for status, number in statuses.items()) or "not called"
        printer.line(f"  {one_line(key)}  {one_line(answered)}")
    if len(without) > _MOST_OPERATIONS:
        printer.line(f"  and {len(without) - _MOST_OPERATIONS} more", "dim")
    if shut := sum("401" in statuses for statuses in without.values()):
        printer.line(f"  {plural(shut, 'operation')} answered 401 and never a 2xx: are the right credentials given?")


def _reasons(printer: _Printer, report: Report) -> None:
    if not report.errors:
        return
    printer.line("\nErrored and skipped", "bold")
    for reason, number in list(report.errors.items())[:_MOST_REASONS]:
        printer.line(f"  {number:,}  {one_line(reason)}")
    if len(report.errors) > _MOST_REASONS:
        printer.line(f"  and {plural(len(report.errors) - _MOST_REASONS, 'more reason')}", "dim")


def _costs(printer: _Printer, report: Report) -> None:
    if not report.costs:
        return
    printer.line("\nPrice", "bold")
    for line in costs(report):
        printer.line(f"  {line}")
    spent = [
        (operation.cost.input_tokens + operation.cost.output_tokens, key, operation.cost)
        for key, operation in report.operations.items()
        if operation.cost
    ]
    spent.sort(key=lambda entry: (-entry[0], entry[1]))
    for tokens, key, cost in spent[:_MOST_REASONS]:
        printer.line(f"  {one_line(key)}  {tokens:,} tokens, {in_words(cost.money, report.currency)}", "dim")
    if len(spent) > _MOST_REASONS:
        printer.line(f"  and {plural(len(spent) - _MOST_REASONS, 'operation')} that cost less", "dim")
