from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest
import yaml

from testops_lib.spec import Spec, closed, contract, contracts, decode, encode, load, load_bytes
from tests.paths import SHARED

FIXTURES = Path(__file__).parent / "fixtures"
SPECS = SHARED / "specs"
SAMPLES = sorted(FIXTURES.glob("*.*")) + sorted(
    path for path in SPECS.glob("*.*") if path.suffix in (".json", ".yaml", ".yml")
)
METHODS = ("get", "put", "post", "delete", "options", "head", "patch", "trace")


@pytest.fixture(scope="module")
def library() -> Spec:
    return load(FIXTURES / "library.yaml")


@pytest.fixture(scope="module")
def shop() -> Spec:
    return load(FIXTURES / "shop2.json")


@pytest.fixture(scope="module")
def modern() -> Spec:
    return load(FIXTURES / "modern.json")


def small(**changes: Any) -> dict[str, Any]:
    return {
        "openapi": "3.0.3",
        "info": {"title": "t", "version": "1"},
        "paths": {
            "/a": {"get": {"responses": {"200": {"description": "", "content": {"application/json": {"schema": {}}}}}}}
        },
        **changes,
    }


def spec_of(schema: Any, *, openapi: str = "3.0.3", **schemas: Any) -> Spec:
    """A document with one answer of this schema."""
    document = small(openapi=openapi, components={"schemas": schemas})
    document["paths"]["/a"]["get"]["responses"]["200"]["content"]["application/json"]["schema"] = schema
    return load_bytes(json.dumps(document).encode(), "memory")


def answer(spec: Spec) -> Any:
    return spec.operations[0].responses["200"].content["application/json"].schema


def accepts(spec: Spec, value: Any) -> bool:
    return jsonschema_rs.validator_for(closed(answer(spec), spec.definitions)).is_valid(value)


# --------------------------------------------------------------------------- whole documents


@pytest.mark.parametrize("path", SAMPLES, ids=lambda path: path.name)
def test_operations_are_those_an_independent_count_finds(path: Path) -> None:
    text = path.read_text()
    raw = json.loads(text) if path.suffix == ".json" else yaml.load(text, yaml.CSafeLoader)
    expected = [
        f"{method.upper()} {name}" for name, item in raw["paths"].items() for method in item if method in METHODS
    ]
    spec = load(path)
    assert [operation.key for operation in spec.operations] == expected
    assert not spec.unusable


@pytest.mark.parametrize("path", SAMPLES, ids=lambda path: path.name)
def test_every_schema_compiles_alone_and_the_spec_survives_encoding(path: Path) -> None:
    spec = load(path)
    assert decode(encode(spec)) == spec
    for found in contracts(spec).values():
        for response in found.responses.values():
            for media in response.content.values():
                if media.schema is not None:
                    jsonschema_rs.validator_for(media.schema)
    for operation in spec.operations:
        for parameter in operation.parameters:
            jsonschema_rs.validator_for(closed(parameter.schema, spec.definitions))
        for body in operation.body.content.values() if operation.body else ():
            jsonschema_rs.validator_for(closed(body.schema, spec.definitions))


def test_parameters_of_the_path_are_merged_and_overridden(library: Spec) -> None:
    parameters = {parameter.name: parameter for parameter in library.operation("GET /books").parameters}
    assert list(parameters) == ["trace", "limit", "filter", "where"]
    assert parameters["limit"].schema == {"type": "integer", "exclusiveMinimum": 0, "maximum": 100}
    assert parameters["limit"].examples == (10,)
    assert (parameters["filter"].style, parameters["filter"].explode) == ("deepObject", True)
    assert (parameters["where"].content_type, parameters["where"].examples) == ("application/json", ({"a": 1},))
    assert (parameters["trace"].style, parameters["trace"].explode) == ("simple", False)
    assert [parameter.name for parameter in library.operation("DELETE /books/{id}").parameters] == ["id"]


def test_servers_take_the_defaults_of_their_variables(library: Spec, shop: Spec, modern: Spec) -> None:
    assert library.servers == ("https://api.example.com/v1",)
    assert shop.servers == ("https://shop.example.com/v2", "http://shop.example.com/v2")
    assert modern.servers == ("/api",)


def test_security_of_the_document_is_replaced_by_the_operations(library: Spec) -> None:
    assert library.operation("GET /books").security == (("bearer",),)
    assert library.operation("GET /books").protected
    assert library.operation("GET /books/{id}").security == ((), ("bearer",))
    assert not library.operation("GET /books/{id}").protected
    assert library.operation("DELETE /books/{id}").security == ()
    assert library.security_schemes["bearer"].scheme == "bearer"
    assert library.security_schemes["login"].login_url == "/token"


def test_links_lead_to_operations_by_id_and_by_reference(library: Spec) -> None:
    links = library.operation("POST /books").responses["201"].links
    assert [(link.name, link.operation) for link in links] == [
        ("read", "GET /books/{id}"),
        ("remove", "DELETE /books/{id}"),
    ]
    assert links[0].parameters == {"id": "$response.body#/id"}
    assert any("links/nowhere" in warning for warning in library.warnings)


def test_references_reach_any_part_of_the_document(library: Spec) -> None:
    read, made = library.operation("GET /books/{id}"), library.operation("POST /books")
    assert read.responses["200"] == made.responses["201"]
    assert "4XX" in library.operation("GET /books").responses
    assert [name for name in library.definitions if name.startswith("Odd_Name_x-")]


def test_yaml_keeps_words_dates_and_versions_as_written(library: Spec) -> None:
    book = library.definitions["Book"]
    assert isinstance(book, dict)
    assert book["properties"]["kind"] == {"type": ["string", "null"], "enum": ["on", "off", "no", None]}
    body = library.operation("POST /books").body
    assert body is not None
    assert body.content["application/json"].examples == (
        {"title": "Dune"},
        {"title": "Emma", "published": "1815-12-23"},
    )
    assert "200" in library.operation("GET /books").responses


def test_headers_are_described_except_content_type(library: Spec) -> None:
    headers = library.operation("GET /books").responses["200"].headers
    assert list(headers) == ["X-Total"]
    assert headers["X-Total"].required
    assert headers["X-Total"].schema == {"type": "integer"}


def test_swagger_2_is_told_in_the_words_of_3(shop: Spec) -> None:
    parameters = {
        parameter.name: (parameter.style, parameter.explode) for parameter in shop.operation("GET /items").parameters
    }
    assert parameters == {
        "csv": ("form", False),
        "multi": ("form", True),
        "tsv": ("tabDelimited", False),
        "pipes": ("pipeDelimited", False),
        "when": ("form", False),
    }
    assert shop.operation("GET /items").parameters[-1].examples == ("2020-01-01",)
    assert shop.operation("GET /items").security == (("basic",), ("key", "oauth"))
    assert (shop.security_schemes["basic"].kind, shop.security_schemes["basic"].scheme) == ("http", "basic")
    ok = shop.operation("GET /items").responses["200"]
    assert list(ok.content) == ["application/json", "text/xml"]
    assert ok.content["application/json"].examples == ({"name": "pen"},)
    assert ok.headers["X-Rate"].schema == {"type": "integer", "minimum": 0}
    assert shop.operation("GET /items").responses["204"].content == {}
    assert shop.definitions["Item"] == {
        "type": "object",
        "discriminator": {"propertyName": "kind"},
        "properties": {"name": {"type": ["string", "null"]}, "price": {"type": "number", "exclusiveMinimum": 0}},
    }


def test_swagger_2_forms_become_bodies(shop: Spec) -> None:
    image, note = shop.operation("POST /items/{id}/image"), shop.operation("PUT /items/{id}/note")
    assert image.body is not None and note.body is not None
    assert list(image.body.content) == ["multipart/form-data"]
    assert image.body.content["multipart/form-data"].schema == {
        "type": "object",
        "properties": {"file": {"type": "string", "format": "binary"}, "note": {"type": "string"}},
        "required": ["file"],
    }
    assert [(parameter.name, parameter.schema) for parameter in image.parameters] == [
        ("id", {"type": "integer", "exclusiveMaximum": 10})
    ]
    assert list(note.body.content) == ["application/x-www-form-urlencoded"]
    assert note.body.required
    posted = shop.operation("POST /items").body
    assert posted is not None and posted.required and list(posted.content) == ["application/json"]


def test_openapi_31_schemas_keep_their_meaning(modern: Spec) -> None:
    validator = jsonschema_rs.validator_for(
        closed(modern.operations[0].responses["200"].content["application/json"].schema, modern.definitions)
    )
    for value in (None, {"leaf": "leaf"}, {"named": "x"}, {"far": 1}, {"bounded": {"left": {}}}):
        assert validator.is_valid(value), value
    for value in (1, {"leaf": 1}, {"named": 1}, {"far": 0}, {"bounded": {}}, {"bounded": {"age": 0}}):
        assert not validator.is_valid(value), value


def test_other_files_are_read_relative_to_the_one_that_names_them() -> None:
    spec = load(FIXTURES / "split" / "main.yaml")
    assert [operation.key for operation in spec.operations] == ["GET /a", "DELETE /a", "GET /b"]
    assert not spec.warnings
    first = spec.operation("GET /a").responses["200"].content["application/json"].schema
    assert first == spec.operation("GET /b").responses["200"].content["application/json"].schema
    thing = closed(first, spec.definitions)
    assert jsonschema_rs.validator_for(thing).is_valid({"next": {"next": {"size": 1}}})
    assert not jsonschema_rs.validator_for(thing).is_valid({"next": {"next": {"size": "1"}}})
    assert spec.operation("GET /a").parameters[0].name == "limit"


# --------------------------------------------------------------------------- contracts


def test_contract_holds_only_what_its_schemas_lead_to(library: Spec) -> None:
    found = contract(library, library.operation("GET /books"), accepted_statuses=[503, 418])
    assert found.accepted_statuses == (418, 503)
    assert found.protected
    schema = found.responses["200"].content["application/json"].schema
    assert sorted(name.split("-")[0] for name in schema["$defs"]) == ["Book", "Odd_Name_x"]
    assert list(found.responses["4XX"].content["application/problem+json"].schema["$defs"]) == ["Problem"]
    assert found.responses["200"].headers["X-Total"].required


def test_what_is_only_written_is_not_required_in_answers_nor_what_is_only_read_in_requests(library: Spec) -> None:
    answered = contract(library, library.operation("POST /books")).responses["201"].content["application/json"].schema
    assert jsonschema_rs.validator_for(answered).is_valid({"id": "1", "title": "Dune"})
    assert not jsonschema_rs.validator_for(answered).is_valid({"title": "Dune", "secret": "x"})
    sent = closed({"$ref": "#/$defs/Book"}, library.definitions, direction="request")
    assert jsonschema_rs.validator_for(sent).is_valid({"title": "Dune", "secret": "x"})
    assert not jsonschema_rs.validator_for(sent).is_valid({"id": "1", "title": "Dune"})


def test_binary_and_xml_answers_have_no_schema(shop: Spec) -> None:
    found = contract(shop, shop.operation("GET /items")).responses["200"].content
    assert found["application/json"].schema is not None
    assert found["text/xml"].schema is None
    image = contract(shop, shop.operation("POST /items/{id}/image")).responses["200"].content
    assert all(media.schema is None for media in image.values())


# --------------------------------------------------------------------------- schemas


@pytest.mark.parametrize(
    ("schema", "good", "bad"),
    [
        ({"type": "string", "nullable": True}, [None, "a"], [1]),
        ({"type": "string", "nullable": True, "enum": ["a"]}, [None, "a"], ["b", 1]),
        ({"nullable": True, "allOf": [{"$ref": "#/components/schemas/Pet"}]}, [None, {"name": "x"}], [1, {}]),
        ({"nullable": True, "$ref": "#/components/schemas/Pet"}, [None, {"name": "x"}], [1, {}]),
        ({"type": "object", "nullable": True, "oneOf": [{"$ref": "#/components/schemas/Pet"}]}, [None], [{}]),
        ({"$ref": "#/components/schemas/Pet", "maxProperties": 0}, [{"name": "x"}], [None]),
        ({"minimum": 1, "exclusiveMinimum": True}, [2], [1]),
        ({"minimum": 1, "exclusiveMinimum": False}, [1], [0]),
        ({"type": "int"}, [1], ["a"]),
        ({"type": "string", "enum": [1, True]}, ["1", "true"], [1, "x"]),
        ({"items": [{"type": "string"}], "additionalItems": False}, [["a"]], [[1], ["a", 1]]),
        ({"dependencies": {"a": ["b"], "c": {"required": ["d"]}}}, [{"a": 1, "b": 1}], [{"a": 1}, {"c": 1}]),
        ({"properties": {"$ref": {"type": "string"}}}, [{"$ref": "a"}], [{"$ref": 1}]),
        ({"pattern": r"^\d+\Z"}, ["12"], ["a"]),
        (None, [1, None], []),
        (False, [], [1]),
    ],
)
def test_old_schemas_mean_the_same_in_the_new_dialect(schema: Any, good: list[Any], bad: list[Any]) -> None:
    pet = {"type": "object", "required": ["name"]}
    spec = spec_of(schema, Pet=pet)
    for value in good:
        assert accepts(spec, value), value
    for value in bad:
        assert not accepts(spec, value), value


def test_a_discriminated_union_whose_members_extend_their_base_still_judges() -> None:
    pet = {
        "type": "object",
        "required": ["kind"],
        "discriminator": {"propertyName": "kind", "mapping": {"cat": "Cat", "dog": "#/components/schemas/Dog"}},
        "oneOf": [{"$ref": "#/components/schemas/Cat"}, {"$ref": "#/components/schemas/Dog"}],
    }
    base = {"$ref": "#/components/schemas/Pet"}
    cat = {"allOf": [base, {"required": ["lives"], "properties": {"kind": {"enum": ["cat"]}}}]}
    dog = {"allOf": [base, {"required": ["bark"], "properties": {"kind": {"enum": ["dog"]}}}]}
    for first in ("Pet", "Cat"):
        spec = spec_of({"$ref": f"#/components/schemas/{first}"}, Pet=pet, Cat=cat, Dog=dog)
        assert accepts(spec, {"kind": "cat", "lives": 9})
        assert not accepts(spec, {"kind": "cat"})
        assert not accepts(spec, {"lives": 9})
        found = spec.definitions["Pet" if first == "Pet" else "Cat"]
        assert isinstance(found, dict)
    spec = spec_of({"$ref": "#/components/schemas/Pet"}, Pet=pet, Cat=cat, Dog=dog)
    union = spec.definitions["Pet"]
    assert isinstance(union, dict)
    assert union["discriminator"]["mapping"] == {"cat": "#/$defs/Cat", "dog": "#/$defs/Dog"}


def test_cycles_through_properties_stay_references() -> None:
    spec = spec_of({"$ref": "#/components/schemas/N"}, N={"properties": {"n": {"$ref": "#/components/schemas/N"}}})
    assert spec.definitions == {"N": {"properties": {"n": {"$ref": "#/$defs/N"}}}}
    assert not spec.warnings


@pytest.mark.parametrize("pattern", ["[", "(?<x>a)\\k<x>", "((a{1000}){1000}){1000}", "(" * 50_000, "\\uD800", "(?P<a"])
def test_a_pattern_that_no_engine_compiles_is_left_out_with_a_warning(pattern: str) -> None:
    spec = spec_of({"type": "object", "properties": {"a": {"type": "string", "pattern": pattern}}})
    assert answer(spec) == {"type": "object", "properties": {"a": {"type": "string"}}}
    assert len(spec.warnings) == 1
    assert "schema/properties/a" in spec.warnings[0]


# --------------------------------------------------------------------------- content hashes


def hashes(spec: Spec) -> dict[str, str]:
    return {operation.key: operation.content_hash for operation in spec.operations}


def changed(change: Any) -> tuple[set[str], bool]:
    """Keys of operations whose hash a change of the library document alters; whether the document's own is."""
    raw = yaml.load((FIXTURES / "library.yaml").read_text(), yaml.BaseLoader)
    before = load_bytes(json.dumps(raw).encode(), "memory")
    change(raw)
    after = load_bytes(json.dumps(raw).encode(), "memory")
    old, new = hashes(before), hashes(after)
    return {key for key in old if old[key] != new.get(key)}, before.content_hash != after.content_hash


def test_hash_ignores_what_an_operation_does_not_refer_to() -> None:
    assert changed(lambda raw: raw["components"]["schemas"]["Unrelated"].update(type="integer")) == (set(), False)
    assert changed(lambda raw: raw["components"]["schemas"].update(New={"type": "string"})) == (set(), False)


def test_hash_follows_what_an_operation_refers_to_in_the_end() -> None:
    every = {"GET /books", "POST /books", "GET /books/{id}"}
    assert changed(lambda raw: raw["components"]["schemas"]["Odd Name/x"].update(minimum=3)) == (every, True)
    assert changed(lambda raw: raw["components"]["schemas"]["Problem"].update(title="P")) == (
        every - {"GET /books/{id}"},
        True,
    )
    assert changed(lambda raw: raw["paths"]["/books/{id}"]["delete"].update(summary="s")) == (
        {"DELETE /books/{id}"},
        True,
    )
    assert changed(lambda raw: raw["components"]["securitySchemes"]["bearer"].update(scheme="basic"))[0] == every


def test_hash_does_not_depend_on_key_order_or_notation(library: Spec) -> None:
    def turned(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: turned(item) for key, item in reversed(value.items())}
        return [turned(item) for item in value] if isinstance(value, list) else value

    raw = json.loads((FIXTURES / "shop2.json").read_text())
    straight = load_bytes(json.dumps(raw).encode(), "a")
    again = load_bytes(yaml.safe_dump(turned(raw), sort_keys=False).encode(), "https://other.example/x.yaml")
    assert hashes(again) == hashes(straight)
    assert again.content_hash == straight.content_hash
    assert len(set(hashes(library).values())) == len(library.operations)
