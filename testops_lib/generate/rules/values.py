"""Schema and name -> a valid value, the same one every time.

A hint wins over the document's example, an example over `const`, `enum`, `default`; then format, pattern and name
decide. What comes out is checked against the schema; strings that a server is likely to want unique hold `{unique}`.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

import rstr

from testops_lib.generate.planning import MOST_VALUES
from testops_lib.generate.rules import times
from testops_lib.generate.rules.bounds import highest, lowest, within_bounds
from testops_lib.generate.rules.likely_values import (
    BY_FORMAT,
    CLOSED_VOCABULARIES,
    LIKELY_TEXTS,
    NUMBERS_BY_NAME,
    SHARED_NAMES,
    TEXTS_BY_NAME,
    UNIQUE_NAMES,
)
from testops_lib.generate.rules.making import WILDCARDS, Impossible, Making
from testops_lib.generate.rules.words import REFERRING, offered, plain, words
from testops_lib.generate.schemas import UNIQUE, Flat, Schemas, kinds
from testops_lib.placeholder import fill
from testops_lib.spec.operation import Schema

MAX_DEPTH: Final = 7
"""Objects nested deeper are left out where optional, and given up where required."""


FULL_DEPTH: Final = 3
"""Optional properties are filled down to here."""


class Maker:
    """Makes values for the schemas of one spec."""

    def __init__(self, schemas: Schemas, hints: Mapping[str, Sequence[Any]]) -> None:
        self._schemas = schemas
        self._hints = {plain(name): tuple(values) for name, values in hints.items() if values}

    def hint(self, name: str) -> tuple[Any, ...]:
        """What the target file says to use for this name, most wanted first."""
        return self._hints.get(plain(name), ())

    def make(self, schema: Schema, name: str, making: Making, depth: int = 0) -> Any:
        """A valid value.

        Raises:
            Impossible: none could be made.
        """
        self._schemas.planning.check()
        making.count += 1
        if making.count > MOST_VALUES:
            raise Impossible(f"{name or 'value'}: it needs more than {MOST_VALUES:,} values")
        hinted = [value for value in self.hint(name) if value not in WILDCARDS]
        if hinted:
            return hinted[making.salt % len(hinted)]
        flat = self._schemas.flat(schema)
        if depth > MAX_DEPTH:
            raise Impossible(f"{name}: nested too deeply")
        reference = making.refer(name, schema)
        if reference is not None:
            return reference
        making.things = (self._schemas.name(schema), name)
        for value in self._documented(flat):
            if self._schemas.accepts(schema, value):
                return self._used(value, schema, name, making, depth)
        ambiguous: list[Any] = []
        for value in self._candidates(schema, flat, name, making, depth):
            sent = fill(value, making.samples)
            if self._schemas.accepts(schema, sent):
                documented = isinstance(value, dict | list | None) or "enum" in flat or value == flat.get("default")
                making.invented = making.invented or not documented
                return value
            if not ambiguous and self._schemas.takes(schema, sent):
                ambiguous.append(value)
        if ambiguous:  # it fits several alternatives of a `oneOf`, which only a literal reader minds
            making.cast_doubt("ambiguous_alternative")
            making.invented = True
            return ambiguous[0]
        if making.count > MOST_VALUES:
            raise Impossible(f"{name or 'value'}: it needs more than {MOST_VALUES:,} values")
        raise Impossible(f"{name or 'value'}: no valid value found")

    def examples(self, schema: Schema) -> list[Any]:
        """The document's own examples that are valid."""
        flat = self._schemas.flat(schema)
        return [value for value in self._documented(flat) if self._schemas.accepts(schema, value)]

    def adapt(self, value: Any, schema: Schema, name: str, making: Making, depth: int = 0) -> Any:
        """An example made usable here and now: references point at things that exist, what must be unique is.

        What cannot be changed without breaking the schema stays as it is.
        """
        hinted = [value for value in self.hint(name) if value not in WILDCARDS]
        if hinted and depth:
            return hinted[making.salt % len(hinted)]
        flat = self._schemas.flat(schema)
        if isinstance(value, dict):
            properties = flat.get("properties", {})
            things = (self._schemas.name(schema), name)
            whole: dict[str, Any] = {}
            for key, item in value.items():
                declared = properties.get(key, True)
                if self._schemas.flat(declared).get("readOnly") is not True:
                    identity = self._identity(key, declared, things, making, depth)
                    whole[key] = self.adapt(item, declared, key, making, depth + 1) if identity is None else identity
            return whole
        if isinstance(value, list):
            return [self.adapt(item, flat.get("items", True), name, making, depth + 1) for item in value]
        if value is None or isinstance(value, bool):
            return value
        reference = making.refer(name, schema)
        if reference is not None:
            return reference
        return self._enlivened(value, schema, name, making, depth)

    def _documented(self, flat: Flat) -> Iterator[Any]:
        examples = flat.get("examples")
        if isinstance(examples, list):
            yield from examples
        if "example" in flat:
            yield flat["example"]
        if "const" in flat:
            yield flat["const"]

    def _identity(self, key: str, schema: Schema, things: tuple[str, ...], making: Making, depth: int) -> Any:
        """The value of an `id` inside an object: its own in the path, or that of the thing it stands for."""
        if not _is_id(key):
            return None
        if depth == 0:
            fits = making.own is not None and self._schemas.accepts(schema, fill(making.own, making.samples))
            return making.own if fits else None
        return next(
            (reference for thing in things if thing and (reference := making.refer(f"{thing}_id", schema))), None
        )

    def _used(self, value: Any, schema: Schema, name: str, making: Making, depth: int) -> Any:
        """A documented value, adapted as far as it stays valid."""
        if not isinstance(value, dict | list):
            return self._enlivened(value, schema, name, making, depth)
        making.example = True
        adapted = self.adapt(value, schema, name, making, depth)
        return adapted if self._schemas.accepts(schema, fill(adapted, making.samples)) else value

    def _enlivened(self, value: Any, schema: Schema, name: str, making: Making, depth: int) -> Any:
        """An example value, with a token in it where it should be unique."""
        making.example = True
        _note_reference(name, making, depth)
        flat = self._schemas.flat(schema)
        if isinstance(value, str) and _is_to_be_unique(name, flat, making):
            for candidate in self._unique_strings(flat, name, making, value):
                if self._schemas.accepts(schema, candidate):
                    return candidate
            making.salted = True
            if making.salt and flat.get("pattern"):
                for candidate in self._patterned(str(flat["pattern"]), name, making):
                    if self._schemas.accepts(schema, candidate):
                        making.invented = True
                        return candidate
        return value

    def _candidates(self, schema: Schema, flat: Flat, name: str, making: Making, depth: int) -> Iterator[Any]:
        if isinstance(flat.get("enum"), list) and flat["enum"]:
            values = [value for value in flat["enum"] if value is not None] or flat["enum"]
            yield from (*values[making.salt % len(values) :], *values)
            return
        if "default" in flat and flat["default"] is not None and not _is_to_be_unique(name, flat, making):
            if not making.salt or isinstance(flat["default"], dict | list):
                yield flat["default"]
        branches = self._schemas.branches(flat)
        if branches:
            yield from self._from_branches(flat, branches, name, making, depth)
            return
        if "discriminator" in flat:  # of a base that others extend: one of them is meant
            yield from self._of_subtypes(self._schemas.name(schema), name, making, depth)
        allowed = kinds(flat)
        if len(allowed) == 7:
            making.cast_doubt("undescribed_data")
            yield from (
                values[making.salt % 2]
                for ending_words, values, _ in TEXTS_BY_NAME
                if set(words(name)[-1:]) & ending_words
            )
            yield from ("test", 1, {}, [])
            return
        for kind in ("object", "array", "string", "integer", "number", "boolean", "null"):
            if kind in allowed:
                yield from getattr(self, f"_{kind}")(flat, name, making, depth)

    def _of_subtypes(self, base: str, name: str, making: Making, depth: int) -> Iterator[Any]:
        for other in self._schemas.subtypes(base):
            try:
                yield self.make({"$ref": f"#/$defs/{other}"}, name, making, depth + 1)
            except Impossible:
                continue

    def _from_branches(
        self, flat: Flat, branches: list[Schema], name: str, making: Making, depth: int
    ) -> Iterator[Any]:
        order = [branch for branch in branches if kinds(self._schemas.flat(branch)) != {"null"}] or branches
        start = making.salt % len(order) if making.salt else 0
        for branch in (*order[start:], *order[:start]):
            yield from self.branch_values(flat, branch, name, making, depth)

    def branch_values(self, flat: Flat, branch: Schema, name: str, making: Making, depth: int = 0) -> Iterator[Any]:
        """Values for one alternative of `flat`, the discriminator set."""
        own = {key: value for key, value in flat.items() if key not in ("oneOf", "anyOf", "discriminator", "default")}
        joined: Schema = {"allOf": [own, branch]} if set(own) - {"title", "description"} else branch
        try:
            value = self.make(joined, name, making, depth + 1)
        except Impossible:
            return
        tag, names = self._schemas.tags(flat, branch)
        if isinstance(value, dict) and names:
            value = {**value, tag: names[0]}
        yield value

    # ------------------------------------------------------------------ one method a JSON type

    def _null(self, flat: Flat, name: str, making: Making, depth: int) -> Iterator[Any]:
        yield None

    def _boolean(self, flat: Flat, name: str, making: Making, depth: int) -> Iterator[Any]:
        yield from (True, False) if making.salt % 2 == 0 else (False, True)

    def _integer(self, flat: Flat, name: str, making: Making, depth: int) -> Iterator[Any]:
        for value in self._number(flat, name, making, depth):
            if value == int(value):
                yield int(value)

    def _number(self, flat: Flat, name: str, making: Making, depth: int) -> Iterator[Any]:
        _note_reference(name, making, depth)
        if making.unique and _is_id(name) and depth <= 1:
            making.salted = True
            yield random.Random(f"{making.seed}/{making.salt}").randrange(10**6, 2**31)
        moment = times.number(name, storing=making.unique, salt=making.salt)
        if moment is not None:
            making.cast_doubt("guessed_time")
            yield moment
        named = next((values for ending_words, values in NUMBERS_BY_NAME if ending_words & set(words(name)[-1:])), ())
        low, high = lowest(flat), highest(flat)
        step = flat.get("multipleOf")
        candidates: list[float] = [*named, 1, 2, 10, 0]
        if low is not None and high is not None:
            candidates += [(low + high) // 2, (low + high) / 2]
        if step:
            candidates += [step * ((low or 0) // step + 1), step]
        if low is not None:
            candidates += [low, low + 1]
        if high is not None:
            candidates += [high, high - 1]
        flatter = [value for value in dict.fromkeys(candidates) if within_bounds(flat, value)]
        if "number" not in kinds(flat):
            flatter = [value for value in flatter if value == int(value)]
        turn = making.salt % len(flatter) if flatter else 0
        yield from (*flatter[turn:], *flatter[:turn])

    def _string(self, flat: Flat, name: str, making: Making, depth: int) -> Iterator[Any]:
        form, pattern = str(flat.get("format", "")), flat.get("pattern")
        wants_unique = _is_to_be_unique(name, flat, making)
        if wants_unique:
            yield from self._unique_strings(flat, name, making, "")
            making.salted = True
        _note_reference(name, making, depth)
        said = flat.get("description")
        if not form and not pattern and (choice := offered(said if isinstance(said, str) else making.told)):
            making.cast_doubt("described_choice")
            yield choice[making.salt % len(choice)]
            yield from choice
        if form and form not in BY_FORMAT:
            making.cast_doubt("unknown_format")
        timed = "" if isinstance(pattern, str) else form or times.form_of(name)
        if moment := times.text(name, timed, storing=making.unique, salt=making.salt):
            making.cast_doubt("guessed_time")
            yield moment
        if form in BY_FORMAT:
            values = BY_FORMAT[form]
            yield values[making.salt % 2]
            yield from values
        for ending_words, values, sure in TEXTS_BY_NAME:
            if set(words(name)[-2:]) & ending_words:
                if not sure:
                    making.cast_doubt("guessed_value")
                yield values[making.salt % 2]
                break
        else:
            if not form and not isinstance(pattern, str) and set(words(name)[-2:]) & CLOSED_VOCABULARIES:
                making.cast_doubt("guessed_value")
        if isinstance(pattern, str):
            yield from self._patterned(pattern, name, making)
        yield from self._sized(flat, making)

    def _sized(self, flat: Flat, making: Making) -> Iterator[str]:
        least, most = int(flat.get("minLength", 0)), flat.get("maxLength")
        for text in (f"test{making.salt}" if making.salt else "test", "t", ""):
            padded = text.ljust(min(least, 100_000), "x")
            yield padded if most is None else padded[: int(most)]

    def _unique_strings(self, flat: Flat, name: str, making: Making, like: str) -> Iterator[str]:
        letter = "tuvwxyzabcdefghijklmnopqrs"[(making.salt + making.turn) % 26]
        form = flat.get("format")
        if form in ("email", "idn-email") or (set(words(name)) & {"email", "mail"} and form is None) or "@" in like:
            yield f"{letter}{UNIQUE}@example.com"
        if form == "uuid":
            yield f"00000000-0000-4{making.salt % 1000:03d}-8000-{UNIQUE}"
            return
        if form is not None and form not in ("email", "idn-email", "password"):
            return
        stem = f"{letter}{UNIQUE}"
        least = int(flat.get("minLength", 0))
        yield stem if least <= 13 else stem + "x" * (min(least, 100_000) - 13)
        yield from (UNIQUE, f"{letter}-{UNIQUE}", f"{letter.upper()}{UNIQUE}", f"{letter.upper()}-{UNIQUE}")
        yield from (
            f"{letter}/{UNIQUE}",
            f"{letter}_{UNIQUE}",
            f"{letter * 3}-{UNIQUE}",
            f"{letter.upper() * 3}-{UNIQUE}",
        )

    def _patterned(self, pattern: str, name: str, making: Making) -> Iterator[str]:
        if not making.salted:
            yield from LIKELY_TEXTS
        chance = random.Random(f"{making.seed}/{name}/{making.salt}")
        source = rstr.Rstr(chance)
        plain_first: list[str] = []
        for _ in range(12):
            try:
                text = source.xeger(pattern)
            except Exception:  # rstr raises whatever `re` and its own tables raise: a pattern it cannot read
                return
            if text.isascii() and text.isprintable() and not set(text) & set("{}"):
                yield text
            else:
                plain_first.append(text)
        yield from plain_first

    def _array(self, flat: Flat, name: str, making: Making, depth: int) -> Iterator[Any]:
        items = flat.get("items", True)
        least = int(flat.get("minItems", 0))
        count = max(least, 1)
        if flat.get("maxItems") is not None:
            count = min(count, int(flat["maxItems"]))
        if count > 1_000:
            raise Impossible(f"{name}: {count} items")
        made: list[Any] = []
        turn = making.salt
        try:
            for _ in range(count if not flat.get("uniqueItems") else count * 4):
                value = self.make(items, name, making, depth + 1)
                making.salt += 1
                if not flat.get("uniqueItems") or value not in made:
                    made.append(value)
                if len(made) == count:
                    break
        except Impossible:
            made = []
        finally:
            making.salt = turn
        if made or not least:
            yield made
        if made and not least:
            yield []

    def _object(self, flat: Flat, name: str, making: Making, depth: int) -> Iterator[Any]:
        properties, things = flat.get("properties", {}), making.things
        tag, tag_value = self._schemas.own_tag(flat, things[0] if things else "")
        required = [key for key in flat.get("required", ()) if isinstance(key, str)]
        for key in required:  # what these bring with them, and what that brings
            required += [other for other in flat.get("dependentRequired", {}).get(key, ()) if other not in required]
        made: dict[str, Any] = {}
        if not properties and not required and depth == 0:
            making.cast_doubt("undescribed_data")
        for key in required:
            declared = properties.get(key, flat.get("additionalProperties", True))
            if key == tag:
                made[key] = tag_value
            elif self._schemas.flat(declared).get("readOnly") is not True:
                identity = self._identity(key, declared, things, making, depth)
                made[key] = self.make(declared, key, making, depth + 1) if identity is None else identity
        wanted = [key for key in properties if key not in made and self._offered(key, properties[key])]
        if making.full and depth < FULL_DEPTH:
            self._fill(made, wanted, properties, making, depth)
            for key in wanted:
                identity = None if key in made else self._identity(key, properties[key], things, making, depth)
                if identity is not None:
                    made[key] = identity
        elif not required and depth == 0:
            simple = [key for key in wanted if kinds(self._schemas.flat(properties[key])) <= _SCALARS]
            self._fill(made, simple or wanted[:1], properties, making, depth)
        least = int(flat.get("minProperties", 0))
        if len(made) < least:
            self._fill(made, [key for key in wanted if key not in made][: least - len(made)], properties, making, depth)
            more = flat.get("additionalProperties", True)
            for index in range(least - len(made)):
                made[f"key{index}"] = self.make(more, f"key{index}", making, depth + 1)
        in_order = {key: made[key] for key in properties if key in made}
        yield {**in_order, **made}

    def _offered(self, key: str, schema: Schema) -> bool:
        flat = self._schemas.flat(schema)
        if _is_id(key):
            return False  # the server's to give, unless it is required
        return flat.get("readOnly") is not True and flat.get("deprecated") is not True and schema is not False

    def _fill(self, made: dict[str, Any], wanted: Sequence[str], properties: Flat, making: Making, depth: int) -> None:
        """Optional properties that can be made and that nothing outside the document could refuse, first 40."""
        for key in wanted[:40]:
            before = (making.doubt, making.salted, making.example, making.dangling)
            count = making.count
            making.dangling = False
            try:
                value = self.make(properties[key], key, making, depth + 1)
            except Impossible:
                value = None
                making.dangling = True
                making.count = count
            if making.dangling:  # left out rather than pointing at nothing
                making.doubt, making.salted, making.example, making.dangling = before
                continue
            making.dangling = before[3]
            made[key] = value


_SCALARS: Final = frozenset({"string", "integer", "number", "boolean", "null"})


def _note_reference(name: str, making: Making, depth: int) -> None:
    if _refers(name):
        making.cast_doubt("unlinked_reference")
        making.dangling = making.dangling or depth > 1 or not _is_id(name)


def _is_id(name: str) -> bool:
    return words(name) in (("id",), ("uuid",))


def _refers(name: str) -> bool:
    name_words = words(name)
    return bool(name_words) and name_words[-1] in REFERRING


def _is_to_be_unique(name: str, flat: Flat, making: Making) -> bool:
    named = bool(making.noun) and plain(name) == making.noun
    return making.unique and _wants_unique(name, flat, named)


def _wants_unique(name: str, flat: Flat, named: bool = False) -> bool:
    """`named`: the name says what is made, so the value is likely to be its name."""
    if "enum" in flat or "const" in flat or flat.get("format") in ("date", "date-time", "time", "uri", "url", "byte"):
        return False
    if "string" not in kinds(flat):
        return False
    name_words = words(name)
    if _is_id(name) or named:
        return True
    return (
        bool(name_words) and bool({name_words[-1], name_words[0]} & UNIQUE_NAMES) and not set(name_words) & SHARED_NAMES
    )
