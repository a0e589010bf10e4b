from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from testops_lib.bus.encoding import CASE, OUTCOME, RESULT
from testops_lib.model import (
    Ended,
    Failure,
    JsonBody,
    JsonPathIs,
    Left,
    NotAServerError,
    Outcome,
    Provenance,
    Request,
    RequestEvidence,
    ResponseEvidence,
    Result,
    Returned,
    Step,
    StepOutcome,
    Taken,
    make_case,
)

STEP = Step(
    operation="GET /pets",
    request=Request(method="GET", path="/pets", body=JsonBody(value={"a": [1, {"b": None}]})),
    checks=(NotAServerError(), JsonPathIs(path="$.a", op="equals", value={"any": ["thing"]})),
)
RESULT_OF_ALL_KINDS = Result(
    run="r",
    case="c",
    verdict="failed",
    started=datetime(2026, 1, 1, tzinfo=UTC),
    failures=(Failure(check="status", operation="GET /pets", message="m"),),
    steps=(
        StepOutcome(
            operation="GET /pets",
            request=RequestEvidence(method="GET", url="http://h/pets"),
            response=ResponseEvidence(status=500),
            seen={"id": (1, "two", 3.5)},
        ),
    ),
    performed=(STEP,),
    left=(Left(operation="POST /pets", count=1, why="w"),),
)
OUTCOMES: tuple[Outcome, ...] = (
    Taken(order="o", run="r", member="m"),
    Returned(order="o", run="r", member="m"),
    Ended(order="o", run="r", member="m", code=0, text="t"),
)


def with_later_fields(value: Any) -> Any:
    """The value as JSON would give it, with a field more in each struct."""
    if isinstance(value, msgspec.Struct):
        config = value.__struct_config__
        tag = {config.tag_field: config.tag} if config.tag_field else {}
        fields = {name: with_later_fields(getattr(value, name)) for name in value.__struct_fields__}
        return {**tag, **fields, "later": {"than": ["this"]}}
    if isinstance(value, tuple):
        return [with_later_fields(item) for item in value]
    return value


def test_fields_of_a_newer_version_are_left_out_wherever_they_are() -> None:
    data = msgspec.json.encode(with_later_fields(RESULT_OF_ALL_KINDS))
    assert data.count(b'"later"') == 11
    assert RESULT.decode(data) == RESULT_OF_ALL_KINDS
    assert [OUTCOME.decode(msgspec.json.encode(with_later_fields(outcome))) for outcome in OUTCOMES] == list(OUTCOMES)


@pytest.mark.parametrize(
    "wrong",
    [
        b'{"kind": "result", "later": 1}',
        b'{"kind": "result", "run": "r", "case": "c", "verdict": "unheard of", "later": 1}',
        b'{"kind": "another", "run": "r", "case": "c", "verdict": "passed", "later": 1}',
        b'{"kind": "result", "run": "r", "case": "c", "verdict": "passed", "failures": 7, "later": 1}',
        b'["later"]',
        b"later",
    ],
)
def test_what_is_no_result_without_them_is_refused(wrong: bytes) -> None:
    with pytest.raises(msgspec.DecodeError):
        RESULT.decode(wrong)


@given(
    st.recursive(
        st.none() | st.integers() | st.text(), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)
    )
)
def test_any_later_field_is_left_out(value: Any) -> None:
    document = {"kind": "result", "run": "r", "case": "c", "verdict": "passed", "later": value}
    try:
        data = msgspec.json.encode(document)
    except (OverflowError, UnicodeEncodeError):
        return
    assert RESULT.decode(data) == Result(run="r", case="c", verdict="passed")


def test_a_case_with_a_later_field_is_refused_and_not_half_executed() -> None:
    case = make_case(
        name="n", intent="positive", operation="GET /pets", origin=Provenance(source="human"), steps=(STEP,)
    )
    with pytest.raises(msgspec.ValidationError, match="unknown field `later`"):
        CASE.decode(msgspec.json.encode({**msgspec.to_builtins(case), "later": 1}))
