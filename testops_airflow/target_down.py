"""A batch whose target is down waits for it without a worker, and is then executed again."""

from __future__ import annotations

import time
from datetime import timedelta
from typing import Any

HERE_S = 30
"""How long the first runner waited before it said that the target is down."""

SHORTEST_S, LONGEST_S = 30.0, 300.0
"""Between two runners that ask."""


def defer(task: Any, since: float) -> None:
    """Defers the task, to be resumed as `resume` with `since`: when the target went down (epoch; 0: just now).

    The trigger is Airflow's own: every triggerer knows it.

    Raises:
        TaskDeferred: always.
    """
    from airflow.providers.standard.triggers.temporal import TimeDeltaTrigger

    begun = since or time.time() - HERE_S
    pause_s = min(LONGEST_S, max(SHORTEST_S, (time.time() - begun) / 2))
    task.log.info("the target is down; it is asked again in %d s", pause_s)
    task.defer(trigger=TimeDeltaTrigger(timedelta(seconds=pause_s)), method_name="resume", kwargs={"since": begun})
