"""What people do to a suite between runs, one call each: look, edit, approve, set aside, promote, generate again.

Whoever calls says who acts and why; both stay in the history of each case.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import ExitStack
from datetime import UTC, datetime
from fnmatch import fnmatchcase
from functools import partial
from typing import Literal

import msgspec

from testops_lib import spec as specs
from testops_lib import suite as suites
from testops_lib.cost import in_words
from testops_lib.errors import CaseError, GenerateError, StoreError
from testops_lib.generate.jsonpath import refusal
from testops_lib.generate.sources import GenerationRequest, spending_limits
from testops_lib.model import Case, Contract, JsonPathIs, Plan, Result, Value, make_case
from testops_lib.redact import sensitive
from testops_lib.run.conf import resolve, suite_name
from testops_lib.run.refresh import renew
from testops_lib.run.scope import in_scope, make_contracts, make_plan
from testops_lib.run.shrink import shrink_findings
from testops_lib.run.start import read_spec, resolved_run, stored_spec
from testops_lib.settings import Settings
from testops_lib.spec import drift as drifts
from testops_lib.spec.operation import Spec
from testops_lib.store import Store
from testops_lib.suite import Change, Member, Status, regression_key
from testops_lib.target import RunConf
from testops_lib.text import one_line, plural

MAX_CASE_BYTES = 256 * 1024
MAX_STEPS = 50

_ID = re.compile(r"[0-9a-f]{4,32}")


class Shown(Value, frozen=True, kw_only=True):
    """A member with everything that is known of it."""

    member: Member
    case: Case
    offered: Case | None = None
    """The new case of a conflict."""
    changes: tuple[Change, ...] = ()


class Renewed(Value, frozen=True, kw_only=True):
    """What came of generating again."""

    source: str
    operations: int
    cases: int
    calls: int
    notes: tuple[str, ...] = ()


# --------------------------------------------------------------------------- looking


def listed(
    settings: Settings,
    suite: str,
    *,
    operations: Sequence[str] = (),
    statuses: Collection[str] = (),
    sources: Collection[str] = (),
) -> list[Member]:
    """The suite's members by operation, source and position; `operations` are globs, empty filters take all.

    Raises:
        StoreError: there is no such suite.
    """
    with Store(settings.need_dsn()) as store:
        members = store.members(suite)
        if not members:
            known = ", ".join(store.suites()) or "none; a run of a target makes its suite"
            raise StoreError(f"there is no suite {suite!r}", where="suites", next_step=f"there are: {known}")
    wanted = [_glob(each) for each in operations]
    return [
        each
        for each in members
        if (not wanted or any(fnmatchcase(each.operation, glob) for glob in wanted))
        and (not statuses or each.status in statuses)
        and (not sources or each.source in sources)
    ]


def _glob(pattern: str) -> str:
    """A glob over operation keys in which braces and brackets stand for themselves, the method in capitals."""
    method, blank, path = pattern.strip().partition(" ")
    return (f"{method.upper()} {path.strip()}" if blank else pattern.strip()).replace("[", "[[]")


def show(settings: Settings, name: str) -> Shown:
    """The member whose id, or whose case's id, begins with `name`.

    Raises:
        StoreError: none or several do.
    """
    with Store(settings.need_dsn()) as store:
        member = _find(store, name)
        cases = store.cases({member.current, member.offered} - {""})
        return Shown(
            member=member,
            case=cases[member.current],
            offered=cases.get(member.offered),
            changes=tuple(store.changes(member.id)),
        )


def _find(store: Store, name: str) -> Member:
    name = name.strip().lower()
    if not _ID.fullmatch(name):
        raise StoreError(
            f"{name!r} is no id",
            where="cases",
            next_step="give at least 4 of its hexadecimal digits: see `testops cases list`",
        )
    found = store.named_members(name)
    if len(found) == 1:
        return found[0]
    exact = [each for each in found if name in (each.id, each.current)]
    if len(exact) == 1:
        return exact[0]
    if not found:
        raise StoreError(f"there is no case {name!r}", where="cases", next_step="see `testops cases list`")
    several = ", ".join(f"{each.id} ({each.suite}: {each.operation})" for each in found[:5])
    raise StoreError(f"{name!r} is not one case alone", where="cases", next_step=f"give more of: {several}")


def drift(settings: Settings, target: str) -> drifts.Drift:
    """What changed from the document that the target's last run read to the one that it has now.

    Raises:
        StoreError: the target was never run.
    """
    order = RunConf(target=target)
    now = read_spec(order, resolve(order, settings))
    suite = suite_name(order, settings)
    with Store(settings.need_dsn()) as store:
        before = store.suite_spec(suite)
        if not before:
            raise StoreError("was never run", where=f"target {target}", next_step="give two documents, or run it first")
        return drifts.compare(specs.decode(store.get_spec(before)), now)


# --------------------------------------------------------------------------- deciding

_MOVES: dict[str, tuple[frozenset[Status], Status]] = {
    "approve": (frozenset({"draft", "rejected"}), "active"),
    "reject": (frozenset({"draft", "active", "quarantined"}), "rejected"),
    "quarantine": (frozenset({"active", "draft"}), "quarantined"),
    "unquarantine": (frozenset({"quarantined"}), "active"),
}
"""What a person may say -> the statuses it applies to and what they become."""

Move = Literal["approve", "reject", "quarantine", "unquarantine"]


def move(settings: Settings, names: Sequence[str], to: Move, *, who: str, why: str) -> list[Member]:
    """The members after the move: all of them, or none when one is in no fitting status.

    Raises:
        StoreError: there is no such case, or it is in another status.
    """
    allowed, status = _MOVES[to]

    def moved(member: Member) -> Member:
        if member.status not in allowed:
            raise StoreError(
                f"is {member.status}",
                where=f"case {member.id}",
                next_step=f"`{to}` is for cases that are {' or '.join(sorted(allowed))}",
            )
        return msgspec.structs.replace(member, status=status)

    members = _together(settings, names)
    with Store(settings.need_dsn()) as store, ExitStack() as transaction:
        for suite in sorted({member.suite for member in members}):  # in one order, so that no two wait for each other
            transaction.enter_context(store.locked(suite))
        return [_change(store, member, moved, who=who, why=why) for member in members]


def _together(settings: Settings, names: Sequence[str]) -> list[Member]:
    with Store(settings.need_dsn()) as store:
        return list({member.id: member for member in (_find(store, name) for name in names)}.values())


def _change(
    store: Store,
    member: Member,
    changed: Callable[[Member], Member],
    *,
    who: str,
    why: str,
    what: str = "",
    cases: Sequence[Case] = (),
) -> Member:
    """The member as `changed` makes it of its latest state, stored with a line of history."""
    now = datetime.now(UTC)
    with store.locked(member.suite):
        latest = _find(store, member.id)
        after = msgspec.structs.replace(changed(latest), who=who, why=why, changed=now)
        told = what or f"{latest.status} -> {after.status}"
        differs = latest.current != after.current
        store.put_cases(cases)
        store.put_members(
            [after],
            [
                Change(
                    member=after.id,
                    suite=after.suite,
                    at=now,
                    who=who,
                    what=told,
                    why=why,
                    before=latest.current if differs else "",
                    after=after.current if differs else "",
                )
            ],
        )
    return after


def promote(settings: Settings, name: str, *, who: str, why: str) -> Member:
    """The member, its checks that rest on a guess now resting on a person's word.

    Raises:
        StoreError: there is no such case, or none of its checks rests on a guess.
    """
    shown = show(settings, name)
    if not suites.guesses(shown.case):
        raise StoreError(
            "has no advisory check", where=f"case {shown.member.id}", next_step="nothing needs to be promoted"
        )
    case = suites.promoted(shown.case, "human")

    def changed(member: Member) -> Member:
        _unchanged(member, shown.member)
        return msgspec.structs.replace(member, current=case.id, edited=True)

    with Store(settings.need_dsn()) as store:
        return _change(store, shown.member, changed, who=who, why=why, what="promoted", cases=[case])


def _unchanged(latest: Member, seen: Member) -> None:
    if (latest.current, latest.offered) != (seen.current, seen.offered):
        raise StoreError("was changed meanwhile", where=f"case {latest.id}", next_step="look at it and try again")


def edit(settings: Settings, name: str, document: bytes, *, who: str, why: str) -> Member:
    """The member, running the case that the JSON document describes from now on.

    Raises:
        StoreError: there is no such case.
        CaseError: the document is no case that may take its place.
    """
    shown = show(settings, name)
    case = _read(settings, shown, document)

    def changed(member: Member) -> Member:
        _unchanged(member, shown.member)
        return msgspec.structs.replace(member, current=case.id, edited=True)

    with Store(settings.need_dsn()) as store:
        return _change(store, shown.member, changed, who=who, why=why, what="edited", cases=[case])


def settle(
    settings: Settings,
    name: str,
    take: Literal["ours", "theirs", "other"],
    *,
    document: bytes = b"",
    who: str,
    why: str,
) -> Member:
    """The member without its conflict: with the person's case, the new one, or another that a document describes.

    Raises:
        StoreError: there is no such case, or no conflict.
        CaseError: the document is no case that may take its place.
    """
    shown = show(settings, name)
    offered = shown.offered
    if offered is None:
        raise StoreError("has no conflict", where=f"case {shown.member.id}", next_step="see `testops cases conflicts`")
    chosen = _read(settings, shown, document) if take == "other" else shown.case if take == "ours" else offered

    def changed(member: Member) -> Member:
        _unchanged(member, shown.member)
        return msgspec.structs.replace(
            member, generated=offered.id, current=chosen.id, offered="", edited=chosen.id != offered.id
        )

    with Store(settings.need_dsn()) as store:
        return _change(store, shown.member, changed, who=who, why=why, what=f"conflict settled: {take}", cases=[chosen])


def _read(settings: Settings, shown: Shown, document: bytes) -> Case:
    """The case of a person's document, which takes the place of the one shown."""
    where = f"case {shown.member.id}"
    if len(document) > MAX_CASE_BYTES:
        raise CaseError(f"has {len(document):,} bytes", where=where, next_step=f"at most {MAX_CASE_BYTES:,}")
    try:
        given = msgspec.json.decode(document, type=Case)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise CaseError(
            f"the document is no case: {error}",
            where=where,
            next_step="begin with `testops cases show ID --json`; its schema: docs/case.schema.json",
        ) from error
    with Store(settings.need_dsn()) as store:
        stored = store.suite_spec(shown.member.suite)
        spec = specs.decode(store.get_spec(stored)) if stored else None
    problem = _problem(given, shown.case, spec)
    if problem:
        raise CaseError(problem, where=where, next_step="correct the document")
    return make_case(
        name=given.name,
        intent=given.intent,
        operation=given.operation,
        steps=given.steps,
        cleanup=given.cleanup,
        origin=shown.case.origin,
        tags=given.tags,
        last=given.last,
    )


def _problem(case: Case, before: Case, spec: Spec | None) -> str:
    """Why the case may not take the place of the one before, or ""."""
    if case.operation != before.operation:
        return f"operation: it must stay {before.operation}"
    if not case.steps or len(case.steps) + len(case.cleanup) > MAX_STEPS:
        return f"steps: there must be 1 to {MAX_STEPS}, cleanup included"
    offered = {one.key for one in spec.operations} if spec else None
    for at, step in enumerate((*case.steps, *case.cleanup)):
        where = f"steps[{at}]" if at < len(case.steps) else f"cleanup[{at - len(case.steps)}]"
        if offered is not None and step.operation not in offered:
            return f"{where}.operation: the document of the last run has no {step.operation}"
        if not step.request.path.startswith("/"):
            return f"{where}.request.path: it must begin with /"
        for name, value in (*step.request.headers, *step.request.cookies):
            if sensitive(name):
                return f"{where}: {name} holds a credential; credentials come from the target, `identity` chooses them"
            if "\n" in value or "\r" in value or "\n" in name:
                return f"{where}: {name!r} holds a line break"
        paths = [check.path for check in step.checks if isinstance(check, JsonPathIs)]
        paths += [capture.path for capture in step.captures if capture.source == "body"]
        for path in paths:
            if why := refusal(path):
                return f"{where}: {why}"
    return ""


# --------------------------------------------------------------------------- generating again


def regenerate(
    settings: Settings,
    target: str,
    *,
    operations: Sequence[str] = (),
    cases: Sequence[str] = (),
    sources: Sequence[str] = (),
    instruction: str = "",
) -> list[Renewed]:
    """What came of generating operations, or what replaces chosen cases, again, by source.

    Of chosen operations everything is made anew; of chosen cases their operations are asked for again and only they
    are retired, if what comes does not take their place. A person's edits survive either way.

    Raises:
        StoreError: a case is unknown or of another target.
        GenerateError: nothing was chosen, or a source cannot work.
    """
    if bool(operations) == bool(cases):
        raise GenerateError("choose operations or cases", where="regenerate", next_step="give one of the two")
    order = RunConf(target=target, operations=tuple(operations), sources=tuple(sources))
    resolved = resolve(order, settings)
    spec = read_spec(order, resolved)
    suite = suite_name(order, settings)
    scope = in_scope(spec, resolved)
    replaces: set[str] | None = None
    chosen = {source: {one.key for one in scope} for source in resolved.generate.sources}
    if cases:
        members = _together(settings, cases)
        foreign = [each for each in members if each.suite != suite]
        if foreign:
            raise StoreError(f"belongs to {foreign[0].suite}", where=f"case {foreign[0].id}", next_step="choose others")
        replaces = {each.id for each in members}
        chosen = {
            source: {each.operation for each in members if each.source == source}
            for source in dict.fromkeys(each.source for each in members)
            if not sources or source in sources
        }
    done = []
    with Store(settings.need_dsn()) as store:
        for source, keys in chosen.items():
            wanted = [one for one in scope if one.key in keys]
            if not wanted:
                raise GenerateError(
                    "its operation is not in scope any more", where=f"source {source}", next_step="choose other cases"
                )
            ask = GenerationRequest(
                spec=spec,
                operations=tuple(wanted),
                target=resolved,
                settings=settings,
                limits=spending_limits(resolved),
            )
            made = renew(store, suite, source, ask, again=True, replaces=replaces, instruction=instruction)
            done.append(
                Renewed(
                    source=source,
                    operations=len(wanted),
                    cases=made.cases,
                    calls=made.calls,
                    notes=(*made.notes, *(f"dropped {count}: {why}" for why, count in made.dropped.items())),
                )
            )
    return done


class Smaller(Value, frozen=True, kw_only=True):
    """A regression that is smaller now."""

    member: Member
    message: str
    """How it fails."""
    curl: str


def shrink(
    settings: Settings,
    run: str,
    attempts: Callable[[Plan, Mapping[str, Contract]], Callable[[Case], Result | None]],
    *,
    who: str,
    why: str,
) -> list[Smaller]:
    """Lets the smallest request that still shows it take the place of each regression that the run found.

    Args:
        attempts: makes what executes one case (None: nothing is left to spend).

    Raises:
        StoreError: the run is unknown or has no report.
        TargetError: its target has no file any more.
    """
    with Store(settings.need_dsn()) as store:
        about, report = store.run(run), store.report(run)
        if report is None:
            raise StoreError("has no report yet", where=f"run {run}", next_step="wait for its end")
        target = resolve(RunConf(target=about.target), settings)
        spec = stored_spec(store, run)
        findings_by_key = {regression_key(finding): finding for finding in report.findings}
        members = [each for each in store.members(about.suite, source="property") if each.key in findings_by_key]
        examples = {findings_by_key[each.key].example.case for each in members}
        cases = store.cases(examples)
        failed = [each for each in store.results(run) if each.case in examples and each.verdict == "failed"]
    findings = tuple(findings_by_key[each.key] for each in members)
    attempt = attempts(make_plan(spec, target), make_contracts(spec, target))
    small, kept = shrink_findings(
        msgspec.structs.replace(report, findings=findings), failed, cases.values(), spec, attempt
    )
    made = {case.id: case for case in kept}
    done = []
    for member, finding in zip(members, small.findings, strict=True):
        case = made.get(finding.example.case)
        if case is None:
            continue
        smaller = partial(msgspec.structs.replace, generated=case.id, current=case.id)
        with Store(settings.need_dsn()) as store:
            after = _change(store, member, smaller, who=who, why=why, what="shrunk", cases=[case])
        done.append(Smaller(member=after, message=finding.message, curl=finding.example.curl))
    return done


# --------------------------------------------------------------------------- review

APPROVE, CHOOSE, REJECT = "Approve all", "Choose", "Reject"
"""What a reviewer may answer."""

_MOST_SHOWN = 20


class Request(Value, frozen=True, kw_only=True):
    """What a reviewer is shown."""

    subject: str
    body: str
    """Markdown; what documents and models wrote stands in code spans."""


def review_request(run: str, settings: Settings) -> Request | None:
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
    return Request(subject=f"Review {plural(len(looked_at), 'case')} of {one_line(target.name)}", body="\n".join(lines))


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
        glob, start = _glob(given), given.strip().lower()
        by_id = _ID.fullmatch(start) is not None
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
