"""Tokens -> money, by a table of prices in a file."""

from __future__ import annotations

import math
import re
from importlib.resources import files
from pathlib import Path
from typing import Annotated

import msgspec
import yaml

from testops_lib.errors import SettingsError
from testops_lib.model import Value

_Amount = Annotated[float, msgspec.Meta(ge=0)]
_RELEASE = re.compile(r"-(\d[\d-]*|latest)")
"""What a provider adds to a model's name for one release of it: `-2024-08-06`, `-001`, `-latest`."""


class Price(Value, frozen=True, kw_only=True):
    """Price of a million tokens, in the table's currency."""

    input: _Amount
    output: _Amount
    """Thinking included."""
    cached: _Amount | None = None
    """Of input that came from a cache; None: as any other."""
    storage: _Amount = 0
    """Of keeping a million tokens in a cache for an hour."""


class Prices(Value, frozen=True, kw_only=True):
    """The table."""

    currency: str
    date: str = ""
    """When the prices were compared with the providers'."""
    models: dict[str, Price] = msgspec.field(default_factory=dict)


def read(own: Path | None = None) -> Prices:
    """The shipped table, overridden by the models of the file `own`. A file in another currency replaces the table.

    Raises:
        SettingsError: the file cannot be read or is not of that form.
    """
    shipped = _parsed((files("testops_lib.generate.llm") / "prices.yaml").read_text(encoding="utf-8"), "prices.yaml")
    if own is None:
        return shipped
    try:
        text = own.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(
            f"cannot be read: {error}", where=str(own), next_step="check TESTOPS_PRICES_FILE"
        ) from error
    table = _parsed(text, str(own))
    others = shipped.models if table.currency == shipped.currency else {}
    return msgspec.structs.replace(table, models={**others, **table.models})


def _parsed(text: str, where: str) -> Prices:
    try:
        table = msgspec.convert(yaml.safe_load(text), Prices, strict=False)
        if not all(math.isfinite(amount) for price in table.models.values() for amount in _amounts(price)):
            raise ValueError("a price is not a number")
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise SettingsError(
            f"is no table of prices: {' '.join(str(error).split())}",
            where=where,
            next_step="write `currency` and `models: {NAME: {input: …, output: …}}`, a million tokens each",
        ) from error
    return table


def _amounts(price: Price) -> tuple[float, ...]:
    return price.input, price.output, price.cached or 0, price.storage


def find(prices: Prices, model: str) -> Price | None:
    """The price of a model: under its own name, else under the name of which it is a dated release; None: unknown."""
    name = model.rpartition("/")[2]
    for candidate in (model, name):
        if candidate in prices.models:
            return prices.models[candidate]
    names = [model for model in prices.models if name.startswith(model) and _RELEASE.fullmatch(name[len(model) :])]
    return prices.models[max(names, key=len)] if names else None


def money(
    price: Price | None,
    *,
    input_tokens: int = 0,
    output_tokens: int = 0,
    cached_tokens: int = 0,
    stored_token_hours: float = 0,
) -> float | None:
    """What these tokens cost; None when there is no price. `cached_tokens` are part of `input_tokens`."""
    if price is None:
        return None
    cached = price.input if price.cached is None else price.cached
    fresh = max(0, input_tokens - cached_tokens)
    return (
        fresh * price.input + cached_tokens * cached + output_tokens * price.output + stored_token_hours * price.storage
    ) / 1_000_000
