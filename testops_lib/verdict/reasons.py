"""How the reasons of results that are errored or skipped begin, and what they mean for the run."""

from __future__ import annotations

from typing import Final

NO_RESULT: Final = "no_result"
"""Stands for a case whose result never came."""

TARGET_DOWN: Final = "target down"
"""The case was skipped because the target was down; the gate counts it as errored."""

NO_ANSWER_AT_ALL: Final = "no answer from the target"
REFUSED_CREDENTIALS: Final = "401 for valid requests"
LOCKED_OUT: Final = "locked out"
"""Credentials worked and stopped working; the reason goes on with the request after which they did."""
NOT_FOUND_ANYWHERE: Final = "404 to everything"
REDIRECTED_EVERYWHERE: Final = "a redirect to everything"
PAGES_EVERYWHERE: Final = "an HTML page to everything"

GLOBAL_CAUSES: Final = (
    NO_ANSWER_AT_ALL,
    REFUSED_CREDENTIALS,
    LOCKED_OUT,
    NOT_FOUND_ANYWHERE,
    REDIRECTED_EVERYWHERE,
    PAGES_EVERYWHERE,
)
"""One cause outside of the operations spoiled the run."""
