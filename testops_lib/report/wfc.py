"""The report as Web Fuzzing Commons' report.json, for tools that compare fuzzers."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

import msgspec

from testops_lib.fingerprint import fingerprint_of
from testops_lib.model import WFC_CODES, Report, Result, severity_of
from testops_lib.report.text import seconds
from testops_lib.text import one_line

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


def render_wfc(report: Report, results: Iterable[Result]) -> bytes:
    """JSON that is valid against the format's report schema.

    A fault's context is `check fingerprint severity`, so that faults can be joined with the findings of our own report.
    """
    categories: dict[tuple[str, str], dict[str, int]] = {}
    covered: list[dict[str, Any]] = []
    cases: dict[str, str] = {}
    calls = 0
    for result in results:
        calls += result.requests
        if result.repeat:
            continue
        cases.setdefault(result.case, one_line(result.case_name or result.case))
        statuses: dict[str, set[int]] = {}
        for step in result.steps:
            if not step.sent:
                statuses.setdefault(step.operation, set()).update({step.status} if 0 < step.status <= 599 else set())
        covered += [
            {"endpointId": endpoint(key), "testCaseId": result.case, "httpStatus": sorted(found)}
            for key, found in statuses.items()
        ]
        for failure in result.failures:
            contexts = categories.setdefault((failure.operation, result.case), {})
            contexts[f"{failure.check} {fingerprint_of(failure)} {severity_of(failure.check)}"] = code(failure.check)
    faults = [
        {
            "operationId": endpoint(operation), "endpointId": endpoint(operation), "testCaseId": case,
            "faultCategories": [{"code": number, "context": context} for context, number in sorted(contexts.items())],
        }
        for (operation, case), contexts in categories.items()
    ]  # fmt: skip
    document = {
        "schemaVersion": SCHEMA_VERSION, "toolName": "AI TestOps", "toolVersion": _version(),
        "creationTime": _rfc3339(report.finished or report.started),
        "faults": {
            "totalNumber": len({(number, context) for one in categories.values() for context, number in one.items()}),
            "foundFaults": faults,
        },
        "problemDetails": {
            "rest": {
                "outputHttpCalls": calls, "evaluatedHttpCalls": calls,
                "endpointIds": list(dict.fromkeys(endpoint(key) for key in report.operations)),
                "coveredHttpStatus": covered,
            }
        },
        "totalTests": len(cases), "testFilePaths": [],
        "testCases": [{"id": case, "name": name} for case, name in cases.items()],
        "executionTimeInSeconds": round(seconds(report) or 0),
    }  # fmt: skip
    return msgspec.json.encode(document)


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
