"""The report as JUnit XML: a test suite per operation, a testcase per case.

The dialect is what Jenkins, GitLab and the GitHub actions read: failed is `failure`, errored is `error`. Written with
the standard library, test case by test case: junitparser builds the whole document in memory. The tests read it back
with junitparser.
"""

from __future__ import annotations

import io
import sqlite3
from collections.abc import Iterable
from contextlib import closing
from dataclasses import astuple, dataclass
from datetime import datetime
from typing import BinaryIO
from xml.etree import ElementTree

from testops_lib.export import curl
from testops_lib.model import CONCURRENCY, Failure, Report, Result, severity_of
from testops_lib.text import one_line, xml_text
from testops_lib.verdict.fingerprint import fingerprint_of

_MOST_TEXT = 4_000
"""Characters of one text; tools that show JUnit files load them whole."""


class JunitWriter:
    """Takes results one by one, and writes JUnit XML: operations in the report's order, cases by name.

    Quarantined cases and those that fail only advisory checks or muted findings pass here, with the failure in
    `system-out`, so that a tool that counts failures comes to the gate's view.

    The test cases wait in a temporary database on disk, so that memory does not grow with their number. Close it.
    """

    def __init__(self, report: Report) -> None:
        self._report = report
        self._muted = {finding.fingerprint for finding in report.findings if finding.state == "muted"}
        self._muted |= {key for finding in report.findings if finding.check == CONCURRENCY for key in finding.folded}
        self._quarantined = set(report.quarantined)
        examples = [finding.example for finding in report.findings]
        self._recipes = {example.case: example.recipe for example in examples if example.recipe}
        self._suites = {operation: _Counts() for operation in report.operations}
        self._cases = sqlite3.connect("", isolation_level=None)
        self._cases.execute("CREATE TABLE cases (operation BLOB, name BLOB, id BLOB, attempt INTEGER, xml BLOB)")
        self._cases.execute("BEGIN")

    def add(self, result: Result) -> None:
        """Takes one result; repetitions are left out."""
        if result.repeat:
            return
        case = _testcase(result, self._muted, result.case in self._quarantined)
        if result.verdict == "failed" and result.case in self._recipes:
            _print(case, f"see it again (a shell script):\n{self._recipes[result.case]}")
        self._suites.setdefault(result.operation, _Counts()).add(case)
        ElementTree.indent(case, level=2)
        key = (_key(result.operation), _key(result.case_name), _key(result.case), result.attempt)
        self._cases.execute("INSERT INTO cases VALUES (?, ?, ?, ?, ?)", (*key, ElementTree.tostring(case, "utf-8")))

    def write(self, file: BinaryIO) -> None:
        """Writes the document of all results so far."""
        suites = {operation: counts for operation, counts in self._suites.items() if counts.tests}
        name = xml_text(f"{self._report.target} {self._report.run}".strip())
        root = ElementTree.Element("testsuites", {"name": name, **_Counts.sum(suites.values()).attributes()})
        file.write(b"<?xml version='1.0' encoding='utf-8'?>\n")
        file.write(_opened(root) if suites else ElementTree.tostring(root))
        for operation, counts in suites.items():
            suite = ElementTree.Element("testsuite", {"name": xml_text(operation), **counts.attributes()})
            if self._report.started is not None:
                suite.set("timestamp", _timestamp(self._report.started))
            file.write(b"\n  " + _opened(suite))
            for (xml,) in self._cases.execute(_BY_NAME, (_key(operation),)):
                file.write(b"\n    " + xml)
            file.write(b"\n  </testsuite>")
        file.write(b"\n</testsuites>\n" if suites else b"\n")

    def close(self) -> None:
        """Gives the disk space back."""
        self._cases.close()


_BY_NAME = "SELECT xml FROM cases WHERE operation = ? ORDER BY name, id, attempt"


def render_junit(report: Report, results: Iterable[Result]) -> bytes:
    """What a `JunitWriter` writes of these results."""
    with closing(JunitWriter(report)) as writer:
        for result in results:
            writer.add(result)
        file = io.BytesIO()
        writer.write(file)
        return file.getvalue()


@dataclass
class _Counts:
    """What the head of a suite says of its cases."""

    tests: int = 0
    failures: int = 0
    errors: int = 0
    skipped: int = 0
    elapsed_ms: int = 0

    def add(self, case: ElementTree.Element) -> None:
        self.tests += 1
        self.failures += case.find("failure") is not None
        self.errors += case.find("error") is not None
        self.skipped += case.find("skipped") is not None
        self.elapsed_ms += round(float(case.get("time", "0")) * 1000)

    @classmethod
    def sum(cls, parts: Iterable[_Counts]) -> _Counts:
        return cls(*map(sum, zip(*map(astuple, parts), strict=True)))

    def attributes(self) -> dict[str, str]:
        numbers = {"tests": self.tests, "failures": self.failures, "errors": self.errors, "skipped": self.skipped}
        return {**{key: str(number) for key, number in numbers.items()}, "time": f"{self.elapsed_ms / 1000:.3f}"}


def _key(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")


def _opened(element: ElementTree.Element) -> bytes:
    """The start tag of an element that has children to come."""
    empty: bytes = ElementTree.tostring(element, "utf-8")
    return empty.removesuffix(b" />") + b">"


def _print(case: ElementTree.Element, text: str) -> None:
    """Adds to the test case's `system-out`, of which there may be one."""
    out = case.find("system-out")
    if out is None:
        out = ElementTree.SubElement(case, "system-out")
    out.text = f"{out.text}\n{xml_text(text)}" if out.text else xml_text(text)


def _testcase(result: Result, muted: set[str], quarantined: bool) -> ElementTree.Element:
    case = ElementTree.Element(
        "testcase",
        {
            "classname": xml_text(result.operation),
            "name": one_line(xml_text(result.case_name or result.case)),
            "time": f"{result.elapsed_ms / 1000:.3f}",
        },
    )
    silent = {index for index, failure in enumerate(result.failures) if quarantined or _silent(failure, muted)}
    loud = [failure for index, failure in enumerate(result.failures) if index not in silent]
    if loud:
        failed = ElementTree.SubElement(
            case,
            "failure",
            {"type": ", ".join(dict.fromkeys(failure.check for failure in loud)), "message": _line(loud[0])},
        )
        failed.text = _text(result, loud)
    elif result.verdict == "errored" and quarantined:
        ElementTree.SubElement(case, "skipped", {"message": one_line(xml_text(f"quarantined: {result.reason}"))})
    elif result.verdict == "errored":
        ElementTree.SubElement(case, "error", {"type": "errored", "message": one_line(xml_text(result.reason))})
    elif result.verdict == "skipped":
        ElementTree.SubElement(case, "skipped", {"message": one_line(xml_text(result.reason))})
    elif result.verdict == "failed" and not silent and not quarantined:
        failed = ElementTree.SubElement(case, "failure", {"type": "failed", "message": "failed without a check"})
    if silent:
        out = ElementTree.SubElement(case, "system-out")
        out.text = ("quarantined:\n" if quarantined else "advisory or muted:\n") + _text(
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
    later = f"; passed on attempt {result.passed_again}" if result.passed_again else ""
    return xml_text("\n".join([*lines, f"case {result.case}, attempt {result.attempt}{later}"]))[:_MOST_TEXT]


def _timestamp(moment: datetime) -> str:
    return moment.replace(microsecond=0, tzinfo=None).isoformat()
