"""Operation -> a request that should succeed, with the steps that make what it needs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any, Final

from testops_lib import unused_ids
from testops_lib.doubts import Doubt
from testops_lib.generate import wire
from testops_lib.generate.rules.binding import Binding
from testops_lib.generate.rules.draft import ABSENT, Draft, ParameterValue
from testops_lib.generate.rules.making import WILDCARDS, Impossible, Making
from testops_lib.generate.rules.ownership import Guard
from testops_lib.generate.rules.pool import Pool
from testops_lib.generate.rules.producers import Producers, capture_of, refers
from testops_lib.generate.rules.resources import (
    Graph,
    Need,
    creates_by_put,
    path_need,
    prefix_of,
    success,
)
from testops_lib.generate.rules.values import Maker
from testops_lib.generate.rules.words import IDENTIFYING, NOT_STORING, collection_noun, segments, words
from testops_lib.generate.schemas import UNIQUE, Schemas, kinds
from testops_lib.model import Capture, Request, Step
from testops_lib.placeholder import fill
from testops_lib.spec.operation import Operation, Parameter, Schema


class Drafter:
    """Drafts requests for the operations of one spec."""

    def __init__(
        self,
        graph: Graph,
        schemas: Schemas,
        maker: Maker,
        credentials: frozenset[tuple[str, str]],
        pool: Pool,
        guard: Guard,
    ) -> None:
        self.graph, self.schemas, self.maker, self.pool, self.guard = graph, schemas, maker, pool, guard
        self._credentials = credentials
        self._parameters: dict[str, list[Parameter]] = {}
        self._producers = Producers(self)

    def parameters(self, operation: Operation) -> list[Parameter]:
        parameters = self._parameters.get(operation.key)
        if parameters is None:
            parameters = self._parameters[operation.key] = wire.sent_parameters(operation, self._credentials)
        return parameters

    def draft(
        self,
        operation: Operation,
        *,
        salt: int = 0,
        full: bool = False,
        example: Any = ABSENT,
        media: str = "",
        seed: str = "",
        binding: Binding | None = None,
        stack: tuple[str, ...] = (),
    ) -> Draft:
        """A request that should succeed.

        Raises:
            Impossible: a required part cannot be made.
        """
        binding = binding if binding is not None else Binding(seed or operation.key, salt)
        stack = (*stack, operation.key)
        path, doubt, guessed, with_example = self._path(operation, binding, stack)
        dangling = invented = False
        sent: dict[str, dict[str, Any]] = {"query": {}, "header": {}, "cookie": {}}
        for parameter in self.parameters(operation):
            if parameter.where in sent and parameter.required:
                once = parameter.where == "header" and "idempotency" in words(parameter.name)
                making = self._making(binding, stack, operation, full=False, unique=once)
                sent[parameter.where][parameter.name] = self.value(parameter, making)
                doubt, with_example = doubt or making.doubt, with_example or making.example
                dangling, invented = dangling or making.dangling, invented or making.invented
        body: Any = ABSENT
        kinds_of_body = wire.media_types(operation.body)
        if (
            kinds_of_body
            and operation.body is not None
            and (operation.body.required or full or not _bodiless(operation))
        ):
            media = media or kinds_of_body[0]
            making = self._making(binding, stack, operation, full=full, unique=makes_things(operation))
            if operation.method == "POST":
                making.turn = sum(step.request.method == "POST" for step in binding.steps)
                making.noun = collection_noun(operation.path)
            making.own = path.get(wire.parameter_names(operation.path)[-1]) if operation.path.endswith("}") else None
            body = self._body(operation, media, making, binding, example)
            doubt, with_example = doubt or making.doubt, with_example or making.example
            dangling, invented = dangling or making.dangling, invented or making.invented
            binding.salted = binding.salted or making.salted
        return Draft(
            operation=operation,
            path=path,
            query=sent["query"],
            headers=sent["header"],
            cookies=sent["cookie"],
            body=body,
            media=media if body is not ABSENT else "",
            setup=tuple(binding.steps),
            cleanup=tuple(reversed(binding.cleanup)),
            samples=dict(binding.samples),
            doubt=doubt,
            example=with_example,
            invented=invented,
            salted=binding.salted,
            listed=binding.listed,
            guessed=guessed,
            dangling=dangling,
            echoed=binding.echoed,
            foreign=binding.foreign,
            shaky=binding.shaky,
        )

    def standalone(self, operation: Operation, path: Mapping[str, Any]) -> Draft:
        """A request on its own, with these path parameters: no earlier step makes anything for it.

        Raises:
            Impossible: a required part cannot be made.
        """
        binding = Binding(f"{operation.key}/standalone", alone=True)
        binding.paths = {prefix_of(operation.path, name) + "/{}": value for name, value in path.items()}
        return replace(self.draft(operation, binding=binding), doubt="unknown_resource", guessed=True)

    def value(self, parameter: Parameter, making: Making) -> Any:
        """A value for a query, header or cookie parameter. Free text without an example is never sure."""
        hinted = self._hint(parameter.name, wild=False)
        if hinted is not None:
            return hinted
        reference = making.refer(parameter.name, parameter.schema) if parameter.required else None
        if reference is not None:
            return [reference] if "array" in kinds(self.schemas.flat(parameter.schema)) else reference
        for example in parameter.examples:
            if self.schemas.accepts(parameter.schema, example):
                making.example = True
                if refers(parameter.name):
                    making.cast_doubt("unlinked_reference")
                return example
        making.refer, making.told = _no_reference, parameter.description
        had_example = making.example
        value = self.maker.make(parameter.schema, parameter.name, making)
        flat = self.schemas.flat(parameter.schema)
        if flat.get("items") is not None and isinstance(value, list):
            flat = self.schemas.flat(flat["items"])
        documented = (making.example and not had_example) or bool({"enum", "const", "default", "pattern"} & set(flat))
        if "string" in kinds(flat) and not documented and not flat.get("format"):
            if not set(words(parameter.name)) & _SEARCHES:
                making.cast_doubt("free_text")
        return value

    def optional(self, draft: Draft, parameter: Parameter, salt: int = 0) -> ParameterValue | None:
        """A value for an optional parameter on top of `draft`. None: nothing fits."""
        once = parameter.where == "header" and "idempotency" in words(parameter.name)
        making = Making(seed=draft.operation.key, salt=salt, unique=once)
        try:
            value = self.value(parameter, making)
        except Impossible:
            return None
        return ParameterValue(value, making.doubt, making.example)

    def request(self, draft: Draft) -> Request:
        """The draft as it is sent."""
        operation = draft.operation
        declared = {(p.where, p.name): p for p in operation.parameters}
        named = {p.name: p for p in operation.parameters if p.where == "path"}
        query = [
            pair
            for name, value in draft.query.items()
            for pair in wire.pairs(declared.get(("query", name)) or Parameter(name=name, where="query"), value)
        ]
        plain_headers = tuple(
            (name, wire.header(declared.get(("header", name)) or Parameter(name=name, where="header"), value))
            for name, value in draft.headers.items()
        )
        accept = self._accept(operation)
        if accept and not any(name.lower() == "accept" for name, _ in plain_headers):
            plain_headers = (*plain_headers, ("Accept", accept))
        cookies = tuple(
            (name, wire.header(declared.get(("cookie", name)) or Parameter(name=name, where="cookie"), value))
            for name, value in draft.cookies.items()
        )
        body = None
        if draft.body is not ABSENT and operation.body is not None:
            body = wire.body(draft.media, operation.body.content[draft.media], draft.body, self.schemas)
        return Request(
            method=operation.method,
            path=wire.path(operation.path, named, draft.path),
            query=tuple(query),
            headers=plain_headers,
            cookies=cookies,
            body=body,
        )

    def _accept(self, operation: Operation) -> str:
        """What to ask for where success is only documented in other forms than JSON; "" leaves it to the runner."""
        answer = success(operation)
        offered = list(answer[1].content) if answer else []
        if not offered or any("*" in media or wire.is_json(media) for media in offered):
            return ""
        return ", ".join(media.split(";", 1)[0].strip() for media in offered)

    def made_by(self, draft: Draft) -> tuple[tuple[Capture, ...], tuple[Step, ...]]:
        """What to keep of the draft's own answer, and the step that removes what it made; both may be empty."""
        deletion = self.graph.deleter(draft.operation) if draft.operation.method == "POST" else None
        if deletion is None:
            return (), ()
        deleter, supply = deletion
        parents = wire.parameter_names(deleter.path)[:-1]
        own = wire.parameter_names(draft.operation.path)
        values = dict(zip(parents, (draft.path.get(name, "1") for name in own), strict=False))
        captures: tuple[Capture, ...] = ()
        last = wire.parameter_names(deleter.path)[-1]
        if supply.source == "echo":
            values[last] = draft.body.get(supply.path, "1") if isinstance(draft.body, dict) else "1"
        elif supply.source == "path":
            values[last] = draft.path.get(supply.path, "1")
        else:
            name = f"made_{collection_noun(draft.operation.path) or 'thing'}"
            captures = (capture_of(name, supply, optional=True),)
            values[last] = "{" + name + "}"
        step = self.bare_step(deleter, values)
        return captures, () if step is None else (step,)

    def bare_step(self, operation: Operation, values: Mapping[str, Any]) -> Step | None:
        """A request with the path given and only required parameters; None when something else is needed."""
        draft = Draft(operation=operation, path=values)
        for parameter in self.parameters(operation):
            if parameter.where != "path" and parameter.required:
                made = self.optional(draft, parameter)
                if made is None:
                    return None
                draft = draft.put(parameter.where, parameter.name, made.value)
        if operation.body is not None and operation.body.required:
            return None
        return Step(operation=operation.key, request=self.request(draft))

    # ------------------------------------------------------------------ parts

    def _making(
        self, binding: Binding, stack: tuple[str, ...], operation: Operation, *, full: bool, unique: bool
    ) -> Making:
        def refer(name: str, schema: Schema) -> Any:
            makers = self.guard.makers_elsewhere(operation, name)
            if makers is None or "array" in kinds(self.schemas.flat(schema)):
                return self._producers.reference(name, schema, binding, stack)
            own = self._producers.supplied(makers, name, schema, binding, stack)
            if own is None:  # what is changed is the case's own, or is not there
                making.cast_doubt("unknown_resource")
                making.dangling = True
                values = unused_ids.CANDIDATES
                return next((value for value in values if self.schemas.accepts(schema, value)), None)
            return own

        making = Making(
            seed=binding.seed, salt=binding.salt, unique=unique, refer=refer, full=full, samples=binding.samples
        )
        return making

    def _path(
        self, operation: Operation, binding: Binding, stack: tuple[str, ...]
    ) -> tuple[dict[str, Any], Doubt, bool, bool]:
        declared = {p.name: p for p in operation.parameters if p.where == "path"}
        names = [name for name in wire.parameter_names(operation.path) if name in declared]
        values: dict[str, Any] = {}
        doubt: Doubt = ""
        guessed = example = False
        own_only = self.guard.own_only(operation)
        for name in reversed(names):
            place = prefix_of(operation.path, name) + "/{}"
            if place in binding.paths:
                values[name] = binding.paths[place]
                continue
            tail = name == names[-1] and operation.path.endswith("}")
            hinted = self._hint(name, wild=binding.wild and len(stack) > 1 and operation.method == "GET" and not tail)
            if hinted is not None and (name not in own_only or self.guard.may_be_below(operation, name)):
                values[name] = binding.paths[place] = hinted
                continue
            parameter = declared[name]
            flat = self.schemas.flat(parameter.schema)
            if creates_by_put(operation) and name == names[-1]:
                made = self._own_name(parameter, binding)
                if made is not None:
                    values[name] = binding.paths[place] = made
                    continue
            if "enum" not in flat and "const" not in flat:
                needs = [path_need(operation.path, parameter)]
                seen = self.seen(needs, parameter.schema, binding) if name not in own_only else None
                if seen is not None:
                    values[name] = binding.paths[place] = seen
                    doubt = doubt or "earlier_value"
                    continue
                if self._producers.bind_path(operation, parameter, binding, stack, own=name in own_only):
                    values[name] = binding.paths[place]
                    continue
            if name in own_only:
                values[name] = binding.paths[place] = self.unused_id(parameter)
                doubt, guessed = doubt or "unknown_resource", True
                continue
            making = Making(seed=binding.seed, salt=binding.salt, unique=False, told=parameter.description)
            making.example = False
            example = next((e for e in parameter.examples if self.schemas.accepts(parameter.schema, e)), ABSENT)
            values[name] = self.maker.make(parameter.schema, name, making) if example is ABSENT else example
            documented = making.example or example is not ABSENT
            example = example or documented
            names_a_thing = bool(words(name)) and words(name)[-1] in IDENTIFYING
            closed = bool({"enum", "const", "default"} & set(flat))
            if not closed and (names_a_thing or not documented):
                doubt, guessed = doubt or "made_up_id", True
            binding.paths[place] = values[name]
        return values, doubt, guessed, example

    def _hint(self, name: str, *, wild: bool) -> Any:
        """A hint for a path parameter; a wildcard only where a list is asked for on behalf of another operation."""
        for value in self.maker.hint(name):
            if value not in WILDCARDS or wild:
                return value
        return None

    def seen(self, needs: Iterable[Need], schema: Schema, binding: Binding) -> Any:
        """A value that an earlier round saw; another salt takes another one. None: there is none that fits."""
        fitting = (
            [value for need in needs for value in self.pool.values(need) if self.schemas.accepts(schema, value)]
            if self.pool
            else []
        )
        if not fitting:
            return None
        binding.listed = True  # somebody else's: it may go, and nothing may be done to it that does harm
        return fitting[binding.salt % len(fitting)]

    def _own_name(self, parameter: Parameter, binding: Binding) -> str | None:
        for candidate in (f"t{UNIQUE}", UNIQUE, f"00000000-0000-4000-8000-{UNIQUE}"):
            if kinds(self.schemas.flat(parameter.schema)) & {"string"} and self.schemas.accepts(
                parameter.schema, candidate
            ):
                return candidate
        return None

    def unused_id(self, parameter: Parameter) -> Any:
        """A well-formed id that surely nothing has.

        Raises:
            Impossible: none fits the schema.
        """
        for value in unused_ids.CANDIDATES:
            if self.schemas.accepts(parameter.schema, value):
                return value
        raise Impossible(
            f"{parameter.name} can only be the id of a thing that the run did not make, which the policy forbids"
        )

    def _body(self, operation: Operation, media: str, making: Making, binding: Binding, example: Any) -> Any:
        assert operation.body is not None
        described = operation.body.content[media]
        schema: Schema = True if described.schema is None else described.schema
        if example is ABSENT and not making.full:
            example = next((own for own in described.examples if self.schemas.takes(schema, own)), ABSENT)
        if example is not ABSENT and self.schemas.takes(schema, example):
            spare = replace(making, example=True)
            value = self.maker.adapt(example, schema, "", spare)
            if self.schemas.takes(schema, fill(value, binding.samples)):
                making.doubt, making.example, making.salted = spare.doubt, True, spare.salted
                making.dangling, making.invented = spare.dangling, spare.invented
                return value
        value = self.maker.make(schema, "body", making)
        if not self.schemas.takes(schema, fill(value, binding.samples)):
            raise Impossible("the body with what earlier steps made does not fit its schema")
        return value


def makes_things(operation: Operation) -> bool:
    """A body's names should be unique: it stores something, rather than logging in or searching."""
    if operation.method not in ("POST", "PUT", "PATCH"):
        return False
    spoken = set(words(operation.operation_id)) | {
        word for part in segments(operation.path)[-2:] for word in words(part)
    }
    return not spoken & NOT_STORING


_SEARCHES: Final = frozenset({"q", "search", "text", "term", "keyword", "keywords", "contains", "like"})


def _bodiless(operation: Operation) -> bool:
    return operation.method in ("GET", "HEAD", "DELETE", "OPTIONS")


def _no_reference(name: str, schema: Schema) -> None:
    return None
