"""What a case expects of one header or one value of the answer that it asked for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from testops_lib.http.answer import Answer, header_values
from testops_lib.http.body import NOTHING
from testops_lib.model import HeaderIs, JsonPathIs
from testops_lib.placeholder import fill
from testops_lib.verdict.body import Body
from testops_lib.verdict.json_values import equal, select
from testops_lib.verdict.mismatch import Mismatch, quoted


def header_mismatch(check: HeaderIs, answer: Answer, captured: Mapping[str, Any]) -> Mismatch | None:
    values = header_values(answer.headers, check.name.lower())
    if not values:
        return Mismatch(f"response header {check.name} is missing", f"{check.name.lower()} missing")
    wanted = None if check.equals is None else str(fill(check.equals, captured))
    if wanted is not None and wanted not in values:
        return Mismatch(
            f"response header {check.name} is {values[0]!r}, expected {wanted!r}", f"{check.name.lower()} value"
        )
    return None


def value_mismatch(check: JsonPathIs, body: Body, captured: Mapping[str, Any]) -> Mismatch | None:
    document = body.document()
    if document is NOTHING:
        return Mismatch(body.unreadable.message, body.unreadable.cause)
    nodes = select(check.path, document)
    wanted = fill(check.value, captured)
    match check.op:
        case "exists":
            holds = bool(nodes)
        case "absent":
            holds = not nodes
        case "equals":
            holds = len(nodes) == 1 and equal(nodes[0], wanted)
        case "contains":
            holds = any(equal(node, wanted) for node in nodes)
        case "excludes":
            holds = not any(equal(node, wanted) for node in nodes)
        case "max_items":
            holds = len(nodes) <= wanted
        case "min_items":
            holds = len(nodes) >= wanted
    if holds:
        return None
    if check.op in ("max_items", "min_items"):
        observed = f"{len(nodes)} items"
    else:
        observed = quoted(nodes[0]) if nodes else "nothing"
    expected = check.op if wanted is None else f"{check.op} {quoted(wanted)}"
    return Mismatch(f"{check.path} is {observed}, expected: {expected}", f"{check.path} {check.op}")
