"""The stage `generate`: brings the suite up to date for one group of operations."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from datetime import UTC, datetime

import msgspec

from testops_lib import suite as suites
from testops_lib.cost import in_words, total
from testops_lib.errors import GenerateError
from testops_lib.generate.sources import GenerationRequest, deduct, spending_limits, summarize, without_repeated
from testops_lib.model import (
    Call,
    Cost,
    Generation,
)
from testops_lib.run.refresh import refresh
from testops_lib.run.start import OperationGroup, resolved_run, stored_spec
from testops_lib.settings import Settings
from testops_lib.store import Store
from testops_lib.target import Target
from testops_lib.text import printable

_LOG = logging.getLogger(__name__)


def generate(run: str, group: OperationGroup, settings: Settings) -> int:
    """Sees to it that the suite has the cases of one group of operations; gives how many of them the run takes.

    Only what changed since it was last generated is generated: an unchanged document costs no call. A source that
    cannot work is left out, and its `Generation` says why; its cases of earlier runs go on.
    """
    count = 0
    with Store(settings.need_dsn()) as store:
        target = resolved_run(store, run).target
        spec = stored_spec(store, run)
        named = store.run(run).suite
        chosen = tuple(spec.operation(key) for key in group.operations)
        before = spent_before(store, run, target)
        ask = GenerationRequest(
            spec=spec,
            operations=chosen,
            target=target,
            settings=settings,
            limits=spending_limits(target, spent=before, part=len(chosen) / group.of),
        )
        place = {operation.key: index for index, operation in enumerate(chosen)}
        case_ids: set[str] = set()
        for source in target.generate.sources:
            try:
                made = refresh(store, named, source, ask)
            except GenerateError as error:
                made = Generation(source=source, failed=str(error))
            ask = msgspec.structs.replace(ask, limits=deduct(ask.limits, made))
            members = store.members(named, source=source, operations=place)
            if target.generate.review == "never":
                members = _released(store, members)
            wanted = [member for member in members if member.status in suites.RUNS or member.status == "draft"]
            taken = [member for member in wanted if member.current not in case_ids]
            case_ids.update(member.current for member in taken)
            made = without_repeated(made, len(taken), len(wanted) - len(taken))
            taken.sort(key=lambda member: (place[member.operation], member.position))
            made = msgspec.structs.replace(made, reused=max(0, len(taken) - made.cases))
            store.put_group(run, f"0-{group.first:06}-{source}", [member.current for member in taken], made)
            count += len(taken)
            _LOG.info(
                "%s: %d cases for %d operations, %d of them made now", source, len(taken), len(chosen), made.cases
            )
            for number, call in enumerate(made.spent, 1):
                _LOG.info("call %d: %s", number, printable(_call_in_words(call, made.currency)))
            for line in summarize(made):
                _LOG.info("%s", printable(line))
            if made.calls:
                tokens = before.input_tokens + before.output_tokens
                money = in_words(before.money, made.currency)
                _LOG.info("%s: other runs of this month took %s tokens, %s", target.name, f"{tokens:,}", money)
    return count


def _released(store: Store, members: Sequence[suites.Member]) -> list[suites.Member]:
    """The members; drafts that waited for a review that nobody asks for any more run."""
    why, now = "no review is asked for", datetime.now(UTC)
    drafts = {member.id: member for member in members if member.status == "draft"}
    if not drafts:
        return list(members)
    free = {
        key: msgspec.structs.replace(member, status="active", who="", why=why, changed=now)
        for key, member in drafts.items()
    }
    changes = [
        suites.Change(member=member.id, suite=member.suite, at=now, who="", what="draft -> active", why=why)
        for member in drafts.values()
    ]
    with store.locked(members[0].suite):
        store.put_members(list(free.values()), changes)
    return [free.get(member.id, member) for member in members]


def spent_before(store: Store, run: str, target: Target) -> Cost:
    """What the target's other runs of this calendar month (UTC) took; calls of unknown price count as free."""
    begin = datetime.now(UTC).replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    costs = [cost for generation in store.generations_since(target.name, begin, but=run) for cost in generation.spent]
    priced = total(cost for cost in costs if cost.money is not None)
    return msgspec.structs.replace(total(costs), money=priced.money)


def _call_in_words(call: Call, currency: str) -> str:
    more = f" and {len(call.operations) - 1} more" if len(call.operations) > 1 else ""
    return (
        f"{'repair, ' if call.repair else ''}{call.input_tokens:,} tokens in ({call.cached_tokens:,} cached),"
        f" {call.output_tokens:,} out, {in_words(call.money, currency)}: {call.operations[0]}{more}"
    )
