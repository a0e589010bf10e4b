"""The stage `review`: what a person is shown of a run's cases before they are executed, and what the answer does."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime
from fnmatch import fnmatchcase

import msgspec

from testops_lib import suite as suites
from testops_lib.cost import in_words
from testops_lib.errors import GenerateError
from testops_lib.model import Value
from testops_lib.run.editing import MEMBER_ID, operation_glob
from testops_lib.run.start import resolved_run
from testops_lib.settings import Settings
from testops_lib.store import Store
from testops_lib.suite import Change, Member
from testops_lib.text import one_line, plural

APPROVE, CHOOSE, REJECT = "Approve all", "Choose", "Reject"
"""What a reviewer may answer."""


_MOST_SHOWN = 20


class ReviewRequest(Value, frozen=True, kw_only=True):
    """What a reviewer is shown."""

    subject: str
    body: str
    """Markdown; what documents and models wrote stands in code spans."""


def review_request(run: str, settings: Settings) -> ReviewRequest | None:
    """What a person must look at before the run goes on; None: nothing."""
    with Store(settings.need_dsn()) as store:
        target = resolved_run(store, run).target
        members = [member for member in store.run_members(run) if member.status != "retired"]
        drafts = [member for member in members if member.status == "draft"]
        if target.generate.review == "never" or (target.generate.review == "new" and not drafts):
            return None
        looked_at = drafts if target.generate.review == "new" else members
        cases = store.cases({member.current for member in looked_at})
        generations = store.generations(run)
    counts = Counter((member.operation, member.source) for member in looked_at)
    guesses = sum(bool(suites.guesses(cases[member.current])) for member in looked_at)
    paid = [generation for generation in generations if generation.calls]
    calls = sum(generation.calls for generation in paid)
    tokens = sum(generation.input_tokens + generation.output_tokens for generation in paid)
    money = (
        None
        if any(generation.money is None for generation in paid)
        else sum(generation.money or 0 for generation in paid)
    )
    currency = next((generation.currency for generation in paid if generation.currency), "")
    price = f", {in_words(money, currency)}" if paid else ""
    lines = [
        f"{plural(len(drafts), 'draft')} among {plural(len(members), 'case')} of `{_span(target.name)}`.",
        "",
        f"- {plural(guesses, 'case')} with checks that rest on a guess: advisory until promoted",
        f"- cost of generation: {plural(calls, 'call')}, {tokens:,} tokens{price}",
        "",
        "**By operation and source**",
        "",
    ]
    lines += [f"- `{_span(key)}`, {source}: {count}" for (key, source), count in sorted(counts.items())[:_MOST_SHOWN]]
    if len(counts) > _MOST_SHOWN:
        lines.append(f"- … and {len(counts) - _MOST_SHOWN} more")
    lines += ["", "**The first cases**", ""]
    lines += [
        f"- `{member.id}` `{_span(member.operation)}`: `{_span(member.key)}`" for member in looked_at[:_MOST_SHOWN]
    ]
    if len(looked_at) > _MOST_SHOWN:
        lines.append(
            f"- … and {len(looked_at) - _MOST_SHOWN} more: `testops cases list --target {_span(members[0].suite)}`"
        )
    lines += [
        "",
        f"**{APPROVE}**: every draft becomes active. **{CHOOSE}**: those whose operation or id is given below; the"
        f" other drafts are rejected. **{REJECT}**: all drafts are rejected, and the run ends with nothing executed.",
    ]
    return ReviewRequest(
        subject=f"Review {plural(len(looked_at), 'case')} of {one_line(target.name)}", body="\n".join(lines)
    )


def _span(text: str) -> str:
    """Text that stays inside a code span of Markdown."""
    return one_line(text, 120).replace("`", "'")


def answer_review(
    run: str,
    settings: Settings,
    *,
    answer: str,
    operations: Sequence[str] = (),
    cases: Sequence[str] = (),
    who: str,
) -> str:
    """Does what the reviewer answered, and says so in a line. Repeating it changes nothing more.

    Raises:
        GenerateError: the suite is rejected, or nothing of it was chosen.
    """
    why = f"review of run {run}"
    now = datetime.now(UTC)
    with Store(settings.need_dsn()) as store:
        target = resolved_run(store, run).target
        suite = store.run(run).suite
        with store.locked(suite):
            members = [member for member in store.run_members(run) if member.status != "retired"]
            drafts = [member for member in members if member.status == "draft"]
            chosen = drafts if answer == APPROVE else []
            if answer == CHOOSE:
                chosen = _chosen(members, operations, cases)
            ids = {member.id for member in chosen}
            after = [
                msgspec.structs.replace(
                    member, status="active" if member.id in ids else "rejected", who=who, why=why, changed=now
                )
                for member in drafts
            ]
            store.put_members(
                after,
                [
                    Change(member=member.id, suite=suite, at=now, who=who, what=f"draft -> {member.status}", why=why)
                    for member in after
                ],
            )
            if answer == CHOOSE:
                everything = target.generate.review == "always"
                kept = [
                    member for member in members if member.id in ids or not (everything or member.status == "draft")
                ]
                store.keep_cases(run, {member.current for member in kept})
    if answer not in (APPROVE, CHOOSE):
        raise GenerateError(
            f"rejected by {who}: {plural(len(drafts), 'draft')}; nothing is executed",
            where=f"review of {target.name}",
            next_step="`testops cases regenerate` with an instruction, or `testops cases approve`; then start a run",
        )
    taken = sum(member.status == "active" for member in after)
    return f"{who}: {answer}: {taken} of {plural(len(drafts), 'draft')} approved"


def _chosen(members: Sequence[Member], operations: Sequence[str], cases: Sequence[str]) -> list[Member]:
    chosen: dict[str, Member] = {}
    for name in (*operations, *cases):
        glob, start = operation_glob(name), name.strip().lower()
        by_id = MEMBER_ID.fullmatch(start) is not None
        matching = [
            member
            for member in members
            if fnmatchcase(member.operation, glob)
            or (by_id and (member.id.startswith(start) or member.current.startswith(start)))
        ]
        if not matching:
            raise GenerateError(
                f"{one_line(name)!r} is neither an operation nor the id of a case of this run",
                where="review",
                next_step="clear the task `review` and answer again",
            )
        chosen.update({member.id: member for member in matching})
    if not chosen:
        raise GenerateError(
            "nothing was chosen",
            where="review",
            next_step="clear the task `review` and give operations or ids of cases",
        )
    return list(chosen.values())
