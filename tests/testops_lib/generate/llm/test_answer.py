from __future__ import annotations

import json

from testops_lib.generate.llm.answer import read


def test_cases_are_read_from_prose_fences_and_cut_ends() -> None:
    one_case = {"name": "a"}
    assert read(json.dumps({"cases": [one_case]})).cases == (one_case,)
    assert read(json.dumps([one_case])).cases == (one_case,)
    assert read('Sure {here}:\n```json\n{"cases": [{"name": "a"}]}\n```').cases == (one_case,)
    cut = read('{"cases": [{"name": "a"}, {"name": "b')
    assert cut.cases == (one_case,) and cut.cut
    assert read('{"cases": []}').problem == ""
    for text in ("", "I cannot help with that.", "{", "[" * 5000, '{"a": ' * 5000, '"cases"', '{"tests": []}'):
        assert read(text).cases == () and read(text).problem
