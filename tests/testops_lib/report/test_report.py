from __future__ import annotations

import json
import re
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import get_args
from xml.etree import ElementTree

import jsonschema_rs
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from testops_lib.errors import TestOpsError
from testops_lib.model import (
    CHECKS,
    SEVERITIES,
    WFC_CODES,
    AnyCheck,
    Case,
)
from testops_lib.notify import summary
from testops_lib.report import (
    read_report,
    render_html,
    render_json,
    render_junit,
    render_wfc,
    terminal_text,
)
from testops_lib.report.json import schemas
from testops_lib.report.text import TITLES
from testops_lib.report.wfc import code
from testops_lib.run.report import write_report
from testops_lib.text import visible
from testops_lib.verdict.analyze import analyze
from tests.paths import DOCS
from tests.testops_lib.report.page import Page
from tests.testops_lib.report.reports import check_golden, many_results, repeated_report, shop_report, shop_results


def test_every_check_has_a_title_for_people() -> None:
    assert set(TITLES) == CHECKS


def test_json_is_the_golden_one() -> None:
    check_golden("shop-report.json", render_json(shop_report()).decode())


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
