"""`try`, `generate`, `shrink`: from a document to findings at a developer's desk, without any server of ours."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click
import msgspec

from testops_lib import report as reporting
from testops_lib import settings as configuration
from testops_lib import spec as specs
from testops_lib.cli.case_stream import CaseStream, ask_for
from testops_lib.cli.document import load_document, spec_header_option
from testops_lib.cli.lines import FINDINGS_FILE, About, Line, read, write, write_evidence, write_results
from testops_lib.cli.options import BaseUrl
from testops_lib.cli.output import say
from testops_lib.cli.results import outcome
from testops_lib.cli.sending import (
    COULD_NOT_RUN,
    FINDINGS,
    execute_all,
    identities,
    new_run_id,
    policy_of,
    private,
    proxy_of,
    send_options,
    tls_of,
    tries,
)
from testops_lib.cost import in_words
from testops_lib.errors import CaseError, SettingsError, TestOpsError
from testops_lib.generate import Generated
from testops_lib.generate.sources import make_all, plan_all, summarize
from testops_lib.model import Case, Contract, Generation, Identity, Plan, Policy, Report, Tls
from testops_lib.run.report import build_report, with_recipes, write_report
from testops_lib.run.scope import arrange, documented, in_scope, make_contracts, make_plan, not_tested
from testops_lib.run.shrink import shrink_findings
from testops_lib.spec.operation import Spec
from testops_lib.target import MAX_ROUNDS, Generate, PropertyBased, Scope, Target
from testops_lib.text import plural
from testops_lib.verdict.repetition import Repetitions, split

_MOST_REASONS = 20
"""Operations that were not tested, as the terminal names them before the run; the report names all."""


def _spec_options(command: Any) -> Any:
    for option in reversed(
        (
            click.option(
                "--operations",
                "-o",
                multiple=True,
                metavar="GLOB",
                help="Only operations that match, e.g. 'GET /pets*'; repeatable.",
            ),
            spec_header_option,
            click.option("--tag", multiple=True, help="Only operations with this tag; repeatable."),
            click.option("--safe", is_flag=True, help="Only GET, HEAD and OPTIONS."),
            click.option(
                "--source",
                "sources",
                multiple=True,
                type=click.Choice(configuration.SOURCES),
                default=("rules",),
                show_default=True,
                help="Where cases come from; repeatable: --source rules --source gemini (needs GEMINI_API_KEY).",
            ),
            click.option(
                "--import",
                "imports",
                multiple=True,
                type=click.Path(exists=True, dir_okay=False),
                metavar="FILE",
                help="A HAR recording, Postman collection or Arazzo description; repeatable; adds the source import.",
            ),
            click.option("--max-cases", type=click.IntRange(0), default=0, help="The best cases up to this number."),
            click.option(
                "--examples",
                type=click.IntRange(1, 1000),
                default=10,
                show_default=True,
                help="Source property: random cases with valid data for each operation, and with invalid data.",
            ),
            click.option("--seed", type=int, default=0, help="Source property: another seed, other cases."),
            click.option(
                "--max-tokens",
                type=click.IntRange(0),
                default=0,
                help="Most tokens that language models may take. 0: no limit.",
            ),
            click.option(
                "--max-money",
                type=click.FloatRange(0),
                default=0,
                help="Most money for language models, in the currency of the prices. 0: no limit.",
            ),
        )
    ):
        command = option(command)
    return command


def _target(
    spec: str,
    base_url: str,
    *,
    operations: tuple[str, ...],
    tag: tuple[str, ...],
    safe: bool,
    sources: tuple[str, ...],
    imports: tuple[str, ...],
    max_cases: int,
    examples: int,
    seed: int,
    max_tokens: int,
    max_money: float,
    policy: Policy | None = None,
    identities: tuple[Identity, ...] = (),
    tls: Tls | None = None,
) -> Target:
    return Target(
        name=re.sub(r"[^A-Za-z0-9]+", "-", Path(spec).stem).strip("-") or "api",
        spec=spec,
        base_url=base_url.rstrip("/"),
        identities=identities,
        tls=tls or Tls(),
        policy=msgspec.structs.replace(policy or Policy(), methods="safe" if safe else "all"),
        operations=Scope(include=operations, tags=tag),
        generate=Generate(
            sources=(*sources, "import") if imports and "import" not in sources else sources,
            imports=imports,
            max_cases=max_cases,
            property=PropertyBased(examples=examples, seed=seed),
            max_tokens=max_tokens,
            max_money=max_money,
        ),
    )


def _make(spec: Spec, target: Target) -> tuple[tuple[Case, ...], tuple[Generation, ...]]:
    for warning in spec.warnings[:20]:
        say(f"warning: {warning}", err=True)
    made = make_all(ask_for(spec, target))
    cases = arrange((case for each in made for case in each.cases), spec, target)
    _tell_made(made, cases, spec, target)
    if not cases:
        raise CaseError("no case could be made", where=spec.source, next_step="see the lines above")
    return cases, tuple(each.generation for each in made)


def _tell_made(made: Sequence[Generated], cases: Iterable[Case], spec: Spec, target: Target) -> None:
    """What people should know of how the cases came to be."""
    for each in made:
        for line in summarize(each.generation):
            say(line, err=True)
    reasons = {key: why for each in made for key, why in each.generation.not_tested.items()}
    steps = [step for case in cases for step in case.steps]
    planned = {step.operation for step in steps if step.operation.startswith(f"{step.request.method} ")}
    reasons = {key: why for key, why in (reasons | not_tested(spec, target)).items() if key not in planned}
    for key, why in list(reasons.items())[:_MOST_REASONS]:
        say(f"not tested: {key}: {why}", err=True)
    if len(reasons) > _MOST_REASONS:
        say(f"not tested: {len(reasons) - _MOST_REASONS} more operations; the report names them all", err=True)


def _tell_plan(spec: Spec, target: Target) -> None:
    """A line for each source: calls, estimated tokens and money."""
    for each in plan_all(ask_for(spec, target)):
        if not each.calls:
            say(f"{each.source}: {each.operations} operations, no call")
            continue
        say(
            f"{each.source} ({each.model}): {each.operations} operations, {each.calls} calls,"
            f" about {each.input_tokens:,} tokens in and {each.output_tokens:,} out,"
            f" {'about ' if each.money is not None else ''}{in_words(each.money, each.currency)};"
            " repairs and thinking come on top"
        )


def _write_cases(
    path: Path, report: Report, plan: Plan, contracts: Mapping[str, Contract], cases: Iterable[Case]
) -> None:
    """A file that `testops execute` takes."""
    scope = {key: each.documented for key, each in report.operations.items()}
    kept = list(cases)
    used = {step.operation for case in kept for step in (*case.steps, *case.cleanup)}
    with path.open("wb") as file:
        write(file, Line(about=About(run="", target=report.target, title=report.title, operations=scope)))
        write(file, Line(plan=msgspec.structs.replace(plan, identities=(), tls=Tls())))
        for key in contracts.keys() & used:
            write(file, Line(contract=contracts[key]))
        for case in kept:
            write(file, Line(case=case))


def _write_findings(
    path: Path, report: Report, plan: Plan, contracts: Mapping[str, Contract], cases: Mapping[str, Case]
) -> None:
    """A file that `testops reproduce` takes."""
    scope = {key: each.documented for key, each in report.operations.items()}
    about = About(run=report.run, target=report.target, title=report.title, base_url=report.base_url, operations=scope)
    wanted = {finding.example.case for finding in report.findings if finding.count}
    with path.open("wb") as file:
        write_evidence(file, about, plan, contracts, (cases[key] for key in sorted(wanted & cases.keys())))
        for finding in report.findings:
            write(file, Line(finding=finding))


@click.command(
    "try",
    epilog="""
\b
Examples:
  testops try https://api.example.com/openapi.json
  testops try openapi.yaml --base-url http://127.0.0.1:8000 -H 'Authorization: Bearer …'
  testops try openapi.yaml --base-url http://127.0.0.1:8000 --auth users.yaml --max-requests 500 --out report
""",
)
@click.argument("spec", metavar="SPEC")
@click.option(
    "--base-url",
    type=BaseUrl(),
    default="",
    metavar="URL",
    help="Where the API answers. Default: the document's first server.",
)
@click.option(
    "--out",
    type=click.Path(path_type=Path, file_okay=False),
    help=f"Directory for report.json, report.html, junit.xml, wfc.json, {FINDINGS_FILE}, results.jsonl.",
)
@click.option(
    "--rounds",
    type=click.IntRange(0, MAX_ROUNDS),
    default=0,
    show_default=True,
    help="Further rounds for operations without a 2xx and for statuses nobody saw, with what the answers told.",
)
@click.option("--shrink", is_flag=True, help="Finds the smallest request for each finding of a random case.")
@_spec_options
@send_options
def try_(spec: str, base_url: str, out: Path | None, shrink: bool, **options: Any) -> int:
    """Generate, execute and report in one go. SPEC is an OpenAPI document: a URL or a file."""
    started = datetime.now(UTC)
    policy = policy_of(options, allow_private=private(spec, base_url))
    target = _target(
        spec,
        base_url,
        operations=options["operations"],
        tag=options["tag"],
        safe=options["safe"],
        sources=options["sources"],
        imports=options["imports"],
        max_cases=options["max_cases"],
        examples=options["examples"],
        seed=options["seed"],
        max_tokens=options["max_tokens"],
        max_money=options["max_money"],
        policy=policy,
        identities=identities(options),
        tls=tls_of(options),
    )
    document = load_document(spec, base_url, options)
    run_id = new_run_id()
    stream = CaseStream(
        document, target, options, lambda made: _tell_made(made, stream.cases.values(), document, target)
    )
    observe = options["rounds"] > 0 or stream.limited
    plan = msgspec.structs.replace(make_plan(document, target), observe=observe)
    for warning in document.warnings[:_MOST_REASONS]:
        say(f"warning: {warning}", err=True)
    say(f"{document.title}: {len(in_scope(document, target))} operations at {plan.base_url}", err=True)
    results, stopped = execute_all(
        plan,
        make_contracts(document, target),
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
    own, repeated = split(results)
    report = build_report(
        own,
        target,
        repetitions=repeated,
        run=run_id,
        operations=documented(in_scope(document, target)),
        not_tested=not_tested(document, target),
        base_url=plan.base_url,
        title=document.title,
        generations=tuple(stream.generations),
        started=started,
    )
    kept: tuple[Case, ...] = ()
    if shrink and not stopped:
        attempt = tries(plan, make_contracts(document, target), run_id, options, spent=results, began=started)
        random = [result for result in own if result.origin == "property"]
        report, kept = shrink_findings(report, random, cases, document, attempt)
        stream.cases |= {case.id: case for case in kept}
    report = with_recipes(report, stream.cases, plan.identities)
    reporting.render_terminal(report)
    if out:
        write_report(report, results, out)
        about = About(
            run=run_id,
            target=target.name,
            title=document.title,
            base_url=plan.base_url,
            started=started,
            operations=documented(in_scope(document, target)),
            not_tested=not_tested(document, target),
            generations=tuple(stream.generations),
            concurrency=policy.concurrency,
        )
        contracts = make_contracts(document, target)
        write_results(out / "results.jsonl", about, plan, contracts, cases, results)
        _write_findings(out / FINDINGS_FILE, report, plan, contracts, stream.cases)
        if kept:
            _write_cases(out / "regression.jsonl", report, plan, contracts, kept)
            say(f"kept: {len(kept)} smallest cases in {out / 'regression.jsonl'}")
        say(f"written: {out / 'report.html'}, report.json, junit.xml, wfc.json, {FINDINGS_FILE}, results.jsonl")
    return COULD_NOT_RUN if stopped else outcome(report)


@click.command(
    epilog="""
\b
Examples:
  testops generate --spec openapi.yaml --out cases.jsonl
  testops generate --spec openapi.yaml --source rules --source gemini --plan
"""
)
@click.option("--spec", required=True, metavar="SPEC", help="OpenAPI document: URL or file.")
@click.option("--base-url", type=BaseUrl(), default="", help="Written into the file as the default.")
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False), help="The cases file.")
@click.option("--plan", "only_plan", is_flag=True, help="Say what each source would take, and call nobody.")
@_spec_options
def generate(spec: str, base_url: str, out: Path | None, only_plan: bool, **options: Any) -> int:
    """Write the cases for an OpenAPI document to a file that `testops execute` takes."""
    if (out is None) != only_plan:
        raise click.UsageError("give either --out FILE or --plan")
    target = _target(
        spec,
        base_url,
        operations=options["operations"],
        tag=options["tag"],
        safe=options["safe"],
        sources=options["sources"],
        imports=options["imports"],
        max_cases=options["max_cases"],
        examples=options["examples"],
        seed=options["seed"],
        max_tokens=options["max_tokens"],
        max_money=options["max_money"],
    )
    document = load_document(spec, base_url, options)
    if out is None:
        _tell_plan(document, target)
        return 0
    cases, generations = _make(document, target)
    scope = documented(in_scope(document, target))
    about = About(
        run="",
        target=target.name,
        title=document.title,
        operations=scope,
        not_tested=not_tested(document, target),
        generations=generations,
    )
    known = make_contracts(document, target)
    used = {step.operation for case in cases for step in (*case.steps, *case.cleanup)}
    try:
        base = specs.base_url(document, spec, base_url)
    except TestOpsError:
        base = ""
    plan = Plan(
        target=target.name,
        base_url=base,
        policy=target.policy,
        spec_title=document.title,
        spec_hash=document.content_hash,
    )
    with out.open("wb") as file:
        write(file, Line(about=about))
        write(file, Line(plan=plan))
        for key, contract in known.items():
            if key in used:
                write(file, Line(contract=contract))
        for case in cases:
            write(file, Line(case=case))
    say(f"{out}: {plural(len(cases), 'case')} for {plural(len(scope), 'operation')}")
    return 0


@click.command(
    epilog="\b\nExample:\n  testops shrink results.jsonl --cases cases.jsonl --spec openapi.yaml --out small.jsonl\n"
)
@click.argument("file", type=click.Path(path_type=Path, exists=True, dir_okay=False), metavar="RESULTS.JSONL")
@click.option(
    "--cases",
    "cases_file",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    required=True,
    help="The file that was executed.",
)
@click.option("--spec", required=True, metavar="SPEC", help="The document that the cases were made from.")
@click.option("--case", "wanted", multiple=True, metavar="ID", help="Only cases whose id begins so; repeatable.")
@click.option("--base-url", type=BaseUrl(), default="", help="Where the API answers. Default: as the results say.")
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False), required=True, help="The smallest cases.")
@send_options
def shrink(
    file: Path, cases_file: Path, spec: str, wanted: tuple[str, ...], base_url: str, out: Path, **options: Any
) -> int:
    """Find the smallest case for each finding, by trying, and write them to a file that `testops execute` takes.

    Without --case: one case of each finding.
    """
    about, results = About(run="", target=file.stem), []
    for line in read(file):
        about = line.about or about
        if line.result and line.result.verdict == "failed":
            results.append(line.result)
    contracts, cases = {}, {}
    for line in read(cases_file):
        if line.contract:
            contracts[line.contract.operation] = line.contract
        if line.case:
            cases[line.case.id] = line.case
    base = (base_url or about.base_url).rstrip("/")
    if not base:
        raise SettingsError("the file names no base URL", where=str(file), next_step="give --base-url")
    chosen = [each for each in results if each.case in cases and (not wanted or each.case.startswith(wanted))]
    if not chosen:
        raise CaseError("no such failed case", where=str(file), next_step="see `testops report` for what failed")
    policy = policy_of(options, allow_private=bool(base_url) or private(spec, base_url))
    plan = Plan(target=about.target, base_url=base, policy=policy, identities=identities(options), tls=tls_of(options))
    proxy_of(options, base)
    report = build_report(
        chosen, Target(name=about.target, spec=""), run=about.run, operations=about.operations, title=about.title
    )
    began = datetime.now(UTC)
    attempt = tries(plan, contracts, new_run_id(), options, began=began)
    small, kept = shrink_findings(report, chosen, cases.values(), specs.load(spec), attempt)
    if not kept:
        raise TestOpsError("no finding shows again", where=base, next_step="is it the same target, in the same state?")
    _write_cases(out, small, plan, contracts, kept)
    smallest = {case.id for case in kept}
    for finding in small.findings:
        if finding.example.case in smallest:
            say(f"{finding.operation}: {finding.check}: {finding.message}\n  {finding.example.curl}")
    say(f"{out}: {plural(len(kept), 'case')}")
    return FINDINGS
