"""The report as JUnit XML: a test suite per operation, a testcase per case.

The dialect is what Jenkins, GitLab and the GitHub actions read: failed is `failure`, errored is `error`.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from xml.etree import ElementTree

from testops_lib.export import curl
from testops_lib.fingerprint import fingerprint_of
from testops_lib.model import CONCURRENCY, Failure, Report, Result, severity_of
from testops_lib.text import one_line, xml_text

_MOST_TEXT = 4_000
"""Characters of one text; tools that show JUnit files load them whole."""


def render_junit(report: Report, results: Iterable[Result]) -> bytes:
    """JUnit XML, operations in the report's order and cases by name.

    Quarantined cases and those that fail only advisory checks or muted findings pass here, with the failure in
    `system-out`, so that a tool that counts failures comes to the gate's view.
    """
    muted = {finding.fingerprint for finding in report.findings if finding.state == "muted"}
    muted |= {key for finding in report.findings if finding.check == CONCURRENCY for key in finding.folded}
    aside = set(report.quarantined)
    by_operation: dict[str, list[tuple[str, str, int, ElementTree.Element]]] = {key: [] for key in report.operations}
    for result in results:
        if result.repeat:
            continue
        entry = (result.case_name, result.case, result.attempt, _testcase(result, muted, result.case in aside))
        by_operation.setdefault(result.operation, []).append(entry)
    root = ElementTree.Element("testsuites", {"name": xml_text(f"{report.target} {report.run}".strip())})
    for operation, entries in by_operation.items():
        if entries:
            cases = [entry[3] for entry in sorted(entries, key=lambda entry: entry[:3])]
            suite = ElementTree.SubElement(root, "testsuite", {"name": xml_text(operation)})
            suite.extend(cases)
            _count(suite, cases)
            if report.started is not None:
                suite.set("timestamp", _timestamp(report.started))
    _count(root, root.iter("testcase"))
    ElementTree.indent(root)
    text: bytes = ElementTree.tostring(root, encoding="utf-8", xml_declaration=True)
    return text + b"\n"


def _testcase(result: Result, muted: set[str], aside: bool) -> ElementTree.Element:
    case = ElementTree.Element(
        "testcase",
        {
            "classname": xml_text(result.operation), "name": one_line(xml_text(result.case_name or result.case)),
            "time": f"{result.elapsed_ms / 1000:.3f}",
        },
    )  # fmt: skip
    silent = {index for index, failure in enumerate(result.failures) if aside or _silent(failure, muted)}
    loud = [failure for index, failure in enumerate(result.failures) if index not in silent]
    if loud:
        failed = ElementTree.SubElement(
            case, "failure", {"type": ", ".join(dict.fromkeys(one.check for one in loud)), "message": _line(loud[0])}
        )
        failed.text = _text(result, loud)
    elif result.verdict == "errored" and aside:
        ElementTree.SubElement(case, "skipped", {"message": one_line(xml_text(f"quarantined: {result.reason}"))})
    elif result.verdict == "errored":
        ElementTree.SubElement(case, "error", {"type": "errored", "message": one_line(xml_text(result.reason))})
    elif result.verdict == "skipped":
        ElementTree.SubElement(case, "skipped", {"message": one_line(xml_text(result.reason))})
    elif result.verdict == "failed" and not silent and not aside:
        failed = ElementTree.SubElement(case, "failure", {"type": "failed", "message": "failed without a check"})
    if silent:
        out = ElementTree.SubElement(case, "system-out")
        out.text = ("quarantined:\n" if aside else "advisory or muted:\n") + _text(
            result, [result.failures[index] for index in sorted(silent)]
        )
    return case


def _silent(failure: Failure, muted: set[str]) -> bool:
    return failure.basis == "guess" or fingerprint_of(failure) in muted


def _line(failure: Failure) -> str:
    return one_line(xml_text(f"{severity_of(failure.check)}: {failure.check}: {failure.message}"))


def _text(result: Result, failures: list[Failure]) -> str:
    lines = [f"{failure.check}: {failure.sent or failure.operation}: {failure.message}" for failure in failures]
    step = result.steps[failures[0].step] if failures[0].step < len(result.steps) else None
    if step and step.response:
        lines.append(f"answered {step.response.status}: {step.response.body[:500]}")
    if step and step.request:
        lines.append(f"again: {curl(step.request)}")
    again = f"; passed on attempt {result.passed_again}" if result.passed_again else ""
    return xml_text("\n".join([*lines, f"case {result.case}, attempt {result.attempt}{again}"]))[:_MOST_TEXT]


def _count(element: ElementTree.Element, cases: Iterable[ElementTree.Element]) -> None:
    counts = {"tests": 0, "failures": 0, "errors": 0, "skipped": 0}
    elapsed_s = 0.0
    for case in cases:
        counts["tests"] += 1
        elapsed_s += float(case.get("time", "0"))
        for key, tag in (("failures", "failure"), ("errors", "error"), ("skipped", "skipped")):
            counts[key] += case.find(tag) is not None
    for key, number in counts.items():
        element.set(key, str(number))
    element.set("time", f"{elapsed_s:.3f}")


def _timestamp(moment: datetime) -> str:
    return moment.replace(microsecond=0, tzinfo=None).isoformat()
