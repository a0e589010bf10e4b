"""What a run has learned of its rights, and how a case is executed that may not make what it needs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple

from msgspec import structs

from testops_lib.execute.prepare import placeholders
from testops_lib.model import (
    SAFE_METHODS,
    AnyCheck,
    Capture,
    Contract,
    EnsureResourceAvailability,
    Existing,
    JsonBody,
    JsonPathIs,
    ObjectLevelAuthorization,
    PositiveDataAcceptance,
    Request,
    Step,
    UseAfterFree,
)

REFUSING: Final = frozenset({401, 403, 404, 405, 501})
"""Statuses that say: you may not, or not here."""

_NOT_FOUND: Final = 404

_UNFIT: Final = frozenset({400, 422})
"""Statuses that say: not with this data."""

_UNIQUE: Final = "unique"

_ENOUGH: Final = 2
"""So many refusals and no success, and an operation is not asked again."""

_OF_WHAT_WAS_MADE = (EnsureResourceAvailability, ObjectLevelAuthorization, UseAfterFree)
_OF_ITS_CONTENT: Final = frozenset({"exists", "equals", "contains"})


class Detour(NamedTuple):
    """The steps of a case, or what is left of them, without those that are refused."""

    steps: tuple[Step, ...] = ()
    captured: Mapping[str, Any] = {}
    """Values that stand for what a refused step would have given."""
    foreign: frozenset[str] = frozenset()
    """Names of captures whose values are resources that the case did not create."""
    stands_for: Mapping[int, Step] = {}
    """`id` of a new step -> the refused one."""
    why: str = ""
    """Not empty: it cannot be executed."""


class Rights:
    """What a run has learned of what it may do. Belongs to one engine: several runners learn each for itself."""

    def __init__(self, contracts: Mapping[str, Contract], foreign: str) -> None:
        self._existing = {key: contract.existing for key, contract in contracts.items() if contract.existing}
        self._foreign = foreign
        self._succeeded: set[str] = set()
        self._refusals: Counter[str] = Counter()
        self._statuses: dict[str, int] = {}
        self.learned = False
        """Something is refused."""
        self._useless: set[tuple[str, str]] = set()
        self._accepted: dict[str, dict[str, Any]] = {}
        self._unfit: Counter[str] = Counter()

    def note(self, operation: str, status: int) -> None:
        """Notes what a request was answered that should have succeeded."""
        if 200 <= status < 300:
            self._succeeded.add(operation)
        elif status in REFUSING:
            self._refusals[operation] += 1
            self._statuses[operation] = status
            self.learned = True

    def note_request(self, step: Step, status: int) -> None:
        """Notes whether the operation takes the unsafe request of this step, as far as its data decide that."""
        if step.identity:
            return
        sent = _members(step.request)
        if status in _UNFIT and step.setup:
            self._unfit[step.operation] += 1
        elif 200 <= status < 300 and sent and not placeholders(step.request.body) - {_UNIQUE}:
            accepted = self._accepted.setdefault(step.operation, sent)
            if step.setup and not accepted.keys() <= sent.keys():
                self._unfit[step.operation] = 0  # it takes less as well

    def as_accepted(self, step: Step, *, refused: bool = False) -> Step | None:
        """A preparing step with all members of a body that its operation has taken in this run, its own values kept.

        `refused`: it was refused just now; else twice before. None: nothing better is known.
        """
        accepted = self._accepted.get(step.operation)
        fewest = 1 if refused else _ENOUGH
        if accepted is None or not step.setup or step.identity or self._unfit[step.operation] < fewest:
            return None
        members, body = _members(step.request), step.request.body
        if not isinstance(body, JsonBody) or members is None or accepted.keys() <= members.keys():
            return None
        better = structs.replace(body, value={**accepted, **members})
        return structs.replace(step, request=structs.replace(step.request, body=better))

    def note_useless(self, step: Step) -> None:
        """Notes that a list did not give what was looked for."""
        self._useless.add((step.operation, step.request.path))

    def note_cleanup(self, step: Step, status: int) -> None:
        """Notes what a request was answered that was to remove what a case made."""
        if not step.identity and status != _NOT_FOUND:  # gone already
            self.note(step.operation, status)

    def denied(self, step: Step) -> int:
        """The status with which the API refuses to remove resources; 0 while no refusal is known."""
        key = step.operation
        status = 0 if step.identity or key in self._succeeded else self._statuses.get(key, 0)
        return status if status != _NOT_FOUND and self._refusals[key] >= _ENOUGH else 0

    def refused(self, step: Step) -> str:
        """Why the step is not to be sent; "" when it may be."""
        key = step.operation
        if not step.setup or step.identity or key in self._succeeded or self._refusals[key] < _ENOUGH:
            return ""
        return in_words(key, self._statuses[key])

    def around(self, steps: Sequence[Step], refused: Callable[[Step], str]) -> Detour:
        """The steps, with things that exist in place of those that `refused` gives a reason for."""
        return around(steps, refused, self._ways, may_write=self._foreign == "write")

    def _ways(self, step: Step) -> Iterator[Existing]:
        for way in self._existing.get(step.operation, ()) if self._foreign != "never" else ():
            if not way.operation:
                yield way
                continue
            assert way.request is not None
            request = structs.replace(way.request, path=step.request.path) if way.beside else way.request
            useless = (way.operation, request.path) in self._useless
            if not useless and (way.operation in self._succeeded or self._refusals[way.operation] < _ENOUGH):
                yield structs.replace(way, request=request)


def in_words(operation: str, status: int) -> str:
    """The reason of cases that cannot be executed: `no right to create categories (POST /categories answered 403)`."""
    method, _, path = operation.partition(" ")
    last = path.rstrip("/").rpartition("/")[2]
    if method == "POST" and last and "{" not in last and status in (401, 403):
        return f"no right to create {last} ({operation} answered {status})"
    return f"refused: {operation} answered {status}"


def around(
    steps: Sequence[Step],
    refused: Callable[[Step], str],
    ways: Callable[[Step], Iterator[Existing]],
    *,
    may_write: bool,
) -> Detour:
    """The steps without the refused ones: what these would have made is taken from what exists already.

    Steps that only prepared a refused one are left out as well. Nothing that exists already is changed: a step that
    would change it is refused, too, unless `may_write`. Checks of what the case itself has made are dropped.
    """
    reasons = {index: why for index, step in enumerate(steps) if (why := refused(step))}
    while True:
        detour, index, why = _attempt(steps, reasons, ways, may_write)
        if index < 0 or why:
            return detour if not why else Detour(why=why)
        reasons[index] = next(iter(reasons.values()))  # a preparation that would change what exists


def _attempt(
    steps: Sequence[Step], reasons: Mapping[int, str], ways: Callable[[Step], Iterator[Existing]], may_write: bool
) -> tuple[Detour, int, str]:
    """A detour; the index of a step that would change what exists, -1: none; why there is none."""
    kept: dict[int, Step] = dict(enumerate(steps))
    foreign: set[str] = set()
    unsure: set[str] = set()
    captured: dict[str, Any] = {}
    stands_for: dict[int, Step] = {}
    new: set[int] = set()
    for index in range(len(steps) - 1, -1, -1):
        step = steps[index]
        if not step.setup:
            continue
        needed = _used(step, (kept[later] for later in sorted(kept) if later > index))
        if index not in reasons:
            if step.captures and not needed and _used(step, steps[index + 1 :]):
                del kept[index]  # it only prepared what is left out
            continue
        if step.captures and not needed:
            del kept[index]
            continue
        way = next((way for way in ways(step) if needed and needed <= _given(way, step)), None)
        if way is None:
            return Detour(), -1, reasons[index]
        foreign |= needed
        if not way.operation:
            unsure |= needed
            captured |= {c.name: way.values[c.path] for c in step.captures if c.name in needed}
            del kept[index]
            continue
        assert way.request is not None
        captures = tuple(Capture(name=c.name, path=way.places[c.path]) for c in step.captures if c.name in needed)
        kept[index] = Step(operation=way.operation, request=way.request, captures=captures, setup=True)
        stands_for[id(kept[index])] = step
        new.add(index)
    for index in sorted(kept):
        step = kept[index]
        in_path = placeholders(step.request.path) & foreign
        if in_path and step.request.method not in SAFE_METHODS and not may_write:
            return Detour(), index if step.setup else -1, "" if step.setup else next(iter(reasons.values()))
        if index not in new and foreign:
            kept[index] = _relaxed(step, bool(in_path), bool(placeholders(step.request) & unsure))
    return Detour(tuple(kept[index] for index in sorted(kept)), captured, frozenset(foreign), stands_for), -1, ""


def _used(step: Step, later: Sequence[Step] | Iterator[Step]) -> set[str]:
    """The step's captures that later steps name."""
    names = {capture.name for capture in step.captures}
    used: set[str] = set()
    for other in later:
        used |= names & (placeholders(other.request) | placeholders(other.checks))
    return used


def _members(request: Request) -> dict[str, Any] | None:
    """The members of a JSON object that is sent."""
    sent = request.body.value if isinstance(request.body, JsonBody) else None
    return sent if isinstance(sent, dict) else None


def _given(way: Existing, step: Step) -> set[str]:
    """The step's captures that a way gives as well."""
    places = way.places if way.operation else way.values
    return {capture.name for capture in step.captures if capture.source == "body" and capture.path in places}


def _relaxed(step: Step, about_it: bool, unsure: bool) -> Step:
    """The step without checks that hold only for what the case has made."""

    def holds(check: AnyCheck) -> bool:
        if about_it and isinstance(check, _OF_WHAT_WAS_MADE):
            return False
        if about_it and isinstance(check, JsonPathIs) and check.op in _OF_ITS_CONTENT:
            return False
        return not (unsure and isinstance(check, PositiveDataAcceptance))

    return structs.replace(step, checks=tuple(check for check in step.checks if holds(check)))
