"""What a further round of generation learns from answers, and what it must not."""

from __future__ import annotations

import json
from typing import Any

import pytest
from msgspec import structs

from testops_lib.model import Identity, StepOutcome
from tests.testops_lib.execute.engine_server import Seen, Serve, answer, case, plan, run_one, step

ENV = {"ANN_TOKEN": "token-of-ann"}
ANN = Identity(name="ann", headers=(("Authorization", "Bearer ${ANN_TOKEN}"),))


def observed(serve: Serve, status: int, body: str, *, observe: bool = True) -> StepOutcome:
    server = serve(lambda connection, seen: answer(status, body))
    the_plan = structs.replace(plan(server.url, identities=(ANN,)), observe=observe)
    return run_one(the_plan, case(step()), environ=ENV).steps[0]


def test_values_of_a_success_are_kept_by_place(serve: Serve) -> None:
    body = {"items": [{"id": 7, "owner": {"id": 1, "name": "Ann"}}, {"id": 8, "owner": {"id": 1}}], "total": 2.5}
    learned = observed(serve, 200, json.dumps(body))
    assert learned.seen == {"total": (2.5,), "items.id": (7, 8), "items.owner.id": (1,), "items.owner.name": ("Ann",)}
    assert learned.said == ""


def test_a_refusal_is_kept_as_it_was_said(serve: Serve) -> None:
    learned = observed(serve, 422, '{"detail":\n  "tag is missing"}')
    assert (learned.seen, learned.said) == ({}, '{"detail": "tag is missing"}')


def test_nobody_observes_unless_the_plan_says_so(serve: Serve) -> None:
    assert observed(serve, 200, '{"id": 1}', observe=False).seen == {}
    assert observed(serve, 400, "no", observe=False).said == ""


def test_credentials_are_never_observed(serve: Serve) -> None:
    body = {"token": "abcdefgh", "password": "x1", "note": "you sent token-of-ann", "id": 3, "a": {"api_key": "k"}}
    assert observed(serve, 200, json.dumps(body)).seen == {"id": (3,)}
    assert "token-of-ann" not in observed(serve, 403, "Bearer token-of-ann is not enough").said


@pytest.mark.parametrize(
    "body",
    [
        "",
        "[]",
        "7",
        '"text"',
        "{",
        "[" * 5000,
        json.dumps({"a": [[[1]]]}),
        json.dumps({f"k{number}": number for number in range(5000)}),
        json.dumps({"a": "x" * 300_000}),
        json.dumps({"a": "x" * 200, "b": "", "c": None, "d": True}),
        '{"a": "\\ud800"}',
        '{"a": 1e999}',
    ],
)
def test_whatever_is_answered_little_is_kept(serve: Serve, body: str) -> None:
    learned = observed(serve, 200, body)
    assert len(json.dumps(learned.seen)) < 4_000
    many: list[Any] = [value for values in learned.seen.values() for value in values]
    assert len(many) <= 48 * 5


def test_each_place_keeps_few_values(serve: Serve) -> None:
    server = serve(lambda connection, seen: answer(200, json.dumps([{"id": number} for number in range(100)])))
    the_plan = structs.replace(plan(server.url), observe=True)
    assert run_one(the_plan, case(step())).steps[0].seen == {"id": (0, 1, 2, 3, 4)}
    assert isinstance(server.seen[0], Seen)
