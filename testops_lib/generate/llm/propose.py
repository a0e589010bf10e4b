"""The dialogue with a language model, whichever it is: ask, validate, repair once, count, keep within the limits.

A provider's adapter implements `Model`; everything else (back-off, budget, repair, accounting) stands here once.
"""

from __future__ import annotations

import asyncio
import hashlib
import random
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any, NamedTuple, Protocol

import msgspec

from testops_lib.cost import share, total
from testops_lib.errors import GenerateError
from testops_lib.generate import Generated
from testops_lib.generate.feedback import Gap
from testops_lib.generate.llm.price import Price, money
from testops_lib.generate.llm.prompt import MAX_RELATED, Prompt, needed, render, render_repair, size, version
from testops_lib.generate.llm.proposal import read, schema
from testops_lib.generate.llm.validate import Problem, Validator
from testops_lib.model import SAFE_METHODS, Call, Case, Cost, Generation, Policy, Provenance, Value
from testops_lib.spec.operation import Operation, Spec

VERSION = "2"
"""Of this dialogue and its validation; part of a case's origin."""

_LEAST_OUTPUT = 512
"""Output tokens below which a call is not worth making."""
_USUAL_CASE = 400
"""Output tokens of a case."""
_FRAME = 512
"""Input tokens that may come on top of a prompt and its schema (of which some want a wordier form): roles, markers."""


class Usage(Value, frozen=True, kw_only=True):
    """Tokens of one call as the provider counts them."""

    input_tokens: int = 0
    output_tokens: int = 0
    """Thinking included."""
    cached_tokens: int = 0
    """Those of the input that came from a cache."""
    stored_token_hours: float = 0
    """Tokens put into a cache of our own, times the hours for which it was ordered."""


class Answer(Value, frozen=True, kw_only=True):
    text: str
    usage: Usage | None = None
    """None: the provider does not count; then it is estimated from above."""
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

    `ask` raises `Unavailable` when another attempt may help, else `GenerateError`. `extra` is what a call may cost
    besides its prompt and its answer, from above.
    """

    source: str
    name: str
    secrets: tuple[str, ...]
    """Texts that must never be sent, logged or shown."""

    async def ask(self, prompt: Prompt, schema: dict[str, Any], *, max_output_tokens: int) -> Answer: ...

    def extra(self, prompt: Prompt) -> Usage: ...


class Limits(Value, frozen=True, kw_only=True):
    """How the dialogue is held and where it ends. What is spent is held before a call is made, by an estimate from
    above, so that it is never exceeded; None: no limit.
    """

    concurrency: int = 4
    attempts: int = 4
    """Of one call, the first included."""
    backoff_s: float = 1.0
    """Before the second attempt, doubled each time, with jitter."""
    max_wait_s: float = 60
    """Longest wait between attempts; a provider that asks for more is given up."""
    max_calls: int | None = None
    """Requests to the provider, repeated ones included."""
    max_tokens: int | None = None
    """Input and output tokens of all calls."""
    max_money: float | None = None
    price: Price | None = None
    """Of the model; None: unknown."""
    currency: str = ""
    max_output_tokens: int = 32_768
    """Of one call."""
    cases_per_operation: int = 6
    operations_per_call: int = 4


class Planned(Value, frozen=True, kw_only=True):
    """What a generation would take, found without calling anyone. Repair rounds come on top."""

    source: str
    model: str = ""
    operations: int = 0
    calls: int = 0
    input_tokens: int = 0
    """Estimated, rather too many: a third of the bytes."""
    output_tokens: int = 0
    """Estimated: as many cases as are asked for, of a usual length, and no thinking."""
    money: float | None = None
    """For these; None: the model's price is not known."""
    currency: str = ""


class Provider(NamedTuple):
    """A language model that can be asked, not connected yet."""

    source: str
    model: str
    limits: Limits
    wishes: Mapping[str, Any]
    """Its own settings that shape an answer: temperature, seed, …"""
    connect: Callable[[], AbstractAsyncContextManager[Model]]


def key_parts(
    provider: Provider,
    *,
    policy: Policy,
    values: Mapping[str, tuple[Any, ...]] | None = None,
    identities: Sequence[str] = (),
    observed: bool = False,
) -> dict[str, str]:
    """What the cases of an unchanged operation depend on, by name: with all of it equal, asking again is of no use.

    `observed`: the prompt tells what the API answered before.
    """
    asked = {
        "methods": policy.methods,
        "cases": provider.limits.cases_per_operation,
        "identities": list(identities),
        "values": {name: list(chosen) for name, chosen in (values or {}).items()},
        **provider.wishes,
    }
    digest = hashlib.sha256(msgspec.json.encode(asked, order="deterministic")).hexdigest()
    return {
        "source": provider.source,
        "model": provider.model,
        "prompt": version(observed=observed),
        "dialogue": VERSION,
        "wishes": digest[:16],
    }


def generate(
    provider: Provider,
    spec: Spec,
    operations: Sequence[Operation],
    *,
    policy: Policy,
    values: Mapping[str, tuple[Any, ...]] | None = None,
    identities: Sequence[str] = (),
    instruction: str = "",
    gaps: Mapping[str, Gap] | None = None,
) -> Generated:
    """As `propose`, outside of an event loop, with a connection that is closed at the end."""

    async def conversation() -> Generated:
        async with provider.connect() as model:
            return await propose(
                model,
                spec,
                operations,
                limits=provider.limits,
                policy=policy,
                values=values,
                identities=identities,
                instruction=instruction,
                gaps=gaps,
            )

    return asyncio.run(conversation())


async def propose(
    model: Model,
    spec: Spec,
    operations: Sequence[Operation],
    *,
    limits: Limits,
    policy: Policy,
    values: Mapping[str, tuple[Any, ...]] | None = None,
    identities: Sequence[str] = (),
    instruction: str = "",
    gaps: Mapping[str, Gap] | None = None,
) -> Generated:
    """Valid cases of the operations in their order, each operation's in the model's, positive ones first.

    `gaps`: what is still to be gained of them, by key, and what the API answered.

    Raises:
        GenerateError: the provider refused for good before it answered anything, not one call was answered, or money is
            limited and the model's price is not known.
    """
    if limits.max_money is not None and limits.price is None:
        raise GenerateError(
            f"the price of {model.name!r} is not known, so money cannot be limited",
            where=model.source,
            next_step="put it into a file and set TESTOPS_PRICES_FILE (free: 0), or limit tokens instead",
        )
    dialogue = _Dialogue(model, spec, limits, policy, dict(values or {}), tuple(identities), instruction, gaps or {})
    wanted = _callable(spec, operations, policy)
    groups = list(_grouped(spec, wanted, limits.operations_per_call, policy))
    rounds: list[list[Case]] = [[] for _ in groups]
    refusal: list[GenerateError] = []
    ended: set[str] = set()

    async def converse(group: _Group, found: list[Case]) -> None:
        await dialogue.converse(group, found)
        ended.update(group.keys)

    try:
        async with asyncio.TaskGroup() as tasks:
            for group, found in zip(groups, rounds, strict=True):
                tasks.create_task(converse(group, found))
    except* GenerateError as errors:
        refusal.append(_first(errors))
    for error in refusal:
        if not dialogue.answered:
            # raised out here, or it would arrive wrapped in a group
            raise error
        dialogue.unanswered.update({operation.key: str(error) for operation in wanted if operation.key not in ended})
    if groups and dialogue.unanswered and not dialogue.answered:
        reason = next(iter(dialogue.unanswered.values()))
        raise GenerateError(
            f"no call was answered ({reason})",
            where=f"{model.source} ({model.name})",
            next_step="try again later, lower the concurrency, or use the source `rules`, which needs no model",
        )
    skipped = len(operations) - len(wanted)
    return dialogue.result([case for found in rounds for case in found], [o.key for o in wanted], skipped)


def plan(
    provider: Provider,
    spec: Spec,
    operations: Sequence[Operation],
    *,
    policy: Policy,
    values: Mapping[str, tuple[Any, ...]] | None = None,
    identities: Sequence[str] = (),
) -> Planned:
    """The calls that `generate` would make first, their tokens and their price, without a key and calling nobody."""
    limits = provider.limits
    wanted = _callable(spec, operations, policy)
    input_tokens, groups = 0, list(_grouped(spec, wanted, limits.operations_per_call, policy))
    for group in groups:
        prompt = _render(spec, group, policy=policy, limits=limits, identities=identities, values=values or {})
        input_tokens += (size(prompt) + _schema_bytes(_shape(group, limits, identities))) // 3
    output_tokens = len(wanted) * limits.cases_per_operation * _USUAL_CASE
    return Planned(
        source=provider.source,
        model=provider.model,
        operations=len(wanted),
        calls=len(groups),
        input_tokens=input_tokens,
        output_tokens=output_tokens,
        currency=limits.currency,
        money=money(limits.price, input_tokens=input_tokens, output_tokens=output_tokens),
    )


class _Spent(Exception):
    """The budget allows no further call."""


class _Reserved(Value, frozen=True, kw_only=True):
    """What one call may take at most."""

    input_tokens: int
    output_tokens: int
    extra: Usage
    money: float | None

    @property
    def tokens(self) -> int:
        return self.input_tokens + self.extra.input_tokens + self.output_tokens


class _Budget:
    """What may still be spent. Each call reserves before it is made, so that concurrent calls never overdraw."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._changed = asyncio.Condition()
        self._reserved: list[_Reserved] = []
        self.calls = 0
        self.tokens = 0
        self.money = 0.0

    async def reserve(self, input_tokens: int, extra: Usage) -> _Reserved:
        """The most that a call may take; waits while calls under way may give some back.

        Raises:
            _Spent: there is not enough left.
        """
        limits = self._limits
        async with self._changed:
            while True:
                if limits.max_calls is not None and self.calls >= limits.max_calls:
                    raise _Spent(f"max_calls={limits.max_calls}")
                output, cap = self._room(input_tokens, extra)
                if output >= min(_LEAST_OUTPUT, limits.max_output_tokens):
                    self.calls += 1
                    made = _Reserved(
                        input_tokens=input_tokens,
                        output_tokens=output,
                        extra=extra,
                        money=self._money(input_tokens, output, extra),
                    )
                    self._reserved.append(made)
                    return made
                if not self._reserved:
                    raise _Spent(cap)
                await self._changed.wait()

    def _room(self, input_tokens: int, extra: Usage) -> tuple[int, str]:
        """Output tokens that the next call may have, and the limit that says so."""
        limits = self._limits
        room, cap = limits.max_output_tokens, ""
        if limits.max_tokens is not None:
            taken = self.tokens + sum(one.tokens for one in self._reserved)
            left = limits.max_tokens - taken - input_tokens - extra.input_tokens
            if left < room:
                room, cap = left, f"max_tokens={limits.max_tokens}"
        if limits.max_money is not None and limits.price is not None:
            spent = self.money + sum(one.money or 0 for one in self._reserved)
            left_money = limits.max_money - spent - (self._money(input_tokens, 0, extra) or 0)
            rate = limits.price.output / 1_000_000
            most = int(left_money / rate) if rate and left_money < rate * room else room if left_money >= 0 else -1
            if most < room:
                room, cap = most, f"max_money={limits.max_money:g} {limits.currency}".strip()
        return room, cap

    def _money(self, input_tokens: int, output_tokens: int, extra: Usage) -> float | None:
        """From above: nothing of the input is taken to come from a cache."""
        return money(
            self._limits.price,
            input_tokens=input_tokens + extra.input_tokens,
            output_tokens=output_tokens,
            stored_token_hours=extra.stored_token_hours,
        )

    async def settle(self, reserved: _Reserved, cost: Cost | None) -> None:
        """The call is over and took this; None: nothing."""
        async with self._changed:
            self._reserved.remove(reserved)
            if cost is not None:
                self.tokens += cost.input_tokens + cost.output_tokens
                self.money += cost.money or 0
            self._changed.notify_all()


class _Dialogue:
    """One generation's calls and counts."""

    def __init__(
        self,
        model: Model,
        spec: Spec,
        limits: Limits,
        policy: Policy,
        values: Mapping[str, tuple[Any, ...]],
        identities: tuple[str, ...],
        instruction: str,
        gaps: Mapping[str, Gap],
    ) -> None:
        self._model, self._spec, self._limits, self._policy = model, spec, limits, policy
        self._values, self._identities, self._instruction, self._gaps = values, identities, instruction, gaps
        origin = Provenance(source=model.source, version=VERSION, model=model.name, prompt=version(observed=bool(gaps)))
        self._validator = Validator(spec, policy=policy, origin=origin, identities=identities, values=values)
        self._slots = asyncio.Semaphore(max(1, limits.concurrency))
        self._budget = _Budget(limits)
        # Jitter only has to differ between calls under way, so a seed keeps generation reproducible.
        self._random = random.Random(0)
        self._pause_until = 0.0
        self._spent: list[Call] = []
        self._uncounted = self._maybe_billed = 0
        self._dropped: Counter[str] = Counter()
        self._notes: list[str] = []
        self._stopped: set[str] = set()
        self._unasked: set[str] = set()
        self.answered = 0
        self.unanswered: dict[str, str] = {}

    async def converse(self, group: _Group, found: list[Case]) -> None:
        """Ask for one group of operations, with one repair round; a blocked group is asked one by one."""
        prompt = _render(
            self._spec,
            group,
            policy=self._policy,
            limits=self._limits,
            identities=self._identities,
            values=self._values,
            secrets=self._model.secrets,
            instruction=self._instruction,
            gaps=self._gaps,
        )
        answer = await self._ask(prompt, group)
        if answer is None:
            return
        if answer.blocked:
            if len(group.operations) > 1:
                for operation in group.operations:
                    await self.converse(msgspec.structs.replace(group, operations=(operation,)), found)
                return
            self._dropped[f"answer blocked: {answer.blocked}"] += 1
            self._notes.append(f"{group.operations[0].key}: the model gave no answer ({answer.blocked})")
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
        self,
        prompt: Prompt,
        group: _Group,
        refused: list[tuple[Any, tuple[Problem, ...]]],
        found: list[Case],
    ) -> None:
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
            made = self._validator.check(raw, asked=group.keys)
            if isinstance(made, Case):
                open_numbers.discard(number)
                self._keep(made, found)
            else:
                reasons[number] = made[0].rule
        self._dropped.update(reasons[number] for number in sorted(open_numbers))

    def _sort(
        self, raws: Sequence[Any], group: _Group, found: list[Case], *, keep_refused: bool = False
    ) -> list[tuple[Any, tuple[Problem, ...]]]:
        """Keep the valid ones, within the number asked for; the refused ones are given back, or counted."""
        most = self._limits.cases_per_operation * len(group.operations)
        self._dropped["surplus"] += max(0, len(raws) - most)
        refused: list[tuple[Any, tuple[Problem, ...]]] = []
        for raw in raws[:most]:
            made = self._validator.check(raw, asked=group.keys)
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

    async def _ask(self, prompt: Prompt, group: _Group, *, repair: int = 0) -> Answer | None:
        """An answer, or None when the provider stayed away or the budget is spent (noted)."""
        shape = _shape(group, self._limits, self._identities, repair=repair)
        reason = ""
        async with self._slots:
            for attempt in range(1, self._limits.attempts + 1):
                await asyncio.sleep(max(0.0, self._pause_until - time.monotonic()))
                try:
                    answer = await self._call(prompt, shape, group, repair=bool(repair))
                except _Spent as spent:
                    self._stopped.add(str(spent))
                    self._unasked.update(operation.key for operation in group.operations)
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
        self.unanswered.update(dict.fromkeys(group.keys, reason))
        return None

    def _wait(self, attempt: int, asked_s: float | None) -> float | None:
        """Seconds before the next attempt; None: the provider asks for more than we wait."""
        if asked_s is not None:
            jitter = self._random.uniform(0, self._limits.backoff_s)
            return asked_s + jitter if asked_s <= self._limits.max_wait_s else None
        longest = min(self._limits.backoff_s * 2 ** (attempt - 1), self._limits.max_wait_s)
        return self._random.uniform(longest / 2, longest)

    async def _call(self, prompt: Prompt, shape: dict[str, Any], group: _Group, *, repair: bool) -> Answer:
        """One request, its cost counted."""
        most = size(prompt) + 2 * _schema_bytes(shape) + _FRAME
        reserved = await self._budget.reserve(most, self._model.extra(prompt))
        made: Call | None = None
        try:
            answer = await self._model.ask(prompt, shape, max_output_tokens=reserved.output_tokens)
            usage = answer.usage
            if usage is None:
                self._uncounted += 1
                written = min(reserved.output_tokens, len(answer.text.encode("utf-8", "replace")))
                usage = Usage(input_tokens=most, output_tokens=written)
            made = self._cost(usage, group, repair=repair)
            return answer
        except Unavailable as away:
            if away.maybe_billed:
                self._maybe_billed += 1
                worst = Usage(
                    input_tokens=reserved.input_tokens + reserved.extra.input_tokens,
                    output_tokens=reserved.output_tokens,
                    stored_token_hours=reserved.extra.stored_token_hours,
                )
                made = self._cost(worst, group, repair=repair)
            raise
        finally:
            await self._budget.settle(reserved, made)
            if made is not None:
                self._spent.append(made)

    def _cost(self, usage: Usage, group: _Group, *, repair: bool) -> Call:
        spent = money(
            self._limits.price,
            input_tokens=usage.input_tokens,
            output_tokens=usage.output_tokens,
            cached_tokens=usage.cached_tokens,
            stored_token_hours=usage.stored_token_hours,
        )
        return Call(
            calls=1,
            input_tokens=usage.input_tokens,
            output_tokens=usage.output_tokens,
            cached_tokens=min(usage.cached_tokens, usage.input_tokens),
            money=spent,
            operations=group.keys,
            repair=repair,
        )

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
        if self._uncounted:
            notes.append(f"{self._uncounted} answers without a count of tokens: estimated from above")
        if self._maybe_billed:
            notes.append(f"{self._maybe_billed} calls ran out of time and may have been billed: counted from above")
        for reason in sorted(set(self.unanswered.values())):
            keys = sorted(key for key, why in self.unanswered.items() if why == reason)
            shown = ", ".join(keys[:5]) + (" …" if len(keys) > 5 else "")
            notes.append(f"{len(keys)} operations without an answer ({reason}): {shown}")
        spent = total(self._spent)
        if self._spent and self._limits.price is None:
            notes.append(f"the price of {self._model.name!r} is not known: tokens only (see TESTOPS_PRICES_FILE)")
        return Generated(
            cases=tuple(ordered),
            unfinished=tuple(sorted(self._unasked | self.unanswered.keys())),
            generation=Generation(
                source=self._model.source,
                model=self._model.name,
                cases=len(ordered),
                calls=self._budget.calls,
                input_tokens=spent.input_tokens,
                output_tokens=spent.output_tokens,
                cached_tokens=spent.cached_tokens,
                money=spent.money if self._spent else None,
                currency=self._limits.currency if self._limits.price is not None else "",
                spent=tuple(self._spent),
                operations=_by_operation(self._spent, order),
                dropped={reason: count for reason, count in sorted(self._dropped.items()) if count},
                notes=tuple(notes),
            ),
        )


def _first(errors: BaseExceptionGroup[GenerateError]) -> GenerateError:
    inner: BaseException = errors
    while isinstance(inner, BaseExceptionGroup):
        inner = inner.exceptions[0]
    assert isinstance(inner, GenerateError)
    return inner


def _callable(spec: Spec, operations: Sequence[Operation], policy: Policy) -> list[Operation]:
    return [
        operation
        for operation in operations
        if operation.key not in spec.unusable and (policy.methods == "all" or operation.method in SAFE_METHODS)
    ]


def _by_operation(spent: Sequence[Call], order: Sequence[str]) -> dict[str, Cost]:
    shares: dict[str, list[Cost]] = {}
    for call in spent:
        for key, part in zip(call.operations, share(call, len(call.operations)), strict=True):
            shares.setdefault(key, []).append(part)
    return {key: total(shares[key]) for key in order if key in shares}


class _Group(Value, frozen=True, kw_only=True):
    """What one call is about."""

    operations: tuple[Operation, ...]
    related: tuple[Operation, ...]
    """Which steps may use as well."""
    shared: tuple[str, ...] = ()
    """Definitions that the calls about this resource have in common."""

    @property
    def keys(self) -> tuple[str, ...]:
        return tuple(operation.key for operation in self.operations)


def _render(
    spec: Spec,
    group: _Group,
    *,
    policy: Policy,
    limits: Limits,
    identities: Sequence[str],
    values: Mapping[str, tuple[Any, ...]],
    secrets: Sequence[str] = (),
    instruction: str = "",
    gaps: Mapping[str, Gap] | None = None,
) -> Prompt:
    return render(
        spec,
        group.operations,
        policy=policy,
        cases=limits.cases_per_operation,
        identities=identities,
        values=values,
        related=group.related,
        secrets=secrets,
        shared=group.shared,
        instruction=instruction,
        gaps=gaps,
    )


def _shape(group: _Group, limits: Limits, identities: Sequence[str], *, repair: int = 0) -> dict[str, Any]:
    keys = [operation.key for operation in (*group.operations, *group.related)]
    most = repair or limits.cases_per_operation * len(group.operations)
    return schema(keys, identities, cases=most, repair=bool(repair))


def _schema_bytes(shape: dict[str, Any]) -> int:
    return len(msgspec.json.encode(shape))


def _grouped(spec: Spec, operations: Sequence[Operation], size: int, policy: Policy) -> Iterator[_Group]:
    """Operations of one resource together, at most `size` of them; resources in the order of their first operation.

    Small resources share a call. The calls of a larger one have the definitions in common that two of them need.
    """
    resources: dict[str, list[Operation]] = {}
    for operation in operations:
        resources.setdefault(_resource(operation), []).append(operation)
    size = max(1, size)
    waiting: list[Operation] = []

    def group(members: Sequence[Operation], shared: Sequence[str] = ()) -> _Group:
        return _Group(operations=tuple(members), related=tuple(_related(spec, members, policy)), shared=tuple(shared))

    for members in resources.values():
        if len(waiting) + len(members) <= size:
            waiting += members
            continue
        if waiting:
            yield group(waiting)
            waiting = []
        if len(members) <= size:
            waiting = list(members)
            continue
        parts = [group(members[at : at + size]) for at in range(0, len(members), size)]
        uses = Counter(name for part in parts for name in needed(spec, [*part.operations, *part.related]))
        shared = [name for name, count in uses.items() if count > 1]
        for part in parts:
            yield msgspec.structs.replace(part, shared=tuple(shared))
    if waiting:
        yield group(waiting)


def _resource(operation: Operation) -> str:
    """The path up to its first parameter: `/shops/{id}/pets` belongs to `/shops`."""
    return operation.path.split("/{", 1)[0].rstrip("/")


def _related(spec: Spec, group: Sequence[Operation], policy: Policy) -> list[Operation]:
    """Operations of the same resources that steps may need: what creates, reads and deletes, creators first."""
    keys = {operation.key for operation in group}
    resources = {_resource(operation) for operation in group}
    ranks = {"POST": 0, "GET": 1, "DELETE": 2, "PUT": 3}
    candidates = [
        operation
        for operation in _callable(spec, spec.operations, policy)
        if operation.key not in keys
        and operation.method in ranks
        and _resource(operation) in resources
        and not operation.deprecated
    ]
    candidates.sort(key=lambda operation: (ranks[operation.method], len(operation.path)))
    return candidates[:MAX_RELATED]
