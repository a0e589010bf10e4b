"""Documents that are broken or mean harm: one clear error or a warning, in little time and memory."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from testops_lib.errors import SpecError
from testops_lib.spec import Limits, Spec, closed, contracts, decode, encode, load, load_bytes

FIXTURES = Path(__file__).parent / "fixtures"
HEAD = {"openapi": "3.0.3", "info": {"title": "t", "version": "1"}}


def document(schema: Any = None, schemas: Any = None, paths: Any = None, **more: Any) -> bytes:
    content = {"application/json": {"schema": schema if schema is not None else {}}}
    own = {"/a": {"get": {"responses": {"200": {"description": "", "content": content}}}}}
    return json.dumps(
        {**HEAD, "paths": own if paths is None else paths, "components": {"schemas": schemas or {}}, **more}
    ).encode()


def read(data: bytes | str, **limits: Any) -> Spec:
    return load_bytes(data if isinstance(data, bytes) else data.encode(), "doc", limits=Limits(**limits))


def refs(names: list[str], by: str = "allOf") -> dict[str, Any]:
    return {by: [{"$ref": f"#/components/schemas/{name}"} for name in names]}


LAUGHS = "a: &a [x,x,x,x,x,x,x,x,x]\n" + "".join(
    f"{chr(98 + i)}: &{chr(98 + i)} [{','.join(['*' + chr(97 + i)] * 9)}]\n" for i in range(12)
)


@pytest.mark.parametrize(
    ("data", "what", "where"),
    [
        (b"", "empty", "doc"),
        (b"  \n ", "empty", "doc"),
        (b"# nothing\n", "empty", "doc"),
        (b"<!DOCTYPE html><html></html>", "web page", "doc"),
        (b"[]", "a list, not an object", "doc"),
        (b"just text", "a string, not an object", "doc"),
        (b"\xff\xfe\x00\xd8", "UTF-16", "doc, line 1"),
        (b"openapi: 3.0.0\ninfo: \xff", "not UTF-8 text", "doc, line 2"),
        (b"\x1f\x8b\x08\x00", "compressed", "doc"),
        (b'{"openapi": "3.0.0",\n "paths": {"/a": }}', "not valid JSON", "doc, line 2 column 18"),
        (b'{"openapi": "3.0.0", "paths": {}} x', "something follows", "doc, line 1 column 35"),
        (b'{"openapi": "3.0.0\x00"}', "not valid JSON", "doc, line 1 column 19"),
        (b"openapi: 3.0.0\x00", "not valid YAML", "doc"),
        (b"openapi: 3.0.0\npaths: [}", "not valid YAML", "doc, line 2 column 9"),
        (b"openapi: !!python/object/apply:os.system [id]", "tag", "doc, line 1 column 10"),
        (b"openapi: !Ref x", "tag", "doc, line 1 column 10"),
        (b"a: *b", "no anchor", "doc, line 1 column 4"),
        (b"a: &b [*b]", "inside what it stands for", "doc, line 1 column 8"),
        (b"? {a: 1}\n: x\n", "key must be a plain string", "doc, line 1 column 3"),
        (LAUGHS.encode(), "more than 1,500,000 values have been read", "doc, line 7"),
        (b"[" * 100_000, "nested deeper than 150", "doc, line 1 column 151"),
        (b'{"a":' * 100_000 + b"1" + b"}" * 100_000, "nested deeper than 150", "doc, line 1 column 751"),
        (b"a: " + b"[" * 100_000, "nested deeper than 150", "doc, line 1"),
        (b'{"a": 1}', "tells its version", "doc"),
        (b'{"asyncapi": "2.0"}', "AsyncAPI", "doc"),
        (b'{"openapi": "4.0.0"}', "'4.0.0' is not supported", "doc#/openapi"),
        (b'{"swagger": "1.2"}', "'1.2' is not supported", "doc#/swagger"),
        (b'{"openapi": "3.0.0", "paths": []}', "must be an object, not a list", "doc#/paths"),
        (b'{"x": [' + b"0," * 1_600_000 + b"0]}", "more than 1,500,000 values have been read", "doc"),
    ],
)
def test_a_bad_document_gives_one_error_that_names_the_place(data: bytes, what: str, where: str) -> None:
    started = time.process_time()
    with pytest.raises(SpecError) as error:
        read(data)
    assert what in error.value.what
    assert error.value.where == where or error.value.where.startswith(where + " column")
    assert len(str(error.value)) < 500
    assert time.process_time() - started < 3


@pytest.mark.parametrize(
    "change",
    [
        {"parameters": "text"},
        {"parameters": ["text"]},
        {"parameters": [{"in": "query"}]},
        {"parameters": [{"name": 1, "in": "query"}]},
        {"parameters": [{"$ref": "#/nowhere"}]},
        {"parameters": [{"$ref": "#/paths/~1bad/get/parameters/0"}]},
        {"parameters": [{"name": "q", "in": "query", "schema": {"$ref": "#/nowhere"}}]},
        {"requestBody": []},
        {"requestBody": {"content": []}},
        {"requestBody": {"content": {"application/json": {"schema": {"$ref": "file:///etc/passwd"}}}}},
        {"responses": []},
        {"responses": {"200": "text"}},
        {"security": {"a": []}},
    ],
)
def test_a_broken_operation_does_not_lose_the_rest(change: dict[str, Any]) -> None:
    good = {"responses": {"200": {"description": ""}}}
    spec = read(document(paths={"/bad": {"get": {**good, **change}, "post": good}, "/good": {"get": good}}))
    assert [operation.key for operation in spec.operations] == ["POST /bad", "GET /good"]
    assert list(spec.unusable) == ["GET /bad"]
    assert "#/paths/~1bad/get" in spec.unusable["GET /bad"]


def test_broken_paths_and_methods_are_named() -> None:
    spec = read(document(paths={"/a": [], "/b": {"get": 1, "GET": {}}, "c": {"get": {}}, "/d": {"get": {}}, "x-e": 1}))
    assert [operation.key for operation in spec.operations] == ["GET /d"]
    assert sorted(spec.unusable) == ["* /a", "GET /b", "GET c"]


@pytest.mark.parametrize(
    "schemas",
    [
        {"a": {"$ref": "#/components/schemas/a"}},
        {"a": {"$ref": "#/components/schemas/b"}, "b": {"$ref": "#/components/schemas/a"}},
        {"a": refs(["a"])},
        {"a": refs(["b", "c"], "oneOf"), "b": refs(["c"]), "c": {"not": {"$ref": "#/components/schemas/a"}}},
        {"a": refs(["b"]), "b": {"if": {"$ref": "#/components/schemas/a"}, **refs(["a"], "anyOf")}},
        {"a": {"$ref": "#/components/schemas/nowhere"}},
        {"a": {"$ref": "other.json#/x"}},
        {"a": {"$ref": "http://127.0.0.1:1/x"}},
        {"a": {"$ref": 1}},
        {"a": {"$ref": "#a"}},
        {"a": {"$ref": "#/components/schemas/a/x/y"}},
        {"a": {"type": {}, "properties": [], "required": "x", "enum": {}, "minimum": "1", "allOf": {}, "items": 1}},
    ],
)
def test_schemas_that_lead_nowhere_are_tolerated_with_a_warning(schemas: dict[str, Any]) -> None:
    spec = read(document({"$ref": "#/components/schemas/a"}, schemas))
    assert spec.warnings
    answer = spec.operations[0].responses["200"].content["application/json"].schema
    jsonschema_rs.validator_for(closed(answer, spec.definitions)).is_valid({})


def test_exponential_schemas_are_cut_before_a_validator_meets_them() -> None:
    schemas = {f"a{i}": refs([f"a{i + 1}"] * 2, ("allOf", "anyOf", "oneOf")[i % 3]) for i in range(60)}
    spec = read(document({"$ref": "#/components/schemas/a0"}, {**schemas, "a60": {"type": "object"}}))
    assert any("expands to more than" in warning for warning in spec.warnings)
    started = time.process_time()
    answer = spec.operations[0].responses["200"].content["application/json"].schema
    jsonschema_rs.validator_for(closed(answer, spec.definitions)).is_valid({})
    assert time.process_time() - started < 2


def test_what_yaml_and_python_add_to_json_is_taken_out() -> None:
    data = b'{"openapi": "3.0.3", "info": {"title": "\\ud800", "version": 1}, "paths": {}, "openapi": "3.0.3",'
    spec = read(data + b'"x": [NaN, Infinity, 1e999, 99999999999999999999999, ' + b"9" * 10_000 + b"]}")
    assert decode(encode(spec)) == spec
    assert spec.title == "\ufffd"
    assert sum("not a JSON number" in warning for warning in spec.warnings) == 4
    assert any("stands there twice" in warning for warning in spec.warnings)
    body = {"content": {"application/json": {"example": "HERE"}}}
    text = document(paths={"/a": {"post": {"requestBody": body, "responses": {}}}}).decode()
    yamls = "[on, 2020-01-01, 2020-01-01T10:00:00Z, .inf, 0o17, 0x1F, 010, 1_000, 1:30, 1e3, ~, !!str 1, =]"
    spec = read("# YAML\n" + text.replace('"HERE"', yamls))
    assert spec.operations[0].body is not None
    assert spec.operations[0].body.content["application/json"].examples[0] == [
        "on",
        "2020-01-01",
        "2020-01-01T10:00:00Z",
        None,
        15,
        31,
        10,
        "1_000",
        "1:30",
        1000.0,
        None,
        "1",
        "=",
    ]


def test_yaml_keys_are_the_text_as_written() -> None:
    text = "openapi: 3.0.0\ninfo: {}\npaths:\n  /a:\n    get:\n      responses: {200: {description: x}, default: {}}\n"
    assert list(read(text).operations[0].responses) == ["200", "default"]
    text = "swagger: 2.0\npaths: {/a: {get: {responses: {200: {schema: {properties: {on: {}, 1.0: {}, null: {}}}}}}}}\n"
    schema = read(text).operations[0].responses["200"].content["application/json"].schema
    assert isinstance(schema, dict) and list(schema["properties"]) == ["on", "1.0", "null"]


def test_yaml_anchors_and_merge_keys_are_followed() -> None:
    text = (
        "openapi: 3.0.0\npaths:\n  /a: &a\n    get: &get\n      tags: [one]\n      responses: {}\n"
        "  /b: *a\n  /c: {put: {<<: *get, tags: [two]}}\n"
    )
    assert [(operation.key, operation.tags) for operation in read(text).operations] == [
        ("GET /a", ("one",)),
        ("GET /b", ("one",)),
        ("PUT /c", ("two",)),
    ]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-32"])
def test_unicode_is_read_in_any_encoding(encoding: str) -> None:
    text = json.dumps({**HEAD, "info": {"title": "Bücher 📚"}, "paths": {}}, ensure_ascii=False)
    assert read(text.encode(encoding)).title == "Bücher 📚"


def test_json_with_a_comment_or_a_trailing_comma_is_read_as_yaml() -> None:
    assert read('{"openapi": "3.0.0", # a comment\n "info": {"title": "t",}, "paths": {},}').title == "t"


def test_openapi_32_is_read_as_31_with_a_warning() -> None:
    spec = read(b'{"openapi": "3.2.0", "paths": {"/a": {"query": {}}}}')
    assert (spec.dialect, [operation.key for operation in spec.operations]) == ("3.1", ["QUERY /a"])
    assert "3.2" in spec.warnings[0]


def test_warnings_are_counted_not_collected_without_end() -> None:
    paths = {"/a": {"get": {"responses": {str(1000 + i): {} for i in range(500)}}}}
    warnings = read(document(paths=paths), max_warnings=10).warnings
    assert len(warnings) == 11
    assert warnings[-1] == "490 more warnings are left out"


@pytest.mark.parametrize(
    ("limit", "data"),
    [
        ("max_operations", document(paths={f"/{i}": {"get": {}} for i in range(20)})),
        ("max_schemas", document({"properties": {f"p{i}": {} for i in range(20)}})),
        ("max_parts", document(paths={"/a": {"get": {"responses": {str(200 + i): {} for i in range(20)}}}})),
        ("max_resolved_bytes", document()),
        ("max_bytes", document()),
        ("max_values", document({"enum": [0] * 30})),
        ("max_depth", document()),
    ],
)
def test_each_limit_says_what_it_is_about(limit: str, data: bytes) -> None:
    with pytest.raises(SpecError) as error:
        read(data, **{limit: 10 if limit != "max_depth" else 3})
    assert error.value.where
    assert error.value.next_step


def test_shared_parts_are_not_multiplied() -> None:
    many = {"get": {"parameters": [{"name": f"p{i}", "in": "query", "schema": {}} for i in range(3000)]}}
    paths = {f"/p{i}": {"$ref": "#/components/pathItems/x"} for i in range(5000)}
    with pytest.raises(SpecError, match="max_parts"):
        read(json.dumps({**HEAD, "paths": paths, "components": {"pathItems": {"x": many}}}).encode())


# --------------------------------------------------------------------------- large documents


def large(operations: int, schemas: int) -> dict[str, Any]:
    """About as large and as entangled as GitHub's, for 1,000 of each."""
    text = "What this is for, told at the length that people tell such things. " * 2
    ref = "#/components/schemas/schema-{}".format

    def schema(i: int) -> dict[str, Any]:
        fields: dict[str, Any] = {
            f"field_{j}": {"type": "string", "nullable": j % 5 == 0, "description": f"{text}{i} {j}"} for j in range(24)
        }
        links = {f"ref_{j}": {"$ref": ref((i * 7 + j * 31) % schemas)} for j in range(8)}
        both = {"type": "array", "items": {"allOf": [{"$ref": ref((i + 1) % schemas)}, {"pattern": "^[a-z]+$"}]}}
        return {"type": "object", "properties": {**fields, **links, "list": both}, "required": ["field_1"]}

    def operation(i: int) -> dict[str, Any]:
        def media(k: int) -> dict[str, Any]:
            return {"application/json": {"schema": {"$ref": ref((i * 13 + k) % schemas)}, "example": {"a": [text] * 3}}}

        return {
            "operationId": f"do/{i}",
            "description": text * 6,
            "parameters": [{"name": "q", "in": "query", "schema": {"type": "string"}, "description": text}],
            "requestBody": {"content": media(0)},
            "responses": {str(status): {"description": text, "content": media(status)} for status in (200, 404, 422)},
        }

    paths = {f"/things{i}": {"post": operation(i)} for i in range(operations)}
    return {**HEAD, "paths": paths, "components": {"schemas": {f"schema-{i}": schema(i) for i in range(schemas)}}}


MEASURE = r"""
import re, sys, time
from pathlib import Path
from testops_lib.spec import load
start = time.process_time()
try:
    found = len(load(sys.argv[1]).operations)
except Exception as error:
    found = type(error).__name__
peak = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
print(found, time.process_time() - start, int(peak[1]) / 1024)
"""


def measured(path: Path) -> tuple[str, float, float]:
    """What came out, processor seconds and MB of a fresh process that loads the document."""
    done = subprocess.run([sys.executable, "-c", MEASURE, str(path)], capture_output=True, text=True, check=True)
    found, seconds, megabytes = done.stdout.split()
    return found, float(seconds), float(megabytes)


@pytest.mark.parametrize("form", ["json", "yaml"])
def test_a_document_of_githubs_size_loads_in_seconds(tmp_path: Path, form: str) -> None:
    path = tmp_path / f"large.{form}"
    raw = large(1000, 1000)
    path.write_text(json.dumps(raw) if form == "json" else f"# YAML\n{json.dumps(raw, indent=1)}")
    assert 9e6 < path.stat().st_size < 15e6
    found, seconds, megabytes = measured(path)
    assert found == "1000"
    assert seconds < 5
    assert megabytes < 500


def test_ten_thousand_operations_load(tmp_path: Path) -> None:
    path = tmp_path / "many.json"
    operation = json.dumps(large(1, 100)["paths"]["/things0"])
    raw = json.dumps(large(1, 100))
    more = "".join(f', "/more{i}": {operation}' for i in range(9_999))
    path.write_text(raw.replace(operation, f"{operation}{more}", 1))
    found, seconds, megabytes = measured(path)
    assert found == "10000"
    assert seconds < 20
    assert megabytes < 500


@pytest.mark.parametrize("kind", ["wide text", "nullable"])
def test_the_largest_documents_allowed_stay_within_memory(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "worst.json"
    a = {"$ref": "#/components/schemas/a"}
    if kind == "wide text":
        data = json.dumps({**HEAD, "x": ["\U0001f600" + "a" * 18] * 1_480_000}, ensure_ascii=False).encode()
    else:
        property_ = ',"p%d":{"nullable":true,"allOf":[{"$ref":"#/components/schemas/a"}]}'
        properties = "".join(map(property_.__mod__, range(160_000)))
        data = document(a, {"a": {"properties": {"p": "HERE"}}})
        data = data.replace(b'"p": "HERE"', f'"p": {{}}{properties}'.encode())
    path.write_bytes(data)
    found, seconds, megabytes = measured(path)
    assert found == ("0" if kind == "wide text" else "1")
    assert seconds < 20
    assert megabytes < 500


# --------------------------------------------------------------------------- anything else

JUNK = st.sampled_from(
    [
        None,
        True,
        False,
        0,
        -1,
        200,
        1.5,
        2**70,
        "",
        "x",
        "/a",
        "#/",
        "#",
        "#/components/schemas/Book",
        "\0",
        "é",
        [],
        {},
        [1],
        ["a"],
        {"a": 1},
        {"$ref": "#/paths"},
        {"$ref": "#/components/schemas/Book"},
        {"$ref": 3},
        [[]],
        [{}],
        [None],
    ]
)
VALID = [yaml.load((FIXTURES / "library.yaml").read_text(), yaml.BaseLoader)] + [
    json.loads((FIXTURES / name).read_text()) for name in ("shop2.json", "modern.json")
]


def containers(value: Any) -> list[Any]:
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else []
    return ([value] if inner else []) + [container for item in inner for container in containers(item)]


@settings(max_examples=250, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.data())
def test_a_mutated_document_gives_a_usable_spec_or_a_spec_error(data: st.DataObject) -> None:
    document = json.loads(json.dumps(data.draw(st.sampled_from(VALID))))
    for _ in range(data.draw(st.integers(1, 6))):
        places = containers(document)
        if not places:
            break
        at = places[data.draw(st.integers(0, len(places) - 1))]
        keys = list(at) if isinstance(at, dict) else list(range(len(at)))
        key = keys[data.draw(st.integers(0, len(keys) - 1))]
        action = data.draw(st.sampled_from(["replace", "delete", "move", "add"]))
        if action == "delete":
            del at[key]
        elif action == "move":
            other = places[data.draw(st.integers(0, len(places) - 1))]
            at[key] = json.loads(json.dumps(other))
        elif action == "add" and isinstance(at, dict):
            name = data.draw(
                st.sampled_from(["$ref", "schema", "items", "allOf", "type", "in", "content", "nullable", "get"])
            )
            at[name] = json.loads(json.dumps(data.draw(JUNK)))
        else:
            at[key] = json.loads(json.dumps(data.draw(JUNK)))
    try:
        spec = load_bytes(json.dumps(document).encode(), "doc")
    except SpecError as error:
        assert error.where
        return
    assert decode(encode(spec)) == spec
    for found in contracts(spec).values():
        for response in found.responses.values():
            for media in response.content.values():
                if media.schema is not None:
                    jsonschema_rs.validator_for(media.schema).is_valid({"a": [1]})


@settings(max_examples=150, deadline=None)
@given(st.one_of(st.binary(max_size=60), st.text(max_size=60).map(str.encode)), st.booleans(), st.integers(0, 3000))
def test_any_bytes_give_a_spec_or_a_spec_error(junk: bytes, inside: bool, at: int) -> None:
    text = (FIXTURES / "library.yaml").read_bytes()
    data = text[:at] + junk + text[at:] if inside else junk
    try:
        load_bytes(data, "doc")
    except SpecError as error:
        assert error.where


def test_a_missing_file_or_a_directory_gives_a_spec_error(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "none.yaml", Path("a\0b"), Path("ftp://host/x")):
        with pytest.raises(SpecError):
            load(path)
