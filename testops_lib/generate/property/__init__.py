"""Random cases, the same ones every time: what rules draft, with random data in the parts that are free.

Each operation is drawn for on its own: its cases depend on the document, the seed and nothing else.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

from testops_lib.generate import Generated
from testops_lib.generate.feedback import Feedback
from testops_lib.generate.planning import PlanningLimit, within_size
from testops_lib.generate.property.draws import Draws
from testops_lib.generate.property.random_cases import ORIGIN, Lost, RandomCases
from testops_lib.generate.rules import planner_for
from testops_lib.generate.rules.making import Impossible
from testops_lib.generate.rules.own_account import Spares
from testops_lib.model import Case, Generation, Policy
from testops_lib.spec.operation import Spec


def generate(
    spec: Spec,
    *,
    operations: Collection[str] | None = None,
    policy: Policy,
    values: Mapping[str, tuple[Any, ...]] | None = None,
    identities: Sequence[str] = (),
    spares: Spares | None = None,
    examples: int = 10,
    seed: int = 0,
    feedback: Feedback | None = None,
    looks: bool = False,
    tell: Callable[[Sequence[Case]], None] = lambda cases: None,
) -> Generated:
    """The random cases of `operations` (keys; None: all), by operation in the spec's order, valid and invalid in turn.

    At most `examples` of either kind an operation, and one where its requests leave nothing free. Operations that may
    end the session or the service have none. With the `feedback` of an earlier round: of its gaps alone, around
    values that were seen. With `looks` a first look at every operation, without random data, comes before all else.
    `tell` gets the cases of each operation as soon as they are made.

    Raises:
        GenerateError: Schemathesis is not installed.
    """
    if feedback is not None:
        gaps = {gap.operation for gap in feedback.gaps}
        operations = gaps if operations is None else gaps & set(operations)
    planner = planner_for(
        spec, policy=policy, values=values, identities=identities, spares=spares, feedback=feedback, origin=ORIGIN
    )
    cases: list[Case] = []
    ids: set[str] = set()
    dropped: Counter[str] = Counter()
    notes: list[str] = []
    not_tested: dict[str, str] = {}
    with Draws() as draws:
        maker = RandomCases(planner, draws, examples=examples, seed=seed)
        wanted = [operation for operation in spec.operations if operations is None or operation.key in operations]
        for looking in (True, False) if looks else (False,):
            for operation in wanted:
                if operation.key in spec.unusable or operation.key in not_tested:
                    continue
                if not planner.graph.allowed(operation):
                    dropped["method not allowed"] += not looking
                    continue
                planner.schemas.planning.begin()
                try:
                    found, lost = (maker.look(operation), Lost()) if looking else maker.make(operation)
                except PlanningLimit as reason:
                    not_tested[operation.key] = str(reason)
                    dropped["took too long to plan"] += 1
                    continue
                except Impossible as reason:
                    not_tested[operation.key] = f"no valid request could be made: {reason}"
                    dropped["no valid request"] += 1
                    continue
                except (TypeError, ValueError, KeyError, RecursionError, OverflowError) as error:
                    # A schema that no loader could foresee costs its own operation its cases, not the others theirs.
                    not_tested[operation.key] = f"could not be drawn: {type(error).__name__}: {error}"[:300]
                    dropped["could not be drawn"] += 1
                    continue
                notes.extend(f"{operation.key}: {note}" for note in lost.notes)
                dropped.update(lost.dropped)
                fresh = [case for case in found if not (case.id in ids or ids.add(case.id))]  # type: ignore[func-returns-value]
                dropped["duplicate"] += len(found) - len(fresh)
                kept = within_size(fresh)
                dropped["beyond the size of an operation's cases"] += len(fresh) - len(kept)
                cases.extend(kept)
                tell(kept)
    return Generated(
        cases=tuple(cases),
        generation=Generation(
            source="property", cases=len(cases), dropped=dict(+dropped), notes=tuple(notes), not_tested=not_tested
        ),
    )
