"""What planning may cost."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from testops_lib.generate.planning import OPERATION_BYTES, Planning, PlanningLimit
from testops_lib.generate.rules import generate
from testops_lib.model import (
    JsonBody,
)
from tests.testops_lib.generate.documents import (
    ALL,
    load,
    query,
    says,
    takes,
)


def nested(depth: int, count: int) -> dict[str, Any]:
    schema: dict[str, Any] = {"type": "string"}
    for _ in range(depth):
        schema = {"type": "array", "minItems": count, "items": schema}
    return schema


def test_a_body_of_millions_of_values_costs_its_own_operation_alone() -> None:
    needed = {"type": "object", "required": ["deep"], "properties": {"deep": nested(5, 30), "name": {"type": "string"}}}
    wanted = {"type": "object", "required": ["name"], "properties": needed["properties"]}
    made = generate(
        load(
            {
                "/deep": {"post": {"requestBody": takes(needed), "responses": says(None)}},
                "/wanted": {"post": {"requestBody": takes(wanted), "responses": says(None)}},
                "/plain": {"get": {"responses": says(None)}},
            }
        ),
        policy=ALL,
    )
    assert (
        set(made.generation.not_tested) == {"POST /deep"}
        and "20,000 values" in made.generation.not_tested["POST /deep"]
    )
    sent = [case.steps[-1].request.body for case in made.cases if case.operation == "POST /wanted"]
    assert any(isinstance(body, JsonBody) and "name" in body.value for body in sent if isinstance(body, JsonBody))
    assert any(case.operation == "GET /plain" for case in made.cases)


def test_the_cases_of_one_operation_have_a_limited_size() -> None:
    parameters = [query(f"p{index}", {"type": "string", "maxLength": 50_000}) for index in range(40)]
    made = generate(load({"/a": {"get": {"parameters": parameters, "responses": says(None)}}}), policy=ALL)
    assert 0 < sum(len(msgspec.json.encode(case)) for case in made.cases) <= OPERATION_BYTES
    assert "only" in made.generation.notes[0] and made.generation.dropped["beyond the size of an operation's cases"]


def test_an_operation_that_takes_too_long_keeps_the_cases_made_before(monkeypatch: pytest.MonkeyPatch) -> None:
    seconds = iter(range(0, 10**9))  # each look at the clock is a second later
    monkeypatch.setattr("testops_lib.generate.schemas.Planning", lambda: Planning(clock=lambda: next(seconds) / 10))
    parameters = [query(f"p{index}", {"type": "integer", "minimum": 1}) for index in range(50)]
    paths = {f"/{name}": {"get": {"parameters": parameters, "responses": says(None)}} for name in "ab"}
    made = generate(load(paths), policy=ALL)
    assert {case.operation for case in made.cases} == {"GET /a", "GET /b"}
    assert made.generation.dropped["took too long to plan"] == 2
    assert all("has only" in note and "10 s" in note for note in made.generation.notes)


def test_planning_ends_when_the_time_for_an_operation_is_used_up() -> None:
    now = 0.0
    planning = Planning(clock=lambda: now)
    planning.check()
    planning.begin()
    now = 9.9
    planning.check()
    now = 10.1
    with pytest.raises(PlanningLimit, match="10 s"):
        planning.check()
    planning.end()
    planning.check()
    now = 1_000.0
    planning.begin()
    planning.check()
    now = 1_000.6
    with pytest.raises(PlanningLimit, match=r"0\.5 s"):
        planning.check()
