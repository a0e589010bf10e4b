"""A request in values, before it is written."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final, NamedTuple

from testops_lib.doubts import Doubt
from testops_lib.model import Step
from testops_lib.spec.operation import Operation

ABSENT: Final = type("Absent", (), {"__repr__": lambda self: "ABSENT"})()
"""No body at all."""


@dataclass(frozen=True, kw_only=True)
class Draft:
    """A request in values, before it is written; `samples` stand for what is only known at run time."""

    operation: Operation
    path: Mapping[str, Any] = field(default_factory=dict)
    query: Mapping[str, Any] = field(default_factory=dict)
    headers: Mapping[str, Any] = field(default_factory=dict)
    cookies: Mapping[str, Any] = field(default_factory=dict)
    body: Any = ABSENT
    media: str = ""
    setup: tuple[Step, ...] = ()
    cleanup: tuple[Step, ...] = ()
    samples: Mapping[str, Any] = field(default_factory=dict)
    doubt: Doubt = ""
    """Why something outside the document may make it wrong; "" where the document alone speaks for it."""
    example: bool = False
    """Some of its data is the document's own example."""
    invented: bool = False
    """Some of its data is neither the document's own (an example, a default, of an enumeration) nor from an answer."""
    salted: bool = False
    listed: bool = False
    """What it names was found in a list, not made by the case: someone else may change it."""
    guessed: bool = False
    """What its path names may not exist."""
    foreign: bool = False
    """What its path names exists, but perhaps not there: `/tasks/{id}` with an id from `/runs`."""
    dangling: bool = False
    """Its body or query points at something that may not exist."""
    echoed: bool = False
    """Something of it is known because an earlier step sent it, not because one answered it."""
    shaky: bool = False
    """A step before it may be refused, for not all of its values are sure."""
    narrowed: bool = False
    """An optional query parameter has a value of our own, to which nothing may answer: `?section=test`."""

    def values(self, where: str) -> Mapping[str, Any]:
        return {"path": self.path, "query": self.query, "header": self.headers, "cookie": self.cookies}[where]

    def put(self, where: str, name: str, value: Any) -> Draft:
        """The draft with one parameter set."""
        return self._with(where, {**self.values(where), name: value})

    def drop(self, where: str, name: str) -> Draft:
        """The draft without one parameter."""
        return self._with(where, {key: value for key, value in self.values(where).items() if key != name})

    def _with(self, where: str, values: Mapping[str, Any]) -> Draft:
        match where:
            case "path":
                return replace(self, path=values)
            case "query":
                return replace(self, query=values)
            case "header":
                return replace(self, headers=values)
            case _:
                return replace(self, cookies=values)


class ParameterValue(NamedTuple):
    """A value for one parameter."""

    value: Any
    doubt: Doubt
    example: bool
    """It is the document's own example."""
