"""Operations -> the calls that ask for their cases: which operations share one, its prompt, the form of its answer."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import msgspec

from testops_lib.generate.feedback import Gap
from testops_lib.generate.llm.answer import schema
from testops_lib.generate.llm.price import money
from testops_lib.generate.llm.prompt import MAX_RELATED, Prompt, needed, render, size
from testops_lib.generate.llm.provider import ModelLimits, Provider
from testops_lib.model import SAFE_METHODS, Policy, Value
from testops_lib.spec.operation import Operation, Spec

_USUAL_CASE = 400
"""Output tokens of a case."""


class CostEstimate(Value, frozen=True, kw_only=True):
    """What a generation would take, estimated without calling anyone. Repair rounds come on top."""

    source: str
    model: str = ""
    operations: int = 0
    calls: int = 0
    input_tokens: int = 0
    """Estimated, rather too many: a third of the bytes."""
    output_tokens: int = 0
    """Estimated: as many cases as are asked for, of a usual length, and no thinking."""
    money: float | None = None
    """For these; None: the model's price is not known."""
    currency: str = ""


class Brief(Value, frozen=True, kw_only=True):
    """What all prompts of one generation rest on."""

    spec: Spec
    policy: Policy
    limits: ModelLimits
    identities: tuple[str, ...] = ()
    values: Mapping[str, tuple[Any, ...]]
    secrets: tuple[str, ...] = ()
    instruction: str = ""
    gaps: Mapping[str, Gap]
    """Operation -> what is still to be gained of it, and what the API answered."""


class CallGroup(Value, frozen=True, kw_only=True):
    """What one call is about."""

    operations: tuple[Operation, ...]
    related: tuple[Operation, ...]
    """Which steps may use as well."""
    shared: tuple[str, ...] = ()
    """Definitions that the calls about this resource have in common."""

    @property
    def keys(self) -> tuple[str, ...]:
        return tuple(operation.key for operation in self.operations)


def plan(
    provider: Provider,
    spec: Spec,
    operations: Sequence[Operation],
    *,
    policy: Policy,
    values: Mapping[str, tuple[Any, ...]] | None = None,
    identities: Sequence[str] = (),
) -> CostEstimate:
    """The calls that `generate` would make first, their tokens and their price, without a key and calling nobody."""
    limits = provider.limits
    brief = Brief(
        spec=spec, policy=policy, limits=limits, identities=tuple(identities), values=dict(values or {}), gaps={}
    )
    wanted = callable_operations(spec, operations, policy)
    groups = list(grouped(brief, wanted))
    input_tokens = sum(
        (size(prompt_of(brief, group)) + schema_bytes(answer_schema(brief, group))) // 3 for group in groups
    )
    output_tokens = len(wanted) * limits.cases_per_operation * _USUAL_CASE
    return CostEstimate(
        source=provider.source,
        model=provider.model,
        operations=len(wanted),
        calls=len(groups),
        input_tokens=input_tokens,
        output_tokens=output_tokens,
        currency=limits.currency,
        money=money(limits.price, input_tokens=input_tokens, output_tokens=output_tokens),
    )


def callable_operations(spec: Spec, operations: Sequence[Operation], policy: Policy) -> list[Operation]:
    """Those of the operations that the document describes well enough and the policy allows."""
    return [
        operation
        for operation in operations
        if operation.key not in spec.unusable and (policy.methods == "all" or operation.method in SAFE_METHODS)
    ]


def prompt_of(brief: Brief, group: CallGroup) -> Prompt:
    return render(
        brief.spec,
        group.operations,
        policy=brief.policy,
        cases=brief.limits.cases_per_operation,
        identities=brief.identities,
        values=brief.values,
        related=group.related,
        secrets=brief.secrets,
        shared=group.shared,
        instruction=brief.instruction,
        gaps=brief.gaps,
    )


def answer_schema(brief: Brief, group: CallGroup, *, repair: int = 0) -> dict[str, Any]:
    """The JSON Schema of the answer; `repair`: to a call that asks for the repair of so many cases."""
    keys = [operation.key for operation in (*group.operations, *group.related)]
    most = repair or brief.limits.cases_per_operation * len(group.operations)
    return schema(keys, brief.identities, cases=most, repair=bool(repair))


def schema_bytes(answer: dict[str, Any]) -> int:
    return len(msgspec.json.encode(answer))


def grouped(brief: Brief, operations: Sequence[Operation]) -> Iterator[CallGroup]:
    """Operations of one resource together, at most `operations_per_call`; resources by their first operation.

    Small resources share a call. The calls of a larger one have the definitions in common that two of them need.
    """
    resources: dict[str, list[Operation]] = {}
    for operation in operations:
        resources.setdefault(_resource(operation), []).append(operation)
    most = max(1, brief.limits.operations_per_call)
    waiting: list[Operation] = []

    def group(members: Sequence[Operation]) -> CallGroup:
        return CallGroup(operations=tuple(members), related=tuple(_related(brief, members)))

    for members in resources.values():
        if len(waiting) + len(members) <= most:
            waiting += members
            continue
        if waiting:
            yield group(waiting)
            waiting = []
        if len(members) <= most:
            waiting = list(members)
            continue
        parts = [group(members[first : first + most]) for first in range(0, len(members), most)]
        uses = Counter(name for part in parts for name in needed(brief.spec, [*part.operations, *part.related]))
        shared = tuple(name for name, count in uses.items() if count > 1)
        for part in parts:
            yield msgspec.structs.replace(part, shared=shared)
    if waiting:
        yield group(waiting)


def _resource(operation: Operation) -> str:
    """The path up to its first parameter: `/shops/{id}/pets` belongs to `/shops`."""
    return operation.path.split("/{", 1)[0].rstrip("/")


def _related(brief: Brief, group: Sequence[Operation]) -> list[Operation]:
    """Operations of the same resources that steps may need: what creates, reads and deletes, creators first."""
    keys = {operation.key for operation in group}
    resources = {_resource(operation) for operation in group}
    ranks = {"POST": 0, "GET": 1, "DELETE": 2, "PUT": 3}
    candidates = [
        operation
        for operation in callable_operations(brief.spec, brief.spec.operations, brief.policy)
        if operation.key not in keys
        and operation.method in ranks
        and _resource(operation) in resources
        and not operation.deprecated
    ]
    candidates.sort(key=lambda operation: (ranks[operation.method], len(operation.path)))
    return candidates[:MAX_RELATED]
