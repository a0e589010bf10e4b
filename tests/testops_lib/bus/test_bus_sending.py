from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace

import pytest

from testops_lib.bus.client import Bus
from testops_lib.bus.sending import Sender
from testops_lib.errors import BusError

pytestmark = pytest.mark.integration


class Forgetful:
    """A producer whose broker has a record already and does not say where, the first `times` times."""

    def __init__(self, times: int) -> None:
        self.times, self.produced = times, 0
        self.reports: list[Callable[[], None]] = []

    def produce(self, topic: str, data: bytes, *, on_delivery: Callable[..., None], **_: object) -> None:
        self.produced += 1
        offset = None if self.produced <= self.times else self.produced
        self.reports.append(lambda: on_delivery(None, SimpleNamespace(offset=lambda: offset, partition=lambda: 0)))

    def poll(self, _: float) -> None:
        pass

    def flush(self, _: float) -> int:
        reports, self.reports = self.reports, []
        for report in reports:
            report()
        return 0


def test_a_record_that_the_broker_does_not_place_is_sent_again(bus: Bus) -> None:
    placed: list[int | None] = []
    with Sender(bus.connection, Forgetful(2), 5) as sender:  # type: ignore[arg-type]
        for _ in range(3):
            sender.send("t", b"x", key=None, delivered=lambda message: placed.append(message.offset()))
    assert sorted(map(str, placed)) == ["3", "4", "5"], "each has a place of its own"
    with pytest.raises(BusError, match="do not say where"), Sender(bus.connection, Forgetful(99), 5) as sender:  # type: ignore[arg-type]
        sender.send("t", b"x", key=None, delivered=lambda message: placed.append(message.offset()))
