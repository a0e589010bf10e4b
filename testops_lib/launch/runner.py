"""What every launcher knows of a runner: its command line, how long it may take, how soon it ends."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:  # DAG files, which are parsed constantly, import this module
    from testops_lib.model import Batch

DEADLINE_S = 900
"""How long a batch may take on top of what its rate limit needs."""

REQUESTS_PER_CASE = 4
"""Assumed where a deadline follows from a rate."""

STOP_S = 8
"""What an engine needs to end: the requests in flight, and its cleanup."""

KILL_AFTER_S = STOP_S + 2
"""How long a launcher waits after SIGTERM before it kills a runner."""


FLEET_PORT = 8090
"""Where a fleet runner answers `/live`, `/ready` and `/metrics`, when nothing else is said."""


def deadline_s(batch: Batch, requests_per_second: float) -> float:
    """How long a runner may take for a batch at this rate (0: unlimited), unless its command line says otherwise."""
    requests = (batch.end - batch.first) * REQUESTS_PER_CASE
    return DEADLINE_S + (requests / requests_per_second if requests_per_second > 0 else 0)


def arguments(
    *, run: str, plan: str, batch: str, attempt: int = 1, again: str = "", down_since: float = 0
) -> list[str]:
    """The words after `python -m runner` that have it execute a batch, wherever it runs.

    `again` says where the run's results begin when the batch may have been executed before, whatever made it run again
    (a retry, a clearing, a restart of Airflow): cases that were judged are not sent again.
    """
    words = ["--run", run, "--plan", plan, "--batch", batch, "--attempt", str(attempt)]
    if again:
        words += ["--again", again]
    return [*words, "--down-since", str(down_since)] if down_since else words
