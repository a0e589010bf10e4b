from __future__ import annotations

import pytest

from testops_lib.launch import target_down
from testops_lib.launch.exit_codes import DONE, TARGET_DOWN


@pytest.mark.parametrize(("policy_s", "down_since", "wait_s"), [(3600, 0, 30), (3600, 5, 5), (10, 0, 10), (2, 5, 2)])
def test_a_runner_waits_less_when_an_earlier_one_waited(policy_s: float, down_since: float, wait_s: float) -> None:
    assert target_down.runner_wait_s(policy_s, down_since) == wait_s


def test_the_outage_begins_before_the_first_runners_wait() -> None:
    assert target_down.went_down_at(0, 1000) == 1000 - target_down.FIRST_WAIT_S
    assert target_down.went_down_at(700, 1000) == 700


@pytest.mark.parametrize(("outage_s", "pause_s"), [(0, 30), (60, 30), (200, 100), (100_000, 300)])
def test_pauses_grow_with_the_outage_within_their_limits(outage_s: float, pause_s: float) -> None:
    assert target_down.pause_s(1000, 1000 + outage_s) == pause_s


def test_a_runner_leaves_the_waiting_to_later_ones_until_the_policys_time_is_over() -> None:
    assert target_down.after_waiting(3600, 1000, 1060) == (
        TARGET_DOWN,
        "the target is down for 60 s; it is waited for 3600 s in all",
    )
    assert target_down.after_waiting(3600, 0, 1060)[0] == TARGET_DOWN
    assert target_down.after_waiting(3600, 1000, 4700)[0] == DONE, "its cases are skipped"
    assert target_down.after_waiting(20, 0, 1060)[0] == DONE, "the first runner waited that long"
