from __future__ import annotations

from testops_lib.launch.runner import deadline_s
from testops_lib.model import Batch


def test_a_rate_gives_a_batch_the_time_that_it_needs() -> None:
    batch = Batch(topic="c", partition=0, first=100, end=300)
    assert deadline_s(batch, 0) == 900
    assert deadline_s(batch, 1) == 1700
