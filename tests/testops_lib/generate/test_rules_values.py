from __future__ import annotations

from typing import Any

import jsonschema_rs
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from testops_lib.generate import wire
from testops_lib.generate.rules import boundary, mutations
from testops_lib.generate.rules.making import Impossible, Making
from testops_lib.generate.rules.values import Maker
from testops_lib.generate.schemas import Schemas
from testops_lib.placeholder import fill
from testops_lib.spec import MediaType, Parameter, RequestBody

TOKENS = ("000000000000", "ffffffffffff", "0a1b2c3d4e5f")


def make(schema: Any, name: str = "field", **wishes: Any) -> Any:
    return Maker(Schemas({}), {}).make(schema, name, Making(seed="s", **wishes))


def valid(schema: Any, value: Any) -> bool:
    validator = jsonschema_rs.Draft202012Validator(schema, validate_formats=True)
    return all(validator.is_valid(fill(value, {"unique": token})) for token in TOKENS)


@pytest.mark.parametrize(
    ("name", "pattern", "value"),
    [("currency", "^[A-Z]{3}$", "EUR"), ("country_code", "^[A-Z]{2}$", "DE"), ("zip", r"^\d{5}$", "10115")],
)
def test_what_the_name_means_goes_before_any_text_that_fits_the_pattern(name: str, pattern: str, value: str) -> None:
    assert make({"type": "string", "pattern": pattern}, name) == value


def test_a_currency_that_fits_its_pattern_may_still_be_unknown_to_the_server() -> None:
    making = Making(seed="s")
    Maker(Schemas({}), {}).make({"type": "string", "pattern": "^[A-Z]{3}$"}, "currency", making)
    assert making.doubt == "guessed_value"


@pytest.mark.parametrize(
    ("name", "schema"),
    [
        ("email", {"type": "string", "format": "email"}),
        ("email", {"type": "string", "format": "email", "maxLength": 26}),
        ("sku", {"type": "string", "pattern": "^[A-Z]{3}-[0-9]{4}$"}),
        ("slug", {"type": "string", "pattern": "^[a-z0-9-]{2,40}$"}),
        ("name", {"type": "string", "minLength": 3, "maxLength": 20}),
        ("id", {"type": "string", "format": "uuid"}),
        ("token", {"type": "string", "format": "byte"}),
        ("name", {"type": "string", "maxLength": 5}),
        ("when", {"type": "string", "format": "date-time"}),
        ("amount", {"type": "number", "exclusiveMinimum": 0, "maximum": 0.5}),
        ("step", {"type": "integer", "minimum": 7, "multipleOf": 5}),
        ("offset", {"type": "integer", "exclusiveMinimum": -3, "exclusiveMaximum": -1}),
        ("tags", {"type": "array", "items": {"enum": ["a", "b", "c"]}, "minItems": 3, "uniqueItems": True}),
        (
            "shape",
            {"oneOf": [{"type": "object", "required": ["r"], "properties": {"r": {"const": 1}}}, {"type": "null"}]},
        ),
        ("both", {"allOf": [{"type": "string", "minLength": 4}, {"type": "string", "maxLength": 6}]}),
        ("map", {"type": "object", "minProperties": 2, "additionalProperties": {"type": "integer", "minimum": 3}}),
    ],
)
def test_a_value_fits_its_schema_whatever_the_token(name: str, schema: dict[str, Any]) -> None:
    for salt in range(3):
        assert valid(schema, make(schema, name, salt=salt))


def test_a_name_that_must_be_unique_holds_the_token_and_differs_by_salt() -> None:
    schema = {"type": "string", "maxLength": 30}
    first, second = (make(schema, "username", salt=salt) for salt in (0, 1))
    assert "{unique}" in first and "{unique}" in second
    assert first != second


def test_what_cannot_hold_the_token_says_so_and_differs_by_salt() -> None:
    schema = {"type": "string", "pattern": "^[A-Z]{3}-[0-9]{4}$"}
    making = Making(seed="s")
    first = Maker(Schemas({}), {}).make(schema, "sku", making)
    assert making.salted
    assert first != make(schema, "sku", salt=5)


def test_examples_win_over_defaults_and_defaults_over_invention() -> None:
    assert make({"type": "integer", "examples": [7], "default": 8}) == 7
    assert make({"type": "integer", "default": 8}) == 8
    assert make({"type": "integer", "examples": ["no"], "default": 8}) == 8


def test_free_text_is_sure_and_a_closed_vocabulary_is_not() -> None:
    for name, sure in (("description", True), ("currency", False), ("owner_id", False), ("quantity", True)):
        making = Making(seed="s")
        Maker(Schemas({}), {}).make({"type": "integer" if name == "quantity" else "string"}, name, making)
        assert (not making.doubt) is sure, name


@pytest.mark.parametrize(
    ("description", "values"),
    [
        ("Path dtype ('notebook', 'file', 'directory')", ["notebook", "file", "directory"]),
        ("Sort order: `asc` or `desc`.", ["asc", "desc"]),
        ("The user's name, not 'admin' alone.", ["test", "test1", "test2"]),
        ("", ["test", "test1", "test2"]),
    ],
)
def test_words_that_a_text_quotes_are_what_is_allowed_in_prose(description: str, values: list[str]) -> None:
    schema = {"type": "string", "description": description}
    assert [make(schema, salt=salt) for salt in range(len(values))] == values
    assert [make({"type": "string"}, salt=salt, told=description) for salt in range(len(values))] == values
    making = Making(seed="s")
    Maker(Schemas({}), {}).make(schema, "note", making)
    assert (not making.doubt) == (values[0] == "test")
    assert make({**schema, "enum": ["x"]}) == "x" and make({**schema, "format": "date"}) == "2024-05-17"


def test_the_discriminator_names_the_branch() -> None:
    schemas = Schemas(
        {
            "Cat": {"type": "object", "required": ["kind"], "properties": {"kind": {"type": "string"}}},
            "Dog": {"type": "object", "required": ["kind"], "properties": {"kind": {"type": "string"}}},
        }
    )
    pet = {
        "anyOf": [{"$ref": "#/$defs/Cat"}, {"$ref": "#/$defs/Dog"}],
        "discriminator": {"propertyName": "kind", "mapping": {"meow": "#/components/schemas/Cat"}},
    }
    assert Maker(schemas, {}).make(pet, "pet", Making(seed="s")) == {"kind": "meow"}


def test_an_endless_required_schema_is_given_up() -> None:
    schemas = Schemas(
        {"Node": {"type": "object", "required": ["next"], "properties": {"next": {"$ref": "#/$defs/Node"}}}}
    )
    with pytest.raises(Impossible):
        Maker(schemas, {}).make({"$ref": "#/$defs/Node"}, "node", Making(seed="s"))


def test_a_read_only_property_is_not_required_of_a_request() -> None:
    schema = {"type": "object", "required": ["id"], "properties": {"id": {"type": "integer", "readOnly": True}}}
    assert Schemas({}).accepts(schema, {})


@pytest.mark.parametrize(("value", "fits"), [(2**31 - 1, True), (2**31, False), (-(2**31) - 1, False)])
def test_int32_is_a_range(value: int, fits: bool) -> None:
    assert Schemas({}).accepts({"type": "integer", "format": "int32"}, value) is fits


# --------------------------------------------------------------------------- any schema

names = st.sampled_from(["name", "price", "email", "note", "kind", "count"])
leaves = st.one_of(
    st.builds(
        lambda low, room: {"type": "integer", "minimum": low, "maximum": low + room},
        st.integers(-9, 9),
        st.integers(0, 9),
    ),
    st.builds(
        lambda low, room: {"type": "string", "minLength": low, "maxLength": low + room},
        st.integers(0, 15),
        st.integers(0, 30),
    ),
    st.sampled_from(
        [
            {"type": "boolean"},
            {"type": "number", "exclusiveMinimum": 0},
            {"enum": ["a", "b", None]},
            {"const": 4},
            {"type": "string", "format": "uuid"},
            {"type": "string", "format": "date"},
            {"type": ["string", "null"]},
            {"type": "string", "pattern": "^[a-f]{2,4}$"},
            {"type": "integer", "multipleOf": 3},
            {},
            {"anyOf": [{"type": "integer"}, {"type": "null"}]},
            {"not": {"type": "string"}},
        ]
    ),
)
trees = st.recursive(
    leaves,
    lambda inner: st.one_of(
        st.builds(
            lambda items, low, room, unique: {
                "type": "array",
                "items": items,
                "minItems": low,
                "maxItems": low + room,
                "uniqueItems": unique,
            },
            inner,
            st.integers(0, 2),
            st.integers(0, 3),
            st.booleans(),
        ),
        st.builds(
            lambda properties, required, more: {
                "type": "object",
                "properties": properties,
                "required": sorted(required & set(properties)),
                "additionalProperties": more,
            },
            st.dictionaries(names, inner, max_size=4),
            st.sets(names),
            st.booleans(),
        ),
        st.lists(inner, min_size=1, max_size=3).map(lambda branches: {"oneOf": branches}),
        st.lists(inner, min_size=1, max_size=2).map(lambda parts: {"allOf": parts}),
    ),
    max_leaves=8,
)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(schema=trees, salt=st.integers(0, 5), full=st.booleans())
def test_values_and_edges_are_valid_and_faults_are_not(schema: dict[str, Any], salt: int, full: bool) -> None:
    schemas = Schemas({})
    maker = Maker(schemas, {})
    making = Making(seed="s", salt=salt, full=full)
    try:
        value = maker.make(schema, "body", making)
    except Impossible:
        return
    if not valid(schema, value):
        assert "oneOf" in str(schema) and making.doubt and schemas.takes(schema, value), "only alternatives overlap"
    for edge in boundary.edges(schemas, maker, schema, value, {}, unique=True):
        assert valid(schema, edge.value), edge
    for mutation in mutations.of_body(schemas, schema, value, {}):
        assert not valid(schema, mutation.value), mutation


# --------------------------------------------------------------------------- on the wire


@pytest.mark.parametrize(
    ("style", "explode", "value", "sent"),
    [
        ("form", True, [1, 2], (("p", "1"), ("p", "2"))),
        ("form", False, [1, 2], (("p", "1,2"),)),
        ("spaceDelimited", False, ["a", "b"], (("p", "a b"),)),
        ("pipeDelimited", False, ["a", "b"], (("p", "a|b"),)),
        ("deepObject", True, {"a": 1, "b": {"c": True}}, (("p[a]", "1"), ("p[b][c]", "true"))),
        ("form", True, {"a": 1, "b": 2}, (("a", "1"), ("b", "2"))),
        ("form", False, {"a": 1, "b": 2}, (("p", "a,1,b,2"),)),
        ("form", True, 2.0, (("p", "2"),)),
        ("form", True, "{order_id}", (("p", "{order_id}"),)),
    ],
)
def test_query_styles(style: str, explode: bool, value: Any, sent: Any) -> None:
    assert wire.pairs(Parameter(name="p", where="query", style=style, explode=explode), value) == sent


@pytest.mark.parametrize(
    ("style", "explode", "value", "sent"),
    [
        ("simple", False, "a/b é", "/x/a%2Fb%20%C3%A9/y"),
        ("simple", False, [1, 2], "/x/1,2/y"),
        ("label", True, [1, 2], "/x/.1.2/y"),
        ("matrix", True, [1, 2], "/x/;id=1;id=2/y"),
        ("simple", False, "t{unique}", "/x/t{unique}/y"),
        ("simple", True, {"a": 1, "b": 2}, "/x/a=1,b=2/y"),
    ],
)
def test_path_styles(style: str, explode: bool, value: Any, sent: str) -> None:
    parameter = Parameter(name="id", where="path", style=style, explode=explode)
    assert wire.path("/x/{id}/y", {"id": parameter}, {"id": value}) == sent


def test_a_file_goes_into_a_part_of_its_own() -> None:
    schema = {"type": "object", "properties": {"f": {"type": "string", "format": "binary"}, "n": {"type": "integer"}}}
    described = MediaType(schema=schema, encoding={"f": "image/png"})
    made = wire.body("multipart/form-data", described, {"f": "x", "n": 3}, Schemas({}))
    file, number = made.parts  # type: ignore[union-attr]
    assert (file.filename, file.media_type, file.data) == ("file.png", "image/png", b"x")
    assert (number.filename, number.data) == ("", b"3")


def test_xml_is_not_written() -> None:
    content = {"application/xml": MediaType(), "text/plain": MediaType(), "application/vnd.x+json": MediaType()}
    assert wire.media_types(RequestBody(content=content)) == ["application/vnd.x+json", "text/plain"]


# --------------------------------------------------------------------------- times


@pytest.mark.parametrize("salt", [0, 1, 2])
@pytest.mark.parametrize("unique", [True, False])
@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("start", "end"),
        ("startDate", "endDate"),
        ("start_at", "end_at"),
        ("from", "to"),
        ("dateFrom", "dateTo"),
        ("since", "until"),
        ("notBefore", "notAfter"),
        ("not_before", "expires"),
        ("validFrom", "validUntil"),
        ("created_after", "created_before"),
        ("begin", "finish"),
        ("checkIn", "checkOut"),
        ("opens", "closes"),
        ("departure", "arrival"),
        ("scheduled_at", "due_date"),
        ("effective_from", "expiration_date"),
    ],
)
def test_times_of_a_range_are_in_order(first: str, second: str, unique: bool, salt: int) -> None:
    maker = Maker(Schemas({}), {})
    for form in ("date", "date-time", "time"):
        schema = {"type": "string", "format": form}
        made = [maker.make(schema, name, Making(seed="s", unique=unique, salt=salt)) for name in (first, second)]
        assert made[0] < made[1], (form, made)


@pytest.mark.parametrize(
    ("name", "schema"),
    [
        ("expires", {"type": "string", "format": "date-time"}),
        ("expiresAt", {"type": "string"}),
        ("expiry_date", {"type": "string"}),
        ("valid_until", {"type": "string", "format": "date"}),
        ("dueDate", {"type": "string", "format": "date"}),
        ("scheduled_at", {"type": "string", "format": "date-time"}),
        ("start_date", {"type": "string"}),
        ("deadline", {"type": "string"}),
    ],
)
def test_what_is_ahead_by_its_name_lies_in_the_future(name: str, schema: dict[str, Any]) -> None:
    assert Maker(Schemas({}), {}).make(schema, name, Making(seed="s")) > "2099"


@pytest.mark.parametrize(
    ("name", "schema", "ahead"),
    [
        ("expires_at", {"type": "integer"}, True),
        ("expires", {"type": "integer", "format": "int64"}, True),
        ("expires_at_ms", {"type": "integer"}, True),
        ("expires_in", {"type": "integer"}, False),
        ("due_days", {"type": "integer"}, False),
        ("expires_at", {"type": "integer", "format": "int32"}, False),
        ("to", {"type": "integer"}, False),
    ],
)
def test_a_moment_may_be_a_number(name: str, schema: dict[str, Any], ahead: bool) -> None:
    assert (Maker(Schemas({}), {}).make(schema, name, Making(seed="s")) > 4_000_000_000) is ahead


@pytest.mark.parametrize(("name", "value"), [("from", "test"), ("to", "test"), ("return", "test"), ("open", "test")])
def test_a_text_without_a_format_is_no_time_because_it_starts_or_ends(name: str, value: str) -> None:
    assert Maker(Schemas({}), {}).make({"type": "string"}, name, Making(seed="s", unique=False)) == value
