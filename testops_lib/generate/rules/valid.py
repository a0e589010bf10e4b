"""Valid requests of an operation: the plainest one, its variants, and its optional parameters alone and together."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import replace
from typing import Any, Final

from testops_lib.generate import wire
from testops_lib.generate.feedback import Gap
from testops_lib.generate.rules import boundary
from testops_lib.generate.rules.builder import (
    CaseBuilder,
)
from testops_lib.generate.rules.draft import ABSENT, Draft
from testops_lib.generate.rules.making import Impossible
from testops_lib.generate.rules.pairwise import covering
from testops_lib.generate.rules.words import words
from testops_lib.generate.schemas import kinds
from testops_lib.model import (
    Case,
    Intent,
    JsonBody,
)
from testops_lib.placeholder import fill
from testops_lib.spec.operation import Operation, Parameter

_MOST_EXAMPLES: Final = 5
_MOST_TRIES: Final = 4
_MOST_WITH_PARAMETERS: Final = 24
_MOST_PAIRED: Final = 10
"""Optional parameters that are combined."""

_OTHERWISE: Final = "with other values in the steps before"
_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_-]*")


class ValidRequests:
    """Makes the positive cases of one operation at a time."""

    def __init__(self, builder: CaseBuilder, unreached: Mapping[str, Gap]) -> None:
        self._builder = builder
        self.graph, self.schemas, self.maker = builder.graph, builder.schemas, builder.maker
        self.drafter, self.guard = builder.drafter, builder.guard
        self._unreached = unreached

    def happy(self, operation: Operation, base: Draft, chained: bool) -> Iterator[Case]:
        key = operation.key
        foreign = operation.method == "DELETE" and base.listed and not base.guessed
        seen = {self._builder.fingerprint(base)}
        yield self._positive(f"{key}: valid request", operation, base, chained, last=foreign)
        if foreign:
            return
        for draft, label in self._variants(operation, base):
            shown = self._builder.fingerprint(draft)
            if shown not in seen or label == _OTHERWISE:
                seen.add(shown)
                yield self._positive(f"{key}: {label}", operation, draft, chained)

    def parameters(self, operation: Operation, base: Draft, chained: bool) -> Iterator[Case]:
        """Each optional parameter once on its own, and each value of a small enumeration."""
        count = 0
        for parameter in self.drafter.parameters(operation):
            if parameter.where == "path" or (parameter.required and not self._options(parameter)):
                continue
            made = self.drafter.optional(base, parameter)
            if made is None:
                continue
            value, doubt, example = made
            place = f"{parameter.where}/{parameter.name}"
            if not parameter.required:
                draft = self._builder.another(base.put(parameter.where, parameter.name, value))
                draft = replace(
                    draft,
                    doubt=base.doubt or doubt,
                    example=base.example or example,
                    invented=base.invented or not example,
                    narrowed=self._builder.is_invented(parameter, value),
                )
                yield self._positive(f"{operation.key}: with {place}", operation, draft, chained)
                count += 1
            current = base.values(parameter.where).get(parameter.name, value)
            for option in self._options(parameter):
                sent = [option] if isinstance(current, list) else option
                if sent != current:
                    draft = self._builder.another(base.put(parameter.where, parameter.name, sent))
                    yield self._positive(
                        f"{operation.key}: {place} = {option}", operation, draft, chained, intent="boundary"
                    )
                    count += 1
            if count >= _MOST_WITH_PARAMETERS:
                return

    def pairs(self, operation: Operation, base: Draft, chained: bool) -> Iterator[Case]:
        """Optional parameters together: any two values of any two meet in some case; absent is one."""
        levels: list[list[Any]] = []
        optional = [p for p in self.drafter.parameters(operation) if p.where != "path" and not p.required]
        optional = [p for p in optional if not p.deprecated][:_MOST_PAIRED]
        for parameter in optional:
            made = [self.drafter.optional(base, parameter, salt) for salt in (0, 1)]
            values = [parameter_value.value for parameter_value in made if parameter_value is not None]
            levels.append([ABSENT, *(value for index, value in enumerate(values) if value not in values[:index])])
        if len(optional) < 3:
            return  # each alone and all together have been sent already
        for number, row in enumerate(covering([len(values) for values in levels]), 1):
            draft = base
            for parameter, values, level in zip(optional, levels, row, strict=True):
                if level:
                    draft = draft.put(parameter.where, parameter.name, values[level])
            draft = self._builder.another(draft)
            draft = replace(draft, doubt=draft.doubt or "combined_parameters", narrowed=True)
            yield self._positive(
                f"{operation.key}: optional parameters, combination {number}", operation, draft, chained
            )

    def _variants(self, operation: Operation, base: Draft) -> Iterator[tuple[Draft, str]]:
        named = self._by_name(operation, base)
        if named is not None:
            yield named, "by its name"
        if base.shaky:
            for draft, label in self._try(operation, _OTHERWISE, salt=1):
                yield replace(draft, doubt=draft.doubt or "further_try"), label
        try:
            full = self.drafter.draft(operation, full=True, salt=1)
        except Impossible:
            full = self._builder.another(base)
        for parameter in self.drafter.parameters(operation):
            if parameter.where != "path" and not parameter.required and not parameter.deprecated:
                made = self.drafter.optional(full, parameter)
                if made is not None:
                    full = replace(
                        full.put(parameter.where, parameter.name, made.value),
                        doubt=full.doubt or made.doubt,
                        invented=full.invented or not made.example,
                        narrowed=full.narrowed or self._builder.is_invented(parameter, made.value),
                    )
        several = sum(len(full.values(where)) for where in ("query", "header", "cookie")) > 1
        # Optional parameters may contradict each other in ways that no schema says.
        yield (
            replace(full, doubt=full.doubt or ("combined_parameters" if several else "")),
            "all parameters and properties",
        )
        described = operation.body.content.get(base.media) if operation.body else None
        for index, example in enumerate((described.examples if described else ())[1:_MOST_EXAMPLES]):
            yield from self._try(operation, f"documented example {index + 2}", example=example, salt=index + 2)
        for media in wire.media_types(operation.body)[1:4]:
            if base.body is not ABSENT:
                yield from self._try(operation, f"as {media}", media=media, salt=7)
        if operation.key in self._unreached:
            yield from self._again_after(self._unreached[operation.key], operation, base)

    def _by_name(self, operation: Operation, base: Draft) -> Draft | None:
        """The thing by the name it was given instead of the id it got, where the document speaks of its name."""
        if not base.setup or not operation.path.endswith("}"):
            return None
        last = wire.parameter_names(operation.path)[-1]
        maker = next((s for s in base.setup if any(f"{{{c.name}}}" == base.path.get(last) for c in s.captures)), None)
        sent = maker.request.body if maker is not None else None
        name = sent.value.get("name") if isinstance(sent, JsonBody) and isinstance(sent.value, dict) else None
        told = any("name" in words(f"{other.summary} {other.description}") for other in self.graph.at(operation.path))
        if not told or not isinstance(name, str):
            return None
        return replace(base.put("path", last, name), doubt=base.doubt or "name_for_id", echoed=True)

    def _again_after(self, gap: Gap, operation: Operation, base: Draft) -> Iterator[tuple[Draft, str]]:
        """After a round in which nothing succeeded: with what the refusals name, and with other values."""
        said = {word for refusal in gap.refusals for word in _NAME.findall(refusal.said)}
        asked = base
        for parameter in self.drafter.parameters(operation):
            if parameter.where != "path" and not parameter.required and parameter.name in said:
                made = self.drafter.optional(asked, parameter)
                if made is not None:
                    asked = replace(
                        asked.put(parameter.where, parameter.name, made.value), doubt=asked.doubt or "named_in_refusal"
                    )
        yield self._with_members(operation, asked, said), "with what the refusal names"
        for salt in range(1, _MOST_TRIES + 1):
            for full in (False, True):
                for draft, label in self._try(operation, f"try {salt + 1}", salt=salt, full=full):
                    yield (
                        replace(draft, doubt=draft.doubt or "further_try"),
                        f"{label}, all properties" if full else label,
                    )

    def _with_members(self, operation: Operation, draft: Draft, said: Collection[str]) -> Draft:
        """The draft with those optional members of its body that a refusal names."""
        try:
            full = self.drafter.draft(operation, full=True)
        except Impossible:
            return draft
        if not isinstance(draft.body, dict) or not isinstance(full.body, dict):
            return draft
        named = {name: value for name, value in full.body.items() if name in said and name not in draft.body}
        body = {**draft.body, **named}
        schema = self._builder.body_schema(operation, draft)
        if not named or schema is None or self.schemas.rejects(schema, fill(body, full.samples)):
            return draft
        return replace(
            draft,
            body=body,
            doubt=draft.doubt or "named_in_refusal",
            setup=full.setup,
            cleanup=full.cleanup,
            path=full.path,
            samples=full.samples,
        )

    def _try(self, operation: Operation, label: str, **wanted: Any) -> Iterator[tuple[Draft, str]]:
        try:
            yield self.drafter.draft(operation, **wanted), label
        except Impossible:
            return

    def _options(self, parameter: Parameter) -> list[Any]:
        flat = self.schemas.flat(parameter.schema)
        if "array" in kinds(flat):
            flat = self.schemas.flat(flat.get("items"))
        found = flat.get("enum")
        return (
            [value for value in found if value is not None and self.schemas.accepts(flat, value)]
            if isinstance(found, list) and len(found) <= boundary.SMALL_ENUM
            else []
        )

    def _positive(
        self,
        name: str,
        operation: Operation,
        draft: Draft,
        chained: bool,
        *,
        intent: Intent = "positive",
        last: bool = False,
    ) -> Case:
        checks = self._builder.positive_checks(operation, draft, chained)
        tags = ("happy",) if intent == "positive" else ("boundary",)
        return self._builder.case(name, intent, draft, checks, tags=tags, last=last)
