"""Which failed cases of a run are repeated alone, and what a repetition shows of a failure: pure."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Final

from msgspec import Struct, structs

from testops_lib.model import SAFE_METHODS, SEVERITIES, Case, Failure, Result
from testops_lib.verdict.fingerprint import fingerprint_of

BUDGET_SPENT: Final = "budget spent"
RUNS_LAST: Final = "its case runs last"

TIMES: Final = 2
"""How often a case is repeated at most."""

MOST_CASES: Final = 4
"""Cases of one failure that are repeated when the first passes: another cause may look the same."""

MOST_FAILURES: Final = 200
"""Failures, by fingerprint, that are repeated in one run."""

_SHARE: Final = 10
_LEAST_REQUESTS: Final = 200

_SPARE: Final = 1
"""Requests set aside beyond those of the first execution, which may have left out some of the case's cleanup."""

_RANK: Final = {check: rank for rank, check in enumerate(SEVERITIES)}

_NO_STATEMENT = frozenset({401, 429, 503})
"""Answers that say something of the session or of the load, not of the case."""


def split(results: Iterable[Result]) -> tuple[list[Result], list[Result]]:
    """The results of the run itself, and those of repetitions."""
    own: list[Result] = []
    repeated: list[Result] = []
    for result in results:
        (repeated if result.repeat else own).append(result)
    return own, repeated


Lookup = Callable[[Collection[str]], Mapping[str, Case]]
"""Ids -> the cases that are known."""


def most_requests(limit: int, sent: int) -> int:
    """Requests that repetitions may take: a tenth of the limit; without one (0) a tenth of those sent, at least 200."""
    return limit // _SHARE if limit else max(_LEAST_REQUESTS, sent // _SHARE)


def comes_back(failure: Failure, repetition: Result) -> bool | None:
    """Whether the repetition of a failed case shows the failure again; None where it cannot tell.

    It cannot when it did not get as far as the failing step, when another failure of the same check stands in its
    place, and when the answer says that the target is busy or the session over.
    """
    wanted = fingerprint_of(failure)
    if wanted in map(fingerprint_of, repetition.failures):
        return True
    answers = [step for step in repetition.steps if (step.operation, step.sent) == (failure.operation, failure.sent)]
    if repetition.verdict not in ("passed", "failed") or not answers:
        return None
    if any((other.operation, other.check) == (failure.operation, failure.check) for other in repetition.failures):
        return None
    steps = repetition.steps
    aligned = failure.step < len(steps) and steps[failure.step].operation == failure.operation
    status = steps[failure.step].status if aligned else answers[-1].status
    return None if not status or status in _NO_STATEMENT else False


class _Shown(Struct, frozen=True, order=True):
    """One case that shows a failure; the least is repeated first."""

    rank: tuple[bool, int, int, str]
    """Guesses last, then by requests, bytes of bodies, and id."""
    result: Result
    """Without its evidence."""
    failure: Failure

    @property
    def case(self) -> str:
        return self.result.case

    @property
    def cost(self) -> int:
        return self.rank[1]


class Repetitions:
    """Chooses what to repeat, from the results of a run as they come.

    At first one case of each failure, the cheapest with the firmest check, the most severe failures first. A case that
    did not show its failure again is repeated once more, and so are other cases with a failure of the same fingerprint.

    Args:
        lookup: gives the cases.
        limit: most requests of the run, 0 for none; a tenth of them is for repetitions.
    """

    def __init__(self, lookup: Lookup, *, limit: int = 0) -> None:
        self._lookup, self._limit = lookup, limit
        self._shown: dict[str, list[_Shown]] = {}
        self._repeated: dict[str, list[Result]] = {}
        self._cases: dict[str, Case] = {}
        self._covered: set[str] = set()
        self._sent = self._planned = self._set_aside = self._turn = 0
        self.left_out: list[Result] = []
        """For each failure that is not repeated a skipped repetition with the reason."""

    def add(self, result: Result) -> int:
        """Takes a result into account; gives how many requests to set aside for its repetition."""
        if result.repeat:
            self._repeated.setdefault(result.case, []).append(result)
            return 0
        self._sent += result.requests
        if result.verdict != "failed":
            return 0
        wanted = 0
        bare = structs.replace(result, steps=(), failures=())
        requests = max(result.requests, len(result.steps), 1)
        size = sum(step.request.body_bytes for step in result.steps if step.request)
        for failure in result.failures:
            shown = self._shown.setdefault(fingerprint_of(failure), [])
            if any(showing.case == result.case for showing in shown):
                continue
            if not shown:
                wanted = requests + (0 if _only_reads(result) else _SPARE)
            shown.append(_Shown((failure.basis == "guess", requests, size, result.case), bare, failure))
            shown.sort()
            del shown[MOST_CASES:]
        wanted = min(wanted, most_requests(self._limit, self._sent) - self._set_aside)
        self._set_aside += max(0, wanted)
        return max(0, wanted)

    def next(self) -> list[Case]:
        """The repetitions to execute now, in this order and one at a time; none when there is nothing left to learn."""
        self._turn += 1
        if self._turn == 1:
            return self._first()
        return self._second() if self._turn == TIMES else []

    def all_at_once(self) -> list[Case]:
        """What `next` could give in all its turns, for those who cannot look at the results between them."""
        return [*self._first(), *self._second()]

    def _first(self) -> list[Case]:
        """One case of each failure; a case that shows several failures once."""
        ids = [showing.case for shown in self._shown.values() for showing in shown]
        self._cases = dict(self._lookup(ids))
        chosen: list[Case] = []
        covered: set[str] = set()
        for shown in self._ordered():
            able = [showing for showing in shown if self._repeatable(showing)]
            if not able:
                self.left_out.append(_skipped(shown[0].result, RUNS_LAST))
            elif not any(showing.case in covered for showing in able):
                case = self._affordable(able[0], 1) if len(chosen) < MOST_FAILURES else None
                if case is None:
                    self.left_out.append(_skipped(able[0].result, BUDGET_SPENT))
                else:
                    covered.add(case.id)
                    chosen.append(case)
        self._covered = covered
        return chosen

    def _second(self) -> list[Case]:
        """Of each failure that has not come back its case again, and then other cases that show it."""
        doubtful = [shown for shown in self._ordered() if not self._came_back(shown)]
        candidates = [showing for shown in doubtful for showing in shown]
        again = [showing for showing in candidates if showing.case in self._covered]
        others = [showing for showing in candidates if showing.case not in self._covered]
        chosen: dict[str, Case] = {}
        for showing in (*again, *others):
            if showing.case in chosen or not self._repeatable(showing):
                continue
            case = self._affordable(showing, TIMES if showing.case in self._covered else 1)
            if case is not None:
                chosen[case.id] = case
        return list(chosen.values())

    def _ordered(self) -> list[list[_Shown]]:
        """The cases of each failure, the most severe failure first."""
        return sorted(self._shown.values(), key=lambda shown: (_severity(shown[0].failure), shown[0].rank))

    def _repeatable(self, shown: _Shown) -> bool:
        return shown.case in self._cases and not self._cases[shown.case].last

    def _came_back(self, shown: list[_Shown]) -> bool:
        return any(
            comes_back(showing.failure, repetition)
            for showing in shown
            for repetition in self._repeated.get(showing.case, ())
        )

    def _affordable(self, shown: _Shown, repeat: int) -> Case | None:
        """The repetition, if enough requests are left for it."""
        case = self._cases[shown.case]
        cost = max(shown.cost, len(case.steps) + len(case.cleanup))
        if self._planned + cost > most_requests(self._limit, self._sent):
            return None
        self._planned += cost
        return structs.replace(case, repeat=repeat)


def _only_reads(result: Result) -> bool:
    """All that was sent makes nothing, so that there is nothing to clean up."""
    methods = [step.request.method if step.request else step.operation.partition(" ")[0] for step in result.steps]
    return bool(methods) and SAFE_METHODS.issuperset(methods)


def _skipped(result: Result, reason: str) -> Result:
    return structs.replace(
        result, verdict="skipped", reason=reason, repeat=1, requests=0, elapsed_ms=0, started=None, passed_again=0
    )


def _severity(failure: Failure) -> tuple[bool, int]:
    """Least for what is repeated first."""
    return failure.basis == "guess", _RANK.get(failure.check, len(_RANK))
