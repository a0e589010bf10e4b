"""OpenAPI 3.0 and 3.1."""

from __future__ import annotations

import re
from typing import Any

from testops_lib.spec.library import Broken, Place, kind
from testops_lib.spec.operation import Parameter, RequestBody, Response, SecurityScheme
from testops_lib.spec.reader import Entry, Reader, text

_STYLES = {"query": "form", "cookie": "form", "path": "simple", "header": "simple"}
_KNOWN_STYLES = frozenset(
    {"simple", "form", "label", "matrix", "deepObject", "spaceDelimited", "pipeDelimited", "cookie"}
)
_IGNORED_HEADERS = frozenset({"accept", "content-type", "authorization"})
_VARIABLE = re.compile(r"\{([^{}]*)\}")


class OpenApi3(Reader):
    def servers(self) -> tuple[str, ...]:
        listed = self.root.get("servers")
        if listed is not None and not isinstance(listed, list):
            self.notes.add("#/servers", f"must be a list, not {kind(listed)}; it is left out")
        return self._urls(listed, "#/servers") if isinstance(listed, list) else ()

    def _urls(self, listed: list[Any], place: str) -> tuple[str, ...]:
        urls: list[str] = []
        for server in listed:
            if not isinstance(server, dict) or not isinstance(server.get("url"), str):
                self.notes.add(place, "a server needs the string `url`; it is left out")
                continue
            named = server.get("variables")
            variables = named if isinstance(named, dict) else {}
            missing: list[str] = []

            def filled(match: re.Match[str], variables: Any = variables, missing: list[str] = missing) -> str:
                variable = variables.get(match[1])
                value = variable.get("default") if isinstance(variable, dict) else None
                if value is None and isinstance(variable, dict) and isinstance(variable.get("enum"), list):
                    value = next(iter(variable["enum"]), None)
                if not isinstance(value, str | int | float):
                    missing.append(match[1])
                return str(value)

            url = _VARIABLE.sub(filled, server["url"]).strip().rstrip("/")
            if missing:
                self.notes.add(place, f"the server's variable {missing[0]!r} has no default; the server is left out")
            elif url or server["url"].strip():
                urls.append(url)
        return tuple(dict.fromkeys(urls))

    def security_schemes(self) -> dict[str, SecurityScheme]:
        components = self.root.get("components")
        if components is not None and not isinstance(components, dict):
            self.notes.add("#/components", f"must be an object, not {kind(components)}; it is left out")
        listed = components.get("securitySchemes") if isinstance(components, dict) else None
        schemes: dict[str, SecurityScheme] = {}
        for name, place in self.follow_each(listed, self.document, "/components/securitySchemes"):
            raw = place.value
            flows = raw.get("flows")
            urls = [
                flow["tokenUrl"]
                for key in ("password", "clientCredentials", "authorizationCode")
                if isinstance(flows, dict)
                and isinstance(flow := flows.get(key), dict)
                and isinstance(flow.get("tokenUrl"), str)
            ]
            schemes[name] = SecurityScheme(
                kind=text(raw.get("type")),
                scheme=text(raw.get("scheme")).lower(),
                name=text(raw.get("name")),
                where=text(raw.get("in")),
                login_url=urls[0] if urls else "",
            )
        return schemes

    def parameter(self, place: Place) -> Parameter | None:
        raw = place.value
        where, name = raw["in"], raw["name"]
        if where == "header" and name.lower() in _IGNORED_HEADERS:
            return None
        if where not in _STYLES:
            self.notes.add(
                str(place), f"`in` must be path, query, header or cookie, not {where[:30]!r}; it is left out"
            )
            return None
        style = text(raw.get("style"))
        if style not in _KNOWN_STYLES:
            style = _STYLES[where]
        explode = raw.get("explode")
        content_type = ""
        examples = self.examples(place)
        schema = self.schema(raw, place) if "schema" in raw else True
        if "schema" not in raw:
            media = self.media(raw.get("content"), place.document, f"{place.pointer}/content")
            content_type = next(iter(media), "")
            if content_type:
                only = media[content_type]
                schema = True if only.schema is None else only.schema
                examples = (*examples, *only.examples)
        return Parameter(
            name=name,
            where=where,
            required=where == "path" or raw.get("required") is True,
            schema=schema,
            style=style,
            explode=explode if isinstance(explode, bool) else style in ("form", "cookie"),
            content_type=content_type,
            examples=examples,
            description=text(raw.get("description")),
            deprecated=raw.get("deprecated") is True,
            allow_empty=raw.get("allowEmptyValue") is True,
        )

    def body(self, raw: dict[str, Any], entry: Entry, parameters: list[Place]) -> RequestBody | None:
        if raw.get("requestBody") is None:
            return None
        document, pointer = entry.item.document, f"{entry.pointer}/requestBody"
        place = self.library.follow(raw["requestBody"], document, pointer)
        if not isinstance(place.value, dict):
            raise Broken(document.at(pointer), f"must be an object, not {kind(place.value)}")
        content = place.value.get("content")
        if content is not None and not isinstance(content, dict):
            raise Broken(document.at(pointer), f"`content` must be an object, not {kind(content)}")
        media = self.media(content, place.document, f"{place.pointer}/content")
        if not media:
            return None
        return RequestBody(
            content=media,
            required=place.value.get("required") is True,
            description=text(place.value.get("description")),
        )

    def response(self, place: Place, types: tuple[str, ...]) -> Response:
        return Response(
            description=text(place.value.get("description")),
            content=self.media(place.value.get("content"), place.document, f"{place.pointer}/content"),
            headers=self.headers(place.value, place),
            links=self.links(place.value, place),
        )
