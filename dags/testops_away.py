"""A batch whose target is down waits for it without a worker, and is then executed again."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any

from airflow.triggers.base import BaseTrigger, TriggerEvent

AWAY = 3
"""The runner's exit code: the target is down, and the policy waits for it longer."""

HERE_S = 30
"""How long the first runner waited before it said so."""

SHORTEST_S, LONGEST_S = 30.0, 300.0
"""Between two runners that ask."""


class PauseTrigger(BaseTrigger):
    """Lets some time pass. Its event says since when the target is down: only that outlives the pause."""

    def __init__(self, *, pause_s: float, since: float) -> None:
        super().__init__()
        self.pause_s, self.since = pause_s, since

    def serialize(self) -> tuple[str, dict[str, Any]]:
        return f"{__name__}.PauseTrigger", {"pause_s": self.pause_s, "since": self.since}

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """One event."""
        await asyncio.sleep(self.pause_s)
        yield TriggerEvent({"since": self.since})


def defer(task: Any, since: float) -> None:
    """Defers the task, to be resumed as `resume`; `since` is when the target went down (epoch), 0: just now.

    Raises:
        TaskDeferred: always.
    """
    begun = since or time.time() - HERE_S
    pause_s = min(LONGEST_S, max(SHORTEST_S, (time.time() - begun) / 2))
    task.log.info("the target is down; it is asked again in %d s", pause_s)
    task.defer(trigger=PauseTrigger(pause_s=pause_s, since=begun), method_name="resume")
