"""The sources of cases: all are asked alike; each says what decides its cases, and counts what it takes."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from functools import cache, lru_cache
from importlib import metadata
from importlib.resources import files
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from testops_lib import suite as suites
from testops_lib.cost import in_words
from testops_lib.errors import GenerateError
from testops_lib.generate import Generated, imports, rules
from testops_lib.generate import property as property_based
from testops_lib.generate.feedback import Feedback
from testops_lib.generate.llm import calls, gemini, openai, price, propose
from testops_lib.generate.llm.calls import CostEstimate
from testops_lib.generate.llm.provider import ModelLimits, Provider
from testops_lib.generate.rules.own_account import spares
from testops_lib.model import Case, Cost, Generation, Value
from testops_lib.settings import Settings
from testops_lib.spec.operation import Operation, Spec
from testops_lib.target import Target


class SpendingLimits(Value, frozen=True, kw_only=True):
    """The most that language models may still take; None: no limit."""

    tokens: int | None = None
    money: float | None = None


class GenerationRequest(Value, frozen=True, kw_only=True):
    """What a source is asked for: cases of these operations."""

    spec: Spec
    operations: tuple[Operation, ...]
    target: Target
    """Resolved: its sources, values, users and wishes."""
    settings: Settings
    feedback: Feedback | None = None
    """Of earlier rounds: asks for the cases that these give reason for, some of which may have been made before."""
    limits: SpendingLimits = SpendingLimits()
    max_requests: int = 0
    """Requests that will be sent at the most, so that no more is drawn than they can use; 0: unknown."""


OnCases = Callable[[Sequence[Case]], None]
"""Called with cases as soon as they are made."""


def _ignore(cases: Sequence[Case]) -> None:
    return


class Source(NamedTuple):
    """A source, seen from here."""

    make: Callable[[GenerationRequest, OnCases], Generated]
    """May call `OnCases` while it makes more. Raises GenerateError: it cannot work."""
    stamp: Callable[[GenerationRequest], tuple[str, ...]]
    """What decides its cases besides the operation and the target: its version, its model, its prompt."""
    plan: Callable[[GenerationRequest], CostEstimate]
    """What `make` would ask of a language model; calls nobody."""
    paid: bool = False


def spending_limits(target: Target, *, spent: Cost | None = None, part: float = 1) -> SpendingLimits:
    """What `part` of a run's suite may take, when the target's other runs of this month took `spent`."""
    wishes, spent = target.generate, spent or Cost(money=0)
    tokens = [wishes.max_tokens] if wishes.max_tokens else []
    if wishes.max_tokens_per_month:
        tokens.append(max(0, wishes.max_tokens_per_month - spent.input_tokens - spent.output_tokens))
    money = [wishes.max_money] if wishes.max_money else []
    if wishes.max_money_per_month:
        money.append(max(0.0, wishes.max_money_per_month - (spent.money or 0)))
    return SpendingLimits(
        tokens=int(min(tokens) * part) if tokens else None, money=min(money) * part if money else None
    )


def deduct(left: SpendingLimits, taken: Generation) -> SpendingLimits:
    """What is left after this."""
    return SpendingLimits(
        tokens=None if left.tokens is None else max(0, left.tokens - taken.input_tokens - taken.output_tokens),
        money=None if left.money is None else max(0.0, left.money - (taken.money or 0)),
    )


def make(source: str, request: GenerationRequest, on_cases: OnCases = _ignore) -> Generated:
    """The cases of one source.

    Raises:
        GenerateError: it cannot work.
    """
    return _SOURCES[source].make(request, on_cases)


def make_all(request: GenerationRequest, on_cases: OnCases = _ignore) -> list[Generated]:
    """The cases of each of the target's sources, in their order; all together take no more than `request.limits`.

    A case belongs to its first source: what a later one makes again is dropped and counted. A source that cannot work
    gives no case, and its `Generation` says why. `on_cases` gets each case as soon as it is made, some twice.
    """
    generated: list[Generated] = []
    seen: set[str] = set()

    def on_new_cases(cases: Sequence[Case]) -> None:
        on_cases([case for case in cases if case.id not in seen])

    for source in request.target.generate.sources:
        try:
            made = make(source, request, on_new_cases)
        except GenerateError as error:
            made = Generated(cases=(), generation=Generation(source=source, failed=str(error)))
        request = msgspec.structs.replace(request, limits=deduct(request.limits, made.generation))
        new = tuple(case for case in made.cases if case.id not in seen)
        on_cases(new)
        seen.update(case.id for case in new)
        generation = without_repeated(made.generation, len(new), len(made.cases) - len(new))
        generated.append(msgspec.structs.replace(made, cases=new, generation=generation))
    return generated


def without_repeated(generation: Generation, kept: int, repeated: int) -> Generation:
    """How a source worked that gave `kept` cases of its own, and `repeated` that a source before it gives as well."""
    if not repeated:
        return generation
    dropped = {**generation.dropped, "made by another source, too": repeated}
    return msgspec.structs.replace(generation, cases=min(generation.cases, kept), dropped=dropped)


def plan_all(request: GenerationRequest) -> list[CostEstimate]:
    """What each of the target's sources would ask of a language model, and its estimated price; calls nobody."""
    return [_SOURCES[source].plan(request) for source in request.target.generate.sources]


def is_paid(source: str) -> bool:
    """Whether its cases cost tokens: then what it makes of feedback is kept, and a gap is not paid for twice."""
    return _SOURCES[source].paid


def key(source: str, request: GenerationRequest, operation: Operation) -> str:
    """Equal as long as the source would be asked for the same cases of the operation."""
    target = request.target
    return suites.digest(
        operation.content_hash,
        source,
        _SOURCES[source].stamp(request),
        target.values,
        target.policy.methods,
        _users(target),
        target.generate.max_cases_per_operation,
        target.generate.instruction,
    )


def summarize(generation: Generation) -> Iterator[str]:
    """What people should know of how a source worked: its failure, its price, what it dropped, its notes."""
    if generation.failed:
        yield f"{generation.source} failed: {generation.failed}"
    if generation.calls:
        tokens = generation.input_tokens + generation.output_tokens
        yield (
            f"{generation.source} ({generation.model}): {generation.calls} calls, {tokens:,} tokens,"
            f" {in_words(generation.money, generation.currency)}"
        )
    for reason, count in generation.dropped.items():
        yield f"{generation.source}: dropped {count}: {reason}"
    for note in generation.notes:
        yield f"{generation.source}: {note}"


def _users(target: Target) -> tuple[str, ...]:
    return tuple(identity.name for identity in target.identities)


def _costs_nothing(source: str) -> Callable[[GenerationRequest], CostEstimate]:
    return lambda request: CostEstimate(source=source, operations=len(request.operations), money=0)


# --------------------------------------------------------------------------- from the document alone


def _rules(request: GenerationRequest, on_cases: OnCases) -> Generated:
    wishes = request.target.generate
    return rules.generate(
        request.spec,
        operations=[operation.key for operation in request.operations],
        policy=request.target.policy,
        values=request.target.values,
        identities=_users(request.target),
        spares=spares(request.target.identities),
        max_cases_per_operation=wishes.max_cases_per_operation,
        feedback=request.feedback,
        users=wishes.users,
        tell=on_cases,
    )


def _rules_stamp(request: GenerationRequest) -> tuple[str, ...]:
    """Chains lead through the whole document; and rules cost nothing."""
    return (
        _code("testops_lib.generate.rules"),
        request.spec.content_hash,
        request.target.generate.users,
        *_protection(request),
    )


def _protection(request: GenerationRequest) -> tuple[str, ...]:
    """What decides which operations are called, and on what."""
    return request.target.policy.foreign, repr(spares(request.target.identities))


def _property(request: GenerationRequest, on_cases: OnCases) -> Generated:
    wishes = request.target.generate.property
    return property_based.generate(
        request.spec,
        operations=[operation.key for operation in request.operations],
        policy=request.target.policy,
        values=request.target.values,
        identities=_users(request.target),
        spares=spares(request.target.identities),
        examples=_examples(request),
        seed=wishes.seed,
        feedback=request.feedback,
        looks="rules" not in request.target.generate.sources and request.feedback is None,
        tell=on_cases,
    )


def _property_stamp(request: GenerationRequest) -> tuple[str, ...]:
    wishes = request.target.generate.property
    codes = map(_code, ("testops_lib.generate.property", "testops_lib.generate.rules"))
    try:
        drawn_by = metadata.version("schemathesis")
    except metadata.PackageNotFoundError:
        drawn_by = "missing"  # as the source itself will complain, if it is asked for anything
    return (
        *codes,
        drawn_by,
        request.spec.content_hash,
        str(_examples(request)),
        str(wishes.seed),
        *_protection(request),
    )


def _examples(request: GenerationRequest) -> int:
    """How many of each kind of an operation: no more than its equal part of the requests, if these are limited."""
    wanted = request.target.generate.property.examples
    if not request.max_requests or not request.operations:
        return wanted
    return min(wanted, max(1, request.max_requests // len(request.operations)))


@cache
def _code(package: str) -> str:
    """A digest of the package's source, so that no change of it goes unseen."""
    sources = sorted((file.name, file.read_bytes()) for file in files(package).iterdir() if file.name.endswith(".py"))
    return hashlib.sha256(repr(sources).encode()).hexdigest()[:16]


# --------------------------------------------------------------------------- from a language model


def _model(provider_of: Callable[[Settings, SpendingLimits], Provider]) -> Source:
    """A source that asks a language model through one of the adapters in `generate.llm`."""

    def shared(request: GenerationRequest) -> dict[str, Any]:
        return {"policy": request.target.policy, "values": request.target.values, "identities": _users(request.target)}

    def make(request: GenerationRequest, on_cases: OnCases) -> Generated:
        gaps = {gap.operation: gap for gap in request.feedback.gaps} if request.feedback is not None else {}
        # a further round pays for no operation of which nothing is to be gained
        operations = [
            operation for operation in request.operations if request.feedback is None or operation.key in gaps
        ]
        return propose.generate(
            provider_of(request.settings, request.limits),
            request.spec,
            operations,
            **shared(request),
            instruction=request.target.generate.instruction,
            gaps=gaps,
        )

    def stamp(request: GenerationRequest) -> tuple[str, ...]:
        provider = provider_of(request.settings, SpendingLimits())
        return tuple(propose.key_parts(provider, **shared(request), observed=request.feedback is not None).values())

    def plan(request: GenerationRequest) -> CostEstimate:
        provider = provider_of(request.settings, SpendingLimits())
        return calls.plan(provider, request.spec, request.operations, **shared(request))

    return Source(make, stamp, plan, paid=True)


def _gemini(settings: Settings, limits: SpendingLimits) -> Provider:
    shared = _model_settings("gemini", settings, limits)
    return gemini.provider(gemini.GeminiSettings(**shared, thinking_budget=settings.gemini_thinking_budget))


def _openai(settings: Settings, limits: SpendingLimits) -> Provider:
    return openai.provider(openai.OpenAISettings(**_model_settings("openai", settings, limits)))


def _model_settings(source: str, settings: Settings, limits: SpendingLimits) -> dict[str, Any]:
    """What all adapters are configured by: the source's own settings (`gemini_model`) and those of all models."""
    model = getattr(settings, f"{source}_model")
    prices = price.read(settings.prices_file)
    return {
        "api_key": getattr(settings, f"{source}_api_key"),
        "base_url": getattr(settings, f"{source}_base_url"),
        "model": model,
        "timeout_s": settings.model_timeout_s,
        "limits": ModelLimits(
            concurrency=settings.model_calls_at_once,
            operations_per_call=settings.model_operations_per_call,
            max_tokens=limits.tokens,
            max_money=limits.money,
            price=price.find(prices, model),
            currency=prices.currency,
        ),
    }


# --------------------------------------------------------------------------- from files


def _files(request: GenerationRequest, on_cases: OnCases) -> Generated:
    if request.feedback is not None:
        return Generated(cases=(), generation=Generation(source=imports.SOURCE))  # a file says the same in each round
    if not request.target.generate.imports:
        raise GenerateError(
            "has no file",
            where="source import",
            next_step="name HAR, Postman or Arazzo files: --import FILE, or a target file's `generate: {imports: […]}`",
        )
    return imports.generate(
        request.spec,
        [Path(file) for file in request.target.generate.imports],
        operations=[operation.key for operation in request.operations],
        policy=request.target.policy,
        base_url=request.target.base_url,
        values=request.target.values,
        identities=_users(request.target),
    )


def _files_stamp(request: GenerationRequest) -> tuple[str, ...]:
    target = request.target
    return (imports.VERSION, request.spec.content_hash, target.base_url, *map(_content, target.generate.imports))


def _content(file: str) -> str:
    """A digest of the file; without one, what the source itself will complain of."""
    try:
        status = Path(file).stat()
        return _digest(file, status.st_mtime_ns, status.st_size)
    except OSError:
        return "missing"


@lru_cache(maxsize=64)
def _digest(file: str, changed: int, size: int) -> str:
    with Path(file).open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


_SOURCES = {
    "rules": Source(_rules, _rules_stamp, _costs_nothing("rules")),
    "property": Source(_property, _property_stamp, _costs_nothing("property")),
    "gemini": _model(_gemini),
    "openai": _model(_openai),
    "import": Source(_files, _files_stamp, _costs_nothing("import")),
}
NAMES = tuple(_SOURCES)
"""As `settings.SOURCES` has them; a test compares."""
