from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from testops_lib.generate.proposals.request import MAX_BODY_BYTES
from testops_lib.model import (
    Case,
    FormBody,
    HeaderIs,
    IgnoredAuth,
    JsonBody,
    JsonPathIs,
    NegativeDataRejection,
    NotAServerError,
    Policy,
    PositiveDataAcceptance,
    ResponseSchemaConformance,
    StatusCodeConformance,
    StatusIs,
    TextBody,
    UseAfterFree,
)
from testops_lib.spec.operation import MediaType, Operation, RequestBody, Response, Spec
from tests.generation_specs import case, pets, positive, step
from tests.proposing import ORIGIN, accepted, check_of, refused_by, status_basis, validator

GET = {"path_params": {"id": "1"}}


def test_a_right_proposal_becomes_a_case_with_our_checks() -> None:
    judged = accepted(positive())
    assert judged.origin == ORIGIN
    assert judged.operation == "POST /pets"
    assert judged.steps[0].request.body == JsonBody(value={"name": "Rex"})
    kinds = [type(check) for check in judged.steps[0].checks]
    assert kinds[:2] == [NotAServerError, StatusCodeConformance]
    assert ResponseSchemaConformance in kinds and PositiveDataAcceptance in kinds
    assert judged.cleanup[0].request.path == "/pets/{pet}"
    assert judged.cleanup[0].checks == ()
    assert msgspec.json.decode(msgspec.json.encode(judged), type=Case) == judged


def test_equal_proposals_give_equal_ids_whatever_their_names() -> None:
    assert accepted(positive()).id == accepted(positive() | {"name": "another name"}).id


@pytest.mark.parametrize(
    ("raw", "rule"),
    [
        (42, "wrong shape"),
        ({"name": "x"}, "wrong shape"),
        (positive() | {"run": "rm -rf /"}, "wrong shape"),
        (case("positive", step("GET /pets", script="import os")), "wrong shape"),
        (case("positive", step("GET /cats")), "unknown operation"),
        (case("positive", step("GET http://evil.example/")), "unknown operation"),
        (case("positive", step("GET /pets"), about="POST /pets"), "operation not called"),
        (case("positive", step("GET /pets", query={"page": "1"})), "unknown parameter"),
        (case("positive", step("GET /pets", headers={"limit": "1"})), "wrong parameter place"),
        (case("positive", step("GET /pets/{id}", query={"id": "1"})), "wrong parameter place"),
        (case("positive", step("GET /pets/{id}")), "missing path parameter"),
        (case("positive", step("GET /pets/{id}", path_params={"id[0]": "1"})), "missing path parameter"),
        (case("positive", step("GET /pets/{id}", path_params={"id": ".."})), "bad path value"),
        (case("positive", step("GET /pets/{id}", path_params={"id": ""})), "bad path value"),
        (case("boundary", step("GET /pets/{id}", path_params={"id": "http://169.254.169.254/"})), "absolute URL"),
        (case("boundary", step("GET /pets/{id}", path_params={"id": "//evil.example/"})), "absolute URL"),
        (case("positive", step("GET /pets", headers={"Authorization": "Bearer x"})), "credentials"),
        (case("positive", step("GET /pets", headers={"Cookie": "a=b"})), "credentials"),
        (case("positive", step("GET /pets", headers={"X-Pets": "key"})), "credentials"),
        (case("positive", step("GET /pets", cookies={"session": "1"})), "credentials"),
        (case("positive", step("GET /pets", query={"api_key": "1"})), "credentials"),
        (case("positive", step("GET /pets", headers={"Host": "evil"})), "transport header"),
        (case("positive", step("GET /pets", headers={"X-HTTP-Method-Override": "DELETE"})), "transport header"),
        (case("positive", step("GET /pets", headers={"X-Trace": "a\r\nX-Evil: 1"})), "control characters"),
        (case("positive", step("GET /pets", headers={"X-Trace\r\nX-Evil": "1"})), "control characters"),
        (case("positive", step("GET /pets", headers={"X Trace": "1"})), "bad header"),
        (case("positive", step("GET /pets", query={"tag": "a\nb"})), "control characters"),
        (case("positive", step("GET /pets", query={"tag": "\ud800"})), "control characters"),
        (case("positive", step("GET /pets", query={"limit": "{nothing}"})), "unknown capture"),
        (case("positive", step("POST /pets", body_json='{"name": "{nothing}"}')), "unknown capture"),
        (case("positive", step("POST /pets", body_json='{"name": ')), "no JSON"),
        (case("positive", step("POST /pets", body_json='{"name": "a", "age": 1e999}')), "no JSON"),
        (case("positive", step("POST /pets", body_json='{"name": "\\ud800"}')), "no JSON"),
        (case("positive", step("GET /pets", body_json="{}")), "body not documented"),
        (case("positive", step("POST /pets", body_json="{}", body_text="x")), "body contradicts itself"),
        (case("positive", step("POST /pets", body_json='{"name": ""}')), "intent contradicts data"),
        (case("positive", step("POST /pets")), "intent contradicts data"),
        (case("positive", step("GET /pets", query={"limit": "0"})), "intent contradicts data"),
        (case("positive", step("GET /pets", query={"limit": "many"})), "intent contradicts data"),
        (case("negative", step("POST /pets", body_json='{"name": "Rex"}')), "intent contradicts data"),
        (case("negative", step("GET /pets", query={"limit": "5"})), "intent contradicts data"),
        (case("stateful", step("POST /pets", body_json='{"age": 1}')), "intent contradicts data"),
        (case("positive", step("GET /pets", identity="none")), "intent contradicts identity"),
        (case("positive", step("GET /pets", identity="mallory")), "unknown identity"),
        (case("positive", step("POST /pets", media_type="a/b\r\nX: 1", body_json="{}")), "bad media type"),
        (case("positive", *[step("GET /pets")] * 13), "too many steps"),
        (case("positive", *[step("GET /pets")] * 12, cleanup=(step("GET /pets"),)), "too many steps"),
        ({**positive(), "steps": []}, "no steps"),
    ],
)
def test_a_contradiction_is_refused_by_its_rule(raw: Any, rule: str) -> None:
    assert rule in refused_by(raw)


@pytest.mark.parametrize(
    ("expectation", "rule"),
    [
        ({"kind": "status", "statuses": []}, "bad status"),
        ({"kind": "status", "statuses": [99]}, "bad status"),
        ({"kind": "status", "statuses": [500]}, "expects a server error"),
        ({"kind": "status", "statuses": [418], "basis": "spec"}, "undocumented status"),
        ({"kind": "status", "statuses": [418], "basis": "human"}, "undocumented status"),
        ({"kind": "jsonpath", "path": "name"}, "bad JSONPath"),
        ({"kind": "jsonpath", "path": "$.name["}, "bad JSONPath"),
        ({"kind": "jsonpath", "path": "$[?match(@.name, '(a+)+$')]"}, "bad JSONPath"),
        ({"kind": "jsonpath", "path": "$..*..*"}, "bad JSONPath"),
        ({"kind": "jsonpath", "path": "$.colour"}, "JSONPath cannot match"),
        ({"kind": "jsonpath", "path": "$[0].name"}, "JSONPath cannot match"),
        ({"kind": "jsonpath", "path": "$.name.first"}, "JSONPath cannot match"),
        ({"kind": "jsonpath", "path": "$.id", "op": "equals", "value_json": '"seven"'}, "JSONPath cannot match"),
        ({"kind": "jsonpath", "path": "$.id", "op": "equals"}, "bad expectation"),
        ({"kind": "jsonpath", "path": "$.parents[*]", "op": "max_items", "value_json": '"2"'}, "bad expectation"),
        ({"kind": "jsonpath", "path": "$.id", "op": "equals", "value_json": '"{later}"'}, "unknown capture"),
        ({"kind": "header", "name": "X Y"}, "bad header"),
        ({"kind": "header", "name": "X-A", "equals": "1\r\n"}, "control characters"),
        ({"kind": "magic"}, "wrong shape"),
    ],
)
def test_an_impossible_expectation_is_refused_by_its_rule(expectation: dict[str, Any], rule: str) -> None:
    raw = case("positive", step("GET /pets/{id}", **GET, expect=[expectation]))
    assert rule in refused_by(raw)


@pytest.mark.parametrize(
    "path", ["$.id", "$.parents[0].parents[*].name", "$..name", "$[?@.name=='a']", "$.parents[-1]"]
)
def test_a_possible_jsonpath_is_kept(path: str) -> None:
    judged = accepted(case("positive", step("GET /pets/{id}", **GET, expect=[{"kind": "jsonpath", "path": path}])))
    assert check_of(judged, JsonPathIs).path == path


def test_an_expectation_may_not_use_what_a_later_step_captures() -> None:
    early = step("GET /pets", expect=[{"kind": "header", "name": "X-Total", "equals": "{pet}"}])
    late = step("POST /pets", body_json='{"name":"a"}', captures=[{"name": "pet", "source": "body", "path": "$.id"}])
    assert refused_by(case("stateful", early, late)) == ["unknown capture"]


# --------------------------------------------------------------------------- data


def test_a_negative_case_names_what_is_invalid() -> None:
    judged = accepted(case("negative", step("POST /pets", body_json='{"name": "a", "age": -1}')))
    check = check_of(judged, NegativeDataRejection)
    assert (check.location, check.rule) == ("body/age", "minimum")
    assert not any(isinstance(other, PositiveDataAcceptance) for other in judged.steps[0].checks)


@pytest.mark.parametrize(
    ("fields", "location", "rule"),
    [
        ({"body_text": '{"name": '}, "body", "malformed"),
        ({"body_text": "name=Rex", "media_type": "text/plain"}, "body", "media_type"),
        ({}, "body", "required"),
        ({"body_json": "{}"}, "body/name", "required"),
        ({"body_json": '{"name": 5}'}, "body/name", "type"),
    ],
)
def test_every_kind_of_invalid_body_counts_as_negative(fields: dict[str, Any], location: str, rule: str) -> None:
    check = check_of(accepted(case("negative", step("POST /pets", **fields))), NegativeDataRejection)
    assert (check.location, check.rule) == (location, rule)


def test_malformed_text_is_sent_as_it_stands() -> None:
    judged = accepted(case("negative", step("POST /pets", body_text='{"name": ')))
    assert judged.steps[0].request.body == TextBody(text='{"name": ', media_type="application/json")


def test_a_negative_case_may_not_expect_success() -> None:
    wanted = [{"kind": "status", "statuses": [201], "basis": "guess"}]
    raw = case("negative", step("POST /pets", body_json="{}", expect=wanted))
    assert refused_by(raw) == ["intent contradicts data"]


def test_steps_before_the_invalid_one_must_be_valid_and_prepare() -> None:
    create = step("POST /pets", body_json='{"name":"a"}', captures=[{"name": "pet", "source": "body", "path": "$.id"}])
    judged = accepted(
        case(
            "negative",
            create,
            step("GET /pets/{id}", path_params={"id": "x{pet}"}),
            step("GET /pets/{id}", path_params={"id": "zero"}),
        )
    )
    assert [item.setup for item in judged.steps] == [True, True, False]
    broken = step("POST /pets", body_json='{"age":-1}')
    assert "intent contradicts data" in refused_by(
        case("negative", broken, step("GET /pets/{id}", path_params={"id": "zero"}))
    )


def test_captured_values_are_not_judged_by_the_schema_but_fresh_ones_are() -> None:
    create = step("POST /pets", body_json='{"name":"a"}', captures=[{"name": "pet", "source": "body", "path": "$.id"}])
    child = step("POST /pets", body_json='{"name":"kid-{unique}","mother":"{pet}"}')
    assert accepted(case("stateful", create, child)).steps[1].request.body == JsonBody(
        value={"name": "kid-{unique}", "mother": "{pet}"}
    )
    assert refused_by(case("stateful", step("POST /pets", body_json='{"name":"a","age":"{unique}"}'))) == [
        "intent contradicts data"
    ]


def test_path_values_are_encoded_and_captures_stay() -> None:
    spec = pets()
    loose = msgspec.structs.replace(
        spec.operations[2], parameters=(msgspec.structs.replace(spec.operations[2].parameters[0], schema=True),)
    )
    spec = msgspec.structs.replace(spec, operations=(*spec.operations[:2], loose, *spec.operations[3:]))
    create = step("POST /pets", body_json='{"name":"a"}', captures=[{"name": "pet", "source": "body", "path": "$.id"}])
    read_it = step("GET /pets/{id}", path_params={"id": "{pet}-a/b?c {d e} {unique}"})
    assert accepted(case("stateful", create, read_it), spec).steps[1].request.path == (
        "/pets/{pet}-a%2Fb%3Fc%20%7Bd%20e%7D%20{unique}"
    )


def test_arrays_in_the_query_may_repeat_or_be_joined() -> None:
    repeated = case("positive", step("GET /pets", query=[{"name": "tag", "value": "a"}, {"name": "tag", "value": "b"}]))
    assert accepted(repeated).steps[0].request.query == (("tag", "a"), ("tag", "b"))
    assert refused_by(case("positive", step("GET /pets", query={"tag": "a,b"}))) == []


def test_form_bodies_are_judged_by_their_schema() -> None:
    form = {
        "application/x-www-form-urlencoded": MediaType(
            schema={
                "type": "object",
                "required": ["age"],
                "properties": {"age": {"type": "integer"}},
            }
        )
    }
    operation = Operation(key="POST /f", method="POST", path="/f", body=RequestBody(content=form), responses={})
    spec = Spec(title="f", version="1", dialect="3.1", source="f", operations=(operation,))
    assert accepted(case("positive", step("POST /f", form={"age": "5"})), spec).steps[0].request.body == FormBody(
        fields=(("age", "5"),)
    )
    assert refused_by(case("positive", step("POST /f", form={"age": "old"})), spec) == ["intent contradicts data"]


def test_a_large_body_is_refused() -> None:
    raw = case("positive", step("POST /pets", body_json=json.dumps({"name": "a", "tag": "x" * MAX_BODY_BYTES})))
    assert "too large" in refused_by(raw)


def test_a_safe_policy_allows_no_unsafe_step_not_even_in_cleanup() -> None:
    assert refused_by(positive(), policy=Policy(methods="safe")) == ["unsafe method", "unsafe method"]
    assert refused_by(case("positive", step("GET /pets")), policy=Policy(methods="safe")) == []


def test_an_operation_that_was_not_asked_for_is_refused() -> None:
    judged = validator().check(case("positive", step("GET /pets")), asked=["POST /pets"])
    assert not isinstance(judged, Case) and judged[0].rule == "operation not asked for"


def test_what_ends_the_session_runs_last() -> None:
    assert accepted(case("positive", step("POST /logout"))).last
    assert not accepted(positive()).last


# --------------------------------------------------------------------------- why a check may be believed


def test_a_status_has_basis_spec_only_when_it_follows_from_the_document() -> None:
    assert status_basis("positive", {"statuses": [201], "basis": "guess"})[0] == "spec"
    assert status_basis("stateful", {"statuses": [422], "basis": "spec"})[0] == "guess"
    assert status_basis("stateful", {"statuses": [201, 422], "basis": "spec"})[0] == "guess"
    assert status_basis("negative", {"statuses": [422], "basis": "guess"}, body_json="{}")[0] == "spec"


@pytest.mark.parametrize("basis", ["spec", "human", "example", "description", "", "gospel"])
def test_the_model_never_decides_the_basis_of_what_it_expects_of_a_body(basis: str) -> None:
    wanted = {"kind": "jsonpath", "path": "$.name", "op": "equals", "value_json": '"Max"', "basis": basis}
    judged = accepted(case("positive", step("GET /pets/{id}", **GET, expect=[wanted])))
    assert check_of(judged, JsonPathIs).basis == "guess"


def test_what_the_documents_own_example_shows_has_basis_example() -> None:
    wanted = {"kind": "jsonpath", "path": "$.name", "op": "equals", "value_json": '"Rex"', "basis": "example"}
    assert (
        check_of(accepted(case("positive", step("GET /pets/{id}", **GET, expect=[wanted]))), JsonPathIs).basis
        == "example"
    )


def test_a_required_documented_header_has_basis_spec_and_its_value_has_not() -> None:
    present = accepted(case("positive", step("GET /pets", expect=[{"kind": "header", "name": "x-total"}])))
    assert check_of(present, HeaderIs).basis == "spec"
    valued = accepted(
        case("positive", step("GET /pets", expect=[{"kind": "header", "name": "x-total", "equals": "3"}]))
    )
    assert check_of(valued, HeaderIs).basis == "guess"


def test_a_claim_about_valid_data_never_contradicts_the_expected_refusal() -> None:
    raw = case(
        "positive", step("GET /pets/{id}", path_params={"id": "99999"}, expect=[{"kind": "status", "statuses": [404]}])
    )
    assert not any(isinstance(check, PositiveDataAcceptance) for check in accepted(raw).steps[0].checks)


def test_that_made_up_data_is_accepted_is_firm_for_reading_and_a_guess_for_writing() -> None:
    """A schema says less of a body than its server asks; what a person recorded was accepted once."""
    reading = accepted(case("positive", step("GET /pets", query={"limit": "1"})))
    writing = case("positive", step("POST /pets", body_json='{"name": "x"}'))
    assert check_of(reading, PositiveDataAcceptance).basis == "spec"
    assert check_of(accepted(writing), PositiveDataAcceptance).basis == "guess"
    assert check_of(accepted(writing, assumed="human"), PositiveDataAcceptance).basis == "spec"


def test_an_invented_identifier_may_name_nothing() -> None:
    invented = accepted(case("positive", step("GET /pets/{id}", path_params={"id": "5"})))
    assert check_of(invented, PositiveDataAcceptance).also == (404,)
    known_pet = accepted(case("positive", step("GET /pets/{id}", path_params={"id": "5"})), values={"id": (5,)})
    assert check_of(known_pet, PositiveDataAcceptance).also == ()


def test_without_credentials_a_protected_operation_is_checked_for_ignored_auth() -> None:
    judged = accepted(case("security", step("GET /pets", identity="invalid")))
    assert check_of(judged, IgnoredAuth)
    assert not any(isinstance(check, PositiveDataAcceptance) for check in judged.steps[0].checks)


def test_reading_what_was_deleted_is_checked_for_use_after_free() -> None:
    create = step("POST /pets", body_json='{"name":"a"}', captures=[{"name": "pet", "source": "body", "path": "$.id"}])
    path = {"path_params": {"id": "{pet}"}}
    judged = accepted(case("stateful", create, step("DELETE /pets/{id}", **path), step("GET /pets/{id}", **path)))
    assert check_of(judged, UseAfterFree, step=2)
    assert [item.setup for item in judged.steps] == [True, True, False]


# --------------------------------------------------------------------------- reading and robustness


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
_STEP = st.fixed_dictionaries(
    {"operation": st.sampled_from(["GET /pets", "POST /pets", "GET /pets/{id}", "GET /x"]) | _JSON},
    optional={
        name: _JSON | st.lists(st.fixed_dictionaries({"name": st.sampled_from(["id", "limit", "{x}"]), "value": _JSON}))
        for name in ("path_params", "query", "headers", "body_json", "body_text", "form", "expect", "captures")
    },
)


@settings(max_examples=150, deadline=None)
@given(
    st.fixed_dictionaries(
        {
            "name": st.text(max_size=5),
            "intent": st.sampled_from(["positive", "negative", "boundary"]),
            "operation": st.just("GET /pets"),
            "steps": st.lists(_STEP, max_size=3),
        }
    )
    | _JSON
)
def test_any_json_is_either_a_case_or_refused_with_a_reason(raw: Any) -> None:
    judged = _SHARED.check(raw)
    if isinstance(judged, Case):
        assert msgspec.json.decode(msgspec.json.encode(judged), type=Case) == judged
    else:
        assert judged and all(problem.rule and problem.message for problem in judged)


_SHARED = validator()


def test_a_schema_that_no_engine_compiles_judges_nothing() -> None:
    content = {"application/json": MediaType(schema={"type": "string", "pattern": "("})}
    operation = Operation(
        key="POST /x", method="POST", path="/x", body=RequestBody(content=content), responses={"200": Response()}
    )
    spec = Spec(title="x", version="1", dialect="3.1", source="x", operations=(operation,))
    assert refused_by(case("positive", step("POST /x", body_json="5")), spec) == []


@pytest.mark.parametrize(
    ("fields", "basis"),
    [
        ({"body_json": '{"name": "Rex", "age": "5"}'}, "guess"),
        ({"body_json": '{"name": "Rex", "age": -1}'}, "spec"),
        ({"body_json": '{"name": "Rex", "tag": null}'}, "guess"),
        ({"body_json": '{"name": null}'}, "spec"),
        ({"body_text": "name=Rex", "media_type": "text/plain"}, "guess"),
    ],
)
def test_a_negative_that_a_lenient_server_may_accept_is_a_guess(fields: dict[str, Any], basis: str) -> None:
    expect = [{"kind": "status", "statuses": [400, 422]}]
    judged = accepted(case("negative", step("POST /pets", **fields, expect=expect)))
    assert check_of(judged, NegativeDataRejection).basis == basis
    assert check_of(judged, StatusIs).basis == ("guess" if basis == "guess" else check_of(judged, StatusIs).basis)


@pytest.mark.parametrize("limit", ["+5", "05", " 5", "5.0", ""])
def test_data_that_only_a_lenient_server_takes_is_neither_positive_nor_surely_negative(limit: str) -> None:
    sent = step("GET /pets", query={"limit": limit})
    assert refused_by(case("positive", sent)) == ["intent contradicts data"]
    assert check_of(accepted(case("negative", sent)), NegativeDataRejection).basis == "guess"
