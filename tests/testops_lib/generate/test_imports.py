"""Recordings and workflows of other tools: what fits the document becomes a case, the rest is counted, nothing runs."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest
import yaml
from msgspec import structs

from testops_lib import export
from testops_lib import spec as specs
from testops_lib.errors import GenerateError
from testops_lib.generate import Generated, imports, rules
from testops_lib.model import Case, JsonBody, JsonPathIs, Policy, StatusIs
from testops_lib.spec.operation import Spec
from tests.generation_specs import pets
from tests.paths import DATA


def made(path: Path, document: Any, *, spec: Spec | None = None, **more: Any) -> Generated:
    path.write_text(json.dumps(document), "utf-8")
    return imports.generate(spec or pets(), [path], policy=Policy(), base_url="https://h/api", **more)


def shape(case: Case) -> list[str]:
    return [f"{step.request.method} {step.request.path}" for step in (*case.steps, *case.cleanup)]


# ------------------------------------------------------------------------ HAR


def entry(method: str, path: str, status: int = 200, body: Any = None, answer: Any = None, **more: Any) -> Any:
    headers = [{"name": "Authorization", "value": "Bearer s3cret-of-ann"}, {"name": "X-Pets", "value": "s3cret-key"}]
    request: dict[str, Any] = {"method": method, "url": f"https://h/api{path}", "headers": headers, **more}
    if body is not None:
        request["postData"] = {"mimeType": "application/json", "text": json.dumps(body)}
    content = {"mimeType": "application/json", "text": json.dumps(answer)}
    return {"request": request, "response": {"status": status, "content": content}}


def har(*entries: Any) -> Any:
    return {"log": {"version": "1.2", "entries": list(entries)}}


RECORDED = har(
    entry("GET", "/pets?_=17203"),
    entry("GET", "/style.css"),
    entry("POST", "/pets", 201, {"name": "Rex"}, {"id": 4711, "name": "Rex"}),
    entry("GET", "/pets/4711", 200, None, {"id": 4711, "name": "Rex"}),
    entry("DELETE", "/pets/4711", 204),
)


def test_a_recording_becomes_cases_that_stand_on_their_own(tmp_path: Path) -> None:
    generated = made(tmp_path / "a.har", RECORDED)
    by_operation = {case.operation: case for case in generated.cases}
    assert shape(by_operation["GET /pets"]) == ["GET /pets"]
    assert shape(by_operation["GET /pets/{id}"]) == ["POST /pets", "GET /pets/{id}", "DELETE /pets/{id}"]
    assert shape(by_operation["DELETE /pets/{id}"]) == ["POST /pets", "DELETE /pets/{id}"]
    assert any("1 × GET /api/style.css" in note for note in generated.generation.notes)
    expected = [check for check in by_operation["POST /pets"].steps[0].checks if isinstance(check, StatusIs)]
    assert [(check.any_of, check.basis) for check in expected] in ([((201,), "guess")], [((201,), "spec")])


def test_no_credential_of_a_recording_gets_into_a_case(tmp_path: Path) -> None:
    generated = made(tmp_path / "a.har", RECORDED)
    assert generated.cases and "s3cret" not in repr(generated)


def accounts() -> Spec:
    """Registration and login, as JSON and as a form, and a header whose name gives nothing away."""
    member = {"type": "string"}
    document = {
        "openapi": "3.1.0",
        "info": {"title": "Accounts", "version": "1"},
        "paths": {
            "/login": {
                "post": {
                    "parameters": [{"name": "X-Client", "in": "header", "schema": member}],
                    "requestBody": {
                        "content": {
                            media: {
                                "schema": {
                                    "type": "object",
                                    "required": ["user", "password"],
                                    "properties": {"user": member, "password": member, "token": member},
                                }
                            }
                            for media in ("application/json", "application/x-www-form-urlencoded")
                        }
                    },
                    "responses": {"200": {"description": "in"}, "401": {"description": "out"}},
                }
            }
        },
    }
    return specs.load_bytes(json.dumps(document).encode(), "accounts.json")


@pytest.mark.parametrize("media_type", ["application/json", "application/x-www-form-urlencoded"])
def test_no_secret_in_a_recorded_body_or_documented_header_gets_into_a_case(tmp_path: Path, media_type: str) -> None:
    secrets = {"user": "ann", "password": "s3cret-of-ann", "token": "s3cret-token"}
    text = json.dumps(secrets) if media_type == "application/json" else urlencode(secrets)
    recorded = entry("POST", "/login", 200, None, {"ok": True})
    recorded["request"]["postData"] = {"mimeType": media_type, "text": text}
    recorded["request"]["headers"].append({"name": "X-Client", "value": "sk-" + "s3cret" * 5})
    generated = made(tmp_path / "a.har", har(recorded), spec=accounts())
    (case,) = generated.cases
    assert "s3cret" not in repr(generated) and "ann" in repr(case)
    assert "{unique}" in repr(case.steps[0].request.body)
    assert not any(isinstance(check, StatusIs) for check in case.steps[0].checks)
    assert any("2 recorded secrets" in note for note in generated.generation.notes)


@pytest.mark.parametrize(
    "broken",
    [
        har(),
        har(None, 7, {}, {"request": {}}, {"request": {"method": "GET", "url": 7}}),
        har({"request": {"method": "GET", "url": "https://h/api/pets"}, "response": {"status": "x"}}),
        har(entry("GET", "/pets/" + "9" * 5000)),
        har(entry("POST", "/pets", 201, {"name": "x" * 100_000})),
        har({"request": {"method": "POST", "url": "https://h/api/pets", "postData": {"text": "[" * 5000}}}),
        har(entry("GET", "/pets", answer=[[[[[[[[[[[[1]]]]]]]]]]]])),
    ],
)
def test_a_broken_recording_gives_no_bad_case(tmp_path: Path, broken: Any) -> None:
    for case in made(tmp_path / "a.har", broken).cases:
        assert case.steps


# ------------------------------------------------------------------------ Postman

SCRIPT = [
    "const data = pm.response.json();",
    'pm.test("created", () => pm.response.to.have.status(201));',
    'pm.collectionVariables.set("petId", data.id);',
    'require("child_process").exec("touch /tmp/x");',
]

COLLECTION = {
    "info": {"name": "Pets", "schema": "https://schema.getpostman.com/json/collection/v2.1.0/collection.json"},
    "variable": [{"key": "baseUrl", "value": "https://elsewhere"}, {"key": "name", "value": "Rex"}],
    "item": [
        {
            "name": "Flow",
            "item": [
                {
                    "name": "Create",
                    "event": [{"listen": "test", "script": {"exec": SCRIPT}}],
                    "request": {
                        "method": "POST",
                        "url": {"raw": "{{baseUrl}}/pets"},
                        "header": [{"key": "Authorization", "value": "Bearer {{token}}", "disabled": True}],
                        "body": {"mode": "raw", "raw": '{"name": "{{name}} {{$guid}}"}'},
                    },
                },
                {
                    "name": "Read",
                    "request": {
                        "method": "GET",
                        "url": {"raw": "{{baseUrl}}/pets/:id", "variable": [{"key": "id", "value": "{{petId}}"}]},
                    },
                },
                {"name": "Nobody", "request": {"method": "GET", "url": "{{baseUrl}}/pets/{{unknown}}"}},
            ],
        }
    ],
}


def test_a_collection_becomes_cases_with_its_captures_and_expectations(tmp_path: Path) -> None:
    generated = made(tmp_path / "pets.postman_collection.json", COLLECTION)
    create, read = generated.cases
    assert create.name == "Flow / Create"
    body = create.steps[0].request.body
    assert isinstance(body, JsonBody) and body.value == {"name": "Rex {unique}"}
    assert StatusIs(any_of=(201,), basis="human") in create.steps[0].checks
    assert shape(read) == ["POST /pets", "GET /pets/{petId}"]
    assert [(capture.name, capture.path) for capture in read.steps[0].captures] == [("petId", "$.id")]
    assert any("unknown" in note for note in generated.generation.notes)


@pytest.mark.parametrize(
    "item",
    [[7, None], [{"request": 7}], [{"name": "a", "item": [{"item": {}}]}], [{"request": {"url": {}}}]],
)
def test_a_broken_collection_gives_notes_and_no_case(tmp_path: Path, item: Any) -> None:
    assert made(tmp_path / "a.json", {"info": {}, "item": item}).cases == ()


# ------------------------------------------------------------------------ Arazzo

ARAZZO = {
    "arazzo": "1.1.0",
    "info": {"title": "t", "version": "1"},
    "sourceDescriptions": [{"name": "pets", "url": "x", "type": "openapi"}],
    "components": {"inputs": {"who": {"type": "object", "properties": {"name": {"type": "string", "default": "Rex"}}}}},
    "workflows": [
        {
            "workflowId": "make",
            "inputs": {"$ref": "#/components/inputs/who"},
            "steps": [
                {
                    "stepId": "create",
                    "operationId": "createPet",
                    "requestBody": {"contentType": "application/json", "payload": {"name": "$inputs.name"}},
                    "successCriteria": [{"condition": "$statusCode == 201"}],
                    "outputs": {"id": "$response.body#/id"},
                }
            ],
            "outputs": {"pet": "$steps.create.outputs.id"},
        },
        {
            "workflowId": "make-and-read",
            "summary": "Make a pet and read it",
            "steps": [
                {
                    "stepId": "first",
                    "workflowId": "make",
                    "parameters": [{"name": "name", "value": "Max"}],
                    "outputs": {"id": "$outputs.pet"},
                },
                {
                    "stepId": "second",
                    "operationPath": "{$sourceDescriptions.pets.url}#/paths/~1pets~1{id}/get",
                    "parameters": [{"name": "id", "in": "path", "value": "$steps.first.outputs.id"}],
                    "successCriteria": [
                        {"condition": "$statusCode == 200"},
                        {"condition": "$response.body#/name == 'Max'"},
                        {"context": "$response.body", "type": "jsonpath", "condition": "$.id"},
                        {"condition": "$response.body#/id > 3"},
                    ],
                    "onFailure": [{"name": "again", "type": "retry"}],
                },
            ],
        },
    ],
}


def test_a_workflow_becomes_a_case_and_called_workflows_stand_in_their_place(tmp_path: Path) -> None:
    generated = made(tmp_path / "a.json", ARAZZO)
    make, both = generated.cases
    assert both.name == "Make a pet and read it"
    first, second = both.steps
    assert isinstance(first.request.body, JsonBody) and first.request.body.value == {"name": "Max"}
    assert isinstance(make.steps[0].request.body, JsonBody) and make.steps[0].request.body.value == {"name": "Rex"}
    assert second.request.path == f"/pets/{{{first.captures[0].name}}}"
    wanted = JsonPathIs(path="$.name", op="equals", value="Max", basis="human")
    assert wanted in second.checks and StatusIs(any_of=(200,), basis="human") in second.checks
    notes = " ".join(generated.generation.notes)
    assert "onFailure is left out" in notes and "$response.body#/id > 3" in notes


def test_an_input_without_a_value_is_asked_for(tmp_path: Path) -> None:
    document = json.loads(json.dumps(ARAZZO))
    del document["components"]["inputs"]["who"]["properties"]["name"]["default"]
    generated = made(tmp_path / "a.json", document)
    assert "the input 'name' has no value" in " ".join(generated.generation.notes)
    with_values = made(tmp_path / "b.json", document, values={"name": ("Ada",)})
    assert len(with_values.cases) == 2


def test_the_specifications_own_example_is_judged_like_anything_else(tmp_path: Path) -> None:
    spec = specs.load(str(DATA / "pet-coupons.openapi.yaml"))
    values = {"my_pet_tags": ("dog",), "store_id": (1,), "pet_id": (1,), "coupon_code": ("X",), "quantity": (1,)}
    generated = imports.generate(spec, [DATA / "pet-coupons.arazzo.yaml"], policy=Policy(), values=values)
    assert {step.operation for case in generated.cases for step in case.steps} == {
        "GET /pet/findByStatus",
        "POST /store/order",
    }
    said = " ".join(generated.generation.notes)
    assert "GET /pet/findByTags has no query parameter 'pet_tags'" in said, "it contradicts its own document"


def sent(case: Case) -> list[tuple[str, object]]:
    """Requests as they go out, whatever captures are called."""
    return [
        (re.sub(r"\{\w+\}", "{}", f"{step.request.method} {step.request.path}"), step.request.body)
        for step in case.steps
    ]


@pytest.mark.parametrize("form", ["arazzo", "postman"])
def test_what_is_exported_can_be_imported_again(tmp_path: Path, form: str) -> None:
    cases = [case for case in rules.generate(pets(), policy=Policy()).cases if "happy" in case.tags]
    cases = [case for case in cases if not any(step.identity for step in case.steps)]
    if form == "arazzo":
        description = export.arazzo(cases, "x", title="t")
        assert description.left_out == {}
        document = description.document
    else:
        document = json.loads(export.postman(cases, "https://h/api", name="t"))
    generated = made(tmp_path / "a.json", document)
    again = [request for case in generated.cases for request in sent(case)]
    assert len(cases) > 3
    assert [request for case in cases for request in sent(case) if request not in again] == [], generated.generation


@pytest.mark.parametrize(
    "workflow",
    [
        7,
        {},
        {"workflowId": "a", "steps": []},
        {"workflowId": "a", "steps": [{"stepId": "s", "workflowId": "a"}]},
        {"workflowId": "a", "steps": [{"stepId": "s", "operationId": "nothing"}]},
        {"workflowId": "a", "steps": [{"stepId": "s", "operationId": "createPet", "parameters": [{"reference": 7}]}]},
        {"workflowId": "a", "steps": [{"stepId": "s", "operationId": "listPets"}] * 40},
    ],
)
def test_a_broken_workflow_gives_a_note_and_no_case(tmp_path: Path, workflow: Any) -> None:
    generated = made(tmp_path / "a.json", {"arazzo": "1.0.0", "workflows": [workflow]})
    assert generated.cases == ()
    assert generated.generation.notes or workflow == 7


# ------------------------------------------------------------------------ files


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"log": {}}', "\ufeff7"])
def test_a_file_of_another_form_gives_one_clear_error(tmp_path: Path, text: str) -> None:
    path = tmp_path / "a.json"
    path.write_text(text, "utf-8")
    with pytest.raises(GenerateError, match=r"a\.json"):
        imports.generate(pets(), [path], policy=Policy())
    with pytest.raises(GenerateError, match=r"missing\.har"):
        imports.generate(pets(), [tmp_path / "missing.har"], policy=Policy())


def test_yaml_is_read_without_making_objects(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_text("arazzo: !!python/object/apply:os.system [ls]", "utf-8")
    with pytest.raises(GenerateError, match="cannot be read"):
        imports.generate(pets(), [path], policy=Policy())
    path.write_text(yaml.safe_dump(ARAZZO), "utf-8")
    assert len(imports.generate(pets(), [path], policy=Policy()).cases) == 2


def test_only_the_operations_asked_for_and_allowed_come_out(tmp_path: Path) -> None:
    generated = made(tmp_path / "a.har", RECORDED, operations=["GET /pets"])
    assert [case.operation for case in generated.cases] == ["GET /pets"]
    path = tmp_path / "a.har"
    safe = imports.generate(pets(), [path], policy=Policy(methods="safe"), base_url="https://h/api")
    assert {case.operation for case in safe.cases} == {"GET /pets"}
    assert safe.generation.dropped["unsafe method"] > 0


def test_an_exported_description_keeps_intents_and_loses_no_request(tmp_path: Path) -> None:
    cases = rules.generate(pets(), policy=Policy()).cases
    description = export.arazzo(cases, "x", title="t")
    exported = [case for case in cases if case.id not in description.left_out]
    generated = made(tmp_path / "a.json", description.document)
    assert {case.intent for case in exported} >= {"positive", "negative"} and len(exported) > 20
    assert not [note for note in generated.generation.notes if "left out" in note]
    again = [request for case in generated.cases for request in sent(case)]
    assert [request for case in exported for request in sent(case) if request not in again] == []
    names = {case.name: case for case in generated.cases}
    kept = [case for case in exported if case.name in names]
    assert sum(names[case.name].intent == case.intent for case in kept) > 0.8 * len(exported)
    assert any(case.cleanup and len(names[case.name].cleanup) == len(case.cleanup) for case in kept)


def test_double_braces_that_are_no_variable_survive_an_export_and_an_import(tmp_path: Path) -> None:
    probe = structs.replace(
        next(case for case in rules.generate(pets(), policy=Policy()).cases if case.operation == "POST /pets"),
        cleanup=(),
    )
    step = structs.replace(probe.steps[-1], captures=(), identity="")
    request = structs.replace(step.request, body=JsonBody(value={"name": "{{7*7}} ${7*7}"}))
    probe = structs.replace(probe, steps=(structs.replace(step, request=request),))
    generated = made(tmp_path / "a.json", json.loads(export.postman([probe], "https://h/api", name="t")))
    assert [case.steps[-1].request.body for case in generated.cases] == [JsonBody(value={"name": "{{7*7}} ${7*7}"})]
