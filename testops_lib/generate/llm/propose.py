"""Operations -> cases that a language model proposes, and what they took."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import msgspec

from testops_lib.cost import split, total
from testops_lib.errors import GenerateError
from testops_lib.generate import Generated
from testops_lib.generate.feedback import Gap
from testops_lib.generate.llm.calls import Brief, CallGroup, callable_operations, grouped
from testops_lib.generate.llm.collected import CollectedCases
from testops_lib.generate.llm.conversation import Conversation
from testops_lib.generate.llm.prompt import version
from testops_lib.generate.llm.provider import Model, ModelLimits, Provider
from testops_lib.generate.llm.quotes import Quotes
from testops_lib.generate.proposals.validator import Validator
from testops_lib.model import Call, Case, Cost, Generation, Policy, Provenance
from testops_lib.spec.operation import Operation, Spec

VERSION = "2"
"""Of the conversation and its validation; part of a case's origin."""


def key_parts(
    provider: Provider,
    *,
    policy: Policy,
    values: Mapping[str, tuple[Any, ...]] | None = None,
    identities: Sequence[str] = (),
    observed: bool = False,
) -> dict[str, str]:
    """What the cases of an unchanged operation depend on, by name: while all of it is equal, asking again is of no use.

    `observed`: the prompt tells what the API answered before.
    """
    wishes = {
        "methods": policy.methods,
        "cases": provider.limits.cases_per_operation,
        "identities": list(identities),
        "values": {name: list(chosen) for name, chosen in (values or {}).items()},
        **provider.sampling,
    }
    digest = hashlib.sha256(msgspec.json.encode(wishes, order="deterministic")).hexdigest()
    return {
        "source": provider.source,
        "model": provider.model,
        "prompt": version(observed=observed),
        "dialogue": VERSION,
        "wishes": digest[:16],
    }


def generate(
    provider: Provider,
    spec: Spec,
    operations: Sequence[Operation],
    *,
    policy: Policy,
    values: Mapping[str, tuple[Any, ...]] | None = None,
    identities: Sequence[str] = (),
    instruction: str = "",
    gaps: Mapping[str, Gap] | None = None,
) -> Generated:
    """Valid cases of the operations in their order, each operation's in the model's, positive ones first.

    `gaps`: what is still to be gained of them, by key, and what the API answered.

    Raises:
        GenerateError: the provider refused for good before it answered anything, not one call was answered, or money is
            limited and the model's price is not known.
    """
    brief = Brief(
        spec=spec,
        policy=policy,
        limits=provider.limits,
        identities=tuple(identities),
        values=dict(values or {}),
        instruction=instruction,
        gaps=gaps or {},
    )

    async def connected() -> Generated:
        async with provider.connect() as model:
            return await _propose(model, msgspec.structs.replace(brief, secrets=tuple(model.secrets)), operations)

    return asyncio.run(connected())


async def _propose(model: Model, brief: Brief, operations: Sequence[Operation]) -> Generated:
    spec, limits = brief.spec, brief.limits
    if limits.max_money is not None and limits.price is None:
        raise GenerateError(
            f"the price of {model.name!r} is not known, so money cannot be limited",
            where=model.source,
            next_step="put it into a file and set TESTOPS_PRICES_FILE (free: 0), or limit tokens instead",
        )
    origin = Provenance(
        source=model.source, version=VERSION, model=model.name, prompt=version(observed=bool(brief.gaps))
    )
    validator = Validator(
        spec,
        policy=brief.policy,
        origin=origin,
        identities=brief.identities,
        values=brief.values,
        quoted=Quotes(spec).quoted,
    )
    collected = CollectedCases(validator, cases_per_operation=limits.cases_per_operation)
    conversation = Conversation(model, brief, collected)
    wanted = callable_operations(spec, operations, brief.policy)
    groups = list(grouped(brief, wanted))
    cases_by_group: list[list[Case]] = [[] for _ in groups]
    refusal: list[GenerateError] = []
    ended: set[str] = set()

    async def ask_for(group: CallGroup, cases: list[Case]) -> None:
        await conversation.ask_for(group, cases)
        ended.update(group.keys)

    try:
        async with asyncio.TaskGroup() as tasks:
            for group, cases in zip(groups, cases_by_group, strict=True):
                tasks.create_task(ask_for(group, cases))
    except* GenerateError as errors:
        refusal.append(_first(errors))
    unanswered = conversation.unanswered
    for error in refusal:
        if not conversation.answered:
            # raised out here, or it would arrive wrapped in a group
            raise error
        unanswered.update({operation.key: str(error) for operation in wanted if operation.key not in ended})
    if groups and unanswered and not conversation.answered:
        reason = next(iter(unanswered.values()))
        raise GenerateError(
            f"no call was answered ({reason})",
            where=f"{model.source} ({model.name})",
            next_step="try again later, lower the concurrency, or use the source `rules`, which needs no model",
        )
    keys = [operation.key for operation in wanted]
    ordered = collected.in_order([case for cases in cases_by_group for case in cases], keys)
    calls = conversation.budget.spent
    spent = total(calls)
    return Generated(
        cases=ordered,
        unfinished=tuple(sorted(conversation.unasked | unanswered.keys())),
        generation=Generation(
            source=model.source,
            model=model.name,
            cases=len(ordered),
            calls=conversation.budget.calls,
            input_tokens=spent.input_tokens,
            output_tokens=spent.output_tokens,
            cached_tokens=spent.cached_tokens,
            money=spent.money if calls else None,
            currency=limits.currency if limits.price is not None else "",
            spent=tuple(calls),
            operations=_by_operation(calls, keys),
            dropped={reason: count for reason, count in sorted(collected.dropped.items()) if count},
            notes=tuple(_notes(conversation, model, limits, skipped=len(operations) - len(wanted))),
        ),
    )


def _notes(conversation: Conversation, model: Model, limits: ModelLimits, *, skipped: int) -> Iterator[str]:
    for key, reason in conversation.blocked:
        yield f"{key}: the model gave no answer ({reason})"
    if skipped:
        yield f"{skipped} operations not asked for: the policy forbids them or they are unusable"
    for limit in sorted(conversation.stopped_at):
        yield f"stopped at {limit}: the cases made so far are kept"
    if conversation.uncounted:
        yield f"{conversation.uncounted} answers without a count of tokens: estimated from above"
    if conversation.maybe_billed:
        yield f"{conversation.maybe_billed} calls ran out of time and may have been billed: counted from above"
    for reason in sorted(set(conversation.unanswered.values())):
        keys = sorted(key for key, why in conversation.unanswered.items() if why == reason)
        listed = ", ".join(keys[:5]) + (" …" if len(keys) > 5 else "")
        yield f"{len(keys)} operations without an answer ({reason}): {listed}"
    if conversation.budget.spent and limits.price is None:
        yield f"the price of {model.name!r} is not known: tokens only (see TESTOPS_PRICES_FILE)"


def _first(errors: BaseExceptionGroup[GenerateError]) -> GenerateError:
    inner: BaseException = errors
    while isinstance(inner, BaseExceptionGroup):
        inner = inner.exceptions[0]
    assert isinstance(inner, GenerateError)
    return inner


def _by_operation(calls: Sequence[Call], keys: Sequence[str]) -> dict[str, Cost]:
    shares: dict[str, list[Cost]] = {}
    for call in calls:
        for key, cost in zip(call.operations, split(call, len(call.operations)), strict=True):
            shares.setdefault(key, []).append(cost)
    return {key: total(shares[key]) for key in keys if key in shares}
