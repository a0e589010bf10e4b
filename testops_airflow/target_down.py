"""Pauses a batch while its target is down, without a worker."""

from __future__ import annotations

import time
from datetime import timedelta
from typing import Any

from testops_lib.launch.target_down import pause_s, went_down_at


def defer(task: Any, since: float) -> None:
    """Defers the task; after a pause Airflow calls its method `resume` with `since`.

    The trigger is Airflow's own, so that every triggerer has it.

    Args:
        task: the operator.
        since: when the target went down (seconds since the epoch; 0: just now).

    Raises:
        TaskDeferred: always.
    """
    from airflow.providers.standard.triggers.temporal import TimeDeltaTrigger

    now = time.time()
    since = went_down_at(since, now)
    pause = pause_s(since, now)
    task.log.info("the target is down; the next runner starts in %d s", pause)
    task.defer(trigger=TimeDeltaTrigger(timedelta(seconds=pause)), method_name="resume", kwargs={"since": since})
