"""Further rounds: what the next one asks for, when they end, what they may spend. Pure.

A run stored in PostgreSQL (`stored_rounds`) and a local run (`cli.case_stream`) follow these rules alike.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import reduce
from typing import Final

from msgspec import structs

from testops_lib.generate.feedback import Feedback, learn
from testops_lib.generate.sources import GenerationRequest, SpendingLimits, deduct, is_paid, spending_limits
from testops_lib.model import Cost, Generation, Result, Value
from testops_lib.run.scope import documented, in_scope
from testops_lib.settings import Settings
from testops_lib.spec.operation import Spec
from testops_lib.target import Generate, Target

RANDOM: Final = "property"
"""The source that can draw other data without any feedback."""
_MAX_FUTILE_DRAWS: Final = 3
_MAX_EXAMPLES: Final = 200
"""Of one kind, that a round draws for an operation."""


class Progress(Value, frozen=True, kw_only=True):
    """How far the rounds of a run have come."""

    number: int
    """Of the round to decide about, from 1."""
    explored: int | None = None
    """`Feedback.explored` when the last round for gaps began; None: there was no such round."""
    futile_draws: int = 0
    """Consecutive rounds of random data without a new case."""


class Round(Value, frozen=True, kw_only=True):
    """A further round."""

    number: int
    sources: tuple[str, ...]
    feedback: Feedback | None
    """Gaps to fill; None: other random data, whatever was answered."""


class NoRound(Value, frozen=True, kw_only=True):
    """The rounds are over."""

    reason: str


def wanted_rounds(generate: Generate) -> int:
    """How many rounds a run may have: none where a person reviews its cases, for what rounds make runs at once."""
    return generate.rounds if generate.review == "never" else 0


def next_round(generate: Generate, feedback: Feedback, progress: Progress, *, limited: bool = False) -> Round | NoRound:
    """The next round: for gaps, as long as the round before gained something; otherwise for other random data.

    Args:
        limited: requests or time are limited, and are to be used: beyond the wanted rounds the free sources go on, and
            random data is drawn until draws stay without a new case.
    """
    number = progress.number
    free = tuple(source for source in generate.sources if not is_paid(source))
    sources = generate.sources if number <= wanted_rounds(generate) else free if limited else ()
    gained = progress.explored is None or feedback.explored > progress.explored
    if sources and feedback.gaps and gained:
        return Round(number=number, sources=sources, feedback=feedback)
    if limited and RANDOM in generate.sources and progress.futile_draws < _MAX_FUTILE_DRAWS:
        return Round(number=number, sources=(RANDOM,), feedback=None)
    if not feedback.gaps:
        return NoRound(reason="every operation answered a 2xx, and every documented status was seen")
    return NoRound(reason="no further round is wanted" if gained else f"round {number - 1} gained nothing")


def after(progress: Progress, done: Round, *, new_cases: int) -> Progress:
    """The progress when a round was executed that gave so many new cases."""
    if done.feedback is not None:
        return structs.replace(progress, number=done.number + 1, explored=done.feedback.explored)
    futile = 0 if new_cases else progress.futile_draws + 1
    return structs.replace(progress, number=done.number + 1, futile_draws=futile)


def learned(results: Iterable[Result], spec: Spec, target: Target) -> Feedback:
    """What these results say of the operations in scope."""
    return learn(results, documented(in_scope(spec, target)))


def remaining(target: Target, generations: Iterable[Generation], *, spent_before: Cost | None = None) -> SpendingLimits:
    """What a run may still spend on language models after these generations.

    `spent_before`: the cost of the target's other runs of this month.
    """
    return reduce(deduct, generations, spending_limits(target, spent=spent_before))


def request_for(
    wanted: Round, spec: Spec, target: Target, settings: Settings, *, limits: SpendingLimits, max_requests: int = 0
) -> GenerationRequest:
    """What the sources of a round are asked for. `max_requests`: that can still be sent; 0: no limit is known."""
    random = target.generate.property
    if wanted.feedback is None:  # larger than the draw before, because starting a draw takes the most time
        examples = min(_MAX_EXAMPLES, random.examples * 2**wanted.number)
        random = structs.replace(random, seed=random.seed + wanted.number, examples=examples)
    generate = structs.replace(target.generate, sources=wanted.sources, property=random)
    return GenerationRequest(
        spec=spec,
        operations=in_scope(spec, target),
        target=structs.replace(target, generate=generate),
        settings=settings,
        feedback=wanted.feedback,
        limits=limits,
        max_requests=max_requests,
    )
