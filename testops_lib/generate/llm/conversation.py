"""The conversation with a language model, whichever it is: ask, repair once, wait and ask again, keep to the budget."""

from __future__ import annotations

import asyncio
import random
import time
from typing import Any

import msgspec

from testops_lib.generate.llm.answer import read
from testops_lib.generate.llm.budget import Budget, BudgetSpent
from testops_lib.generate.llm.calls import Brief, CallGroup, answer_schema, prompt_of, schema_bytes
from testops_lib.generate.llm.collected import CollectedCases
from testops_lib.generate.llm.prompt import Prompt, render_repair, size
from testops_lib.generate.llm.provider import Answer, Model, Unavailable, Usage
from testops_lib.model import Case

_FRAME = 512
"""Input tokens that may come on top of a prompt and its schema (of which some want a wordier form): roles, markers."""


class Conversation:
    """The calls of one generation, and what became of them."""

    def __init__(self, model: Model, brief: Brief, collected: CollectedCases) -> None:
        self._model, self._brief, self._limits, self._collected = model, brief, brief.limits, collected
        self._at_once = asyncio.Semaphore(max(1, brief.limits.concurrency))
        # Jitter only has to differ between calls under way, so a seed keeps generation reproducible.
        self._random = random.Random(0)
        self._pause_until = 0.0
        self.budget = Budget(brief.limits)
        self.answered = 0
        """Calls with an answer."""
        self.uncounted = 0
        """Answers whose tokens the provider did not count."""
        self.maybe_billed = 0
        """Calls without an answer that the provider may bill."""
        self.unanswered: dict[str, str] = {}
        """Operation -> why nobody answered."""
        self.unasked: set[str] = set()
        """Operations for which the budget was not enough."""
        self.stopped_at: set[str] = set()
        """Limits that ended the conversation."""
        self.blocked: list[tuple[str, str]] = []
        """Operations that got no text, and why."""

    async def ask_for(self, group: CallGroup, cases: list[Case]) -> None:
        """Adds the cases of a group of operations, after one repair round; a blocked group is asked one by one."""
        prompt = prompt_of(self._brief, group)
        answer = await self._ask(prompt, group)
        if answer is None:
            return
        dropped = self._collected.dropped
        if answer.blocked:
            if len(group.operations) > 1:
                for operation in group.operations:
                    await self.ask_for(msgspec.structs.replace(group, operations=(operation,)), cases)
                return
            dropped[f"answer blocked: {answer.blocked}"] += 1
            self.blocked.append((group.operations[0].key, answer.blocked))
            return
        reading = read(answer.text)
        if not reading.cases and reading.problem:
            problem = "it was cut at the output limit" if answer.cut else reading.problem
            again = await self._ask(render_repair(prompt, (), problem=problem, secrets=self._model.secrets), group)
            reading = read(again.text) if again is not None and not again.blocked else reading
            self._collected.drop(self._collected.sort(reading.cases, group, cases))
            if reading.problem:
                dropped["answer is no JSON" if not reading.cut else "answer cut off"] += 1
            return
        if reading.cut:
            dropped["answer cut off"] += 1
        refused = self._collected.sort(reading.cases, group, cases)
        if refused:
            repair_prompt = render_repair(prompt, refused, secrets=self._model.secrets)
            repair = await self._ask(repair_prompt, group, repair=len(refused))
            repaired = read(repair.text).cases if repair is not None and not repair.blocked else ()
            self._collected.sort_repaired(repaired, refused, group, cases)

    async def _ask(self, prompt: Prompt, group: CallGroup, *, repair: int = 0) -> Answer | None:
        """An answer, or None (noted) when the provider gave none or the budget is spent."""
        schema = answer_schema(self._brief, group, repair=repair)
        reason = ""
        async with self._at_once:
            for attempt in range(1, self._limits.attempts + 1):
                await asyncio.sleep(max(0.0, self._pause_until - time.monotonic()))
                try:
                    answer = await self._call(prompt, schema, group, repair=bool(repair))
                except BudgetSpent as spent:
                    self.stopped_at.add(str(spent))
                    self.unasked.update(group.keys)
                    return None
                except Unavailable as unavailable:
                    reason = unavailable.reason
                    wait = self._wait(attempt, unavailable.delay_s)
                    if wait is None or attempt == self._limits.attempts:
                        break
                    if unavailable.delay_s is not None:
                        # the provider speaks of the whole quota: all calls hold back
                        self._pause_until = max(self._pause_until, time.monotonic() + wait)
                    await asyncio.sleep(wait)
                else:
                    self.answered += 1
                    return answer
        self.unanswered.update(dict.fromkeys(group.keys, reason))
        return None

    def _wait(self, attempt: int, delay_s: float | None) -> float | None:
        """Seconds before the next attempt; None: the provider asks for a longer delay than we wait."""
        if delay_s is not None:
            jitter = self._random.uniform(0, self._limits.backoff_s)
            return delay_s + jitter if delay_s <= self._limits.max_wait_s else None
        longest = min(self._limits.backoff_s * 2 ** (attempt - 1), self._limits.max_wait_s)
        return self._random.uniform(longest / 2, longest)

    async def _call(self, prompt: Prompt, schema: dict[str, Any], group: CallGroup, *, repair: bool) -> Answer:
        """One request, its cost counted."""
        most_input = size(prompt) + 2 * schema_bytes(schema) + _FRAME
        reservation = await self.budget.reserve(most_input, self._model.extra(prompt))
        usage: Usage | None = None
        try:
            answer = await self._model.ask(prompt, schema, max_output_tokens=reservation.output_tokens)
            usage = answer.usage
            if usage is None:
                self.uncounted += 1
                written = min(reservation.output_tokens, len(answer.text.encode("utf-8", "replace")))
                usage = Usage(input_tokens=most_input, output_tokens=written)
            return answer
        except Unavailable as unavailable:
            if unavailable.maybe_billed:
                self.maybe_billed += 1
                usage = reservation.usage
            raise
        finally:
            await self.budget.settle(reservation, usage, group.keys, repair=repair)
