from __future__ import annotations

import io
import re

import msgspec
import pytest

from testops_lib.notify import summary
from testops_lib.report import (
    render_html,
    render_terminal,
    terminal_text,
)
from testops_lib.report.text import TITLES, shown_findings
from testops_lib.verdict.analyze import analyze
from tests.testops_lib.report.reports import check_golden, hostile_report, shop_report


def test_terminal_text_is_the_golden_one() -> None:
    check_golden("shop-terminal.txt", terminal_text(shop_report()))


@pytest.mark.parametrize("width", [40, 80, 100, 200])
def test_terminal_text_fits_its_width(width: int) -> None:
    from rich.cells import cell_len

    wide = "GET /商品/{標識}/很長的路徑/" + "é" * 30
    findings = tuple(msgspec.structs.replace(one, operation=wide) for one in shop_report().findings)
    report = msgspec.structs.replace(shop_report(), findings=findings)
    text = terminal_text(report, width).partition("\nSee it again")[0]
    assert max(cell_len(line) for line in text.splitlines()) <= width


@pytest.mark.parametrize("width", [40, 80, 89, 90, 200])
def test_the_terminal_says_what_is_wrong_at_any_width(width: int) -> None:
    for finding in shown_findings(shop_report()):
        report = msgspec.structs.replace(shop_report(), findings=(finding,), operations={})
        text = terminal_text(report, width).partition("\nSee it again")[0]
        together, said = "".join(text.split()), "".join(finding.message.split())[:60]
        assert said in together if width < 90 else finding.message.split()[0] in text
        assert TITLES[finding.check].split()[0] in text and finding.severity in text


def test_terminal_output_without_a_terminal_holds_no_escape_sequences() -> None:
    assert "\x1b" not in terminal_text(shop_report())


def test_hostile_text_cannot_steer_a_terminal() -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    plain = terminal_text(hostile_report())
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202e\ud800]", plain)
    assert "\\x1b[2J" in plain
    out = Terminal()
    render_terminal(hostile_report(), width=100, file=out)
    without_colours = re.sub(r"\x1b\[[0-9;]*m", "", out.getvalue())
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202e\ud800]", without_colours)


def test_console_markup_in_messages_is_shown_as_it_stands() -> None:
    text = "[bold]x[/bold] :smile: [link=http://e]y[/link]"
    finding = msgspec.structs.replace(shop_report().findings[0], message=text)
    assert text in terminal_text(msgspec.structs.replace(shop_report(), findings=(finding,)), 160)


def test_operations_that_were_not_tested_are_counted_at_the_top_and_named() -> None:
    reasons = {f"GET /{n}": f"no valid request could be made: {n}" for n in range(30)}
    partly = analyze([], target="t", run="r", operations={"GET /": ("200",)}, not_tested=reasons)
    text, html = terminal_text(partly), render_html(partly)
    assert "answered a 2xx, 30 not tested" in text.partition("No findings.")[0]
    assert "Not tested: 30 operations" in text and "GET /7  no valid request could be made: 7" in text
    assert "answered a 2xx, 30 not tested" in html.partition('id="findings"')[0]
    assert all(f"not tested: {reason}" in html for reason in reasons.values())


def test_a_finding_of_many_operations_lists_and_counts_them() -> None:
    report = shop_report()
    operations = {f"GET /{number}": 99 - number for number in range(60)}
    folded = msgspec.structs.replace(report.findings[0], operation="GET /0", operations=operations)
    report = msgspec.structs.replace(report, findings=(folded,))
    html = render_html(report)
    assert "GET /0 and 59 more" in " ".join(terminal_text(report, 160).split())
    assert "GET /0 and 59 more" in html and "60 operations" in html and "10 more operations" in html
    assert 'GET /7 <span class="dim">× 92</span>' in html
    assert "GET /0 and 59 more: " in summary(report)


def test_a_clean_run_says_so() -> None:
    clean = analyze([], target="t", run="r", operations={"GET /": ("200",)})
    assert "No findings." in terminal_text(clean) and "GET /  not called" in terminal_text(clean)
    assert "Nothing found." in render_html(clean)
