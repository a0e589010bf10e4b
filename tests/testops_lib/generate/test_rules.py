from __future__ import annotations

import json
import re
from itertools import combinations
from pathlib import Path
from typing import Any

import jsonschema_rs
import msgspec
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from testops_lib import spec as specs
from testops_lib.generate import Generated
from testops_lib.generate.planning import OPERATION_BYTES, Planning, PlanningLimit
from testops_lib.generate.rules import generate
from testops_lib.generate.rules.pairwise import covering
from testops_lib.generate.sequence import order
from testops_lib.model import (
    INVALID_CREDENTIALS,
    NO_ANSWER,
    NO_CREDENTIALS,
    Basis,
    Case,
    EnsureResourceAvailability,
    IgnoredAuth,
    Intent,
    JsonBody,
    JsonPathIs,
    MaxResponseTime,
    MethodAgreement,
    NegativeDataRejection,
    Policy,
    PositiveDataAcceptance,
    Provenance,
    Request,
    StatusCodeConformance,
    Step,
    UnsupportedMethod,
    UseAfterFree,
    case_id,
    make_case,
)
from testops_lib.spec import Spec

ALL = Policy(methods="all")
SAFE = Policy(methods="safe")


def ref(name: str) -> dict[str, Any]:
    return {"$ref": f"#/components/schemas/{name}"}


def says(schema: dict[str, Any] | None, *, status: str = "200", **more: Any) -> dict[str, Any]:
    content = {"content": {"application/json": {"schema": schema}}} if schema else {}
    return {status: {"description": "", **content}, **{code: {"description": ""} for code in more.get("also", ())}}


def takes(schema: dict[str, Any], **media: Any) -> dict[str, Any]:
    return {"required": True, "content": {"application/json": {"schema": schema, **media}}}


def path(name: str, schema: dict[str, Any]) -> dict[str, Any]:
    return {"name": name, "in": "path", "required": True, "schema": schema}


def query(name: str, schema: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"name": name, "in": "query", "schema": schema, **more}


def load(paths: dict[str, Any], **components: Any) -> Spec:
    document = {
        "openapi": "3.1.0",
        "info": {"title": "t", "version": "1"},
        "paths": paths,
        "components": {
            "schemas": components,
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
    }
    return specs.load_bytes(json.dumps(document).encode(), source="t.json")


ORDER_IN = {
    "type": "object",
    "additionalProperties": False,
    "required": ["product_id", "quantity"],
    "properties": {
        "product_id": {"type": "integer"},
        "quantity": {"type": "integer", "minimum": 1, "maximum": 100},
        "note": {"type": "string", "maxLength": 40},
    },
}
PRODUCT_IN = {
    "type": "object",
    "required": ["name", "price"],
    "properties": {
        "id": {"type": "integer", "readOnly": True},
        "name": {"type": "string", "minLength": 1, "maxLength": 60},
        "price": {"type": "number", "minimum": 0.5},
        "kind": {"enum": ["tool", "toy"]},
    },
}


@pytest.fixture(scope="module")
def shop() -> Spec:
    item = path("order_id", {"type": "integer"})
    order_out = {"type": "object", "properties": {"id": {"type": "integer"}, **ORDER_IN["properties"]}}  # type: ignore[dict-item]
    signed_in = [{"token": []}]
    return load(
        {
            "/products": {
                "get": {
                    "parameters": [
                        query(
                            "limit",
                            {"type": "integer", "minimum": 1, "maximum": 50},
                            description="At most this many items.",
                        ),
                        query("kind", {"enum": ["tool", "toy"]}),
                    ],
                    "responses": says({"type": "array", "items": ref("Product")}),
                },
                "post": {
                    "requestBody": takes(ref("Product")),
                    "responses": says(ref("Product"), status="201", also=["422"]),
                },
            },
            "/products/{id}": {
                "parameters": [path("id", {"type": "integer"})],
                "get": {"responses": says(ref("Product"), also=["404"])},
                "put": {"requestBody": takes(ref("Product")), "responses": says(None, status="204")},
                "delete": {"responses": says(None, status="204")},
            },
            "/orders": {
                "post": {
                    "security": signed_in,
                    "requestBody": takes(ref("OrderIn")),
                    "responses": says(ref("Order"), status="201"),
                }
            },
            "/orders/{order_id}": {
                "get": {"security": signed_in, "parameters": [item], "responses": says(ref("Order"), also=["404"])},
                "delete": {"security": signed_in, "parameters": [item], "responses": says(None, status="204")},
            },
            "/logout": {"post": {"security": signed_in, "responses": says(None, status="204")}},
        },
        Product=PRODUCT_IN,
        OrderIn=ORDER_IN,
        Order=order_out,
    )


@pytest.fixture(scope="module")
def made(shop: Spec) -> Generated:
    return generate(shop, policy=ALL, identities=("main", "spare"))


def about(made: Generated, operation: str, intent: str = "") -> list[Case]:
    return [case for case in made.cases if case.operation == operation and (not intent or case.intent == intent)]


def checks(case: Case, kind: type) -> list[Any]:
    return [check for step in case.steps for check in step.checks if isinstance(check, kind)]


def body(case: Case, step: int = -1) -> Any:
    sent = case.steps[step].request.body
    return sent.value if isinstance(sent, JsonBody) else None


def requests(case: Case) -> list[str]:
    return [f"{step.request.method} {step.request.path}" for step in case.steps]


def filled(value: Any) -> Any:
    """A body as it may be sent: whatever is a placeholder alone is a number, a token is 12 digits."""
    if isinstance(value, str):
        return 7 if re.fullmatch(r"\{(?!unique)\w+\}", value) else value.replace("{unique}", "0123456789ab")
    if isinstance(value, dict):
        return {key: filled(item) for key, item in value.items()}
    return [filled(item) for item in value] if isinstance(value, list) else value


def test_the_same_spec_gives_the_same_cases_in_the_same_order(shop: Spec, made: Generated) -> None:
    again = generate(shop, policy=ALL, identities=("main", "spare"))
    assert again == made
    assert len({case.id for case in made.cases}) == len(made.cases)
    assert all(
        case.id == case_id(case.intent, case.operation, case.steps, case.cleanup, case.last) for case in made.cases
    )


def test_every_operation_has_a_case_and_its_first_one_is_positive(shop: Spec, made: Generated) -> None:
    for operation in shop.operations:
        assert about(made, operation.key)[0].intent == "positive", operation.key


def test_an_order_is_made_of_a_product_made_before(made: Generated) -> None:
    case = about(made, "POST /orders", "positive")[0]
    assert requests(case) == ["POST /products", "POST /orders"]
    (capture,) = case.steps[0].captures
    assert (capture.path, body(case)["product_id"]) == ("$.id", "{" + capture.name + "}")
    assert [f"{s.request.method} {s.operation}" for s in case.cleanup] == [
        "DELETE DELETE /orders/{order_id}",
        "DELETE DELETE /products/{id}",
    ]


def test_a_path_parameter_is_what_a_create_operation_answered(made: Generated) -> None:
    case = about(made, "GET /orders/{order_id}", "positive")[0]
    assert requests(case) == ["POST /products", "POST /orders", "GET /orders/{order_id}"]
    assert [step.setup for step in case.steps] == [True, True, False]
    assert all(not step.checks for step in case.steps if step.setup)


def test_safe_methods_only_takes_ids_from_lists_and_sends_nothing_else(shop: Spec) -> None:
    cases = generate(shop, policy=SAFE).cases
    methods = {step.request.method for case in cases for step in (*case.steps, *case.cleanup)}
    assert methods == {"GET", "HEAD", "OPTIONS"}
    first = next(case for case in cases if case.operation == "GET /products/{id}")
    assert first.steps[0].captures[0].path == "$[0].id"
    assert not any(isinstance(check, UnsupportedMethod) for case in cases for check in case.steps[-1].checks)


def test_setup_may_use_operations_outside_those_asked_for(shop: Spec) -> None:
    cases = generate(shop, policy=ALL, operations={"GET /orders/{order_id}"}).cases
    assert {case.operation for case in cases} == {"GET /orders/{order_id}"}
    assert requests(cases[0])[0] == "POST /products"


def test_what_must_be_unique_holds_a_token(made: Generated) -> None:
    assert "{unique}" in body(about(made, "POST /products", "positive")[0])["name"]


def test_read_only_properties_are_never_sent(made: Generated) -> None:
    sent = [body(case) for case in made.cases if case.steps[-1].operation == "POST /products"]
    assert not any("id" in value for value in sent if isinstance(value, dict))


@pytest.mark.parametrize("operation", ["POST /products", "POST /orders"])
def test_valid_bodies_are_valid_and_invalid_ones_are_not(shop: Spec, made: Generated, operation: str) -> None:
    described = shop.operation(operation).body
    assert described is not None
    schema = specs.closed(described.content["application/json"].schema, shop.definitions, direction="request")
    validator = jsonschema_rs.Draft202012Validator(schema, validate_formats=True)
    judged = 0
    for case in about(made, operation):
        faults = checks(case, NegativeDataRejection)
        value = filled(body(case))
        if case.intent in ("positive", "boundary"):
            assert validator.is_valid(value), case.name
        elif faults and faults[0].location.startswith("body") and isinstance(case.steps[-1].request.body, JsonBody):
            assert not validator.is_valid(value), case.name
            judged += 1
    assert judged >= 6


def test_each_rule_of_a_body_is_broken_once(made: Generated) -> None:
    broken = [(c.location, c.rule) for case in about(made, "POST /orders") for c in checks(case, NegativeDataRejection)]
    assert len(broken) == len(set(broken))
    assert {
        ("body", "required"),
        ("body", "malformed"),
        ("body", "media_type"),
        ("body", "type"),
        ("body/product_id", "required"),
        ("body/product_id", "type"),
        ("body/quantity", "minimum"),
        ("body/quantity", "maximum"),
        ("body/note", "maxLength"),
        ("body/note", "type"),
        ("body/unexpected_property", "additionalProperties"),
    } <= set(broken)


def test_query_parameters_are_broken_only_where_text_can_break_them(made: Generated) -> None:
    broken = {
        (c.location, c.rule) for case in about(made, "GET /products") for c in checks(case, NegativeDataRejection)
    }
    assert broken == {
        ("query/limit", "type"),
        ("query/limit", "minimum"),
        ("query/limit", "maximum"),
        ("query/kind", "enum"),
    }


def test_limits_are_tried_at_their_very_edge(made: Generated) -> None:
    sent = {dict(case.steps[-1].request.query).get("limit") for case in about(made, "GET /products", "boundary")}
    assert {"1", "50"} <= sent
    quantities = {body(case)["quantity"] for case in about(made, "POST /orders", "boundary")}
    assert {1, 100} <= quantities


def test_a_protected_operation_is_called_without_and_with_false_credentials(made: Generated) -> None:
    cases = [case for case in about(made, "GET /orders/{order_id}", "security") if "oracle" not in case.tags]
    assert {case.steps[-1].identity for case in cases} == {NO_CREDENTIALS, INVALID_CREDENTIALS}
    for case in cases:
        assert checks(case, IgnoredAuth)
        assert not checks(case, StatusCodeConformance)
        assert all(step.identity == "" for step in case.steps[:-1])
    assert not about(made, "GET /products", "security")


def test_methods_not_offered_are_probed_under_the_path_s_own_operation(shop: Spec) -> None:
    made = generate(shop, policy=Policy(foreign="write"))
    probes = [case for case in made.cases if checks(case, UnsupportedMethod)]
    assert {(c.operation, c.steps[0].request.method) for c in probes if c.operation == "GET /products"} == {
        ("GET /products", "PUT"),
        ("GET /products", "PATCH"),
        ("GET /products", "DELETE"),
    }
    assert not any(step.request.method in ("TRACE", "CONNECT") for case in probes for step in case.steps)


def test_methods_that_a_whole_collection_does_not_offer_are_not_tried_on_what_others_made(made: Generated) -> None:
    probed = {case.operation for case in made.cases if checks(case, UnsupportedMethod)}
    assert "GET /products" not in probed


def test_a_method_that_another_template_offers_is_not_probed() -> None:
    spec = load(
        {
            "/pets/{id}": {
                "parameters": [path("id", {"type": "string"})],
                "get": {"responses": says(None)},
                "delete": {"responses": says(None)},
            },
            "/pets/mine": {"get": {"responses": says(None)}},
        }
    )
    probed = {
        c.steps[0].request.method
        for c in generate(spec, policy=ALL).cases
        if "/pets/mine" in c.name and "offered" in c.name
    }
    assert probed == {"PUT", "PATCH", "POST"}


def test_logout_comes_last_under_the_spare_identity_and_is_never_a_setup(shop: Spec, made: Generated) -> None:
    assert all(case.last for case in about(made, "POST /logout"))
    assert about(made, "POST /logout", "positive")[0].steps[-1].identity == "spare"
    assert not any(
        step.operation == "POST /logout" for c in made.cases for step in c.steps if c.operation != "POST /logout"
    )
    assert order(made.cases, shop)[-1].operation == "POST /logout"


def test_probing_the_own_account_for_a_way_to_delete_it_comes_last() -> None:
    spec = load({"/users/me": {"get": {"responses": says(None)}}})
    for identities, methods in (((), set()), (("user", "spare"), {"DELETE", "PUT", "PATCH", "POST"})):
        cases = generate(spec, policy=ALL, identities=identities).cases
        probes = [case for case in cases if checks(case, UnsupportedMethod)]
        assert {case.steps[0].request.method for case in probes} == methods
        assert all(case.last and case.steps[0].identity == "spare" for case in probes)


@pytest.mark.parametrize(
    ("method", "template", "last"),
    [
        ("delete", "/users/me", True),
        ("delete", "/session", True),
        ("get", "/auth/sign-out", True),
        ("post", "/admin/shutdown", True),
        ("post", "/server/restart", True),
        ("put", "/maintenance", True),
        ("get", "/users/me", False),
        ("post", "/restaurants", False),
        ("post", "/password/reset", False),
        ("get", "/reports/maintenance", False),
    ],
)
def test_what_ends_the_session_or_the_service_is_recognised(method: str, template: str, last: bool) -> None:
    spec = load({template: {method: {"responses": says(None)}}})
    cases = generate(spec, policy=ALL, identities=("user", "spare")).cases
    assert cases[0].last is last


def test_a_resource_is_read_written_twice_and_read_after_its_end(made: Generated) -> None:
    read = about(made, "GET /products/{id}", "stateful")
    assert requests(read[0]) == ["POST /products", "GET /products/{product_id}"]
    assert checks(read[0], EnsureResourceAvailability)
    once, twice = about(made, "PUT /products/{id}", "stateful")
    item = "/products/{product_id}"
    assert requests(once) == ["POST /products", f"PUT {item}", f"GET {item}"]
    assert requests(twice) == ["POST /products", f"PUT {item}", f"PUT {item}", f"GET {item}"]
    gone, again = about(made, "DELETE /products/{id}", "stateful")
    assert requests(gone) == ["POST /products", f"DELETE {item}", f"GET {item}"]
    assert checks(gone, UseAfterFree)
    assert requests(again) == ["POST /products", f"DELETE {item}", f"DELETE {item}"]


def test_a_replacement_differs_from_what_was_made_and_is_compared_as_sent(made: Generated) -> None:
    once = about(made, "PUT /products/{id}", "stateful")[0]
    before, after = body(once, 0), body(once, 1)
    assert before["price"] != after["price"]
    assert before["name"] != after["name"]
    compared = {check.path: (check.value, check.basis) for check in checks(once, JsonPathIs)}
    assert compared == {"$.name": (after["name"], "spec"), "$.price": (after["price"], "spec")}


def test_a_list_is_asked_for_fewer_items_than_there_are(made: Generated) -> None:
    case = about(made, "GET /products", "stateful")[0]
    assert requests(case) == ["POST /products"] * 3 + ["GET /products"]
    assert len({body(case, step)["name"] for step in range(3)}) == 3
    (check,) = checks(case, JsonPathIs)
    assert (check.path, check.op, check.value, check.basis) == ("$[*]", "max_items", 2, "description")
    assert check.quote == "At most this many items."
    assert len({capture.name for step in case.steps for capture in step.captures}) == 3
    assert len(case.cleanup) == 3


def test_a_read_of_what_was_made_leaves_its_absence_to_one_check(made: Generated) -> None:
    happy = about(made, "GET /products/{id}", "positive")[0]
    assert checks(happy, PositiveDataAcceptance)[0].also == (404, 410)


def test_time_is_only_checked_when_the_policy_has_a_limit(shop: Spec, made: Generated) -> None:
    assert not any(checks(case, MaxResponseTime) for case in made.cases)
    timed = generate(shop, policy=Policy(max_response_ms=900)).cases
    limited = [case for case in timed if checks(case, MaxResponseTime)]
    assert {check.limit_ms for case in limited for check in checks(case, MaxResponseTime)} == {900}
    assert {case.intent for case in limited} == {"positive", "boundary"}


def test_a_limit_of_cases_keeps_the_most_valuable(shop: Spec, made: Generated) -> None:
    few = generate(shop, policy=ALL, max_cases_per_operation=3, identities=("main", "spare"))
    assert [c.id for c in about(few, "POST /orders")] == [c.id for c in about(made, "POST /orders")[:3]]
    assert few.generation.dropped["beyond the limit"] > 0


def test_hints_win_over_everything(shop: Spec) -> None:
    cases = generate(shop, policy=ALL, values={"order_id": (42,), "quantity": (5,)}).cases
    assert next(c for c in cases if c.operation == "GET /orders/{order_id}").steps[0].request.path == "/orders/42"
    assert body(next(c for c in cases if c.operation == "POST /orders"))["quantity"] == 5


def test_an_id_that_nobody_supplies_is_no_promise_of_success() -> None:
    spec = load({"/things/{id}": {"get": {"parameters": [path("id", {"type": "integer"})], "responses": says(None)}}})
    assert not checks(generate(spec, policy=ALL).cases[0], PositiveDataAcceptance)


def test_a_filter_with_a_value_of_our_own_may_find_nothing() -> None:
    section = query("section", {"type": "string"})
    order_by = query("order", {"type": "string", "enum": ["up", "down"]})
    page = query("page", {"type": "integer", "minimum": 0, "default": 1})
    limit = query("limit", {"type": "integer", "maximum": 9}, example=5)
    parameters = [section, order_by, page, limit]
    spec = load(
        {
            "/config": {"get": {"parameters": parameters, "responses": says({"type": "object"}, also=["404"])}},
            "/plain": {"get": {"parameters": parameters, "responses": says({"type": "object"})}},
        }
    )
    made = generate(spec, policy=SAFE)

    def tolerant(operation: str) -> dict[str, bool]:
        found = [*about(made, operation, "positive"), *about(made, operation, "boundary")]
        return {
            case.name.removeprefix(f"{operation}: "): 404 in check.also
            for case in found
            for check in checks(case, PositiveDataAcceptance)
            if "combination" not in case.name
        }

    assert tolerant("GET /config") == {
        "valid request": False,
        "all parameters and properties": True,
        "with query/section": True,
        "with query/order": False,
        "query/order = down": False,
        "with query/page": False,
        "query/page at minimum": True,
        "with query/limit": False,
        "query/limit at maximum": True,
    }
    assert not any(tolerant("GET /plain").values())


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


def test_what_cannot_be_written_is_said() -> None:
    spec = load(
        {
            "/a": {
                "post": {"requestBody": {"required": True, "content": {"application/xml": {}}}, "responses": says(None)}
            }
        }
    )
    made = generate(spec, policy=ALL)
    assert all(checks(case, UnsupportedMethod) for case in made.cases)
    assert "application/xml" in made.generation.not_tested["POST /a"]


def test_no_undocumented_refusal_is_asked_of_a_media_type_probe(made: Generated) -> None:
    (probe,) = [
        c for c in about(made, "POST /orders") if any(k.rule == "media_type" for k in checks(c, NegativeDataRejection))
    ]
    assert not checks(probe, StatusCodeConformance)
    assert checks(probe, NegativeDataRejection)[0].basis == "guess"


def test_each_seeded_defect_of_the_sample_has_a_case_that_checks_for_it() -> None:
    shop = pytest.importorskip("examples.shop.app")
    settings = pytest.importorskip("examples.shop.settings").Settings(token="t-1", admin_token="t-2", defects="none")
    document = json.dumps(shop.right_shop(settings).openapi()).encode()
    spec = specs.load_bytes(document, source="shop.json")
    cases = generate(spec, policy=Policy(max_response_ms=2_500), identities=("staff",)).cases
    asked = {
        (step.operation, type(check).__struct_config__.tag)
        for case in cases
        for step in case.steps
        for check in step.checks
    }
    listed = yaml.safe_load((Path(shop.__file__).parent / "defects.yaml").read_text())
    assert len(listed) >= 20
    for defect in listed:
        assert defect["check"] == NO_ANSWER or (defect["operation"], defect["check"]) in asked, defect["id"]


@given(st.lists(st.integers(1, 4), min_size=2, max_size=7))
def test_any_two_levels_of_any_two_factors_meet(sizes: list[int]) -> None:
    rows = list(covering(sizes))
    met = {(a, row[a], b, row[b]) for row in rows for a, b in combinations(range(len(sizes)), 2)}
    wanted = sum(sizes[a] * sizes[b] for a, b in combinations(range(len(sizes)), 2))
    assert len(met) == wanted and all(0 <= level < size for row in rows for level, size in zip(row, sizes, strict=True))
    assert rows == list(covering(sizes))
    assert len(rows) <= wanted


def test_optional_parameters_meet_in_pairs() -> None:
    names = ("a", "b", "c", "d")
    parameters = [{"name": name, "in": "query", "schema": {"type": "boolean"}} for name in names]
    spec = load({"/things": {"get": {"parameters": parameters, "responses": says({"type": "array"})}}})
    sent = [dict(c.steps[-1].request.query) for c in generate(spec, policy=SAFE).cases if "combination" in c.name]
    for one, other in combinations(names, 2):
        met = {(query.get(one), query.get(other)) for query in sent}
        assert len(met) == 9, (one, other, met)  # true, false and absent


def test_documented_conditions_and_wishes_have_a_case() -> None:
    also = ("304", "404", "406", "412")
    item = says({"type": "object", "properties": {"id": {"type": "integer"}}}, also=also)
    spec = load(
        {
            "/things": {"post": {"requestBody": takes({"type": "object"}), "responses": item}},
            "/things/{id}": {
                "parameters": [path("id", {"type": "integer"})],
                "get": {"responses": item},
                "put": {"requestBody": takes({"type": "object"}), "responses": item},
            },
        }
    )
    cases = {case.name: case for case in generate(spec, policy=ALL).cases}
    again = cases["GET /things/{id}: not modified since"].steps
    assert again[-2].captures[0].path == "ETag" and ("If-None-Match", "{entity_tag}") in again[-1].request.headers
    assert ("Accept", "application/x-nothing") in cases["GET /things/{id}: header/Accept breaks accept"].steps[
        -1
    ].request.headers
    assert "PUT /things/{id}: header/If-Match breaks precondition" in cases


def test_an_operation_that_needs_others_is_also_called_on_its_own(made: Generated) -> None:
    alone = [case for case in about(made, "GET /orders/{order_id}") if "alone" in case.tags]
    assert alone and all(len(case.steps) == 1 and not case.cleanup for case in alone)
    assert any("nonexistent" in case.tags for case in alone)


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


def test_order_sees_every_operation_before_it_looks_twice(shop: Spec, made: Generated) -> None:
    cases = order(made.cases, shop)
    assert sorted(case.id for case in cases) == sorted(case.id for case in made.cases)
    operations = {case.operation for case in made.cases if not case.last}
    lead = [case for case in cases if case.intent == "positive"][: len(operations)]
    assert {case.operation for case in lead} == operations
    requests = [len(case.steps) + len(case.cleanup) for case in lead]
    assert requests == sorted(requests)
    among = cases[: cases.index(lead[-1])]
    others = [case for case in among if case.intent != "positive"]
    assert {(len(case.steps), len(case.cleanup)) for case in others} == {(1, 0)}
    broken = [case for case in others if "alone" not in case.tags]
    strangers = [case for case in others if "alone" in case.tags]
    for cases_of_a_sort in (broken, strangers):
        named = {case.operation for case in cases_of_a_sort}
        assert len(named) == len(cases_of_a_sort) > len(operations) / 4, "one for an operation"
    assert [case.last for case in cases] == sorted(case.last for case in cases)


def test_order_looks_again_at_once_where_the_first_look_may_be_refused(shop: Spec, made: Generated) -> None:
    sure, unsure = (PositiveDataAcceptance(basis=basis) for basis in ("spec", "guess"))

    def valid(operation: str, path: str, check: PositiveDataAcceptance) -> Case:
        step = Step(operation=operation, request=Request(method="GET", path=path), checks=(check,))
        return make_case(
            name=path, intent="positive", operation=operation, steps=(step,), origin=Provenance(source="rules")
        )

    first, second = shop.operations[0].key, shop.operations[1].key
    cases = [valid(first, "/a1", sure), valid(first, "/a2", sure)]
    cases += [valid(second, f"/b{n}", unsure) for n in range(1, 6)]
    names = [case.name for case in order(cases, shop)]
    assert names[:4] == ["/a1", "/b1", "/b2", "/b3"]


def test_order_has_what_can_only_be_advisory_after_what_can_count(shop: Spec) -> None:
    key = shop.operations[0].key

    def about(path: str, intent: Intent, basis: Basis) -> Case:
        check = MethodAgreement(status="200", basis=basis)
        step = Step(operation=key, request=Request(method="GET", path=path), checks=(check,))
        return make_case(name=path, intent=intent, operation=key, steps=(step,), origin=Provenance(source="rules"))

    cases = [about("/first", "positive", "spec"), about("/guess", "stateful", "guess")]
    cases += [
        about("/firm", "stateful", "spec"),
        about("/valid", "positive", "guess"),
        about("/edge", "boundary", "spec"),
    ]
    assert [case.name for case in order(cases, shop)] == ["/first", "/valid", "/firm", "/edge", "/guess"]


def test_order_breaks_each_rule_once_before_one_twice(shop: Spec, made: Generated) -> None:
    about = [
        case for case in order(made.cases, shop) if case.operation == "POST /products" and case.intent == "negative"
    ]
    rules = [case.tags[1] for case in about]
    seen = [(rules[:index].count(rule), rule) for index, rule in enumerate(rules)]
    turns = [count for count, rule in seen if rule not in ("required", "type")]  # these come two at a time
    assert turns == sorted(turns) and turns[-1] > 0


def test_what_ends_the_service_comes_after_what_ends_the_session_and_the_account(shop: Spec) -> None:
    paths = ("/shutdown", "/sessions/current", "/accounts", "/buckets")
    cases = []
    for path in paths:
        step = Step(operation=f"DELETE {path}", request=Request(method="DELETE", path=path))
        told = {"operation": step.operation, "steps": (step,), "origin": Provenance(source="rules"), "last": True}
        cases += [make_case(name=f"{path} 1", intent="positive", **told)]
        cases += [make_case(name=f"{path} 2", intent="security", **told)]
    ordered = [case.name.split()[0] for case in order(cases, shop)]
    assert ordered == [path for path in reversed(paths) for _ in range(2)]


def test_operations_planned_apart_give_the_cases_of_all_planned_together(shop: Spec) -> None:
    together = generate(shop, policy=ALL).cases
    apart = [case for one in shop.operations for case in generate(shop, policy=ALL, operations={one.key}).cases]
    assert tuple(apart) == together


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


# --------------------------------------------------------------------------- odd documents


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


# --------------------------------------------------------------------------- null, empty values, documented data


def bodies(made: Generated, key: str, intent: str = "") -> list[tuple[Any, Case]]:
    """The JSON bodies that an operation is sent, with their cases."""
    return [
        (case.steps[-1].request.body.value, case)
        for case in made.cases
        if case.operation == key and isinstance(case.steps[-1].request.body, JsonBody) and intent in ("", case.intent)
    ]


def basis_of(case: Case, kind: type[Any]) -> str:
    return next((check.basis for check in case.steps[-1].checks if isinstance(check, kind)), "")


def test_null_is_tried_as_the_root_as_an_item_and_for_optional_members() -> None:
    thing = {
        "type": "object",
        "required": ["name"],
        "properties": {
            "name": {"type": "string"},
            "tags": {"type": "array", "items": {"type": "string"}},
            "note": {"type": "string"},
            "free": {"type": ["string", "null"]},
        },
    }
    listed = {"type": "array", "items": {"type": "integer"}}
    loose = {"type": ["array", "null"], "items": {"type": ["integer", "null"]}}
    made = generate(
        load(
            {
                f"/{name}": {"post": {"requestBody": takes(schema), "responses": says(None, also=("422",))}}
                for name, schema in (("thing", thing), ("listed", listed), ("loose", loose))
            }
        ),
        policy=ALL,
    )
    negative = {
        json.dumps(
            {k: v for k, v in sent.items() if v is None or v == [None]} if isinstance(sent, dict) else sent
        ): basis_of(case, NegativeDataRejection)
        for sent, case in (*bodies(made, "POST /thing", "negative"), *bodies(made, "POST /listed", "negative"))
    }
    assert negative["null"] == "spec" and negative["[null]"] == "spec"
    assert negative['{"tags": [null]}'] == negative['{"name": null}'] == "spec"
    assert negative['{"tags": null}'] == negative['{"note": null}'] == "guess", "many servers read it as not given"
    assert negative['{"tags": null, "note": null}'] == "guess"
    assert '{"free": null}' not in negative
    assert any(sent.get("free", "") is None for sent, case in bodies(made, "POST /thing", "boundary"))
    assert [sent for sent, case in bodies(made, "POST /loose") if sent in (None, [None])] == [None, [None]]
    assert not any(sent in (None, [None]) for sent, case in bodies(made, "POST /loose", "negative"))


def test_an_empty_query_value_is_sent_where_it_is_allowed() -> None:
    parameters = [
        query("q", {"type": "string"}),
        query("least", {"type": "string", "minLength": 1}),
        query("count", {"type": "integer"}),
        query("flag", {"type": "integer"}, allowEmptyValue=True),
        query("kind", {"type": "string", "enum": ["a", "b"]}),
        query("list", {"type": "array", "items": {"type": "string"}}),
        {"name": "X-Q", "in": "header", "schema": {"type": "string"}},
    ]
    made = generate(load({"/a": {"get": {"parameters": parameters, "responses": says(None)}}}), policy=ALL)
    empty = {name for case in made.cases for name, value in case.steps[-1].request.query if value == ""}
    assert empty == {"q", "flag"}
    assert not any(value == "" for case in made.cases for _, value in case.steps[-1].request.headers)


@pytest.mark.parametrize(
    ("described", "wanted", "basis"),
    [
        ({"example": {"name": "Rex", "age": 3}}, {"name": "Rex", "age": 3}, "example"),
        ({"examples": {"bad": {"value": {"name": 5}}, "good": {"value": {"name": "Rex"}}}}, {"name": "Rex"}, "example"),
        ({"example": {"name": 5}}, {"name": "Max"}, "spec"),
        ({}, {"name": "Max"}, "spec"),
    ],
)
def test_the_documents_own_valid_example_is_sent_first_and_marked(described: Any, wanted: Any, basis: str) -> None:
    schema = {
        "type": "object",
        "required": ["name"],
        "properties": {
            "name": {"type": "string", "pattern": "^(Max|Rex)$"},
            "age": {"type": "integer", "default": "x"},
        },
    }
    made = generate(
        load({"/a": {"put": {"requestBody": takes(schema, **described), "responses": says(None)}}}), policy=ALL
    )
    sent, case = bodies(made, "PUT /a", "positive")[0]
    assert (sent["name"] in ("Max", "Rex"), basis_of(case, PositiveDataAcceptance)) == (True, basis)
    assert sent == wanted or basis == "spec"
    for sent, case in bodies(made, "PUT /a", "positive"):
        assert basis_of(case, PositiveDataAcceptance) != "example" or sent == wanted, "the rest is our own"


def test_a_default_that_breaks_its_schema_is_not_valid_data() -> None:
    parameter = query("n", {"type": "integer", "default": "many", "example": "lots", "minimum": 3}, required=True)
    option = query("kind", {"type": "integer", "enum": [1, "two"]})
    made = generate(load({"/a": {"get": {"parameters": [parameter, option], "responses": says(None)}}}), policy=ALL)
    valid = [dict(case.steps[-1].request.query) for case in made.cases if case.intent in ("positive", "boundary")]
    assert valid and all(sent.get("n") not in ("many", "lots") and sent.get("kind") != "two" for sent in valid)


CAT = {"type": "object", "required": ["kind"], "properties": {"kind": {"type": "string"}, "lives": {"type": "integer"}}}
DOG = {"type": "object", "required": ["kind"], "properties": {"kind": {"type": "string"}, "bark": {"type": "string"}}}


@pytest.mark.parametrize(
    "mapping", [None, {"feline": "#/components/schemas/Cat", "canine": "#/components/schemas/Dog"}]
)
@pytest.mark.parametrize("combined", ["oneOf", "anyOf"])
def test_alternatives_that_only_a_discriminator_tells_apart_get_valid_bodies(combined: str, mapping: Any) -> None:
    tag = {"propertyName": "kind", **({"mapping": mapping} if mapping else {})}
    pet = {combined: [ref("Cat"), ref("Dog")], "discriminator": tag}
    inside = {"type": "object", "required": ["pet"], "properties": {"pet": ref("Pet")}}
    made = generate(
        load(
            {
                "/pets": {"post": {"requestBody": takes(ref("Pet")), "responses": says(None, also=("422",))}},
                "/owners": {"post": {"requestBody": takes(inside), "responses": says(None)}},
            },
            Cat=CAT,
            Dog=DOG,
            Pet=pet,
        ),
        policy=ALL,
    )
    assert not made.generation.not_tested
    names = set(mapping or ("Cat", "Dog"))
    kinds = {sent["kind"] for sent, case in bodies(made, "POST /pets") if case.intent in ("positive", "boundary")}
    assert kinds == names, "each alternative is sent under its own name"
    assert {sent["pet"]["kind"] for sent, _ in bodies(made, "POST /owners", "positive")} <= names


@pytest.mark.parametrize(
    "mapping", [None, {"feline": "#/components/schemas/Cat", "canine": "#/components/schemas/Dog"}]
)
def test_a_base_with_a_discriminator_is_sent_as_what_extends_it(mapping: Any) -> None:
    tag = {"propertyName": "kind", **({"mapping": mapping} if mapping else {})}
    base = {"type": "object", "required": ["kind"], "properties": {"kind": {"type": "string"}}, "discriminator": tag}
    lives = {"type": "object", "required": ["lives"], "properties": {"lives": {"type": "integer"}}}
    made = generate(
        load(
            {
                "/pets": {"post": {"requestBody": takes(ref("Pet")), "responses": says(None)}},
                "/dogs": {"post": {"requestBody": takes(ref("Dog")), "responses": says(None)}},
                "/cats": {"post": {"requestBody": takes(ref("Cat")), "responses": says(None)}},
            },
            Pet=base,
            Cat={"allOf": [ref("Pet"), lives]},
            Dog={"allOf": [ref("Pet")]},
        ),
        policy=ALL,
    )
    cat, dog = ("feline", "canine") if mapping else ("Cat", "Dog")
    first, _ = bodies(made, "POST /pets", "positive")[0]
    assert first["kind"] in (cat, dog) and ("lives" in first) == (first["kind"] == cat)
    assert {sent["kind"] for sent, _ in bodies(made, "POST /cats", "positive")} == {cat}
    assert {sent["kind"] for sent, _ in bodies(made, "POST /dogs", "positive")} == {dog}


def test_alternatives_that_nothing_tells_apart_are_sent_and_nothing_is_claimed_of_them() -> None:
    cat = {"type": "object", "properties": {"name": {"type": "string"}}}
    dog = {"type": "object", "properties": {"name": {"type": "string"}, "bark": {"type": "string"}}}
    pet = {"oneOf": [ref("Cat"), ref("Dog")]}
    inside = {"type": "object", "required": ["pet"], "properties": {"pet": pet}}
    made = generate(
        load(
            {
                "/pets": {"post": {"requestBody": takes(pet), "responses": says(None, also=("422",))}},
                "/owners": {"post": {"requestBody": takes(inside), "responses": says(None, also=("422",))}},
            },
            Cat=cat,
            Dog=dog,
        ),
        policy=ALL,
    )
    assert not made.generation.not_tested
    for key in ("POST /pets", "POST /owners"):
        positive = bodies(made, key, "positive")
        assert positive and all(basis_of(case, PositiveDataAcceptance) == "guess" for _, case in positive)
        assert any(basis_of(case, NegativeDataRejection) == "spec" for _, case in bodies(made, key, "negative"))


@pytest.mark.parametrize("names", [(["Cat"], ["Dog"]), (["Cat", "Dog"], ["Cat", "Dog"]), (["tom"], ["rex"])])
def test_an_alternative_is_sent_under_the_name_that_it_gives_itself(names: tuple[list[str], list[str]]) -> None:
    kinds = [{"type": "object", "properties": {"kind": {"type": "string", "enum": enum}}} for enum in names]
    pet = {"oneOf": [ref("Cat"), ref("Dog")], "discriminator": {"propertyName": "kind"}}
    paths = {"/pets": {"post": {"requestBody": takes(pet), "responses": says(None)}}}
    made = generate(load(paths, Cat=kinds[0], Dog=kinds[1]), policy=ALL)
    sent = {body["kind"] for body, case in bodies(made, "POST /pets") if case.intent in ("positive", "boundary")}
    assert sent == ({"tom", "rex"} if names[0] == ["tom"] else {"Cat", "Dog"})
