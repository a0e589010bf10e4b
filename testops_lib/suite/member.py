"""What a suite consists of, and what decided how it came to be."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any, Literal, get_args

import msgspec

from testops_lib.model import Case, Value

Status = Literal["draft", "active", "quarantined", "rejected", "retired"]
"""draft: waits for a review. active: runs and counts. quarantined: runs and does not count. rejected: a person does not
want it. retired: nothing makes it any more."""

STATUSES: tuple[Status, ...] = get_args(Status)

RUNS = frozenset({"active", "quarantined"})
"""Statuses whose cases are executed."""

REVIEWS = ("never", "new", "always")
"""When a person looks at cases before they run, from the least to the most often."""


REGRESSION = "regression: "
"""So begins the key of a case that is kept because it found a fault, whether its source makes it again or not."""


class Member(Value, frozen=True, kw_only=True):
    """One test of a suite over time: its case changes, its id does not."""

    id: str
    """12 hex digits, of the suite, the operation, the source and the key."""
    suite: str
    operation: str
    source: str
    key: str = msgspec.field(name="slot")
    """What makes it the same test when its operation is generated again: the case's name, numbered where it repeats."""
    position: int
    """Among the cases that the source made for the operation."""
    generated: str
    """Id of the case that the source made."""
    current: str
    """Id of the case that runs; another one when a person or stable history changed it."""
    offered: str = ""
    """Id of a newly made case that contradicts the change; a person decides. "": there is no conflict."""
    edited: bool = False
    """A person changed the case: it survives its source."""
    status: Status
    who: str = ""
    """Who made the last change; "" the generation itself."""
    why: str = ""
    changed: datetime


class Change(Value, frozen=True, kw_only=True):
    """One line of a member's history."""

    member: str
    suite: str
    at: datetime
    who: str
    what: str
    why: str = ""
    before: str = ""
    """Case id; "" when the case did not change."""
    after: str = ""


class Made(Value, frozen=True, kw_only=True):
    """What decided the outcome when a source last generated an operation's cases."""

    key: str
    calls: dict[str, str] = msgspec.field(default_factory=dict)
    """Other operations that the cases call -> their content hash then."""


def digest(*parts: Any) -> str:
    """32 hex digits of SHA-256 over the canonical JSON of the parts."""
    return hashlib.sha256(msgspec.json.encode(parts, order="deterministic")).hexdigest()[:32]


def is_current(made: Made | None, key: str, hashes: Mapping[str, str]) -> bool:
    """Whether the cases need not be generated again: nothing that decided them, nothing that they call has changed."""
    return (
        made is not None
        and made.key == key
        and all(hashes.get(operation) == was for operation, was in made.calls.items())
    )


def calls(cases: Iterable[Case], own: str, hashes: Mapping[str, str]) -> dict[str, str]:
    """Operations other than their own that the cases' steps call -> content hash."""
    called = {step.operation for case in cases for step in (*case.steps, *case.cleanup)} - {own}
    return {key: hashes[key] for key in sorted(called) if key in hashes}
