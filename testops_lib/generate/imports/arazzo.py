"""Arazzo 1.0 and 1.1 descriptions: a case for each workflow (https://spec.openapis.org/arazzo/latest.html)."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any, get_args

from testops_lib.export.arazzo import EXTENSION
from testops_lib.generate.imports.calls import MAX_STEPS, Imported, Router
from testops_lib.generate.rules.resources import json_path
from testops_lib.model import Intent
from testops_lib.spec.operation import Operation

_MOST_WORKFLOWS = 2_000
_MAX_DEPTH = 5
_EMBEDDED = re.compile(r"\{(\$[^{}]+)\}")
_STATUS = re.compile(r"\$statusCode\s*==\s*(\d{3})")
_BOUND = re.compile(r"\$statusCode\s*(>=|<)\s*([1-5]00)(?:\s*\|\|\s*\$statusCode\s*==\s*\d{3})*")
_BODY_IS = re.compile(r"\$response\.body#(/[^\s=]*)\s*==\s*(.+)")
_HEADER_IS = re.compile(r"\$response\.header\.([\w-]+)\s*==\s*'([^']*)'")


class _Unreadable(Exception):
    pass


def read(document: Mapping[str, Any], router: Router, values: Mapping[str, Sequence[Any]]) -> Imported:
    """Proposals for the workflows.

    Inputs take a value of `values` (by name), else their schema's default, example, constant or first enumerated
    value. Steps that call another workflow are taken in its place. Retries, jumps and XPath are noted and left out.
    """
    proposals: list[dict[str, Any]] = []
    notes: list[str] = []
    workflows = [workflow for workflow in document.get("workflows") or () if isinstance(workflow, dict)]
    workflows_by_id = {str(workflow.get("workflowId")): workflow for workflow in workflows}
    for workflow in workflows[:_MOST_WORKFLOWS]:
        name = str(workflow.get("workflowId"))
        reading = _Reading(document, router, values, workflows_by_id)
        try:
            reading.workflow(workflow, reading.inputs(workflow), prefix="", depth=0)
            proposals.append(reading.proposal(str(workflow.get("summary") or name), workflow.get(EXTENSION)))
        except _Unreadable as reason:
            notes.append(f"workflow {name[:80]}: {reason}")
        except (KeyError, TypeError, AttributeError, ValueError, RecursionError) as error:
            notes.append(f"workflow {name[:80]}: cannot be read ({type(error).__name__}: {str(error)[:80]})")
        notes += [f"workflow {name[:80]}: {note}" for note in reading.notes]
    return Imported(form="arazzo", proposals=tuple(proposals), notes=tuple(notes))


class _Reading:
    """Turns one workflow into a proposal."""

    def __init__(
        self,
        document: Mapping[str, Any],
        router: Router,
        values: Mapping[str, Sequence[Any]],
        workflows: Mapping[str, Mapping[str, Any]],
    ) -> None:
        self._document, self._router, self._values, self._workflows = document, router, values, workflows
        self._steps: list[dict[str, Any]] = []
        self._kept: dict[str, Any] = {}
        """Full name of a step's output (`place-order/create.id`) -> what stands for it in a case."""
        self.notes: list[str] = []
        self._intent: Intent = "positive"
        """By the criteria of the last step."""

    def proposal(self, name: str, extension: Any) -> dict[str, Any]:
        """The case as proposed; `extension` is what our own export adds to the workflow."""
        if not self._steps:
            raise _Unreadable("it calls nothing")
        if len(self._steps) > MAX_STEPS + 1:
            raise _Unreadable(f"it has {len(self._steps)} steps, and {MAX_STEPS + 1} is the limit")
        extended = extension if isinstance(extension, dict) else {}
        count = extended.get("cleanup", 0)
        split = len(self._steps) - (count if isinstance(count, int) and 0 < count < len(self._steps) else 0)
        steps, cleanup = self._steps[:split], self._steps[split:]
        keys = {step["operation"] for step in steps}
        operation = extended.get("operation")
        intent = extended["intent"] if extended.get("intent") in get_args(Intent) else self._intent
        if intent == "negative":  # what is refused makes nothing that could be kept or removed
            steps[-1]["captures"], cleanup = [], []
        return {
            "name": name[:200],
            "intent": intent,
            "operation": operation if operation in keys else steps[-1]["operation"],
            "steps": steps,
            "cleanup": [{key: value for key, value in step.items() if key != "expect"} for step in cleanup],
        }

    def inputs(self, workflow: Mapping[str, Any]) -> dict[str, Any]:
        schema = self._resolved(workflow.get("inputs") or {})
        inputs: dict[str, Any] = {}
        for name, declared in (schema.get("properties") or {}).items():
            declared = self._resolved(declared) if isinstance(declared, dict) else {}
            if self._values.get(name):
                inputs[name] = self._values[name][0]
                continue
            for key in ("default", "example", "const"):
                if key in declared:
                    inputs[name] = declared[key]
                    break
            else:
                listed = declared.get("examples") or declared.get("enum")
                if isinstance(listed, list) and listed:
                    inputs[name] = listed[0]
        inputs.setdefault("unique", "{unique}")  # as our own export calls it
        return inputs

    def workflow(self, workflow: Mapping[str, Any], inputs: Mapping[str, Any], *, prefix: str, depth: int) -> None:
        if depth > _MAX_DEPTH:
            raise _Unreadable("its workflows call each other too deeply")
        common = list(workflow.get("parameters") or ())
        for step in workflow["steps"]:
            self._step(step, common, inputs, prefix, depth)
        for name, expression in (workflow.get("outputs") or {}).items():
            self._kept[f"{prefix}.{name}"] = self._value(expression, inputs, prefix)

    def _step(
        self, step: Mapping[str, Any], common: Sequence[Any], inputs: Mapping[str, Any], prefix: str, depth: int
    ) -> None:
        name = f"{prefix}{step['stepId']}"
        for part in ("onSuccess", "onFailure"):
            if step.get(part):
                self.notes.append(f"step {name[:80]}: {part} is left out")
        parameters = [self._parameter(parameter) for parameter in (*common, *(step.get("parameters") or ()))]
        if "workflowId" in step:
            called = self._workflows.get(str(step["workflowId"]).rpartition(".")[2])
            if called is None:
                raise _Unreadable(f"step {name[:80]} calls a workflow of another description")
            arguments = {
                str(parameter["name"]): self._value(parameter.get("value"), inputs, prefix) for parameter in parameters
            }
            self.workflow(called, {**self.inputs(called), **arguments}, prefix=f"{name}/", depth=depth + 1)
            for output, expression in (step.get("outputs") or {}).items():
                wanted = str(expression).removeprefix("$outputs.")
                if f"{name}/.{wanted}" in self._kept:
                    self._kept[f"{name}.{output}"] = self._kept[f"{name}/.{wanted}"]
            return
        operation = self._operation(step)
        captures: list[dict[str, Any]] = []
        made: dict[str, Any] = {"operation": operation.key, "captures": captures}
        where = {"path": "path_params", "query": "query", "header": "headers", "cookie": "cookies"}
        for parameter in parameters:
            value = self._value(parameter.get("value"), inputs, prefix)
            many = value if isinstance(value, list) else [value]
            if parameter.get("in") not in where:
                continue
            made.setdefault(where[parameter["in"]], []).extend(
                {"name": str(parameter["name"]), "value": _text(item)} for item in many
            )
        if isinstance(body := step.get("requestBody"), dict) and "payload" in body:
            made |= self._body(body, inputs, prefix)
        made["expect"] = self._expected(step, inputs, prefix)
        for output, expression in (step.get("outputs") or {}).items():
            capture = _capture(f"{name}_{output}", str(expression))
            if capture is None:
                self.notes.append(f"step {name[:80]}: the output {output[:40]} is left out")
                continue
            captures.append(capture)
            self._kept[f"{name}.{output}"] = "{" + capture["name"] + "}"
        self._steps.append(made)

    def _operation(self, step: Mapping[str, Any]) -> Operation:
        if "operationId" in step:
            wanted = str(step["operationId"])
            operation = self._router.by_id.get(wanted) or self._router.by_id.get(wanted.rpartition(".")[2])
        else:
            pointer = str(step.get("operationPath", "")).partition("#/paths/")[2]
            path, _, method = pointer.rpartition("/")
            wanted = f"{method.upper()} {path.replace('~1', '/').replace('~0', '~')}"
            operation = self._router.by_key.get(wanted)
        if operation is None:
            raise _Unreadable(f"the document has no operation {wanted[:100]!r}")
        return operation

    def _parameter(self, parameter: Any) -> dict[str, Any]:
        """A parameter, or the reusable one that it refers to."""
        if isinstance(parameter, dict) and "reference" in parameter:
            name = str(parameter["reference"]).rpartition(".")[2]
            shared = ((self._document.get("components") or {}).get("parameters") or {})[name]
            return {**shared, **({"value": parameter["value"]} if "value" in parameter else {})}
        return dict(parameter)

    def _resolved(self, schema: Mapping[str, Any]) -> Mapping[str, Any]:
        reference = str(schema.get("$ref", ""))
        if reference.startswith("#/components/inputs/"):
            inputs = ((self._document.get("components") or {}).get("inputs") or {}).get(reference.rpartition("/")[2])
            return inputs if isinstance(inputs, dict) else {}
        return schema

    def _value(self, value: Any, inputs: Mapping[str, Any], prefix: str) -> Any:
        """A value with runtime expressions replaced by inputs and by names of captures."""
        if isinstance(value, dict):
            return {key: self._value(item, inputs, prefix) for key, item in value.items()}
        if isinstance(value, list):
            return [self._value(item, inputs, prefix) for item in value]
        if not isinstance(value, str):
            return value
        if value.startswith("$"):
            return self._expression(value, inputs, prefix)
        return _EMBEDDED.sub(lambda found: _text(self._expression(found[1], inputs, prefix)), value)

    def _expression(self, text: str, inputs: Mapping[str, Any], prefix: str) -> Any:
        if text.startswith("$inputs."):
            name, _, pointer = text.removeprefix("$inputs.").partition("#")
            if name not in inputs:
                raise _Unreadable(f"the input {name[:60]!r} has no value: give one by `values`")
            value = inputs[name]
            for part in pointer.split("/")[1:]:
                value = value[int(part)] if isinstance(value, list) else value[part]
            return value
        step = re.fullmatch(r"\$steps\.([\w-]+)\.outputs\.([\w.-]+?)(#.*)?", text, re.ASCII)
        if step is not None and not step[3] and f"{prefix}{step[1]}.{step[2]}" in self._kept:
            return self._kept[f"{prefix}{step[1]}.{step[2]}"]
        raise _Unreadable(f"the expression {text[:80]!r} is not understood")

    def _body(self, body: Mapping[str, Any], inputs: Mapping[str, Any], prefix: str) -> dict[str, Any]:
        media_type = str(body.get("contentType") or "application/json")
        payload = self._value(body["payload"], inputs, prefix)
        for change in body.get("replacements") or ():
            payload = _set(payload, str(change["target"]), self._value(change["value"], inputs, prefix))
        if isinstance(payload, dict) and ("urlencoded" in media_type or "form-data" in media_type):
            fields = [{"name": str(name), "value": _text(value)} for name, value in payload.items()]
            return {"form": fields, "media_type": media_type}
        if "json" in media_type and not isinstance(payload, str):
            return {"body_json": payload, "media_type": media_type}
        return {"body_text": _text(payload), "media_type": media_type}

    def _expected(self, step: Mapping[str, Any], inputs: Mapping[str, Any], prefix: str) -> list[dict[str, Any]]:
        expected: list[dict[str, Any]] = []
        for criterion in step.get("successCriteria") or ():
            condition = str(criterion.get("condition", "")).strip()
            kind = criterion.get("type", "simple")
            kind = kind.get("type") if isinstance(kind, dict) else kind
            made: dict[str, Any] | None = None
            if kind == "simple" and (bounds := _bounds(condition)):
                self._intent = "negative" if bounds[0] >= 300 else "positive"
                continue  # what every case of that intent is checked for
            if kind == "jsonpath" and criterion.get("context") == "$response.body":
                made = {"kind": "jsonpath", "path": condition, "op": "exists"}
            elif kind == "simple" and (statuses := _STATUS.findall(condition)) and _only_statuses(condition):
                made = {"kind": "status", "statuses": [int(status) for status in statuses]}
            elif kind == "simple" and (equal := _BODY_IS.fullmatch(condition)):
                value = self._literal(equal[2].strip(), inputs, prefix)
                made = {"kind": "jsonpath", "path": _as_path(equal[1]), "op": "equals", "value_json": value}
            elif kind == "simple" and (header := _HEADER_IS.fullmatch(condition)):
                made = {"kind": "header", "name": header[1], "equals": header[2]}
            if made is None:
                self.notes.append(f"step {str(step['stepId'])[:80]}: the criterion {condition[:80]!r} is left out")
            else:
                expected.append({**made, "basis": "guess"})
        return expected

    def _literal(self, text: str, inputs: Mapping[str, Any], prefix: str) -> Any:
        """A literal of a simple condition, as JSON text or value."""
        if text.startswith("$"):
            value = self._expression(text, inputs, prefix)
            return f'"{value}"' if isinstance(value, str) else value
        if len(text) > 1 and text[0] == text[-1] == "'":
            return json.dumps(text[1:-1])
        return text


def _bounds(condition: str) -> tuple[int, int] | None:
    """Lowest and highest status that a condition on hundreds allows; None: it is another condition."""
    match = _BOUND.fullmatch(condition)
    if match is None:
        return None
    limit = int(match[2])
    return (limit, 599) if match[1] == ">=" else (100, limit - 1)


def _only_statuses(condition: str) -> bool:
    return not _STATUS.sub("", condition).replace("||", "").strip(" ()")


def _as_path(pointer: str) -> str:
    parts = [part.replace("~1", "/").replace("~0", "~") for part in pointer.split("/")[1:]]
    return json_path([int(part) if part.isascii() and part.isdigit() else part for part in parts])


def _capture(name: str, expression: str) -> dict[str, Any] | None:
    name = re.sub(r"\W", "_", name, flags=re.ASCII)[:60]
    name = name if name[:1].isalpha() else f"v{name}"
    if expression == "$statusCode":
        return {"name": name, "source": "status"}
    if expression.startswith("$response.header."):
        return {"name": name, "source": "header", "path": expression.removeprefix("$response.header.")}
    if expression.startswith("$response.body#"):
        return {"name": name, "source": "body", "path": _as_path(expression.removeprefix("$response.body#"))}
    return None


def _set(document: Any, pointer: str, value: Any) -> Any:
    """The document with the value at a JSON Pointer."""
    parts = [part.replace("~1", "/").replace("~0", "~") for part in pointer.split("/")[1:]]
    if not parts:
        return value
    head, rest = parts[0], "/" + "/".join(parts[1:]) if parts[1:] else ""
    if isinstance(document, list):
        return [_set(item, rest, value) if index == int(head) else item for index, item in enumerate(document)]
    inner = document.get(head) if isinstance(document, dict) else None
    return {**(document if isinstance(document, dict) else {}), head: _set(inner, rest, value)}


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
