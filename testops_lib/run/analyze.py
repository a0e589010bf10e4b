"""The stages `analyze` and `gate`: results -> the stored report, and its verdict."""

from __future__ import annotations

import logging
import os
import re
import shutil
from collections.abc import Collection, Sequence
from datetime import UTC, datetime
from typing import Literal

import msgspec

from testops_lib import suite as suites
from testops_lib.errors import SettingsError
from testops_lib.model import Generation, Report, Value
from testops_lib.run.report import build_report, with_recipes, write_report
from testops_lib.run.scope import documented, in_scope, not_tested
from testops_lib.run.start import resolved_run, stored_spec
from testops_lib.settings import Settings
from testops_lib.store import Store
from testops_lib.target import Target
from testops_lib.text import printable
from testops_lib.verdict.attempts import settle
from testops_lib.verdict.response_times import RUNS

_LOG = logging.getLogger(__name__)


def analyze(run: str, settings: Settings, *, causes: Collection[str] = ()) -> Report:
    """Turns the run's results into its report, judges it by its gate, stores it and writes the files.

    `causes` say why tasks of the run failed.
    """
    with Store(settings.need_dsn()) as store:
        about, target, spec = store.run(run), resolved_run(store, run).target, stored_spec(store, run)
        scope = _Scope(
            target=target.name,
            operations=documented(in_scope(spec, target)),
            not_tested=not_tested(spec, target),
            base_url=about.base_url,
            title=about.title,
            started=about.started,
        )
        report = _stored_report(store, run, target, scope, store.generations(run), causes)
        _keep(store, report, settings, latest=True)
        _promote(store, about.suite, target)
        _keep_regressions(store, about.suite, report)
    return report


def analyze_rerun(run: str, settings: Settings, *, causes: Collection[str] = ()) -> Report:
    """The report of a finished run, made anew from all attempts and judged by the gate it was opened with.

    `causes` say why tasks of the latest attempt failed. A finding whose cases passed later stays, with a note, and
    counts: what comes and goes is not fixed.

    Raises:
        SettingsError: the run has no report yet.
    """
    with Store(settings.need_dsn()) as store:
        first = store.report(run)
        if first is None:
            raise SettingsError(
                "has no report yet", where=f"run {run}", next_step="clear its task `analyze` in Airflow"
            )
        scope = _Scope(
            target=first.target,
            operations={key: operation.documented for key, operation in first.operations.items()},
            not_tested={
                key: operation.not_tested for key, operation in first.operations.items() if operation.not_tested
            },
            base_url=first.base_url,
            title=first.title,
            started=first.started,
        )
        report = _stored_report(store, run, resolved_run(store, run).target, scope, first.generation, causes)
        _keep(store, report, settings, latest=store.latest_run() == run)
    return report


class _Scope(Value, frozen=True, kw_only=True):
    """What a stored run tests, as its report states it."""

    target: str
    operations: dict[str, tuple[str, ...]]
    """Key -> documented statuses."""
    not_tested: dict[str, str]
    base_url: str
    title: str
    started: datetime | None


def _stored_report(
    store: Store,
    run: str,
    target: Target,
    scope: _Scope,
    generations: Sequence[Generation],
    causes: Collection[str],
) -> Report:
    previous = store.previous_run(scope.target, run)
    report = build_report(
        settle(store.attempts(run)),
        target,
        repetitions=store.repetitions(run),
        run=run,
        operations=scope.operations,
        not_tested=scope.not_tested,
        base_url=scope.base_url,
        title=scope.title,
        known=store.known_fingerprints(scope.target),
        previous=store.report(previous) if previous else None,
        generations=generations,
        started=scope.started,
        quarantined=store.quarantined(run),
        history=store.response_times(scope.target, run, runs=RUNS),
        causes=causes,
    )
    examples = store.cases({finding.example.case for finding in report.findings})
    return with_recipes(report, examples, target.identities)


def _keep_regressions(store: Store, named: str, report: Report) -> None:
    """Random cases that found a fault stay in the suite, whatever the random cases of another document are."""
    cases = store.cases({finding.example.case for finding in report.findings})
    with store.locked(named):
        keys = {member.key for member in store.members(named, source="property")}
        kept = suites.regressions(report.findings, cases, keys, suite=named, at=datetime.now(UTC))
        store.put_members(kept.members)
    for member in kept.members:
        _LOG.info("kept %s: %s: %s", member.id, printable(member.operation), printable(member.key))


def _promote(store: Store, named: str, target: Target) -> None:
    """Lets the guesses of cases count that passed often enough in a row, from the next run on."""
    runs = target.generate.promote_after
    if not runs:
        return
    now, why = datetime.now(UTC), f"passed in {runs} runs in a row"
    with store.locked(named):
        stable = store.stable(named, runs=runs)
        stable_cases = store.cases(stable)
        moved = [
            member for member in store.members(named) if member.status == "active" and member.current in stable_cases
        ]
        cases = {key: suites.promoted(case, "stable") for key, case in stable_cases.items()}
        store.put_cases(cases.values())
        store.put_members(
            [
                msgspec.structs.replace(member, current=cases[member.current].id, who="", why=why, changed=now)
                for member in moved
            ],
            [
                suites.Change(
                    member=member.id,
                    suite=named,
                    at=now,
                    who="",
                    what="promoted",
                    why=why,
                    before=member.current,
                    after=cases[member.current].id,
                )
                for member in moved
            ],
        )
    for member in moved:
        _LOG.info("promoted %s: %s: %s", member.id, printable(member.operation), printable(member.key))


def _keep(store: Store, report: Report, settings: Settings, *, latest: bool) -> None:
    """Stores the report and writes its files, if that is wanted; with `latest` they are what `latest` holds, too."""
    reports = settings.reports_folder()
    store.save_report(report.run, report, report.gate is not None and report.gate.passed)
    if reports is None:
        return
    folder = reports / re.sub(r"[^A-Za-z0-9_.+-]+", "_", report.run)
    write_report(report, settle(store.attempts(report.run)), folder)
    if not latest:
        return
    place = reports / "latest"
    fresh = reports / f".latest-{os.getpid()}"
    shutil.rmtree(fresh, ignore_errors=True)
    shutil.copytree(folder, fresh)
    shutil.rmtree(place, ignore_errors=True)
    fresh.rename(place)


class Outcome(Value, frozen=True, kw_only=True):
    """How a run ended. Success is `passed` and nothing else: the gate ran and passed."""

    verdict: Literal["passed", "failed", "none"]
    """none: the run came to no verdict, because it could not be done or somebody ended it."""
    reasons: tuple[str, ...] = ()
    """Of the closed gate; or why there is no verdict."""


def gate(run: str, settings: Settings) -> Outcome:
    """The stored verdict of the run, for whoever knows that it has just been analyzed."""
    with Store(settings.need_dsn()) as store:
        report = store.report(run)
    if report is None or report.gate is None:
        return Outcome(verdict="none", reasons=("the run was not analyzed",))
    return Outcome(verdict="passed" if report.gate.passed else "failed", reasons=report.gate.reasons)
