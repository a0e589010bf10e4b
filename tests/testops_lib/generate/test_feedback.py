from __future__ import annotations

from typing import Any

from testops_lib.generate.feedback import MAX_REFUSALS, MAX_VALUES, Gap, Refusal, learn
from testops_lib.model import Result, StepOutcome

LIST, GET, POST = "GET /pets", "GET /pets/{id}", "POST /pets"
DOCUMENTED = {LIST: ("200",), GET: ("200", "404", "500"), POST: ("2XX", "4XX", "default")}


def result(*steps: StepOutcome, intent: Any = "positive") -> Result:
    return Result(run="r", case="c", verdict="passed", intent=intent, steps=steps)


def step(operation: str, status: int, **more: Any) -> StepOutcome:
    return StepOutcome(operation=operation, status=status, **more)


def test_operations_without_a_success_and_statuses_nobody_saw_are_gaps() -> None:
    feedback = learn([result(step(LIST, 200), step(GET, 400), step(POST, 201))], DOCUMENTED)
    assert feedback.gaps == (
        Gap(operation=GET, reached=False, unexplored=("200", "404"), undocumented=(400,)),
        Gap(operation=POST, reached=True, unexplored=("4XX",)),
    )
    assert feedback.explored == 4  # two operations reached, 200 of the one, 2XX of the other


def test_answers_to_another_request_than_the_operation_s_teach_nothing_of_it() -> None:
    feedback = learn([result(step(GET, 200, sent="OPTIONS /pets/{id}", seen={"id": (1,)}))], DOCUMENTED)
    assert GET in [gap.operation for gap in feedback.gaps if not gap.reached] and feedback.seen == {}


def test_nothing_is_left_when_all_was_seen() -> None:
    feedback = learn(
        [result(step(LIST, 200), step(GET, 200), step(GET, 404), step(POST, 201), step(POST, 422))], DOCUMENTED
    )
    assert feedback.gaps == ()


def test_refusals_of_positive_cases_are_told_while_the_operation_is_not_reached() -> None:
    said = [result(step(GET, 422, said=f"no such pet {number}")) for number in range(20)]
    feedback = learn([*said, *said, result(step(GET, 400, said="of course"), intent="negative")], DOCUMENTED)
    refusals = {gap.operation: gap.refusals for gap in feedback.gaps}[GET]
    assert refusals == tuple(Refusal(status=422, said=f"no such pet {number}") for number in range(MAX_REFUSALS))
    reached = learn([*said, result(step(GET, 200))], DOCUMENTED)
    assert {gap.operation: gap.refusals for gap in reached.gaps}[GET] == ()


def test_values_are_gathered_by_place_once_each_and_not_without_end() -> None:
    answers = [result(step(LIST, 200, seen={"id": (number, number // 2), "name": ("Rex",)})) for number in range(50)]
    seen = learn(answers, DOCUMENTED).seen[LIST]
    assert seen["name"] == ("Rex",)
    assert seen["id"][:3] == (0, 1, 2) and len(seen["id"]) == MAX_VALUES
