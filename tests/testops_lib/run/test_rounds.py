"""When further rounds begin and end, and what they ask for."""

from __future__ import annotations

import pytest

from testops_lib.generate.feedback import Feedback, Gap
from testops_lib.model import Cost, Generation
from testops_lib.run.rounds import NoRound, Progress, Round, after, next_round, remaining, request_for
from testops_lib.settings import Settings
from testops_lib.target import Generate, PropertyBased, Target
from tests.generation_specs import pets

SOURCES = ("rules", "property", "gemini")


def learned(explored: int = 3, *gaps: str) -> Feedback:
    return Feedback(gaps=tuple(Gap(operation=key, reached=False) for key in gaps), seen={}, explored=explored)


GAPS = learned(3, "GET /pets")


def test_a_wanted_round_asks_every_source_about_the_gaps() -> None:
    wanted = next_round(Generate(sources=SOURCES, rounds=1), GAPS, Progress(number=1))
    assert wanted == Round(number=1, sources=SOURCES, feedback=GAPS)


@pytest.mark.parametrize(
    "generate, feedback, progress, reason",
    [
        (Generate(rounds=0), GAPS, Progress(number=1), "no further round is wanted"),
        (Generate(rounds=1), GAPS, Progress(number=2), "no further round is wanted"),
        (Generate(rounds=3, review="new"), GAPS, Progress(number=1), "no further round is wanted"),
        (Generate(rounds=3), learned(), Progress(number=1), "every operation answered a 2xx"),
        (Generate(rounds=3), GAPS, Progress(number=2, explored=3), "round 1 gained nothing"),
    ],
)
def test_rounds_end(generate: Generate, feedback: Feedback, progress: Progress, reason: str) -> None:
    decision = next_round(generate, feedback, progress)
    assert isinstance(decision, NoRound) and decision.reason.startswith(reason)


def test_with_limits_free_sources_go_on_as_long_as_they_gain() -> None:
    generate = Generate(sources=SOURCES, rounds=1)
    beyond = next_round(generate, GAPS, Progress(number=2, explored=2), limited=True)
    assert beyond == Round(number=2, sources=("rules", "property"), feedback=GAPS)
    assert isinstance(next_round(Generate(sources=("gemini",)), GAPS, Progress(number=1), limited=True), NoRound), (
        "a paid source makes no more rounds than are wanted"
    )


def test_with_limits_random_data_is_drawn_until_three_draws_bring_nothing_new() -> None:
    generate, progress = Generate(sources=SOURCES), Progress(number=1)
    rounds = []
    for new_cases in (5, 0, 0, 0):
        wanted = next_round(generate, learned(), progress, limited=True)
        assert isinstance(wanted, Round) and (wanted.sources, wanted.feedback) == (("property",), None)
        rounds.append(wanted.number)
        progress = after(progress, wanted, new_cases=new_cases)
    assert rounds == [1, 2, 3, 4]
    assert isinstance(next_round(generate, learned(), progress, limited=True), NoRound)


def test_a_round_for_gaps_has_to_explore_more_than_the_one_before() -> None:
    generate, first = Generate(rounds=3), Progress(number=1)
    wanted = next_round(generate, GAPS, first)
    assert isinstance(wanted, Round)
    second = after(first, wanted, new_cases=0)
    assert second == Progress(number=2, explored=3)
    assert isinstance(next_round(generate, learned(4, "GET /pets"), second), Round)
    assert isinstance(next_round(generate, learned(3, "GET /pets"), second), NoRound)


def test_each_draw_of_random_data_is_another_and_a_larger_one() -> None:
    target = Target(name="t", spec="", generate=Generate(sources=SOURCES, property=PropertyBased(examples=30, seed=7)))
    drawn = [
        request_for(
            Round(number=number, sources=("property",), feedback=None),
            pets(),
            target,
            Settings(),
            limits=remaining(target, ()),
        ).target.generate
        for number in (1, 2, 3)
    ]
    assert [(wishes.property.examples, wishes.property.seed) for wishes in drawn] == [
        (60, 8),
        (120, 9),
        (200, 10),
    ]
    assert {wishes.sources for wishes in drawn} == {("property",)}


def test_what_a_run_and_the_month_spent_is_no_longer_left() -> None:
    target = Target(name="t", spec="", generate=Generate(max_tokens=1000, max_tokens_per_month=1500))
    taken = [Generation(source="gemini", input_tokens=200, output_tokens=100)]
    assert remaining(target, taken).tokens == 700
    assert remaining(target, taken, spent_before=Cost(input_tokens=800)).tokens == 400
