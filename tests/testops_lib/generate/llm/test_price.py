from __future__ import annotations

from pathlib import Path

import pytest

from testops_lib.cost import in_words, split, total
from testops_lib.errors import SettingsError
from testops_lib.generate.llm.price import Price, Prices, find, money, read
from testops_lib.model import Cost


def test_the_shipped_table_knows_the_default_models_with_a_date_and_a_currency() -> None:
    prices = read()
    assert (prices.currency, len(prices.date)) == ("USD", 10)
    for model in ("gemini-2.5-flash", "gpt-5-mini"):
        price = find(prices, model)
        assert price is not None and 0 < (price.cached or 0) < price.input < price.output


@pytest.mark.parametrize(
    ("model", "known"),
    [
        ("gpt-5", "gpt-5"),
        ("gpt-5-2025-08-07", "gpt-5"),
        ("gpt-5-mini-2025-08-07", "gpt-5-mini"),
        ("models/gemini-2.5-flash", "gemini-2.5-flash"),
        ("gemini-2.5-flash-001", "gemini-2.5-flash"),
        ("gemini-2.5-flash-latest", "gemini-2.5-flash"),
        ("openai/gpt-4o", "gpt-4o"),
        ("gpt-5-pro", ""),
        ("gpt-5-chat-2025", ""),
        ("gpt-50", ""),
        ("llama3.2:3b", ""),
        ("", ""),
    ],
)
def test_a_release_has_the_price_of_its_model_and_another_model_has_not(model: str, known: str) -> None:
    prices = read()
    assert find(prices, model) == (prices.models[known] if known else None)


def test_money_follows_the_table_a_million_tokens_each() -> None:
    price = Price(input=2, output=8, cached=0.5, storage=3)
    assert money(price, input_tokens=1_000_000) == 2
    assert money(price, input_tokens=1_000_000, cached_tokens=400_000, output_tokens=500_000) == 1.2 + 0.2 + 4
    assert money(price, stored_token_hours=1_000_000) == 3
    assert money(Price(input=2, output=8), input_tokens=1_000_000, cached_tokens=400_000) == 2
    assert money(None, input_tokens=1) is None


def test_a_file_of_ones_own_wins_and_the_rest_stays(tmp_path: Path) -> None:
    prices_file = tmp_path / "prices.yaml"
    prices_file.write_text("currency: USD\nmodels:\n  gpt-5: {input: 1, output: 2}\n  llama3: {input: 0, output: 0}\n")
    prices = read(prices_file)
    assert find(prices, "gpt-5") == Price(input=1, output=2) and find(prices, "gemini-2.5-pro") is not None
    assert money(find(prices, "llama3"), input_tokens=5, output_tokens=5) == 0
    prices_file.write_text("currency: EUR\nmodels: {gpt-5: {input: 1, output: 2}}\n")
    prices = read(prices_file)
    assert prices.currency == "EUR" and list(prices.models) == ["gpt-5"]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "currency: USD\nmodels: {x: {input: -1, output: 1}}",
        "currency: USD\nmodels: {x: {input: 1}}",
        "currency: USD\nmodels: {x: {input: .nan, output: 1}}",
        "currency: USD\nmodels: {x: {input: 1, output: .inf}}",
        "currency: [",
        "models: {}",
        "currency: USD\nprices: {}",
        "!!python/object/apply:os.system [id]",
    ],
)
def test_a_file_that_is_no_table_is_refused_with_its_form(tmp_path: Path, text: str) -> None:
    prices_file = tmp_path / "prices.yaml"
    prices_file.write_text(text)
    with pytest.raises(SettingsError, match="is no table of prices") as raised:
        read(prices_file)
    assert str(prices_file) in str(raised.value) and "currency" in raised.value.next_step


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="TESTOPS_PRICES_FILE"):
        read(tmp_path / "none.yaml")


def test_no_shipped_price_is_a_slip_of_the_point() -> None:
    prices: Prices = read()
    for price in prices.models.values():
        assert 0.01 <= price.input <= 20 and price.input < price.output <= 100 and (price.cached or 0) <= price.input


# --------------------------------------------------------------------------- sums


def test_shares_sum_up_to_the_whole() -> None:
    whole = Cost(calls=1, input_tokens=1001, output_tokens=7, cached_tokens=2, money=0.3)
    parts = split(whole, 3)
    assert [part.input_tokens for part in parts] == [334, 334, 333]
    added = total(parts)
    assert (added.input_tokens, added.output_tokens, added.cached_tokens) == (1001, 7, 2)
    assert (added.calls, added.money) == (pytest.approx(1), pytest.approx(0.3))


def test_one_unknown_price_makes_the_sum_unknown() -> None:
    assert total([Cost(calls=1, money=1.0), Cost(calls=1, money=None)]).money is None
    assert total([]) == Cost(money=0.0)


@pytest.mark.parametrize(
    ("amount", "words"),
    [
        (None, "price unknown"),
        (0.0, "0.00 USD"),
        (1234.5, "1,234.50 USD"),
        (0.01, "0.01 USD"),
        (0.00345, "0.0034 USD"),
        (0.0000045, "0.000005 USD"),
    ],
)
def test_small_amounts_keep_digits_that_say_something(amount: float | None, words: str) -> None:
    assert in_words(amount, "USD") == words
