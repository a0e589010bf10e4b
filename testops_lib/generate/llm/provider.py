"""A language model as the rest of the package sees it: a prompt goes in, an answer comes out, tokens are counted."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager
from typing import Any, NamedTuple, Protocol

from testops_lib.generate.llm.price import Price
from testops_lib.generate.llm.prompt import Prompt
from testops_lib.model import Value


class Usage(Value, frozen=True, kw_only=True):
    """Tokens of one call as the provider counts them."""

    input_tokens: int = 0
    output_tokens: int = 0
    """Thinking included."""
    cached_tokens: int = 0
    """Those of the input that came from a cache."""
    stored_token_hours: float = 0
    """Tokens put into a cache of our own, times the hours for which it was ordered."""


class Answer(Value, frozen=True, kw_only=True):
    """What a model answered to one prompt."""

    text: str
    usage: Usage | None = None
    """None: the provider does not count; then it is estimated from above."""
    blocked: str = ""
    """Why the provider gave no text: `SAFETY`, …"""
    cut: bool = False
    """The text ends at the output limit."""


class Unavailable(Exception):
    """The provider gave no answer this time; another attempt may succeed."""

    def __init__(self, reason: str, *, delay_s: float | None = None, maybe_billed: bool = False) -> None:
        self.reason, self.delay_s, self.maybe_billed = reason, delay_s, maybe_billed
        super().__init__(reason)


class Model(Protocol):
    """A connected language model.

    `ask` raises `Unavailable` when another attempt may help, else `GenerateError`. `extra` is an upper bound of what a
    call costs besides its prompt and its answer.
    """

    source: str
    name: str
    secrets: tuple[str, ...]
    """Texts that must never be sent, logged or shown."""

    async def ask(self, prompt: Prompt, schema: dict[str, Any], *, max_output_tokens: int) -> Answer: ...

    def extra(self, prompt: Prompt) -> Usage: ...


class ModelLimits(Value, frozen=True, kw_only=True):
    """Concurrency, attempts, budget and size of the calls of one generation; None: no limit.

    Each call reserves an upper bound of its cost before it is made, so that the budget is never exceeded.
    """

    concurrency: int = 4
    attempts: int = 4
    """Of one call, the first included."""
    backoff_s: float = 1.0
    """Before the second attempt, doubled each time, with jitter."""
    max_wait_s: float = 60
    """Longest wait between attempts; a provider that asks for a longer one is given up."""
    max_calls: int | None = None
    """Requests to the provider, repeated ones included."""
    max_tokens: int | None = None
    """Input and output tokens of all calls."""
    max_money: float | None = None
    price: Price | None = None
    """Of the model; None: unknown."""
    currency: str = ""
    max_output_tokens: int = 32_768
    """Of one call."""
    cases_per_operation: int = 6
    operations_per_call: int = 4


class Provider(NamedTuple):
    """A language model that can be asked, not connected yet."""

    source: str
    model: str
    limits: ModelLimits
    sampling: Mapping[str, Any]
    """Settings of its own that shape an answer: temperature, seed, …"""
    connect: Callable[[], AbstractAsyncContextManager[Model]]
