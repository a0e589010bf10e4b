"""Where cases come from: each source is asked alike, says what decides its cases, and counts what it takes."""

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
    """Of the rounds before: asks for what these give reason for, some of which may have been made before."""
    left: SpendingLimits = SpendingLimits()
    most: int = 0
    """Requests that will be sent at the most, so that no more is drawn than they can use; 0: nobody knows."""


Tell = Callable[[Sequence[Case]], None]
"""Takes cases as soon as they are made."""


def _nobody(cases: Sequence[Case]) -> None:
    return


class Source(NamedTuple):
    """A source, seen from here."""

    make: Callable[[GenerationRequest, Tell], Generated]
    """May tell of cases while it makes more. Raises GenerateError: it cannot work."""
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


def make(source: str, ask: GenerationRequest, tell: Tell = _nobody) -> Generated:
    """The cases of one source.

    Raises:
        GenerateError: it cannot work.
    """
    return _SOURCES[source].make(ask, tell)


def make_all(ask: GenerationRequest, tell: Tell = _nobody) -> list[Generated]:
    """The cases of each of the target's sources, in their order; all together take no more than `ask.left`.

    A case is its first source's: what a later one makes again is dropped and counted. A source that cannot work gives
    no case, and its `Generation` says why. `tell` gets every case that is given as soon as it is made, some twice.
    """
    made: list[Generated] = []
    known: set[str] = set()

    def tell_new(cases: Sequence[Case]) -> None:
        tell([case for case in cases if case.id not in known])

    for source in ask.target.generate.sources:
        try:
            found = make(source, ask, tell_new)
        except GenerateError as error:
            found = Generated(cases=(), generation=Generation(source=source, failed=str(error)))
        ask = msgspec.structs.replace(ask, left=deduct(ask.left, found.generation))
        fresh = tuple(case for case in found.cases if case.id not in known)
        tell(fresh)
        known.update(case.id for case in fresh)
        counted = without_repeated(found.generation, len(fresh), len(found.cases) - len(fresh))
        made.append(msgspec.structs.replace(found, cases=fresh, generation=counted))
    return made


def without_repeated(generation: Generation, kept: int, repeated: int) -> Generation:
    """How a source worked that gave `kept` cases of its own, and `repeated` that a source before it gives as well."""
    if not repeated:
        return generation
    dropped = {**generation.dropped, "made by another source, too": repeated}
    return msgspec.structs.replace(generation, cases=min(generation.cases, kept), dropped=dropped)


def plan_all(ask: GenerationRequest) -> list[CostEstimate]:
    """What each of the target's sources would ask of a language model and its estimated price; calls nobody."""
    return [_SOURCES[source].plan(ask) for source in ask.target.generate.sources]


def is_paid(source: str) -> bool:
    """Whether its cases cost tokens: then what it makes of feedback is kept, and a gap is not paid for twice."""
    return _SOURCES[source].paid


def key(source: str, ask: GenerationRequest, operation: Operation) -> str:
    """Equal as long as the source would be asked for the same cases of the operation."""
    target = ask.target
    return suites.digest(
        operation.content_hash,
        source,
        _SOURCES[source].stamp(ask),
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
    return lambda ask: CostEstimate(source=source, operations=len(ask.operations), money=0)


# --------------------------------------------------------------------------- from the document alone


def _rules(ask: GenerationRequest, tell: Tell) -> Generated:
    wishes = ask.target.generate
    return rules.generate(
        ask.spec,
        operations=[each.key for each in ask.operations],
        policy=ask.target.policy,
        values=ask.target.values,
        identities=_users(ask.target),
        spares=spares(ask.target.identities),
        max_cases_per_operation=wishes.max_cases_per_operation,
        feedback=ask.feedback,
        users=wishes.users,
        tell=tell,
    )


def _rules_stamp(ask: GenerationRequest) -> tuple[str, ...]:
    """Chains lead through the whole document; and rules cost nothing."""
    return (_code("testops_lib.generate.rules"), ask.spec.content_hash, ask.target.generate.users, *_protection(ask))


def _protection(ask: GenerationRequest) -> tuple[str, ...]:
    """What decides which operations are called, and on what."""
    return ask.target.policy.foreign, repr(spares(ask.target.identities))


def _property(ask: GenerationRequest, tell: Tell) -> Generated:
    wishes = ask.target.generate.property
    return property_based.generate(
        ask.spec,
        operations=[each.key for each in ask.operations],
        policy=ask.target.policy,
        values=ask.target.values,
        identities=_users(ask.target),
        spares=spares(ask.target.identities),
        examples=_examples(ask),
        seed=wishes.seed,
        feedback=ask.feedback,
        looks="rules" not in ask.target.generate.sources and ask.feedback is None,
        tell=tell,
    )


def _property_stamp(ask: GenerationRequest) -> tuple[str, ...]:
    wishes = ask.target.generate.property
    codes = map(_code, ("testops_lib.generate.property", "testops_lib.generate.rules"))
    try:
        drawn_by = metadata.version("schemathesis")
    except metadata.PackageNotFoundError:
        drawn_by = "missing"  # as the source itself will complain, if it is asked for anything
    return (*codes, drawn_by, ask.spec.content_hash, str(_examples(ask)), str(wishes.seed), *_protection(ask))


def _examples(ask: GenerationRequest) -> int:
    """Of each kind of an operation: an equal part of the requests, as far as these are counted."""
    wanted = ask.target.generate.property.examples
    return min(wanted, max(1, ask.most // len(ask.operations))) if ask.most and ask.operations else wanted


@cache
def _code(package: str) -> str:
    """A digest of the package's source, so that no change of it goes unseen."""
    found = sorted((each.name, each.read_bytes()) for each in files(package).iterdir() if each.name.endswith(".py"))
    return hashlib.sha256(repr(found).encode()).hexdigest()[:16]


# --------------------------------------------------------------------------- from a language model


def _model(provider_of: Callable[[Settings, SpendingLimits], Provider]) -> Source:
    """A source that asks a language model by one of the adapters in `generate`."""

    def common(ask: GenerationRequest) -> dict[str, Any]:
        return {"policy": ask.target.policy, "values": ask.target.values, "identities": _users(ask.target)}

    def make(ask: GenerationRequest, tell: Tell) -> Generated:
        gaps = {gap.operation: gap for gap in ask.feedback.gaps} if ask.feedback is not None else {}
        # a further round pays for no operation of which nothing is to be gained
        asked = [each for each in ask.operations if ask.feedback is None or each.key in gaps]
        provider, instruction = provider_of(ask.settings, ask.left), ask.target.generate.instruction
        return propose.generate(provider, ask.spec, asked, **common(ask), instruction=instruction, gaps=gaps)

    def stamp(ask: GenerationRequest) -> tuple[str, ...]:
        provider, observed = provider_of(ask.settings, SpendingLimits()), ask.feedback is not None
        return tuple(propose.key_parts(provider, **common(ask), observed=observed).values())

    def plan(ask: GenerationRequest) -> CostEstimate:
        return calls.plan(provider_of(ask.settings, SpendingLimits()), ask.spec, ask.operations, **common(ask))

    return Source(make, stamp, plan, paid=True)


def _gemini(settings: Settings, left: SpendingLimits) -> Provider:
    asked = gemini.GeminiSettings(
        api_key=settings.gemini_api_key,
        base_url=settings.gemini_base_url,
        model=settings.gemini_model,
        thinking_budget=settings.gemini_thinking_budget,
        timeout_s=settings.model_timeout_s,
        limits=_limits(settings.gemini_model, settings, left),
    )
    return gemini.provider(asked)


def _openai(settings: Settings, left: SpendingLimits) -> Provider:
    asked = openai.OpenAISettings(
        api_key=settings.openai_api_key,
        base_url=settings.openai_base_url,
        model=settings.openai_model,
        timeout_s=settings.model_timeout_s,
        limits=_limits(settings.openai_model, settings, left),
    )
    return openai.provider(asked)


def _limits(model: str, settings: Settings, left: SpendingLimits) -> ModelLimits:
    prices = price.read(settings.prices_file)
    return ModelLimits(
        concurrency=settings.model_calls_at_once,
        operations_per_call=settings.model_operations_per_call,
        max_tokens=left.tokens,
        max_money=left.money,
        price=price.find(prices, model),
        currency=prices.currency,
    )


# --------------------------------------------------------------------------- from files


def _files(ask: GenerationRequest, tell: Tell) -> Generated:
    if ask.feedback is not None:
        return Generated(cases=(), generation=Generation(source=imports.SOURCE))  # a file says the same again
    if not ask.target.generate.imports:
        raise GenerateError(
            "has no file",
            where="source import",
            next_step="name HAR, Postman or Arazzo files: --import FILE, or a target file's `generate: {imports: […]}`",
        )
    return imports.generate(
        ask.spec,
        [Path(each) for each in ask.target.generate.imports],
        operations=[each.key for each in ask.operations],
        policy=ask.target.policy,
        base_url=ask.target.base_url,
        values=ask.target.values,
        identities=_users(ask.target),
    )


def _files_stamp(ask: GenerationRequest) -> tuple[str, ...]:
    target = ask.target
    return (imports.VERSION, ask.spec.content_hash, target.base_url, *map(_content, target.generate.imports))


def _content(file: str) -> str:
    """A digest of the file; without one, what the source itself will complain of."""
    try:
        about = Path(file).stat()
        return _digest(file, about.st_mtime_ns, about.st_size)
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
