"""Generates operations or cases of a suite again, and shrinks its regressions, because a person asks for it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial

import msgspec

from testops_lib.errors import GenerateError, StoreError
from testops_lib.generate.sources import GenerationRequest, spending_limits
from testops_lib.model import Case, Contract, Plan, Result, Value
from testops_lib.run.conf import resolve, suite_name
from testops_lib.run.editing import change_member, find_members
from testops_lib.run.refresh import refresh
from testops_lib.run.scope import in_scope, make_contracts, make_plan
from testops_lib.run.shrink import shrink_findings
from testops_lib.run.start import read_spec, stored_spec
from testops_lib.settings import Settings
from testops_lib.store import Store
from testops_lib.suite import Member, regression_key
from testops_lib.target import RunConf


class Regeneration(Value, frozen=True, kw_only=True):
    """What came of generating again."""

    source: str
    operations: int
    cases: int
    calls: int
    notes: tuple[str, ...] = ()


def regenerate(
    settings: Settings,
    target: str,
    *,
    operations: Sequence[str] = (),
    cases: Sequence[str] = (),
    sources: Sequence[str] = (),
    instruction: str = "",
) -> list[Regeneration]:
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
    chosen = {source: {operation.key for operation in scope} for source in resolved.generate.sources}
    if cases:
        members = find_members(settings, cases)
        foreign = [member for member in members if member.suite != suite]
        if foreign:
            raise StoreError(f"belongs to {foreign[0].suite}", where=f"case {foreign[0].id}", next_step="choose others")
        replaces = {member.id for member in members}
        chosen = {
            source: {member.operation for member in members if member.source == source}
            for source in dict.fromkeys(member.source for member in members)
            if not sources or source in sources
        }
    done = []
    with Store(settings.need_dsn()) as store:
        for source, keys in chosen.items():
            wanted = [operation for operation in scope if operation.key in keys]
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
            made = refresh(store, suite, source, ask, again=True, replaces=replaces, instruction=instruction)
            done.append(
                Regeneration(
                    source=source,
                    operations=len(wanted),
                    cases=made.cases,
                    calls=made.calls,
                    notes=(*made.notes, *(f"dropped {count}: {why}" for why, count in made.dropped.items())),
                )
            )
    return done


class ShrunkRegression(Value, frozen=True, kw_only=True):
    """A regression that is smaller now."""

    member: Member
    message: str
    """How it fails."""
    curl: str


def shrink_regressions(
    settings: Settings,
    run: str,
    attempts: Callable[[Plan, Mapping[str, Contract]], Callable[[Case], Result | None]],
    *,
    who: str,
    why: str,
) -> list[ShrunkRegression]:
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
        members = [member for member in store.members(about.suite, source="property") if member.key in findings_by_key]
        examples = {findings_by_key[member.key].example.case for member in members}
        cases = store.cases(examples)
        failed = [result for result in store.results(run) if result.case in examples and result.verdict == "failed"]
    findings = tuple(findings_by_key[member.key] for member in members)
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
            after = change_member(store, member, smaller, who=who, why=why, what="shrunk", cases=[case])
        done.append(ShrunkRegression(member=after, message=finding.message, curl=finding.example.curl))
    return done
