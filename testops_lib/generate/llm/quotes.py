"""Whether a sentence that a model quotes stands in the document and speaks of what the model expects."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from testops_lib.generate.jsonpath import closure
from testops_lib.generate.proposals.document import Expectation
from testops_lib.spec.operation import Operation, Spec


class Quotes:
    """Finds quotes in the texts of one document; each operation's are read once, when first needed."""

    def __init__(self, spec: Spec) -> None:
        self._spec = spec
        self._texts: dict[str, tuple[str, ...]] = {}

    def quoted(self, operation: Operation, wanted: Expectation) -> str:
        """The quote, when it really stands in one of the operation's own texts, is long enough to say something, and
        speaks of what is expected: any sentence of the document would promote any guess otherwise. Else "".
        """
        quote = " ".join(wanted.quote.split())
        if len(quote) < 12 or quote.count(" ") < 2 or len(quote) > 500 or not _speaks_of(quote, wanted, operation):
            return ""
        if operation.key not in self._texts:
            unique = {" ".join(text.split()).lower() for text in texts(operation, self._spec)}
            self._texts[operation.key] = tuple(unique)
        return quote if any(quote.lower() in text for text in self._texts[operation.key]) else ""


def texts(operation: Operation, spec: Spec) -> Iterator[str]:
    """All texts that the document says of an operation: its own, its parameters', its bodies' and its schemas'."""
    yield operation.summary
    yield operation.description
    schemas: list[Any] = []
    for parameter in operation.parameters:
        yield parameter.description
        schemas.append(parameter.schema)
    if operation.body is not None:
        yield operation.body.description
        schemas += [media.schema for media in operation.body.content.values()]
    for response in operation.responses.values():
        yield response.description
        schemas += [media.schema for media in response.content.values()]
        schemas += [header.schema for header in response.headers.values()]
    for schema in (*schemas, *closure(schemas, spec.definitions).values()):
        yield from _descriptions(schema)


def _descriptions(schema: Any) -> Iterator[str]:
    pending = [schema]
    while pending:
        node = pending.pop()
        if isinstance(node, dict):
            if isinstance(node.get("description"), str):
                yield node["description"]
            pending += [value for key, value in node.items() if key not in ("example", "examples", "default", "enum")]
        elif isinstance(node, list):
            pending += node


def _speaks_of(quote: str, wanted: Expectation, operation: Operation) -> bool:
    """Whether a sentence names what is expected: the status (or the document lists it), the field or header, the value.

    Names count however they are written: `created_at` is spoken of as "created at".
    """
    lower = quote.lower()
    if wanted.kind == "status":
        return all(str(status) in operation.responses or _has_word(str(status), lower) for status in wanted.statuses)
    value = wanted.equals if wanted.kind == "header" else wanted.value_json
    if isinstance(value, str | int | float) and _has_word(str(value).strip('"').lower(), lower):
        return True
    fields = re.findall(r"[A-Za-z_][\w-]*", wanted.path)
    name = wanted.name if wanted.kind == "header" else fields[-1] if fields else ""
    bare = re.sub(r"[^a-z0-9]", "", name.lower())
    return _has_word(name.lower(), lower) or (len(bare) > 3 and bare in re.sub(r"[^a-z0-9]", "", lower))


def _has_word(word: str, text: str) -> bool:
    return bool(word) and re.search(rf"(?<![a-z0-9]){re.escape(word)}(?![a-z0-9])", text) is not None
