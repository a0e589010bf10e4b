from __future__ import annotations

import pytest

from testops_lib.http.answer import Answer
from testops_lib.model import (
    FilterHonoured,
    Idempotency,
    JsonPathIs,
    MaxResponseTime,
    NoReflection,
    NotAServerError,
    PaginationConsistency,
    Request,
    ResponseSchemaConformance,
    Step,
)
from testops_lib.verdict.check import Judge, unjudged, why_unjudged

OF_THE_BODY = (
    ResponseSchemaConformance(),
    JsonPathIs(path="$.a"),
    Idempotency(value="{first}"),
    PaginationConsistency(path="$[*]", value=1),
    FilterHonoured(path="$[*]", parameter="a", value="b"),
    NoReflection(text="x"),
)
STEP = Step(
    operation="GET /a",
    request=Request(method="GET", path="/a"),
    checks=(NotAServerError(), *OF_THE_BODY, JsonPathIs(path="$.b"), MaxResponseTime(limit_ms=10)),
)
STREAM = Answer(status=200, body=b"x", streaming=True, elapsed_ms=11)
CUT = Answer(status=200, body=b"x" * 1_234, truncated=True, elapsed_ms=11)
GARBLED = Answer(status=200, body=b"x", undecodable="the body is no gzip", elapsed_ms=11)


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (STREAM, "the answer is a stream"),
        (CUT, "the body is longer than 1,234 bytes"),
        (GARBLED, "the body is no gzip"),
    ],
)
def test_a_body_that_was_not_read_whole_is_not_judged_and_the_checks_say_so(answer: Answer, why: str) -> None:
    assert why_unjudged(answer) == why
    names = (
        "response_schema_conformance",
        "jsonpath",
        "idempotency",
        "pagination_consistency",
        "filter_honoured",
        "no_reflection",
    )
    assert unjudged(STEP, answer) == tuple(f"{name}: {why}" for name in names), "once each, though two read the body"
    slow = Judge({}).judge(STEP, answer, {"first": {}})
    assert [failure.check for failure in slow] == ["max_response_time"], "checks of other parts are made all the same"


def test_a_whole_body_is_judged() -> None:
    whole = Answer(status=200, body=b"{}")
    assert why_unjudged(whole) == "" and unjudged(STEP, whole) == ()
    assert [failure.check for failure in Judge({}).judge(STEP, whole, {"first": [1]})][:1] == ["jsonpath"]
