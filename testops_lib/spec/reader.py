"""What all versions of OpenAPI share: paths, path items, operations, parameters' order, security, links."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, NamedTuple

from testops_lib.errors import SpecError
from testops_lib.spec.library import Broken, Document, Library, Place, kind
from testops_lib.spec.limits import Deadline, Limits, Notes
from testops_lib.spec.operation import (
    Header,
    Link,
    MediaType,
    Operation,
    Parameter,
    RequestBody,
    Response,
    Schema,
    SecurityScheme,
)
from testops_lib.spec.parse import escape
from testops_lib.spec.schema import Schemas

_METHODS = ("get", "put", "post", "delete", "options", "head", "patch", "trace", "query")
_ITEM_FIELDS = frozenset({"$ref", "summary", "description", "servers", "parameters", "additionalOperations"})
_TEMPLATE = re.compile(r"\{([^{}]*)\}")
_CONTROL = re.compile(r"[\x00-\x20\x7f]")
_STATUS = re.compile(r"[1-5](?:[0-9]{2}|[xX]{2})\Z")
_TOKEN = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+\Z")


class Entry(NamedTuple):
    """An operation whose place is known and which is not read yet."""

    key: str
    method: str
    path: str
    item: Place
    raw: Any
    pointer: str
    """Of the operation, in the item's document."""


class Reader:
    """Reads one version; what differs between versions is in the subclasses."""

    def __init__(
        self,
        library: Library,
        schemas: Schemas,
        root: dict[str, Any],
        *,
        source: str,
        limits: Limits,
        notes: Notes,
        deadline: Deadline,
    ) -> None:
        self.library, self.schemas, self.root, self.source = library, schemas, root, source
        self.limits, self.notes, self.deadline = limits, notes, deadline
        self.document = library.first
        self.entries: list[Entry] = []
        self.by_id: dict[str, str] = {}
        self.unusable: dict[str, str] = {}
        self._keys: dict[str | int, str] = {}
        """Of operations, by key and by identity of the raw one."""
        self._read: dict[int, tuple[Place, Parameter | None]] = {}
        self._parts = 0
        self._answers: dict[tuple[int, tuple[str, ...]], tuple[Place, Response]] = {}
        self.own_servers: list[tuple[str, tuple[str, ...]]] = []
        """(operation key, base URLs) of operations with servers of their own."""

    # ----------------------------------------------------------------------- what subclasses give

    def servers(self) -> tuple[str, ...]:
        raise NotImplementedError

    def security_schemes(self) -> dict[str, SecurityScheme]:
        raise NotImplementedError

    def parameter(self, place: Place) -> Parameter | None:
        """None: the parameter is one the format tells to ignore, or is part of the body."""
        raise NotImplementedError

    def body(self, raw: dict[str, Any], entry: Entry, parameters: list[Place]) -> RequestBody | None:
        raise NotImplementedError

    def answer_types(self, raw: dict[str, Any]) -> tuple[str, ...]:
        """Media types of an operation's answers, where the response does not name them itself."""
        return ()

    def response(self, place: Place, types: tuple[str, ...]) -> Response:
        raise NotImplementedError

    # ----------------------------------------------------------------------- operations

    def operations(self) -> list[Operation]:
        """The usable ones in document order; the others go to `unusable`."""
        self._find()
        operations: list[Operation] = []
        for count, entry in enumerate(self.entries):
            if count % 20 == 0:
                self.deadline.check()
            try:
                operations.append(self._operation(entry))
            except Broken as error:
                self.unusable[entry.key] = str(error)
        return operations

    def _find(self) -> None:
        paths = self.root.get("paths")
        if paths is None:
            self.notes.add("#/paths", "the document has no paths")
            return
        if not isinstance(paths, dict):
            raise SpecError(
                f"must be an object, not {kind(paths)}", where=f"{self.source}#/paths", next_step="correct the document"
            )
        identified: dict[str, str] = {}
        for path, raw in paths.items():
            if path.startswith("x-"):
                continue
            pointer = f"/paths/{escape(path)}"
            try:
                item = self._item(raw, pointer)
            except Broken as error:
                self.unusable[f"* {path}"] = str(error)
                continue
            for method, operation in item.value.items():
                if method not in _METHODS:
                    if method not in _ITEM_FIELDS and not method.startswith("x-"):
                        self.notes.add(self.document.at(pointer), f"the field {method[:50]!r} is unknown")
                    continue
                key = f"{method.upper()} {path}"
                if not path.startswith("/") or _CONTROL.search(path):
                    self.unusable[key] = f"{self.document.at(pointer)}: a path starts with `/` and holds no blanks"
                    continue
                self.entries.append(Entry(key, method.upper(), path, item, operation, f"{item.pointer}/{method}"))
                if len(self.entries) + len(self.unusable) > self.limits.max_operations:
                    raise SpecError(
                        f"more than {self.limits.max_operations:,} operations",
                        where=f"{self.source}#/paths",
                        next_step="split the document, or raise the limit `max_operations`",
                    )
                name = operation.get("operationId") if isinstance(operation, dict) else None
                if isinstance(name, str) and name:
                    if name in identified:
                        self.notes.add(key, f"the operationId {name!r} is that of {identified[name]} too")
                    identified.setdefault(name, key)
        self.by_id = identified

    def _item(self, raw: Any, pointer: str) -> Place:
        place = Place(self.document, pointer, raw)
        if isinstance(raw, dict) and "$ref" in raw:
            place = self.library.follow(raw, self.document, pointer)
            beside = {key: value for key, value in raw.items() if key != "$ref"}
            if beside and isinstance(place.value, dict):
                if place.document is not self.document and not set(beside) <= {"summary", "description"}:
                    # Its own references would be read relative to the other document.
                    self.notes.add(self.document.at(pointer), "members beside `$ref` are read as the target's")
                place = place._replace(value={**place.value, **beside})
        if not isinstance(place.value, dict):
            raise Broken(self.document.at(pointer), f"a path item must be an object, not {kind(place.value)}")
        return place

    def _operation(self, entry: Entry) -> Operation:
        raw, document = entry.raw, entry.item.document
        if not isinstance(raw, dict):
            raise Broken(document.at(entry.pointer), f"an operation must be an object, not {kind(raw)}")
        places = self._parameters(entry, raw)
        self._count(len(places))
        read = [parameter for parameter in map(self._once, places) if parameter is not None]
        self._note_servers(entry, raw)
        tags = raw.get("tags")
        return Operation(
            key=entry.key,
            method=entry.method,
            path=entry.path,
            operation_id=text(raw.get("operationId")),
            summary=text(raw.get("summary")) or text(entry.item.value.get("summary")),
            description=text(raw.get("description")) or text(entry.item.value.get("description")),
            tags=tuple(tag for tag in tags if isinstance(tag, str)) if isinstance(tags, list) else (),
            deprecated=raw.get("deprecated") is True,
            parameters=self._ordered(entry, read),
            body=self.body(raw, entry, places),
            responses=self._responses(raw, entry),
            security=self._security(raw, entry),
        )

    def _parameters(self, entry: Entry, raw: dict[str, Any]) -> list[Place]:
        """References resolved; an operation's parameter stands in the place of the path's of the same name."""
        document = entry.item.document
        merged: dict[tuple[str, str], Place] = {}
        for holder, pointer in ((entry.item.value, entry.item.pointer), (raw, entry.pointer)):
            listed = holder.get("parameters")
            if listed is None:
                continue
            at = f"{pointer}/parameters"
            if not isinstance(listed, list):
                raise Broken(document.at(at), f"must be a list, not {kind(listed)}")
            for index, parameter in enumerate(listed):
                place = self.library.follow(parameter, document, f"{at}/{index}")
                if not isinstance(place.value, dict):
                    raise Broken(
                        document.at(f"{at}/{index}"), f"a parameter must be an object, not {kind(place.value)}"
                    )
                name, where = place.value.get("name"), place.value.get("in")
                if not isinstance(where, str) or not isinstance(name, str) or (not name and where != "body"):
                    raise Broken(document.at(f"{at}/{index}"), "a parameter needs the strings `name` and `in`")
                merged[name, where] = place
        return list(merged.values())

    def _once(self, place: Place) -> Parameter | None:
        read = self._read.get(id(place.value))
        if read is None:
            read = self._read[id(place.value)] = place, self.parameter(place)
        return read[1]

    def _ordered(self, entry: Entry, read: list[Parameter]) -> tuple[Parameter, ...]:
        in_path = {parameter.name: parameter for parameter in read if parameter.where == "path"}
        named = list(dict.fromkeys(_TEMPLATE.findall(entry.path)))
        ordered: list[Parameter] = []
        for name in named:
            parameter = in_path.pop(name, None)
            if parameter is None:
                self.notes.add(entry.key, f"the path's {{{name}}} is not described; it is taken as a string")
                parameter = Parameter(name=name, where="path", required=True, schema={"type": "string"}, style="simple")
            ordered.append(parameter)
        for name in in_path:
            self.notes.add(entry.key, f"the path parameter {name!r} is not in the path; it is left out")
        return (*ordered, *(parameter for parameter in read if parameter.where != "path"))

    def _responses(self, raw: dict[str, Any], entry: Entry) -> dict[str, Response]:
        document, pointer = entry.item.document, f"{entry.pointer}/responses"
        listed = raw.get("responses")
        if listed is None:
            return {}
        if not isinstance(listed, dict):
            raise Broken(document.at(pointer), f"must be an object, not {kind(listed)}")
        responses: dict[str, Response] = {}
        for status, raw_response in listed.items():
            if status.startswith("x-"):
                continue
            name = "default" if status == "default" else status.upper() if _STATUS.match(status) else ""
            at = f"{pointer}/{escape(status)}"
            if not name:
                self.notes.add(document.at(at), "is no status, range (`4XX`) or `default`; it is left out")
                continue
            place = self.library.follow(raw_response, document, at)
            if not isinstance(place.value, dict):
                raise Broken(document.at(at), f"a response must be an object, not {kind(place.value)}")
            types = self.answer_types(raw)
            read = self._answers.get((id(place.value), types))
            if read is None:
                read = self._answers[id(place.value), types] = place, self.response(place, types)
            responses[name] = read[1]
        self._count(len(responses))
        return responses

    def _count(self, parts: int) -> None:
        self._parts += parts
        if self._parts > self.limits.max_parts:
            raise SpecError(
                f"more than {self.limits.max_parts:,} parameters and responses when references are followed",
                where=f"{self.source}#/paths",
                next_step="split the document, or raise the limit `max_parts`",
            )

    def _security(self, raw: dict[str, Any], entry: Entry) -> tuple[tuple[str, ...], ...]:
        declared = raw.get("security")
        listed = self.root.get("security") if declared is None else declared
        if listed is None:
            return ()
        if not isinstance(listed, list) or not all(isinstance(requirement, dict) for requirement in listed):
            if declared is None:
                self.notes.add("#/security", "must be a list of objects; it is left out")
                return ()
            raise Broken(entry.item.document.at(f"{entry.pointer}/security"), "must be a list of objects")
        return tuple(dict.fromkeys(tuple(sorted(requirement)) for requirement in listed))

    def _note_servers(self, entry: Entry, raw: dict[str, Any]) -> None:
        for holder in (raw, entry.item.value):
            if isinstance(holder.get("servers"), list) and holder["servers"]:
                urls = self._urls(holder["servers"], entry.key)
                if urls:
                    self.own_servers.append((entry.key, urls))
                return

    def _urls(self, listed: list[Any], place: str) -> tuple[str, ...]:
        return ()

    # ----------------------------------------------------------------------- parts

    def follow_each(self, value: Any, document: Document, pointer: str) -> Iterator[tuple[str, Place]]:
        """Members of an object, references resolved; extensions, and what is broken (with a warning), left out."""
        if value is None:
            return
        if not isinstance(value, dict):
            self.notes.add(document.at(pointer), f"must be an object, not {kind(value)}; it is left out")
            return
        for name, member in value.items():
            at = f"{pointer}/{escape(name)}"
            try:
                place = self.library.follow(member, document, at)
            except Broken as error:
                self.notes.add(error.place, f"{error.reason}; it is left out")
                continue
            if isinstance(place.value, dict):
                yield name, place
            elif not name.startswith("x-"):
                self.notes.add(document.at(at), f"must be an object, not {kind(place.value)}; it is left out")

    def examples(self, place: Place) -> tuple[Any, ...]:
        """`example`, then the values of `examples`."""
        raw = place.value
        examples = [raw["example"]] if "example" in raw else []
        named = raw.get("examples")
        if isinstance(named, list):
            examples.extend(named)
        elif named is not None:
            for _, example in self.follow_each(named, place.document, f"{place.pointer}/examples"):
                for key in ("value", "dataValue"):
                    if key in example.value:
                        examples.append(example.value[key])
        return tuple(examples)

    def media(self, value: Any, document: Document, pointer: str) -> dict[str, MediaType]:
        """A `content` object of OpenAPI 3."""
        content: dict[str, MediaType] = {}
        for name, place in self.follow_each(value, document, pointer):
            if name.startswith("x-") or "/" not in name:
                self.notes.add(document.at(pointer), f"{name[:50]!r} is no media type; it is left out")
                continue
            raw = place.value
            encoding: dict[str, str] = {}
            for key, part in self.follow_each(raw.get("encoding"), place.document, f"{place.pointer}/encoding"):
                if isinstance(part.value.get("contentType"), str):
                    encoding[key] = part.value["contentType"]
            content[name.strip()] = MediaType(
                schema=self.schema(raw, place) if "schema" in raw else None,
                examples=self.examples(place),
                encoding=encoding,
            )
        return content

    def schema(self, raw: dict[str, Any], place: Place) -> Schema:
        return self.schemas.convert(raw.get("schema"), place.document, f"{place.pointer}/schema")

    def headers(self, raw: dict[str, Any], place: Place) -> dict[str, Header]:
        """By name; Content-Type, which the format says to ignore, is left out."""
        headers: dict[str, Header] = {}
        for name, header in self.follow_each(raw.get("headers"), place.document, f"{place.pointer}/headers"):
            if name.lower() == "content-type" or not _TOKEN.match(name):
                continue
            headers[name] = self.header(header)
        return headers

    def header(self, place: Place) -> Header:
        raw = place.value
        schema: Schema | None = None
        if "schema" in raw:
            schema = self.schema(raw, place)
        else:
            media = self.media(raw.get("content"), place.document, f"{place.pointer}/content")
            schema = next(iter(media.values())).schema if media else None
        return Header(required=raw.get("required") is True, schema=schema)

    def links(self, raw: dict[str, Any], place: Place) -> tuple[Link, ...]:
        links: list[Link] = []
        for name, link in self.follow_each(raw.get("links"), place.document, f"{place.pointer}/links"):
            to = self._linked(link)
            if not to:
                self.notes.add(str(link), "the link leads to no operation of this document; it is left out")
                continue
            parameters = link.value.get("parameters")
            links.append(
                Link(
                    name=name,
                    operation=to,
                    parameters=parameters if isinstance(parameters, dict) else {},
                    body=link.value.get("requestBody"),
                )
            )
        return tuple(links)

    def _linked(self, link: Place) -> str:
        """The key of the operation that a link names by id or by reference; "" when there is none."""
        name, ref = link.value.get("operationId"), link.value.get("operationRef")
        if isinstance(name, str):
            return self.by_id.get(name, "")
        if not isinstance(ref, str):
            return ""
        if not self._keys:
            self._keys = {entry.key: entry.key for entry in self.entries}
            self._keys |= {id(entry.raw): entry.key for entry in self.entries}
        try:
            place = self.library.resolve(ref, link.document)
        except Broken:
            return ""
        tokens = place.pointer.split("/")
        if place.document is self.document and len(tokens) == 4 and tokens[1] == "paths":
            path = tokens[2].replace("~1", "/").replace("~0", "~")
            if f"{tokens[3].upper()} {path}" in self._keys:
                return f"{tokens[3].upper()} {path}"
        return self._keys.get(id(place.value), "")


def text(value: Any) -> str:
    """The value when it is a string, else ""."""
    return value if isinstance(value, str) else ""


def version_text(value: Any) -> str:
    """A version written as string or number."""
    return value if isinstance(value, str) else "" if value is None or isinstance(value, dict | list) else str(value)
