from __future__ import annotations

from typing import Any

import msgspec
import pytest

from testops_lib.model import (
    Case,
)
from tests.generation_specs import case, pets, step
from tests.proposing import status_basis, validator


def test_a_description_counts_only_with_a_sentence_that_stands_there() -> None:
    quote = "the second one  is\nrefused with 409"
    assert status_basis("boundary", {"statuses": [409], "basis": "description", "quote": quote}) == (
        "description",
        "the second one is refused with 409",
    )
    invented = {"statuses": [409], "basis": "description", "quote": "the third one is refused with 409"}
    assert status_basis("boundary", invented) == ("guess", "")
    assert status_basis("boundary", {"statuses": [409], "basis": "description", "quote": "pet"})[0] == "guess"


def test_the_quote_may_stand_in_a_schema_the_operation_uses_but_not_elsewhere() -> None:
    used = {"statuses": [422], "basis": "description", "quote": "a pet is younger than 200."}
    assert status_basis("boundary", used)[0] == "description"
    unused = {"statuses": [422], "basis": "description", "quote": "Nobody refers to this."}
    assert status_basis("boundary", unused)[0] == "guess"


@pytest.mark.parametrize(
    ("expectation", "basis"),
    [
        ({"kind": "status", "statuses": [409]}, "description"),
        ({"kind": "status", "statuses": [418]}, "guess"),
        ({"kind": "status", "statuses": [409, 418]}, "guess"),
        ({"kind": "jsonpath", "path": "$.name", "op": "equals", "value_json": '"x"'}, "description"),
        ({"kind": "jsonpath", "path": "$.tag", "op": "equals", "value_json": '"owner"'}, "description"),
        ({"kind": "jsonpath", "path": "$.tag", "op": "equals", "value_json": '"own"'}, "guess"),
        ({"kind": "jsonpath", "path": "$.id", "op": "exists"}, "guess"),
        ({"kind": "header", "name": "X-Shared"}, "guess"),
    ],
)
def test_a_sentence_that_stands_there_promotes_nothing_it_does_not_speak_of(
    expectation: dict[str, Any], basis: str
) -> None:
    quote = "Two pets of one owner must not share a name: the second one is refused with 409."
    wanted = expectation | {"basis": "description", "quote": quote}
    created = step("POST /pets", body_json='{"name": "x"}', expect=[wanted])
    made = validator().check(case("boundary", created))
    assert isinstance(made, Case)
    check = made.steps[0].checks[-1]
    assert (check.basis, check.quote) == (basis, quote if basis == "description" else "")


def test_a_quote_may_not_run_from_one_text_into_the_next() -> None:
    spec = pets()
    created = msgspec.structs.replace(
        spec.operations[1], summary="A pet is made. Refused", description="with 409 ends."
    )
    spec = msgspec.structs.replace(spec, operations=(spec.operations[0], created, *spec.operations[2:]))
    wanted = {
        "kind": "status",
        "statuses": [409],
        "basis": "description",
        "quote": "A pet is made. Refused with 409 ends.",
    }
    proposed = case("boundary", step("POST /pets", body_json='{"name": "x"}', expect=[wanted]))
    made = validator(spec).check(proposed)
    assert isinstance(made, Case) and made.steps[0].checks[-1].basis == "guess"
