"""One operation -> its random cases: the rules' draft, which makes what the request needs, and drawn data in it."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from itertools import zip_longest
from typing import Any, Final

import msgspec

from testops_lib.generate import wire
from testops_lib.generate.property.draws import Draws, Undrawable
from testops_lib.generate.rules.draft import ABSENT, Draft
from testops_lib.generate.rules.planner import Planner
from testops_lib.generate.rules.words import REFERRING, words
from testops_lib.generate.schemas import UNIQUE, kinds
from testops_lib.model import BytesBody, Case, Provenance, Request
from testops_lib.placeholder import fill
from testops_lib.spec.operation import Operation, Parameter, Schema

ORIGIN: Final = Provenance(source="property", version="1")

_TAGS: Final = ("property",)
_MOST_NAMES: Final = 2
"""Requests for things with a random name, an operation."""
_STATEFUL: Final = frozenset({"status", "state", "type", "role", "kind"})
_LIMITS: Final = frozenset(
    "min max minimum maximum from to start end begin lower upper since until before after low high".split()
)
"""Words of names whose values are likely to be compared with another's, which no schema says."""
_PLAIN_ITEMS: Final = 5
_MALFORMED: Final = 2
"""Bodies that are no JSON, an operation."""
_SPARE: Final = 3
"""Times as many invalid values are drawn as are wanted: not all are surely invalid, and many are alike."""


@dataclass
class Lost:
    """What became of no case, and why."""

    dropped: Counter[str] = field(default_factory=Counter)
    notes: list[str] = field(default_factory=list)


class RandomCases:
    """Makes the random cases of one operation at a time."""

    def __init__(self, planner: Planner, draws: Draws, *, examples: int, seed: int) -> None:
        self._planner, self._judge, self._draws = planner, planner.judge, draws
        self._schemas, self._drafter, self._maker = planner.schemas, planner.drafter, planner.maker
        self._examples, self._seed = examples, seed

    def look(self, operation: Operation) -> list[Case]:
        """A first look at the operation, which needs no random data: at most one case.

        Raises:
            Impossible: not even one valid request can be made.
        """
        if self._planner.graph.destructive(operation):
            return []
        base = self._planner.start(operation)
        if operation.method == "DELETE" and base.listed:
            return []
        return [self._planner.of_valid(f"{operation.key}: a first look", base, tags=_TAGS)]

    def make(self, operation: Operation) -> tuple[list[Case], Lost]:
        """At most `examples` valid and as many invalid cases in turn, and some about things that need not exist.

        Raises:
            Impossible: not even one valid request can be made.
        """
        lost = Lost()
        if self._planner.graph.destructive(operation):
            return [], lost
        base = self._planner.start(operation)
        if operation.method == "DELETE" and base.listed:
            return [], lost  # what somebody else has made is deleted once, by the rules, if at all
        body, parameters = self._body_schema(base), self._free(operation, base)
        asked = {place: parameter for place, parameter in parameters.items() if parameter.where != "path"}
        if body is None and not parameters:
            case = self._planner.of_valid(f"{operation.key}: nothing to vary", base, tags=_TAGS)
            return [case, *self._random_names(base, lost)], lost
        drawn = {
            (kind, valid): self._drawn(operation, schema, kind, valid, lost)
            for kind, schema in (("body", body), ("parameters", _together(parameters)))
            for valid in (True, False)
        }
        rows = (
            self._valid(base, drawn["body", True], drawn["parameters", True], lost),
            self._invalid(base, asked, drawn["body", False], drawn["parameters", False], lost),
        )
        pairs = zip_longest(*rows)
        return [*(case for pair in pairs for case in pair if case is not None), *self._random_names(base, lost)], lost

    def _drawn(self, operation: Operation, schema: Schema | None, kind: str, valid: bool, lost: Lost) -> list[Any]:
        if schema is None:
            return []
        key = f"{self._seed}/{operation.key}/{kind}/{valid}"
        number = int.from_bytes(hashlib.sha256(key.encode()).digest()[:6])
        try:
            count = self._examples if valid else self._examples * _SPARE
            drawn = self._draws.values(self._schemas.self_contained(schema), valid=valid, count=count, seed=number)
            return [value for value in drawn if isinstance(value, bytes) or _encodable(value)]
        except Undrawable as reason:
            what = "valid" if valid else "invalid"
            lost.notes.append(f"no {what} {kind} drawn: {reason}")
            lost.dropped[f"no {what} {kind} drawn"] += 1
            return []

    # ------------------------------------------------------------------ what is free

    def _body_schema(self, base: Draft) -> Schema | None:
        if base.body is ABSENT or base.operation.body is None:
            return None
        if not wire.is_json(base.media) and base.media != wire.FORM:
            return None
        schema = base.operation.body.content[base.media].schema
        return None if schema is None or not self._schemas.flat(schema) else schema

    def _free(self, operation: Operation, base: Draft) -> dict[str, Parameter]:
        """Parameters that may hold any value of their schema, by place: not ids, nor what the target file gives.

        Those of a path only where it is read: whatever they name is not to be changed.
        """
        return {
            f"{parameter.where}/{parameter.name}": parameter
            for parameter in self._drafter.parameters(operation)
            if (parameter.where != "path" or operation.method == "GET")
            and not parameter.content_type
            and "object" not in kinds(self._schemas.flat(parameter.schema))
            and not self._fixed(parameter.name, base.values(parameter.where).get(parameter.name))
        }

    def _fixed(self, name: str, drafted: Any) -> bool:
        refers = bool(words(name)) and words(name)[-1] in REFERRING
        return refers or bool(self._maker.hint(name)) or _captured(drafted)

    def _grafted(self, value: Any, drafted: Any, *, unique: bool) -> Any:
        """A drawn body with what must exist, and with `unique` what must be new, as the draft has it."""
        if isinstance(value, list):
            like = drafted[0] if isinstance(drafted, list) and drafted else None
            return [self._grafted(item, like, unique=unique) for item in value]
        if not isinstance(value, dict):
            return value
        known = drafted if isinstance(drafted, dict) else {}
        made: dict[str, Any] = {}
        for name, item in value.items():
            given = known.get(name)
            fixed = name in known and (self._fixed(name, given) or (unique and UNIQUE in str(given)))
            if fixed and not isinstance(given, dict | list):
                made[name] = given
            elif name in known or not self._fixed(name, None):
                made[name] = self._grafted(item, given, unique=unique)
            # else it would point at nothing
        return made

    # ------------------------------------------------------------------ valid data

    def _valid(self, base: Draft, bodies: list[Any], parameters: list[Any], lost: Lost) -> Iterator[Case]:
        key = base.operation.key
        count = max(len(bodies), len(parameters))
        for index in range(min(count, self._examples)):
            draft = base
            if bodies:
                drawn = bodies[index % len(bodies)]
                draft = self._with_body(base, drawn, unique=index % 2 == 0)
                if draft.body is ABSENT:
                    lost.dropped["points at nothing"] += 1
                    continue
            if parameters and (not bodies or index % 2 or index >= len(bodies)):
                draft = self._with_parameters(draft, parameters[index % len(parameters)])
            name = f"{key}: random valid data {index + 1}"
            make = self._planner.of_valid if draft.path == base.path else self._planner.of_unknown
            case = make(name, draft, tags=_TAGS)
            if self._judge.judge(key, case.steps[-1].request, _names(case)).validity == "valid":
                yield case
            else:
                lost.dropped["not surely valid as sent"] += 1

    def _with_body(self, base: Draft, drawn: Any, *, unique: bool) -> Draft:
        """The draft with the body, ABSENT where no body with existing references fits."""
        schema = self._body_schema(base)
        assert schema is not None
        body = self._grafted(drawn, base.body, unique=unique)
        if not self._accepts(schema, body, base.samples):
            body = drawn if not _refers_somewhere(drawn) else ABSENT
        plain = body is not ABSENT and self._plain(schema, "", body, base.body)
        doubt = base.doubt or ("" if plain else "random_data")
        return replace(base, body=body, doubt=doubt, salted=base.salted or not unique, example=False, invented=True)

    def _accepts(self, schema: Schema, value: Any, samples: Mapping[str, Any]) -> bool:
        return self._schemas.accepts(schema, fill(value, samples))

    def _with_parameters(self, draft: Draft, drawn: Mapping[str, Any]) -> Draft:
        changed = 0
        declared = {f"{p.where}/{p.name}": p for p in self._drafter.parameters(draft.operation)}
        plain = True
        for place, value in drawn.items():
            parameter = declared[place]
            if not _writable(parameter, value):
                continue
            changed += 1
            before = draft.values(parameter.where).get(parameter.name)
            plain = plain and self._plain(parameter.schema, parameter.name, value, before)
            draft = draft.put(parameter.where, parameter.name, value)
        # Optional parameters may contradict each other in ways that no schema says.
        doubt = draft.doubt or ("" if plain else "random_data") or ("combined_parameters" if changed > 1 else "")
        return replace(draft, doubt=doubt, invented=draft.invented or changed > 0)

    def _plain(self, schema: Schema, name: str, value: Any, drafted: Any) -> bool:
        """Nothing outside the document could refuse the value."""
        if value == drafted:
            return True
        flat = self._schemas.flat(schema)
        spoken = set(words(name))
        if spoken & (_STATEFUL | _LIMITS) or self._schemas.branches(flat):
            return False
        if "enum" in flat or "const" in flat or value is None or isinstance(value, bool):
            return True
        if isinstance(value, dict):
            properties, known = flat.get("properties", {}), drafted if isinstance(drafted, dict) else {}
            return bool(properties) and all(
                key in properties and self._plain(properties[key], key, item, known.get(key))
                for key, item in value.items()
            )
        if isinstance(value, list):
            items = flat.get("items", True)
            bounded = "maxItems" in flat or len(value) <= _PLAIN_ITEMS
            return bool(value) and bounded and all(self._plain(items, name, item, None) for item in value)
        if isinstance(value, int | float):
            return _bounded(flat)
        return _plain_text(flat, value)

    def _random_names(self, base: Draft, lost: Lost) -> Iterator[Case]:
        """Reads of things with random names: few, for what they find is mostly nothing."""
        operation = base.operation
        names = wire.parameter_names(operation.path)
        if operation.method != "GET" or not names or not _captured(base.path.get(names[-1])):
            return
        parameter = next((p for p in operation.parameters if p.where == "path" and p.name == names[-1]), None)
        if parameter is None or not kinds(self._schemas.flat(parameter.schema)) <= {"integer", "string"}:
            return
        drawn = self._drawn(operation, parameter.schema, "name", True, lost)
        usable = [value for value in drawn if isinstance(value, int) or _segment(value)]
        for index, value in enumerate(usable[-_MOST_NAMES:]):
            case = self._planner.of_unknown(
                f"{operation.key}: random name {index + 1}", base.put("path", parameter.name, value), tags=_TAGS
            )
            if self._judge.judge(operation.key, case.steps[-1].request, _names(case)).validity == "valid":
                yield case

    # ------------------------------------------------------------------ invalid data

    def _invalid(
        self, base: Draft, parameters: Mapping[str, Parameter], bodies: list[Any], drawn: list[Any], lost: Lost
    ) -> list[Case]:
        """As many different places and rules as there are, then further data for the same."""
        key = base.operation.key
        first: list[Case] = []
        more: list[Case] = []
        seen: set[bytes] = set()
        broken: set[tuple[str, str]] = set()
        tries = (self._bad_bodies(base, bodies), self._bad_parameters(base, parameters, drawn))
        for draft, request in (found for pair in zip_longest(*tries) for found in pair if found is not None):
            request = request or self._drafter.request(draft)
            violations = self._judge.judge(key, request, draft.samples).violations
            violation = next((violation for violation in violations if violation.sure), None)
            if violation is None:
                lost.dropped["not surely invalid as sent"] += 1
                continue
            sent = msgspec.json.encode(request)
            if sent in seen or len(first) == self._examples:
                continue
            seen.add(sent)
            case = self._planner.of_invalid(
                f"{key}: random data, {violation.place} breaks {violation.rule}",
                draft,
                violation.place,
                violation.rule,
                request=request,
                tags=_TAGS,
            )
            (more if (violation.place, violation.rule) in broken else first).append(case)
            broken.add((violation.place, violation.rule))
        return [*first, *more][: self._examples]

    def _bad_bodies(self, base: Draft, drawn: list[Any]) -> Iterator[tuple[Draft, Request | None]]:
        malformed = [value for value in drawn if isinstance(value, bytes)]
        drawn = [value for value in drawn if not isinstance(value, bytes)]
        for index, value in enumerate(drawn):
            if base.media == wire.FORM and not isinstance(value, dict):
                continue
            whole = self._grafted(value, base.body, unique=False)
            for alone in self._one_bad(base, whole):
                yield replace(base, body=alone), None
            yield replace(base, body=whole), None
            if wire.is_json(base.media) and index < min(_MALFORMED, len(malformed)):
                media = "application/json" if "*" in base.media else base.media
                body = BytesBody(data=malformed[-1 - index], media_type=media)
                yield base, msgspec.structs.replace(self._drafter.request(base), body=body)

    def _one_bad(self, base: Draft, drawn: Any) -> Iterator[Any]:
        """The draft's body with one bad member of a drawn one, so that nothing else can be why it is refused."""
        if not isinstance(drawn, dict) or not isinstance(base.body, dict):
            return
        request = self._drafter.request(replace(base, body=drawn))
        judgement = self._judge.judge(base.operation.key, request, base.samples)
        places = [
            violation.place.split("/")[1]
            for violation in judgement.violations
            if violation.sure and "/" in violation.place
        ]
        for name in dict.fromkeys(places):
            spared = {key: value for key, value in base.body.items() if key != name}
            yield {**spared, name: drawn[name]} if name in drawn else spared

    def _bad_parameters(
        self, base: Draft, parameters: Mapping[str, Parameter], drawn: list[Any]
    ) -> Iterator[tuple[Draft, Request | None]]:
        """One bad parameter a draft: those of a drawn set in turn, so that each place is named truly."""
        for index, values in enumerate(drawn):
            if not isinstance(values, dict):
                continue
            known = [place for place in values if place in parameters]
            turned = known[index % len(known) :] + known[: index % len(known)] if known else []
            for place in turned:
                parameter, value = parameters[place], values[place]
                if _writable(parameter, value) and self._schemas.rejects(parameter.schema, value):
                    yield base.put(parameter.where, parameter.name, value), None
                    break
            else:
                missing = [place for place, parameter in parameters.items() if parameter.required]
                absent = next((place for place in missing if place not in values), None)
                if absent is not None:
                    yield base.drop(parameters[absent].where, parameters[absent].name), None


def _together(parameters: Mapping[str, Parameter]) -> Schema | None:
    """One schema of all parameters by place."""
    if not parameters:
        return None
    return {
        "type": "object",
        "properties": {place: parameter.schema for place, parameter in parameters.items()},
        "required": [place for place, parameter in parameters.items() if parameter.required],
        "additionalProperties": False,
    }


def _encodable(value: Any) -> bool:
    """A case can hold it: no integer beyond 64 bits, no lone surrogate."""
    try:
        msgspec.json.encode(value)
    except (msgspec.MsgspecError, UnicodeEncodeError, OverflowError, RecursionError):
        return False
    return True


def _writable(parameter: Parameter, value: Any) -> bool:
    """The value survives its place: no structure, nothing that a header cannot hold, empty in a query alone."""
    items = value if isinstance(value, list) else [value]
    if not items or any(isinstance(item, dict | list) or item is None for item in items):
        return False
    if "" in items and (parameter.where != "query" or isinstance(value, list)):
        return False
    if any("{" in item or "}" in item for item in items if isinstance(item, str)):
        return False
    if parameter.where == "path":
        return not isinstance(value, list) and (isinstance(value, int) or _segment(value))
    if parameter.where == "query":
        joined = isinstance(value, list) and not parameter.explode
        return not (joined and any(set(wire.text(item)) & set(", |\t") for item in items))
    texts = [wire.text(item) for item in items]
    safe = all(text.isascii() and text.isprintable() and text == text.strip() for text in texts)
    return safe and not any(set(text) & set(',;"\\ ') for text in texts if parameter.where == "cookie")


def _captured(value: Any) -> bool:
    """It holds what an earlier step made."""
    if isinstance(value, str):
        return "{" in value.replace(UNIQUE, "")
    if isinstance(value, dict):
        return any(map(_captured, value.values()))
    return isinstance(value, list) and any(map(_captured, value))


def _refers_somewhere(value: Any) -> bool:
    if isinstance(value, list):
        return any(map(_refers_somewhere, value))
    if not isinstance(value, dict):
        return False
    return any((words(name) or ("",))[-1] in REFERRING or _refers_somewhere(item) for name, item in value.items())


def _bounded(flat: Mapping[str, Any]) -> bool:
    low, high = {"minimum", "exclusiveMinimum"} & set(flat), {"maximum", "exclusiveMaximum"} & set(flat)
    return bool(low and high) and "format" not in flat


def _plain_text(flat: Mapping[str, Any], text: str) -> bool:
    usual = bool(text) and text.isascii() and text.isprintable() and text == text.strip()
    return usual and "format" not in flat and ("maxLength" in flat or "pattern" in flat)


def _segment(text: Any) -> bool:
    """Text that stays one segment of a path whatever stands between."""
    return isinstance(text, str) and bool(text.strip(".")) and text.isascii() and text.isalnum()


def _names(case: Case) -> frozenset[str]:
    return frozenset(capture.name for step in case.steps for capture in step.captures)
