from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from testops_lib.launch import fleet
from testops_lib.model import BatchOrder, Ended, Outcome, Returned, Taken

ORDER = BatchOrder(
    id="1", run="r", plan="p:0:0-1", batch="c:0:0-9", partitions=(0,), expires=datetime(2026, 1, 1, tzinfo=UTC)
)


def taken(order: str = "1") -> Taken:
    return Taken(order=order, run="r", member="m")


def returned(order: str = "1") -> Returned:
    return Returned(order=order, run="r", member="m")


def ended(order: str = "1", code: int = 0, text: str = "") -> Ended:
    return Ended(order=order, run="r", member="m", code=code, text=text)


@given(st.text(max_size=40), st.integers(0, 200), st.integers(1, 64), st.integers(0, 64))
def test_a_run_lies_in_as_many_partitions_as_it_can_use(
    run: str, batches: int, partitions: int, concurrency: int
) -> None:
    used = fleet.spread(run, batches, partitions=partitions, concurrency=concurrency)
    assert len(set(used)) == len(used) == min(batches, partitions, max(1, concurrency))
    assert all(0 <= partition < partitions for partition in used)
    assert used == fleet.spread(run, batches, partitions=partitions, concurrency=concurrency)


@pytest.mark.parametrize(
    ("outcomes", "crashes"),
    [
        ([], 0),
        ([taken()], 1),
        ([taken(), returned()], 0),
        ([taken(), taken(), returned(), taken("2")], 1),
        ([taken()] * 4, 4),
    ],
)
def test_an_order_given_back_is_no_sign_of_death(outcomes: list[Outcome], crashes: int) -> None:
    assert fleet.crashes(ORDER, outcomes) == crashes


def test_orders_are_followed_by_their_outcomes_whatever_is_repeated_or_foreign() -> None:
    tracker = fleet.OrderTracker({"1": "c:0:0-9", "2": "c:0:9-12", "3": "c:1:0-4"})
    for outcome in (taken(), taken("x"), ended("x"), taken("2"), ended(code=1, text="first"), ended(), returned("2")):
        tracker.add(outcome)
    progress = tracker.progress()
    assert progress.ended == {"c:0:0-9": (1, "first")}
    assert progress.waiting == ("c:0:9-12", "c:1:0-4") and progress.begun == ()
    assert not tracker.complete
    for outcome in (taken("3"), ended("2"), ended("3")):
        tracker.add(outcome)
    assert tracker.complete and tracker.progress().waiting == ()
    assert fleet.ending(tracker.progress())[0] == 1


def test_all_done_is_the_only_success() -> None:
    assert fleet.ending(fleet.OrderProgress(ended={"c:0:0-9": (0, "9 passed")})) == (0, "")
    code, why = fleet.ending(fleet.OrderProgress(ended={"c:0:0-9": (0, "")}, begun=("c:0:9-12",), waiting=("c:1:0-4",)))
    assert code == 1
    assert "1 batch never taken: is the fleet up" in why and "1 batch taken but not ended" in why
    assert fleet.ending(fleet.OrderProgress(ended={"c:0:0-9": (2, "no token"), "c:0:9-12": (1, "")}))[0] == 2
