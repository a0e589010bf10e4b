"""What a run tests: operations in scope, their contracts, the runners' plan, the order of the cases. Pure."""

from __future__ import annotations

import fnmatch
from collections.abc import Iterable

from testops_lib import spec as specs
from testops_lib.errors import TargetError
from testops_lib.generate import rules
from testops_lib.generate.rules.own_account import spares
from testops_lib.generate.rules.ownership import with_ownership
from testops_lib.generate.rules.words import plain as plain_name
from testops_lib.generate.sequence import order
from testops_lib.model import (
    Case,
    Contract,
    Plan,
)
from testops_lib.spec.operation import Operation, Spec
from testops_lib.target import Target


def in_scope(spec: Spec, target: Target) -> tuple[Operation, ...]:
    """The operations to test, in document order: included, not excluded, allowed by the policy.

    Raises:
        TargetError: none is left.
    """
    scope = target.operations
    chosen = specs.select(spec, patterns=scope.include, tags=scope.tags, safe_only=target.policy.methods == "safe")
    if scope.exclude:
        excluded = {operation.key for operation in specs.select(spec, patterns=scope.exclude)}
        chosen = tuple(operation for operation in chosen if operation.key not in excluded)
    if not chosen:
        raise TargetError(
            f"none of the {len(spec.operations)} operations is in scope",
            where=target.name or spec.source,
            next_step="check the operations filter, the tags and the policy's methods",
        )
    return chosen


def not_tested(spec: Spec, target: Target) -> dict[str, str]:
    """Operations in scope that the document describes beyond use, or that would do harm -> why."""
    scope = target.operations
    left_out = tuple(f"!{pattern.removeprefix('!')}" for pattern in scope.exclude)
    unusable = specs.select_unusable(
        spec, patterns=(*scope.include, *left_out), tags=scope.tags, safe_only=target.policy.methods == "safe"
    )
    harmful = rules.left_out(spec, policy=target.policy, spares=spares(target.identities))
    try:
        chosen = in_scope(spec, target)
    except TargetError:
        return unusable
    return unusable | {operation.key: harmful[operation.key] for operation in chosen if operation.key in harmful}


def documented(operations: Iterable[Operation]) -> dict[str, tuple[str, ...]]:
    """Operation key -> documented statuses: what a report must list."""
    return {operation.key: tuple(operation.responses) for operation in operations}


def make_plan(spec: Spec, target: Target, base_url: str = "") -> Plan:
    """What a runner must know of the target. Holds references to secrets, never a secret.

    Without `base_url` it is what the target, or the document at its `spec`, says.
    """
    return Plan(
        target=target.name,
        base_url=base_url or specs.base_url(spec, target.spec, target.base_url),
        policy=target.policy,
        identities=target.identities,
        tls=target.tls,
        given=_given(spec, target),
        spec_title=spec.title,
        spec_hash=spec.content_hash,
    )


def _given(spec: Spec, target: Target) -> dict[str, tuple[str, ...]]:
    """The values that the target file states for path parameters: a person chose these things."""
    wildcards = ("~", "*", "-")
    stated = {
        plain_name(name): tuple(str(value) for value in values if value not in wildcards)
        for name, values in target.values.items()
    }
    names = {
        parameter.name
        for operation in spec.operations
        for parameter in operation.parameters
        if parameter.where == "path"
    }
    return {name: stated[plain_name(name)] for name in sorted(names) if plain_name(name) in stated}


def make_contracts(spec: Spec, target: Target) -> dict[str, Contract]:
    """The contract of every operation of the spec, with what the target declares as expected."""
    contracts = {
        operation.key: specs.contract(spec, operation, accepted_statuses=_accepted(target, operation))
        for operation in spec.operations
    }
    contracts = rules.with_existing(contracts, spec, policy=target.policy, values=target.values)
    return with_ownership(contracts, spec, target.policy)


def _accepted(target: Target, operation: Operation) -> tuple[int, ...]:
    statuses = {
        status
        for expected in target.expected
        if fnmatch.fnmatchcase(operation.key, expected.operation)
        for status in expected.statuses
    }
    return tuple(sorted(statuses))


def arrange(cases: Iterable[Case], spec: Spec, target: Target) -> tuple[Case, ...]:
    """The cases in the order in which every prefix is the best use of that many, cut at the target's limit."""
    unique = {case.id: case for case in cases}
    ordered = order(unique.values(), spec)
    return ordered[: target.generate.max_cases] if target.generate.max_cases else ordered
