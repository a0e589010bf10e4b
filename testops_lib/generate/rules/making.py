"""What the making of one value may use, and what it came to."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from testops_lib.doubts import Doubt
from testops_lib.spec.operation import Schema

WILDCARDS: Final = ("~", "*", "-", "_all")
"""Hints that mean "any parent": used where a list is asked for, never to name one thing."""


class Impossible(Exception):
    """No value could be made that fits the schema."""


@dataclass(kw_only=True)
class Making:
    """What the making of one value may use, and what it came to."""

    seed: str
    salt: int = 0
    """Another salt gives other values where the schema leaves room."""
    unique: bool = True
    """Names, addresses and codes should hold `{unique}`."""
    turn: int = 0
    """How many things the case has made before: each gets unique values of its own."""
    noun: str = ""
    """What is made: `topic`, whose property `topic` is its name."""
    refer: Callable[[str, Schema], Any] = field(default=lambda name, schema: None)
    """Field name and schema -> placeholder of a thing that an earlier step made, or what names one that an earlier
    round saw; None: there is no such thing."""
    told: str = ""
    """What the document says of the value besides its schema: a parameter's description."""
    own: Any = None
    """The value for an `id` at the top of a body: the one in the path."""
    things: tuple[str, ...] = ()
    """Names of what the object in the making is, the most specific first."""
    full: bool = False
    """Optional properties too."""
    doubt: Doubt = ""
    """The first reason why something outside the document may make the value wrong."""
    example: bool = False
    """Some of it is the document's own example."""
    invented: bool = False
    """Some of it is neither the document's own nor from an answer."""
    samples: Mapping[str, Any] = field(default_factory=dict)
    """Placeholder -> what it may stand for, to judge values that hold placeholders."""
    dangling: bool = False
    """It points at something (`owner_id`) that no earlier step made."""
    salted: bool = False
    """It should be unique but cannot hold a token: only another salt makes another value."""
    count: int = 0
    """Values made so far, nested ones included."""

    def cast_doubt(self, doubt: Doubt) -> None:
        """Notes why the value may be wrong, unless an earlier reason stands."""
        self.doubt = self.doubt or doubt
