"""Sums and shares of what language models cost."""

from __future__ import annotations

import math
from collections.abc import Iterable

from testops_lib.model import Cost


def total(costs: Iterable[Cost]) -> Cost:
    """The sum; its money is unknown as soon as that of one of them is. Of none: no money at all."""
    added = list(costs)
    amounts = [cost.money for cost in added if cost.money is not None]
    return Cost(
        calls=math.fsum(cost.calls for cost in added),
        input_tokens=sum(cost.input_tokens for cost in added),
        output_tokens=sum(cost.output_tokens for cost in added),
        cached_tokens=sum(cost.cached_tokens for cost in added),
        money=math.fsum(amounts) if len(amounts) == len(added) else None,
    )


def share(cost: Cost, among: int) -> list[Cost]:
    """`among` shares as equal as can be, which sum up to the whole; the first ones take the odd tokens."""
    return [
        Cost(
            calls=cost.calls / among,
            input_tokens=_part(cost.input_tokens, among, number),
            output_tokens=_part(cost.output_tokens, among, number),
            cached_tokens=_part(cost.cached_tokens, among, number),
            money=None if cost.money is None else cost.money / among,
        )
        for number in range(among)
    ]


def _part(whole: int, among: int, number: int) -> int:
    return whole // among + (number < whole % among)


def in_words(money: float | None, currency: str) -> str:
    """`0.0123 USD`, with as many digits as say something; `price unknown`."""
    if money is None:
        return "price unknown"
    if money and abs(money) < 1:
        return f"{money:.2g} {currency}".strip() if abs(money) >= 0.0001 else f"{money:.6f} {currency}".strip()
    return f"{money:,.2f} {currency}".strip()
