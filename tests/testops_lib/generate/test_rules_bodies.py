"""Bodies and values that the rules send: null, empty values, documented data, alternatives."""

from __future__ import annotations

import json
from typing import Any

import pytest

from testops_lib.generate.rules import generate
from testops_lib.model import (
    NegativeDataRejection,
    PositiveDataAcceptance,
)
from tests.testops_lib.generate.documents import (
    ALL,
    basis_of,
    bodies,
    load,
    query,
    ref,
    says,
    takes,
)


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
