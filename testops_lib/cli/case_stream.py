"""The cases of a local run as they are made: those of the plan, then those of further rounds.

A thread makes cases while earlier ones are executed, so that the first requests do not wait for the last case.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from functools import reduce
from typing import Any, Final

from msgspec import structs

from testops_lib import settings as configuration
from testops_lib.cli.output import say
from testops_lib.execute import Engine
from testops_lib.generate import Generated
from testops_lib.generate.feedback import learn
from testops_lib.generate.sources import GenerationRequest, OnCases, deduct, is_paid, make_all, spending_limits
from testops_lib.model import Case, Generation, Result
from testops_lib.run.scope import arrange, documented, in_scope
from testops_lib.spec.operation import Spec
from testops_lib.target import Target
from testops_lib.verdict.repetition import split

_TOGETHER_S: Final = 2.0
"""Cases that are all made within this time are ordered as a whole before the first is executed."""
_MOST_REQUESTS: Final = 4
"""That an early case makes, as a rule."""
_PATIENCE_S: Final = 60.0
"""How long half of the requests is kept for cases that are still being made."""
_PART: Final = 50
"""Cases that are given at once while more are made."""
_SAY_EVERY_S: Final = 5.0
_PAUSE_S: Final = 0.02
_MOST_BARREN: Final = 3
"""Draws in a row that bring nothing new before no further one is made."""

_MOST_EXAMPLES: Final = 200
"""Of one kind, that are drawn at once for an operation."""

_RANDOM: Final = "property"


def ask_for(document: Spec, target: Target, *, most: int = 0) -> GenerationRequest:
    """Asks for everything in scope, within the target's caps."""
    return GenerationRequest(
        spec=document,
        operations=in_scope(document, target),
        target=target,
        settings=configuration.read(),
        limits=spending_limits(target),
        max_requests=most,
    )


class CaseStream:
    """Gives an engine its cases, for one run.

    After the cases of the plan come those of further rounds: as many as `rounds` says; where requests or time are
    limited, free sources go on as long as they gain something, and the source `property` draws anew until the limit
    is reached.

    Args:
        options: `rounds`, `max_requests` and `max_time` of the command.
        on_plan: gets what the sources made of the plan, when it is whole.
    """

    def __init__(
        self,
        document: Spec,
        target: Target,
        options: Mapping[str, Any],
        on_plan: Callable[[Sequence[Generated]], None],
    ) -> None:
        self._document, self._target, self._on_plan = document, target, on_plan
        self._rounds, self._most = int(options["rounds"]), int(options["max_requests"])
        self.limited = bool(self._most or options["max_time"])
        self.cases: dict[str, Case] = {}
        """All so far, by id."""
        self.generations: list[Generation] = []
        self.results: list[Result] = []
        """To be filled by whoever executes."""
        self._given = self._given_before = self._turn = self._barren = self._sent = 0
        self._explored = -1

    async def lists(self, engine: Engine) -> AsyncIterator[list[Case]]:
        """The cases for `engine`, until there are no more or it has nothing left to spend."""
        ask: GenerationRequest | None = ask_for(self._document, self._target, most=self._most)
        while ask is not None:
            before = len(self.cases)
            async for cases in self._phase(ask, engine):
                self._given += sum(not case.last for case in cases)
                yield cases
            if self._turn and ask.feedback is None:
                self._barren = 0 if len(self.cases) > before else self._barren + 1
            ask = await self._next(engine)

    async def _phase(self, ask: GenerationRequest, engine: Engine) -> AsyncIterator[list[Case]]:
        """The new ones of the cases that are asked for, in an order as good as what is known allows."""
        making = _Making(ask)
        own: dict[str, Case] = {}
        waiting: list[Case] = []
        given: set[str] = set()
        whole, changed, planned = False, False, 0
        said = begun = time.monotonic()
        try:
            while True:
                done = making.done
                fresh = {case.id: case for case in making.take() if case.id not in self.cases}
                self.cases |= fresh
                own |= fresh
                changed = changed or bool(fresh)
                if done and not whole:
                    whole = True
                    self._take_stock(making.made())
                if engine.stopped or (engine.spent and not done):
                    making.stop()
                    if waiting:
                        yield waiting
                    return
                now = time.monotonic()
                if not done and now - said >= _SAY_EVERY_S:
                    said = now
                    say(f"{len(self.cases)} cases so far; more are being made", err=True)
                if not done and (now - begun < _TOGETHER_S or self._target.generate.max_cases):
                    await asyncio.sleep(_PAUSE_S)
                    continue
                if not done and now - begun < _PATIENCE_S and 0 < self._most <= 2 * planned:
                    await asyncio.sleep(_PAUSE_S)  # what is still being made gets its share of the requests
                    continue
                if changed:
                    changed = False
                    arranged = arrange(own.values(), self._document, self._target)
                    waiting = [case for case in arranged if case.id not in given]
                size = len(waiting) if done else max(_PART, len(own) // 10)
                if not done and self._most:
                    size = min(size, max(1, (self._most // 2 - planned) // _MOST_REQUESTS))
                part, waiting = _first_part(waiting, size)
                given.update(case.id for case in part)
                planned += sum(len(case.steps) + len(case.cleanup) for case in part)
                if part:
                    yield part
                elif done:
                    break
                else:
                    await asyncio.sleep(_PAUSE_S)
        finally:
            making.stop()

    def _take_stock(self, made: Sequence[Generated]) -> None:
        """All cases of a phase are made."""
        self.generations += [each.generation for each in made]
        if not self._turn:
            self._on_plan(made)

    async def _next(self, engine: Engine) -> GenerationRequest | None:
        """What to ask for when everything so far was executed; None: nothing more."""
        if engine.stopped or engine.spent or not (self._rounds or self.limited):
            return None
        while sum(not result.repeat for result in self.results) < self._given and not engine.stopped:
            await asyncio.sleep(_PAUSE_S)
        sent = sum(result.requests for result in self.results)
        nothing_fits = self._given > self._given_before and sent == self._sent
        if engine.stopped or engine.spent or nothing_fits:
            return None
        self._turn, self._sent, self._given_before = self._turn + 1, sent, self._given
        own, _ = split(self.results)
        known = learn(own, documented(in_scope(self._document, self._target)))
        sources = self._target.generate.sources
        free = tuple(source for source in sources if not is_paid(source))
        within = self._turn <= self._rounds
        if known.gaps and known.explored > self._explored and (within or (self.limited and free)):
            self._explored = known.explored
            say(f"round {self._turn}: {len(known.gaps)} operations have something left to gain", err=True)
            ask = self._ask(sources if within else free)
            return structs.replace(ask, feedback=known)
        if self.limited and _RANDOM in sources and self._barren < _MOST_BARREN:
            say(f"round {self._turn}: other random data", err=True)
            return self._ask((_RANDOM,), seed=self._turn)
        return None

    def _ask(self, sources: tuple[str, ...], seed: int = 0) -> GenerationRequest:
        wishes = self._target.generate
        left = max(1, self._most - sum(result.requests for result in self.results)) if self._most else 0
        random = wishes.property
        if seed:  # each draw is larger than the one before, for a new one is dear
            examples = min(_MOST_EXAMPLES, random.examples * 2**seed)
            random = structs.replace(random, seed=random.seed + seed, examples=examples)
        target = structs.replace(self._target, generate=structs.replace(wishes, sources=sources, property=random))
        ask = ask_for(self._document, target, most=left)
        return structs.replace(ask, limits=reduce(deduct, self.generations, spending_limits(self._target)))


def _first_part(cases: list[Case], size: int) -> tuple[list[Case], list[Case]]:
    """So many cases, and the rest. Those that run last come at once, so that requests are kept for them."""
    last = [case for case in cases if case.last]
    others = [case for case in cases if not case.last]
    return [*last, *others[:size]], others[size:]


class _Stopped(BaseException):
    """No further case is wanted."""


class _Making:
    """A thread that makes cases."""

    def __init__(self, ask: GenerationRequest) -> None:
        self._ask = ask
        self._lock = threading.Lock()
        self._told: list[Case] = []
        self._made: list[Generated] = []
        self._error: BaseException | None = None
        self._stopping = False
        self.done = False
        """All cases are made, or it failed."""
        threading.Thread(target=self._run, name="cases", daemon=True).start()

    def take(self) -> list[Case]:
        """Those that were made since it was asked last."""
        with self._lock:
            taken, self._told = self._told, []
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
        tell: OnCases = self._tell
        try:
            self._made = make_all(self._ask, tell)
        except _Stopped:
            pass
        except BaseException as error:
            self._error = error
        finally:
            self.done = True

    def _tell(self, cases: Sequence[Case]) -> None:
        if self._stopping:
            raise _Stopped
        with self._lock:
            self._told += cases
