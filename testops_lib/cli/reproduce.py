"""`reproduce`: the case of a finding executed again, alone."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import click
from msgspec import structs

from testops_lib import settings as configuration
from testops_lib.cli.exit_codes import COULD_NOT_RUN, FINDINGS, NOTHING_FOUND
from testops_lib.cli.lines import About, read
from testops_lib.cli.output import FINDINGS_FILE, say
from testops_lib.cli.results import report_of
from testops_lib.cli.sending import (
    identities,
    new_run_id,
    policy_of,
    proxy_of,
)
from testops_lib.errors import CaseError, SettingsError
from testops_lib.execute import BUDGET_SPENT, Engine, run
from testops_lib.model import Case, Contract, Finding, Plan, Result, Value
from testops_lib.text import printable
from testops_lib.verdict.fingerprint import fingerprint_of


class _Known(Value, frozen=True, kw_only=True):
    """What is needed to execute the cases of findings again."""

    findings: tuple[Finding, ...]
    """Those of the run, in the report's order."""
    cases: dict[str, Case]
    contracts: dict[str, Contract]
    plan: Plan


def reproduce_findings(
    names: Sequence[str],
    options: Mapping[str, Any],
    *,
    source: Path | None,
    run_id: str,
    base_url: str,
    times: int,
    script: bool,
) -> int:
    """Executes the cases of the named findings again, and says of each whether it came back; gives the exit code."""
    evidence = _from_file(source, base_url, options) if source else _from_store(run_id, base_url, options)
    chosen = [_named(name, evidence.findings) for name in names]
    if script:
        for finding in chosen:
            if not finding.example.recipe:
                raise CaseError("has no script: its case is not known", where=finding.fingerprint)
            click.echo(finding.example.recipe, nl=False)
        return NOTHING_FOUND
    proxy = proxy_of(options, evidence.plan.base_url)
    most, until = options["max_requests"], time.monotonic() + (options["max_time"] or float("inf"))
    outcomes: list[int] = []
    results: list[Result] = []
    for finding in chosen:
        requests = most - sum(result.requests for result in results) if most else 0
        seconds = until - time.monotonic() if options["max_time"] else 0
        spent = (most and requests <= 0) or (options["max_time"] and seconds <= 0)
        left = None if spent else (requests, seconds)
        outcomes.append(_tried(finding, evidence, times, left, results, proxy))
    return FINDINGS if FINDINGS in outcomes else max(outcomes)


def _from_file(source: Path, base_url: str, options: Mapping[str, Any]) -> _Known:
    from testops_lib.run.report import with_recipes

    path = source / FINDINGS_FILE if source.is_dir() else source
    about, plan = About(run="", target=path.stem), None
    contracts: dict[str, Contract] = {}
    cases: dict[str, Case] = {}
    results: list[Result] = []
    findings: list[Finding] = []
    for line in read(path):
        about, plan = line.about or about, line.plan or plan
        if line.contract:
            contracts[line.contract.operation] = line.contract
        if line.case:
            cases[line.case.id] = line.case
        if line.result:
            results.append(line.result)
        if line.finding:
            findings.append(line.finding)
    if not findings and results:
        report = with_recipes(report_of(about, results), cases, plan.identities if plan else ())
        findings = list(report.findings)
    base = (base_url or about.base_url).rstrip("/")
    if not base:
        raise SettingsError("the file names no base URL", where=str(path), next_step="give --base-url")
    policy = policy_of(options, allow_private=True)
    sending = Plan(target=about.target, base_url=base, policy=policy, identities=identities(options))
    return _Known(findings=tuple(findings), cases=cases, contracts=contracts, plan=sending)


def _from_store(run_id: str, base_url: str, options: Mapping[str, Any]) -> _Known:
    from testops_lib.run.scope import make_contracts
    from testops_lib.run.start import resolved_run, stored_spec
    from testops_lib.store import Store

    with Store(configuration.read().need_dsn()) as store:
        run_id = run_id or store.latest_run() or ""
        report = store.report(run_id) if run_id else None
        if report is None:
            raise CaseError("there is no finished run", where=run_id, next_step="give --run or --from")
        target = resolved_run(store, run_id).target
        spec = stored_spec(store, run_id)
        cases = store.cases({finding.example.case for finding in report.findings})
    base = base_url or report.base_url
    credentials = identities(options)
    if base_url and base_url != report.base_url and target.identities and not credentials:
        raise SettingsError(
            "the target's credentials are not sent elsewhere", where=base_url, next_step="give them by -H or --auth"
        )
    policy = structs.replace(target.policy, concurrency=1, breaker_wait_s=0)
    plan = Plan(target=target.name, base_url=base, policy=policy, identities=credentials or target.identities)
    contracts = make_contracts(spec, target)
    return _Known(findings=report.findings, cases=cases, contracts=contracts, plan=plan)


def _named(name: str, findings: Sequence[Finding]) -> Finding:
    """The finding with this number among those shown, or whose fingerprint begins so.

    Raises:
        CaseError: none, or several.
    """
    shown = [finding for finding in findings if finding.state in ("new", "known")]
    if name.isascii() and name.isdigit() and len(name) < 4:
        if 1 <= int(name) <= len(shown):
            return shown[int(name) - 1]
        raise CaseError("there is no such finding", where=name, next_step=f"the report has {len(shown)}")
    matching = [finding for finding in findings if finding.fingerprint.startswith(name.lower())]
    if len(matching) != 1:
        what = "several findings begin so" if matching else "there is no such finding"
        raise CaseError(what, where=name, next_step="see fingerprints in report.json or report.html")
    return matching[0]


def _tried(
    finding: Finding, evidence: _Known, times: int, left: tuple[int, float] | None, spent: list[Result], proxy: str
) -> int:
    """Executes the finding's case and says what came of it; an exit code.

    `left`: requests and seconds, None when nothing is; the results go to `spent`.
    """
    place = f"{finding.fingerprint} {finding.check}: {finding.sent or finding.operation}"
    case = evidence.cases.get(finding.example.case)
    if case is None:
        say(f"{place}: could not be tried: its case is not known", err=True)
        return COULD_NOT_RUN
    if left is None:
        say(f"{place}: could not be tried: {BUDGET_SPENT}")
        return COULD_NOT_RUN
    engine = Engine(
        evidence.plan, evidence.contracts, run=new_run_id(), max_requests=left[0], max_time_s=left[1], proxy=proxy
    )
    results: list[Result] = []
    run(engine, [structs.replace(case, repeat=number + 1) for number in range(times)], results.append)
    spent += results
    judged = [result for result in results if _reached(finding, result)]
    back = sum(_shows(finding, result) for result in judged)
    for result in results[-1:]:
        say("\n".join(_steps(result, back > 0)))
    if not judged:
        reason = next((result.reason for result in results if result.reason), "it did not get as far")
        say(f"{place}: could not be tried: {reason}")
        return COULD_NOT_RUN
    say(f"{place}: {'reproduced' if back else 'not reproduced'} ({back} of {len(judged)})")
    return FINDINGS if back else NOTHING_FOUND


def _reached(finding: Finding, result: Result) -> bool:
    """Whether the execution can tell: it was judged as far as the request that failed."""
    judged = result.verdict in ("passed", "failed")
    return _shows(finding, result) or (judged and any(step.operation == finding.operation for step in result.steps))


def _shows(finding: Finding, result: Result) -> bool:
    wanted = {finding.fingerprint, *finding.folded}
    return any(
        fingerprint_of(failure) in wanted
        or (failure.check, failure.operation, failure.sent) == (finding.check, finding.operation, finding.sent)
        for failure in result.failures
    )


def _steps(result: Result, back: bool) -> Iterable[str]:
    for number, step in enumerate(result.steps, 1):
        yield f"  {number}. {step.sent or step.operation}: {step.status or printable(step.error)}"
    for failure in result.failures:
        yield f"  step {failure.step + 1}: {failure.check}: {failure.message}"
