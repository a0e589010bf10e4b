"""The one substitution of `{name}`: judged, sent and checked alike."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from testops_lib.execute.prepare import prepare
from testops_lib.export.python import pytest_source
from testops_lib.model import JsonBody, Provenance, Request, Step, make_case
from testops_lib.placeholder import fill, fill_text, names


@pytest.mark.parametrize(
    ("value", "values", "filled"),
    [
        (
            {"a": "{id}", "b": "n{id}", "c": "{other}", "d": ["{id}", 1]},
            {"id": 7},
            {"a": 7, "b": "n7", "c": "{other}", "d": [7, 1]},
        ),
        ("{a}{b}", {"a": "{b}", "b": "x"}, "{b}x"),
        ("{a} {b}", {"b": "{a}", "a": "{b}"}, "{b} {a}"),
        ("{a}", {"a": {"b": "{b}"}, "b": 1}, {"b": "{b}"}),
        ({"k-{a}": "{a}"}, {"a": "x"}, {"k-{a}": "x"}),
        ("{{a}}", {"a": "b", "b": "c"}, "{b}"),
        ("x{a}", {"a": {"n": None}}, 'x{"n":null}'),
        ("{a b} {} {", {"a b": 1}, "{a b} {} {"),
    ],
)
def test_placeholders_are_filled_once_and_never_inside_what_was_put_in(value: Any, values: Any, filled: Any) -> None:
    assert fill(value, values) == filled


@given(st.dictionaries(st.sampled_from("abc"), st.text("{}abc", max_size=6)), st.text("{}abc", max_size=12))
def test_the_order_of_captures_changes_nothing(values: dict[str, str], text: str) -> None:
    backwards = dict(reversed(values.items()))
    assert fill_text(text, values) == fill_text(text, backwards)
    assert set(names(fill_text(text, {}))) == set(names(text))


@given(st.dictionaries(st.sampled_from("abc"), st.text("{}abc", max_size=6)), st.text("{}abc", max_size=12))
def test_what_is_judged_is_what_is_sent(values: dict[str, str], text: str) -> None:
    sent = prepare("http://h", Request(method="POST", path="/", body=JsonBody(value={"v": [text]})), values)
    assert sent.body is not None and json.loads(sent.body) == fill({"v": [text]}, values)


@pytest.mark.parametrize("value", ["{a}", "x{a}", "{a}{b}", "{c}-{a}", {"k": ["{a}", "n{c}"]}])
def test_exported_python_fills_as_the_runner_does(value: Any) -> None:
    case = make_case(
        name="n",
        intent="positive",
        operation="GET /",
        origin=Provenance(source="human"),
        steps=(Step(operation="GET /", request=Request(method="GET", path="/")),),
    )
    exported: dict[str, Any] = {}
    exec(pytest_source(case, "http://127.0.0.1"), exported)
    values = {"a": True, "b": {"n": [None, 1.5]}, "unique": "{a}"}
    assert exported["fill"](value, values) == fill(value, values)
