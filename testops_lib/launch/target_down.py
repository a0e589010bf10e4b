"""How long a batch waits for a target that is down: first in its runner, then without one, between two runners.

Times are seconds since the epoch; durations are seconds.
"""

from __future__ import annotations

from testops_lib.launch.exit_codes import DONE, TARGET_DOWN

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


def after_waiting(policy_wait_s: float, down_since: float, now: float) -> tuple[int, str]:
    """A runner's exit code, and why, when it has waited for the target in vain.

    `TARGET_DOWN` while the policy waits longer; then `DONE`: what the target did not answer is skipped, and the gate
    says so.
    """
    silent_s = now - down_since if down_since else runner_wait_s(policy_wait_s, 0)
    if silent_s < policy_wait_s:
        return TARGET_DOWN, f"the target is down for {silent_s:.0f} s; it is waited for {policy_wait_s:g} s in all"
    return DONE, f"target down: it was waited for {policy_wait_s:g} s; what it did not answer is skipped"
