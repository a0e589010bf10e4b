"""What the calls of one generation may take and have taken."""

from __future__ import annotations

import asyncio

from testops_lib.generate.llm.price import money
from testops_lib.generate.llm.provider import ModelLimits, Usage
from testops_lib.model import Call, Value

_LEAST_OUTPUT = 512
"""Output tokens below which a call is not worth making."""


class BudgetSpent(Exception):
    """The budget allows no further call; the text names the limit."""


class Reservation(Value, frozen=True, kw_only=True):
    """What one call may take at most."""

    input_tokens: int
    output_tokens: int
    extra: Usage
    money: float | None

    @property
    def tokens(self) -> int:
        return self.input_tokens + self.extra.input_tokens + self.output_tokens

    @property
    def usage(self) -> Usage:
        """All of it, as the usage of a call."""
        return Usage(
            input_tokens=self.input_tokens + self.extra.input_tokens,
            output_tokens=self.output_tokens,
            stored_token_hours=self.extra.stored_token_hours,
        )


class Budget:
    """What may still be spent. Each call reserves before it is made, so that concurrent calls never overdraw."""

    def __init__(self, limits: ModelLimits) -> None:
        self._limits = limits
        self._changed = asyncio.Condition()
        self._reservations: list[Reservation] = []
        self._tokens = 0
        self._money = 0.0
        self.calls = 0
        """Requests to the provider, also those that took nothing."""
        self.spent: list[Call] = []

    async def reserve(self, input_tokens: int, extra: Usage) -> Reservation:
        """The most that a call may take; waits while calls under way may give some back.

        Raises:
            BudgetSpent: there is not enough left.
        """
        limits = self._limits
        async with self._changed:
            while True:
                if limits.max_calls is not None and self.calls >= limits.max_calls:
                    raise BudgetSpent(f"max_calls={limits.max_calls}")
                output_tokens, limit = self._room(input_tokens, extra)
                if output_tokens >= min(_LEAST_OUTPUT, limits.max_output_tokens):
                    self.calls += 1
                    reservation = Reservation(
                        input_tokens=input_tokens,
                        output_tokens=output_tokens,
                        extra=extra,
                        money=self._price(input_tokens, output_tokens, extra),
                    )
                    self._reservations.append(reservation)
                    return reservation
                if not self._reservations:
                    raise BudgetSpent(limit)
                await self._changed.wait()

    def _room(self, input_tokens: int, extra: Usage) -> tuple[int, str]:
        """Output tokens that the next call may have, and the limit that says so."""
        limits = self._limits
        room, limit = limits.max_output_tokens, ""
        if limits.max_tokens is not None:
            taken = self._tokens + sum(reservation.tokens for reservation in self._reservations)
            left = limits.max_tokens - taken - input_tokens - extra.input_tokens
            if left < room:
                room, limit = left, f"max_tokens={limits.max_tokens}"
        if limits.max_money is not None and limits.price is not None:
            spent = self._money + sum(reservation.money or 0 for reservation in self._reservations)
            left_money = limits.max_money - spent - (self._price(input_tokens, 0, extra) or 0)
            rate = limits.price.output / 1_000_000
            most = int(left_money / rate) if rate and left_money < rate * room else room if left_money >= 0 else -1
            if most < room:
                room, limit = most, f"max_money={limits.max_money:g} {limits.currency}".strip()
        return room, limit

    def _price(self, input_tokens: int, output_tokens: int, extra: Usage) -> float | None:
        """An upper bound: none of the input is assumed to come from a cache."""
        return money(
            self._limits.price,
            input_tokens=input_tokens + extra.input_tokens,
            output_tokens=output_tokens,
            stored_token_hours=extra.stored_token_hours,
        )

    async def settle(
        self, reservation: Reservation, usage: Usage | None, operations: tuple[str, ...], *, repair: bool
    ) -> None:
        """Ends a call about these operations, which took `usage` (None: nothing)."""
        async with self._changed:
            self._reservations.remove(reservation)
            if usage is not None:
                call = self._call(usage, operations, repair=repair)
                self.spent.append(call)
                self._tokens += call.input_tokens + call.output_tokens
                self._money += call.money or 0
            self._changed.notify_all()

    def _call(self, usage: Usage, operations: tuple[str, ...], *, repair: bool) -> Call:
        return Call(
            calls=1,
            input_tokens=usage.input_tokens,
            output_tokens=usage.output_tokens,
            cached_tokens=min(usage.cached_tokens, usage.input_tokens),
            money=money(
                self._limits.price,
                input_tokens=usage.input_tokens,
                output_tokens=usage.output_tokens,
                cached_tokens=usage.cached_tokens,
                stored_token_hours=usage.stored_token_hours,
            ),
            operations=operations,
            repair=repair,
        )
