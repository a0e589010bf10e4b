from __future__ import annotations

from typing import Any

import pytest

from testops_lib.model import DIFFERENTIAL, Failure, Result, StepOutcome
from testops_lib.verdict.differential import compare, judged


def result(*steps: StepOutcome, **more: Any) -> Result:
    return Result(**{"run": "r", "case": "c", "verdict": "passed", "steps": steps, **more})


def step(status: int = 200, operation: str = "GET /pets", **seen: tuple[Any, ...]) -> StepOutcome:
    return StepOutcome(
        operation=operation, status=status, seen={name.replace("__", "."): v for name, v in seen.items()}
    )


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (step(name=("Rex",)), step(name=("Rex",))),
        (step(name=("Rex", "Max")), step(name=("Max", "Rex"))),
        (step(id=(7,)), step(id=(8,))),
        (step(ownerId=("a",)), step(ownerId=("b",))),
        (step(note=("made 2024-01-02T03:04:05Z",)), step(note=("made 2025-01-02T03:04:05Z",))),
        (step(name=("t0123456789ab",)), step(name=("tba9876543210",))),
        (step(created_at=("now",)), step(created_at=("then",))),
        (step(home=("http://a/x",)), step(home=("http://b/y",))),
        (step(price=(1,)), step(price=(1.0,))),
        (step(name=("a", "b", "c", "d", "e")), step(name=("f", "g", "h", "i", "j"))),
    ],
)
def test_what_may_differ_is_no_difference(before: StepOutcome, after: StepOutcome) -> None:
    assert compare(result(before), result(after)) == ()


@pytest.mark.parametrize(
    ("before", "after", "what", "place"),
    [
        (step(200), step(404), "status", ""),
        (step(200), step(0), "status", ""),
        (step(name=("Rex",), tag=("dog",)), step(name=("Rex",)), "missing", "tag"),
        (step(name=("Rex",)), step(name=("Rex",), tag=("dog",)), "added", "tag"),
        (step(owner__age=(3,)), step(owner__age=("3",)), "type", "owner.age"),
        (step(name=("Rex",)), step(name=("Max",)), "value", "name"),
    ],
)
def test_what_must_not_differ_is_one(before: StepOutcome, after: StepOutcome, what: str, place: str) -> None:
    (difference,) = compare(result(before), result(after))
    assert (difference.what, difference.place) == (what, place)
    assert difference.message()


def test_after_another_status_nothing_more_is_compared() -> None:
    differences = compare(result(step(201), step(name=("a",))), result(step(500), step(name=("b",))))
    assert [difference.what for difference in differences] == ["status"]


def test_a_failure_that_was_there_before_is_no_news_and_a_new_one_is() -> None:
    old = Failure(check="not_a_server_error", operation="GET /pets", message="answered 500", cause="status 500")
    new = Failure(check="response_schema_conformance", operation="GET /pets", message="x", cause="$.a type")
    before = {"c": result(step(500), verdict="failed", failures=(old,))}
    (same,) = judged(before, [result(step(500), verdict="failed", failures=(old,))])
    assert (same.verdict, same.failures) == ("passed", ())
    (more,) = judged(before, [result(step(500), verdict="failed", failures=(old, new))])
    assert (more.verdict, more.failures) == ("failed", (new,))


def test_a_difference_fails_the_case_and_says_what_it_rests_on() -> None:
    before = {"c": result(step(200, name=("Rex",)))}
    (failed,) = judged(before, [result(step(404))])
    assert failed.verdict == "failed"
    assert [(failure.check, failure.basis, failure.cause) for failure in failed.failures] == [
        (DIFFERENTIAL, "spec", "status 200 404")
    ]
    (guessed,) = judged(before, [result(step(200, name=("Max",)))])
    assert [failure.basis for failure in guessed.failures] == ["guess"]


def test_what_could_not_be_judged_is_left_as_it_is() -> None:
    errored = result(step(0), verdict="errored", reason="timeout")
    assert judged({"c": result(step(200))}, [errored]) == [errored]
    assert judged({}, [result(step(200))]) == [result(step(200))]
