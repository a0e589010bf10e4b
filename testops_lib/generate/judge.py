"""A request as it will be sent -> what is invalid in it by the document.

The last word on random data: in a URL all is text, so the string "5" is a number there. Placeholders of captured values
are taken for valid.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterator, Mapping
from typing import Any, Final
from urllib.parse import unquote

from testops_lib.generate.rules import wire
from testops_lib.generate.schemas import Schemas, kinds
from testops_lib.model import BytesBody, FormBody, JsonBody, MultipartBody, Request, TextBody, Value
from testops_lib.placeholder import fill
from testops_lib.spec.operation import MediaType, Operation, Parameter, Schema, Spec

_TOKEN: Final = {"unique": "0123456789ab"}
_CHOICES: Final = frozenset({"oneOf", "anyOf", "not", "const", "enum", "contains", "uniqueItems", "falseSchema"})
_PLACEHOLDER: Final = re.compile(r"\{(\w+)\}")
_FORMAT_BOUNDS: Final = frozenset({-(2**31), 2**31 - 1, -(2**63), 2**63 - 1})
_MOST: Final = 20


class Fault(Value, frozen=True, kw_only=True):
    """One thing that is invalid."""

    place: str
    """`body/price`, `query/limit`."""
    rule: str
    """The keyword it breaks; `malformed`: no JSON."""
    sure: bool = True
    """No server may take it for valid: it is neither a `format`, nor what a lenient reader converts (`"5"` for 5)."""


class RequestJudge:
    """Judges requests against one spec."""

    def __init__(self, spec: Spec, schemas: Schemas | None = None) -> None:
        self._schemas = schemas or Schemas(spec.definitions)
        self._operations = {operation.key: operation for operation in spec.operations}
        self._secrets = frozenset(
            (scheme.where, scheme.name.lower()) for scheme in spec.security_schemes.values() if scheme.kind == "apiKey"
        )

    def faults(self, key: str, request: Request, captured: Collection[str] = ()) -> tuple[Fault, ...]:
        """What is invalid in a request of the operation `key`, parameters first; empty when nothing is.

        Raises:
            KeyError: the spec has no such operation.
        """
        operation = self._operations[key]
        return tuple((*self._parameters(operation, request, captured), *self._body(operation, request, captured)))

    # ------------------------------------------------------------------ parameters

    def _parameters(self, operation: Operation, request: Request, captured: Collection[str]) -> Iterator[Fault]:
        given = {
            "query": _grouped(request.query), "header": _grouped(request.headers, fold=True),
            "cookie": _grouped(request.cookies), "path": _path_values(operation.path, request.path),
        }  # fmt: skip
        for parameter in wire.sent_parameters(operation, self._secrets):
            name = parameter.name.lower() if parameter.where == "header" else parameter.name
            values = given[parameter.where].get(name)
            place = f"{parameter.where}/{parameter.name}"
            if values is None:
                parts = any(other.startswith(f"{name}[") for other in given[parameter.where])
                spread = "object" in kinds(self._schemas.flat(parameter.schema))
                if parameter.required and parameter.where != "path" and not parts and not spread:
                    yield Fault(place=place, rule="required")
            elif not any(_holds(value, captured) for value in values):
                rule = self._broken(parameter, [fill(value, _TOKEN) for value in values])
                if rule:
                    yield Fault(place=place, rule=rule, sure=rule != "format")

    def _broken(self, parameter: Parameter, values: list[str]) -> str:
        """The rule that a parameter's texts break, however they may be read, or ""."""
        if parameter.content_type:
            return ""
        flat = self._schemas.flat(parameter.schema)
        many = len(values) > 1 or ("array" in kinds(flat) and parameter.explode)
        sent: Any = list(values) if many else values[0]
        if "object" in kinds(flat) or wire.reads_as_valid(self._schemas, parameter.schema, parameter, sent):
            return ""
        schema: Schema = parameter.schema
        if isinstance(sent, list):
            items = flat.get("items", True)
            broken = (one for one in sent if not wire.reads_as_valid(self._schemas, items, parameter, one))
            bad = next(broken, None)
            if bad is None:
                return next((rule for rule in ("uniqueItems", "minItems", "maxItems") if rule in flat), "type")
            schema, sent = items, bad
        readings = wire.scalars(sent)
        best = next((one for one in reversed(readings) if not self._is_type(schema, one)), None)
        if best is None:
            return "type"
        return next((fault.rule if fault.sure else "format" for fault in self._errors(schema, best, ())), "type")

    def _is_type(self, schema: Schema, value: Any) -> bool:
        return any(error.kind.name == "type" for error in self._schemas.errors(schema, value))

    # ------------------------------------------------------------------ bodies

    def _body(self, operation: Operation, request: Request, captured: Collection[str]) -> Iterator[Fault]:
        if operation.body is None:
            return
        body = request.body
        if body is None:
            if operation.body.required:
                yield Fault(place="body", rule="required")
            return
        if isinstance(body, FormBody):
            yield from self._form(_described(operation.body.content, wire.FORM), body, captured)
            return
        media = wire.MULTIPART if isinstance(body, MultipartBody) else body.media_type
        described = _described(operation.body.content, media)
        if described is None or described.schema is None or isinstance(body, MultipartBody):
            return
        if isinstance(body, JsonBody):
            yield from self._errors(described.schema, body.value, captured)
        elif wire.is_json(media):
            data = body.text.encode("utf-8", "replace") if isinstance(body, TextBody) else _data(body)
            try:
                value = json.loads(data.decode("utf-8"))
            except (ValueError, RecursionError):
                yield Fault(place="body", rule="malformed")
            else:
                yield from self._errors(described.schema, value, captured)

    def _form(self, described: MediaType | None, body: FormBody, captured: Collection[str]) -> Iterator[Fault]:
        flat = self._schemas.flat(described.schema if described else None)
        given = _grouped(body.fields)
        for name in flat.get("required", ()):
            declared = self._schemas.flat(flat.get("properties", {}).get(name))
            if name not in given and "array" not in kinds(declared) and declared.get("readOnly") is not True:
                yield Fault(place=f"body/{name}", rule="required")
        for name, values in given.items():
            declared = flat.get("properties", {}).get(name)
            if declared is not None and not any(_holds(value, captured) or value[:1] in "{[" for value in values):
                field = Parameter(name=name, where="query", schema=declared, explode=True)
                rule = self._broken(field, [fill(value, _TOKEN) for value in values])
                if rule:
                    yield Fault(place=f"body/{name}", rule=rule, sure=rule != "format" and values != [""])

    def _errors(self, schema: Schema, value: Any, captured: Collection[str]) -> Iterator[Fault]:
        filled = fill(value, _TOKEN)
        found: Iterator[Any] = self._schemas.errors(schema, filled)
        for count, error in enumerate(found):
            if count == _MOST:
                return
            node: Any = filled
            for key in error.instance_path:
                node = node[key]
            rule = error.kind.name
            if _holds(node, captured) and (rule in _CHOICES or isinstance(node, str)):
                continue
            place = "/".join(["body", *map(str, error.instance_path)])
            if rule == "required":
                place = f"{place}/{error.kind.property}"
            yield Fault(place=place, rule=rule, sure=_sure(error, node))


def _sure(error: Any, value: Any) -> bool:
    rule = error.kind.name
    if rule == "format" or (rule in ("minimum", "maximum") and error.kind.limit in _FORMAT_BOUNDS):
        return False
    if rule != "type":
        return rule not in ("oneOf", "anyOf") or isinstance(value, dict | list)
    # What pydantic, Jackson and others convert unless told not to.
    wanted = set(re.findall(r"[a-z]+", str(error.kind.types)))
    if value is None:
        return False
    if isinstance(value, bool | int | float):
        return not wanted & {"boolean", "integer", "number", "string"}
    if isinstance(value, str):
        return not (wanted & {"boolean", "integer", "number"} and _converts(value))
    return True


def _converts(text: str) -> bool:
    bare = text.strip().lower()
    if bare in ("", "true", "false", "yes", "no", "on", "off", "t", "f", "y", "n", "null", "none", "nan", "inf"):
        return True
    try:
        float(bare.replace("_", ""))
    except ValueError:
        return False
    return True


def _grouped(pairs: Collection[tuple[str, str]], *, fold: bool = False) -> dict[str, list[str]]:
    grouped: dict[str, list[str]] = {}
    for name, value in pairs:
        grouped.setdefault(name.lower() if fold else name, []).append(value)
    return grouped


def _path_values(template: str, sent: str) -> dict[str, list[str]]:
    """The values of path parameters that fill a whole segment."""
    parts, mine = template.split("/"), sent.split("/")
    if len(parts) != len(mine):
        return {}
    return {
        part[1:-1]: [unquote(value)]
        for part, value in zip(parts, mine, strict=True)
        if part[:1] == "{" and part[-1:] == "}" and part.count("{") == 1
    }


def _described(content: Mapping[str, MediaType], media: str) -> MediaType | None:
    kind = media.split(";", 1)[0].strip().lower()
    for name, described in content.items():
        if name == media or name.split(";", 1)[0].strip().lower() == kind:
            return described
    return next((described for name, described in content.items() if "*" in name), None)


def _data(body: Any) -> bytes:
    return body.data if isinstance(body, BytesBody) else b""


def _holds(value: Any, captured: Collection[str]) -> bool:
    """A captured value stands somewhere in it."""
    if isinstance(value, str):
        return "{" in value and any(name in captured for name in _PLACEHOLDER.findall(value))
    if isinstance(value, dict):
        return any(_holds(item, captured) for item in value.values())
    return isinstance(value, list) and any(_holds(item, captured) for item in value)
