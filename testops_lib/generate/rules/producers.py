"""Earlier steps that make, or list, what a request refers to."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, Final

from testops_lib.generate import wire
from testops_lib.generate.rules.binding import Binding
from testops_lib.generate.rules.draft import Draft
from testops_lib.generate.rules.making import WILDCARDS, Impossible, Making
from testops_lib.generate.rules.resources import (
    Candidate,
    Supply,
    field_needs,
    prefix_of,
)
from testops_lib.generate.rules.words import REFERRING, collection_noun, words
from testops_lib.generate.schemas import kinds
from testops_lib.model import SAFE_METHODS, Capture, Step
from testops_lib.placeholder import fill
from testops_lib.spec.operation import Operation, Parameter, Schema

if TYPE_CHECKING:
    from testops_lib.generate.rules.drafts import Drafter

MAX_SETUP: Final = 6
"""Producers that need producers, at most this deep."""


class Producers:
    """Adds the steps to a binding, with the steps that remove what they made."""

    def __init__(self, drafter: Drafter) -> None:
        self._drafter = drafter
        self.graph, self.schemas, self.maker, self.guard = drafter.graph, drafter.schemas, drafter.maker, drafter.guard

    def bind_path(
        self, operation: Operation, parameter: Parameter, binding: Binding, stack: tuple[str, ...], *, own: bool
    ) -> bool:
        """Bind a path parameter (and those before it that come with it) by an earlier step; `own`: by one that makes
        the thing.
        """
        if binding.alone or len(stack) > MAX_SETUP:
            return False
        taken = set(wire.parameter_names(operation.path))
        offered = self.guard.makers(operation, parameter) if own else self.graph.for_parameter(operation, parameter)
        candidates = [candidate for candidate in offered if candidate.operation.key not in stack]
        ways = [(candidate, wild, False) for candidate in candidates for wild in self._wild(candidate)]
        for candidate, wild, dangling in [*ways, *((candidate, False, True) for candidate in candidates)]:
            trial = binding.copy()
            trial.wild = wild
            supplied = self._produce(candidate, trial, stack, operation, dangling)
            if supplied is None:
                continue
            trial.wild = True
            binding.take(trial)
            if len(stack) == 1:
                binding.foreign = binding.foreign or not candidate.own
                binding.listed = binding.listed or candidate.operation.method in SAFE_METHODS
            for name, value in supplied.items():
                if name in taken:
                    place = prefix_of(operation.path, name) + "/{}"
                    if name == parameter.name or place not in binding.paths or binding.paths[place] in WILDCARDS:
                        binding.paths[place] = value
            return True
        return False

    def _wild(self, candidate: Candidate) -> tuple[bool, ...]:
        """First with wildcards for the candidate's own parents, then without; once, when there are no such hints."""
        names = wire.parameter_names(candidate.operation.path)
        return (
            (True, False) if any(value in WILDCARDS for name in names for value in self.maker.hint(name)) else (True,)
        )

    def reference(self, name: str, schema: Schema, binding: Binding, stack: tuple[str, ...]) -> Any:
        if binding.alone or len(stack) > MAX_SETUP or not refers(name):
            return None
        flat = self.schemas.flat(schema)
        if "array" in kinds(flat) or "enum" in flat or "const" in flat:
            return None
        if name in binding.fields:
            return binding.fields[name]
        seen = self._drafter.seen(field_needs(name, schema), schema, binding)
        if seen is not None:
            return seen
        return self.supplied(self.graph.for_field(name, schema), name, schema, binding, stack)

    def supplied(
        self, candidates: Iterable[Candidate], name: str, schema: Schema, binding: Binding, stack: tuple[str, ...]
    ) -> Any:
        """A value that an earlier step gives, or None."""
        if name in binding.fields:
            return binding.fields[name]
        for candidate in candidates:
            if candidate.operation.key in stack or binding.alone or len(stack) > MAX_SETUP:
                continue
            trial = binding.copy()
            supplied = self._produce(candidate, trial, stack, None, False)
            if supplied is not None:
                value = supplied[candidate.supplies[0].need]  # the need may be written `externalId` elsewhere
                sample = fill(value, {**trial.samples, "unique": "0123456789ab"})
                if self.schemas.rejects(schema, sample):
                    continue
                binding.take(trial)
                binding.fields[name] = value
                return str(value)
        return None

    def _produce(
        self, candidate: Candidate, binding: Binding, stack: tuple[str, ...], consumer: Operation | None, dangling: bool
    ) -> dict[str, Any] | None:
        """Append the step of `candidate`; what it supplies by name, or None when it cannot be drafted.

        Without `dangling` a request that points at something unknown is not taken.
        """
        operation = candidate.operation
        try:
            draft = self._drafter.draft(operation, binding=binding, stack=stack)
        except Impossible:
            return None
        if draft.guessed or (draft.dangling and not dangling):
            return None
        if consumer is not None:
            wild = {name for name, value in draft.path.items() if value in WILDCARDS}
            if (wild - {supply.need for supply in candidate.supplies}) & set(wire.parameter_names(consumer.path)):
                return None  # found anywhere, but nothing says where
        binding.paths = {place: value for place, value in binding.paths.items() if value not in WILDCARDS}
        binding.shaky = binding.shaky or bool(draft.doubt)
        captures: list[Capture] = []
        supplied: dict[str, Any] = {}
        for supply in candidate.supplies:
            if supply is not candidate.supplies[0] and consumer is not None:
                if prefix_of(consumer.path, supply.need) + "/{}" in binding.paths:
                    continue
            binding.echoed = binding.echoed or supply.source in ("echo", "path")
            if supply.source == "echo":
                value = draft.body.get(supply.path) if isinstance(draft.body, dict) else None
                if value is None:
                    return None
                supplied[supply.need] = value
            elif supply.source == "path":
                supplied[supply.need] = draft.path.get(supply.path)
            else:
                name = binding.name(_capture_name(supply.need, operation))
                captures.append(capture_of(name, supply))
                binding.samples[name] = self._sample(supply)
                supplied[supply.need] = "{" + name + "}"
        binding.steps.append(
            Step(
                operation=operation.key,
                request=self._drafter.request(draft),
                captures=tuple(captures),
                setup=True,
            )
        )
        if consumer is not None:  # a parent of the same name is the same parent
            for name, value in draft.path.items():
                if value not in WILDCARDS:
                    supplied.setdefault(name, value)
        if operation.method not in SAFE_METHODS:
            self._clean_up(operation, draft, candidate, supplied, binding)
        return supplied

    def _clean_up(
        self, creator: Operation, draft: Draft, candidate: Candidate, supplied: Mapping[str, Any], binding: Binding
    ) -> None:
        found = self.graph.deleter(creator) if creator.method == "POST" else None
        if creator.method == "PUT":
            remover = next(
                (op for op in self.graph.at(creator.path) if op.method == "DELETE" and self.graph.allowed(op)), None
            )
            step = (
                self._drafter.bare_step(
                    remover, dict(zip(wire.parameter_names(remover.path), draft.path.values(), strict=False))
                )
                if remover
                else None
            )
            if step is not None:
                binding.cleanup.append(step)
            return
        if found is None:
            return
        deleter, wanted = found
        parents = wire.parameter_names(deleter.path)
        values = dict(
            zip(parents[:-1], (draft.path.get(n, "1") for n in wire.parameter_names(creator.path)), strict=False)
        )
        same = next((s for s in candidate.supplies if (s.source, s.path) == (wanted.source, wanted.path)), None)
        if same is not None:
            values[parents[-1]] = supplied[same.need]
        elif wanted.source == "body":
            name = binding.name(f"made_{collection_noun(creator.path) or 'thing'}")
            binding.samples[name] = self._sample(wanted)
            last = binding.steps[-1]
            binding.steps[-1] = Step(
                operation=last.operation,
                request=last.request,
                setup=True,
                identity=last.identity,
                captures=(*last.captures, capture_of(name, wanted, optional=True)),
            )
            values[parents[-1]] = "{" + name + "}"
        else:
            return
        step = self._drafter.bare_step(deleter, values)
        if step is not None:
            binding.cleanup.append(step)

    def _sample(self, supply: Supply) -> Any:
        try:
            return self.maker.make(supply.schema, "", Making(seed=supply.path, unique=False))
        except Impossible:
            return "1"


def capture_of(name: str, supply: Supply, *, optional: bool = False) -> Capture:
    if supply.source == "header":
        return Capture(name=name, source="header", path=supply.path, optional=optional)
    return Capture(name=name, path=supply.path, optional=optional)


def _capture_name(need: str, operation: Operation) -> str:
    found = words(need)
    if len(found) > 1:
        return "_".join(found)
    thing = collection_noun(operation.path)
    return "_".join(part for part in (thing, *found) if part)


def refers(name: str) -> bool:
    found = words(name)
    return bool(found) and found[-1] in REFERRING
