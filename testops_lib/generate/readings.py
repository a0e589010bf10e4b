"""The text of a parameter or form field -> the values that it may mean.

A reading is strict when OpenAPI's serialization rules give it (3.1.1, section 4.8.12 and appendix C; a scalar in JSON's
own grammar). It is lenient when they do not and a usual server makes it all the same: `+5`, `05`, `yes`, the empty text
for "not given", a list that is split at commas though it is sent as repeated pairs.
"""

from __future__ import annotations

import json
import math
import re
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple
from urllib.parse import unquote

from testops_lib.generate.schemas import Schemas
from testops_lib.spec.operation import Parameter, Schema

SEPARATORS: Final = {"spaceDelimited": " ", "pipeDelimited": "|", "tabDelimited": "\t"}
"""Style -> what stands between the items of an array; a comma in all others."""

_INTEGER: Final = re.compile(r"-?(0|[1-9][0-9]{0,400})")
_NUMBER: Final = re.compile(r"-?(0|[1-9][0-9]{0,400})(\.[0-9]{1,400})?([eE][+-]?[0-9]{1,3})?")
_TRUE: Final = frozenset({"true", "yes", "on", "t", "y", "1"})
_FALSE: Final = frozenset({"false", "no", "off", "f", "n", "0"})
_LONGEST_NUMBER: Final = 400


class Reading(NamedTuple):
    """One value that a text may mean."""

    value: Any
    strict: bool


def scalars(text: str, *, numbers: bool = True) -> Iterator[Reading]:
    """What one text may mean as a scalar: the text itself, then the boolean, null or number that it writes.

    Without `numbers` a whole number with a fraction (`5.0`) is only leniently one: integers alone are wanted.
    """
    yield Reading(text, True)
    if text in ("true", "false"):
        yield Reading(text == "true", True)
    elif text.strip().lower() in _TRUE | _FALSE:
        yield Reading(text.strip().lower() in _TRUE, False)
    if text in ("", "null"):
        yield Reading(None, False)
    if _INTEGER.fullmatch(text):
        yield Reading(int(text), True)
    elif _NUMBER.fullmatch(text) and math.isfinite(number := float(text)):
        yield Reading(number, numbers or number != int(number))
    else:
        yield from _lenient_number(text)


def _lenient_number(text: str) -> Iterator[Reading]:
    bare = text.strip()
    if not bare or len(bare) > _LONGEST_NUMBER:
        return
    for read in (lambda: int(bare), lambda: int(bare, 0), lambda: float(bare)):
        try:
            value = read()
        except ValueError:
            continue
        if isinstance(value, float) and not math.isfinite(value):
            value = 0.0 if math.isnan(value) else math.copysign(sys.float_info.max, value)
        yield Reading(value, False)
        return


class Reader:
    """Reads parameters by the schemas of one spec."""

    def __init__(self, schemas: Schemas) -> None:
        self._schemas = schemas

    def readings(self, parameter: Parameter, texts: Sequence[str], raw: str = "") -> Iterator[Reading]:
        """What the texts of one parameter may mean, the text itself first.

        Args:
            texts: one for each pair of the name, decoded; at least one.
            raw: the percent-encoded text of a path parameter: a delimiter there is not one of a value.
        """
        if parameter.content_type:
            yield from _of_media(texts)
            return
        schema = parameter.schema
        allowed = self._schemas.all_kinds(schema)
        bare = _unstyled(parameter, texts[0]) if parameter.where == "path" else texts[0]
        if len(texts) == 1:
            if allowed - {"array", "object"}:
                yield from (
                    Reading(value, strict and bare is not None)
                    for value, strict in scalars(texts[0] if bare is None else bare, numbers="number" in allowed)
                )
        else:  # a scalar that is given more than once: servers take the first or the last
            yield from (Reading(value, False) for text in texts for value, _ in scalars(text))
        if "array" in allowed:
            yield from self._arrays(parameter, texts, raw)
        if "object" in allowed and len(texts) == 1:
            yield from self._objects(parameter, texts[0], raw)

    def spread(self, parameter: Parameter, members: Mapping[str, Sequence[str]]) -> Iterator[Reading]:
        """What an object means whose members stand in pairs of their own: `a[b]=1`, or `b=1` when it is exploded.

        Of members that are arrays or objects OpenAPI says nothing.
        """
        plain = all(len(texts) == 1 and "[" not in name for name, texts in members.items())
        for exact in (True, False):
            value: dict[str, Any] = {}
            for name, texts in members.items():
                declared = self._schemas.member(parameter.schema, name)
                if "array" in self._schemas.all_kinds(declared):
                    plain = False
                    value[name] = [self.best(self._items(declared), text, strict=exact) for text in texts]
                else:
                    value[name] = self.best(declared, texts[-1], strict=exact)
            yield Reading(value, exact and plain)

    def best(self, schema: Schema, text: str, *, strict: bool) -> Any:
        """The first reading of a member or item that the schema takes; the text when there is none."""
        numbers = "number" in self._schemas.all_kinds(schema)
        for value, sure in scalars(text, numbers=numbers):
            if (sure or not strict) and self._schemas.accepts(schema, value):
                return value
        if not strict and text[:1] in ("{", "["):
            try:
                return json.loads(text)
            except (ValueError, RecursionError):
                pass
        return text

    def _arrays(self, parameter: Parameter, texts: Sequence[str], raw: str) -> Iterator[Reading]:
        for items, strict in _split(parameter, texts, raw):
            schema = self._items(parameter.schema)
            yield Reading([self.best(schema, text, strict=True) for text in items], strict)
            yield Reading([self.best(schema, text, strict=False) for text in items], False)

    def _items(self, schema: Schema) -> Schema:
        flat = self._schemas.flat(schema)
        for part in (flat, *map(self._schemas.flat, self._schemas.branches(flat))):
            if "items" in part:
                found: Schema = part["items"]
                return found
        return True

    def _objects(self, parameter: Parameter, text: str, raw: str) -> Iterator[Reading]:
        if text[:1] == "{":
            try:
                yield Reading(json.loads(text), False)
            except (ValueError, RecursionError):
                pass
        for members, strict in _members(parameter, text, raw):
            declared = {name: self._schemas.member(parameter.schema, name) for name in members}
            for exact in (True, False):
                value = {name: self.best(declared[name], one, strict=exact) for name, one in members.items()}
                yield Reading(value, strict and exact)


def _of_media(texts: Sequence[str]) -> Iterator[Reading]:
    """A parameter described by `content`: JSON, or the text where it is none."""
    try:
        yield Reading(json.loads(texts[0]), True)
    except (ValueError, RecursionError):
        yield Reading(texts[0], False)


def _split(parameter: Parameter, texts: Sequence[str], raw: str) -> Iterator[tuple[Sequence[str], bool]]:
    """The items of an array as text, and whether by the rules of the parameter's style."""
    text = texts[0]
    if parameter.where == "path":
        yield from _in_path(parameter, raw or text)
        return
    if parameter.where == "header":
        yield [part.strip() for part in text.split(",")], True
        return
    joint = SEPARATORS.get(parameter.style, ",")
    if len(texts) > 1:
        yield texts, parameter.explode and parameter.style not in SEPARATORS
        return
    if parameter.style in SEPARATORS or not parameter.explode:
        yield text.split(joint), True
        yield texts, False  # a delimiter that belongs to an item is percent-encoded; who decodes first cannot tell
    else:
        yield texts, True
        if joint in text:
            yield text.split(joint), False
    if text == "":
        yield [], False
    if text[:1] == "[":
        try:
            found = json.loads(text)
        except (ValueError, RecursionError):
            return
        if all(isinstance(item, str | int | float) for item in found):
            yield [item if isinstance(item, str) else json.dumps(item) for item in found], False


def _in_path(parameter: Parameter, raw: str) -> Iterator[tuple[Sequence[str], bool]]:
    parts: Iterable[str]
    if parameter.style == "label":
        parts = raw.removeprefix(".").split("." if parameter.explode else ",")
        yield [unquote(part) for part in parts], raw.startswith(".")
    elif parameter.style == "matrix":
        lead = f";{parameter.name}="
        parts = raw.split(lead)[1:] if parameter.explode else raw.removeprefix(lead).split(",")
        yield [unquote(part) for part in parts], raw.startswith(lead)
    else:
        yield [unquote(part) for part in raw.split(",")], True


def _members(parameter: Parameter, text: str, raw: str) -> Iterator[tuple[dict[str, str], bool]]:
    """The members of an object that one text holds, and whether by the rules of the parameter's style."""
    simple = parameter.where in ("path", "header")
    joint = SEPARATORS.get(parameter.style, ",")
    parts = [unquote(part) for part in raw.split(joint)] if raw else text.split(joint)
    if all("=" in part for part in parts):
        yield dict(part.split("=", 1) for part in parts), simple and parameter.explode
    if len(parts) % 2 == 0:
        by_rule = simple or parameter.style in ("form", "", *SEPARATORS)
        yield dict(zip(parts[::2], parts[1::2], strict=True)), by_rule and not parameter.explode


def _unstyled(parameter: Parameter, text: str) -> str | None:
    """A scalar of a path without the lead of its style; None when the lead is missing."""
    lead = {"label": ".", "matrix": f";{parameter.name}="}.get(parameter.style, "")
    return text.removeprefix(lead) if text.startswith(lead) else None
