"""Shares of a target's limits, which Kafka divides among the runners that work on it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest

from stack.kafka import Kafka
from testops_lib.bus.client import Bus
from testops_lib.bus.topics import Topics
from testops_lib.errors import BusError
from tests.paths import ROOT

pytestmark = [pytest.mark.integration, pytest.mark.timeout(120)]

HOLDER = """
import sys, time
from testops_lib.bus.client import Bus
from testops_lib.bus.topics import Topics
bus = Bus(sys.argv[1], topics=Topics(shares=sys.argv[2]))
with bus.shares.join("http://h:80") as holder:
    holder.wait(lambda: bool(holder.assigned), 60)
    print(sorted(holder.assigned), flush=True)
    time.sleep(600)
"""


def test_the_shares_of_all_who_work_on_a_target_are_disjoint_and_nothing_is_left_over(bus: Bus) -> None:
    changes: list[tuple[str, frozenset[int]]] = []
    with bus.shares.join("http://h:80", lambda holder: changes.append(("first", holder.assigned))) as first:
        assert first.wait(lambda: len(first.assigned) == first.partitions == 12, 30), "a single runner has everything"
        with bus.shares.join("http://other:80") as other:
            assert other.wait(lambda: len(other.assigned) == 12, 30), "another target has its own shares"
        with bus.shares.join("http://h:80", lambda holder: changes.append(("second", holder.assigned))) as second:
            assert second.wait(lambda: len(second.assigned) == 6, 30)
            assert first.wait(lambda: len(first.assigned) == 6, 30)
        assert first.wait(lambda: len(first.assigned) == 12, 30), "the tail of a run has everything again"
    held: dict[str, frozenset[int]] = {"first": frozenset(), "second": frozenset()}
    for who, assigned in changes:
        held[who] = assigned
        assert not held["first"] & held["second"], "no partition belongs to two at a time"


def test_the_share_of_a_runner_that_died_goes_to_the_others(bus: Bus) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER, bus.bootstrap, bus.topics.shares],
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    with process:
        assert process.stdout is not None and process.stdout.readline().count(",") == 11
        with bus.shares.join("http://h:80") as holder:
            assert holder.wait(lambda: len(holder.assigned) == 6, 30)
            process.send_signal(signal.SIGKILL)
            assert holder.wait(lambda: len(holder.assigned) == 12, 30)


def test_without_its_topic_nobody_has_a_share(kafka: str) -> None:
    with pytest.raises(BusError, match="no such topic"):
        Bus(kafka, topics=Topics(shares="absent.shares"), timeout_s=5).shares.join("http://h:80")


@pytest.mark.chaos
def test_while_kafka_is_away_nobody_has_a_share(breakable_kafka: Kafka, breakable_bus: Bus) -> None:
    with breakable_bus.shares.join("http://h:80") as holder:
        assert holder.wait(lambda: len(holder.assigned) == 12, 30)
        breakable_kafka.kill(1)
        assert holder.wait(lambda: not holder.assigned, 30), "others may have them by now"
        breakable_kafka.start()
        assert holder.wait(lambda: len(holder.assigned) == 12, 60)
