"""The report as JSON, and the JSON Schemas of the documents that we write."""

from __future__ import annotations

import json
from typing import Any

import msgspec

from testops_lib.errors import TestOpsError
from testops_lib.model import Case, Report


def render_json(report: Report) -> bytes:
    """The whole report, indented, keys in the model's order; valid against docs/report.schema.json."""
    return msgspec.json.format(msgspec.json.encode(report), indent=2) + b"\n"


def read_report(data: bytes) -> Report:
    """The report that `render_json` wrote.

    Raises:
        TestOpsError: the document is no report, or one of another version.
    """
    try:
        return msgspec.json.decode(data, type=Report)
    except msgspec.DecodeError as error:
        raise TestOpsError(str(error), where="report", next_step="see docs/report.schema.json") from error


def schemas() -> dict[str, bytes]:
    """File name under docs/ -> JSON Schema (2020-12) of the document, as text of the file."""
    documents = {"case.schema.json": (Case, "Test case"), "report.schema.json": (Report, "Run report")}
    return {name: _schema(kind, title) for name, (kind, title) in documents.items()}


def _schema(kind: type[Any], title: str) -> bytes:
    schema = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": f"AI TestOps: {title}",
        **msgspec.json.schema(kind),
    }
    return json.dumps(schema, indent=2, sort_keys=False).encode() + b"\n"
