from __future__ import annotations

import math
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from testops_lib.launch import fleet
from testops_lib.model import BatchOrder, Ended, Outcome, Policy, Returned, Taken

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
    assert all(0 <= one < partitions for one in used)
    assert used == fleet.spread(run, batches, partitions=partitions, concurrency=concurrency)


@given(st.data())
def test_the_parts_of_any_number_of_runners_add_up_to_the_limits(data: st.DataObject) -> None:
    concurrency, rate = data.draw(st.integers(1, 64)), data.draw(st.floats(0.1, 1000))
    partitions = data.draw(st.integers(1, 24))
    owner = data.draw(st.lists(st.integers(0, 5), min_size=partitions, max_size=partitions))
    policy = Policy(concurrency=concurrency, requests_per_second=rate)
    parts = [
        fleet.share(policy, partitions, {at for at, who in enumerate(owner) if who == member}) for member in range(6)
    ]
    assert sum(share.concurrency for share in parts) == concurrency
    assert math.isclose(sum(share.requests_per_second for share in parts), rate)
    assert all((share.concurrency > 0) == (share.requests_per_second > 0) for share in parts)
    least = min(share.requests_per_second for share in parts if share.concurrency)
    assert fleet.least_rate(policy, partitions) <= least * 2, "what a batch is given time for"


def test_who_is_alone_has_everything() -> None:
    policy = Policy(concurrency=8, requests_per_second=5)
    assert fleet.share(policy, 3, {0, 1, 2}) == fleet.Share(concurrency=8, requests_per_second=5)
    assert fleet.share(policy, 12, set(range(12))) == fleet.Share(concurrency=8, requests_per_second=5)


def test_who_has_no_partition_has_no_part() -> None:
    assert fleet.share(Policy(requests_per_second=5), 12, set()) == fleet.Share(concurrency=0, requests_per_second=0)


def test_without_a_rate_limit_no_part_has_one() -> None:
    assert fleet.share(Policy(), 2, {1}).requests_per_second == fleet.least_rate(Policy(), 12) == 0


@pytest.mark.parametrize(
    ("outcomes", "lost"),
    [
        ([], 0),
        ([taken()], 1),
        ([taken(), returned()], 0),
        ([taken(), taken(), returned(), taken("2")], 1),
        ([taken()] * 4, 4),
    ],
)
def test_an_order_given_back_is_no_sign_of_death(outcomes: list[Outcome], lost: int) -> None:
    assert fleet.lost_takes(ORDER, outcomes) == lost


def test_orders_are_followed_by_their_outcomes_whatever_is_repeated_or_foreign() -> None:
    standing = fleet.Standing({"1": "c:0:0-9", "2": "c:0:9-12", "3": "c:1:0-4"})
    for outcome in (taken(), taken("x"), ended("x"), taken("2"), ended(code=1, text="first"), ended(), returned("2")):
        standing.add(outcome)
    told = standing.told()
    assert told.ended == {"c:0:0-9": (1, "first")}
    assert told.waiting == ("c:0:9-12", "c:1:0-4") and told.begun == ()
    assert not standing.complete
    for outcome in (taken("3"), ended("2"), ended("3")):
        standing.add(outcome)
    assert standing.complete and standing.told().waiting == ()
    assert fleet.ending(standing.told())[0] == 1


def test_all_done_is_the_only_success() -> None:
    assert fleet.ending(fleet.Told(ended={"c:0:0-9": (0, "9 passed")})) == (0, "")
    code, why = fleet.ending(fleet.Told(ended={"c:0:0-9": (0, "")}, begun=("c:0:9-12",), waiting=("c:1:0-4",)))
    assert code == 1
    assert "1 batch never taken: is the fleet up" in why and "1 batch taken but not ended" in why
    assert fleet.ending(fleet.Told(ended={"c:0:0-9": (2, "no token"), "c:0:9-12": (1, "")}))[0] == 2
