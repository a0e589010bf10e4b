from __future__ import annotations

import io
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from functools import cache
from html.parser import HTMLParser
from pathlib import Path
from typing import Any, get_args
from xml.etree import ElementTree

import jsonschema_rs
import msgspec
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from testops_lib.errors import TestOpsError
from testops_lib.model import (
    CHECKS,
    SEVERITIES,
    WFC_CODES,
    AnyCheck,
    Case,
    Failure,
    Finding,
    FindingExample,
    GateRules,
    Generation,
    OperationReport,
    Report,
    RequestEvidence,
    ResponseEvidence,
    Result,
    StepOutcome,
    Totals,
)
from testops_lib.notify import summary
from testops_lib.report import (
    read_report,
    render_html,
    render_json,
    render_junit,
    render_terminal,
    render_wfc,
    terminal_text,
)
from testops_lib.report.json import schemas
from testops_lib.report.text import TITLES, shown_findings
from testops_lib.report.wfc import code
from testops_lib.run.report import write_report
from testops_lib.text import visible
from testops_lib.verdict.analyze import analyze
from testops_lib.verdict.gate import decide
from tests.paths import DATA, DOCS, GOLDEN

HOSTILE = (
    "</pre></details><script>alert('x')</script><img src=x onerror=alert(1)>{{ 7*7 }}{% raw %}"
    "\x1b[2J\x1b]0;owned\x07\x9b31m\r\x00\x08\u202egnp.exe\ud800\ufeff]]>&amp;\x0b\ufffe\U000e0041 漢字 é"
)


def shop_results() -> list[Result]:
    lines = (GOLDEN / "shop-results.jsonl").read_bytes().splitlines()
    return [msgspec.json.decode(line, type=Result) for line in lines]


@cache
def shop_report() -> Report:
    run = json.loads((GOLDEN / "shop-run.json").read_text())
    results = shop_results()
    started = datetime(2026, 3, 14, 2, 0, tzinfo=UTC)
    first = analyze(results, target="shop", run="nightly-2026-03-14", operations=run["operations"])
    seen = {finding.check: finding for finding in first.findings}
    checks = ("use_after_free", "response_schema_conformance")
    known = {seen[check].fingerprint: "nightly-2026-03-09" for check in checks}
    gone = msgspec.structs.replace(
        seen["content_type_conformance"],
        fingerprint="0123456789abcdef",
        operation="GET /health",
        message="text/plain is not documented for 200 (application/json)",
        first_seen_run="nightly-2026-03-02",
    )
    report = analyze(
        results,
        target="shop",
        run="nightly-2026-03-14",
        operations=run["operations"],
        title="Shop API",
        base_url="http://127.0.0.1:8800/api",
        first_seen=known,
        previous_run="nightly-2026-03-13",
        previous=[gone],
        muted=[seen["unsupported_method"].fingerprint],
        generation=tuple(msgspec.convert(one, Generation) for one in run["generation"]),
        started=started,
        finished=started + timedelta(seconds=38.4),
    )
    return msgspec.structs.replace(report, gate=decide(report, GateRules()))


def hostile_report() -> Report:
    """Everything that a target, a document or a model can influence is hostile."""
    evidence = RequestEvidence(method="POST", url=f"http://h/{HOSTILE}", headers=((HOSTILE, HOSTILE),), body=HOSTILE)
    answer = ResponseEvidence(status=200, headers=((HOSTILE, HOSTILE),), body=HOSTILE, truncated=True, body_bytes=9)
    step = StepOutcome(operation=HOSTILE, status=200, request=evidence, response=answer, error=HOSTILE)
    example = FindingExample(case=HOSTILE, case_name=HOSTILE, message=HOSTILE, curl=HOSTILE, steps=(step,))
    found = tuple(
        Finding(
            fingerprint=f"{number:016x}",
            operation=HOSTILE,
            check=check,
            count=1,
            advisory=False,
            basis="description",
            message=HOSTILE,
            quote=HOSTILE,
            first_seen_run=HOSTILE,
            state=state,
            example=example,
        )
        for number, (check, state) in enumerate([("status", "new"), (HOSTILE, "known"), ("header", "fixed")])
    )
    seen = OperationReport(statuses={"200": 1, HOSTILE: 1}, documented=(HOSTILE,), results={"failed": 1}, cases=1)
    return Report(
        target=HOSTILE,
        run=HOSTILE,
        title=HOSTILE,
        base_url=f"http://h/{HOSTILE}",
        findings=found,
        previous_run=HOSTILE,
        totals=Totals(cases=1, requests=1, results={"failed": 1}),
        operations={f"GET /{HOSTILE}": seen},
        errors={HOSTILE: 1},
        gate=decide(shop_report(), GateRules()),
        generation=(Generation(source=HOSTILE, dropped={HOSTILE: 1}, notes=(HOSTILE,)),),
    )


def hostile_result() -> Result:
    example = hostile_report().findings[0].example
    failure = Failure(check="status", operation=HOSTILE, message=HOSTILE, quote=HOSTILE)
    return Result(
        run=HOSTILE,
        case=HOSTILE,
        case_name=HOSTILE,
        operation=HOSTILE,
        verdict="failed",
        failures=(failure,),
        steps=example.steps,
    )


def check_golden(name: str, text: str) -> None:
    """Equal to the golden file; `UPDATE_GOLDEN=1 pytest` with this file rewrites it, and people review the change."""
    path = GOLDEN / name
    if os.environ.get("UPDATE_GOLDEN"):
        path.write_text(text, encoding="utf-8")
    assert path.read_text(encoding="utf-8") == text


# ------------------------------------------------------------------------ golden files


def test_every_check_has_a_title_for_people() -> None:
    assert set(TITLES) == CHECKS


def test_junit_is_the_golden_one() -> None:
    check_golden("shop-junit.xml", render_junit(shop_report(), shop_results()).decode())


def test_terminal_text_is_the_golden_one() -> None:
    check_golden("shop-terminal.txt", terminal_text(shop_report()))


def test_json_is_the_golden_one() -> None:
    check_golden("shop-report.json", render_json(shop_report()).decode())


def test_html_outline_is_the_golden_one() -> None:
    check_golden("shop-html-outline.txt", outline(render_html(shop_report())))


# ------------------------------------------------------------------------ JSON and schemas


def test_json_reads_back_equal_and_fits_its_schema() -> None:
    report = shop_report()
    assert read_report(render_json(report)) == report
    schema = json.loads((DOCS / "report.schema.json").read_bytes())
    jsonschema_rs.validator_for(schema).validate(json.loads(render_json(report)))


def test_a_document_that_is_no_report_is_refused_with_its_place() -> None:
    with pytest.raises(TestOpsError, match="totals"):
        read_report(b'{"target": "t", "run": "r", "operations": {}, "findings": [], "totals": {"cases": "x"}}')


@pytest.mark.parametrize("name", ["case.schema.json", "report.schema.json"])
def test_schemas_in_docs_equal_the_model(name: str) -> None:
    assert (DOCS / name).read_bytes() == schemas()[name], "run: python -m testops_lib.report schemas docs"


def test_the_case_schema_takes_a_case_and_refuses_unknown_fields() -> None:
    case = {
        "id": "1" * 32,
        "name": "n",
        "intent": "positive",
        "operation": "GET /",
        "origin": {"source": "human"},
        "steps": [
            {
                "operation": "GET /",
                "request": {"method": "GET", "path": "/", "query": [["a", "b"]], "body": {"kind": "json", "value": 1}},
                "checks": [{"check": "status", "any_of": [200]}, {"check": "not_a_server_error", "basis": "guess"}],
            }
        ],
    }
    validator = jsonschema_rs.validator_for(json.loads(schemas()["case.schema.json"]))
    assert validator.is_valid(case) and msgspec.convert(case, Case, strict=False)
    assert not validator.is_valid({**case, "code": "import os"})
    assert not validator.is_valid({**case, "intent": "evil"})


# ------------------------------------------------------------------------ JUnit


def test_junit_counts_what_the_report_counts() -> None:
    from junitparser import JUnitXml

    report, suites = shop_report(), JUnitXml.fromstring(render_junit(shop_report(), shop_results()))
    assert suites.tests == report.totals.cases
    assert suites.errors == report.totals.results["errored"] and suites.skipped == report.totals.results["skipped"]
    quiet = {one.check for one in report.findings if one.advisory or one.state == "muted"}
    silent = sum(one.count for one in report.findings if one.advisory or one.state == "muted")
    assert quiet and suites.failures == report.totals.results["failed"] - silent
    assert [suite.name for suite in suites] == [key for key, one in report.operations.items() if one.cases]


def test_junit_keeps_advisory_and_muted_failures_as_output() -> None:
    report = shop_report()
    cases = list(ElementTree.fromstring(render_junit(report, shop_results())).iter("testcase"))
    noted = [case for case in cases if case.find("system-out") is not None]
    assert len(noted) == sum(one.count for one in report.findings if one.advisory or one.state == "muted")
    assert all(case.find("failure") is None for case in noted)


def test_junit_holds_only_what_xml_can_hold() -> None:
    root = ElementTree.fromstring(render_junit(hostile_report(), [hostile_result()]))
    failure = root.find(".//failure")
    assert failure is not None and failure.text is not None
    assert "<script>alert('x')</script>" in failure.text and "\\x1b[2J" in failure.text and "漢字" in failure.text


@settings(max_examples=100)
@given(st.text())
def test_any_message_gives_well_formed_xml(message: str) -> None:
    failure = Failure(check="status", operation="GET /", message=message)
    result = Result(run="r", case="c", operation="GET /", verdict="failed", failures=(failure,), reason=message)
    ElementTree.fromstring(render_junit(shop_report(), [result]))


def test_junit_of_a_failed_result_is_never_green() -> None:
    bare = Result(run="r", case="c", operation="GET /", verdict="failed")
    assert b"<failure" in render_junit(shop_report(), [bare])


def test_junit_keeps_what_quarantined_cases_show_as_output() -> None:
    report, results = shop_report(), shop_results()
    aside = msgspec.structs.replace(report, quarantined=tuple(one.case for one in results))
    bare = Result(run="r", case=results[0].case, operation="GET /", verdict="failed")
    root = ElementTree.fromstring(render_junit(aside, [*results, bare]))
    assert root.find(".//failure") is None and root.find(".//error") is None
    noted = [case.findtext("system-out", "") for case in root.iter("testcase")]
    assert sum(text.startswith("quarantined:") for text in noted) == sum(bool(one.failures) for one in results) > 0


# ------------------------------------------------------------------------ HTML


class Page(HTMLParser):
    """What a browser would make of a page: elements, attributes, text."""

    def __init__(self, html: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.open: list[str] = []
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in {"meta", "rect", "input"}:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] not in ("style", "title"):
            self.words.append(data)

    @property
    def text(self) -> str:
        return "".join(self.words)


def outline(html: str) -> str:
    """The page's text, a line each, without its style."""
    lines = (" ".join(line.split()) for line in Page(html).text.splitlines())
    return "\n".join(line for line in lines if line) + "\n"


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


def repeated_report() -> tuple[Report, str]:
    """The shop's report with a script, and a finding of each kind of proof."""
    report = shop_report()
    script = "#!/bin/sh\necho '<b>again</b>' && send \"$BASE_URL\"/orders\n"
    proofs = [
        {"reproduced": 3, "executed": 3},
        {"reproduced": 1, "executed": 3},
        {"not_repeated": "budget spent"},
        {"check": "concurrency", "advisory": True, "reproduced": 1, "executed": 2, "together": ("GET /a: status: no",)},
    ]
    findings = [
        msgspec.structs.replace(one, example=msgspec.structs.replace(one.example, recipe=script), **proof)
        for one, proof in zip(report.findings, proofs, strict=False)
    ]
    return msgspec.structs.replace(report, findings=tuple(findings)), script


def test_every_form_has_the_script_and_says_how_often_a_finding_came_back() -> None:
    report, script = repeated_report()
    said = ("reproduced 3 of 3", "intermittent: reproduced 1 of 3", "not repeated: budget spent")
    page, text = render_html(report), terminal_text(report, 120)
    assert Page(page).text.count(script.strip().splitlines()[1]) == len(report.findings)
    assert "GET /a: status: no" in page and "Fails only while other cases run" in text
    for words in said:
        assert words in page and words in " ".join(text.split())
    assert "testops reproduce" in text
    assert json.loads(render_json(report))["findings"][0]["example"]["recipe"] == script
    cases = ElementTree.fromstring(render_junit(report, shop_results())).iter("testcase")
    printed = [out.text or "" for case in cases for out in case.findall("system-out")]
    assert sum(script.strip() in text for text in printed) == len({one.example.case for one in report.findings})


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


# ------------------------------------------------------------------------ terminal


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


def test_every_form_names_the_method_that_was_sent() -> None:
    report = shop_report()
    probed = msgspec.structs.replace(report.findings[0], sent="PATCH /owners/{id}")
    report = msgspec.structs.replace(report, findings=(probed,))
    failed = next(one for one in shop_results() if one.failures)
    failures = tuple(msgspec.structs.replace(one, sent="PATCH /owners/{id}") for one in failed.failures)
    junit = render_junit(report, [msgspec.structs.replace(failed, failures=failures)]).decode()
    for text in (terminal_text(report), render_html(report), junit, summary(report)):
        assert "PATCH /owners/{id}" in text


def test_every_form_shows_the_severity_of_a_finding() -> None:
    report = shop_report()
    crash = msgspec.structs.replace(report.findings[0], check="no_answer", severity="critical")
    report = msgspec.structs.replace(report, findings=(crash,))
    failed = next(one for one in shop_results() if one.failures)
    failures = tuple(msgspec.structs.replace(one, check="no_answer") for one in failed.failures)
    failed = msgspec.structs.replace(failed, failures=failures)
    forms = [terminal_text(report), terminal_text(report, 80), render_html(report), render_json(report).decode()]
    forms += [render_junit(report, [failed]).decode(), render_wfc(report, [failed]).decode(), summary(report)]
    assert all("critical" in text.replace(".badge.critical", "") for text in forms)


def test_a_clean_run_says_so() -> None:
    clean = analyze([], target="t", run="r", operations={"GET /": ("200",)})
    assert "No findings." in terminal_text(clean) and "GET /  not called" in terminal_text(clean)
    assert "Nothing found." in render_html(clean)


# ------------------------------------------------------------------------ Web Fuzzing Commons


def wfc_validator() -> Any:
    schema = yaml.safe_load((DATA / "wfc-report.schema.yaml").read_text())
    return jsonschema_rs.validator_for(schema, validate_formats=True)


def test_wfc_report_is_valid() -> None:
    wfc_validator().validate(json.loads(render_wfc(shop_report(), shop_results())))


def test_wfc_report_of_hostile_text_is_valid() -> None:
    text = HOSTILE.replace("\ud800", "")  # JSON cannot hold lone surrogates: no result that came by JSON has one
    result = Result(
        run="r",
        case=text,
        case_name=text,
        operation=text,
        verdict="failed",
        requests=1,
        failures=(Failure(check=text, operation=text, message=text),),
        steps=(StepOutcome(operation=text, status=999),),
    )
    report = msgspec.structs.replace(shop_report(), operations={text: OperationReport()}, started=None, finished=None)
    wfc_validator().validate(json.loads(render_wfc(report, [result])))


def test_wfc_faults_are_the_findings_of_the_run() -> None:
    report = shop_report()
    document = json.loads(render_wfc(report, shop_results()))
    assert document["faults"]["totalNumber"] == report.totals.findings
    kinds = [kind for one in document["faults"]["foundFaults"] for kind in one["faultCategories"]]
    fingerprints = {one.fingerprint for one in report.findings if one.state != "fixed"}
    assert {kind["context"].split()[1] for kind in kinds} == fingerprints
    assert document["totalTests"] == report.totals.cases and document["creationTime"] == "2026-03-14T02:00:38.400000Z"
    assert document["problemDetails"]["rest"]["outputHttpCalls"] == report.totals.requests


# ------------------------------------------------------------------------ size


def many_results(number: int) -> Iterator[Result]:
    """Each with two kilobytes of evidence."""
    response = ResponseEvidence(status=500, body="x" * 2_000, body_bytes=2_000)
    for index in range(number):
        operation = f"GET /{index % 7}"
        step = StepOutcome(operation=operation, status=500, response=response)
        failure = Failure(check="not_a_server_error", operation=operation, message="answered 500", cause="status 500")
        yield Result(
            run="r",
            case=f"{index * 7919 % number:032x}",
            case_name=f"case {index % 100}",
            operation=operation,
            verdict="failed",
            failures=(failure,),
            steps=(step,),
            requests=1,
            elapsed_ms=1.5,
        )


def test_the_memory_of_a_report_s_files_does_not_grow_with_the_results(tmp_path: Path) -> None:
    import tracemalloc

    report = analyze(many_results(10), target="t", run="r", operations={}, finished=datetime.now(UTC))

    def peak(number: int) -> int:
        tracemalloc.start()
        write_report(report, many_results(number), tmp_path)
        most = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return most

    peak(10)
    small, large = peak(500), peak(5_000)
    assert large < small + 500_000, "the documents are 10 MB"
    root = ElementTree.parse(tmp_path / "junit.xml").getroot()
    assert (root.get("tests"), root.get("failures"), root.get("time")) == ("5000", "5000", "10.000")
    assert len(json.loads((tmp_path / "wfc.json").read_bytes())["faults"]["foundFaults"]) == 5_000


def test_files_written_result_by_result_are_those_of_all_at_once(tmp_path: Path) -> None:
    write_report(shop_report(), iter(shop_results()), tmp_path)
    assert (tmp_path / "junit.xml").read_bytes() == render_junit(shop_report(), shop_results())
    assert (tmp_path / "wfc.json").read_bytes() == render_wfc(shop_report(), shop_results())
    nothing = analyze([], target="t", run="r", operations={})
    write_report(nothing, [], tmp_path)
    assert ElementTree.parse(tmp_path / "junit.xml").getroot().get("tests") == "0"
    assert json.loads((tmp_path / "wfc.json").read_bytes())["testCases"] == []


# ------------------------------------------------------------------------ words


def check_names() -> set[str]:
    return {str(kind.__struct_config__.tag) for kind in get_args(AnyCheck)} | {
        "no_answer",
        "content_encoding_conformance",
        "endless_response",
        "response_timeout",
        "concurrency",
        "differential",
        "response_time_history",
    }


def test_every_check_has_a_title_a_severity_and_a_fault_code() -> None:
    assert set(TITLES) == set(SEVERITIES) == check_names()
    valid = [*range(100, 105), *range(200, 207), *range(900, 999)]
    assert all(code(name) in valid for name in check_names())
    assert all(code(name) == WFC_CODES[name] for name in WFC_CODES if WFC_CODES[name] in valid)


def test_the_guide_s_table_of_severities_is_true() -> None:
    guide = (DOCS / "report.md").read_text()
    rows = re.findall(r"^\| (critical|high|medium|low) \| [^|]* \| ([^|]*) \|$", guide, re.MULTILINE)
    named = {check: severity for severity, checks in rows for check in re.findall(r"`(\w+)`", checks)}
    assert len(rows) == 4 and len(named) >= 8
    assert {check: SEVERITIES[check] for check in named} == named


@given(st.text())
def test_visible_text_has_nothing_that_acts(text: str) -> None:
    shown = visible(text)
    assert all(char in "\n\t" or char.isprintable() or ord(char) >= 0xA0 for char in shown)
    assert visible(shown) == shown
    shown.encode()


# ------------------------------------------------------------------------ the command


def test_the_command_renders_a_stored_report_and_writes_schemas(tmp_path: Path) -> None:
    (tmp_path / "report.json").write_bytes(render_json(shop_report()))

    def run(*words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "testops_lib.report", *words], capture_output=True, text=True, cwd=tmp_path
        )

    assert run("render", "report.json").stdout.startswith(" FAILED  Shop API")
    assert run("render", "report.json", "--html", "page.html").returncode == 0
    assert (tmp_path / "page.html").read_text() == render_html(shop_report())
    (tmp_path / "bad.json").write_text("{}")
    bad = run("render", "bad.json")
    assert bad.returncode == 1 and "docs/report.schema.json" in bad.stderr and "Traceback" not in bad.stderr
    assert run("schemas", ".").returncode == 0
    assert (tmp_path / "case.schema.json").read_bytes() == schemas()["case.schema.json"]


def test_reports_are_rendered_without_heavy_imports() -> None:
    program = "import sys, testops_lib.report; print([m for m in ('rich', 'jinja2') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
