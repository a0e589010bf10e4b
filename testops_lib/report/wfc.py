"""The report as Web Fuzzing Commons' report.json, for tools that compare fuzzers."""

from __future__ import annotations

import io
import shutil
import tempfile
from collections.abc import Iterable
from contextlib import closing
from datetime import UTC, datetime
from typing import Any, BinaryIO

import msgspec

from testops_lib.model import WFC_CODES, Report, Result, severity_of
from testops_lib.report.text import seconds
from testops_lib.text import one_line
from testops_lib.verdict.fingerprint import fingerprint_of

SCHEMA_VERSION = "0.2.0"

OWN_CODES: dict[str, int] = {
    "ignored_auth": 907,
    "unsupported_method": 910,
    "positive_data_acceptance": 920,
    "ensure_resource_availability": 921,
    "max_response_time": 922,
    "status": 923,
    "header": 924,
    "jsonpath": 925,
    "no_answer": 926,
    "differential": 927,
    "idempotency": 928,
    "pagination_consistency": 929,
    "filter_honoured": 930,
    "method_agreement": 931,
    "response_time_history": 932,
    "content_encoding_conformance": 933,
    "endless_response": 934,
    "response_timeout": 935,
    "concurrency": 935,
}
"""Check name -> code from the range 900-999, which the format leaves to tools: checks without a code of its own, and
those whose code (207, 210) its catalogue knows but its report schema refuses."""

_ANY_OTHER = 999


class WfcWriter:
    """Takes results one by one, and writes JSON that is valid against the format's report schema.

    A fault's context is `check fingerprint severity`, so that faults can be joined with the findings of our own report.
    Results of one case come one after the other. The long lists wait in temporary files, so that memory does not grow
    with the number of results. Close it.
    """

    def __init__(self, report: Report) -> None:
        self._report = report
        self._faults, self._covered, self._cases = _List(), _List(), _List()
        self._kinds: set[tuple[int, str]] = set()
        self._calls = 0
        self._case = ""
        self._categories: dict[str, dict[str, int]] = {}
        """Of the latest case, by operation."""

    def add(self, result: Result) -> None:
        """Takes one result; of repetitions only the requests count."""
        self._calls += result.requests
        if result.repeat:
            return
        if result.case != self._case or not len(self._cases):
            self._end_case()
            self._case = result.case
            self._cases.add({"id": result.case, "name": one_line(result.case_name or result.case)})
        statuses: dict[str, set[int]] = {}
        for step in result.steps:
            if not step.sent:
                statuses.setdefault(step.operation, set()).update({step.status} if 0 < step.status <= 599 else set())
        for key, seen in statuses.items():
            self._covered.add({"endpointId": endpoint(key), "testCaseId": result.case, "httpStatus": sorted(seen)})
        for failure in result.failures:
            contexts = self._categories.setdefault(failure.operation, {})
            contexts[f"{failure.check} {fingerprint_of(failure)} {severity_of(failure.check)}"] = code(failure.check)

    def _end_case(self) -> None:
        for operation, contexts in self._categories.items():
            self._kinds.update((number, context) for context, number in contexts.items())
            kinds = [{"code": number, "context": context} for context, number in sorted(contexts.items())]
            self._faults.add(
                {
                    "operationId": endpoint(operation),
                    "endpointId": endpoint(operation),
                    "testCaseId": self._case,
                    "faultCategories": kinds,
                }
            )
        self._categories = {}

    def write(self, file: BinaryIO) -> None:
        """Writes the document of all results so far."""
        self._end_case()
        report = self._report
        head = {
            "schemaVersion": SCHEMA_VERSION,
            "toolName": "AI TestOps",
            "toolVersion": _version(),
            "creationTime": _rfc3339(report.finished or report.started),
        }
        endpoints = list(dict.fromkeys(endpoint(key) for key in report.operations))
        calls = {"outputHttpCalls": self._calls, "evaluatedHttpCalls": self._calls, "endpointIds": endpoints}
        file.write(_members(head) + b',"faults":{"totalNumber":%d,"foundFaults":' % len(self._kinds))
        self._faults.write(file)
        file.write(b'},"problemDetails":{"rest":' + _members(calls) + b',"coveredHttpStatus":')
        self._covered.write(file)
        file.write(b'}},"totalTests":%d,"testFilePaths":[],"testCases":' % len(self._cases))
        self._cases.write(file)
        file.write(b',"executionTimeInSeconds":%d}' % round(seconds(report) or 0))

    def close(self) -> None:
        """Gives the disk space back."""
        for values in (self._faults, self._covered, self._cases):
            values.close()


class _List:
    """A JSON list on disk."""

    def __init__(self) -> None:
        self._file = tempfile.TemporaryFile()
        self._length = 0

    def __len__(self) -> int:
        return self._length

    def add(self, value: Any) -> None:
        self._file.write((b"," if self._length else b"") + msgspec.json.encode(value))
        self._length += 1

    def write(self, file: BinaryIO) -> None:
        self._file.seek(0)
        file.write(b"[")
        shutil.copyfileobj(self._file, file)
        file.write(b"]")

    def close(self) -> None:
        self._file.close()


def _members(document: dict[str, Any]) -> bytes:
    """A JSON object without its end, so that members can follow."""
    return msgspec.json.encode(document).removesuffix(b"}")


def render_wfc(report: Report, results: Iterable[Result]) -> bytes:
    """What a `WfcWriter` writes of these results."""
    with closing(WfcWriter(report)) as writer:
        for result in results:
            writer.add(result)
        file = io.BytesIO()
        writer.write(file)
        return file.getvalue()


def code(check: str) -> int:
    """The fault code of a check that the format's report schema accepts."""
    return OWN_CODES.get(check) or WFC_CODES.get(check, _ANY_OTHER)


def endpoint(operation: str) -> str:
    """`GET /pets/{id}` -> `GET:/pets/{id}`."""
    return operation.replace(" ", ":", 1)


def _rfc3339(moment: datetime | None) -> str:
    return (moment or datetime.fromtimestamp(0, UTC)).astimezone(UTC).isoformat().replace("+00:00", "Z")


def _version() -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("ai-testops")
    except PackageNotFoundError:
        return "0"
