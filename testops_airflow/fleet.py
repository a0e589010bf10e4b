"""Batches handed to the fleet: one deferred task orders them and waits until each has its outcome."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseOperator
from airflow.sdk.exceptions import AirflowException, AirflowSkipException
from airflow.triggers.base import BaseTrigger, TriggerEvent

from testops_airflow.outcome import fail
from testops_airflow.settings import read_settings

if TYPE_CHECKING:
    from testops_lib.bus.outcomes import OutcomesFollower
    from testops_lib.model import Outcome
    from testops_lib.settings import Settings

POLL_S = 1.0
"""How long the trigger waits for an outcome before it looks whether the orders have expired."""

LOOK_S = 30.0
"""How often the trigger looks whether Kafka still has the orders."""

AWAY_S = 5.0
"""Before the trigger asks Kafka again when it was away."""


class FleetOperator(BaseOperator):
    """Orders each batch from the fleet and defers until all have ended; skipped when there is none.

    `alone`: one batch after the other. A retry orders only the batches that still hold a case without a verdict.
    """

    template_fields = ("run", "plan", "batches", "results", "attempt")
    ui_color = "#d5e8d4"

    def __init__(
        self,
        *,
        run: str,
        plan: str,
        batches: Sequence[str],
        results: str,
        attempt: int = 1,
        alone: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.run, self.plan, self.batches = run, plan, batches
        self.results, self.attempt, self.alone = results, attempt, alone

    def execute(self, context: Any) -> None:
        """Writes the orders and defers."""
        self._order(context, 0)

    def resume(self, context: Any, event: Any = None, *, since: float) -> None:
        """Orders what is missing, after a pause for a target that was down."""
        self._order(context, since)

    def _order(self, context: Any, down_since: float) -> None:
        from testops_lib.run.orders import hand_out

        if not self.batches:
            raise AirflowSkipException("there is no batch to execute")
        handed = hand_out(
            self.run,
            read_settings(),
            plan=self.plan,
            wanted=list(self.batches),
            results=self.results,
            attempt=int(self.attempt),
            try_number=context["ti"].try_number + bool(down_since),
            down_since=down_since,
            alone=self.alone,
        )
        if not handed.orders:
            self.log.info("every case has its verdict already")
            return
        self.log.info("%d of %d batches handed to the fleet", len(handed.orders), len(self.batches))
        left = handed.expires - datetime.now(UTC)
        self.defer(
            trigger=FleetTrigger(
                run=self.run,
                orders=handed.orders,
                outcomes=handed.outcomes,
                topic=handed.topic,
                expires=handed.expires.isoformat(),
                down_since=down_since,
            ),
            method_name="finish",
            timeout=left + timedelta(minutes=5),
        )

    def finish(self, context: Any, event: dict[str, Any]) -> None:
        """Decides by the outcomes: done, to be tried again, or not worth it."""
        import msgspec

        from testops_lib.launch import exit_codes, fleet

        down_since = event.pop("down_since", 0)
        progress = msgspec.convert(event, fleet.OrderProgress)
        for batch, (_, text) in progress.ended.items():
            self.log.info("%s: %s", batch, text)
        code, why = fleet.ending(progress)
        if code == exit_codes.TARGET_DOWN:
            from testops_airflow.target_down import defer

            defer(self, down_since)
        if code == exit_codes.CONFIGURATION:
            fail(context, f"{self.task_id}: {why}")
        if code:
            raise AirflowException(f"{why}; it is retried")


class FleetTrigger(BaseTrigger):
    """Waits until each order has its outcome; the event says how far the orders are.

    Ends early when the orders have expired, or Kafka has lost them: its topic of outcomes (`topic`) is another one.
    Follows the outcomes from where they begin, so a triggerer that takes it over knows what the one before knew. Kafka
    is asked in a thread of its own: the triggerer's loop and its other triggers go on meanwhile.
    """

    def __init__(
        self,
        *,
        run: str,
        orders: dict[str, str],
        outcomes: str,
        expires: str,
        topic: str = "",
        down_since: float = 0,
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.topic, self.down_since = topic, down_since
        self.run_id_of_orders, self.orders, self.outcomes, self.expires = run, orders, outcomes, expires
        self._follower: OutcomesFollower | None = None

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """What Airflow keeps of the trigger in its database, in the clear: no secret is among it."""
        kept: dict[str, Any] = {"orders": self.orders, "outcomes": self.outcomes, "expires": self.expires}
        kept |= {"topic": self.topic, "down_since": self.down_since}
        return f"{__name__}.FleetTrigger", {"run": self.run_id_of_orders, **kept}

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """One event."""
        import msgspec

        from testops_lib.errors import BusError
        from testops_lib.launch import fleet

        tracker, expires = fleet.OrderTracker(self.orders), datetime.fromisoformat(self.expires)
        loop, logged, settings = asyncio.get_running_loop(), "", await _settings()
        look_at = loop.time()
        pool = ThreadPoolExecutor(1, thread_name_prefix="outcomes")
        try:
            while not tracker.complete and datetime.now(UTC) < expires:
                try:
                    if loop.time() >= look_at:
                        if await loop.run_in_executor(pool, self._are_lost, settings):
                            self.log.warning("Kafka has lost the orders: its topics were made anew")
                            break
                        look_at = loop.time() + LOOK_S
                    outcomes = await loop.run_in_executor(pool, self._poll, settings)
                except BusError as error:
                    self.log.warning("%s", error)
                    await asyncio.sleep(AWAY_S)
                    continue
                for outcome in outcomes:
                    tracker.add(outcome)
                progress = tracker.progress()
                ended, begun, waiting = map(len, (progress.ended, progress.begun, progress.waiting))
                summary = f"{ended} batches ended, {begun} in work, {waiting} waiting"
                if summary != logged:
                    self.log.info("%s", summary)
                    logged = summary
        finally:
            pool.submit(self._close)
            pool.shutdown(wait=False)
        yield TriggerEvent({**msgspec.to_builtins(tracker.progress()), "down_since": self.down_since})

    async def on_kill(self) -> None:
        """The task was marked or cleared by a person: what no runner has begun is not executed any more."""
        from testops_lib.run.orders import withdraw

        await asyncio.to_thread(withdraw, self.run_id_of_orders, self.orders, await _settings())

    def _are_lost(self, settings: Settings) -> bool:
        from testops_lib.run.connect import open_bus

        return open_bus(settings).outcomes.topic_id() not in (self.topic, "") if self.topic else False

    def _poll(self, settings: Settings) -> list[Outcome]:
        from testops_lib.bus import batch
        from testops_lib.run.connect import open_bus

        if self._follower is None:
            start = batch.parse_positions(self.outcomes)
            self._follower = open_bus(settings).outcomes.follow(start, self.run_id_of_orders)
        return self._follower.poll(POLL_S)

    def _close(self) -> None:
        if self._follower is not None:
            self._follower.close()


async def _settings() -> Settings:
    """The settings of the triggerer, which answers a thread of asgiref's when that asks for a connection."""
    from asgiref.sync import sync_to_async

    return await sync_to_async(read_settings)()
