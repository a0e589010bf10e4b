"""Response -> failures: pure judging, no clock and no network."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from testops_lib.model import Contract, Failure, Pairs, Step, Value


class Answer(Value, frozen=True, kw_only=True):
    """A whole response as it came."""

    status: int
    headers: Pairs = ()
    body: bytes = b""
    elapsed_ms: float = 0
    truncated: bool = False
    """The body was cut at the policy's limit."""


def select(path: str, document: Any) -> list[Any]:
    """The values that an RFC 9535 query selects, in document order.

    Raises:
        CaseError: the query is not well-formed.
    """
    raise NotImplementedError


class Judge:
    """Judges answers against contracts; each schema is compiled once, when first needed."""

    def __init__(self, contracts: Mapping[str, Contract]) -> None:
        self._contracts = contracts

    def judge(self, step: Step, answer: Answer, captured: Mapping[str, Any], *, index: int = 0) -> tuple[Failure, ...]:
        """What did not hold, in order of importance; consequences of a failure are not repeated."""
        raise NotImplementedError
