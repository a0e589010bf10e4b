"""The one judge of validity: what the document says of a request, in whatever form it is sent."""

from __future__ import annotations

import copy
import json
import os
import random
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jsonschema
import msgspec
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from jsonschema.exceptions import best_match

from testops_lib import spec as specs
from testops_lib.generate import wire
from testops_lib.generate.judge import RequestJudge, Violation
from testops_lib.generate.rules import planner_for
from testops_lib.generate.rules.making import Impossible, Making
from testops_lib.generate.schemas import Schemas
from testops_lib.model import (
    AnyBody,
    BytesBody,
    FormBody,
    JsonBody,
    MultipartBody,
    Part,
    Policy,
    Request,
    TextBody,
)
from testops_lib.spec import Spec
from testops_lib.spec.operation import Operation, Parameter
from tests.paths import ROOT

LARGE = Path(os.environ.get("TESTOPS_LARGE_SPECS", ROOT.parent / "shared" / "specs"))
INTEGER, STRING = {"type": "integer"}, {"type": "string"}
EITHER = {"type": ["integer", "null"]}
NUMBERS, TEXTS = {"type": "array", "items": INTEGER}, {"type": "array", "items": STRING}
ONE_TEXT = {**TEXTS, "maxItems": 1}
POINT = {"type": "object", "required": ["a"], "properties": {"a": INTEGER, "b": STRING}}


def load(paths: dict[str, Any], **schemas: Any) -> Spec:
    document = {"openapi": "3.1.0", "info": {"title": "t", "version": "1"}, "paths": paths}
    return specs.load_bytes(json.dumps({**document, "components": {"schemas": schemas}}).encode(), source="t.json")


# --------------------------------------------------------------------------- parameters


@pytest.mark.parametrize(
    ("schema", "more", "text", "validity", "rule"),
    [
        # Scalars: JSON's own grammar is strict, what only a lenient reader takes is unsure.
        (INTEGER, {}, "5", "valid", ""),
        (INTEGER, {}, "+5", "unsure", "type"),
        (INTEGER, {}, "\u0661", "unsure", "type"),
        (INTEGER, {}, "05", "unsure", "type"),
        (INTEGER, {}, " 5", "unsure", "type"),
        (INTEGER, {}, "1_0", "unsure", "type"),
        (INTEGER, {}, "0x1f", "unsure", "type"),
        (INTEGER, {}, "5.0", "unsure", "type"),
        (INTEGER, {}, "5.5", "invalid", "type"),
        (INTEGER, {}, "five", "invalid", "type"),
        (INTEGER, {}, "", "unsure", "type"),
        (INTEGER, {"required": True}, "", "invalid", "type"),
        (INTEGER, {"allowEmptyValue": True}, "", "valid", ""),
        (EITHER, {}, "", "unsure", "type"),
        (EITHER, {}, "null", "unsure", "type"),
        ({"type": ["string", "null"]}, {}, "", "valid", ""),
        ({**INTEGER, "minimum": 3}, {}, "1", "invalid", "minimum"),
        ({**INTEGER, "format": "int32"}, {}, "2147483648", "unsure", "maximum"),
        ({"type": "number"}, {}, "1e3", "valid", ""),
        ({"type": "number"}, {}, "1e999", "unsure", "type"),
        ({"type": "number"}, {}, ".5", "unsure", "type"),
        ({"type": "number", "maximum": 4}, {}, "4.5", "invalid", "maximum"),
        ({"type": "boolean"}, {}, "true", "valid", ""),
        ({"type": "boolean"}, {}, "True", "unsure", "type"),
        ({"type": "boolean"}, {}, "yes", "unsure", "type"),
        ({"type": "boolean"}, {}, "perhaps", "invalid", "type"),
        (STRING, {}, "5", "valid", ""),
        ({**STRING, "enum": ["a"]}, {}, "b", "invalid", "enum"),
        ({**STRING, "maxLength": 3}, {}, "12345", "invalid", "maxLength"),
        ({**STRING, "format": "uuid"}, {}, "y", "unsure", "format"),
        ({"anyOf": [INTEGER, {**STRING, "format": "uuid"}]}, {}, "y", "unsure", "anyOf"),
        ({"anyOf": [INTEGER, {**STRING, "enum": ["all"]}]}, {}, "some", "invalid", "anyOf"),
        # Arrays: a comma delimits the items of `form` without explode; with explode it belongs to the item.
        (ONE_TEXT, {}, "a,b", "valid", ""),
        (ONE_TEXT, {"explode": False}, "a,b", "unsure", "maxItems"),
        (NUMBERS, {}, "1", "valid", ""),
        (NUMBERS, {}, "1,2", "unsure", "type"),
        (NUMBERS, {"explode": False}, "1,2", "valid", ""),
        (NUMBERS, {"explode": False}, "1,b", "invalid", "type"),
        (NUMBERS, {"style": "pipeDelimited", "explode": False}, "1|2", "valid", ""),
        (NUMBERS, {"style": "spaceDelimited", "explode": False}, "1 2", "valid", ""),
        # Objects: pairs in one text without explode; with explode the members are parameters of their own.
        (POINT, {"explode": False}, "a,1", "valid", ""),
        (POINT, {"explode": False}, "a,1,b,x", "valid", ""),
        (POINT, {"explode": False}, "a,x", "unsure", "style"),
        (POINT, {}, "a,1", "unsure", "type"),
        (POINT, {"style": "deepObject"}, "a,1", "unsure", "type"),
    ],
)
def test_the_text_of_a_query_parameter_is_read_by_openapi_s_rules(
    schema: Any, more: dict[str, Any], text: str, validity: str, rule: str
) -> None:
    spec = load({"/a": {"get": {"parameters": [{"name": "p", "in": "query", "schema": schema, **more}]}}})
    judgement = RequestJudge(spec).judge("GET /a", Request(method="GET", path="/a", query=(("p", text),)))
    assert (judgement.validity, [violation.rule for violation in judgement.violations]) == (
        validity,
        [rule] if rule else [],
    )


@pytest.mark.parametrize(
    ("schema", "more", "sent", "validity"),
    [
        (INTEGER, {}, "5", "valid"),
        (INTEGER, {}, "x", "invalid"),
        (INTEGER, {}, "%2B5", "unsure"),
        (ONE_TEXT, {}, "a,b", "invalid"),
        (ONE_TEXT, {}, "a%2Cb", "valid"),
        (NUMBERS, {"style": "label", "explode": True}, ".1.2", "valid"),
        (NUMBERS, {"style": "label", "explode": True}, ".1.x", "invalid"),
        (NUMBERS, {"style": "matrix", "explode": True}, ";p=1;p=2", "valid"),
        (NUMBERS, {"style": "matrix"}, ";p=1,2", "valid"),
        (POINT, {}, "a,1", "valid"),
        (POINT, {"explode": True}, "a=1,b=x", "valid"),
        (INTEGER, {}, "{made}", "valid"),
    ],
)
def test_a_delimiter_in_a_path_is_none_when_it_is_percent_encoded(
    schema: Any, more: dict[str, Any], sent: str, validity: str
) -> None:
    parameter = {"name": "p", "in": "path", "required": True, "schema": schema, **more}
    judge = RequestJudge(load({"/a/{p}/b": {"get": {"parameters": [parameter]}}}))
    assert judge.judge("GET /a/{p}/b", Request(method="GET", path=f"/a/{sent}/b"), {"made"}).validity == validity


@pytest.mark.parametrize(
    ("template", "path", "places"),
    [
        ("/f/{a}.json/{b}", "/f/x.json/y", ["path/a", "path/b"]),
        ("/f/{a}-{b}/{c}", "/f/x-y/z", ["path/c"]),
        ("/f/{a}/v{b}", "/f/x/v1", ["path/a"]),
        ("/f/{a}", "/f/x/y", []),
        ("/f/{a}x{b}x{c}x{d}x{e}x{f}x{g}", "/f/" + "x" * 3_000 + "y/", []),
    ],
)
def test_path_parameters_are_read_where_they_can_be_told_apart(template: str, path: str, places: list[str]) -> None:
    parameters = [
        {"name": name, "in": "path", "required": True, "schema": INTEGER} for name in re.findall(r"\{(\w+)\}", template)
    ]
    judge = RequestJudge(load({template: {"get": {"parameters": parameters}}}))
    violations = judge.judge(f"GET {template}", Request(method="GET", path=path)).violations
    assert [violation.place for violation in violations] == places


@pytest.mark.parametrize(
    ("parameter", "pairs", "validity"),
    [
        ({"schema": INTEGER}, [("p", "1"), ("p", "2")], "unsure"),
        ({"schema": INTEGER}, [("p", "x"), ("p", "y")], "invalid"),
        ({"schema": NUMBERS}, [("p", "1"), ("p", "2")], "valid"),
        ({"schema": NUMBERS}, [("p", "1"), ("p", "x")], "invalid"),
        ({"schema": {**NUMBERS, "maxItems": 1}}, [("p", "1"), ("p", "2")], "invalid"),
        ({"schema": NUMBERS, "required": True}, [], "invalid"),
        ({"schema": POINT}, [("a", "1"), ("b", "x")], "valid"),
        ({"schema": POINT}, [("a", "x")], "invalid"),
        ({"schema": POINT, "style": "deepObject"}, [("p[a]", "1")], "valid"),
        ({"schema": POINT, "style": "deepObject"}, [("p[a]", "x")], "invalid"),
        ({"schema": POINT, "style": "deepObject"}, [("p[b]", "x")], "invalid"),
        ({"schema": POINT, "style": "deepObject", "required": True}, [], "invalid"),
        ({"content": {"application/json": {"schema": POINT}}}, [("p", '{"a": 1}')], "valid"),
        ({"content": {"application/json": {"schema": POINT}}}, [("p", '{"a": ')], "invalid"),
        ({"content": {"application/json": {"schema": POINT}}}, [("p", '{"a": "x"}')], "invalid"),
        ({"content": {"application/json": {"schema": STRING}}}, [("p", "x")], "unsure"),
        ({"schema": INTEGER}, [("q", "x")], "valid"),
    ],
)
def test_pairs_of_one_parameter_are_judged_together(parameter: Any, pairs: Any, validity: str) -> None:
    spec = load({"/a": {"get": {"parameters": [{"name": "p", "in": "query", **parameter}]}}})
    judgement = RequestJudge(spec).judge("GET /a", Request(method="GET", path="/a", query=tuple(pairs)))
    assert judgement.validity == validity and bool(judgement.violations) == (validity != "valid")


@pytest.mark.parametrize(
    ("schema", "text", "validity"),
    [(ONE_TEXT, "a,b", "invalid"), (NUMBERS, "1, 2", "valid"), (POINT, "a,1", "valid"), (INTEGER, "x", "invalid")],
)
def test_headers_are_simple(schema: Any, text: str, validity: str) -> None:
    spec = load({"/a": {"get": {"parameters": [{"name": "X-P", "in": "header", "schema": schema}]}}})
    request = Request(method="GET", path="/a", headers=(("x-p", text),))
    assert RequestJudge(spec).judge("GET /a", request).validity == validity


SHAPES = ["one", "array", "object"]
SAFE = st.text("abcxyz019-é", min_size=1, max_size=5)
SCALARS: Any = {"integer": st.integers(-(10**12), 10**12), "boolean": st.booleans(), "string": SAFE}
STYLES = [
    ("query", "form", True),
    ("query", "form", False),
    ("query", "spaceDelimited", False),
    ("query", "pipeDelimited", False),
    ("query", "deepObject", True),
    ("path", "simple", False),
    ("path", "simple", True),
    ("path", "label", False),
    ("path", "label", True),
    ("path", "matrix", False),
    ("path", "matrix", True),
    ("header", "simple", False),
    ("header", "simple", True),
    ("cookie", "form", False),
]


@settings(max_examples=300, deadline=None)
@given(
    st.data(), st.sampled_from(STYLES), st.sampled_from(sorted(SCALARS)), st.sampled_from(["one", "array", "object"])
)
def test_what_is_written_of_a_valid_value_is_read_as_valid(
    data: Any, style: tuple[str, str, bool], kind: str, shape: str
) -> None:
    where, name, explode = style
    scalar, drawn = {"type": kind}, SCALARS[kind]
    if where == "header" and kind == "string":
        drawn = drawn.filter(str.isascii)
    if shape == "one":
        assume(name in ("form", "simple", "label", "matrix"))
        schema, value = scalar, data.draw(drawn)
    elif shape == "array":
        assume(name != "deepObject" and where != "cookie")
        schema, value = {"type": "array", "items": scalar}, data.draw(st.lists(drawn, min_size=1, max_size=4))
    else:  # for pipes and spaces, labels and matrices of objects the rules write nothing of their own
        assume(name in ("form", "simple", "deepObject") and where != "cookie")
        schema = {"type": "object", "properties": {"a": scalar, "b": scalar}, "required": ["a"]}
        value = data.draw(st.fixed_dictionaries({"a": drawn}, optional={"b": drawn}))
    parameter = Parameter(name="p", where=where, required=True, schema=schema, style=name, explode=explode)
    operation = Operation(key="GET /a/{p}", method="GET", path="/a/{p}", parameters=(parameter,))
    spec = Spec(title="t", version="1", dialect="3.1", source="t", operations=(operation,))
    request = Request(
        method="GET",
        path=wire.path("/a/{p}", {"p": parameter}, {"p": value} if where == "path" else {}),
        query=wire.pairs(parameter, value) if where == "query" else (),
        headers=(("p", wire.header(parameter, value)),) if where == "header" else (),
        cookies=(("p", wire.header(parameter, value)),) if where == "cookie" else (),
    )
    assert RequestJudge(spec).judge("GET /a/{p}", request).validity == "valid", (request, schema, style, shape)


# --------------------------------------------------------------------------- bodies

THING = {
    "type": "object",
    "required": ["n"],
    "properties": {
        "n": INTEGER,
        "name": {**STRING, "maxLength": 4},
        "on": {**STRING, "format": "date"},
        "list": NUMBERS,
        "maybe": {"type": ["integer", "null"]},
        "seen": {**STRING, "readOnly": True},
        "inner": {"type": "object", "required": ["k"], "properties": {"k": INTEGER, "free": INTEGER}},
        "way": {"oneOf": [INTEGER, {"type": "boolean"}]},
    },
}


def a_body(body: AnyBody | None, schema: Any = THING, media: str = "application/json", **more: Any) -> tuple[Any, ...]:
    content = {media: {"schema": schema}}
    spec = load({"/a": {"post": {"requestBody": {"required": True, "content": content}, **more}}})
    judgement = RequestJudge(spec).judge("POST /a", Request(method="POST", path="/a", body=body), {"made"})
    return judgement.validity, tuple((violation.place, violation.rule) for violation in judgement.violations)


@pytest.mark.parametrize(
    ("value", "validity", "violations"),
    [
        ({"n": 1}, "valid", ()),
        ({"n": 1.0}, "valid", ()),
        ({"n": "{made}"}, "valid", ()),
        ({}, "invalid", (("body/n", "required"),)),
        # Numbers as text and the like are converted by many servers.
        ({"n": "5"}, "unsure", (("body/n", "type"),)),
        ({"n": 1.5}, "unsure", (("body/n", "type"),)),
        ({"n": "five"}, "invalid", (("body/n", "type"),)),
        ({"n": {}}, "invalid", (("body/n", "type"),)),
        ({"n": 1, "on": "never"}, "unsure", (("body/on", "format"),)),
        ({"n": 1, "name": "too long"}, "invalid", (("body/name", "maxLength"),)),
        # null: an optional member may be read as not given, a root, an item and a required member may not.
        (None, "invalid", (("body", "type"),)),
        ({"n": None}, "invalid", (("body/n", "type"),)),
        ({"n": 1, "list": [None]}, "invalid", (("body/list/0", "type"),)),
        ({"n": 1, "list": None}, "unsure", (("body/list", "type"),)),
        ({"n": 1, "maybe": None}, "valid", ()),
        ({"n": 1, "inner": {"k": None}}, "invalid", (("body/inner/k", "type"),)),
        ({"n": 1, "inner": {"k": 1, "free": None}}, "unsure", (("body/inner/free", "type"),)),
        ({"n": 1, "way": "1"}, "unsure", (("body/way", "oneOf"),)),
        ({"n": 1, "way": "neither"}, "invalid", (("body/way", "oneOf"),)),
    ],
)
def test_a_json_body_is_judged_with_what_servers_convert(value: Any, validity: str, violations: Any) -> None:
    assert a_body(JsonBody(value=value)) == (validity, violations)


@pytest.mark.parametrize(
    ("body", "validity", "rule"),
    [
        (None, "invalid", "required"),
        (TextBody(text='{"n": 1}', media_type="application/json"), "valid", ""),
        (TextBody(text='{"n": ', media_type="application/json"), "invalid", "malformed"),
        (TextBody(text='{"n": NaN}', media_type="application/json"), "invalid", "malformed"),
        (BytesBody(data=b"\xff", media_type="application/json"), "invalid", "malformed"),
        (TextBody(text='{"n": 1}', media_type="text/plain"), "unsure", "media_type"),
        (JsonBody(value={"n": 1}, media_type="application/json; charset=utf-8"), "valid", ""),
    ],
)
def test_what_is_no_json_or_of_another_media_type(body: AnyBody | None, validity: str, rule: str) -> None:
    judged, violations = a_body(body)
    assert (judged, [name for _, name in violations]) == (validity, [rule] if rule else [])


def test_another_media_type_is_surely_invalid_where_the_document_has_a_415() -> None:
    sent = TextBody(text="x", media_type="text/plain")
    assert a_body(sent, responses={"415": {"description": ""}})[0] == "invalid"


FORM: Any = {
    "type": "object",
    "required": ["n"],
    "properties": {
        "n": INTEGER,
        "name": STRING,
        "list": NUMBERS,
        "maybe": EITHER,
        "file": {**STRING, "format": "binary"},
        "points": {"type": "array", "items": POINT},
    },
}


@pytest.mark.parametrize(
    ("fields", "validity"),
    [
        ([("n", "5")], "valid"),
        ([("n", "+5")], "unsure"),
        ([("n", "five")], "invalid"),
        ([("name", "x")], "invalid"),
        ([("n", "1"), ("list", "1"), ("list", "2")], "valid"),
        ([("n", "1"), ("list", "x")], "invalid"),
        ([("n", "1"), ("maybe", "")], "unsure"),
        ([("n", "1"), ("points", '{"a": 1}')], "unsure"),
        ([("n", "1"), ("points", '{"a": "x"}')], "invalid"),
        ([("n", "1"), ("points", "x")], "invalid"),
        ([("n", "1"), ("name", "{made}")], "valid"),
    ],
)
def test_in_a_form_all_is_text(fields: Any, validity: str) -> None:
    assert a_body(FormBody(fields=tuple(fields)), FORM, "application/x-www-form-urlencoded")[0] == validity
    parts = tuple(Part(name=name, data=text.encode()) for name, text in fields)
    file = Part(name="file", data=b"\xff\x00", filename="a.bin")
    assert a_body(MultipartBody(parts=(*parts, file)), FORM, "multipart/form-data")[0] == validity


def test_a_schema_that_no_engine_compiles_leaves_the_judge_unsure() -> None:
    spec = load({"/a": {"get": {"parameters": [{"name": "p", "in": "query", "schema": INTEGER}]}}})
    broken = {"type": "string", "pattern": "(?<!a{1,99999}"}
    operation = spec.operations[0]
    parameter = msgspec.structs.replace(operation.parameters[0], schema=broken)
    spec = msgspec.structs.replace(spec, operations=(msgspec.structs.replace(operation, parameters=(parameter,)),))
    judgement = RequestJudge(spec).judge("GET /a", Request(method="GET", path="/a", query=(("p", "x"),)))
    assert judgement.validity == "unsure" and judgement.violations[0].rule == "schema"


@pytest.mark.parametrize(
    "name", ["required", "default", "example", "examples", "enum", "const", "discriminator", "$ref"]
)
def test_a_member_may_be_named_as_a_keyword_is(name: str) -> None:
    thing = {"type": "object", "properties": {name: {"$ref": "#/components/schemas/Inner"}}}
    content = {"application/json": {"schema": thing}}
    spec = load({"/a": {"post": {"requestBody": {"content": content}}}}, Inner=POINT)
    judge = RequestJudge(spec)
    for value, validity in (({"a": 1}, "valid"), ({"a": "x"}, "invalid")):
        request = Request(method="POST", path="/a", body=JsonBody(value={name: value}))
        assert judge.judge("POST /a", request).validity == validity


# --------------------------------------------------------------------------- alternatives by a discriminator

CAT = {
    "type": "object",
    "required": ["kind"],
    "properties": {"kind": STRING, "lives": {**INTEGER, "maximum": 9}, "name": STRING},
}
DOG = {"type": "object", "required": ["kind"], "properties": {"kind": STRING, "bark": STRING, "name": STRING}}
PETS = {"oneOf": [{"$ref": "#/components/schemas/Cat"}, {"$ref": "#/components/schemas/Dog"}]}


@pytest.mark.parametrize(
    ("value", "mapping", "validity"),
    [
        ({"kind": "Cat", "name": "Tom"}, None, "valid"),
        ({"kind": "Dog", "name": "Rex"}, None, "valid"),
        ({"kind": "Cat", "lives": 12}, None, "invalid"),
        ({"kind": "Dog", "lives": 12}, None, "valid"),
        ({"kind": "Cow"}, None, "invalid"),
        ({"name": "Tom"}, None, "invalid"),
        ({"kind": "feline"}, {"feline": "#/components/schemas/Cat"}, "valid"),
        ({"kind": "feline", "lives": 12}, {"feline": "#/components/schemas/Cat"}, "invalid"),
    ],
)
def test_a_discriminator_says_which_alternative_holds(value: Any, mapping: Any, validity: str) -> None:
    tag = {"propertyName": "kind", **({"mapping": mapping} if mapping else {})}
    content = {"application/json": {"schema": {**PETS, "discriminator": tag}}}
    spec = load({"/a": {"post": {"requestBody": {"content": content}}}}, Cat=CAT, Dog=DOG)
    request = Request(method="POST", path="/a", body=JsonBody(value=value))
    assert RequestJudge(spec).judge("POST /a", request).validity == validity


# --------------------------------------------------------------------------- against another engine


def documents() -> Iterator[Any]:
    """What is bundled, and the large ones where they lie beside the project or in TESTOPS_LARGE_SPECS."""
    fixtures = ROOT / "tests" / "testops_lib" / "spec" / "fixtures"
    bundled = [ROOT / "tests" / "data" / "pet-coupons.openapi.yaml"]
    bundled += [fixtures / name for name in ("modern.json", "library.yaml", "shop2.json")]
    yield from (pytest.param(path, id=path.name) for path in bundled)
    large = sorted(path for path in LARGE.glob("*") if path.suffix in (".json", ".yaml", ".yml"))
    yield from (pytest.param(path, id=path.name) for path in large)


def _required(validator: Any, required: Any, instance: Any, schema: Any) -> Iterator[Any]:
    """Without what is only read: `flat` is followed by hand, to share nothing with the judge."""
    if not validator.is_type(instance, "object"):
        return
    for name in required:
        if name not in instance and not validator.REPLY(schema, name):
            yield jsonschema.ValidationError(f"{name} is missing")


def oracle(spec: Spec) -> Callable[[Any], Any]:
    """python-jsonschema on the document's own schemas: what it finds wrong with a value, apart from what no schema of
    JSON Schema says (readOnly, discriminator), as the first error or None.
    """

    def read_only(schema: Any, name: str) -> bool:
        declared = schema.get("properties", {}).get(name, {})
        seen = 0
        while isinstance(declared, dict) and declared.get("readOnly") is not True and seen < 9:
            seen += 1
            if "$ref" in declared:
                declared = spec.definitions.get(declared["$ref"].removeprefix("#/$defs/"), {})
            elif len(declared.get("allOf", ())) == 1:
                declared = declared["allOf"][0]
        return isinstance(declared, dict) and declared.get("readOnly") is True

    def one_of(validator: Any, branches: Any, instance: Any, schema: Any) -> Iterator[Any]:
        fitting = [branch for branch in branches if validator.evolve(schema=branch).is_valid(instance)]
        if not fitting or (len(fitting) > 1 and "discriminator" not in schema):
            yield jsonschema.ValidationError("not one of")

    def pattern(validator: Any, wanted: str, instance: Any, schema: Any) -> Iterator[Any]:
        try:  # ECMA 262 knows what `re` does not: \\p{L}
            fits = not isinstance(instance, str) or re.search(wanted, instance)
        except re.error:
            fits = Schemas({}).accepts({"pattern": wanted}, instance)
        if not fits:
            yield jsonschema.ValidationError("no match")

    engine: Any = jsonschema.validators.extend(
        jsonschema.Draft202012Validator, {"required": _required, "oneOf": one_of, "pattern": pattern}
    )
    engine.REPLY = staticmethod(read_only)

    def first_error(schema: Any) -> Callable[[Any], Any]:
        whole = {"$defs": spec.definitions, "allOf": [schema]}
        validator = engine(whole)
        return lambda value: best_match(validator.iter_errors(value))

    return first_error


def variants(value: Any, chance: random.Random) -> Iterator[Any]:
    """The value, and it with one place changed: left out, null, of another type, larger, of another alternative."""
    yield value
    places: list[tuple[Any, ...]] = [()]
    waiting: list[tuple[Any, ...]] = [()]
    while waiting:
        place = waiting.pop()
        node = value
        for key in place:
            node = node[key]
        inside = node if isinstance(node, dict) else range(len(node)) if isinstance(node, list) else ()
        waiting += [(*place, key) for key in inside]
        places += [(*place, key) for key in inside]
    for place in chance.sample(places, min(len(places), 12)):
        for other in (None, "5", "other", -1, 2**40, 1.5, True, [], {}, [None], {"unexpected": 1}, ...):
            changed = copy.deepcopy(value)
            if not place:
                if other is not ...:
                    yield other
                continue
            holder = changed
            for key in place[:-1]:
                holder = holder[key]
            if other is ...:
                del holder[place[-1]]
            else:
                holder[place[-1]] = other
            yield changed


@pytest.mark.parametrize("path", list(documents()))
def test_the_judge_agrees_with_python_jsonschema(path: Path) -> None:
    spec = specs.load_bytes(path.read_bytes(), source=path.name)
    planner = planner_for(spec, policy=Policy(methods="all"))
    judge, first_error, chance = RequestJudge(spec), oracle(spec), random.Random(path.name)
    compared = 0
    for operation in spec.operations:
        if operation.body is None or operation.key in spec.unusable:
            continue
        media = next((name for name in operation.body.content if name.startswith("application/json")), None)
        schema = operation.body.content[media].schema if media else None
        if media is None or schema is None or schema is True:
            continue
        try:
            value = planner.maker.make(schema, "body", Making(seed=operation.key, unique=False, full=True))
        except Impossible:
            continue
        wrong = first_error(schema)
        for index, sent in enumerate(variants(value, chance)):
            if index == 60:
                break
            request = Request(method=operation.method, path=operation.path, body=JsonBody(value=sent, media_type=media))
            violations = [
                violation
                for violation in judge.judge(operation.key, request).violations
                if violation.place.startswith("body")
            ]
            other = wrong(sent)
            compared += 1
            # Formats are asserted by the judge alone, int32 and int64 are formats, and the value of a discriminator
            # is one: of what rests on these nothing is said.
            asserted = [
                f for f in violations if f.rule != "format" and not (f.rule in ("minimum", "maximum") and not f.sure)
            ]
            if other is None:
                asserted = [f for f in asserted if f.rule not in ("oneOf", "anyOf") or f.sure]
                assert not asserted or tagged(schema, spec), (operation.key, sent, asserted)
            else:
                assert violations, (operation.key, sent, other.message)
    if path.is_relative_to(ROOT / "tests"):  # others need not describe a JSON body
        assert compared > 30


_NOT_ASSERTED = frozenset({"format", "minimum", "maximum", "oneOf", "anyOf"})


def tagged(schema: Any, spec: Spec) -> bool:
    """A discriminator stands somewhere in what the schema refers to."""
    return "discriminator" in json.dumps(Schemas(spec.definitions).self_contained(schema))


def test_what_fits_two_alternatives_of_a_one_of_leaves_the_judge_unsure() -> None:
    either = {"oneOf": [{**CAT, "required": []}, {**DOG, "required": []}]}
    assert a_body(JsonBody(value={"name": "Tom"}), either) == ("unsure", (("body", "oneOf"),))
    assert a_body(JsonBody(value={"name": 5}), either)[0] == "unsure", "which many servers convert"
    assert a_body(JsonBody(value={"name": []}), either)[0] == "invalid"


def test_a_fault_says_where_and_why() -> None:
    spec = load({"/a": {"get": {"parameters": [{"name": "p", "in": "query", "required": True, "schema": INTEGER}]}}})
    (violation,) = RequestJudge(spec).judge("GET /a", Request(method="GET", path="/a")).violations
    assert violation == Violation(place="query/p", rule="required", message="it is required")
