"""A fleet runner: gets orders of batches from a consumer group, one at a time, until a signal ends it.

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
from concurrent.futures import Future, ThreadPoolExecutor, wait
from datetime import UTC, datetime

from runner.cases import Work
from runner.metrics import Metrics, serve
from runner.work import BatchEnd, execute, failure
from testops_lib.bus import batch as batches
from testops_lib.bus.client import Bus
from testops_lib.bus.orders import ReceivedOrder
from testops_lib.errors import BusError
from testops_lib.execute import Engine
from testops_lib.launch import fleet
from testops_lib.launch.exit_codes import CONFIGURATION, DONE, RETRY, TARGET_DOWN
from testops_lib.launch.runner import STOP_S
from testops_lib.model import BatchOrder, Ended, Outcome, Result, Returned, Taken
from testops_lib.settings import Settings

POLL_S = 0.2
"""How long the main thread waits for an order, or for the end of the one in work."""

PATIENCE_S = STOP_S + 12
"""What an order in work has to end in when it is taken away: its requests, then its results' way to Kafka."""

KAFKA_TURN_S = 10
"""How long the main thread may ask Kafka for something, so that it goes on to be seen alive."""

_PAUSE_S = 1.0
"""After an order that failed, which is given out again at once."""

_BEAT_S = 1.0
"""While the main thread waits for an order to end, it shows this often that it is alive."""

_METRIC_BY_CODE = {DONE: "done", RETRY: "retry", CONFIGURATION: "configuration", TARGET_DOWN: "away"}


class OrderSupervisor:
    """Ends the order in work when the main thread gives it back."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self._lock = threading.Lock()
        self._engine: Engine | None = None
        self._given_back = threading.Event()

    @property
    def given_back(self) -> bool:
        """Another runner executes the order, or this one does later."""
        return self._given_back.is_set()

    def begin(self, engine: Engine) -> None:
        """The engine starts; not at all when the order was given back meanwhile."""
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
            self._given_back.set()

    def pause(self, seconds: float) -> None:
        """Waits, at most until the order is given back."""
        self._given_back.wait(seconds)


class FleetRunner:
    """One runner of the fleet."""

    def __init__(self, group: str, settings: Settings, metrics: Metrics) -> None:
        self.name = f"{socket.gethostname()}-{os.getpid()}"
        self._settings, self._metrics = settings, metrics
        self._bus = Bus(settings.need_kafka(), options=settings.kafka_options, timeout_s=KAFKA_TURN_S)
        self._orders = self._bus.orders.join(group, on_assigned=self._assigned, on_revoked=self._revoked)
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="order")
        self._current: ReceivedOrder | None = None
        self._supervisor: OrderSupervisor | None = None
        self._working: Future[bool] | None = None
        self._owed: list[Outcome] = []
        """Outcomes that could not be delivered yet."""
        self._ending_since = 0.0

    def stop(self) -> None:
        """Begins nothing new, ends what is in flight, and leaves. Safe in a signal's handler."""
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
        if self._working is not None:
            wait([self._working], timeout=POLL_S)  # the next order begins as soon as this one has ended
        received = self._orders.poll(POLL_S if self._working is None else 0)
        self._metrics.ready = self._orders.is_member
        if received is not None and self._ending_since:
            self._orders.again()
        elif received is not None:
            self._begin(received)
        if self._ending_since and self._supervisor is not None:
            self._supervisor.give_back()
        if self._working is not None and self._working.done():
            self._finish()

    def _beat(self) -> None:
        self._metrics.beat = time.monotonic()

    def _begin(self, received: ReceivedOrder) -> None:
        self._current, self._supervisor = received, OrderSupervisor(self._metrics)
        self._working = self._pool.submit(self._work, received.order, self._supervisor)
        self._metrics.in_work.set(1)

    def _finish(self) -> None:
        """The thread has ended: commits the order, or gives it back."""
        assert self._working is not None
        working, self._current, self._supervisor, self._working = self._working, None, None, None
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
        if self._current is None or self._supervisor is None or self._working is None:
            return
        if self._current.partition not in revoked:
            return
        self._supervisor.give_back()
        deadline = (self._ending_since or time.monotonic()) + PATIENCE_S
        while not self._working.done() and (left_s := deadline - time.monotonic()) > 0:
            self._beat()
            wait([self._working], timeout=min(_BEAT_S, left_s))
        if self._working.done():
            self._finish()

    # ------------------------------------------------------------------ in the order's thread

    def _work(self, order: BatchOrder, supervisor: OrderSupervisor) -> bool:
        """Executes the order; False: it is to be given out again."""
        bus = Bus(
            self._settings.need_kafka(),
            options=self._settings.kafka_options,
            timeout_s=self._settings.kafka_timeout_s,
        )
        try:
            return self._execute(bus, order, supervisor)
        except Exception as error:  # the main thread must go on whatever happens to an order
            failure(error)
            supervisor.pause(_PAUSE_S)
            return False

    def _execute(self, bus: Bus, order: BatchOrder, supervisor: OrderSupervisor) -> bool:
        if datetime.now(UTC) >= order.expires:
            text = f"expired at {order.expires:%Y-%m-%d %H:%M:%SZ}: not executed"
            return self._end(bus, order, "expired", BatchEnd(code=RETRY, text=text))
        before = bus.outcomes.read(batches.parse_positions(order.outcomes), order.run)
        if any(isinstance(outcome, Ended) and outcome.order == order.id for outcome in before):
            return True
        crashes = fleet.crashes(order, before)
        if crashes >= fleet.MAX_CRASHES:
            text = f"given up: {crashes} runners began with it and did not live to say how it ended (out of memory?)"
            return self._end(bus, order, "given_up", BatchEnd(code=RETRY, text=text))
        self._publish(bus, Taken(order=order.id, run=order.run, member=self.name))
        self._owed.append(Returned(order=order.id, run=order.run, member=self.name))  # unless it ends
        print(f"run {order.run}: taken {order.batch} (try {order.try_number})", flush=True)
        # Nothing is sent for an order before `Taken` is acknowledged: without one there are no earlier results.
        is_first = order.try_number == 1 and not any(outcome.order == order.id for outcome in before)
        work = Work(
            run=order.run,
            plan=batches.parse(order.plan),
            batch=batches.parse(order.batch),
            attempt=order.attempt,
            again={} if is_first else batches.parse_positions(order.results),
            down_since=order.down_since,
        )
        try:
            end = execute(work, self._settings, supervisor)
        except Exception as error:
            end = failure(error)
        self._metrics.requests.inc(end.requests)
        if supervisor.given_back:
            self._metrics.orders.labels("returned").inc()
            self._publish(bus)
            return False
        return self._end(bus, order, _METRIC_BY_CODE[end.code], end)

    def _end(self, bus: Bus, order: BatchOrder, metric: str, end: BatchEnd) -> bool:
        self._owed = [outcome for outcome in self._owed if outcome.order != order.id]
        try:
            ended = Ended(order=order.id, run=order.run, member=self.name, code=end.code, text=end.text)
            self._publish(bus, ended)
        except BusError:
            self._owed.append(Returned(order=order.id, run=order.run, member=self.name))
            raise
        self._metrics.orders.labels(metric).inc()
        print(f"run {order.run}: {metric} {order.batch}", flush=True)
        return True

    def _publish(self, bus: Bus, *outcomes: Outcome) -> None:
        """Delivers the outcomes owed from before, then these.

        Raises:
            BusError: they could not be delivered; only what was owed before still is.
        """
        bus.outcomes.publish(*self._owed, *outcomes)
        self._owed.clear()


def run_in_fleet(group: str, settings: Settings, *, port: int, bind: str = "127.0.0.1") -> int:
    """Executes orders as a runner of the group until SIGTERM; gives the exit code.

    Raises:
        SettingsError: Kafka is not named, or the port cannot be had.
        BusError: librdkafka cannot go on.
    """
    metrics = Metrics()
    with serve(metrics, bind, port) as address:
        runner = FleetRunner(group, settings, metrics)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: runner.stop())
        print(f"{runner.name} runs in the group {group}; http://{address}/live /ready /metrics", flush=True)
        runner.run()
    print("left the group", flush=True)
    return 0
