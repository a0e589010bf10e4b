"""How a run ends early: first no case starts any more, then what is in flight is broken off, then cleanup, too."""

from __future__ import annotations

import asyncio
import time

CLEANUP_AFTER_STOP_S = 3.0
"""How long cleanup may go on after the requests in flight were broken off, or after the run's time is up."""


class Shutdown:
    """The stages of the end of a run. Whoever waits inside a run waits here, so that the end wakes everybody.

    stopped: no further case starts. killed: what is in flight is broken off, only cleanup is sent.
    """

    def __init__(self) -> None:
        self.stopped = self.killed = False
        self.cleanup_by = float("inf")
        """No cleanup is sent after this moment of `time.monotonic`."""
        self.begin_run()

    def begin_run(self) -> None:
        """Forgets who waited in an earlier run: events belong to the loop that waits for them."""
        self.halted = asyncio.Event()
        """Set on the run's loop after `stopped`."""
        self._killed = asyncio.Event()

    def kill(self) -> None:
        """Breaks off all waiting but that of cleanup."""
        self.killed = True
        self.cleanup_by = time.monotonic() + CLEANUP_AFTER_STOP_S
        self._killed.set()

    async def pause(self, seconds: float, *, in_cleanup: bool = False) -> None:
        """Waits so long, or until the run is killed; cleanup waits to the end."""
        if in_cleanup:
            await asyncio.sleep(max(0.0, seconds))
        elif seconds > 0:
            try:
                await asyncio.wait_for(self._killed.wait(), seconds)
            except TimeoutError:
                return
