"""Earlier steps that make or list what a request refers to."""

from __future__ import annotations

from typing import Any

from testops_lib.generate.rules import generate
from testops_lib.model import (
    JsonBody,
    PositiveDataAcceptance,
)
from testops_lib.spec import Spec
from tests.testops_lib.generate.documents import (
    ALL,
    SAFE,
    body,
    checks,
    load,
    path,
    ref,
    requests,
    says,
    takes,
)


def test_links_beat_names() -> None:
    spec = load(
        {
            "/tickets": {
                "post": {
                    "responses": {
                        "201": {
                            "description": "",
                            "content": {
                                "application/json": {
                                    "schema": {"type": "object", "properties": {"id": {"type": "string"}}}
                                }
                            },
                            "links": {
                                "l": {"operationId": "show", "parameters": {"number": "$response.body#/meta/0/no"}}
                            },
                        }
                    }
                }
            },
            "/shows/{number}": {
                "get": {
                    "operationId": "show",
                    "parameters": [path("number", {"type": "string"})],
                    "responses": says(None),
                }
            },
        }
    )
    case = next(c for c in generate(spec, policy=ALL).cases if c.operation.startswith("GET"))
    assert requests(case)[0] == "POST /tickets"
    assert case.steps[0].captures[0].path == "$.meta[0].no"


def tree() -> Spec:
    dags = {"type": "array", "items": ref("Dag")}
    rows = {"type": "array", "items": ref("Run")}
    run_id = {"anyOf": [{"type": "string"}, {"type": "null"}]}
    return load(
        {
            "/dags": {"get": {"responses": says({"type": "object", "properties": {"dags": dags}})}},
            "/dags/{dag_id}/runs": {
                "get": {
                    "parameters": [path("dag_id", {"type": "string"})],
                    "responses": says({"type": "object", "properties": {"runs": rows, "total": {"type": "integer"}}}),
                }
            },
            "/dags/{dag_id}/runs/{run_id}": {
                "get": {
                    "parameters": [path("dag_id", {"type": "string"}), path("run_id", {"type": "string"})],
                    "responses": says(ref("Run"), also=["404"]),
                }
            },
        },
        Dag={"type": "object", "properties": {"dag_id": {"type": "string"}}},
        Run={"type": "object", "properties": {"dag_id": {"type": "string"}, "run_id": run_id}},
    )


def test_parents_come_from_the_list_above() -> None:
    case = next(c for c in generate(tree(), policy=SAFE).cases if c.operation.endswith("{run_id}"))
    assert requests(case) == ["GET /dags", "GET /dags/{dag_id}/runs", "GET /dags/{dag_id}/runs/{run_id}"]


def test_a_wildcard_hint_lets_one_list_supply_all_parents_together() -> None:
    cases = generate(tree(), policy=SAFE, values={"dag_id": ("~",)}).cases
    case = next(c for c in cases if c.operation.endswith("{run_id}"))
    assert requests(case) == ["GET /dags/~/runs", "GET /dags/{dag_id}/runs/{run_id}"]
    assert {c.path for c in case.steps[0].captures} == {"$.runs[0].run_id", "$.runs[0].dag_id"}
    assert requests(next(c for c in cases if c.operation == "GET /dags/{dag_id}/runs"))[0] == "GET /dags"


def test_an_object_with_an_id_inside_a_body_stands_for_a_thing_that_exists() -> None:
    kind = {"type": "object", "required": ["id"], "properties": {"id": {"type": "integer"}, "name": {"type": "string"}}}
    pet = {"type": "object", "required": ["type"], "properties": {"type": ref("PetType")}}
    owner = path("owner_id", {"type": "integer"})
    spec = load(
        {
            "/pettypes": {
                "post": {"requestBody": takes({"type": "object"}), "responses": says(ref("PetType"), status="201")}
            },
            "/owners": {"post": {"requestBody": takes({"type": "object"}), "responses": says(kind, status="201")}},
            "/owners/{owner_id}/pets": {
                "post": {"parameters": [owner], "requestBody": takes(pet), "responses": says(ref("Pet"), status="201")}
            },
            "/pets/{pet_id}": {
                "get": {"parameters": [path("pet_id", {"type": "integer"})], "responses": says(ref("Pet"))},
            },
        },
        PetType=kind,
        Pet={"type": "object", "properties": {"id": {"type": "integer"}, **pet["properties"]}},  # type: ignore[dict-item]
    )
    case = next(c for c in generate(spec, policy=ALL).cases if c.operation == "GET /pets/{pet_id}")
    assert requests(case) == ["POST /owners", "POST /pettypes", "POST /owners/{owner_id}/pets", "GET /pets/{pet_id}"]
    assert body(case, 2) == {"type": {"id": "{pet_type_id}"}}


def test_operations_that_need_each_other_do_not_hang() -> None:
    needs = {"type": "object", "required": ["b_id"], "properties": {"b_id": {"type": "integer"}}}
    back = {"type": "object", "required": ["a_id"], "properties": {"a_id": {"type": "integer"}}}
    answer = {"type": "object", "properties": {"id": {"type": "integer"}}}
    spec = load(
        {
            "/as": {"post": {"requestBody": takes(needs), "responses": says(answer, status="201")}},
            "/bs": {"post": {"requestBody": takes(back), "responses": says(answer, status="201")}},
        }
    )
    made = generate(spec, policy=ALL)
    assert {case.operation for case in made.cases} == {"POST /as", "POST /bs"}
    for case in made.cases:
        assert all(check.basis == "guess" for check in checks(case, PositiveDataAcceptance))


def test_what_names_a_thing_in_its_request_names_it_in_the_path() -> None:
    body = {"type": "object", "required": ["name"], "properties": {"name": {"type": "string"}}}
    spec = load(
        {
            "/tenants": {"post": {"requestBody": takes(body), "responses": says({"type": "object"})}},
            "/tenants/{tenant}": {
                "get": {"parameters": [path("tenant", {"type": "string"})], "responses": says({"type": "object"})}
            },
        }
    )
    first = next(c for c in generate(spec, policy=ALL).cases if c.operation == "GET /tenants/{tenant}")
    create, read = first.steps
    assert isinstance(create.request.body, JsonBody)
    assert read.request.path == "/tenants/" + create.request.body.value["name"]


def test_a_thing_is_asked_for_by_its_name_too_where_the_document_says_so() -> None:
    thing = {"type": "object", "properties": {"id": {"type": "string"}, "name": {"type": "string"}}}
    new = {"type": "object", "required": ["name"], "properties": {"name": {"type": "string"}}}
    get = {"parameters": [path("thing_id", {"type": "string"})], "responses": says(thing)}
    make_it = {"requestBody": takes(new), "responses": says(thing)}
    items = {"get": {**get, "description": "Gives a thing by id or name."}}
    cases = generate(load({"/things": {"post": make_it}, "/things/{thing_id}": items}), policy=ALL).cases
    named = next(case for case in cases if case.name.endswith("by its name"))
    make, read = named.steps
    assert isinstance(make.request.body, JsonBody)
    assert read.request.path == "/things/" + make.request.body.value["name"]


def test_a_reference_may_be_spelled_in_two_ways() -> None:
    thing = {"type": "object", "properties": {"id": {"type": "integer"}}}
    paths: dict[str, Any] = {
        "/externals": {"post": {"requestBody": takes({"type": "object"}), "responses": says(thing, status="201")}}
    }
    for index, name in enumerate(("externalId", "external_id", "externalID")):
        schema = {"type": "object", "required": [name], "properties": {name: {"type": "integer"}}}
        paths[f"/uses{index}"] = {"post": {"requestBody": takes(schema), "responses": says(None)}}
    made = generate(load(paths), policy=ALL)
    assert not made.generation.notes
    for index, name in enumerate(("externalId", "external_id", "externalID")):
        case = next(case for case in made.cases if case.operation == f"POST /uses{index}" and case.intent == "positive")
        assert [step.operation for step in case.steps] == ["POST /externals", f"POST /uses{index}"]
        assert isinstance(case.steps[1].request.body, JsonBody) and name in case.steps[1].request.body.value
