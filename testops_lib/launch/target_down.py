"""How long a batch waits for a target that is down: first in its runner, then without one, between two runners.

Times are seconds since the epoch; durations are seconds.
"""

from __future__ import annotations

FIRST_WAIT_S, FURTHER_WAIT_S = 30.0, 5.0
"""How long a runner itself waits: when the target goes down, and when an earlier runner found it down."""

SHORTEST_PAUSE_S, LONGEST_PAUSE_S = 30.0, 300.0
"""Between two runners that try the target."""


def runner_wait_s(policy_wait_s: float, down_since: float) -> float:
    """How long a runner waits before it ends with `TARGET_DOWN`; `down_since` 0: no earlier runner found it down."""
    return min(policy_wait_s, FURTHER_WAIT_S if down_since else FIRST_WAIT_S)


def went_down_at(down_since: float, now: float) -> float:
    """When the target went down: `down_since`, or (0) as long ago as the first runner waited."""
    return down_since or now - FIRST_WAIT_S


def pause_s(down_since: float, now: float) -> float:
    """The pause before the next runner: half of the outage so far, within the limits."""
    return min(LONGEST_PAUSE_S, max(SHORTEST_PAUSE_S, (now - down_since) / 2))
