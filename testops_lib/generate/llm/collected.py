"""What a model proposed -> cases: valid, different, as many as were asked for; what is dropped is counted."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from testops_lib.generate.llm.calls import CallGroup
from testops_lib.generate.proposals.problem import Problem
from testops_lib.generate.proposals.validator import Validator
from testops_lib.model import Case

RefusedCases = list[tuple[Any, tuple[Problem, ...]]]
"""Proposed cases as they came, each with what is wrong with it."""


class CollectedCases:
    """The cases of one generation, each call's apart."""

    def __init__(self, validator: Validator, *, cases_per_operation: int) -> None:
        self._validator = validator
        self._cases_per_operation = cases_per_operation
        self.dropped: Counter[str] = Counter()
        """Reason -> count."""

    def sort(self, proposed: Sequence[Any], group: CallGroup, cases: list[Case]) -> RefusedCases:
        """Adds the valid ones to `cases`, within the number asked for; the result are the refused ones."""
        most = self._cases_per_operation * len(group.operations)
        self.dropped["surplus"] += max(0, len(proposed) - most)
        refused: RefusedCases = []
        for raw in proposed[:most]:
            judged = self._judge(raw, group)
            if isinstance(judged, Case):
                self._keep(judged, cases)
            else:
                refused.append((raw, judged))
        return refused

    def sort_repaired(
        self, repaired: Sequence[Any], refused: RefusedCases, group: CallGroup, cases: list[Case]
    ) -> None:
        """Adds the repaired cases: each replaces the refused one whose number it names. The others are dropped."""
        reasons = [problems[0].rule for _, problems in refused]
        open_numbers = set(range(len(refused)))
        for position, raw in enumerate(repaired):
            number = raw.get("repairs", position) if isinstance(raw, Mapping) else position
            if isinstance(number, bool) or not isinstance(number, int) or number not in open_numbers:
                self.dropped["surplus"] += 1
                continue
            judged = self._judge(raw, group)
            if isinstance(judged, Case):
                open_numbers.discard(number)
                self._keep(judged, cases)
            else:
                reasons[number] = judged[0].rule
        self.dropped.update(reasons[number] for number in sorted(open_numbers))

    def _judge(self, raw: Any, group: CallGroup) -> Case | tuple[Problem, ...]:
        if isinstance(raw, Mapping):
            raw = {name: value for name, value in raw.items() if name != "repairs"}
        return self._validator.check(raw, asked=group.keys)

    def drop(self, refused: RefusedCases) -> None:
        """Counts refused cases that nobody repairs."""
        self.dropped.update(problems[0].rule for _, problems in refused)

    def _keep(self, case: Case, cases: list[Case]) -> None:
        if any(case.id == other.id for other in cases):
            self.dropped["duplicate"] += 1
        elif sum(case.operation == other.operation for other in cases) >= self._cases_per_operation:
            self.dropped["surplus"] += 1
        else:
            cases.append(case)

    def in_order(self, cases: Sequence[Case], operations: Sequence[str]) -> tuple[Case, ...]:
        """Different cases by the order of their operations, positive ones first."""
        places = {key: place for place, key in enumerate(operations)}
        unique = {case.id: case for case in cases}
        self.dropped["duplicate"] += len(cases) - len(unique)
        return tuple(
            sorted(unique.values(), key=lambda case: (places[case.operation], case.intent != "positive")),
        )
