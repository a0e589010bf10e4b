"""The dialogue with a language model, whichever it is: ask, validate, repair once, count, keep within the limits.

A provider's adapter implements `Model`; everything else (back-off, budget, repair, accounting) stands here once.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Protocol

from testops_lib.errors import GenerateError
from testops_lib.generate import Generated
from testops_lib.generate.prompt import MAX_RELATED, Prompt, render, render_repair, tokens, version
from testops_lib.generate.proposal import read, schema
from testops_lib.generate.validate import Problem, Validator
from testops_lib.model import SAFE_METHODS, Case, Generation, Origin, Policy, Value
from testops_lib.spec.operation import Operation, Spec

VERSION = "1"
"""Of this dialogue and its validation; part of a case's origin."""

_LEAST_OUTPUT = 512
"""Output tokens below which a call is not worth making."""


class Usage(Value, frozen=True, kw_only=True):
    """Tokens of one call as the provider counts them."""

    input_tokens: int = 0
    output_tokens: int = 0
    """Thinking included."""
    cached_tokens: int = 0
    """Those of the input that came from a cache."""


class Answer(Value, frozen=True, kw_only=True):
    text: str
    usage: Usage = Usage()
    blocked: str = ""
    """Why the provider gave no text: `SAFETY`, …"""
    cut: bool = False
    """The text ends at the output limit."""


class Unavailable(Exception):
    """The provider gave no answer this time; worth another attempt."""

    def __init__(self, reason: str, *, delay_s: float | None = None, maybe_billed: bool = False) -> None:
        self.reason, self.delay_s, self.maybe_billed = reason, delay_s, maybe_billed
        super().__init__(reason)


class Model(Protocol):
    """A provider, seen from here.

    `ask` raises `Unavailable` when another attempt may help, else `GenerateError`.
    """

    source: str
    name: str
    secrets: tuple[str, ...]
    """Texts that must never be sent, logged or shown."""

    async def ask(self, prompt: Prompt, schema: dict[str, Any], *, max_output_tokens: int) -> Answer: ...


class Limits(Value, frozen=True, kw_only=True):
    concurrency: int = 4
    attempts: int = 4
    """Of one call, the first included."""
    backoff_s: float = 1.0
    """Before the second attempt, doubled each time, with jitter."""
    max_wait_s: float = 60
    """Longest wait between attempts; a provider that asks for more is given up."""
    max_calls: int = 0
    """Requests to the provider, repeated ones included; 0: no limit."""
    max_tokens_total: int = 0
    """Input and output tokens of all calls; 0: no limit. Held before a call is made, by an estimate from above."""
    max_output_tokens: int = 32_768
    """Of one call."""
    cases_per_operation: int = 6
    operations_per_call: int = 4


class PlannedCalls(Value, frozen=True, kw_only=True):
    """What a generation would cost at least, found without calling anyone. Repair rounds come on top."""

    calls: int
    operations: int
    input_tokens: int
    """Estimated from above."""
    max_output_tokens: int


async def propose(
    model: Model, spec: Spec, operations: Sequence[Operation], *, limits: Limits, policy: Policy,
    values: Mapping[str, tuple[Any, ...]] | None = None, identities: Sequence[str] = (), instruction: str = "",
) -> Generated:  # fmt: skip
    """Valid cases of the operations in their order, each operation's in the model's, positive ones first.

    Raises:
        GenerateError: the provider refused for good, or not one call was answered.
    """
    dialogue = _Dialogue(model, spec, limits, policy, dict(values or {}), tuple(identities), instruction)
    wanted = _callable(spec, operations, policy)
    groups = list(_grouped(wanted, limits.operations_per_call))
    rounds: list[list[Case]] = [[] for _ in groups]
    refusal: list[GenerateError] = []
    try:
        async with asyncio.TaskGroup() as tasks:
            for group, found in zip(groups, rounds, strict=True):
                tasks.create_task(dialogue.converse(group, found))
    except* GenerateError as errors:
        refusal.append(_first(errors))
    for error in refusal:
        # raised out here, or it would arrive wrapped in a group
        raise error
    if groups and dialogue.unanswered and not dialogue.answered:
        reason = next(iter(dialogue.unanswered.values()))
        raise GenerateError(
            f"no call was answered ({reason})", where=f"{model.source} ({model.name})",
            next_step="try again later, lower the concurrency, or use the source `rules`, which needs no model",
        )  # fmt: skip
    skipped = len(operations) - len(wanted)
    return dialogue.result([case for found in rounds for case in found], [o.key for o in wanted], skipped)


def plan(
    spec: Spec, operations: Sequence[Operation], *, limits: Limits, policy: Policy,
    values: Mapping[str, tuple[Any, ...]] | None = None, identities: Sequence[str] = (),
) -> PlannedCalls:  # fmt: skip
    """The calls that `propose` would make first, and their tokens."""
    wanted = _callable(spec, operations, policy)
    prompts = [
        render(
            spec, group, policy=policy, cases=limits.cases_per_operation, identities=identities, values=values,
            related=_related(spec, group, policy),
        )
        for group in _grouped(wanted, limits.operations_per_call)
    ]  # fmt: skip
    return PlannedCalls(
        calls=len(prompts), operations=len(wanted), input_tokens=sum(map(tokens, prompts)),
        max_output_tokens=len(prompts) * limits.max_output_tokens,
    )  # fmt: skip


class _Spent(Exception):
    """The budget allows no further call."""


class _Budget:
    """What may still be spent. Each call reserves before it is made, so that concurrent calls never overdraw."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._changed = asyncio.Condition()
        self._reserved = 0
        self.calls = 0
        self.tokens = 0

    async def reserve(self, input_tokens: int) -> tuple[int, int]:
        """The tokens reserved and how many of them the output may have; waits while calls under way may give some back.

        Raises:
            _Spent: there is not enough left.
        """
        limits = self._limits
        async with self._changed:
            while True:
                if limits.max_calls and self.calls >= limits.max_calls:
                    raise _Spent(f"max_calls={limits.max_calls}")
                output = limits.max_output_tokens
                if limits.max_tokens_total:
                    output = min(output, limits.max_tokens_total - self.tokens - self._reserved - input_tokens)
                if output >= min(_LEAST_OUTPUT, limits.max_output_tokens):
                    self.calls += 1
                    self._reserved += input_tokens + output
                    return input_tokens + output, output
                if not self._reserved:
                    raise _Spent(f"max_tokens_total={limits.max_tokens_total}")
                await self._changed.wait()

    async def settle(self, reserved: int, used: int) -> None:
        async with self._changed:
            self._reserved -= reserved
            self.tokens += used
            self._changed.notify_all()


class _Dialogue:
    """One generation's calls and counts."""

    def __init__(
        self, model: Model, spec: Spec, limits: Limits, policy: Policy, values: Mapping[str, tuple[Any, ...]],
        identities: tuple[str, ...], instruction: str,
    ) -> None:  # fmt: skip
        self._model, self._spec, self._limits, self._policy = model, spec, limits, policy
        self._values, self._identities, self._instruction = values, identities, instruction
        origin = Origin(source=model.source, version=VERSION, model=model.name, prompt=version())
        self._validator = Validator(spec, policy=policy, origin=origin, identities=identities, values=values)
        self._slots = asyncio.Semaphore(max(1, limits.concurrency))
        self._budget = _Budget(limits)
        # Jitter only has to differ between calls under way, so a seed keeps generation reproducible.
        self._random = random.Random(0)
        self._pause_until = 0.0
        self._input = self._output = self._cached = 0
        self._dropped: Counter[str] = Counter()
        self._notes: list[str] = []
        self._stopped: set[str] = set()
        self._unasked: set[str] = set()
        self.answered = 0
        self.unanswered: dict[str, str] = {}

    async def converse(self, group: Sequence[Operation], found: list[Case]) -> None:
        """Ask for one group of operations, with one repair round; a blocked group is asked one by one."""
        prompt = render(
            self._spec, group, policy=self._policy, cases=self._limits.cases_per_operation,
            identities=self._identities, values=self._values, related=_related(self._spec, group, self._policy),
            secrets=self._model.secrets, instruction=self._instruction,
        )  # fmt: skip
        answer = await self._ask(prompt, group)
        if answer is None:
            return
        if answer.blocked:
            if len(group) > 1:
                for operation in group:
                    await self.converse([operation], found)
                return
            self._dropped[f"answer blocked: {answer.blocked}"] += 1
            self._notes.append(f"{group[0].key}: the model gave no answer ({answer.blocked})")
            return
        reading = read(answer.text)
        if not reading.cases and reading.problem:
            problem = "it was cut at the output limit" if answer.cut else reading.problem
            again = await self._ask(render_repair(prompt, (), problem=problem, secrets=self._model.secrets), group)
            reading = read(again.text) if again is not None and not again.blocked else reading
            self._sort(reading.cases, group, found)
            if reading.problem:
                self._dropped["answer is no JSON" if not reading.cut else "answer cut off"] += 1
            return
        if reading.cut:
            self._dropped["answer cut off"] += 1
        refused = self._sort(reading.cases, group, found, keep_refused=True)
        if refused:
            await self._repair(prompt, group, refused, found)

    async def _repair(
        self, prompt: Prompt, group: Sequence[Operation], refused: list[tuple[Any, tuple[Problem, ...]]],
        found: list[Case],
    ) -> None:  # fmt: skip
        """One round: a corrected case replaces the refused one whose number it names, the others are dropped."""
        text = render_repair(prompt, refused, secrets=self._model.secrets)
        answer = await self._ask(text, group, repair=len(refused))
        raws = read(answer.text).cases if answer is not None and not answer.blocked else ()
        reasons = [problems[0].rule for _, problems in refused]
        open_numbers = set(range(len(refused)))
        for position, raw in enumerate(raws):
            number = raw.get("repairs", position) if isinstance(raw, Mapping) else position
            if isinstance(number, bool) or not isinstance(number, int) or number not in open_numbers:
                self._dropped["surplus"] += 1
                continue
            made = self._validator.check(raw, asked=[operation.key for operation in group])
            if isinstance(made, Case):
                open_numbers.discard(number)
                self._keep(made, found)
            else:
                reasons[number] = made[0].rule
        self._dropped.update(reasons[number] for number in sorted(open_numbers))

    def _sort(
        self, raws: Sequence[Any], group: Sequence[Operation], found: list[Case], *, keep_refused: bool = False
    ) -> list[tuple[Any, tuple[Problem, ...]]]:
        """Keep the valid ones, within the number asked for; the refused ones are given back, or counted."""
        most = self._limits.cases_per_operation * len(group)
        self._dropped["surplus"] += max(0, len(raws) - most)
        refused: list[tuple[Any, tuple[Problem, ...]]] = []
        for raw in raws[:most]:
            made = self._validator.check(raw, asked=[operation.key for operation in group])
            if isinstance(made, Case):
                self._keep(made, found)
            elif keep_refused:
                refused.append((raw, made))
            else:
                self._dropped[made[0].rule] += 1
        return refused

    def _keep(self, case: Case, found: list[Case]) -> None:
        if any(case.id == other.id for other in found):
            self._dropped["duplicate"] += 1
        elif sum(case.operation == other.operation for other in found) >= self._limits.cases_per_operation:
            self._dropped["surplus"] += 1
        else:
            found.append(case)

    async def _ask(self, prompt: Prompt, group: Sequence[Operation], *, repair: int = 0) -> Answer | None:
        """An answer, or None when the provider stayed away or the budget is spent (noted)."""
        related = _related(self._spec, group, self._policy)
        keys = [operation.key for operation in (*group, *related)]
        most = repair or self._limits.cases_per_operation * len(group)
        shape = schema(keys, self._identities, cases=most, repair=bool(repair))
        reason = ""
        async with self._slots:
            for attempt in range(1, self._limits.attempts + 1):
                await asyncio.sleep(max(0.0, self._pause_until - time.monotonic()))
                try:
                    answer = await self._call(prompt, shape)
                except _Spent as spent:
                    self._stopped.add(str(spent))
                    self._unasked.update(operation.key for operation in group)
                    return None
                except Unavailable as away:
                    reason = away.reason
                    wait = self._wait(attempt, away.delay_s)
                    if wait is None or attempt == self._limits.attempts:
                        break
                    if away.delay_s is not None:
                        # the provider speaks of the whole quota: all calls hold back
                        self._pause_until = max(self._pause_until, time.monotonic() + wait)
                    await asyncio.sleep(wait)
                else:
                    self.answered += 1
                    return answer
        for operation in group:
            self.unanswered[operation.key] = reason
        return None

    def _wait(self, attempt: int, asked_s: float | None) -> float | None:
        """Seconds before the next attempt; None: the provider asks for more than we wait."""
        if asked_s is not None:
            jitter = self._random.uniform(0, self._limits.backoff_s)
            return asked_s + jitter if asked_s <= self._limits.max_wait_s else None
        longest = min(self._limits.backoff_s * 2 ** (attempt - 1), self._limits.max_wait_s)
        return self._random.uniform(longest / 2, longest)

    async def _call(self, prompt: Prompt, shape: dict[str, Any]) -> Answer:
        estimate = tokens(prompt) + len(str(shape)) // 3
        reserved, output = await self._budget.reserve(estimate)
        used = 0
        try:
            answer = await self._model.ask(prompt, shape, max_output_tokens=output)
            usage = answer.usage
            used = usage.input_tokens + usage.output_tokens
            self._input += usage.input_tokens
            self._output += usage.output_tokens
            self._cached += usage.cached_tokens
            return answer
        except Unavailable as away:
            used = reserved if away.maybe_billed else 0
            raise
        finally:
            await self._budget.settle(reserved, used)

    def result(self, cases: Sequence[Case], order: Sequence[str], skipped: int) -> Generated:
        place = {key: number for number, key in enumerate(order)}
        unique = {case.id: case for case in cases}
        self._dropped["duplicate"] += len(cases) - len(unique)
        ordered = sorted(unique.values(), key=lambda case: (place[case.operation], case.intent != "positive"))
        notes = [*self._notes]
        if skipped:
            notes.append(f"{skipped} operations not asked for: the policy forbids them or they are unusable")
        for stop in sorted(self._stopped):
            notes.append(f"stopped at {stop}: the cases made so far are kept")
        for reason in sorted(set(self.unanswered.values())):
            keys = sorted(key for key, why in self.unanswered.items() if why == reason)
            shown = ", ".join(keys[:5]) + (" …" if len(keys) > 5 else "")
            notes.append(f"{len(keys)} operations without an answer ({reason}): {shown}")
        return Generated(
            cases=tuple(ordered),
            unfinished=tuple(sorted(self._unasked | self.unanswered.keys())),
            generation=Generation(
                source=self._model.source, cases=len(ordered), calls=self._budget.calls, input_tokens=self._input,
                output_tokens=self._output, cached_tokens=self._cached,
                dropped={reason: count for reason, count in sorted(self._dropped.items()) if count},
                notes=tuple(notes),
            ),
        )  # fmt: skip


def _first(errors: BaseExceptionGroup[GenerateError]) -> GenerateError:
    inner: BaseException = errors
    while isinstance(inner, BaseExceptionGroup):
        inner = inner.exceptions[0]
    assert isinstance(inner, GenerateError)
    return inner


def _callable(spec: Spec, operations: Sequence[Operation], policy: Policy) -> list[Operation]:
    return [
        operation for operation in operations
        if operation.key not in spec.unusable and (policy.methods == "all" or operation.method in SAFE_METHODS)
    ]  # fmt: skip


def _grouped(operations: Sequence[Operation], size: int) -> Iterator[list[Operation]]:
    """Operations of one resource together, at most `size` of them; resources in the order of their first operation."""
    resources: dict[str, list[Operation]] = {}
    for operation in operations:
        resources.setdefault(_resource(operation), []).append(operation)
    waiting: list[Operation] = []
    for members in resources.values():
        if waiting and len(waiting) + len(members) > max(1, size):
            yield waiting
            waiting = []
        waiting += members
        while len(waiting) > max(1, size):
            yield waiting[: max(1, size)]
            waiting = waiting[max(1, size) :]
    if waiting:
        yield waiting


def _resource(operation: Operation) -> str:
    """The path up to its first parameter: `/shops/{id}/pets` belongs to `/shops`."""
    return operation.path.split("/{", 1)[0].rstrip("/")


def _related(spec: Spec, group: Sequence[Operation], policy: Policy) -> list[Operation]:
    """Operations of the same resources that steps may need: what creates, reads and deletes, creators first."""
    keys = {operation.key for operation in group}
    resources = {_resource(operation) for operation in group}
    ranks = {"POST": 0, "GET": 1, "DELETE": 2, "PUT": 3}
    candidates = [
        operation for operation in _callable(spec, spec.operations, policy)
        if operation.key not in keys and operation.method in ranks and _resource(operation) in resources
        and not operation.deprecated
    ]  # fmt: skip
    candidates.sort(key=lambda operation: (ranks[operation.method], len(operation.path)))
    return candidates[:MAX_RELATED]
