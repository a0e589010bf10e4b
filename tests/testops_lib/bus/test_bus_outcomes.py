from __future__ import annotations

import pytest

from testops_lib.bus.client import Bus
from testops_lib.model import (
    Ended,
    Returned,
    Taken,
)
from tests.testops_lib.bus.records import raw

pytestmark = pytest.mark.integration


def test_outcomes_of_a_run_are_read_as_they_were_told(bus: Bus) -> None:
    ours = [
        Taken(order="1", run="r", member="m"),
        Returned(order="1", run="r", member="m"),
        Taken(order="1", run="r", member="n"),
        Ended(order="1", run="r", member="n", code=1, text="a lone surrogate \ud800, and much " + "x" * 5000),
    ]
    bus.outcomes.publish(Taken(order="0", run="r", member="before"))
    start = bus.outcomes.position()
    bus.outcomes.publish(*ours[:2], Taken(order="9", run="another", member="m"), *ours[2:])
    read = bus.outcomes.read(start, "r")
    assert read[:3] == ours[:3]
    [last] = read[3:]
    assert isinstance(last, Ended) and last.text.startswith("a lone surrogate ?, and") and len(last.text) == 2000
    with bus.outcomes.follow(start, "r") as follower:
        followed = follower.poll(5)
        assert followed == read[: len(followed)] != []
    assert len(bus.outcomes.read({}, "r")) == 5
    assert bus.outcomes.read({0: 1_000_000}, "r") == []


@pytest.mark.timeout(120)
def test_who_follows_outcomes_hears_of_them_when_they_come(bus: Bus) -> None:
    with bus.outcomes.follow({}, "r") as follower:
        assert follower.poll(0.5) == []
        for order in ("1", "2"):
            bus.outcomes.publish(Taken(order=order, run="r", member="m"))
            assert follower.poll(3600) == [Taken(order=order, run="r", member="m")], "not an hour later"


@pytest.mark.parametrize(
    "data",
    [None, b"", b"{", b"[]", b'{"kind":"taken"}', b'{"kind":"ended","order":"1","run":"r","member":"m","code":"x"}'],
)
def test_what_is_no_outcome_is_left_out(bus: Bus, data: bytes | None) -> None:
    raw(bus, bus.topics.outcomes, data, run="r")
    bus.outcomes.publish(Taken(order="1", run="r", member="m"))
    assert bus.outcomes.read({}, "r") == [Taken(order="1", run="r", member="m")]
    with bus.outcomes.follow({}, "r") as follower:
        assert follower.poll(5) == [Taken(order="1", run="r", member="m")]
