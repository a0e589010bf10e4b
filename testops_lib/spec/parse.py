"""Bytes -> plain values: JSON or YAML by content, within limits, never with surprises of YAML's type system.

YAML is read as its 1.2 core schema, as OpenAPI asks: `on`, `no` and dates are strings. Keys are always the text that
stands in the document (`200:` is "200"), aliases are shared, not copied, and counted as what they stand for.
"""

from __future__ import annotations

import codecs
import json
import math
import re
from collections import Counter
from typing import Any

import yaml
from yaml.cyaml import CParser  # type: ignore[attr-defined]

from testops_lib.errors import SpecError
from testops_lib.spec.limits import Deadline, Limits, Notes

_STRUCTURE = re.compile(r'"(?:[^"\\]|\\.)*+"|[\[{]|[\]}]', re.DOTALL)
_INT = re.compile(r"[-+]?[0-9]+\Z")
_OTHER_INT = re.compile(r"0o[0-7]+\Z|0x[0-9a-fA-F]+\Z")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?\Z")
_ODD_FLOAT = re.compile(r"[-+]?\.(inf|Inf|INF)\Z|\.(nan|NaN|NAN)\Z")
_WORDS: dict[str, Any] = {
    "": None,
    "~": None,
    "null": None,
    "Null": None,
    "NULL": None,
    "true": True,
    "True": True,
    "TRUE": True,
    "false": False,
    "False": False,
    "FALSE": False,
}
_NUMBER_START = frozenset("+-.0123456789")
_TAG = "tag:yaml.org,2002:"
_LONE = re.compile("[\ud800-\udfff]")
_YAML_RETRY_BYTES = 1_000_000
"""A JSON document with a mistake is tried as YAML (comments, trailing commas) up to this size."""


def parse(data: bytes, where: str, *, limits: Limits, notes: Notes, deadline: Deadline) -> Any:
    """The document's value: objects with string keys, arrays, strings, finite numbers, booleans, null.

    Lone surrogates become U+FFFD, integers beyond 64 bits floats, infinities and NaN null (with a warning), of
    duplicate keys the last one stays (with a warning).

    Raises:
        SpecError: it is neither JSON nor YAML, or breaks a limit; the message names line and column.
    """
    if len(data) > limits.max_bytes:
        raise SpecError(
            f"the document has more than {limits.max_bytes:,} bytes",
            where=where,
            next_step="split it, or raise the limit `max_bytes`",
        )
    text = _decode(data, where)
    start = text[:2000].lstrip()[:15].lower()
    if not start and not text.strip():
        raise SpecError("the document is empty", where=where, next_step="give an OpenAPI document (JSON or YAML)")
    if start.startswith("<"):
        raise SpecError(
            "this is a web page or XML, not an OpenAPI document",
            where=where,
            next_step="give the address of the document itself, often /openapi.json, /v3/api-docs or /swagger.json",
        )
    if start[:1] not in "{[":
        return _Yaml(text, where, limits, notes, deadline).document()
    try:
        return _json(text, where, limits, notes, deadline)
    except json.JSONDecodeError as error:
        if len(text) <= _YAML_RETRY_BYTES and _may_be_yaml(error):
            try:
                return _Yaml(text, where, limits, notes, deadline).document()
            except SpecError:
                pass
        raise SpecError(
            f"not valid JSON: {error.msg}",
            where=f"{where}, line {error.lineno} column {error.colno}",
            next_step="correct the document there",
        ) from error


def _may_be_yaml(error: json.JSONDecodeError) -> bool:
    """The mistake is one that flow-style YAML allows: a comment, a key without quotes, a trailing comma."""
    at, before = error.doc[error.pos : error.pos + 1], error.doc[: error.pos].rstrip()[-1:]
    by_message = error.msg.startswith(("Expecting property name", "Illegal trailing"))
    return by_message or at == "#" or (at, before) == ("]", ",")


def _decode(data: bytes, where: str) -> str:
    if data[:2] == b"\x1f\x8b":
        raise SpecError("the document is compressed", where=where, next_step="decompress it first")
    if data.startswith((codecs.BOM_UTF32_LE, codecs.BOM_UTF32_BE)):
        encoding = "utf-32"
    elif data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        encoding = "utf-16"
    else:
        encoding = json.detect_encoding(data)
    try:
        text = data.decode(encoding)
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise SpecError(
            f"not {encoding.upper()} text: {error.reason} at byte {error.start}",
            where=f"{where}, line {line}",
            next_step="save the document as UTF-8",
        ) from error
    return text.removeprefix("\ufeff")


# --------------------------------------------------------------------------- JSON


def _json(text: str, where: str, limits: Limits, notes: Notes, deadline: Deadline) -> Any:
    deadline.values += text.count(",") + text.count("{") + text.count("[")
    if deadline.values > limits.max_values:
        raise _too_many(where, limits)
    odd: list[str] = []
    twice: dict[int, tuple[dict[str, Any], str]] = {}

    def member(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        members = dict(pairs)
        if len(members) != len(pairs):
            counts = Counter(name for name, _ in pairs)
            twice[id(members)] = (members, next(name for name, count in counts.items() if count > 1))
        return members

    def constant(name: str) -> None:
        odd.append(name)

    def number(digits: str) -> float | None:
        value = float(digits)
        if not math.isfinite(value):
            odd.append(digits[:20])
            return None
        return value

    def integer(digits: str) -> int | float | None:
        return int(digits) if len(digits) < 19 else _big(digits, odd)

    decoder = json.JSONDecoder(object_pairs_hook=member, parse_constant=constant, parse_float=number, parse_int=integer)
    try:
        value, end = decoder.raw_decode(text, _blank(text, 0))
    except RecursionError:
        raise _too_deep(text, where, limits) from None
    rest = _blank(text, end)
    if rest != len(text):
        raise json.JSONDecodeError("something follows the document", text, rest)
    deadline.check()
    if not _shallow(value, limits.max_depth):
        raise _too_deep(text, where, limits)
    if twice:
        _tell_twice(value, twice, where, notes)
    if "\\u" in text and re.search(r"\\u[dD][89a-fA-F]", text):
        value = _without_surrogates(value)
    for word in dict.fromkeys(odd):
        notes.add(where, f"{word} is not a JSON number; it is taken as null")
    return value


def _blank(text: str, index: int) -> int:
    while index < len(text) and text[index] in " \t\r\n":
        index += 1
    return index


def _big(digits: str, odd: list[str]) -> int | float | None:
    if len(digits) <= 20:
        value = int(digits)
        if -(2**63) <= value < 2**64:
            return value
    near = float(digits)
    if math.isfinite(near):
        return near
    odd.append(digits[:20] + "…")
    return None


def _shallow(value: Any, depth: int) -> bool:
    level = [value]
    for _ in range(depth):
        level = [
            child
            for parent in level
            for child in (parent.values() if isinstance(parent, dict) else parent if isinstance(parent, list) else ())
            if isinstance(child, dict | list)
        ]
        if not level:
            return True
    return False


def _too_deep(text: str, where: str, limits: Limits) -> SpecError:
    depth, place = 0, where
    for match in _STRUCTURE.finditer(text):
        sign = match.group()
        if sign in "[{":
            depth += 1
            if depth > limits.max_depth:
                line = text.count("\n", 0, match.start()) + 1
                place = f"{where}, line {line} column {match.start() - text.rfind(chr(10), 0, match.start())}"
                break
        elif sign in "]}":
            depth -= 1
    return SpecError(
        f"nested deeper than {limits.max_depth} levels", where=place, next_step="flatten the document there"
    )


def _too_many(where: str, limits: Limits) -> SpecError:
    return SpecError(
        f"more than {limits.max_values:,} values have been read (aliases count as what they stand for)",
        where=where,
        next_step="split it, or raise the limit `max_values`",
    )


def _without_surrogates(value: Any) -> Any:
    if isinstance(value, str):
        return _LONE.sub("\ufffd", value)
    if isinstance(value, list):
        return [_without_surrogates(item) for item in value]
    if isinstance(value, dict):
        return {_LONE.sub("\ufffd", key): _without_surrogates(item) for key, item in value.items()}
    return value


def _tell_twice(value: Any, twice: dict[int, tuple[dict[str, Any], str]], where: str, notes: Notes) -> None:
    waiting: list[tuple[Any, str]] = [(value, "")]
    while waiting:
        node, pointer = waiting.pop()
        if id(node) in twice:
            key = twice[id(node)][1]
            notes.add(
                _LONE.sub("\ufffd", f"{where}#{pointer}"),
                f"the key {key[:100]!r} stands there twice; the last one counts",
            )
        inner = node.items() if isinstance(node, dict) else enumerate(node)
        waiting.extend(
            (member, f"{pointer}/{escape(str(key))}") for key, member in inner if isinstance(member, dict | list)
        )


def escape(token: str) -> str:
    """A reference token of a JSON pointer (RFC 6901)."""
    return token.replace("~", "~0").replace("/", "~1") if "~" in token or "/" in token else token


# --------------------------------------------------------------------------- YAML


class _Yaml:
    """Builds values from libyaml's events: five times faster than nodes, and nothing is built before it is counted."""

    def __init__(self, text: str, where: str, limits: Limits, notes: Notes, deadline: Deadline) -> None:
        self._where, self._limits, self._notes, self._deadline = where, limits, notes, deadline
        self._text = text
        self._count = deadline.values
        self._anchors: dict[str, tuple[Any, int, int] | None] = {}
        """Anchor -> value, values in it, levels in it; None while it is being built."""

    def document(self) -> Any:
        try:
            parser = CParser(self._text)
            event = parser.get_event()
            while not isinstance(event, yaml.DocumentStartEvent):
                if isinstance(event, yaml.StreamEndEvent):
                    raise SpecError("the document is empty", where=self._where, next_step="give an OpenAPI document")
                event = parser.get_event()
            value = self._build(parser)
            self._deadline.values = self._count
            parser.get_event()
            if not isinstance(parser.get_event(), yaml.StreamEndEvent):
                self._notes.add(self._where, "more than one YAML document; the first one is read")
            return value
        except yaml.YAMLError as error:
            mark = getattr(error, "problem_mark", None)
            place = f"{self._where}, line {mark.line + 1} column {mark.column + 1}" if mark else self._where
            problem = getattr(error, "problem", None) or getattr(error, "reason", None) or str(error)
            raise SpecError(
                f"not valid YAML: {problem}", where=place, next_step="correct the document there"
            ) from error

    def _error(self, event: Any, what: str, next_step: str = "correct the document there") -> SpecError:
        mark = event.start_mark
        return SpecError(
            what, where=f"{self._where}, line {mark.line + 1} column {mark.column + 1}", next_step=next_step
        )

    def _build(self, parser: Any) -> Any:
        limits = self._limits
        max_values, max_depth = limits.max_values, limits.max_depth
        get, scalar, anchors = parser.get_event, self._scalar, self._anchors
        Scalar, Alias = yaml.ScalarEvent, yaml.AliasEvent
        MapStart, SeqStart = yaml.MappingStartEvent, yaml.SequenceStartEvent
        root: list[Any] = []
        # The container being filled, the key that waits for its value (_NONE: none does; a list needs none), its
        # anchor, the count when it began and the levels below it; outer ones on the stack.
        stack: list[tuple[Any, Any, str | None, int, int]] = []
        into: Any = root
        key: Any = _NONE
        anchor: str | None = None
        began = height = 0
        events = 0
        while True:
            event = get()
            kind = type(event)
            events += 1
            if events & 0x3FFF == 0:
                self._deadline.check()
            if kind is Scalar:
                self._count += 1
                if type(into) is dict and key is _NONE:
                    key = event.value
                    if key == "<<" and event.implicit[0]:
                        key = _MERGE
                    elif _LONE.search(key):
                        key = _LONE.sub("\ufffd", key)
                    if key in into:
                        self._twice(event, key)
                    if event.anchor is not None:
                        anchors[event.anchor] = (event.value, 1, 0)
                    continue
                value = scalar(event)
                if event.anchor is not None:
                    anchors[event.anchor] = (value, 1, 0)
            elif kind is MapStart or kind is SeqStart:
                if type(into) is dict and key is _NONE:
                    raise self._error(event, "a key must be a plain string")
                tag = event.tag
                if tag is not None and tag not in (_TAG + "map", _TAG + "seq", "!"):
                    raise self._error(event, f"the YAML tag {tag!r} is not allowed", "write the value itself")
                self._count += 1
                if len(stack) >= max_depth:
                    raise self._error(event, f"nested deeper than {max_depth} levels", "flatten the document there")
                if event.anchor is not None:
                    anchors[event.anchor] = None
                stack.append((into, key, anchor, began, height))
                into = {} if kind is MapStart else []
                key, anchor, began, height = _NONE, event.anchor, self._count - 1, 0
                continue
            elif kind is Alias:
                name = event.anchor
                if name not in anchors:
                    raise self._error(event, f"the alias *{name} has no anchor")
                anchored = anchors[name]
                if anchored is None:
                    raise self._error(event, f"the alias *{name} stands inside what it stands for")
                value, size, levels = anchored
                self._count += size
                if type(into) is dict and key is _NONE:
                    if not isinstance(value, str):
                        raise self._error(event, "a key must be a plain string")
                    key = value
                    if key in into:
                        self._twice(event, key)
                    continue
                if len(stack) + levels > max_depth:
                    raise self._error(event, f"nested deeper than {max_depth} levels", "flatten the document there")
                height = max(height, levels)
            elif stack:  # the end of a container
                value = into
                if _MERGE in value if type(value) is dict else False:
                    value = self._merged(value, event)
                if anchor is not None:
                    anchors[anchor] = (value, self._count - began, height + 1)
                levels = height + 1
                into, key, anchor, began, height = stack.pop()
                height = max(height, levels)
            else:
                raise self._error(event, "the document is empty")
            if self._count > max_values:
                raise _too_many(f"{self._where}, line {event.start_mark.line + 1}", limits)
            if type(into) is dict:
                into[key] = value
                key = _NONE
            else:
                into.append(value)
                if into is root:
                    return value

    def _twice(self, event: Any, key: Any) -> None:
        if key is not _MERGE:
            place = f"{self._where}, line {event.start_mark.line + 1}"
            self._notes.add(place, f"the key {key!r} stands there twice; the last one counts")

    def _merged(self, value: dict[Any, Any], event: Any) -> dict[str, Any]:
        """The merge key `<<` of YAML 1.1: the mapping's own members win, then the first source."""
        sources = value.pop(_MERGE)
        for source in sources if isinstance(sources, list) else [sources]:
            if not isinstance(source, dict):
                raise self._error(event, "the merge key `<<` needs a mapping or a list of mappings")
            self._count += len(source)
            for key, member in source.items():
                value.setdefault(key, member)
        return value

    def _scalar(self, event: Any) -> Any:
        text: str = event.value
        tag = event.tag
        if tag is not None and tag != "!":
            return self._tagged(event, tag, text)
        if not event.implicit[0] or tag == "!":
            return text if text.isascii() else _LONE.sub("\ufffd", text)
        if text in _WORDS:
            return _WORDS[text]
        if text[0] in _NUMBER_START and len(text) <= 400:
            return self._number(event, text)
        return text if text.isascii() else _LONE.sub("\ufffd", text)

    def _number(self, event: Any, text: str) -> Any:
        odd: list[str] = []
        value: Any = text
        if _INT.match(text):
            value = int(text) if len(text) < 19 else _big(text, odd)
        elif _OTHER_INT.match(text):
            number = int(text, 0)
            value = number if number < 2**64 else float(min(number, 10**300))
        elif _FLOAT.match(text):
            value = float(text)
            if not math.isfinite(value):
                odd.append(text[:20])
                value = None
        elif _ODD_FLOAT.match(text):
            odd.append(text)
            value = None
        for word in odd:
            place = f"{self._where}, line {event.start_mark.line + 1}"
            self._notes.add(place, f"{word} is not a JSON number; it is taken as null")
        return value

    def _tagged(self, event: Any, tag: str, text: str) -> Any:
        kind = tag.removeprefix(_TAG)
        if kind in ("str", "timestamp", "binary"):
            return text
        if kind in ("int", "float") and len(text) <= 400:
            value = self._number(event, text)
            if not isinstance(value, str):
                return float(value) if kind == "float" and value is not None else value
        if kind in ("null", "bool") and text in _WORDS:
            return _WORDS[text]
        raise self._error(event, f"the YAML tag {tag!r} is not allowed here", "write the value itself")


class _Mark(str):
    """A key that no document can hold."""

    __slots__ = ()
    __hash__ = object.__hash__

    def __eq__(self, other: object) -> bool:
        return self is other


_NONE = _Mark("none")
_MERGE = _Mark("<<")
