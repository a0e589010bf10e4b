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
        place = {each.key: index for index, each in enumerate(chosen)}
        known: set[str] = set()
        for source in target.generate.sources:
            try:
                made = refresh(store, named, source, ask)
            except GenerateError as error:
                made = Generation(source=source, failed=str(error))
            ask = msgspec.structs.replace(ask, limits=deduct(ask.limits, made))
            members = store.members(named, source=source, operations=place)
            if target.generate.review == "never":
                members = _released(store, members)
            wanted = [each for each in members if each.status in suites.RUNS or each.status == "draft"]
            taken = [each for each in wanted if each.current not in known]
            known.update(each.current for each in taken)
            made = without_repeated(made, len(taken), len(wanted) - len(taken))
            taken.sort(key=lambda each: (place[each.operation], each.position))
            made = msgspec.structs.replace(made, reused=max(0, len(taken) - made.cases))
            store.put_group(run, f"0-{group.first:06}-{source}", [each.current for each in taken], made)
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
    drafts = {each.id: each for each in members if each.status == "draft"}
    if not drafts:
        return list(members)
    free = {
        key: msgspec.structs.replace(each, status="active", who="", why=why, changed=now)
        for key, each in drafts.items()
    }
    changes = [
        suites.Change(member=each.id, suite=each.suite, at=now, who="", what="draft -> active", why=why)
        for each in drafts.values()
    ]
    with store.locked(members[0].suite):
        store.put_members(list(free.values()), changes)
    return [free.get(each.id, each) for each in members]


def spent_before(store: Store, run: str, target: Target) -> Cost:
    """What the target's other runs of this calendar month (UTC) took; calls of unknown price count as free."""
    begin = datetime.now(UTC).replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    costs = [cost for each in store.generations_since(target.name, begin, but=run) for cost in each.spent]
    known = total(cost for cost in costs if cost.money is not None)
    return msgspec.structs.replace(total(costs), money=known.money)


def _call_in_words(call: Call, currency: str) -> str:
    more = f" and {len(call.operations) - 1} more" if len(call.operations) > 1 else ""
    return (
        f"{'repair, ' if call.repair else ''}{call.input_tokens:,} tokens in ({call.cached_tokens:,} cached),"
        f" {call.output_tokens:,} out, {in_words(call.money, currency)}: {call.operations[0]}{more}"
    )
