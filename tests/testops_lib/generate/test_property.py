"""The source `property`: random, the same every time, and never wrong about what is valid."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from testops_lib import spec as specs
from testops_lib.generate import Generated
from testops_lib.generate.judge import RequestJudge
from testops_lib.generate.property import generate
from testops_lib.generate.property.draws import MOST_LOST, Draws, Undrawable
from testops_lib.generate.rules import planner_for
from testops_lib.generate.schemas import Schemas
from testops_lib.model import (
    Case,
    JsonBody,
    NegativeDataRejection,
    NotAServerError,
    Policy,
    PositiveDataAcceptance,
    StatusCodeConformance,
)
from testops_lib.spec import Spec

TESTS = Path(__file__).parents[2]

ALL, SAFE = Policy(methods="all"), Policy(methods="safe")

ITEM = {
    "type": "object",
    "required": ["name", "price", "user_id"],
    "additionalProperties": False,
    "properties": {
        "name": {"type": "string", "minLength": 1, "maxLength": 40},
        "price": {"type": "number", "minimum": 0, "maximum": 1000},
        "kind": {"type": "string", "enum": ["new", "used"]},
        "labels": {"type": "array", "items": {"type": "string", "maxLength": 9}, "maxItems": 3},
        "user_id": {"type": "integer"},
        "parts": {"type": "array", "maxItems": 2, "items": {"$ref": "#/components/schemas/Part"}},
    },
}
PART = {
    "type": "object",
    "required": ["count"],
    "properties": {"count": {"type": "integer", "minimum": 1}, "part": {"$ref": "#/components/schemas/Part"}},
}
MADE = {
    "201": {
        "description": "",
        "content": {"application/json": {"schema": {"type": "object", "properties": {"id": {"type": "integer"}}}}},
    },
    "422": {"description": ""},
}
FOUND = {"200": {"description": ""}, "404": {"description": ""}, "422": {"description": ""}}


def body(schema: Any) -> dict[str, Any]:
    return {"required": True, "content": {"application/json": {"schema": schema}}}


def path_id(name: str) -> dict[str, Any]:
    return {"name": name, "in": "path", "required": True, "schema": {"type": "integer"}}


LIMIT = {"name": "limit", "in": "query", "schema": {"type": "integer", "minimum": 1, "maximum": 100}}
PATHS: dict[str, Any] = {
    "/users": {"post": {"requestBody": body({"type": "object", "properties": {}}), "responses": MADE}},
    "/items": {
        "get": {
            "parameters": [LIMIT, {"name": "q", "in": "query", "schema": {"type": "string", "maxLength": 20}}],
            "responses": FOUND,
        },
        "post": {"requestBody": body({"$ref": "#/components/schemas/Item"}), "responses": MADE},
    },
    "/items/{item_id}": {
        "get": {"parameters": [path_id("item_id")], "responses": FOUND},
        "put": {
            "parameters": [path_id("item_id")],
            "requestBody": body({"$ref": "#/components/schemas/Item"}),
            "responses": FOUND,
        },
        "delete": {"parameters": [path_id("item_id")], "responses": FOUND},
    },
}


def load(paths: dict[str, Any], **schemas: Any) -> Spec:
    document = {"openapi": "3.1.0", "info": {"title": "t", "version": "1"}, "paths": paths}
    return specs.load_bytes(json.dumps({**document, "components": {"schemas": schemas}}).encode(), source="t.json")


@pytest.fixture(scope="module")
def store_spec() -> Spec:
    return load(PATHS, Item=ITEM, Part=PART)


@pytest.fixture(scope="module")
def made(store_spec: Spec) -> Generated:
    return generate(store_spec, policy=ALL, examples=8, seed=4)


@pytest.fixture(scope="module")
def draws() -> Iterator[Draws]:
    with Draws(seconds=5) as made:
        yield made


def about(cases: tuple[Case, ...], operation: str) -> list[Case]:
    return [case for case in cases if case.operation == operation]


def of(case: Case, kind: type) -> list[Any]:
    return [check for check in case.steps[-1].checks if isinstance(check, kind)]


# --------------------------------------------------------------------------- the same every time


def test_the_same_seed_gives_the_same_cases_whatever_else_is_generated(store_spec: Spec, made: Generated) -> None:
    assert len(made.cases) > 30
    alone = generate(store_spec, operations=["PUT /items/{item_id}"], policy=ALL, examples=8, seed=4)
    assert list(alone.cases) == about(made.cases, "PUT /items/{item_id}")


def test_another_process_with_other_modules_and_hash_seed_gives_the_same_cases(made: Generated) -> None:
    script = (
        "import tests.testops_lib.generate.test_property as t, hashlib, msgspec\n"
        "made = t.generate(t.load(t.PATHS, Item=t.ITEM, Part=t.PART), operations=['POST /items'], policy=t.ALL, "
        "examples=8, seed=4)\n"
        "print(hashlib.sha256(msgspec.json.encode(made.cases)).hexdigest())"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=200, env={"PYTHONHASHSEED": "77"}
    )
    mine = tuple(about(made.cases, "POST /items"))
    assert done.stdout.strip() == hashlib.sha256(msgspec.json.encode(mine)).hexdigest(), done.stderr


def test_another_seed_gives_other_cases(store_spec: Spec, made: Generated) -> None:
    other = generate(store_spec, operations=["POST /items"], policy=ALL, examples=8, seed=5)
    shared = {case.id for case in other.cases} & {case.id for case in made.cases}
    assert len(shared) < len(other.cases) / 2


def test_no_more_cases_than_examples_of_either_kind(made: Generated) -> None:
    found = about(made.cases, "POST /items")
    for intent in ("positive", "negative"):
        assert 4 <= sum(case.intent == intent for case in found) <= 8


# --------------------------------------------------------------------------- what the cases are


def test_references_point_at_what_the_case_itself_makes(made: Generated) -> None:
    sent = [case.steps[-1].request.body for case in about(made.cases, "POST /items") if case.intent == "positive"]
    assert sent and all(isinstance(one, JsonBody) and one.value["user_id"] == "{user_id}" for one in sent)
    for case in about(made.cases, "PUT /items/{item_id}"):
        assert case.steps[-1].request.path == "/items/{item_id}" and len(case.steps) >= 2
        assert case.cleanup


def test_every_invalid_case_is_invalid_as_sent_and_every_valid_one_valid(store_spec: Spec, made: Generated) -> None:
    judge = RequestJudge(store_spec, Schemas(store_spec.definitions))
    for case in made.cases:
        names = [capture.name for step in case.steps for capture in step.captures]
        found = judge.judge(case.operation, case.steps[-1].request, names).violations
        if case.intent == "negative":
            (rejection,) = of(case, NegativeDataRejection)
            sure = [(violation.place, violation.rule) for violation in found if violation.sure]
            assert (rejection.location, rejection.rule) in sure, case.name
        else:
            assert not found and not of(case, NegativeDataRejection), case.name


def test_an_empty_query_value_is_drawn_where_it_is_allowed(made: Generated) -> None:
    sent = [pair for case in about(made.cases, "GET /items") for pair in case.steps[-1].request.query]
    assert ("q", "") in sent and ("limit", "") not in sent


def test_all_cases_ask_for_conformance_and_come_from_property(made: Generated) -> None:
    for case in made.cases:
        assert of(case, NotAServerError) and of(case, StatusCodeConformance)
        assert case.origin.source == "property" and "property" in case.tags


def test_acceptance_is_asked_for_only_where_the_document_alone_promises_it(made: Generated) -> None:
    accepted = [case for case in made.cases if of(case, PositiveDataAcceptance)]
    assert accepted
    for case in accepted:
        assert case.intent == "positive" and of(case, PositiveDataAcceptance)[0].basis != "guess"
        sent = case.steps[-1].request
        assert len(sent.query) <= 1
        if isinstance(sent.body, JsonBody) and sent.body.value.get("name", "").find("{unique}") < 0:
            assert sent.body.value["name"].isprintable()


def test_a_safe_policy_has_reads_alone(store_spec: Spec) -> None:
    found = generate(store_spec, policy=SAFE, examples=3)
    assert found.cases
    assert {step.request.method for case in found.cases for step in (*case.steps, *case.cleanup)} == {"GET"}


def test_an_operation_that_ends_the_session_has_no_random_cases() -> None:
    spec = load({"/logout": {"post": {"requestBody": body(PART), "responses": FOUND}}}, Part=PART)
    assert generate(spec, policy=ALL).cases == ()


# --------------------------------------------------------------------------- hostile schemas

HOSTILE = {
    "nothing fits": {"not": {}},
    "a pattern that nothing fits": {"type": "string", "pattern": "^(a+)+$(?<=b{5000})"},
    "endless": {
        "$ref": "#/$defs/A",
        "$defs": {"A": {"type": "object", "required": ["a"], "properties": {"a": {"$ref": "#/$defs/A"}}}},
    },
    "too long": {"type": "string", "minLength": 10**9},
    "too many": {"type": "array", "minItems": 100_000, "items": {"type": "string"}},
    "another document": {"$ref": "http://127.0.0.1:9/x.json"},
    "a file": {"$ref": "file:///etc/passwd"},
    "too large": {"type": "object", "properties": {f"p{n}": {"type": "string"} for n in range(30_000)}},
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_schema_gives_nothing_within_its_time(name: str, draws: Draws) -> None:
    usual = {"type": "object", "properties": {"a": {"type": "integer"}}}
    before = draws.values(usual, valid=True, count=5, seed=1)
    began = time.monotonic()
    with pytest.raises(Undrawable):
        draws.values(HOSTILE[name], valid=True, count=10, seed=1)
    assert time.monotonic() - began < 60
    assert draws.values(usual, valid=True, count=5, seed=1) == before


def test_after_several_lost_processes_no_further_one_is_started() -> None:
    with Draws(seconds=0.1) as draws:
        draws.values({"type": "boolean"}, valid=True, count=2, seed=1)
        draws._lost = MOST_LOST
        with pytest.raises(Undrawable, match="before it"):
            draws.values({"type": "boolean"}, valid=True, count=2, seed=1)


def test_one_hostile_operation_costs_the_others_nothing(store_spec: Spec) -> None:
    bad = {"type": "object", "required": ["a"], "properties": {"a": {"$ref": "#/components/schemas/Odd"}}}
    paths = {"/odd": {"post": {"requestBody": body(bad), "responses": MADE}}, **PATHS}
    spec = load(paths, Item=ITEM, Part=PART, Odd={"allOf": [{"type": "string"}, {"type": "integer"}]})
    found = generate(spec, operations=["POST /odd", "POST /items"], policy=ALL, examples=4)
    assert not about(found.cases, "POST /odd") and about(found.cases, "POST /items")
    assert set(found.generation.not_tested) == {"POST /odd"}


@pytest.mark.parametrize("document", ["testops_lib/spec/fixtures/library.yaml", "data/pet-coupons.openapi.yaml"])
def test_every_operation_of_a_document_has_random_cases_or_a_reason(document: str) -> None:
    spec = specs.load(str(TESTS / document))
    found = generate(spec, policy=ALL, examples=2)
    told = {note.partition(": ")[0] for note in found.generation.notes} | set(spec.unusable)
    told |= set(found.generation.not_tested)
    planner = planner_for(spec, policy=ALL)
    usual = {each.key for each in spec.operations if not planner.graph.destructive(each)}
    assert usual - {case.operation for case in found.cases} <= told
    assert len(found.cases) > len(usual)


def test_integers_without_bounds_cost_no_operation_its_cases() -> None:
    spec = load(
        {"/n": {"post": {"requestBody": body({"type": "array", "items": {"type": "integer"}}), "responses": MADE}}}
    )
    found = generate(spec, policy=ALL, examples=8)
    assert sum(case.intent == "positive" for case in found.cases) >= 4 and not found.generation.notes
    assert all(case == msgspec.json.decode(msgspec.json.encode(case), type=Case) for case in found.cases)


def test_nothing_heavy_is_imported_by_those_who_only_plan() -> None:
    imports = "import sys, testops_lib.run.generate, testops_lib.run.analyze, runner.__main__"
    script = f"{imports}; print({{'hypothesis', 'schemathesis'}} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=100)
    assert done.stdout.strip() == "set()", done.stderr
