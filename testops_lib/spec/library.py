"""The documents of one API description, and the resolution of their `$ref`s."""

from __future__ import annotations

import os
import posixpath
import re
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import unquote, urldefrag, urljoin, urlsplit

from testops_lib.errors import AddressError, SpecError
from testops_lib.http.address import is_url
from testops_lib.spec.fetch import Origins, fetch, inside, read, shown
from testops_lib.spec.limits import Deadline, Limits, Notes
from testops_lib.spec.parse import escape, parse

_HOPS = 50
"""References that may follow one another before something that is not a reference must stand."""
_INDEX = re.compile(r"(0|[1-9][0-9]{0,8})\Z")


class Broken(Exception):
    """A part of the document that cannot be used; the rest may be."""

    def __init__(self, place: str, reason: str) -> None:
        self.place, self.reason = place, reason
        super().__init__(f"{place}: {reason}")


class Document:
    """One parsed document. `key` is "" for the first, else its address relative to the first."""

    def __init__(self, key: str, location: str, root: Any) -> None:
        self.key, self.location, self.root = key, location, root
        self._names: dict[str, str] | None = None
        self._ids: dict[str, str] | None = None

    def at(self, pointer: str) -> str:
        """How messages name a place in it."""
        if len(pointer) > 300:
            pointer = f"{pointer[:150]}…{pointer[-149:]}"
        return f"{self.key}#{pointer or '/'}"

    def anchor(self, name: str) -> str | None:
        """The pointer of an `$anchor` or `$dynamicAnchor`."""
        if self._names is None:
            self._index()
        return (self._names or {}).get(name)

    def identified(self, uri: str) -> str | None:
        """The pointer of the schema whose `$id`, resolved against the document's address, is `uri`."""
        if self._ids is None:
            self._index()
        return (self._ids or {}).get(uri)

    def _index(self) -> None:
        names: dict[str, str] = {}
        ids: dict[str, str] = {}
        waiting: list[tuple[Any, str]] = [(self.root, "")]
        while waiting:
            node, pointer = waiting.pop()
            if isinstance(node, dict):
                for key in ("$anchor", "$dynamicAnchor"):
                    if isinstance(node.get(key), str):
                        names.setdefault(node[key], pointer)
                if isinstance(node.get("$id"), str):
                    ids.setdefault(_join(self.location, node["$id"]), pointer)
            inner = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
            waiting.extend(
                (item, f"{pointer}/{escape(str(key))}") for key, item in inner if isinstance(item, dict | list)
            )
        self._names, self._ids = names, ids


class Place(NamedTuple):
    document: Document
    pointer: str
    value: Any
    resource: str = ""
    """Pointer of the nearest schema around it that has an `$id`."""

    def __str__(self) -> str:
        return self.document.at(self.pointer)


class Library:
    """Reads documents and resolves references, each once."""

    def __init__(
        self,
        first: Document,
        *,
        source: str,
        file: Path | None,
        origins: Origins,
        allow_private: bool,
        headers: dict[str, str],
        limits: Limits,
        notes: Notes,
        deadline: Deadline,
        used: int,
    ) -> None:
        self.first, self.source, self._origins = first, source, origins
        self._directory = file.resolve().parent if file else None
        self._file = file.resolve() if file else None
        self._allow_private, self._headers = allow_private, headers
        self._limits, self._notes, self._deadline = limits, notes, deadline
        self._room = limits.max_total_bytes - used
        self._documents: dict[str, Document] = {first.location: first}
        self._failed: dict[str, str] = {}
        self._places: dict[tuple[str, str, str], Place | str] = {}
        self._active: set[tuple[str, str, str]] = set()

    def resolve(self, ref: Any, document: Document, *, resource: str = "") -> Place:
        """What `ref`, standing in `document`, points to (possibly a reference again).

        Raises:
            Broken: it points to nothing, to itself, or where we may not read.
        """
        if not isinstance(ref, str):
            raise Broken(document.at(""), f"`$ref` must be a string, not {kind(ref)}")
        key = (document.key, resource, ref)
        place = self._places.get(key)
        if place is None:
            if key in self._active or len(self._active) > _HOPS:
                raise Broken(document.at(""), f"the reference {_cut(ref)} leads to itself")
            self._active.add(key)
            try:
                place = self._find(ref, document, resource)
            except Broken as error:
                place = error.reason
            finally:
                self._active.discard(key)
            self._places[key] = place
        if isinstance(place, str):
            raise Broken(document.at(""), place)
        return place

    def follow(self, value: Any, document: Document, pointer: str) -> Place:
        """The place that a chain of references ends at; `value` itself when it is none.

        Raises:
            Broken: the chain breaks or never ends.
        """
        place = Place(document, pointer, value)
        seen: set[tuple[str, str]] = set()
        while isinstance(place.value, dict) and "$ref" in place.value:
            here = (place.document.key, place.pointer)
            if here in seen or len(seen) > _HOPS:
                raise Broken(document.at(pointer), f"the reference {_cut(value['$ref'])} leads to itself")
            seen.add(here)
            try:
                place = self.resolve(place.value["$ref"], place.document)
            except Broken as error:
                raise Broken(document.at(pointer), error.reason) from error
        return place

    def _find(self, ref: str, document: Document, resource: str) -> Place:
        address, _, fragment = ref.partition("#")
        if address:
            uri = _join(document.location, address)
            for candidate in (document, self.first):
                identified = candidate.identified(uri)
                if identified is not None:
                    document, resource = candidate, identified
                    break
            else:
                document, resource = self._open(address, document), ""
        fragment = unquote(fragment)
        if fragment and not fragment.startswith("/"):
            anchored = document.anchor(fragment)
            if anchored is None:
                raise Broken(document.at(""), f"the reference {_cut(ref)} names an anchor that does not exist")
            return self._descend(document, anchored, ref)
        if address or not fragment:
            return self._descend(document, resource + fragment, ref)
        if resource:
            # A pointer in a schema with an `$id` starts at that schema; many documents mean the whole document.
            try:
                return self._descend(document, resource + fragment, ref)
            except Broken:
                pass
        return self._descend(document, fragment, ref)

    def _descend(self, document: Document, pointer: str, ref: str) -> Place:
        value, passed, resource = document.root, "", ""
        for raw in pointer.split("/")[1:]:
            token = raw.replace("~1", "/").replace("~0", "~")
            while isinstance(value, dict) and token not in value and "$ref" in value:
                place = self.resolve(value["$ref"], document, resource=resource)
                document, passed, value, resource = place
            if isinstance(value, dict):
                if isinstance(value.get("$id"), str):
                    resource = passed
                if token not in value:
                    raise Broken(
                        document.at(passed), f"the reference {_cut(ref)} points to nothing: no {token!r} there"
                    )
                value = value[token]
            elif isinstance(value, list):
                if not _INDEX.match(token) or int(token) >= len(value):
                    raise Broken(
                        document.at(passed), f"the reference {_cut(ref)} points to nothing: no {token!r} there"
                    )
                value = value[int(token)]
            else:
                raise Broken(document.at(passed), f"the reference {_cut(ref)} points to nothing: no {token!r} there")
            passed = f"{passed}/{escape(token)}"
        if isinstance(value, dict) and isinstance(value.get("$id"), str):
            resource = passed
        return Place(document, passed, value, resource)

    # ----------------------------------------------------------------------- other documents

    def _open(self, address: str, document: Document) -> Document:
        try:
            scheme = urlsplit(address).scheme.lower()
        except ValueError:
            raise Broken(document.at(""), f"the reference {_cut(address)} is no address") from None
        base_is_url = is_url(document.location)
        if scheme in ("http", "https") or (base_is_url and not scheme):
            return self._open_url(urldefrag(_join(document.location, address) if base_is_url else address).url, address)
        if scheme:
            raise Broken(document.at(""), f"the reference {_cut(address)} is refused: `{scheme}:` is never read")
        if self._directory is None or base_is_url:
            raise Broken(
                document.at(""), f"the reference {_cut(address)} is refused: no files are read for this document"
            )
        return self._open_file(address, document)

    def _open_file(self, address: str, document: Document) -> Document:
        directory = self._directory
        assert directory is not None
        # Relative to the document that refers, but never outside the first one's directory.
        relative = os.path.join(os.path.dirname(document.key), address) if document.key else address
        try:
            path = inside(directory, relative)
        except ValueError as error:
            raise Broken(document.at(""), f"the reference {_cut(address)} is refused: {error}") from None
        location = str(path)
        if location not in self._documents and location not in self._failed:
            self._admit(
                location,
                path.relative_to(directory).as_posix(),
                lambda: read(path, limits=self._limits, room=self._room),
            )
        return self._opened(location, address)

    def _open_url(self, url: str, address: str) -> Document:
        if not self._origins.allows(url):
            raise Broken("", f"the reference {_cut(address)} is refused: its host is not allowed")
        if url not in self._documents and url not in self._failed:
            self._admit(url, _relative(url, self.first.location), lambda: self._fetch(url))
        return self._opened(url, address)

    def _fetch(self, url: str) -> bytes:
        return fetch(
            url,
            origins=self._origins,
            allow_private=self._allow_private,
            headers=self._headers,
            limits=self._limits,
            room=min(self._room, self._limits.max_bytes),
            seconds=self._deadline.left(),
        )[0]

    def _admit(self, location: str, key: str, get: Any) -> None:
        if len(self._documents) + len(self._failed) >= self._limits.max_documents:
            raise SpecError(
                f"the document refers to more than {self._limits.max_documents} others",
                where=self.source,
                next_step="bundle them, or raise the limit `max_documents`",
            )
        self._deadline.check()
        try:
            data = get()
            self._room -= len(data)
            root = parse(data, key, limits=self._limits, notes=self._notes, deadline=self._deadline)
        except (SpecError, AddressError) as error:
            self._deadline.check()
            self._failed[location] = str(error).splitlines()[0]
            return
        self._documents[location] = Document(key, location, root)

    def _opened(self, location: str, address: str) -> Document:
        if location in self._failed:
            raise Broken("", f"the reference {_cut(address)} cannot be read: {self._failed[location]}")
        return self._documents[location]


def _relative(url: str, base: str) -> str:
    here, there = urlsplit(base), urlsplit(url)
    if (here.scheme, here.netloc) != (there.scheme, there.netloc):
        return shown(url)
    return posixpath.relpath(there.path or "/", posixpath.dirname(here.path) or "/")


def _join(base: str, address: str) -> str:
    try:
        return urljoin(base, address) if is_url(base) else address
    except ValueError:
        return address


def _cut(ref: Any) -> str:
    text = ref if isinstance(ref, str) else repr(ref)
    return repr(text if len(text) <= 150 else text[:149] + "…")


def kind(value: Any) -> str:
    """The value's JSON type."""
    names = {dict: "an object", list: "a list", str: "a string", bool: "a boolean", type(None): "null"}
    return names.get(type(value), "a number")
