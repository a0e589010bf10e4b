"""The cases of a local run as they are made: first those of the plan, then those of further rounds.

A thread makes cases while earlier ones are executed, so that the first request does not wait for the last case.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Final

from testops_lib import settings as configuration
from testops_lib.cli.output import say
from testops_lib.execute import Engine
from testops_lib.generate import Generated
from testops_lib.generate.sources import GenerationRequest, OnCases, make_all
from testops_lib.model import Case, Generation, Result
from testops_lib.run.rounds import NoRound, Progress, Round, after, learned, next_round, remaining, request_for
from testops_lib.run.scope import arrange, in_scope
from testops_lib.spec.operation import Spec
from testops_lib.target import Target
from testops_lib.verdict.repetition import split

_GATHER_S: Final = 2.0
"""Cases that are all made within this time are ordered as a whole before the first is executed."""
_REQUESTS_PER_CASE: Final = 4
"""An early case makes at most so many, as a rule."""
_RESERVE_S: Final = 60.0
"""For how long half of the requests is reserved for cases that are still being made."""
_CHUNK: Final = 50
"""Cases that are handed over at once while more are made."""
_SAY_EVERY_S: Final = 5.0
_POLL_S: Final = 0.02


def plan_request(document: Spec, target: Target, *, max_requests: int = 0) -> GenerationRequest:
    """Asks for cases of everything in scope, within the target's spending limits."""
    return GenerationRequest(
        spec=document,
        operations=in_scope(document, target),
        target=target,
        settings=configuration.read(),
        limits=remaining(target, ()),
        max_requests=max_requests,
    )


class CaseStream:
    """Gives an engine its cases, for one run.

    After the cases of the plan come those of further rounds, by the rules of `run.rounds`. Where requests or time are
    limited, rounds go on beyond those that the target wants until the limit is reached or nothing new comes.

    Args:
        max_requests: of the whole run; 0: no limit.
        max_time_s: of the whole run; 0: no limit.
        on_plan: gets what the sources made of the plan, when it is whole.
    """

    def __init__(
        self,
        document: Spec,
        target: Target,
        on_plan: Callable[[Sequence[Generated]], None],
        *,
        max_requests: int = 0,
        max_time_s: float = 0,
    ) -> None:
        self._document, self._target, self._on_plan = document, target, on_plan
        self._max_requests = max_requests
        self.limited = bool(max_requests or max_time_s)
        self.cases: dict[str, Case] = {}
        """All so far, by id."""
        self.generations: list[Generation] = []
        self.results: list[Result] = []
        """To be filled by whoever executes."""
        self._round: Round | None = None
        """The one whose cases are being made; None: the plan."""
        self._progress = Progress(number=1)
        self._handed_over = self._handed_over_before = self._sent_before = 0

    async def lists(self, engine: Engine) -> AsyncIterator[list[Case]]:
        """The cases for `engine`, until there are no more or it has nothing left to spend."""
        request: GenerationRequest | None = plan_request(self._document, self._target, max_requests=self._max_requests)
        while request is not None:
            count = len(self.cases)
            async for cases in self._phase(request, engine):
                self._handed_over += sum(not case.last for case in cases)
                yield cases
            if self._round is not None:
                self._progress = after(self._progress, self._round, new_cases=len(self.cases) - count)
            request = await self._next(engine)

    async def _phase(self, request: GenerationRequest, engine: Engine) -> AsyncIterator[list[Case]]:
        """The new cases among those that are asked for, in an order as good as the cases made so far allow."""
        maker = _Maker(request)
        new_cases: dict[str, Case] = {}
        waiting: list[Case] = []
        handed_over: set[str] = set()
        whole, changed, planned_requests = False, False, 0
        said_at = began = time.monotonic()
        try:
            while True:
                done = maker.done
                fresh = {case.id: case for case in maker.take() if case.id not in self.cases}
                self.cases |= fresh
                new_cases |= fresh
                changed = changed or bool(fresh)
                if done and not whole:
                    whole = True
                    self._note_generations(maker.made())
                if engine.stopped or (engine.spent and not done):
                    maker.stop()
                    if waiting:
                        yield waiting
                    return
                now = time.monotonic()
                if not done and now - said_at >= _SAY_EVERY_S:
                    said_at = now
                    say(f"{len(self.cases)} cases so far; more are being made", err=True)
                if not done and (now - began < _GATHER_S or self._target.generate.max_cases):
                    await asyncio.sleep(_POLL_S)
                    continue
                if not done and now - began < _RESERVE_S and 0 < self._max_requests <= 2 * planned_requests:
                    await asyncio.sleep(_POLL_S)  # the other half is for the cases that are still being made
                    continue
                if changed:
                    changed = False
                    arranged = arrange(new_cases.values(), self._document, self._target)
                    waiting = [case for case in arranged if case.id not in handed_over]
                size = len(waiting) if done else max(_CHUNK, len(new_cases) // 10)
                if not done and self._max_requests:
                    size = min(size, max(1, (self._max_requests // 2 - planned_requests) // _REQUESTS_PER_CASE))
                chunk, waiting = _first_chunk(waiting, size)
                handed_over.update(case.id for case in chunk)
                planned_requests += sum(len(case.steps) + len(case.cleanup) for case in chunk)
                if chunk:
                    yield chunk
                elif done:
                    break
                else:
                    await asyncio.sleep(_POLL_S)
        finally:
            maker.stop()

    def _note_generations(self, made: Sequence[Generated]) -> None:
        """All cases of a phase are made."""
        self.generations += [generated.generation for generated in made]
        if self._round is None:
            self._on_plan(made)

    async def _next(self, engine: Engine) -> GenerationRequest | None:
        """What to ask for when everything so far was executed; None: nothing more."""
        if engine.stopped or engine.spent or not (self._target.generate.rounds or self.limited):
            return None
        while sum(not result.repeat for result in self.results) < self._handed_over and not engine.stopped:
            await asyncio.sleep(_POLL_S)
        sent = sum(result.requests for result in self.results)
        nothing_fits = self._handed_over > self._handed_over_before and sent == self._sent_before
        if engine.stopped or engine.spent or nothing_fits:
            return None
        self._sent_before, self._handed_over_before = sent, self._handed_over
        first_executions, _ = split(self.results)
        feedback = learned(first_executions, self._document, self._target)
        decision = next_round(self._target.generate, feedback, self._progress, limited=self.limited)
        if isinstance(decision, NoRound):
            return None
        what = (
            f"{len(feedback.gaps)} operations have something left to gain" if decision.feedback else "other random data"
        )
        say(f"round {decision.number}: {what}", err=True)
        self._round = decision
        return request_for(
            decision,
            self._document,
            self._target,
            configuration.read(),
            limits=remaining(self._target, self.generations),
            max_requests=max(1, self._max_requests - sent) if self._max_requests else 0,
        )


def _first_chunk(cases: list[Case], size: int) -> tuple[list[Case], list[Case]]:
    """So many cases, and the rest. Those that run last come at once, so that requests are kept for them."""
    last = [case for case in cases if case.last]
    others = [case for case in cases if not case.last]
    return [*last, *others[:size]], others[size:]


class _Stopped(BaseException):
    """No further case is wanted."""


class _Maker:
    """A thread that makes cases."""

    def __init__(self, request: GenerationRequest) -> None:
        self._request = request
        self._lock = threading.Lock()
        self._pending: list[Case] = []
        self._made: list[Generated] = []
        self._error: BaseException | None = None
        self._stopping = False
        self.done = False
        """All cases are made, or it failed."""
        threading.Thread(target=self._run, name="cases", daemon=True).start()

    def take(self) -> list[Case]:
        """The cases that were made since the last call."""
        with self._lock:
            taken, self._pending = self._pending, []
        return taken

    def stop(self) -> None:
        """Ends the thread with the next case it makes."""
        self._stopping = True

    def made(self) -> list[Generated]:
        """What each source made.

        Raises:
            TestOpsError: why nothing could be made.
        """
        if self._error is not None:
            raise self._error
        return self._made

    def _run(self) -> None:
        on_cases: OnCases = self._on_cases
        try:
            self._made = make_all(self._request, on_cases)
        except _Stopped:
            pass
        except BaseException as error:
            self._error = error
        finally:
            self.done = True

    def _on_cases(self, cases: Sequence[Case]) -> None:
        if self._stopping:
            raise _Stopped
        with self._lock:
            self._pending += cases
