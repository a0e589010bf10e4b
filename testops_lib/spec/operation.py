"""What a loaded OpenAPI document is: the same values whatever version it was written in.

Every schema is JSON Schema 2020-12 (Swagger 2.0 and OpenAPI 3.0 forms rewritten: `nullable`, boolean
`exclusiveMinimum`, `discriminator` left as annotation). A `$ref` in a schema is always `#/$defs/NAME`, NAME a key of
`Spec.definitions`; cycles are kept as references.
"""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import Struct, field

Schema = dict[str, Any] | bool


class SpecValue(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Base of the values below."""


class MediaType(SpecValue, frozen=True, kw_only=True):
    schema: Schema | None = None
    examples: tuple[Any, ...] = ()
    """Whole-body examples, the document's own (`example`, `examples.*.value`), in order."""
    encoding: dict[str, str] = field(default_factory=dict)
    """Property -> content type, of forms."""


class Parameter(SpecValue, frozen=True, kw_only=True):
    name: str
    where: str
    """path, query, header, cookie."""
    required: bool = False
    schema: Schema = True
    style: str = ""
    """As OpenAPI 3: simple, form, deepObject, spaceDelimited, pipeDelimited, label, matrix; Swagger 2's
    collectionFormat is translated (csv: form/simple without explode, multi: form with explode, tsv: `tabDelimited`)."""
    explode: bool = False
    content_type: str = ""
    """Set when the parameter is serialised by `content` (JSON in a query parameter)."""
    examples: tuple[Any, ...] = ()
    description: str = ""
    deprecated: bool = False
    allow_empty: bool = False


class RequestBody(SpecValue, frozen=True, kw_only=True):
    content: dict[str, MediaType]
    required: bool = False
    description: str = ""


class Header(SpecValue, frozen=True, kw_only=True):
    required: bool = False
    schema: Schema | None = None


class Link(SpecValue, frozen=True, kw_only=True):
    name: str
    operation: str
    """Key of the operation it leads to (operationId and operationRef are resolved)."""
    parameters: dict[str, Any] = field(default_factory=dict)
    """Parameter name (possibly `path.id`) -> runtime expression (`$response.body#/id`) or constant."""
    body: Any = None


class Response(SpecValue, frozen=True, kw_only=True):
    description: str = ""
    content: dict[str, MediaType] = field(default_factory=dict)
    headers: dict[str, Header] = field(default_factory=dict)
    links: tuple[Link, ...] = ()


class SecurityScheme(SpecValue, frozen=True, kw_only=True):
    kind: str
    """apiKey, http, oauth2, openIdConnect, mutualTLS (Swagger's `basic` is http/basic)."""
    scheme: str = ""
    """http: basic, bearer, …"""
    name: str = ""
    """apiKey: the parameter's name."""
    where: str = ""
    """apiKey: header, query, cookie."""
    login_url: str = ""
    """oauth2: the token URL, when one is given."""


class Operation(SpecValue, frozen=True, kw_only=True):
    key: str
    """`GET /pets/{id}`: method in capitals, path template as written in the document."""
    method: str
    path: str
    operation_id: str = ""
    summary: str = ""
    description: str = ""
    tags: tuple[str, ...] = ()
    deprecated: bool = False
    parameters: tuple[Parameter, ...] = ()
    """Path-level ones merged in; unique by (name, where); path parameters in template order, then document order."""
    body: RequestBody | None = None
    responses: dict[str, Response] = field(default_factory=dict)
    """By `200`, `4XX`, `default`."""
    security: tuple[tuple[str, ...], ...] = ()
    """Alternatives, each a set of scheme names needed together; empty: no credentials are needed.
    An empty alternative `()` means that anonymous is allowed too."""
    content_hash: str = ""
    """SHA-256 (hex) of the operation's fragment with everything it refers to; equal content, equal hash."""

    @property
    def protected(self) -> bool:
        """Credentials are required: there is a security requirement and no anonymous alternative."""
        return bool(self.security) and all(self.security)


class Spec(SpecValue, frozen=True, kw_only=True):
    title: str
    version: str
    dialect: str
    """`2.0`, `3.0`, `3.1`."""
    source: str
    """The URL or path it was read from."""
    servers: tuple[str, ...] = ()
    """Base URLs, variables filled with their defaults; may be relative (`/api/v1`); no trailing slash."""
    operations: tuple[Operation, ...]
    """In document order; keys are unique."""
    definitions: dict[str, Schema] = field(default_factory=dict)
    security_schemes: dict[str, SecurityScheme] = field(default_factory=dict)
    content_hash: str = ""
    warnings: tuple[str, ...] = ()
    """What was tolerated, each with its place."""
    unusable: dict[str, str] = field(default_factory=dict)
    """Operation key -> why it cannot be tested, for operations whose own part of the document is broken."""

    def operation(self, key: str) -> Operation:
        """The operation with this key.

        Raises:
            KeyError: there is none.
        """
        for operation in self.operations:
            if operation.key == key:
                return operation
        raise KeyError(key)


def encode(spec: Spec) -> bytes:
    """The spec as JSON; `decode` gives an equal value back."""
    return msgspec.json.encode(spec)


def decode(data: bytes) -> Spec:
    return msgspec.json.decode(data, type=Spec)
