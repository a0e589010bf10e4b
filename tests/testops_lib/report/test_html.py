from __future__ import annotations

import re
from typing import Any

import msgspec
import pytest

from testops_lib.model import (
    OperationReport,
    ResponseEvidence,
)
from testops_lib.report import (
    render_html,
    terminal_text,
)
from testops_lib.text import visible
from tests.testops_lib.report.page import Page, outline
from tests.testops_lib.report.reports import check_golden, hostile_report, repeated_report, shop_report


def test_html_outline_is_the_golden_one() -> None:
    check_golden("shop-html-outline.txt", outline(render_html(shop_report())))


ALLOWED_TAGS = {
    "html",
    "head",
    "meta",
    "title",
    "style",
    "body",
    "main",
    "header",
    "section",
    "article",
    "footer",
    "h1",
    "h2",
    "h3",
    "h4",
    "p",
    "span",
    "div",
    "dl",
    "dt",
    "dd",
    "ul",
    "li",
    "strong",
    "b",
    "small",
    "svg",
    "rect",
    "pre",
    "code",
    "details",
    "summary",
    "blockquote",
    "table",
    "thead",
    "tbody",
    "tr",
    "th",
    "td",
    "a",
    "script",
    "form",
    "label",
    "input",
    "select",
    "option",
    "output",
    "button",
}


@pytest.mark.parametrize("make", [shop_report, hostile_report])
def test_the_page_loads_nothing_and_runs_its_own_script_alone(make: Any) -> None:
    page = Page(render_html(make()))
    assert page.open == []
    assert {tag for tag, _ in page.tags} <= ALLOWED_TAGS
    for tag, attributes in page.tags:
        assert not {"src", "style", "srcset", "action"} & set(attributes), tag
        assert not any(name.startswith("on") for name in attributes), tag
        assert (attributes.get("href") or "#").startswith("#")
    policy = next(one["content"] for _, one in page.tags if one.get("http-equiv") == "Content-Security-Policy")
    assert policy and re.match(r"default-src 'none'; style-src 'sha256-[^']+'; script-src 'sha256-[^']+'; base", policy)
    assert [tag for tag, _ in page.tags].count("script") == 1
    assert "unsafe" not in policy and "url(" not in render_html(make()).partition("</style>")[0]


@pytest.mark.parametrize("element", ["style", "script"])
def test_the_policy_allows_exactly_the_page_s_style_and_script(element: str) -> None:
    import base64
    import hashlib

    html = render_html(shop_report())
    content = html.partition(f"<{element}>")[2].partition(f"</{element}>")[0]
    digest = base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
    assert f"{element}-src 'sha256-{digest}'" in html.replace("&#39;", "'")
    assert render_html(hostile_report()).partition(f"<{element}>")[2].startswith(content), "whatever the report holds"


def test_hostile_text_is_shown_as_text() -> None:
    html = render_html(hostile_report())
    assert html.count("<script") == 1 and "<img" not in html and "{{ 7*7 }}" in html
    shown = Page(html).text
    assert "<script>alert('x')</script>" in shown and "\\x1b[2J" in shown and "\\u202e" in shown and "漢字" in shown
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202e\ud800\ufeff]", html)
    html.encode()


def test_the_page_says_all_a_finding_has_to_say() -> None:
    report = shop_report()
    shown = " ".join(Page(render_html(report)).text.split())
    assert "Gate failed" in shown and "max_findings: 15 findings" in shown
    for finding in report.findings:
        assert " ".join(visible(finding.message).split()) in shown
        assert finding.check in shown and finding.operation in shown
        assert " ".join(finding.example.curl.split()) in shown
    for reason in report.errors:
        assert reason in shown


def test_the_headline_of_a_finding_is_what_is_wrong_and_not_the_name_of_its_case() -> None:
    report, _ = repeated_report()
    named = msgspec.structs.replace(report.findings[0].example, case_name="POST /x: name is too long")
    finding = msgspec.structs.replace(report.findings[0], check="not_a_server_error", example=named)
    report = msgspec.structs.replace(report, findings=(finding,))
    lines = outline(render_html(report)).splitlines()
    at = next(number for number, line in enumerate(lines) if named.case_name in line)
    assert lines[at].startswith("Shown by the case") and "not after what is wrong" in lines[at]
    assert next(number for number, line in enumerate(lines) if line.startswith("Server error")) < at
    assert named.case_name not in terminal_text(report)


def test_findings_stand_before_operations_and_operations_link_to_findings() -> None:
    html = render_html(shop_report())
    assert html.index('id="findings"') < html.index('id="operations"') < html.index('id="errors"')
    ids = {attributes["id"] for _, attributes in Page(html).tags if "id" in attributes}
    links = {(attributes["href"] or "")[1:] for tag, attributes in Page(html).tags if tag == "a"}
    assert links and links <= ids


def test_a_page_stays_below_2_mb_whatever_the_evidence() -> None:
    finding = shop_report().findings[0]
    step = finding.example.steps[0]
    answer = ResponseEvidence(status=500, body="<&" * 4_000, body_bytes=8_000)
    example = msgspec.structs.replace(
        finding.example, steps=(msgspec.structs.replace(step, response=answer),) * 3, curl="curl " + "x" * 4_000
    )
    many = tuple(
        msgspec.structs.replace(finding, example=example, fingerprint=f"{number:016x}") for number in range(3_000)
    )
    seen = OperationReport(
        statuses={"200": 10, "404": 10, "500": 3}, documented=("201", "422"), latency_ms={"p50": 1, "p95": 2, "max": 3}
    )
    operations = {f"POST /{number}/" + "<long>/" * 8: seen for number in range(5_000)}
    html = render_html(msgspec.structs.replace(shop_report(), findings=many, operations=operations))
    assert len(html.encode()) < 2_000_000
    for words in ("2,700 more findings", "4,000 more operations", "This page holds no more evidence"):
        assert words in html
