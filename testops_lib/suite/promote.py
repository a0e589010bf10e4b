"""Checks that rest on a guess become checks that count."""

from __future__ import annotations

from typing import Literal

import msgspec

from testops_lib.model import Case, Step, make_case


def guesses(case: Case) -> int:
    """How many of the case's checks rest on a guess."""
    return sum(check.basis == "guess" for step in (*case.steps, *case.cleanup) for check in step.checks)


def promoted(case: Case, basis: Literal["human", "stable"]) -> Case:
    """The case with its guesses on this basis."""

    def firm(steps: tuple[Step, ...]) -> tuple[Step, ...]:
        return tuple(
            msgspec.structs.replace(
                step,
                checks=tuple(
                    msgspec.structs.replace(check, basis=basis, doubt="") if check.basis == "guess" else check
                    for check in step.checks
                ),
            )
            for step in steps
        )

    return make_case(
        name=case.name,
        intent=case.intent,
        operation=case.operation,
        steps=firm(case.steps),
        cleanup=firm(case.cleanup),
        origin=case.origin,
        tags=case.tags,
        last=case.last,
    )
