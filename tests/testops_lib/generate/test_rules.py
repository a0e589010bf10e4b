"""Cases from the document alone."""

from __future__ import annotations

import json
from itertools import combinations
from pathlib import Path

import jsonschema_rs
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from testops_lib import spec as specs
from testops_lib.generate import Generated
from testops_lib.generate.rules import generate
from testops_lib.generate.rules.pairwise import covering
from testops_lib.generate.sequence import order
from testops_lib.model import (
    INVALID_CREDENTIALS,
    NO_ANSWER,
    NO_CREDENTIALS,
    EnsureResourceAvailability,
    IgnoredAuth,
    JsonBody,
    JsonPathIs,
    MaxResponseTime,
    NegativeDataRejection,
    Policy,
    PositiveDataAcceptance,
    StatusCodeConformance,
    UnsupportedMethod,
    UseAfterFree,
    case_id,
)
from testops_lib.spec import Spec
from tests.testops_lib.generate.documents import (
    ALL,
    SAFE,
    about,
    body,
    checks,
    filled,
    load,
    path,
    query,
    requests,
    says,
    takes,
)


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


def test_operations_planned_apart_give_the_cases_of_all_planned_together(shop: Spec) -> None:
    together = generate(shop, policy=ALL).cases
    apart = [case for one in shop.operations for case in generate(shop, policy=ALL, operations={one.key}).cases]
    assert tuple(apart) == together
