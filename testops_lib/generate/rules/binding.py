"""What the steps of one case have made so far."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

from testops_lib.model import Step


@dataclass
class Binding:
    """What the steps of one case have made so far."""

    seed: str
    salt: int = 0
    steps: list[Step] = field(default_factory=list)
    cleanup: list[Step] = field(default_factory=list)
    samples: dict[str, Any] = field(default_factory=dict)
    paths: dict[str, Any] = field(default_factory=dict)
    """Nameless template up to a parameter -> its value: `/users/{}` -> `{user_id}`."""
    fields: dict[str, str] = field(default_factory=dict)
    """Body field -> placeholder."""
    listed: bool = False
    salted: bool = False
    echoed: bool = False
    foreign: bool = False
    shaky: bool = False
    """A step before may be refused, for not all of its values are sure."""
    wild: bool = True
    """Wildcard hints may stand for the parents of a list."""
    alone: bool = False
    """No earlier steps: what points at other things points at nothing."""

    def copy(self) -> Binding:
        return Binding(
            self.seed,
            self.salt,
            [*self.steps],
            [*self.cleanup],
            {**self.samples},
            {**self.paths},
            {**self.fields},
            self.listed,
            self.salted,
            self.echoed,
            self.foreign,
            self.shaky,
            self.wild,
            self.alone,
        )

    def take(self, other: Binding) -> None:
        self.steps, self.cleanup, self.paths, self.fields = other.steps, other.cleanup, other.paths, other.fields
        self.listed, self.salted, self.echoed, self.foreign = other.listed, other.salted, other.echoed, other.foreign
        self.shaky = other.shaky
        self.samples.update(other.samples)  # in place: values in the making look at it

    def name(self, wanted: str) -> str:
        """A capture name not used yet."""
        stem = re.sub(r"\W+", "_", wanted).strip("_").lower() or "value"
        name, count = stem, 2
        while name in self.samples or name == "unique":
            name, count = f"{stem}_{count}", count + 1
        return name
