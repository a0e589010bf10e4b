"""What repetitions alone show of one finding."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from testops_lib.model import Failure, Result
from testops_lib.verdict.repetition import comes_back


class Proof:
    """How often the cases that show a finding showed it again when they were repeated."""

    def __init__(self) -> None:
        self.came_back: Counter[str] = Counter()
        """By case."""
        self.stayed_away: Counter[str] = Counter()
        """By case."""
        self.unclear = ""
        """Why a repetition cannot tell."""
        self._shown: dict[str, tuple[Result, Failure]] = {}

    def add(self, result: Result, failure: Failure, repetitions: Iterable[Result]) -> None:
        """Counts the repetitions of a case that shows the finding."""
        self._shown[result.case] = result, failure
        for repetition in repetitions:
            again = comes_back(failure, repetition)
            if again is None:
                self.unclear = self.unclear or repetition.reason or "the repetition was answered otherwise"
            else:
                (self.came_back if again else self.stayed_away)[result.case] += 1

    @property
    def gone(self) -> bool:
        """Every repetition that can tell passed."""
        return bool(self.stayed_away) and not self.came_back

    def example(self) -> tuple[Result, Failure] | None:
        """The case that came back most often, else the one that was repeated most often in vain."""
        tried = self.came_back or self.stayed_away
        if not tried:
            return None
        return self._shown[min(tried, key=lambda case: (-tried[case], self.stayed_away[case], case))]

    def counts(self, case: str) -> tuple[int, int]:
        """In how many executions of the case the finding showed, and of how many; (0, 0) without a repetition."""
        repeated = self.came_back[case] + self.stayed_away[case]
        return (1 + self.came_back[case], 1 + repeated) if repeated else (0, 0)
