"""Causes outside of single operations: an absent server, refused credentials, a wrong base URL.

When nearly every result has the same one, these results count as errored with one reason instead of as findings.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from testops_lib.http.answer import media_type
from testops_lib.model import NO_ANSWER, Result, VerdictName

SILENT: Final = "silent"
REFUSED: Final = "refused"
NOT_FOUND: Final = "not found"
REDIRECTED: Final = "redirected"
PAGES: Final = "pages"

JUDGED: Final[tuple[VerdictName, ...]] = ("passed", "failed")

LEAST_RESULTS: Final = 5
LARGE_SHARE: Final = 0.9
"""From this share on, and at least `LEAST_RESULTS` over two operations or more, one cause explains the run."""

_REDIRECTS = frozenset({301, 302, 303, 307, 308})


def is_global(part: int, whole: int) -> bool:
    """Whether so many results of the whole are enough for one cause."""
    return part >= LEAST_RESULTS and part >= LARGE_SHARE * whole


def explaining_cause(result: Result) -> str:
    """The cause outside of single operations that would explain what a result shows, or "".

    Whether it does is known when all results are in. A refusal that passes (404 to invalid data) is explained, too:
    where everything is answered so, it has shown nothing.
    """
    if result.verdict not in JUDGED:
        return ""
    statuses = {step.status for step in result.steps}
    if statuses == {404}:
        return NOT_FOUND
    if statuses and statuses <= _REDIRECTS:
        return REDIRECTED
    if not result.failures:
        return ""
    if _shows_pages(result):
        return PAGES
    if all(failure.check == NO_ANSWER for failure in result.failures):
        return SILENT
    if result.intent in ("positive", "stateful") and all(status == 401 for status in _failing_statuses(result)):
        return REFUSED
    return ""


def _failing_statuses(result: Result) -> Iterable[int]:
    steps = result.steps
    return (steps[failure.step].status if failure.step < len(steps) else 0 for failure in result.failures)


def _shows_pages(result: Result) -> bool:
    """The result failed, and each of its answers is an HTML page."""
    answers = [step.response for step in result.steps if step.response]
    return bool(answers) and all(media_type(answer.headers) == "text/html" for answer in answers)
