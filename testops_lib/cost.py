"""Adds up and divides what language models cost."""

from __future__ import annotations

import math
from collections.abc import Iterable

from testops_lib.model import Cost


def total(costs: Iterable[Cost]) -> Cost:
    """The sum. Its money is unknown as soon as one cost's is; the sum of no costs is no money."""
    added = list(costs)
    amounts = [cost.money for cost in added if cost.money is not None]
    return Cost(
        calls=math.fsum(cost.calls for cost in added),
        input_tokens=sum(cost.input_tokens for cost in added),
        output_tokens=sum(cost.output_tokens for cost in added),
        cached_tokens=sum(cost.cached_tokens for cost in added),
        money=math.fsum(amounts) if len(amounts) == len(added) else None,
    )


def split(cost: Cost, parts: int) -> list[Cost]:
    """`parts` costs, as equal as possible, that add up to the whole; the first ones take the odd tokens."""
    return [
        Cost(
            calls=cost.calls / parts,
            input_tokens=_nth(cost.input_tokens, parts, number),
            output_tokens=_nth(cost.output_tokens, parts, number),
            cached_tokens=_nth(cost.cached_tokens, parts, number),
            money=None if cost.money is None else cost.money / parts,
        )
        for number in range(parts)
    ]


def _nth(whole: int, parts: int, number: int) -> int:
    return whole // parts + (number < whole % parts)


def in_words(money: float | None, currency: str) -> str:
    """`0.0123 USD`, with two significant digits below 1; `price unknown`."""
    if money is None:
        return "price unknown"
    if money and abs(money) < 1:
        return f"{money:.2g} {currency}".strip() if abs(money) >= 0.0001 else f"{money:.6f} {currency}".strip()
    return f"{money:,.2f} {currency}".strip()
