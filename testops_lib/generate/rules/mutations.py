"""A valid value -> values that break exactly one rule of its schema, each judged to be really invalid."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from testops_lib.doubts import Doubt
from testops_lib.generate.rules.bounds import highest, lowest
from testops_lib.generate.schemas import RANGES, UNIQUE, Flat, Schemas, kind_of, kinds
from testops_lib.placeholder import fill
from testops_lib.spec.operation import Schema

LONGEST: Final = 100_000
"""Characters; a longer `maxLength` is not exceeded."""

MOST_ITEMS: Final = 200

Place = tuple[str | int, ...]


@dataclass(frozen=True)
class Mutation:
    """One datum made invalid."""

    place: Place
    rule: str
    value: Any
    """The whole value with the invalid datum in it."""
    doubt: Doubt = ""


_WRONG_TYPES: Final[tuple[Any, ...]] = ("not-a-value", {"unexpected": "object"}, 12345, ["unexpected"], True)
_BAD_FORMATS: Final[Mapping[str, str]] = {
    "uuid": "not-a-uuid",
    "date": "2024-13-45",
    "date-time": "2024-13-45T99:99:99Z",
    "email": "not-an-email",
    "ipv4": "999.1.1.1",
    "ipv6": "2001:db8::zz",
    "uri": "not a uri",
    "url": "not a url",
}
MOST_PROPERTIES: Final = 50
_BAD_PATTERNS: Final = ("!", "@@", " ", "~none~", "0", "a", "A", "\u2603", "zzzzzzzz!", "")


def of_body(
    schemas: Schemas, schema: Schema, value: Any, samples: Mapping[str, Any], *, nested: int = 2
) -> Iterator[Mutation]:
    """Invalid variants of the valid body `value`: the shallow ones first; properties down to `nested` levels.

    Placeholders in `value` stand for `samples`.
    """
    seen: set[tuple[Place, str]] = set()
    for place, rule, bad, doubt in _mutations(schemas, schema, value, (), nested):
        if (place, rule) not in seen and schemas.rejects(schema, fill(bad, samples)):
            seen.add((place, rule))
            yield Mutation(place, rule, bad, doubt)


def _mutations(
    schemas: Schemas, schema: Schema, value: Any, place: Place, nested: int
) -> Iterator[tuple[Place, str, Any, Doubt]]:
    """Candidates, each a whole value; the caller judges whether they are invalid."""
    flat = _chosen(schemas, schemas.flat(schema), value)
    if isinstance(value, dict):
        yield from _of_object(schemas, flat, value, place, nested)
    for rule, bad, doubt in bad_values(schemas, schema, value):
        yield place, rule, bad, doubt
    if not place and "null" not in schemas.all_kinds(schema):
        yield place, "null", None, ""
    if isinstance(value, list) and value and nested >= 0:
        items = flat.get("items", True)
        yield (*place, 0), "null item", [None, *value[1:]], ""
        for inner, rule, bad, doubt in _mutations(schemas, items, value[0], (*place, 0), nested - 1):
            yield inner, rule, [bad, *value[1:]], doubt


def _of_object(
    schemas: Schemas, flat: Flat, value: dict[str, Any], place: Place, nested: int
) -> Iterator[tuple[Place, str, Any, Doubt]]:
    properties: Mapping[str, Schema] = flat.get("properties", {})
    for name in flat.get("required", ()):
        if name in value:
            yield (*place, name), "required", {key: item for key, item in value.items() if key != name}, ""
    deeper: list[str] = []
    for name, declared in properties.items():
        inner = schemas.flat(declared)
        if inner.get("readOnly") is True:
            continue
        given = value.get(name)
        if nested > 0 and isinstance(given, dict | list):
            deeper.append(name)
        for rule, bad, doubt in bad_values(schemas, declared, given):
            yield (*place, name), rule, {**value, name: bad}, doubt
        if name in flat.get("required", ()) and "null" not in schemas.all_kinds(declared):
            yield (*place, name), "null", {**value, name: None}, ""
        if given is None and "array" in schemas.all_kinds(declared):
            yield (
                (*place, name, 0),
                "null item",
                {**value, name: [None] * max(1, int(inner.get("minItems", 0)))},
                "",
            )
    yield from _null_members(schemas, flat, value, place)
    more = flat.get("additionalProperties")
    if more is False:
        yield (*place, "unexpected_property"), "additionalProperties", {**value, "unexpected_property": "x"}, ""
    elif isinstance(more, dict):
        for _, bad, doubt in bad_values(schemas, more, None):
            yield (*place, "unexpected_property"), "additionalProperties", {**value, "unexpected_property": bad}, doubt
    yield from ((place, rule, bad, "") for rule, bad in _of_other_size(flat, value))
    for name, others in flat.get("dependentRequired", {}).items():
        for other in others if name in value else ():
            left = {key: item for key, item in value.items() if key != other}
            yield (*place, other), "dependentRequired", left, ""
    for name in deeper:
        declared = properties[name]
        for inner_place, rule, bad, doubt in _mutations(schemas, declared, value[name], (*place, name), nested - 1):
            if inner_place != (*place, name) or rule in ("minProperties", "maxProperties"):
                yield inner_place, rule, {**value, name: bad}, doubt


def _null_members(
    schemas: Schemas, flat: Flat, value: dict[str, Any], place: Place
) -> Iterator[tuple[Place, str, Any, Doubt]]:
    """Optional members as null: all at once, then each alone. Many servers read that as not given."""
    names = [
        name
        for name, declared in flat.get("properties", {}).items()
        if name not in flat.get("required", ())
        and schemas.flat(declared).get("readOnly") is not True
        and "null" not in schemas.all_kinds(declared)
    ]
    if len(names) > 1:
        yield place, "null members", {**value, **dict.fromkeys(names)}, "null_as_missing"
    yield from (((*place, name), "null", {**value, name: None}, "null_as_missing") for name in names)


def _of_other_size(flat: Flat, value: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Rule and object with a property too few or too many, the required ones and those that are known apart."""
    least, most = int(flat.get("minProperties", 0)), flat.get("maxProperties")
    if least > 0:
        kept = [name for name in value if name in flat.get("required", ())]
        kept += [name for name in value if name not in kept]
        yield "minProperties", {name: value[name] for name in kept[: least - 1]}
    if most is not None and value and len(value) <= most <= MOST_PROPERTIES:
        like = next(reversed(value.values()))
        extra = {f"property{index}": like for index in range(int(most) + 1 - len(value))}
        yield "maxProperties", {**value, **extra}


def _chosen(schemas: Schemas, flat: Flat, value: Any) -> Flat:
    """Of alternatives, the one that `value` was made for."""
    for branch in schemas.branches(flat):
        inner = schemas.flat(branch)
        if kind_of(value) in kinds(inner) and (
            not isinstance(value, dict) or set(inner.get("required", ())) <= set(value)
        ):
            own = {key: item for key, item in flat.items() if key not in ("oneOf", "anyOf")}
            return schemas.flat({"allOf": [own, branch]}) if own else inner
    return flat


def bad_values(schemas: Schemas, schema: Schema, good: Any) -> Iterator[tuple[str, Any, Doubt]]:
    """Rule, value and doubt of values that break one rule of `schema`; `good`: a valid one, or None."""
    allowed = schemas.all_kinds(schema)
    whole = schemas.flat(schema)
    flat = _chosen(schemas, whole, good) if good is not None else _first_branch(schemas, whole)
    if len(allowed) < 7:
        for wrong in _WRONG_TYPES:
            kind = kind_of(wrong)
            if kind not in allowed and not (kind == "integer" and allowed & {"number", "string"}):
                yield "type", wrong, ""
                break
    if isinstance(whole.get("enum"), list):
        yield "enum", _outside(whole["enum"]), ""
        return
    if "const" in whole:
        yield "const", _outside([whole["const"]]), ""
        return
    yield from _bad_numbers(flat, good)
    if "string" in kinds(flat):
        yield from _bad_strings(schemas, schema, flat, good if isinstance(good, str) else "")
    if isinstance(good, list):
        yield from _bad_arrays(flat, good)


def _first_branch(schemas: Schemas, flat: Flat) -> Flat:
    for branch in schemas.branches(flat):
        if kinds(schemas.flat(branch)) != {"null"}:
            return schemas.flat(branch)
    return flat


def _outside(values: list[Any]) -> Any:
    numbers = [value for value in values if kind_of(value) in ("integer", "number")]
    if numbers and len(numbers) == len([value for value in values if value is not None]):
        return max(numbers) + 1
    bad = "not-an-option"
    while bad in values:
        bad += "-x"
    return bad


def _bad_numbers(flat: Flat, good: Any) -> Iterator[tuple[str, Any, Doubt]]:
    if not kinds(flat) & {"integer", "number"} or len(kinds(flat)) == 7:
        return
    low, high = lowest(flat), highest(flat)
    step = flat.get("multipleOf", 1)
    if low is not None:
        rule = "exclusiveMinimum" if "exclusiveMinimum" in flat and flat.get("minimum", low - 1) < low else "minimum"
        yield rule, _tidy(flat["exclusiveMinimum"] if rule == "exclusiveMinimum" else low - step), ""
    if high is not None:
        rule = "exclusiveMaximum" if "exclusiveMaximum" in flat and flat.get("maximum", high + 1) > high else "maximum"
        yield rule, _tidy(flat["exclusiveMaximum"] if rule == "exclusiveMaximum" else high + step), ""
    _, largest = RANGES.get(str(flat.get("format")), (0, 0))
    if largest and "number" not in kinds(flat) and (high is None or high > largest):
        yield "format", largest + 1, "unchecked_format"
    if "multipleOf" in flat and flat["multipleOf"] not in (0, 1):
        base = low if low is not None else 0
        off = flat["multipleOf"] / 2
        yield (
            "multipleOf",
            _tidy((base // flat["multipleOf"] + 1) * flat["multipleOf"] + (1 if off >= 1 else off)),
            "",
        )
    elif kinds(flat) & {"integer"} and "number" not in kinds(flat):
        fraction = (good if kind_of(good) == "integer" else low if low is not None else 1) + 0.5
        yield "type", fraction, ""


def _tidy(value: float) -> float:
    return int(value) if value == int(value) else round(value, 6)


def _bad_strings(schemas: Schemas, schema: Schema, flat: Flat, good: str) -> Iterator[tuple[str, Any, Doubt]]:
    least, most = int(flat.get("minLength", 0)), flat.get("maxLength")
    if least > 0:
        yield "minLength", (good if UNIQUE not in good else "")[: least - 1].ljust(min(least - 1, 50), "a"), ""
    if most is not None and most < LONGEST:
        yield "maxLength", _stretched(flat, good, int(most) + 1), ""
    if isinstance(flat.get("pattern"), str):
        for bad in (*((good + "!",) if good else ()), *_BAD_PATTERNS):
            length = len(bad) - len(UNIQUE) + 12 if UNIQUE in bad else len(bad)
            if least <= length and (most is None or length <= most) and schemas.rejects(_pattern_only(flat), bad):
                yield "pattern", bad, ""
                break
    elif flat.get("format") in _BAD_FORMATS:
        bad = _BAD_FORMATS[flat["format"]]
        if least <= len(bad) and (most is None or len(bad) <= most):
            yield "format", bad, "unchecked_format"


def _pattern_only(flat: Flat) -> Schema:
    return {"pattern": flat["pattern"]}


def _stretched(flat: Flat, good: str, length: int) -> str:
    """A string of `length` that otherwise keeps as many rules as it can."""
    if good and UNIQUE not in good and "@" not in good:
        return good + (good[-1] if good[-1].isalnum() else "a") * max(0, length - len(good))
    if "email" in str(flat.get("format", "")) or "@" in good:
        return "a" * max(1, length - len("@example.com")) + "@example.com"
    return "a" * length


def _bad_arrays(flat: Flat, good: list[Any]) -> Iterator[tuple[str, Any, Doubt]]:
    least, most = int(flat.get("minItems", 0)), flat.get("maxItems")
    if least > 0:
        yield "minItems", good[: least - 1], ""
    if most is not None and good and most < MOST_ITEMS and not flat.get("uniqueItems"):
        yield "maxItems", [good[index % len(good)] for index in range(int(most) + 1)], ""
    if flat.get("uniqueItems") and good and (most is None or most >= 2):
        yield "uniqueItems", [good[0], good[0]], ""


def broken_parameter(
    schemas: Schemas, schema: Schema, good: Any, readable: Callable[[str, Any], bool]
) -> Iterator[tuple[str, Any, Doubt]]:
    """Rule, value and doubt of invalid values for a parameter; `readable` (rule, value): it could be read as valid."""
    seen: set[str] = set()
    flat = schemas.flat(schema)
    # OpenAPI does not define what an object's text means: `filter=x` may be its property `filter`.
    whole = "object" in schemas.all_kinds(schema) and len(schemas.all_kinds(schema)) < 7
    candidates = [] if whole else list(bad_values(schemas, schema, good))
    if isinstance(good, list):
        item = good[0] if good else None
        candidates += [(rule, [bad], doubt) for rule, bad, doubt in bad_values(schemas, flat.get("items", True), item)]
    if isinstance(good, dict):
        candidates += [(rule, bad, doubt) for _, rule, bad, doubt in _of_object(schemas, flat, good, (), 0)]
    for rule, bad, doubt in candidates:
        scalar = not isinstance(bad, dict | list) or (
            isinstance(bad, list) and not any(isinstance(i, dict | list) for i in bad)
        )
        if rule in seen or bad in ([], "") or bad is None or not (scalar or isinstance(good, dict)):
            continue
        if not readable(rule, bad):
            seen.add(rule)
            yield rule, bad, doubt
