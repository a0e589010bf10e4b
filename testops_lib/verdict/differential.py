"""Two executions of the same cases -> what was answered differently: pure.

Answers are compared by what was observed of them (`Plan.observe`): status, places of the body with their types, and
values. Ids, times, addresses of the host and the order of lists may differ.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from msgspec import structs

from testops_lib.model import DIFFERENTIAL, Failure, Result, StepOutcome, Value, VerdictName
from testops_lib.verdict.volatile import plain, volatile

OBSERVED_EACH = 5
"""Values that an outcome keeps of a place at most: where there are so many, more may have been left out."""


class Difference(Value, frozen=True, kw_only=True):
    """One step that was answered differently."""

    operation: str
    step: int
    what: str
    """`status`, `missing`, `added`, `type`, `value`."""
    place: str = ""
    """Dotted, in the body; "" for the status."""
    before: str = ""
    after: str = ""

    def message(self) -> str:
        """For people."""
        match self.what:
            case "status":
                return f"answered {self.after}, before {self.before}"
            case "missing":
                return f"the answer has no {self.place} any more"
            case "added":
                return f"the answer has {self.place}, which it had not before"
            case "type":
                return f"{self.place} is {self.after}, before {self.before}"
        return f"{self.place} is {self.after}, before {self.before}"


def compare(before: Result, after: Result) -> tuple[Difference, ...]:
    """What the second execution of a case was answered differently, step by step; after a step with another status the
    rest is not compared, since it stands on that step.
    """
    differences: list[Difference] = []
    for index, (earlier, later) in enumerate(zip(before.steps, after.steps, strict=False)):
        if earlier.operation != later.operation:
            break
        if earlier.status != later.status:
            differences.append(
                Difference(
                    operation=later.operation,
                    step=index,
                    what="status",
                    before=_status(earlier),
                    after=_status(later),
                )
            )
            break
        differences += _bodies(earlier, later, index)
    return tuple(differences)


def judged(before: Mapping[str, Result], after: Iterable[Result]) -> list[Result]:
    """The second execution's results, failed where an answer differs; what could not be compared stays as it is.

    A case that failed in the same way both times is not failed for it again: its own failures are left out, so that
    what remains is what changed.
    """
    judged_results: list[Result] = []
    for result in after:
        earlier = before.get(result.case)
        if earlier is None or not _comparable(earlier) or not _comparable(result):
            judged_results.append(result)
            continue
        failed_before = set(map(_key, earlier.failures))
        new = tuple(failure for failure in result.failures if _key(failure) not in failed_before)
        different = tuple(
            Failure(
                check=DIFFERENTIAL,
                operation=difference.operation,
                message=difference.message(),
                cause=f"{difference.what} {difference.place or difference.before + ' ' + difference.after}".strip(),
                step=difference.step,
                basis="guess" if difference.what in ("added", "value") else "spec",
            )
            for difference in compare(earlier, result)
        )
        verdict: VerdictName = "failed" if new or different else "passed"
        judged_results.append(structs.replace(result, failures=(*new, *different), verdict=verdict))
    return judged_results


def _key(failure: Failure) -> tuple[str, str, str]:
    return failure.check, failure.operation, failure.cause


def _comparable(result: Result) -> bool:
    return result.verdict in ("passed", "failed")


def _status(step: StepOutcome) -> str:
    return str(step.status) if step.status else step.error or "nothing"


def _bodies(earlier: StepOutcome, later: StepOutcome, index: int) -> Iterable[Difference]:
    def different(what: str, place: str, before: str = "", after: str = "") -> Difference:
        return Difference(
            operation=later.operation, step=index, what=what, place=place, before=before[:100], after=after[:100]
        )

    for place in (*earlier.seen, *(place for place in later.seen if place not in earlier.seen)):
        if place not in later.seen:
            yield different("missing", place)
        elif place not in earlier.seen:
            yield different("added", place)
        else:
            before, after = earlier.seen[place], later.seen[place]
            kinds = {_kind(value) for value in before}, {_kind(value) for value in after}
            if not kinds[0] & kinds[1]:
                yield different("type", place, " or ".join(sorted(kinds[0])), " or ".join(sorted(kinds[1])))
            elif not volatile(place) and max(len(before), len(after)) < OBSERVED_EACH:
                values = {plain(value) for value in before}, {plain(value) for value in after}
                if values[0] != values[1]:
                    yield different("value", place, ", ".join(sorted(values[0])), ", ".join(sorted(values[1])))


def _kind(value: str | int | float) -> str:
    return "text" if isinstance(value, str) else "a number"
