from __future__ import annotations

from xml.etree import ElementTree

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from testops_lib.model import (
    Failure,
    Result,
)
from testops_lib.report import (
    render_junit,
)
from tests.testops_lib.report.reports import check_golden, hostile_report, hostile_result, shop_report, shop_results


def test_junit_is_the_golden_one() -> None:
    check_golden("shop-junit.xml", render_junit(shop_report(), shop_results()).decode())


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
