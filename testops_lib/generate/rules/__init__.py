"""Cases from the document alone: the same document, the same cases, in the same order."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

from testops_lib.generate import Generated, wire
from testops_lib.generate.feedback import Feedback
from testops_lib.generate.planning import OPERATION_BYTES, PlanningLimit, within_size
from testops_lib.generate.rules import existing
from testops_lib.generate.rules.builder import ORIGIN, CaseBuilder
from testops_lib.generate.rules.chains import Chains
from testops_lib.generate.rules.drafts import Drafter
from testops_lib.generate.rules.making import Impossible
from testops_lib.generate.rules.oracles import Oracles, Users
from testops_lib.generate.rules.own_account import Spares
from testops_lib.generate.rules.ownership import Guard, Things
from testops_lib.generate.rules.planner import Planner, Untested
from testops_lib.generate.rules.pool import Pool
from testops_lib.generate.rules.resources import Graph
from testops_lib.generate.rules.values import Maker
from testops_lib.generate.schemas import Schemas
from testops_lib.model import Case, Contract, Generation, Policy, Provenance
from testops_lib.spec.operation import Spec


def generate(
    spec: Spec,
    *,
    operations: Collection[str] | None = None,
    policy: Policy,
    values: Mapping[str, tuple[Any, ...]] | None = None,
    identities: Sequence[str] = (),
    spares: Spares | None = None,
    max_cases_per_operation: int = 0,
    feedback: Feedback | None = None,
    users: Users = "unknown",
    tell: Callable[[Sequence[Case]], None] = lambda cases: None,
) -> Generated:
    """The cases of `operations` (keys; None: all), by operation in the spec's order, the most valuable first.

    Steps that prepare a case may call any operation that `policy` allows. `values` (by parameter or field name) win
    over everything that the document says. Operations that may end the session, change the caller's account or end the
    service run under `spares`; `users` says whether what one identity makes is hidden from the others.
    `max_cases_per_operation`: 0 keeps all.

    With the `feedback` of an earlier round, the cases are those for its gaps among the operations: with values that
    were seen, with what refusals ask for, and with more than one try; some may have been made before.

    `tell` gets the cases of each operation as soon as they are made.
    """
    if feedback is not None:
        gaps = {gap.operation for gap in feedback.gaps}
        operations = gaps if operations is None else gaps & set(operations)
    planner = planner_for(spec, policy=policy, values=values, identities=identities, spares=spares, feedback=feedback)
    graph = planner.graph
    chains = Chains(graph, planner.schemas, planner.drafter)
    oracles = Oracles(graph, planner.schemas, planner.drafter, chains, identities, users)
    cases: list[Case] = []
    ids: set[str] = set()
    dropped: Counter[str] = Counter()
    notes: list[str] = []
    not_tested: dict[str, str] = {}
    for operation in spec.operations:
        if operations is not None and operation.key not in operations:
            continue
        if operation.key in spec.unusable:
            continue
        if not graph.allowed(operation):
            dropped["method not allowed"] += 1
            continue
        found: list[Case] = []
        planner.schemas.planning.begin()
        try:
            if operation.body is not None and not wire.media_types(operation.body):
                sort = ", ".join(operation.body.content) or "no media type"
                if operation.body.required:
                    raise Impossible(f"its body is only documented as {sort}, which cannot be written")
                notes.append(f"{operation.key}: sent without a body, which is only documented as {sort}")
            for case in planner.plan(operation, chains.plan(operation), chained=chains.readable(operation)):
                found.append(case)  # one by one: what is made before a limit counts
            for case in oracles.plan(operation):
                found.append(case)
        except Untested as reason:
            not_tested[operation.key] = str(reason)
            dropped["not to be called"] += 1
        except Impossible as reason:
            not_tested[operation.key] = f"no valid request could be made: {reason}"
            dropped["no valid request"] += 1
        except PlanningLimit as reason:
            if found:
                notes.append(f"{operation.key}: has only {len(found)} cases: {reason}")
            else:
                not_tested[operation.key] = str(reason)
            dropped["took too long to plan"] += 1
        except (TypeError, ValueError, KeyError, RecursionError, OverflowError) as error:
            # A schema that no loader could foresee costs its own operation its cases, not the others theirs.
            not_tested[operation.key] = f"could not be planned: {type(error).__name__}: {error}"[:300]
            dropped["could not be planned"] += 1
        planner.schemas.planning.end()
        if policy.methods == "all":
            at = [other for other in graph.at(operation.path) if other.path == operation.path]
            first = next((other for other in at if other.method == "GET"), at[0])
            if first.key == operation.key:
                found.extend(planner.unsupported(at))
        fresh = [case for case in found if not (case.id in ids or ids.add(case.id))]  # type: ignore[func-returns-value]
        dropped["duplicate"] += len(found) - len(fresh)
        if max_cases_per_operation > 0:
            dropped["beyond the limit"] += max(0, len(fresh) - max_cases_per_operation)
            fresh = fresh[:max_cases_per_operation]
        kept = within_size(fresh)
        if len(kept) < len(fresh):
            size = f"{OPERATION_BYTES / 1_000_000:g} MB"
            dropped["beyond the size of an operation's cases"] += len(fresh) - len(kept)
            if kept:
                notes.append(f"{operation.key}: has only {len(kept)} cases of {len(fresh)}: they fill {size}")
            else:
                not_tested[operation.key] = f"one request alone is larger than {size}"
        cases.extend(kept)
        tell(kept)
    return Generated(
        cases=tuple(cases),
        generation=Generation(
            source="rules", cases=len(cases), dropped=dict(+dropped), notes=tuple(notes), not_tested=not_tested
        ),
    )


def with_existing(
    contracts: Mapping[str, Contract], spec: Spec, *, policy: Policy, values: Mapping[str, tuple[Any, ...]]
) -> dict[str, Contract]:
    """The contracts with where things can be had from that exist already, for whoever may not make them."""
    planner = planner_for(spec, policy=policy, values=values)
    return existing.with_existing(contracts, planner.graph, planner.drafter)


def left_out(spec: Spec, *, policy: Policy, spares: Spares) -> dict[str, str]:
    """Operations that no source calls -> why: they would lock the caller out, or concern all things of a collection."""
    planner = planner_for(spec, policy=policy, spares=spares)
    reasons = ((operation.key, planner.left_out(operation)) for operation in spec.operations)
    return {key: why for key, why in reasons if why}


def planner_for(
    spec: Spec,
    *,
    policy: Policy,
    values: Mapping[str, tuple[Any, ...]] | None = None,
    identities: Sequence[str] = (),
    spares: Spares | None = None,
    feedback: Feedback | None = None,
    origin: Provenance = ORIGIN,
) -> Planner:
    """What drafts requests for the operations of a spec and makes cases of them, for whichever source."""
    schemas = Schemas(spec.definitions)
    graph = Graph(spec, schemas, policy)
    maker = Maker(schemas, values or {})
    pool = Pool(feedback.seen if feedback else {}, graph.by_key)
    guard = Guard(Things(graph, schemas), policy)
    drafter = Drafter(graph, schemas, maker, _credentials(spec), pool, guard)
    builder = CaseBuilder(graph, schemas, maker, drafter, policy, spares_of(identities, spares), origin)
    return Planner(builder, feedback)


def spares_of(identities: Sequence[str], spares: Spares | None) -> Spares:
    """As given; without, the second identity stands for both."""
    if spares is not None:
        return spares
    return Spares(session=identities[1], account=identities[1]) if len(identities) > 1 else Spares()


def _credentials(spec: Spec) -> frozenset[tuple[str, str]]:
    """Where API keys go: place and lower-case name. The runner sets them, never a case."""
    return frozenset(
        (scheme.where, scheme.name.lower()) for scheme in spec.security_schemes.values() if scheme.kind == "apiKey"
    )
