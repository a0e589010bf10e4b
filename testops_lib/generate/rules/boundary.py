"""A valid value -> other valid values at the edges of its schema."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from testops_lib.generate.rules.bounds import highest, lowest
from testops_lib.generate.rules.making import Making
from testops_lib.generate.rules.mutations import Place
from testops_lib.generate.rules.values import Maker
from testops_lib.generate.schemas import RANGES, UNIQUE, Flat, Schemas, kind_of, kinds
from testops_lib.placeholder import fill
from testops_lib.spec.operation import Schema

ODD_TEXT: Final = 'O\'Brien "<b>" \\ %s ; -- ünïcödé 漢字 \U0001f600'
"""Valid text that careless code stumbles over: quotes, markup, percent signs, letters beyond ASCII."""

UNPRINTABLE: Final = "control characters"
ODD_NAMES: Final = (("one character", "0"), ("odd characters", "a'\"%\u6f22 <b>"), (UNPRINTABLE, "a\n\x01"))
"""Label and text, for a path."""

CONTROL_TEXT: Final = "a\n\x00\x1f\x7f"
"""Valid text, since JSON Schema knows no characters that are not allowed."""

SMALL_ENUM: Final = 8
MOST_ITEMS: Final = 60
LONGEST: Final = 10_000


@dataclass(frozen=True)
class Edge:
    """One datum at an edge."""

    place: Place
    label: str
    value: Any
    """The whole value with the edge in it."""
    explicit: bool
    """The document names this very edge, so its refusal contradicts the document."""


def edges(
    schemas: Schemas, maker: Maker, schema: Schema, value: Any, samples: Mapping[str, Any], *, unique: bool
) -> Iterator[Edge]:
    """Edges of a body, properties down to two levels; each is valid."""
    seen: set[tuple[Place, str]] = set()
    for place, label, edge, explicit in _within(schemas, maker, schema, value, (), 2, unique):
        if (place, label) not in seen and schemas.accepts(schema, fill(edge, samples)):
            seen.add((place, label))
            yield Edge(place, label, edge, explicit)


def _within(
    schemas: Schemas, maker: Maker, schema: Schema, value: Any, place: Place, nested: int, unique: bool
) -> Iterator[tuple[Place, str, Any, bool]]:
    flat = schemas.flat(schema)
    name = str(place[-1]) if place else ""
    branches = schemas.branches(flat)
    if len(branches) > 1:
        for index, branch in enumerate(branches):
            making = Making(seed=f"branch {index}", unique=unique)
            if kinds(schemas.flat(branch)) == {"null"}:
                continue
            for made in maker.branch_values(flat, branch, name, making):
                if not making.dangling:
                    yield place, f"alternative {index + 1}", made, not making.doubt
                break
        chosen = [b for b in branches if kind_of(value) in kinds(schemas.flat(b))]
        if len(chosen) == 1:
            flat = schemas.flat(chosen[0])
    if not place and value is not None and schemas.nullable(schema):
        yield place, "null", None, True
    if place:
        for label, edge, explicit in edge_values(schemas, schemas.flat(schema), flat, name, value, unique):
            yield place, label, edge, explicit
    if isinstance(value, dict) and nested > 0:
        for key, declared in flat.get("properties", {}).items():
            inner = schemas.flat(declared)
            if inner.get("readOnly") is True or inner.get("deprecated") is True:
                continue
            given = value.get(key)
            if given is None and "object" in kinds(inner):
                continue
            for at, label, edge, explicit in _within(
                schemas, maker, declared, given, (*place, key), nested - 1, unique
            ):
                yield at, label, {**value, key: edge}, explicit
    if isinstance(value, list) and value and nested > 0:
        for at, label, edge, explicit in _within(
            schemas, maker, flat.get("items", True), value[0], (*place, 0), nested - 1, unique
        ):
            if at != (*place, 0) or kind_of(edge) in ("integer", "number", "string", "null"):
                yield at, label, [edge, *value[1:]], explicit


def edge_values(
    schemas: Schemas, whole: Flat, flat: Flat, name: str, good: Any, unique: bool
) -> Iterator[tuple[str, Any, bool]]:
    """Label, value, explicit; those that the document names first."""
    if isinstance(whole.get("enum"), list):
        options = [value for value in whole["enum"] if value != good]
        if len(whole["enum"]) <= SMALL_ENUM:
            yield from ((f"enum {value}", value, True) for value in options)
        return
    if "const" in whole:
        return
    allowed = kinds(flat)
    if len(allowed) == 7:
        return
    if isinstance(good, str) and good.startswith("{") and good.endswith("}") and good != UNIQUE:
        return  # points at something that exists: no other value does
    if allowed & {"integer", "number"}:
        yield from _numbers(flat, good)
    if "string" in allowed:
        yield from _strings(flat, name, good if isinstance(good, str) else "", unique)
    if isinstance(good, list):
        yield from _arrays(flat, good)
    if allowed == {"object"} and not flat.get("properties"):
        yield "a property with odd characters", {"key": ODD_TEXT}, False
        yield f"a property with {UNPRINTABLE}", {"key": CONTROL_TEXT}, False
    if "null" in kinds(whole) or any(kinds(schemas.flat(branch)) == {"null"} for branch in schemas.branches(whole)):
        yield "null", None, True


def _numbers(flat: Flat, good: Any) -> Iterator[tuple[str, Any, bool]]:
    low, high = lowest(flat), highest(flat)
    whole = "number" not in kinds(flat)
    given = [("minimum", low), ("maximum", high)]
    for label, bound in given:
        if bound is not None and bound != good:
            yield label, int(bound) if bound == int(bound) else round(bound, 6), True
    if low is None:
        yield from (("zero", 0, False), ("negative", -1, False))
    elif low < 0 and (high is None or high > 0):
        yield "zero", 0, True
    form = str(flat.get("format"))
    if whole and form in RANGES:
        smallest, largest = RANGES[form]
        yield from ((f"largest of {form}", largest, False), (f"smallest of {form}", smallest, False))
    elif high is None and whole:
        yield from (("beyond 32 bits", 2**31, False), ("largest of 64 bits", 2**63 - 1, False))
        yield "beyond 64 bits", 2**63, False


def _strings(flat: Flat, name: str, good: str, unique: bool) -> Iterator[tuple[str, Any, bool]]:
    least, most = int(flat.get("minLength", 0)), flat.get("maxLength")
    if least > LONGEST:
        return
    token = unique and UNIQUE in good
    free = not isinstance(flat.get("pattern"), str) and flat.get("format") in (None, "password")
    if most is not None and 0 < most <= LONGEST:
        yield from (("maxLength", text, True) for text in _of_length(flat, good, int(most), token))
    if least > 0 and not token:
        yield from (("minLength", text, True) for text in _of_length(flat, good, least, False))
    if free and "enum" not in flat:
        odd = f"{UNIQUE} {ODD_TEXT}" if token else ODD_TEXT
        length = len(odd) + (4 if token else 0)
        if most is None or length <= most:
            yield "odd characters", odd.ljust(least, "x"), False
            control = f"{UNIQUE} {CONTROL_TEXT}" if token else CONTROL_TEXT
            yield UNPRINTABLE, control.ljust(least, "x"), False
        if least == 0 and good != "":
            yield "empty", "", False
        if most is None:
            yield "long", (f"{UNIQUE}" if token else "") + "x" * LONGEST, False


def _of_length(flat: Flat, good: str, length: int, token: bool) -> Iterator[str]:
    """Strings of exactly `length` (the token counts 12); the caller keeps the first valid one."""
    if "@" in good or flat.get("format") == "email":
        stem = UNIQUE if token else "a"
        room = length - len("@example.com") - (12 if token else 1)
        if 0 <= room <= 50:
            yield f"{stem}{'x' * room}@example.com"
        return
    if flat.get("format") not in (None, "password"):
        return
    if token:
        room = length - 12
        if room >= 0:
            stem = good.split(UNIQUE, 1)[0]
            yield stem + UNIQUE + "x" * (room - len(stem)) if room >= len(stem) else UNIQUE + "x" * room
            yield UNIQUE + "0" * room
        return
    if good and len(good) >= length:
        yield good[:length]
    if good:
        yield good + (good[-1] if good[-1].isalnum() else "x") * (length - len(good))
    yield from (letter * length for letter in "xX1")


def _arrays(flat: Flat, good: list[Any]) -> Iterator[tuple[str, Any, bool]]:
    least, most = int(flat.get("minItems", 0)), flat.get("maxItems")
    if least == 0 and good:
        yield "no items", [], False
    if good and 0 < least < len(good):
        yield "minItems", good[:least], True
    if most is not None and good and most <= MOST_ITEMS and most > len(good) and not flat.get("uniqueItems"):
        yield "maxItems", [good[index % len(good)] for index in range(int(most))], True
