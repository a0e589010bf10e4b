"""A URL, a file or bytes -> Spec."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import msgspec
from msgspec.structs import replace

from testops_lib.errors import SpecError
from testops_lib.http.address import is_url
from testops_lib.http.tls import Material
from testops_lib.spec.fetch import Origins, fetch, read, shown
from testops_lib.spec.graph import components
from testops_lib.spec.library import Document, Library, kind
from testops_lib.spec.limits import Deadline, Limits, Notes
from testops_lib.spec.openapi3 import OpenApi3
from testops_lib.spec.operation import MediaType, Operation, Schema, SecurityScheme, Spec
from testops_lib.spec.parse import parse
from testops_lib.spec.reader import Reader, text, version_text
from testops_lib.spec.schema import Schemas
from testops_lib.spec.swagger2 import Swagger2

_REFERENCE = re.compile(rb'"#/\$defs/([A-Za-z0-9._-]+)"')
_DEFAULT = Limits()


def load(
    source: str | Path,
    *,
    allow_hosts: Collection[str] = (),
    allow_private: bool = True,
    headers: Mapping[str, str] | None = None,
    limits: Limits = _DEFAULT,
    certificates: Material | None = None,
) -> Spec:
    """The description read from an http(s) URL, a file or a pipe.

    Files that it refers to are read when they lie in its directory or below, links resolved; URLs when they have its
    own scheme, host and port, or their host stands in `allow_hosts` (`host` or `host:port`). `headers` are sent to its
    own origin only, which alone sees a client certificate. `allow_private` is about addresses: see
    `testops_lib.http.address`.

    Raises:
        SpecError: it cannot be read, is no OpenAPI document, or breaks a limit.
        AddressError: its URL leads to an address that must not be called.
    """
    name = str(source)
    if is_url(name):
        deadline = Deadline(limits.seconds, shown(name))
        origins = Origins(_checked(name), allow_hosts, certificates)
        data, at = fetch(
            name,
            origins=origins,
            allow_private=allow_private,
            headers=headers or {},
            limits=limits,
            room=limits.max_bytes,
            seconds=deadline.left(),
        )
        origins.add(at)
        return _read(data, shown(name), at, None, origins, allow_private, headers, limits, deadline)
    deadline = Deadline(limits.seconds, name)
    if re.match(r"[A-Za-z][A-Za-z0-9+.-]+://", name):
        raise SpecError("only http and https URLs are read", where=shown(name), next_step="give a file or such a URL")
    path = Path(source)
    data = read(path, limits=limits, room=limits.max_bytes)
    return _read(
        data,
        name,
        str(path.resolve()),
        path,
        Origins(name, allow_hosts, certificates),
        allow_private,
        headers,
        limits,
        deadline,
    )


def load_bytes(
    data: bytes,
    source: str,
    *,
    allow_hosts: Collection[str] = (),
    allow_private: bool = True,
    headers: Mapping[str, str] | None = None,
    limits: Limits = _DEFAULT,
) -> Spec:
    """As `load`, for a document already in memory.

    `source` is what messages name, and, when it is a URL, what references are relative to. No file is ever read.

    Raises:
        SpecError: it is no OpenAPI document, or breaks a limit.
    """
    where = shown(source) if is_url(source) else source
    if is_url(source):
        _checked(source)
    origins = Origins(source, allow_hosts)
    return _read(data, where, source, None, origins, allow_private, headers, limits, Deadline(limits.seconds, where))


def _checked(url: str) -> str:
    try:
        Origins(url, ())
    except ValueError as error:
        raise SpecError("this is no usable URL", where=shown(url), next_step="give http(s)://host/path") from error
    return url


def _read(
    data: bytes,
    source: str,
    location: str,
    file: Path | None,
    origins: Origins,
    allow_private: bool,
    headers: Mapping[str, str] | None,
    limits: Limits,
    deadline: Deadline,
) -> Spec:
    notes = Notes(limits.max_warnings)
    root = parse(data, source, limits=limits, notes=notes, deadline=deadline)
    dialect = _dialect(root, source, notes)
    first = Document("", location, root)
    library = Library(
        first,
        source=source,
        file=file,
        origins=origins,
        allow_private=allow_private,
        headers=dict(headers or {}),
        limits=limits,
        notes=notes,
        deadline=deadline,
        used=len(data),
    )
    schemas = Schemas(library, dialect, limits=limits, notes=notes, deadline=deadline)
    kinds: dict[str, type[Reader]] = {"2.0": Swagger2}
    reader = kinds.get(dialect, OpenApi3)(
        library,
        schemas,
        root,
        source=location if is_url(location) else source,
        limits=limits,
        notes=notes,
        deadline=deadline,
    )
    try:
        operations = reader.operations()
        security = reader.security_schemes()
        servers = _servers(reader, notes)
        schemas.finish()
    except RecursionError:
        raise SpecError("nested too deeply to be read", where=source, next_step="flatten the document") from None
    for name in {name for operation in operations for names in operation.security for name in names} - security.keys():
        notes.add("#/security", f"the security scheme {name!r} is not described")
    operations, unusable = _usable(operations, schemas)
    operations = _hashed(operations, schemas.definitions, security, limits, source)
    info = root.get("info")
    info = info if isinstance(info, dict) else {}
    whole = [sorted((operation.key, operation.content_hash) for operation in operations), servers, security]
    return Spec(
        title=text(info.get("title")),
        version=version_text(info.get("version")),
        dialect=dialect,
        source=source,
        servers=servers,
        operations=tuple(operations),
        definitions=schemas.definitions,
        security_schemes=security,
        content_hash=hashlib.sha256(_canonical(whole)).hexdigest(),
        warnings=notes.all(),
        unusable={**reader.unusable, **unusable},
    )


def _dialect(root: Any, source: str, notes: Notes) -> str:
    give = "give an OpenAPI document of version 2.0, 3.0 or 3.1"
    if not isinstance(root, dict):
        raise SpecError(f"the document is {kind(root)}, not an object", where=source, next_step=give)
    swagger, openapi = version_text(root.get("swagger")), version_text(root.get("openapi"))
    if openapi:
        major, _, rest = openapi.strip().partition(".")
        minor = rest.partition(".")[0].partition("-")[0]
        if major == "3" and minor in ("", "0", "1"):
            return "3.1" if minor == "1" else "3.0"
        if major == "3" and minor == "2":
            notes.add("#/openapi", "OpenAPI 3.2 is read as 3.1; what is new in it is left out")
            return "3.1"
        raise SpecError(f"OpenAPI {openapi[:20]!r} is not supported", where=f"{source}#/openapi", next_step=give)
    if swagger:
        if swagger.strip() in ("2", "2.0"):
            return "2.0"
        raise SpecError(
            f"Swagger {swagger[:20]!r} is not supported",
            where=f"{source}#/swagger",
            next_step="convert the document to OpenAPI 3 first",
        )
    other = next(
        (
            f"this is {name}, not an OpenAPI document"
            for key, name in (
                ("asyncapi", "an AsyncAPI document"),
                ("arazzo", "an Arazzo document"),
                ("swaggerVersion", "Swagger 1"),
                ("__schema", "a GraphQL schema"),
                ("$schema", "a JSON Schema"),
            )
            if key in root
        ),
        "neither `openapi` nor `swagger` tells its version",
    )
    raise SpecError(other, where=source, next_step=give)


def _servers(reader: Reader, notes: Notes) -> tuple[str, ...]:
    servers = reader.servers()
    own_servers = reader.own_servers
    if (
        not servers
        and own_servers
        and len(own_servers) == len(reader.entries)
        and len({urls for _, urls in own_servers}) == 1
    ):
        return own_servers[0][1]
    for key, urls in own_servers:
        if servers[:1] != urls[:1]:
            notes.add(key, f"has a server of its own, {urls[0]}; requests go to the target's base URL")
    return servers


def _usable(operations: list[Operation], schemas: Schemas) -> tuple[list[Operation], dict[str, str]]:
    """Operations whose requests can be built, and why the others' cannot: a reference in them leads nowhere."""
    if not schemas.broken:
        return operations, {}
    users: dict[str, list[str]] = {}
    for name, schema in schemas.definitions.items():
        for to in _references(_canonical(schema)):
            users.setdefault(to, []).append(name)
    reason = dict(schemas.broken)
    waiting = list(reason)
    while waiting:
        name = waiting.pop()
        for user in users.get(name, ()):
            if user not in reason:
                reason[user] = reason[name]
                waiting.append(user)
    usable: list[Operation] = []
    unusable: dict[str, str] = {}
    for operation in operations:
        names = _references(_canonical((operation.parameters, operation.body)))
        problem = next((reason[name] for name in sorted(names) if name in reason), "")
        if problem:
            unusable[operation.key] = problem
        else:
            usable.append(operation)
    return usable, unusable


def _hashed(
    operations: list[Operation],
    definitions: dict[str, Schema],
    security: dict[str, SecurityScheme],
    limits: Limits,
    source: str,
) -> list[Operation]:
    """With content hashes: of the operation, of all that its schemas lead to, of its security schemes.

    A definition's hash covers its strongly connected part and the hashes of the parts this leads to, so the cost grows
    with the document, not with operations times definitions.
    """
    digests: dict[str, str] = {}
    edges: dict[str, set[str]] = {}
    for name, schema in definitions.items():
        data = _canonical(schema)
        digests[name], edges[name] = hashlib.sha256(data).hexdigest(), _references(data)
    hashes: dict[str, bytes] = {}
    for part in components(edges):
        inside = set(part)
        below = {hashes[to] for name in part for to in edges[name] if to not in inside and to in hashes}
        digest = hashlib.sha256(b"".join(sorted(below)))
        for name in part:
            digest.update(f"{name}\0{digests[name]}\n".encode())
        for name in part:
            hashes[name] = digest.digest()
    hashed: list[Operation] = []
    room = limits.max_resolved_bytes
    for operation in operations:
        data = _canonical(_ordered(operation))
        room -= len(data)
        if room < 0:
            raise SpecError(
                f"the operations have more than {limits.max_resolved_bytes:,} bytes when references are followed",
                where=source,
                next_step="split the document, or raise the limit `max_resolved_bytes`",
            )
        digest = hashlib.sha256(hashlib.sha256(data).digest())
        for name in sorted(_references(data)):
            digest.update(hashes.get(name, b""))
        used = sorted({name for names in operation.security for name in names if name in security})
        digest.update(_canonical([(name, security[name]) for name in used]))
        hashed.append(replace(operation, content_hash=digest.hexdigest()))
    return hashed


def _ordered(operation: Operation) -> Operation:
    """The operation with what stood in objects of the document (named examples, links) in an order of its own."""

    def media(content: dict[str, MediaType]) -> dict[str, MediaType]:
        if all(len(item.examples) < 2 for item in content.values()):
            return content
        return {name: replace(item, examples=examples(item.examples)) for name, item in content.items()}

    def examples(values: tuple[Any, ...]) -> tuple[Any, ...]:
        return values if len(values) < 2 else tuple(sorted(values, key=_canonical))

    return replace(
        operation,
        parameters=tuple(
            replace(item, examples=examples(item.examples)) if len(item.examples) > 1 else item
            for item in operation.parameters
        ),
        body=operation.body and replace(operation.body, content=media(operation.body.content)),
        responses={
            status: replace(
                item, content=media(item.content), links=tuple(sorted(item.links, key=lambda link: link.name))
            )
            for status, item in operation.responses.items()
        },
    )


def _references(encoded: bytes) -> set[str]:
    return {name.decode() for name in _REFERENCE.findall(encoded)}


def _canonical(value: Any) -> bytes:
    return msgspec.json.encode(value, order="deterministic")
