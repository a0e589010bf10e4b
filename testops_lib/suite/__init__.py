"""A target's suite over time: what stays, what changes, what a person said. Decisions only; the store keeps them."""

from __future__ import annotations

from testops_lib.suite.evolve import Evolved, added, evolve, member_keys
from testops_lib.suite.member import (
    REGRESSION,
    REVIEWS,
    RUNS,
    STATUSES,
    Change,
    Made,
    Member,
    Status,
    calls,
    digest,
    is_current,
)
from testops_lib.suite.merge import merge
from testops_lib.suite.promote import guesses, promoted
from testops_lib.suite.regress import regression_key, regressions

__all__ = [
    "REGRESSION",
    "REVIEWS",
    "RUNS",
    "STATUSES",
    "Change",
    "Evolved",
    "Made",
    "Member",
    "Status",
    "added",
    "calls",
    "digest",
    "evolve",
    "guesses",
    "is_current",
    "member_keys",
    "merge",
    "promoted",
    "regression_key",
    "regressions",
]
