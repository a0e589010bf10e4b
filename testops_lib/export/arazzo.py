"""Cases as an Arazzo 1.0.1 description: a workflow for each case (https://spec.openapis.org/arazzo/v1.0.1)."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any
from urllib.parse import unquote

import msgspec

from testops_lib.export.request import body_text, check_name
from testops_lib.export.statuses import accepted_statuses, bounds
from testops_lib.export.text import PLACEHOLDER, places
from testops_lib.model import (
    AnyCheck,
    Case,
    FormBody,
    HeaderIs,
    JsonBody,
    JsonPathIs,
    MultipartBody,
    Step,
)

VERSION = "1.0.1"
SOURCE = "api"
EXTENSION = "x-testops"
"""What Arazzo has no word for, at a workflow: the case's intent, its operation, and how many of the last steps clean
up. Our import reads it."""
_JSONPATH = {"type": "jsonpath", "version": "draft-goessner-dispatch-jsonpath-00"}


class Arazzo(msgspec.Struct, frozen=True, kw_only=True):
    """The description, and the cases that it leaves out: case id -> why."""

    document: dict[str, Any]
    left_out: dict[str, str]


def arazzo(cases: Iterable[Case], spec: str, *, title: str, operation_ids: Mapping[str, str] | None = None) -> Arazzo:
    """A description whose source is the OpenAPI document `spec` (URL or path).

    Values kept from answers become outputs, and references to them runtime expressions; `{unique}` becomes the input
    `unique` of the workflow. A step keeps its cleanup by being followed by it. What Arazzo has no words for (other
    identities, malformed paths, methods that are not offered, multipart bodies, JSONPaths of several nodes as captures)
    leaves its case out; checks that it has no words for stand in the step's description.

    Args:
        operation_ids: operation key -> operationId; an operation without one is named by its path.
    """
    ids = operation_ids or {}
    workflows: list[dict[str, Any]] = []
    left_out: dict[str, str] = {}
    for case in cases:
        try:
            workflows.append(_workflow(case, ids))
        except _Unsayable as error:
            left_out[case.id] = str(error)
    document = {
        "arazzo": VERSION,
        "info": {"title": title, "version": "1"},
        "sourceDescriptions": [{"name": SOURCE, "url": spec, "type": "openapi"}],
        "workflows": workflows,
    }
    return Arazzo(document=document, left_out=left_out)


class _Unsayable(Exception):
    pass


def _workflow(case: Case, ids: Mapping[str, str]) -> dict[str, Any]:
    steps: list[dict[str, Any]] = []
    outputs: dict[str, str] = {"unique": "$inputs.unique"}
    for number, step in enumerate((*case.steps, *case.cleanup), 1):
        steps.append(_step(step, f"step{number}", outputs, ids, judged=number <= len(case.steps)))
    unique = {"type": "string", "description": "12 hexadecimal digits, new for each execution"}
    return {
        "workflowId": f"case-{case.id}",
        "summary": case.name,
        "inputs": {"type": "object", "properties": {"unique": unique}},
        "steps": steps,
        EXTENSION: {"intent": case.intent, "operation": case.operation, "cleanup": len(case.cleanup)},
    }


def _step(step: Step, name: str, outputs: dict[str, str], ids: Mapping[str, str], *, judged: bool) -> dict[str, Any]:
    if step.identity:
        raise _Unsayable(f"it speaks as {step.identity}")
    method, _, template = step.operation.partition(" ")
    request = step.request
    if request.method != method:
        raise _Unsayable(f"{request.method} is not what {step.operation} offers")
    made: dict[str, Any] = {"stepId": name, "description": step.operation}
    if step.operation in ids:
        made["operationId"] = ids[step.operation]
    else:
        pointer = template.replace("~", "~0").replace("/", "~1")
        made["operationPath"] = f"{{$sourceDescriptions.{SOURCE}.url}}#/paths/{pointer}/{method.lower()}"
    parameters = [
        {"name": key, "in": "path", "value": _value(value, outputs)} for key, value in _in_path(template, request.path)
    ]
    seen: dict[tuple[str, str], Any] = {}
    for where, pairs in (("query", request.query), ("header", request.headers), ("cookie", request.cookies)):
        for key, value in pairs:
            if (where, key) in seen:
                raise _Unsayable(f"{where} {key} is sent twice")
            seen[where, key] = True
            parameters.append({"name": key, "in": where, "value": _value(value, outputs)})
    if parameters:
        made["parameters"] = parameters
    if request.body is not None:
        made["requestBody"] = _body(step, outputs)
    criteria, notes = _criteria(step, outputs) if judged else ([], [])
    if criteria:
        made["successCriteria"] = criteria
    if notes:
        made["description"] += "; also checked: " + ", ".join(notes)
    kept: dict[str, str] = {}
    for capture in step.captures:
        if not re.fullmatch(r"[A-Za-z0-9._-]+", capture.name):
            raise _Unsayable(f"the name {capture.name!r} is none of Arazzo's")
        if capture.source == "status":
            kept[capture.name] = "$statusCode"
        elif capture.source == "header":
            kept[capture.name] = f"$response.header.{capture.path}"
        else:
            keys = places(capture.path)
            if keys is None:
                raise _Unsayable(f"{capture.path} is no single place of a body")
            kept[capture.name] = "$response.body#" + "".join("/" + _pointed(key) for key in keys)
        outputs[capture.name] = f"$steps.{name}.outputs.{capture.name}"
    if kept:
        made["outputs"] = kept
    return made


def _pointed(part: str | int) -> str:
    return str(part).replace("~", "~0").replace("/", "~1")


def _in_path(template: str, path: str) -> list[tuple[str, str]]:
    """Names of the template's parameters with what the path holds there."""
    names = re.findall(r"\{([^{}]+)\}", template)
    parts = re.split(r"\{[^{}]+\}", template)
    match = re.fullmatch("(.+?)".join(map(re.escape, parts)), path)
    if match is None:
        raise _Unsayable(f"{path} is no {template}")
    return [(name, unquote(value)) for name, value in zip(names, match.groups(), strict=True)]


def _value(value: Any, outputs: Mapping[str, str]) -> Any:
    """A constant, a runtime expression, or a text with expressions embedded."""
    if isinstance(value, dict):
        return {key: _value(item, outputs) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_value(item, outputs) for item in value]
    if not isinstance(value, str):
        return value
    whole = PLACEHOLDER.fullmatch(value)
    if whole and whole[1] in outputs:
        return outputs[whole[1]]
    if value.startswith("$"):
        raise _Unsayable(f"{value!r} would be read as a runtime expression")
    return PLACEHOLDER.sub(lambda match: "{" + outputs[match[1]] + "}" if match[1] in outputs else match[0], value)


def _body(step: Step, outputs: Mapping[str, str]) -> dict[str, Any]:
    body = step.request.body
    if isinstance(body, MultipartBody):
        raise _Unsayable("a multipart body")
    if isinstance(body, JsonBody):
        if body.value is None or isinstance(body.value, str):
            raise _Unsayable("a JSON body that is null or one string")
        return {"contentType": body.media_type, "payload": _value(body.value, outputs)}
    if isinstance(body, FormBody):
        if len({name for name, _ in body.fields}) < len(body.fields):
            raise _Unsayable("a form field is sent twice")
        return {"contentType": "application/x-www-form-urlencoded", "payload": _value(dict(body.fields), outputs)}
    text, media_type = body_text(body)
    if not text:
        raise _Unsayable("a media type without a body")
    return {"contentType": media_type or "application/octet-stream", "payload": _value(text, outputs)}


def _criteria(step: Step, outputs: Mapping[str, str]) -> tuple[list[dict[str, Any]], list[str]]:
    """Success criteria, each once, and the names of checks that Arazzo has no words for."""
    conditions = ["$statusCode >= 200", "$statusCode < 300"] if step.setup else []
    criteria = [{"condition": condition} for condition in conditions]
    notes: list[str] = []
    for check in step.checks:
        criterion = _criterion(check, outputs)
        if criterion is None:
            notes.append(check_name(check))
        criteria += [part for part in criterion or () if part not in criteria]
    return criteria, notes


def _criterion(check: AnyCheck, outputs: Mapping[str, str]) -> list[dict[str, Any]] | None:
    if (accepted := accepted_statuses(check)) is not None:
        conditions = [f"$statusCode {sign} {status}" for sign, status in bounds(accepted)]
        if accepted.also:
            inside = [" && ".join(conditions)] if conditions else []
            conditions = [" || ".join([*inside, *(f"$statusCode == {status}" for status in accepted.also)])]
        return [{"condition": condition} for condition in conditions]
    match check:
        case HeaderIs(name=name, equals=str(equals)) if "'" not in equals and not PLACEHOLDER.search(equals):
            return [{"condition": f"$response.header.{name} == '{equals}'"}]
        case JsonPathIs(path=path, op="exists"):
            return [{"context": "$response.body", "condition": path, "type": _JSONPATH}] if places(path) else None
        case JsonPathIs(path=path, op="equals", value=bool() | int() | float() | str() as value):
            where = places(path)
            if where is None or (isinstance(value, str) and "'" in value):
                return None
            place = "$response.body#" + "".join("/" + _pointed(key) for key in where)
            whole = PLACEHOLDER.fullmatch(value) if isinstance(value, str) else None
            if whole and whole[1] in outputs:
                return [{"condition": f"{place} == {outputs[whole[1]]}"}]
            literal = f"'{value}'" if isinstance(value, str) else msgspec.json.encode(value).decode()
            return [{"condition": f"{place} == {literal}"}]
    return None
