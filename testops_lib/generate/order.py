"""Cases of all operations -> one order in which every prefix is the best use of that many requests."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

from testops_lib.model import Case
from testops_lib.spec.operation import Spec


def order(cases: Iterable[Case], spec: Spec) -> tuple[Case, ...]:
    """Breadth first: the first case of every operation, cheap ones first, so producers before consumers; then turn by
    turn the next case of each. Cases that may end the session or the service (`last`) come at the very end.

    Within an operation the given order stands, except that its first positive case leads.
    """
    place = {operation.key: index for index, operation in enumerate(spec.operations)}
    queues: dict[str, list[Case]] = defaultdict(list)
    final: list[Case] = []
    for case in cases:
        (final if case.last else queues[case.operation]).append(case)
    turns: list[tuple[int, int, int, Case]] = []
    for key, queue in queues.items():
        lead = next((index for index, case in enumerate(queue) if case.intent == "positive"), 0)
        queue.insert(0, queue.pop(lead))
        late = key not in place  # about nothing the document offers: a first look at it is not worth a first turn
        for turn, case in enumerate(queue):
            turns.append((turn + late, len(case.steps), place.get(key, len(place)), case))
    turns.sort(key=lambda entry: entry[:3])
    return (*(case for *_, case in turns), *sorted(final, key=lambda case: place.get(case.operation, len(place))))
