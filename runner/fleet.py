"""A fleet's member: takes orders of batches from a consumer group, one at a time, until it is told to end.

The main thread keeps us in the group and commits; a thread of its own executes the order, by the same code as any
runner. An order is committed when its results and its outcome are acknowledged: whatever dies before, the next owner of
its partition gets it again, and leaves out the cases that were judged.
"""

from __future__ import annotations

import os
import signal
import socket
import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import UTC, datetime

from runner.metrics import Metrics, serve
from runner.work import STOP_S, Work, execute, told
from testops_lib.bus import batch as batches
from testops_lib.bus.client import Bus
from testops_lib.bus.orders import ReceivedOrder
from testops_lib.errors import BusError
from testops_lib.execute import Engine
from testops_lib.launch import fleet as shares
from testops_lib.launch.exit_codes import DONE, RETRY, TARGET_DOWN
from testops_lib.model import BatchOrder, Ended, Outcome, Result, Returned, Taken
from testops_lib.settings import Settings

POLL_S = 0.2

PATIENCE_S = STOP_S + 12
"""What an order in work has to end in when it is taken away: its requests, then its results' way to Kafka."""

KAFKA_TURN_S = 10
"""How long the main thread may ask Kafka for something, so that it goes on to be seen alive."""


class Hold:
    """The hand on the order in work, for the main thread: ends it."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self._lock = threading.Lock()
        self._engine: Engine | None = None
        self.given_back = False
        """It is to be executed by somebody else, or later."""

    def begin(self, engine: Engine) -> None:
        """The engine starts; not at all when the order has been taken away meanwhile."""
        with self._lock:
            self._engine = engine
            if self.given_back:
                engine.stop()

    def result(self, result: Result) -> None:
        """Counts it."""
        self._metrics.cases.labels(result.verdict).inc()

    def give_back(self) -> None:
        """Nothing new is sent; what is in flight ends, and its results are written."""
        with self._lock:
            if self._engine is not None and not self.given_back:  # a second stop would begin its grace anew
                self._engine.stop()
            self.given_back = True


class Member:
    """One member of the fleet."""

    def __init__(self, group: str, settings: Settings, metrics: Metrics) -> None:
        self.name = f"{socket.gethostname()}-{os.getpid()}"
        self._settings, self._metrics = settings, metrics
        self._bus = Bus(settings.need_kafka(), options=settings.kafka_options, timeout_s=KAFKA_TURN_S)
        self._orders = self._bus.orders.join(group, on_assigned=self._assigned, on_revoked=self._revoked)
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="order")
        self._current: ReceivedOrder | None = None
        self._hold: Hold | None = None
        self._working: Future[bool] | None = None
        self._owed: list[Outcome] = []
        """Outcomes that could not be delivered yet."""
        self._ending_since = 0.0

    def stop(self) -> None:
        """Takes nothing new, ends what is in flight, and leaves. Safe in a signal's handler."""
        self._ending_since = self._ending_since or time.monotonic()

    def run(self) -> None:
        """Executes orders until `stop`.

        Raises:
            BusError: librdkafka cannot go on.
        """
        try:
            with self._orders:
                while not (self._ending_since and self._working is None):
                    self._turn()
                    if self._ending_since and time.monotonic() - self._ending_since > PATIENCE_S:
                        print("the order in work did not end in time; it is executed again", flush=True)
                        break
        finally:
            self._pool.shutdown(wait=False, cancel_futures=True)

    def _turn(self) -> None:
        self._beat()
        found = self._orders.poll(POLL_S)
        self._metrics.ready = self._orders.is_member
        if found is not None and self._ending_since:
            self._orders.again()
        elif found is not None:
            self._begin(found)
        if self._ending_since and self._hold is not None:
            self._hold.give_back()
        if self._working is not None and self._working.done():
            self._finish()

    def _beat(self) -> None:
        self._metrics.beat = time.monotonic()

    def _begin(self, found: ReceivedOrder) -> None:
        self._current, self._hold = found, Hold(self._metrics)
        self._working = self._pool.submit(self._work, found.order, self._hold)
        self._metrics.in_work.set(1)

    def _finish(self) -> None:
        """The thread has ended: commits the order, or gives it back."""
        assert self._working is not None
        working, self._current, self._hold, self._working = self._working, None, None, None
        self._metrics.in_work.set(0)
        if working.result():
            self._orders.done()
        else:
            self._orders.again()

    def _assigned(self, assigned: frozenset[int]) -> None:
        self._metrics.assigned.set(len(assigned))

    def _revoked(self, revoked: frozenset[int], left: frozenset[int]) -> None:
        """Ends the order in work if it is taken away: its next owner must find all that was judged."""
        self._metrics.assigned.set(len(left))
        if self._current is None or self._hold is None or self._working is None:
            return
        if self._current.partition not in revoked:
            return
        self._hold.give_back()
        deadline = (self._ending_since or time.monotonic()) + PATIENCE_S
        while not self._working.done() and time.monotonic() < deadline:
            self._beat()
            time.sleep(0.02)
        if self._working.done():
            self._finish()

    # ------------------------------------------------------------------ in the order's thread

    def _work(self, order: BatchOrder, hold: Hold) -> bool:
        """Executes the order; False: it is to be given out again."""
        bus = Bus(
            self._settings.need_kafka(),
            options=self._settings.kafka_options,
            timeout_s=self._settings.kafka_timeout_s,
        )
        try:
            return self._execute(bus, order, hold)
        except Exception as error:  # the main thread must go on whatever happens to an order
            told(error)
            time.sleep(1)
            return False

    def _execute(self, bus: Bus, order: BatchOrder, hold: Hold) -> bool:
        if datetime.now(UTC) >= order.expires:
            return self._end(
                bus, order, "expired", RETRY, f"expired at {order.expires:%Y-%m-%d %H:%M:%SZ}: not executed"
            )
        before = bus.outcomes.read(batches.parse_positions(order.outcomes), order.run)
        if any(isinstance(one, Ended) and one.order == order.id for one in before):
            return True
        lost = shares.lost_takes(order, before)
        if lost >= shares.MOST_TAKES:
            text = f"given up: {lost} runners began with it and did not live to say how it ended (out of memory?)"
            return self._end(bus, order, "given_up", RETRY, text)
        self._tell(bus, Taken(order=order.id, run=order.run, member=self.name))
        self._owed.append(Returned(order=order.id, run=order.run, member=self.name))  # unless it ends
        print(f"run {order.run}: taken {order.batch} (try {order.try_number})", flush=True)
        # Nothing is sent for an order before it is known to be taken, so who takes it first has nothing to look for.
        first = order.try_number == 1 and not any(one.order == order.id for one in before)
        work = Work(
            run=order.run,
            plan=batches.parse(order.plan),
            batch=batches.parse(order.batch),
            attempt=order.attempt,
            again={} if first else batches.parse_positions(order.results),
            down_since=order.down_since,
        )
        try:
            done = execute(work, self._settings, hold)
        except Exception as error:
            done = told(error)
        self._metrics.requests.inc(done.requests)
        if hold.given_back:
            self._metrics.orders.labels("returned").inc()
            self._tell(bus)
            return False
        kind = {DONE: "done", RETRY: "retry", TARGET_DOWN: "away"}.get(done.code, "configuration")
        return self._end(bus, order, kind, done.code, done.text)

    def _end(self, bus: Bus, order: BatchOrder, kind: str, code: int, text: str) -> bool:
        self._owed = [one for one in self._owed if one.order != order.id]
        try:
            self._tell(bus, Ended(order=order.id, run=order.run, member=self.name, code=code, text=text))
        except BusError:
            self._owed.append(Returned(order=order.id, run=order.run, member=self.name))
            raise
        self._metrics.orders.labels(kind).inc()
        print(f"run {order.run}: {kind} {order.batch}", flush=True)
        return True

    def _tell(self, bus: Bus, *outcomes: Outcome) -> None:
        """Delivers what is owed, then these.

        Raises:
            BusError: they could not be delivered; only what was owed before still is.
        """
        bus.outcomes.publish(*self._owed, *outcomes)
        self._owed.clear()


def stand(group: str, settings: Settings, *, port: int, bind: str = "127.0.0.1") -> int:
    """Stands as a member of the group until SIGTERM; gives the exit code.

    Raises:
        SettingsError: Kafka is not named, or the port cannot be had.
        BusError: librdkafka cannot go on.
    """
    metrics = Metrics()
    with serve(metrics, bind, port) as address:
        member = Member(group, settings, metrics)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: member.stop())
        print(f"{member.name} stands in the group {group}; http://{address}/live /ready /metrics", flush=True)
        member.run()
    print("left the group", flush=True)
    return 0
