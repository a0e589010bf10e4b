"""Many cases at a time: when each starts, what is kept of the budget for later, and how results come out."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterable, Iterable, Iterator, Sequence
from typing import Protocol

from testops_lib.execute.attempt import BUDGET_SPENT, STOPPED
from testops_lib.execute.case_runner import CaseRunner, request_count
from testops_lib.execute.concurrency import Concurrency
from testops_lib.execute.limits import RunLimits
from testops_lib.execute.results import ResultBuilder
from testops_lib.execute.shutdown import Shutdown
from testops_lib.execute.source import Source
from testops_lib.model import Case, Result

Cases = Iterable[Case] | AsyncIterable[Case] | AsyncIterable[list[Case]]

_RESULTS_AHEAD = 256
"""Results that may wait for whoever takes them before no further case is started."""


class Repeating(Protocol):
    """Chooses what is repeated alone, from the results as they come."""

    def add(self, result: Result) -> int:
        """Takes a result into account; gives how many requests to set aside for its repetition."""

    def next(self) -> Sequence[Case]:
        """What to repeat now; asked again after each of them has its result, until there is nothing."""


class Width:
    """How many workers may take cases now: at most what the policy or a share of it gives, and the target bears."""

    def __init__(self, most: int, concurrency: Concurrency) -> None:
        self._most, self._concurrency = max(1, most), concurrency
        self.begin_run()

    def begin_run(self) -> None:
        """Forgets who waited in an earlier run: events belong to the loop that waits for them."""
        self._changed = asyncio.Event()

    def limit(self, most: int) -> None:
        """Another most from now on; 0: no case starts."""
        self._most = max(0, most)
        self._concurrency.limit(most)

    def admits(self, worker: int) -> bool:
        """Whether the worker of this number, from 0, may take a case now."""
        return worker < self._most and worker < self._concurrency.now

    def wake(self) -> None:
        """Those who wait look again."""
        self._changed.set()
        self._changed = asyncio.Event()

    async def admitted(self, worker: int, source: Source) -> bool:
        """True, when the worker may take a case, or there is nothing left to take."""
        while not self.admits(worker) and not source.ended():
            await self._changed.wait()
        return True


class Schedule:
    """One run's order of cases: concurrent ones, then repetitions alone, then those that come last.

    Of a request budget up to a fifth is kept for cases that come last, as soon as they are known.
    """

    def __init__(
        self,
        cases: Cases,
        *,
        workers: int,
        runner: CaseRunner,
        results: ResultBuilder,
        limits: RunLimits,
        shutdown: Shutdown,
        width: Width,
        repeating: Repeating | None,
    ) -> None:
        self._source = Source(cases, shutdown)
        self._workers, self._repeating = max(1, workers), repeating
        self._runner, self._results = runner, results
        self._limits, self._shutdown, self._width = limits, shutdown, width
        self._last: list[Case] = []
        self._repetitions: list[Case] = []
        self._streamed = not isinstance(cases, Sequence)
        """The cases that come last are not known before they come."""
        self._held = self._hold(cases) if isinstance(cases, Sequence) else 0
        """Requests kept for cases that come last."""
        self._set_aside = 0
        """Requests kept for repetitions."""
        self._done: deque[Result] = deque()
        self._delivered, self._taken = asyncio.Event(), asyncio.Event()
        self._execution: asyncio.Task[None]

    def start(self) -> None:
        """Begins to execute the cases."""
        self._execution = asyncio.create_task(self._execute_all())
        self._execution.add_done_callback(lambda _: self._delivered.set())

    async def delivered(self) -> bool:
        """Waits until `take` has a result to give; False: every case has had its result.

        Raises:
            TargetError: the target cannot be tested.
        """
        if not self._done and not self._execution.done():
            self._delivered.clear()
            await self._delivered.wait()
        if self._done:
            return True
        self._execution.result()
        return False

    def take(self) -> Iterator[Result]:
        """The results that are there."""
        while self._done:
            self._taken.set()
            yield self._done.popleft()

    async def close(self) -> None:
        """Breaks off what still runs."""
        self._execution.cancel()
        await asyncio.gather(self._execution, return_exceptions=True)
        await self._source.close()

    async def _execute_all(self) -> None:
        workers = [asyncio.create_task(self._work(number)) for number in range(self._workers)]
        try:
            await asyncio.gather(*workers)
        finally:
            for worker in workers:
                worker.cancel()
            await asyncio.gather(*workers, return_exceptions=True)
        self._limits.release_time()
        self._limits.budget.release(self._set_aside)
        await self._execute_alone(self._repetitions)
        while self._repeating is not None and not self._shutdown.stopped and (chosen := self._repeating.next()):
            await self._execute_alone(chosen)
        self._limits.budget.release(self._held)
        await self._execute_alone(self._affordable())

    async def _work(self, number: int) -> None:
        """Takes cases until there are no more; what must run alone or last waits."""
        while (self._width.admits(number) or await self._width.admitted(number, self._source)) and (
            case := await self._source.take()
        ) is not None:
            if case.repeat or case.last:
                (self._repetitions if case.repeat else self._last).append(case)
                if self._streamed:
                    self._held += self._hold(self._last, self._held)
                continue
            self._deliver(await self._runner.execute(case))
            while len(self._done) >= _RESULTS_AHEAD:
                self._taken.clear()
                await self._taken.wait()
        self._width.wake()

    async def _execute_alone(self, cases: Iterable[Case]) -> None:
        for case in cases:
            if self._shutdown.stopped:
                self._deliver(self._results.not_run(case, "errored", STOPPED))
            else:
                self._deliver(await self._runner.execute(case))

    def _deliver(self, result: Result) -> None:
        if self._repeating is not None:
            self._set_aside += self._limits.budget.keep(self._repeating.add(result))
        self._done.append(result)
        self._delivered.set()

    def _hold(self, cases: Sequence[Case], held: int = 0) -> int:
        """Sets requests aside for the first case of every operation that comes last, a fifth of the budget at most.

        Only for what is sent as documented: a fiftieth of the budget is enough for probes and comparisons, as their
        operations have other cases too. `held`: as many were set aside before.
        """
        documented, others = _by_need([case for case in cases if case.last])
        return self._limits.budget.hold(_cost(documented), _cost(others), held)

    def _affordable(self) -> list[Case]:
        """Of those that come last the ones that the budget is enough for, in their order; the others are skipped.

        The first of every operation have precedence.
        """
        budget, last = self._limits.budget, self._last
        if budget.affords(_cost(last)):
            return last
        documented, others = _by_need(last)
        chosen: set[str] = set()
        cost = 0
        for case in (*documented, *others, *last):
            if case.id not in chosen and budget.affords(cost + request_count(case)):
                chosen.add(case.id)
                cost += request_count(case)
        for case in last:
            if case.id not in chosen:
                self._deliver(self._results.not_run(case, "skipped", BUDGET_SPENT))
        return [case for case in last if case.id in chosen]


def _cost(cases: Iterable[Case]) -> int:
    """The requests that the cases plan."""
    return sum(map(request_count, cases))


def _by_need(last: Sequence[Case]) -> tuple[list[Case], list[Case]]:
    """Of cases that come last the first of every operation: those that send it as documented, and then others."""
    documented = _first_of_each(case for case in last if case.intent == "positive")
    return documented, _first_of_each(case for case in last if case.intent != "positive")


def _first_of_each(cases: Iterable[Case]) -> list[Case]:
    """The first case of every operation, in order."""
    first: dict[str, Case] = {}
    for case in cases:
        first.setdefault(case.operation, case)
    return list(first.values())
