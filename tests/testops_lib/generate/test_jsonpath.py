from __future__ import annotations

import pytest

from testops_lib.generate.jsonpath import closure, reach, refusal


def test_reach_follows_references_choices_and_open_objects() -> None:
    definitions = {
        "Node": {"type": "object", "properties": {"next": {"$ref": "#/$defs/Node"}, "value": {"type": "integer"}}},
        "Base": {"type": "object", "properties": {"id": {"type": "string"}}},
    }
    node = {"$ref": "#/$defs/Node"}
    assert reach("$.next.next.value", [node], definitions) == [{"type": "integer"}]
    assert reach("$.next.next.other", [node], definitions) == []
    both = {"allOf": [{"$ref": "#/$defs/Base"}, {"oneOf": [node, {"type": "array", "items": node}]}]}
    assert reach("$.id", [both], definitions) and reach("$.value", [both], definitions)
    assert reach("$[0].value", [both], definitions)
    assert reach("$.free.deep", [{"type": "object"}], {}) == [True]
    assert reach("$.any", [{"type": "object", "properties": {}, "additionalProperties": {"type": "null"}}], {}) == [
        {"type": "null"}
    ]
    assert reach("$..value", [node], definitions) == [{"type": "integer"}]
    assert set(closure([both], definitions)) == {"Node", "Base"}


@pytest.mark.parametrize("path", ["", "$.a[", "a.b", "$" + ".a" * 200, "$..a..b", "$[?search(@, 'x')]", "$[?@[?@.a]]"])
def test_a_malformed_or_costly_jsonpath_is_refused(path: str) -> None:
    assert refusal(path)


def test_what_a_member_named_as_a_keyword_refers_to_belongs_to_the_schema() -> None:
    schema = {"type": "object", "properties": {"default": {"$ref": "#/$defs/A"}, "enum": {"$ref": "#/$defs/B"}}}
    assert set(closure([schema], {"A": True, "B": True, "C": True})) == {"A", "B"}
