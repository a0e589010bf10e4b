from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st

from testops_lib.launch import shares
from testops_lib.model import Policy


@given(st.data())
def test_the_shares_of_any_number_of_runners_add_up_to_the_limits(data: st.DataObject) -> None:
    concurrency, rate = data.draw(st.integers(1, 64)), data.draw(st.floats(0.1, 1000))
    partitions = data.draw(st.integers(1, 24))
    owner = data.draw(st.lists(st.integers(0, 5), min_size=partitions, max_size=partitions))
    policy = Policy(concurrency=concurrency, requests_per_second=rate)
    divided = [
        shares.share_of(policy, partitions, {at for at, who in enumerate(owner) if who == runner})
        for runner in range(6)
    ]
    assert sum(share.concurrency for share in divided) == concurrency
    assert math.isclose(sum(share.requests_per_second for share in divided), rate)
    assert all((share.concurrency > 0) == (share.requests_per_second > 0) for share in divided)
    least = min(share.requests_per_second for share in divided if share.concurrency)
    assert shares.least_rate(policy, partitions) <= least * 2, "what a batch is given time for"


def test_who_is_alone_has_everything() -> None:
    policy = Policy(concurrency=8, requests_per_second=5)
    assert shares.share_of(policy, 3, {0, 1, 2}) == shares.Share(concurrency=8, requests_per_second=5)
    assert shares.share_of(policy, 12, set(range(12))) == shares.Share(concurrency=8, requests_per_second=5)


def test_who_has_no_partition_has_no_share() -> None:
    assert shares.share_of(Policy(requests_per_second=5), 12, set()) == shares.Share(
        concurrency=0, requests_per_second=0
    )


def test_without_a_rate_limit_no_share_has_one() -> None:
    assert shares.share_of(Policy(), 2, {1}).requests_per_second == shares.least_rate(Policy(), 12) == 0
