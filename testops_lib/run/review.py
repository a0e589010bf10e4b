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
        members = [each for each in store.run_members(run) if each.status != "retired"]
        drafts = [each for each in members if each.status == "draft"]
        if target.generate.review == "never" or (target.generate.review == "new" and not drafts):
            return None
        looked_at = drafts if target.generate.review == "new" else members
        cases = store.cases({each.current for each in looked_at})
        generations = store.generations(run)
    counts = Counter((each.operation, each.source) for each in looked_at)
    guesses = sum(bool(suites.guesses(cases[each.current])) for each in looked_at)
    paid = [each for each in generations if each.calls]
    tokens = sum(each.input_tokens + each.output_tokens for each in paid)
    money = None if any(each.money is None for each in paid) else sum(each.money or 0 for each in paid)
    currency = next((each.currency for each in paid if each.currency), "")
    price = f", {in_words(money, currency)}" if paid else ""
    lines = [
        f"{plural(len(drafts), 'draft')} among {plural(len(members), 'case')} of `{_span(target.name)}`.",
        "",
        f"- {plural(guesses, 'case')} with checks that rest on a guess: advisory until promoted",
        f"- cost of generation: {plural(sum(each.calls for each in paid), 'call')}, {tokens:,} tokens{price}",
        "",
        "**By operation and source**",
        "",
    ]
    lines += [f"- `{_span(key)}`, {source}: {count}" for (key, source), count in sorted(counts.items())[:_MOST_SHOWN]]
    if len(counts) > _MOST_SHOWN:
        lines.append(f"- … and {len(counts) - _MOST_SHOWN} more")
    lines += ["", "**The first cases**", ""]
    lines += [f"- `{each.id}` `{_span(each.operation)}`: `{_span(each.key)}`" for each in looked_at[:_MOST_SHOWN]]
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
            members = [each for each in store.run_members(run) if each.status != "retired"]
            drafts = [each for each in members if each.status == "draft"]
            chosen = drafts if answer == APPROVE else []
            if answer == CHOOSE:
                chosen = _chosen(members, operations, cases)
            ids = {each.id for each in chosen}
            after = [
                msgspec.structs.replace(
                    each, status="active" if each.id in ids else "rejected", who=who, why=why, changed=now
                )
                for each in drafts
            ]
            store.put_members(
                after,
                [
                    Change(member=each.id, suite=suite, at=now, who=who, what=f"draft -> {each.status}", why=why)
                    for each in after
                ],
            )
            if answer == CHOOSE:
                everything = target.generate.review == "always"
                kept = [each for each in members if each.id in ids or not (everything or each.status == "draft")]
                store.keep_cases(run, {each.current for each in kept})
    if answer not in (APPROVE, CHOOSE):
        raise GenerateError(
            f"rejected by {who}: {plural(len(drafts), 'draft')}; nothing is executed",
            where=f"review of {target.name}",
            next_step="`testops cases regenerate` with an instruction, or `testops cases approve`; then start a run",
        )
    taken = sum(each.status == "active" for each in after)
    return f"{who}: {answer}: {taken} of {plural(len(drafts), 'draft')} approved"


def _chosen(members: Sequence[Member], operations: Sequence[str], cases: Sequence[str]) -> list[Member]:
    chosen: dict[str, Member] = {}
    for given in (*operations, *cases):
        glob, start = operation_glob(given), given.strip().lower()
        by_id = MEMBER_ID.fullmatch(start) is not None
        found = [
            each
            for each in members
            if fnmatchcase(each.operation, glob)
            or (by_id and (each.id.startswith(start) or each.current.startswith(start)))
        ]
        if not found:
            raise GenerateError(
                f"{one_line(given)!r} is neither an operation nor the id of a case of this run",
                where="review",
                next_step="clear the task `review` and answer again",
            )
        chosen.update({each.id: each for each in found})
    if not chosen:
        raise GenerateError(
            "nothing was chosen",
            where="review",
            next_step="clear the task `review` and give operations or ids of cases",
        )
    return list(chosen.values())
