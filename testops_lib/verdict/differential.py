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
    found: list[Difference] = []
    for index, (one, other) in enumerate(zip(before.steps, after.steps, strict=False)):
        if one.operation != other.operation:
            break
        if one.status != other.status:
            found.append(
                Difference(
                    operation=other.operation, step=index, what="status", before=_status(one), after=_status(other)
                )
            )
            break
        found += _bodies(one, other, index)
    return tuple(found)


def judged(before: Mapping[str, Result], after: Iterable[Result]) -> list[Result]:
    """The second execution's results, failed where an answer differs; what could not be compared stays as it is.

    A case that failed in the same way both times is not failed for it again: its own failures are left out, so that
    what remains is what changed.
    """
    made: list[Result] = []
    for result in after:
        earlier = before.get(result.case)
        if earlier is None or not _comparable(earlier) or not _comparable(result):
            made.append(result)
            continue
        known = {(failure.check, failure.operation, failure.cause) for failure in earlier.failures}
        own = tuple(each for each in result.failures if (each.check, each.operation, each.cause) not in known)
        different = tuple(
            Failure(
                check=DIFFERENTIAL,
                operation=each.operation,
                message=each.message(),
                cause=f"{each.what} {each.place or each.before + ' ' + each.after}".strip(),
                step=each.step,
                basis="guess" if each.what in ("added", "value") else "spec",
            )
            for each in compare(earlier, result)
        )
        verdict: VerdictName = "failed" if own or different else "passed"
        made.append(structs.replace(result, failures=(*own, *different), verdict=verdict))
    return made


def _comparable(result: Result) -> bool:
    return result.verdict in ("passed", "failed")


def _status(step: StepOutcome) -> str:
    return str(step.status) if step.status else step.error or "nothing"


def _bodies(one: StepOutcome, other: StepOutcome, index: int) -> Iterable[Difference]:
    def different(what: str, place: str, before: str = "", after: str = "") -> Difference:
        return Difference(
            operation=other.operation, step=index, what=what, place=place, before=before[:100], after=after[:100]
        )

    for place in (*one.seen, *(place for place in other.seen if place not in one.seen)):
        if place not in other.seen:
            yield different("missing", place)
        elif place not in one.seen:
            yield different("added", place)
        else:
            mine, theirs = one.seen[place], other.seen[place]
            kinds = {_kind(value) for value in mine}, {_kind(value) for value in theirs}
            if not kinds[0] & kinds[1]:
                yield different("type", place, " or ".join(sorted(kinds[0])), " or ".join(sorted(kinds[1])))
            elif not volatile(place) and max(len(mine), len(theirs)) < OBSERVED_EACH:
                values = {plain(value) for value in mine}, {plain(value) for value in theirs}
                if values[0] != values[1]:
                    yield different("value", place, ", ".join(sorted(values[0])), ", ".join(sorted(values[1])))


def _kind(value: str | int | float) -> str:
    return "text" if isinstance(value, str) else "a number"
