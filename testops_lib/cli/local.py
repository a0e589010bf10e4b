"""`try`, `generate`, `shrink`: from a document to findings on a developer's machine, without any server of ours."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec

from testops_lib import report as reporting
from testops_lib import spec as specs
from testops_lib.cli.case_stream import CaseStream, plan_request
from testops_lib.cli.document import load_document
from testops_lib.cli.exit_codes import COULD_NOT_RUN, FINDINGS, NOTHING_FOUND
from testops_lib.cli.lines import About, Line, read, write, write_cases, write_evidence, write_results
from testops_lib.cli.output import FINDINGS_FILE, say
from testops_lib.cli.results import outcome
from testops_lib.cli.sending import (
    execute_all,
    identities,
    new_run_id,
    policy_of,
    private,
    proxy_of,
    tls_of,
    tries,
)
from testops_lib.cost import in_words
from testops_lib.errors import CaseError, SettingsError, TestOpsError
from testops_lib.generate import Generated
from testops_lib.generate.sources import make_all, plan_all, summarize
from testops_lib.model import Case, Contract, Identity, Plan, Policy, Report, Tls
from testops_lib.run.report import build_report, with_recipes, write_report
from testops_lib.run.scope import arrange, documented, in_scope, make_contracts, make_plan, not_tested
from testops_lib.run.shrink import shrink_findings
from testops_lib.spec.operation import Spec
from testops_lib.target import Generate, PropertyBased, Scope, Target
from testops_lib.text import plural
from testops_lib.verdict.repetition import Repetitions, split

_MOST_REASONS = 20
"""Operations that were not tested, as the terminal names them before the run; the report names all."""


def try_document(
    spec: str, base_url: str, options: Mapping[str, Any], *, out: Path | None, rounds: int, shrink: bool
) -> int:
    """Generates, executes and reports; gives the exit code."""
    started = datetime.now(UTC)
    policy = policy_of(options, allow_private=private(spec, base_url))
    target = _target(
        spec, base_url, options, policy=policy, identities=identities(options), tls=tls_of(options), rounds=rounds
    )
    document = load_document(spec, base_url, options)
    operations = documented(in_scope(document, target))
    contracts = make_contracts(document, target)
    run_id = new_run_id()
    stream = CaseStream(
        document,
        target,
        lambda made: _print_generations(made, stream.cases.values(), document, target),
        max_requests=options["max_requests"],
        max_time_s=options["max_time"],
    )
    plan = msgspec.structs.replace(make_plan(document, target), observe=rounds > 0 or stream.limited)
    for warning in document.warnings[:_MOST_REASONS]:
        say(f"warning: {warning}", err=True)
    say(f"{document.title}: {len(operations)} operations at {plan.base_url}", err=True)
    results, stopped = execute_all(
        plan,
        contracts,
        stream.lists,
        total=lambda: len(stream.cases),
        run_id=run_id,
        budget=(options["max_requests"], options["max_time"]),
        results=stream.results,
        repeating=Repetitions(lambda ids: stream.cases, limit=options["max_requests"]),
        proxy=proxy_of(options, plan.base_url),
    )
    cases = tuple(stream.cases.values())
    if not cases and not stopped:
        raise CaseError("no case could be made", where=document.source, next_step="see the lines above")
    about = About(
        run=run_id,
        target=target.name,
        title=document.title,
        base_url=plan.base_url,
        started=started,
        operations=operations,
        not_tested=not_tested(document, target),
        generations=tuple(stream.generations),
        concurrency=policy.concurrency,
    )
    first_executions, repetitions = split(results)
    report = build_report(
        first_executions,
        target,
        repetitions=repetitions,
        run=run_id,
        operations=operations,
        not_tested=about.not_tested,
        base_url=plan.base_url,
        title=document.title,
        generations=about.generations,
        started=started,
    )
    smallest: tuple[Case, ...] = ()
    if shrink and not stopped:
        attempt = tries(plan, contracts, run_id, options, spent=results, began=started)
        random = [result for result in first_executions if result.origin == "property"]
        report, smallest = shrink_findings(report, random, cases, document, attempt)
        stream.cases |= {case.id: case for case in smallest}
    report = with_recipes(report, stream.cases, plan.identities)
    reporting.render_terminal(report)
    if out:
        write_report(report, results, out)
        write_results(out / "results.jsonl", about, plan, contracts, cases, results)
        _write_findings(out / FINDINGS_FILE, report, plan, contracts, stream.cases)
        if smallest:
            _write_regressions(out / "regression.jsonl", report, plan, contracts, smallest)
            say(f"kept: {len(smallest)} smallest cases in {out / 'regression.jsonl'}")
        say(f"written: {out / 'report.html'}, report.json, junit.xml, wfc.json, {FINDINGS_FILE}, results.jsonl")
    return COULD_NOT_RUN if stopped else outcome(report)


def print_plan(spec: str, base_url: str, options: Mapping[str, Any]) -> int:
    """Says in a line for each source what it would take: calls, estimated tokens and money; gives the exit code."""
    target = _target(spec, base_url, options)
    for planned in plan_all(plan_request(load_document(spec, base_url, options), target)):
        if not planned.calls:
            say(f"{planned.source}: {planned.operations} operations, no call")
            continue
        say(
            f"{planned.source} ({planned.model}): {planned.operations} operations, {planned.calls} calls,"
            f" about {planned.input_tokens:,} tokens in and {planned.output_tokens:,} out,"
            f" {'about ' if planned.money is not None else ''}{in_words(planned.money, planned.currency)};"
            " repairs and thinking come on top"
        )
    return NOTHING_FOUND


def generate_cases(spec: str, base_url: str, options: Mapping[str, Any], out: Path) -> int:
    """Writes the cases for a document to a file; gives the exit code."""
    target = _target(spec, base_url, options)
    document = load_document(spec, base_url, options)
    for warning in document.warnings[:_MOST_REASONS]:
        say(f"warning: {warning}", err=True)
    made = make_all(plan_request(document, target))
    cases = arrange((case for generated in made for case in generated.cases), document, target)
    _print_generations(made, cases, document, target)
    if not cases:
        raise CaseError("no case could be made", where=document.source, next_step="see the lines above")
    operations = documented(in_scope(document, target))
    try:
        default_base_url = specs.base_url(document, spec, base_url)
    except TestOpsError:
        default_base_url = ""
    about = About(
        run="",
        target=target.name,
        title=document.title,
        operations=operations,
        not_tested=not_tested(document, target),
        generations=tuple(generated.generation for generated in made),
    )
    plan = Plan(
        target=target.name,
        base_url=default_base_url,
        policy=target.policy,
        spec_title=document.title,
        spec_hash=document.content_hash,
    )
    write_cases(out, about, plan, make_contracts(document, target), cases)
    say(f"{out}: {plural(len(cases), 'case')} for {plural(len(operations), 'operation')}")
    return NOTHING_FOUND


def shrink_failures(
    file: Path,
    cases_file: Path,
    spec: str,
    options: Mapping[str, Any],
    *,
    wanted: tuple[str, ...],
    base_url: str,
    out: Path,
) -> int:
    """Writes the smallest case of each finding, or of each wanted case, to a file; gives the exit code."""
    about, failed = About(run="", target=file.stem), []
    for line in read(file):
        about = line.about or about
        if line.result and line.result.verdict == "failed":
            failed.append(line.result)
    contracts, cases = {}, {}
    for line in read(cases_file):
        if line.contract:
            contracts[line.contract.operation] = line.contract
        if line.case:
            cases[line.case.id] = line.case
    address = (base_url or about.base_url).rstrip("/")
    if not address:
        raise SettingsError("the file names no base URL", where=str(file), next_step="give --base-url")
    chosen = [result for result in failed if result.case in cases and (not wanted or result.case.startswith(wanted))]
    if not chosen:
        raise CaseError("no such failed case", where=str(file), next_step="see `testops report` for what failed")
    policy = policy_of(options, allow_private=bool(base_url) or private(spec, base_url))
    plan = Plan(
        target=about.target, base_url=address, policy=policy, identities=identities(options), tls=tls_of(options)
    )
    proxy_of(options, address)
    report = build_report(
        chosen, Target(name=about.target, spec=""), run=about.run, operations=about.operations, title=about.title
    )
    attempt = tries(plan, contracts, new_run_id(), options, began=datetime.now(UTC))
    report, smallest = shrink_findings(report, chosen, cases.values(), specs.load(spec), attempt)
    if not smallest:
        raise TestOpsError(
            "no finding shows again", where=address, next_step="is it the same target, in the same state?"
        )
    _write_regressions(out, report, plan, contracts, smallest)
    ids = {case.id for case in smallest}
    for finding in report.findings:
        if finding.example.case in ids:
            say(f"{finding.operation}: {finding.check}: {finding.message}\n  {finding.example.curl}")
    say(f"{out}: {plural(len(smallest), 'case')}")
    return FINDINGS


def _target(
    spec: str,
    base_url: str,
    options: Mapping[str, Any],
    *,
    policy: Policy | None = None,
    identities: tuple[Identity, ...] = (),
    tls: Tls | None = None,
    rounds: int = 0,
) -> Target:
    """The target that the options describe, as a target file would."""
    sources, imports = options["sources"], options["imports"]
    return Target(
        name=re.sub(r"[^A-Za-z0-9]+", "-", Path(spec).stem).strip("-") or "api",
        spec=spec,
        base_url=base_url.rstrip("/"),
        identities=identities,
        tls=tls or Tls(),
        policy=msgspec.structs.replace(policy or Policy(), methods="safe" if options["safe"] else "all"),
        operations=Scope(include=options["operations"], tags=options["tag"]),
        generate=Generate(
            sources=(*sources, "import") if imports and "import" not in sources else sources,
            imports=imports,
            max_cases=options["max_cases"],
            rounds=rounds,
            property=PropertyBased(examples=options["examples"], seed=options["seed"]),
            max_tokens=options["max_tokens"],
            max_money=options["max_money"],
        ),
    )


def _print_generations(made: Sequence[Generated], cases: Iterable[Case], spec: Spec, target: Target) -> None:
    """Says how the sources worked, and which operations are not tested."""
    for generated in made:
        for line in summarize(generated.generation):
            say(line, err=True)
    steps = [step for case in cases for step in case.steps]
    planned = {step.operation for step in steps if step.operation.startswith(f"{step.request.method} ")}
    reasons = {key: why for generated in made for key, why in generated.generation.not_tested.items()}
    reasons = {key: why for key, why in (reasons | not_tested(spec, target)).items() if key not in planned}
    for key, why in list(reasons.items())[:_MOST_REASONS]:
        say(f"not tested: {key}: {why}", err=True)
    if len(reasons) > _MOST_REASONS:
        say(f"not tested: {len(reasons) - _MOST_REASONS} more operations; the report names them all", err=True)


def _write_regressions(
    path: Path, report: Report, plan: Plan, contracts: Mapping[str, Contract], cases: Iterable[Case]
) -> None:
    """A file that `testops execute` takes, without credentials."""
    about = About(run="", target=report.target, title=report.title, operations=_documented(report))
    write_cases(path, about, msgspec.structs.replace(plan, identities=(), tls=Tls()), contracts, cases)


def _write_findings(
    path: Path, report: Report, plan: Plan, contracts: Mapping[str, Contract], cases: Mapping[str, Case]
) -> None:
    """A file that `testops reproduce` takes."""
    about = About(
        run=report.run,
        target=report.target,
        title=report.title,
        base_url=report.base_url,
        operations=_documented(report),
    )
    wanted = {finding.example.case for finding in report.findings if finding.count}
    with path.open("wb") as file:
        write_evidence(file, about, plan, contracts, (cases[key] for key in sorted(wanted & cases.keys())))
        for finding in report.findings:
            write(file, Line(finding=finding))


def _documented(report: Report) -> dict[str, tuple[str, ...]]:
    return {key: operation.documented for key, operation in report.operations.items()}
