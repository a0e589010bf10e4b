"""Values -> the parts of a request, as OpenAPI's `style`, `explode` and media types say.

Placeholders (`{order_id}`, `{unique}`) stay as they are; the runner encodes what it puts in their place.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import Iterator, Mapping
from typing import Any, Final
from urllib.parse import quote

from testops_lib.generate.readings import SEPARATORS
from testops_lib.generate.schemas import Schemas
from testops_lib.model import AnyBody, BytesBody, FormBody, JsonBody, MultipartBody, Pairs, Part, TextBody
from testops_lib.spec.operation import MediaType, Operation, Parameter, RequestBody

FORM: Final = "application/x-www-form-urlencoded"
MULTIPART: Final = "multipart/form-data"

_TEMPLATE: Final = re.compile(r"\{([^{}]*)\}")
_PLACEHOLDER: Final = re.compile(r"(\{\w+\})")
_NOT_HEADER: Final = re.compile(r"[^\x20-\x7e]")


def text(value: Any) -> str:
    """A scalar as it stands in a URL or header."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return value
    if isinstance(value, dict | list):
        return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    return repr(int(value)) if isinstance(value, float) and value == int(value) and abs(value) < 1e15 else repr(value)


def parameter_names(path: str) -> list[str]:
    """Names in a path template, in order: `/a/{b}/{c}` -> b, c."""
    return _TEMPLATE.findall(path)


def path(template: str, parameters: Mapping[str, Parameter], values: Mapping[str, Any]) -> str:
    """The template filled; values are percent-encoded, a parameter without a value becomes `1`."""

    def fill(match: re.Match[str]) -> str:
        name = match[1]
        if name not in values:
            name = re.split(r"[=:*]", name)[0]
        if name not in values:
            return "1"
        return _in_path(parameters.get(name), name, values[name])

    return _TEMPLATE.sub(fill, template)


def _in_path(parameter: Parameter | None, name: str, value: Any) -> str:
    style = parameter.style if parameter else ""
    explode = bool(parameter and parameter.explode)
    if parameter and parameter.content_type:
        return _escape(text(value) if isinstance(value, str) else json.dumps(value))
    if isinstance(value, dict):
        pairs = [(key, _escape(text(item))) for key, item in value.items()]
        flat = [f"{key}={item}" for key, item in pairs] if explode else [part for pair in pairs for part in pair]
        lead, joint = {"label": (".", "."), "matrix": (";", ";")}.get(style, ("", ","))
        if style == "matrix" and not explode:
            return f";{name}={','.join(flat)}"
        return lead + (joint if explode else ",").join(flat)
    items = [_escape(text(item)) for item in value] if isinstance(value, list) else [_escape(text(value))]
    if style == "label":
        return "." + ("." if explode else ",").join(items)
    if style == "matrix":
        return "".join(f";{name}={item}" for item in items) if explode else f";{name}={','.join(items)}"
    return ",".join(items)


def _escape(value: str) -> str:
    parts = _PLACEHOLDER.split(value)
    return "".join(part if index % 2 else quote(part, safe="~") for index, part in enumerate(parts))


def pairs(parameter: Parameter, value: Any) -> Pairs:
    """One query parameter as it is sent: none, one or several pairs."""
    name = parameter.name
    if parameter.content_type:
        return (
            (name, value if isinstance(value, str) and value[:1] == "{" else json.dumps(value, ensure_ascii=False)),
        )
    if isinstance(value, dict):
        if parameter.style == "deepObject":
            return tuple(_deep(name, value))
        if parameter.explode or not parameter.style:
            return tuple((key, text(item)) for key, item in value.items())
        joint = SEPARATORS.get(parameter.style, ",")
        return ((name, joint.join(f"{key}{joint}{text(item)}" for key, item in value.items())),)
    if isinstance(value, list):
        if parameter.style in SEPARATORS:
            return ((name, SEPARATORS[parameter.style].join(text(item) for item in value)),)
        if parameter.explode:
            return tuple((name, text(item)) for item in value)
        return ((name, ",".join(text(item) for item in value)),) if value else ()
    return ((name, text(value)),)


def _deep(name: str, value: Any) -> Iterator[tuple[str, str]]:
    for key, item in value.items():
        if isinstance(item, dict):
            yield from _deep(f"{name}[{key}]", item)
        elif isinstance(item, list):
            yield from ((f"{name}[{key}]", text(part)) for part in item)
        else:
            yield (f"{name}[{key}]", text(item))


def header(parameter: Parameter, value: Any) -> str:
    """A header or cookie value; characters that no header may hold are left out."""
    if parameter.content_type and not isinstance(value, str):
        return json.dumps(value)
    if isinstance(value, dict):
        joint = "=" if parameter.explode else ","
        whole = ",".join(f"{key}{joint}{text(item)}" for key, item in value.items())
    elif isinstance(value, list):
        whole = ",".join(text(item) for item in value)
    else:
        whole = text(value)
    return _NOT_HEADER.sub("", whole).strip()


def is_json(media: str) -> bool:
    kind = media.split(";", 1)[0].strip().lower()
    return kind in ("application/json", "text/json", "*/*", "application/*", "*") or kind.endswith("+json")


def media_types(body: RequestBody | None) -> list[str]:
    """The documented media types that can be written, the easiest to get right first."""
    if body is None:
        return []
    ranks = [(rank, index, name) for index, name in enumerate(body.content) if (rank := _rank(name)) is not None]
    return [name for _, _, name in sorted(ranks)]


def _rank(media: str) -> int | None:
    kind = media.split(";", 1)[0].strip().lower()
    if is_json(media):
        return 0 if kind == "application/json" else 2 if "*" in kind else 1
    if kind in (FORM, MULTIPART):
        return 3 if kind == FORM else 4
    if "xml" in kind or "yaml" in kind:
        return None
    return 5 if kind.startswith("text/") else 6


def body(media: str, described: MediaType, value: Any, schemas: Schemas) -> AnyBody:
    """The body of a request. `value` is JSON; for other media types its text, fields or parts are sent."""
    kind = media.split(";", 1)[0].strip().lower()
    if is_json(media):
        return JsonBody(value=value, media_type="application/json" if "*" in kind else media)
    if kind == FORM:
        return FormBody(fields=tuple(_fields(value, described)))
    if kind == MULTIPART:
        return MultipartBody(parts=tuple(_parts(value, described, schemas)))
    if kind.startswith("text/"):
        return TextBody(text=text(value), media_type="text/plain" if "*" in kind else media)
    return BytesBody(data=text(value).encode(), media_type="application/octet-stream" if "*" in kind else media)


def _fields(value: Any, described: MediaType) -> Iterator[tuple[str, str]]:
    for name, item in value.items() if isinstance(value, dict) else ():
        if is_json(described.encoding.get(name, "text")):
            yield (name, json.dumps(item))
        elif isinstance(item, list):
            yield from ((name, text(part)) for part in item)
        else:
            yield (name, text(item))


def _parts(value: Any, described: MediaType, schemas: Schemas) -> Iterator[Part]:
    properties = schemas.flat(described.schema).get("properties", {})
    for name, item in value.items() if isinstance(value, dict) else ():
        declared = schemas.flat(properties.get(name))
        many = isinstance(item, list)
        if many:
            declared = schemas.flat(declared.get("items"))
        for one in item if many else [item]:
            given = described.encoding.get(name, "").split(",", 1)[0].strip()
            if is_file(declared):
                data = _decoded(text(one)) if declared.get("format") == "byte" else text(one).encode()
                suffix = {"image/png": "png", "application/pdf": "pdf", "text/csv": "csv"}.get(given, "txt")
                media = given if given and "*" not in given else "text/plain" if suffix == "txt" else given
                yield Part(name=name, data=data, filename=f"file.{suffix}", media_type=media)
            elif isinstance(one, dict | list):
                yield Part(name=name, data=json.dumps(one).encode(), media_type=given or "application/json")
            else:
                yield Part(name=name, data=text(one).encode(), media_type=given)


def is_file(declared: Mapping[str, Any]) -> bool:
    """A form's property with this schema is uploaded as a file."""
    return (
        declared.get("format") in ("binary", "byte") or "contentMediaType" in declared or declared.get("type") == "file"
    )


def _decoded(value: str) -> bytes:
    try:
        return base64.b64decode(value, validate=True)
    except (binascii.Error, ValueError):
        return value.encode()


def sent_parameters(operation: Operation, credentials: frozenset[tuple[str, str]]) -> list[Parameter]:
    """The parameters a case may set: not the headers OpenAPI reserves, nor what carries credentials."""
    return [
        parameter
        for parameter in operation.parameters
        if not (parameter.where == "header" and parameter.name.lower() in _RESERVED)
        and (parameter.where, parameter.name.lower()) not in credentials
    ]


_RESERVED: Final = frozenset({"accept", "content-type", "authorization", "content-length", "host", "connection"})
