"""Swagger 2.0, translated to OpenAPI 3."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

from testops_lib.http.address import is_url
from testops_lib.spec.library import Place, kind
from testops_lib.spec.operation import Header, MediaType, Parameter, RequestBody, Response, Schema, SecurityScheme
from testops_lib.spec.reader import Entry, Reader, text

_STYLES = {"ssv": "spaceDelimited", "pipes": "pipeDelimited", "tsv": "tabDelimited"}
_URLENCODED, _MULTIPART = "application/x-www-form-urlencoded", "multipart/form-data"
_JSON = "application/json"


class Swagger2(Reader):
    def __init__(self, *args: Any, **named: Any) -> None:
        super().__init__(*args, **named)
        self._simples: dict[int, tuple[Any, Schema]] = {}

    def servers(self) -> tuple[str, ...]:
        base = text(self.root.get("basePath")).strip().rstrip("/")
        if base and not base.startswith("/"):
            base = f"/{base}"
        host = text(self.root.get("host")).strip().strip("/")
        if not host:
            return (base,) if base else ()
        listed = self.root.get("schemes")
        schemes = [scheme for scheme in listed if scheme in ("http", "https")] if isinstance(listed, list) else []
        if not schemes:
            local = host.partition(":")[0] in ("localhost", "127.0.0.1")
            schemes = [urlsplit(self.source).scheme.lower() if is_url(self.source) else "http" if local else "https"]
        return tuple(f"{scheme}://{host}{base}" for scheme in dict.fromkeys(schemes))

    def security_schemes(self) -> dict[str, SecurityScheme]:
        schemes: dict[str, SecurityScheme] = {}
        listed = self.root.get("securityDefinitions")
        for name, place in self.follow_each(listed, self.document, "/securityDefinitions"):
            raw = place.value
            basic = raw.get("type") == "basic"
            schemes[name] = SecurityScheme(
                kind="http" if basic else text(raw.get("type")),
                scheme="basic" if basic else "",
                name=text(raw.get("name")),
                where=text(raw.get("in")),
                login_url=text(raw.get("tokenUrl")),
            )
        return schemes

    def parameter(self, place: Place) -> Parameter | None:
        raw = place.value
        where = raw["in"]
        if where in ("body", "formData"):
            return None
        if where not in ("path", "query", "header"):
            self.notes.add(str(place), f"`in` must be one of Swagger 2.0's, not {where[:30]!r}; it is left out")
            return None
        if where == "header" and raw["name"].lower() in ("accept", "content-type"):
            return None
        style, explode = ("form" if where == "query" else "simple"), False
        collection = text(raw.get("collectionFormat"))
        if collection == "multi":
            explode = True
        elif collection in _STYLES:
            style = _STYLES[collection]
        return Parameter(
            name=raw["name"],
            where=where,
            required=where == "path" or raw.get("required") is True,
            schema=self._simple(place),
            style=style,
            explode=explode,
            examples=self._examples(raw),
            description=text(raw.get("description")),
            allow_empty=raw.get("allowEmptyValue") is True,
        )

    def _simple(self, place: Place) -> Schema:
        """The schema of a parameter or header, whose keywords stand beside its name."""
        if "schema" in place.value:  # not allowed there, but usual
            return self.schema(place.value, place)
        converted = self._simples.get(id(place.value))
        if converted is not None:
            return converted[1]
        keywords = {
            key: value
            for key, value in place.value.items()
            if key not in ("description", "required", "example", "examples", "title", "$ref")
        }
        schema = self.schemas.convert(keywords, place.document, place.pointer)
        self._simples[id(place.value)] = place.value, schema
        return schema

    def _examples(self, raw: dict[str, Any]) -> tuple[Any, ...]:
        examples = [raw[key] for key in ("example", "x-example") if key in raw]
        named = raw.get("x-examples")
        if isinstance(named, dict):
            examples.extend(named.values())
        return tuple(examples)

    def body(self, raw: dict[str, Any], entry: Entry, parameters: list[Place]) -> RequestBody | None:
        whole = [place for place in parameters if place.value["in"] == "body"]
        fields = [place for place in parameters if place.value["in"] == "formData"]
        consumes = self._types(raw, "consumes")
        if whole:
            place = whole[-1]
            schema = self.schema(place.value, place) if "schema" in place.value else None
            examples = self._examples(place.value)
            return RequestBody(
                content={name: MediaType(schema=schema, examples=examples) for name in consumes or (_JSON,)},
                required=place.value.get("required") is True,
                description=text(place.value.get("description")),
            )
        if not fields:
            return None
        form = self._form(fields)
        files = any(place.value.get("type") == "file" for place in fields)
        names = [name for name in consumes if name.split(";")[0].strip().lower() in (_URLENCODED, _MULTIPART)]
        if files:
            names = [name for name in names if name.lower().startswith(_MULTIPART)] or [_MULTIPART]
        media = MediaType(schema=form)
        return RequestBody(
            content={name: media for name in names or (_URLENCODED,)},
            required=any(place.value.get("required") is True for place in fields),
        )

    def _form(self, fields: list[Place]) -> dict[str, Any]:
        properties: dict[str, Any] = {}
        for place in fields:
            schema = self._simple(place)
            examples, description = list(self._examples(place.value)), text(place.value.get("description"))
            if isinstance(schema, dict):
                extra: dict[str, Any] = {"examples": examples} if examples else {}
                schema = {**schema, **extra, **({"description": description} if description else {})}
            properties[place.value["name"]] = schema
        required = [place.value["name"] for place in fields if place.value.get("required") is True]
        return {"type": "object", "properties": properties, **({"required": required} if required else {})}

    def answer_types(self, raw: dict[str, Any]) -> tuple[str, ...]:
        return tuple(self._types(raw, "produces"))

    def response(self, place: Place, types: tuple[str, ...]) -> Response:
        value = place.value
        produces = types
        examples = value.get("examples")
        by_type = examples if isinstance(examples, dict) else {}
        content: dict[str, MediaType] = {}
        if "schema" in value or by_type:
            shape = value.get("schema")
            file = isinstance(shape, dict) and shape.get("type") == "file"
            schema = None if file or shape is None else self.schema(value, place)
            other_types = [name for name in by_type if "/" in name and name not in produces]
            for name in produces or (other_types or ["*/*" if file else _JSON]):
                content[name] = MediaType(schema=schema, examples=(by_type[name],) if name in by_type else ())
        return Response(description=text(value.get("description")), content=content, headers=self.headers(value, place))

    def header(self, place: Place) -> Header:
        return Header(schema=self._simple(place))

    def _types(self, raw: dict[str, Any], key: str) -> list[str]:
        declared = raw.get(key)
        listed = self.root.get(key) if declared is None else declared
        if listed is not None and not isinstance(listed, list):
            self.notes.add(f"#/{key}", f"must be a list of media types, not {kind(listed)}; it is left out")
        kept = (
            [media_type.strip() for media_type in listed if isinstance(media_type, str) and "/" in media_type]
            if isinstance(listed, list)
            else []
        )
        return list(dict.fromkeys(kept))
