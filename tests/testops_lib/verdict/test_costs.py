from __future__ import annotations

import msgspec
import pytest

from testops_lib.model import (
    Cost,
    Generation,
)
from tests.testops_lib.verdict.results import OPERATION, OPERATIONS, failure, origin_of, report, result


def test_the_price_is_set_against_the_confirmed_findings_of_its_source() -> None:
    """Advisory findings, and those whose example another source made, are not counted."""
    results = [
        origin_of(result("c1", failure()), "gemini"),
        origin_of(result("c2", failure("ignored_auth")), "rules"),
        origin_of(result("c3", failure("status", "guessed wrong", basis="guess")), "gemini"),
    ]
    share = Cost(calls=0.5, input_tokens=500, output_tokens=50, money=0.1)
    made = Generation(
        source="gemini",
        calls=2,
        input_tokens=2000,
        output_tokens=200,
        money=0.4,
        currency="USD",
        operations={OPERATION: share, "POST /pets": share},
    )
    again = msgspec.structs.replace(made, operations={OPERATION: share})
    operations = {**OPERATIONS, "GET /other": ()}
    analysis = report(*results, generation=(Generation(source="rules", cases=3), made, again), operations=operations)
    assert len(analysis.findings) == 3 and list(analysis.costs) == ["gemini"] and analysis.currency == "USD"
    cost = analysis.costs["gemini"]
    assert (cost.calls, cost.money, cost.findings) == (4, pytest.approx(0.8), 1)
    assert (cost.money_per_finding, cost.tokens_per_finding) == (pytest.approx(0.8), 4400)
    about = analysis.operations[OPERATION].cost
    assert about is not None and (about.calls, about.input_tokens) == (1, 1000)
    assert analysis.operations["GET /other"].cost is None


def test_an_unknown_price_leaves_tokens_and_no_finding_leaves_no_price_for_each() -> None:
    made = Generation(source="openai", calls=1, input_tokens=10, output_tokens=2)
    cost = report(generation=(made,)).costs["openai"]
    assert (cost.money, cost.findings, cost.money_per_finding, cost.tokens_per_finding) == (None, 0, None, None)


def test_money_and_tokens_are_shared_among_the_confirmed_findings() -> None:
    made = Generation(source="gemini", calls=1, input_tokens=900, output_tokens=100, money=0.8, currency="USD")
    results = [origin_of(result(name, failure(cause=name)), "gemini") for name in ("a", "b")]
    cost = report(*results, generation=(made,)).costs["gemini"]
    assert (cost.findings, cost.money_per_finding, cost.tokens_per_finding) == (2, pytest.approx(0.4), 500)
