from __future__ import annotations

import copy
import json
import time
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from testops_lib import spec as specs
from testops_lib.spec import drift as drifts
from testops_lib.spec.drift import Changed, Difference, Drift
from testops_lib.spec.operation import Spec

ITEM = {
    "type": "object",
    "required": ["id", "name"],
    "properties": {
        "id": {"type": "integer", "readOnly": True},
        "name": {"type": "string", "maxLength": 40},
        "state": {"type": "string", "enum": ["open", "shut"]},
        "price": {"type": "number", "minimum": 1},
        "secret": {"type": "string", "writeOnly": True},
        "note": {"type": "string"},
    },
}


def document() -> dict[str, Any]:
    body = {"content": {"application/json": {"schema": {"$ref": "#/components/schemas/Item"}}}}
    identifier = {"name": "id", "in": "path", "required": True, "schema": {"type": "integer"}}
    return {
        "openapi": "3.1.0",
        "info": {"title": "Shop", "version": "1"},
        "paths": {
            "/items": {
                "get": {
                    "description": "All items.",
                    "parameters": [
                        {"name": "limit", "in": "query", "schema": {"type": "integer", "minimum": 1, "default": 10}},
                        {"name": "X-Tenant", "in": "header", "schema": {"type": "string"}},
                    ],
                    "responses": {
                        "200": {
                            "description": "",
                            "headers": {"X-Total": {"required": True, "schema": {"type": "integer"}}},
                            "content": {
                                "application/json": {
                                    "schema": {"type": "array", "items": {"$ref": "#/components/schemas/Item"}}
                                }
                            },
                        }
                    },
                },
                "post": {
                    "requestBody": copy.deepcopy(body),
                    "responses": {"201": {"description": "", **copy.deepcopy(body)}, "422": {"description": ""}},
                },
            },
            "/items/{id}": {
                "delete": {"parameters": [identifier], "responses": {"204": {"description": ""}}},
            },
        },
        "components": {
            "schemas": {"Item": copy.deepcopy(ITEM)},
            "securitySchemes": {
                "key": {"type": "apiKey", "in": "header", "name": "X-Key"},
                "login": {"type": "http", "scheme": "bearer"},
            },
        },
    }


def read(raw: Any) -> Spec:
    return specs.load_bytes(json.dumps(raw).encode(), "shop.json")


def at(raw: Any, *path: Any) -> Any:
    for part in path:
        raw = raw[part]
    return raw


LIMIT = ("paths", "/items", "get", "parameters", 0)
FIELDS = ("components", "schemas", "Item", "properties")


def change(place: tuple[Any, ...], value: Any = None) -> Drift:
    """The drift when one place of the document has another value; None: it is gone."""
    old, new = document(), document()
    parent = at(new, *place[:-1])
    if value is None:
        del parent[place[-1]]
    else:
        parent[place[-1]] = value
    return drifts.compare(read(old), read(new))


def differences_of(drift: Drift, operation: str, side: str = "") -> dict[str, bool]:
    """`where: what` -> breaking, of one operation."""
    changed = next(
        (changed for changed in drift.changed if changed.operation == operation),
        Changed(operation="", differences=()),
    )
    return {
        f"{difference.where}: {difference.what}" if difference.where else difference.what: difference.breaking
        for difference in changed.differences
        if side in ("", difference.side)
    }


def test_equal_documents_have_no_drift() -> None:
    drift = drifts.compare(read(document()), read(document()))
    assert drift == Drift() and drift.empty and not drift.breaking
    assert list(drifts.lines(drift)) == ["nothing changed"]


def test_added_and_removed_operations_are_named() -> None:
    old, new = document(), document()
    new["paths"]["/toys"] = {"get": {"responses": {"200": {"description": ""}}}}
    del new["paths"]["/items/{id}"]
    drift = drifts.compare(read(old), read(new))
    assert (drift.added, drift.removed, drift.changed) == (("GET /toys",), ("DELETE /items/{id}",), ())
    assert drift.breaking and not drifts.compare(read(new), read(new)).breaking


def test_another_name_of_a_path_parameter_breaks_nobody() -> None:
    old, new = document(), document()
    new["paths"]["/items/{item}"] = new["paths"].pop("/items/{id}")
    new["paths"]["/items/{item}"]["delete"]["parameters"][0]["name"] = "item"
    drift = drifts.compare(read(old), read(new))
    assert differences_of(drift, "DELETE /items/{item}") == {"path: /items/{id} is written /items/{item}": False}
    assert not drift.removed and not drift.breaking


REQUEST: list[tuple[tuple[Any, ...], Any, str, bool]] = [
    ((*LIMIT, "required"), True, "query limit: became required", True),
    ((*LIMIT, "schema", "minimum"), 5, "query limit: minimum 1 -> 5", True),
    ((*LIMIT, "schema", "minimum"), 0, "query limit: minimum 1 -> 0", False),
    ((*LIMIT, "schema", "minimum"), None, "query limit: minimum 1 removed", False),
    ((*LIMIT, "schema", "maximum"), 9, "query limit: maximum 9 added", True),
    ((*LIMIT, "schema", "type"), "string", "query limit: type integer -> string", True),
    ((*LIMIT, "schema", "type"), "number", "query limit: type integer -> number", False),
    ((*LIMIT, "schema", "type"), ["integer", "null"], "query limit: may be null", False),
    ((*LIMIT, "schema", "default"), 20, "query limit: default 10 -> 20", True),
    ((*LIMIT, "schema", "enum"), [1, 2], "query limit: only [1,2] is taken", True),
    ((*LIMIT, "schema", "multipleOf"), 5, "query limit: multipleOf 5 added", True),
    ((*LIMIT, "schema", "not"), {"const": 3}, "query limit: the rule `not` changed, which may break a client", True),
    ((*LIMIT, "name"), "most", "query limit: removed", True),
    ((*LIMIT, "name"), "most", "query most: new and optional", False),
    ((*LIMIT, "description"), "How many.", "query limit: description or examples changed", False),
    ((*LIMIT, "deprecated"), True, "query limit: is deprecated", False),
    ((*LIMIT, "style"), "spaceDelimited", "query limit: is written in another style", True),
]


@pytest.mark.parametrize(("place", "value", "what", "breaking"), REQUEST)
def test_a_change_of_a_parameter_is_judged_by_what_a_client_sends(
    place: tuple[Any, ...], value: Any, what: str, breaking: bool
) -> None:
    assert differences_of(change(place, value), "GET /items").get(what) is breaking, differences_of(
        change(place, value), "GET /items"
    )


BOTH: list[tuple[tuple[Any, ...], Any, str, bool | None, bool | None]] = [
    ((*FIELDS, "state", "enum"), ["open"], 'state: value "shut" removed', True, False),
    ((*FIELDS, "state", "enum"), ["open", "shut", "ajar"], 'state: value "ajar" added', False, True),
    ((*FIELDS, "state", "enum"), None, 'state: only ["open","shut"] was taken, now any value is', False, True),
    ((*FIELDS, "name", "maxLength"), 20, "name: maxLength 40 -> 20", True, False),
    ((*FIELDS, "name", "maxLength"), 80, "name: maxLength 40 -> 80", False, True),
    ((*FIELDS, "name", "pattern"), "^a", 'name: pattern "^a" added', True, False),
    ((*FIELDS, "name", "type"), ["string", "null"], "name: may be null", False, True),
    ((*FIELDS, "price", "type"), "integer", "price: type number -> integer", True, False),
    ((*FIELDS, "price", "type"), "string", "price: type number -> string", True, True),
    ((*FIELDS, "note"), None, "note: removed", True, True),
    ((*FIELDS, "colour"), {"type": "string"}, "colour: new and optional", False, None),
    ((*FIELDS, "colour"), {"type": "string"}, "colour: new", None, False),
    ((*FIELDS, "note", "description"), "Any.", "note: description or examples changed", False, False),
    (("components", "schemas", "Item", "required"), ["name", "id", "note"], "note: became required", True, None),
    (("components", "schemas", "Item", "required"), ["name", "id", "note"], "note: is always there", None, False),
    (("components", "schemas", "Item", "required"), ["id"], "name: became optional", False, None),
    (("components", "schemas", "Item", "required"), ["id"], "name: may be missing", None, True),
    (("components", "schemas", "Item", "required"), ["name"], "id: may be missing", None, True),
    (
        ("components", "schemas", "Item", "additionalProperties"),
        False,
        "further fields are refused",
        True,
        False,
    ),
]


@pytest.mark.parametrize(("place", "value", "what", "sent", "received"), BOTH)
def test_a_change_of_a_schema_is_judged_on_each_side(
    place: tuple[Any, ...], value: Any, what: str, sent: bool | None, received: bool | None
) -> None:
    drift = change(place, value)
    blank = "" if what.startswith("further") else " "
    separator = ": " if what.startswith("further") else blank
    for side, where, breaking in (("request", "body", sent), ("response", "201 body", received)):
        differences = differences_of(drift, "POST /items", side)
        assert differences.get(f"{where}{separator}{what}") is breaking, differences
    if received is not None:
        inside = f"200 body[]{': ' if what.startswith('further') else '.'}{what}"
        assert differences_of(drift, "GET /items").get(inside) is received


def test_fields_of_the_other_side_do_not_count() -> None:
    assert differences_of(change((*FIELDS, "id"), {"type": "string", "readOnly": True}), "POST /items", "request") == {}
    assert differences_of(change((*FIELDS, "secret"), None), "POST /items", "response") == {}


RESPONSES: list[tuple[tuple[Any, ...], Any, str, str, bool]] = [
    (("paths", "/items", "post", "responses", "201"), None, "POST /items", "201: is not answered any more", True),
    (("paths", "/items", "post", "responses", "422"), None, "POST /items", "422: is not answered any more", False),
    (("paths", "/items", "post", "responses", "409"), {"description": ""}, "POST /items", "409: new", False),
    (("paths", "/items", "get", "responses", "200", "headers"), {}, "GET /items", "200 header X-Total: removed", True),
    (
        ("paths", "/items", "get", "responses", "200", "headers", "X-Total", "required"),
        False,
        "GET /items",
        "200 header X-Total: may be missing",
        True,
    ),
    (
        ("paths", "/items", "get", "responses", "200", "content"),
        {"text/csv": {}},
        "GET /items",
        "200 body: is not offered as application/json any more",
        True,
    ),
    (("paths", "/items", "post", "requestBody"), None, "POST /items", "body: removed", True),
    (("paths", "/items", "post", "requestBody", "required"), True, "POST /items", "body: became required", True),
    (
        ("paths", "/items/{id}", "delete", "requestBody"),
        {"required": True, "content": {"application/json": {}}},
        "DELETE /items/{id}",
        "body: new and required",
        True,
    ),
    (("paths", "/items", "get", "description"), "Every item.", "GET /items", "description changed", False),
    (("paths", "/items", "get", "operationId"), "all", "GET /items", "operationId none -> all", False),
    (("paths", "/items", "get", "deprecated"), True, "GET /items", "is deprecated", False),
    (("paths", "/items", "get", "security"), [{"key": []}], "GET /items", "credentials: became required", True),
]


@pytest.mark.parametrize(("place", "value", "operation", "what", "breaking"), RESPONSES)
def test_a_change_of_an_operation_is_a_difference(
    place: tuple[Any, ...], value: Any, operation: str, what: str, breaking: bool
) -> None:
    differences = differences_of(change(place, value), operation)
    assert differences.get(what) is breaking, differences


def test_credentials_are_alternatives() -> None:
    one, either, none = document(), document(), document()
    one["paths"]["/items"]["get"]["security"] = [{"key": []}]
    either["paths"]["/items"]["get"]["security"] = [{"key": []}, {"login": []}]
    assert differences_of(drifts.compare(read(one), read(either)), "GET /items") == {
        "credentials: login is accepted, too": False
    }
    assert differences_of(drifts.compare(read(either), read(one)), "GET /items") == {
        "credentials: login is not accepted any more": True
    }
    assert differences_of(drifts.compare(read(one), read(none)), "GET /items") == {
        "credentials: are not required any more": False
    }


def test_alternatives_of_a_schema_are_matched_by_name() -> None:
    def shapes(*names: str) -> Spec:
        raw = document()
        raw["components"]["schemas"] |= {name: {"type": "object", "title": name} for name in "ABC"}
        raw["components"]["schemas"]["Item"] = {"oneOf": [{"$ref": f"#/components/schemas/{name}"} for name in names]}
        return read(raw)

    drift = drifts.compare(shapes("A", "B"), shapes("B", "A", "C"))
    assert differences_of(drift, "POST /items", "request") == {"body: oneOf: C added": False}
    assert differences_of(drift, "POST /items", "response") == {"201 body: oneOf: C added": True}


def test_what_stands_in_allof_counts_as_the_objects_own() -> None:
    new = document()
    new["components"]["schemas"]["Base"] = {"type": "object", "properties": {"name": ITEM["properties"]["name"]}}  # type: ignore[index]
    item = new["components"]["schemas"]["Item"]
    del item["properties"]["name"]
    item["allOf"] = [{"$ref": "#/components/schemas/Base"}]
    assert drifts.compare(read(document()), read(new)).empty


# --------------------------------------------------------------------------- hostile and huge


def test_schemas_that_contain_themselves_are_compared() -> None:
    def tree(kind: str) -> Spec:
        raw = document()
        child = {"$ref": "#/components/schemas/Item", "description": "a child"}
        raw["components"]["schemas"]["Item"] = {
            "type": "object",
            "properties": {
                "kind": {"type": kind},
                "left": child,
                "right": dict(child),
                "all": {"anyOf": [dict(child)] * 5},
            },
        }
        return read(raw)

    began = time.monotonic()
    drift = drifts.compare(tree("string"), tree("integer"))
    assert differences_of(drift, "POST /items", "request")["body kind: type string -> integer"] is True
    assert drift.whole and time.monotonic() - began < 5


def test_a_document_made_to_hang_it_ends_soon() -> None:
    def bushy(kind: str) -> Spec:
        raw = document()
        for level in range(40):
            to = {"$ref": f"#/components/schemas/L{level + 1}"}
            raw["components"]["schemas"][f"L{level}"] = {
                "type": "object",
                "properties": {f"f{number}": dict(to) for number in range(8)},
            }
        raw["components"]["schemas"]["L40"] = {"type": kind}
        raw["components"]["schemas"]["Item"] = {"$ref": "#/components/schemas/L0"}
        raw["paths"]["/items"]["get"]["parameters"][0]["schema"]["enum"] = [
            f"{kind} {number}" for number in range(20_000)
        ]
        return read(raw)

    old, new = bushy("string"), bushy("integer")
    began = time.monotonic()
    drift = drifts.compare(old, new)
    assert drift.breaking and time.monotonic() - began < 20
    assert all(len(one.differences) <= drifts.MOST_DIFFERENCES for one in drift.changed)


def test_a_thousand_operations_are_compared_in_seconds() -> None:
    def large(extra: str) -> Spec:
        raw = document()
        raw["components"]["schemas"]["Item"]["properties"][extra] = {"type": "string"}
        shared = raw["paths"]["/items"]
        raw["paths"] = {f"/items{number}": shared for number in range(500)}
        return read(raw)

    old, new = large("a"), large("b")
    began = time.monotonic()
    drift = drifts.compare(old, new)
    assert len(drift.changed) == 1000 and drift.whole
    assert time.monotonic() - began < 20


values = st.recursive(
    st.sampled_from([True, 1, "string", "object", None]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["type", "properties", "items", "required", "enum", "a", "oneOf", "allOf", "minimum", "$ref"]
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=10,
)


@given(values, values)
def test_whatever_the_schemas_hold_they_are_compared(one: Any, other: Any) -> None:
    def holding(schema: Any) -> Spec:
        raw = document()
        raw["components"]["schemas"]["Item"] = schema
        return read(raw)

    old, new = holding(one), holding(other)
    drift = drifts.compare(old, new)
    assert msgspec.json.decode(msgspec.json.encode(drift), type=Drift) == drift
    assert list(drifts.lines(drift))
    assert drifts.compare(old, old).empty


def test_the_lines_say_what_changed_in_words() -> None:
    drift = Drift(
        added=("POST /toys",),
        removed=("GET /old",),
        changed=(
            Changed(
                operation="GET /items",
                more=3,
                differences=(
                    Difference(side="request", where="query limit", what="became required", breaking=True),
                    Difference(side="operation", where="", what="description changed"),
                ),
            ),
        ),
    )
    assert list(drifts.lines(drift)) == [
        "1 removed, 1 added, 1 changed operations: 2 breaking, 2 harmless",
        "GET /old",
        "  breaking  removed",
        "POST /toys",
        "  harmless  added",
        "GET /items",
        "  breaking  request query limit: became required",
        "  harmless  description changed",
        "  … and 3 more",
    ]
