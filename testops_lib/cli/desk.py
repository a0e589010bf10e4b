"""`try`, `generate`, `execute`, `report`: the loop at a developer's desk, without Airflow, Kafka or a database."""

from __future__ import annotations

import re
import signal
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import reduce
from pathlib import Path
from typing import IO, Any

import click
import msgspec

from testops_lib import differ, pipeline
from testops_lib import export as exporting
from testops_lib import report as reporting
from testops_lib import settings as configuration
from testops_lib import spec as specs
from testops_lib import target as targets
from testops_lib.cost import in_words
from testops_lib.errors import CaseError, SettingsError, TestOpsError
from testops_lib.execute import Engine, run
from testops_lib.feedback import MAX_ROUNDS, learn
from testops_lib.model import Case, Contract, Generation, Identity, Plan, Policy, Report, Result, Value
from testops_lib.spec.operation import Spec
from testops_lib.target import Generate, PropertyBased, Scope, Target

_STOP_S = 1.0
"""What is in flight when somebody stops it may take this long; then comes its cleanup."""

NOTHING_FOUND, FINDINGS, COULD_NOT_RUN = 0, 1, 2


class About(Value, frozen=True, kw_only=True):
    """Head of a results file: what the results are of."""

    run: str
    target: str
    title: str = ""
    base_url: str = ""
    started: datetime | None = None
    operations: dict[str, tuple[str, ...]] = msgspec.field(default_factory=dict)
    """In scope, with their documented statuses."""
    generations: tuple[Generation, ...] = ()


class Line(Value, frozen=True, kw_only=True):
    """One line of a `.jsonl` file of ours: exactly one member is given."""

    about: About | None = None
    plan: Plan | None = None
    contract: Contract | None = None
    case: Case | None = None
    result: Result | None = None


def _write(file: IO[bytes], line: Line) -> None:
    file.write(msgspec.json.encode(line) + b"\n")


def _lines(path: Path) -> Iterator[Line]:
    decoder = msgspec.json.Decoder(Line)
    with path.open("rb") as file:
        for number, text in enumerate(file, 1):
            if not text.strip():
                continue
            try:
                yield decoder.decode(text)
            except msgspec.DecodeError as error:
                raise CaseError(
                    str(error), where=f"{path}:{number}", next_step="one document a line: docs/case.schema.json"
                ) from error


# --------------------------------------------------------------------------- options in common


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


def _send_options(command: Any) -> Any:
    for option in reversed(
        (
            click.option(
                "--header",
                "-H",
                "headers",
                multiple=True,
                metavar="'NAME: VALUE'",
                help="Sent with every request; repeatable. Kept out of every report.",
            ),
            click.option(
                "--query",
                "-Q",
                "queries",
                multiple=True,
                metavar="NAME=VALUE",
                help="A credential in the query of every request; repeatable. Kept out of every report.",
            ),
            click.option(
                "--auth",
                type=click.Path(path_type=Path, exists=True, dir_okay=False),
                help="Web Fuzzing Commons authentication file: users, logins.",
            ),
            click.option(
                "--max-requests",
                type=click.IntRange(0),
                default=0,
                help="Stop after this many requests, exactly. 0: no limit.",
            ),
            click.option(
                "--max-time",
                type=click.FloatRange(0),
                default=0,
                metavar="SECONDS",
                help="Start nothing after this time. 0: no limit.",
            ),
            click.option(
                "--max-response-ms",
                type=click.IntRange(0),
                default=0,
                help="Slower answers to valid requests are findings. 0: any.",
            ),
            click.option(
                "--concurrency",
                type=click.IntRange(1, 256),
                default=8,
                show_default=True,
                help="Cases at the same time.",
            ),
            click.option(
                "--rate",
                type=click.FloatRange(0),
                default=0,
                metavar="PER_SECOND",
                help="Most requests a second. 0: no limit.",
            ),
            click.option("--insecure", is_flag=True, help="Do not verify TLS certificates."),
        )
    ):
        command = option(command)
    return command


def _identities(options: Mapping[str, Any]) -> tuple[Identity, ...]:
    users = targets.load_auth(options["auth"]) if options["auth"] else ()
    headers, query = [], []
    for header in options["headers"]:
        name, colon, value = header.partition(":")
        if not colon or not re.fullmatch(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+", name.strip()):
            raise SettingsError(f"{name!r} is no header", where="-H", next_step="write -H 'Authorization: Bearer …'")
        headers.append((name.strip(), value.strip()))
    for pair in options["queries"]:
        name, equals, value = pair.partition("=")
        if not equals or not name:
            raise SettingsError("is no query parameter", where="-Q", next_step="write -Q api_key=…")
        query.append((name, value))
    if not headers and not query:
        return users
    return tuple(
        msgspec.structs.replace(user, headers=(*user.headers, *headers), query=(*user.query, *query))
        for user in users or (Identity(name="default"),)
    )


def _private(spec: str, base_url: str) -> bool:
    """At the desk loopback and private addresses are fine, unless a document from elsewhere points there by itself."""
    from urllib.parse import urlsplit

    from testops_lib.address import refusal

    if base_url or "://" not in spec:
        return True
    host = urlsplit(spec).hostname or ""
    return host == "localhost" or bool(refusal(host, allow_private=False) and not refusal(host, allow_private=True))


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
) -> Target:
    return Target(
        name=re.sub(r"[^A-Za-z0-9]+", "-", Path(spec).stem).strip("-") or "api",
        spec=spec,
        base_url=base_url.rstrip("/"),
        identities=identities,
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


def _policy(options: Mapping[str, Any], *, allow_private: bool) -> Policy:
    return Policy(
        breaker_wait_s=0,
        allow_private=allow_private,
        concurrency=options["concurrency"],
        requests_per_second=options["rate"],
        max_response_ms=options["max_response_ms"],
        verify_tls=not options["insecure"],
    )


class _Budget:
    """What may be sent in all, and for how long: the limits hold exactly, over any number of executions."""

    def __init__(self, options: Mapping[str, Any]) -> None:
        self._requests, self._seconds = int(options["max_requests"]), float(options["max_time"])
        self._begun = time.monotonic()

    def left(self, results: Iterable[Result]) -> tuple[int, float] | None:
        """Requests and seconds that are left, 0: no limit; None: nothing is left."""
        requests = self._requests - sum(result.requests for result in results) if self._requests else 0
        seconds = self._begun + self._seconds - time.monotonic() if self._seconds else 0
        spent = (self._requests and requests <= 0) or (self._seconds and seconds <= 0)
        return None if spent else (requests, seconds)


def _make(spec: Spec, target: Target) -> tuple[tuple[Case, ...], tuple[Generation, ...]]:
    for warning in spec.warnings[:20]:
        click.echo(f"warning: {warning}", err=True)
    for key, why in list(spec.unusable.items())[:20]:
        click.echo(f"left out: {key}: {why}", err=True)
    made = pipeline.make_cases(spec, pipeline.in_scope(spec, target), target, configuration.read())
    cases = pipeline.suite((case for each in made for case in each.cases), spec, target)
    for each in made:
        for line in pipeline.told_of(each.generation):
            click.echo(line, err=True)
    if not cases:
        raise CaseError("no case could be made", where=spec.source, next_step="see the warnings above")
    return cases, tuple(each.generation for each in made)


def _tell_plan(spec: Spec, target: Target) -> None:
    """A line for each source: calls, estimated tokens and money."""
    scope = pipeline.in_scope(spec, target)
    for each in pipeline.plan_calls(spec, scope, target, configuration.read()):
        if not each.calls:
            click.echo(f"{each.source}: {len(scope)} operations, no call")
            continue
        click.echo(
            f"{each.source} ({each.model}): {each.operations} operations, {each.calls} calls,"
            f" about {each.input_tokens:,} tokens in and {each.output_tokens:,} out,"
            f" {'about ' if each.money is not None else ''}{in_words(each.money, each.currency)};"
            " repairs and thinking come on top"
        )


# --------------------------------------------------------------------------- executing with progress


@contextmanager
def _progress(total: int) -> Iterator[Any]:
    """A function that takes each result: a bar on a terminal, a plain line every tenth part otherwise."""
    started, done, failed = time.monotonic(), 0, 0
    if not sys.stderr.isatty():
        step = max(1, total // 10)

        def plain(result: Result) -> None:
            nonlocal done, failed
            done, failed = done + 1, failed + (result.verdict == "failed")
            if done % step == 0 or done == total:
                click.echo(f"{done}/{total} cases, {failed} failed, {time.monotonic() - started:.0f} s", err=True)

        yield plain
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (TextColumn("executing"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[failed]} failed"))
    with Progress(*columns, TimeElapsedColumn(), console=Console(stderr=True)) as bar:
        task = bar.add_task("execute", total=total, failed=0)

        def rich(result: Result) -> None:
            nonlocal failed
            failed += result.verdict == "failed"
            bar.update(task, advance=1, failed=failed)

        yield rich


def _execute(
    plan: Plan,
    contracts: Mapping[str, Contract],
    cases: Iterable[Case],
    *,
    total: int,
    run_id: str,
    budget: tuple[int, float] = (0, 0),
) -> tuple[list[Result], bool]:
    """The results, and whether somebody stopped it before the end (Ctrl-C): what was created is still cleaned up."""
    engine = Engine(plan, contracts, run=run_id, max_requests=budget[0], max_time_s=budget[1])
    results: list[Result] = []
    with _progress(total) as tell:

        def on_result(result: Result) -> None:
            results.append(result)
            tell(result)

        run(engine, cases, on_result, signals=(signal.SIGINT, signal.SIGTERM), grace_s=_STOP_S)
    if engine.stopped:
        click.echo(f"stopped: {len(results)} of {total} cases were executed", err=True)
    return results, engine.stopped


def _in_rounds(
    document: Spec,
    target: Target,
    plan: Plan,
    cases: Sequence[Case],
    *,
    generations: Sequence[Generation],
    run_id: str,
    options: Mapping[str, Any],
) -> tuple[list[Result], tuple[Generation, ...], bool]:
    """The results of the cases and of those that further rounds add; what these cost; whether somebody stopped it.

    What may end the session or the service runs after the last round. `generations` is what the cases cost.
    """
    contracts, budget = pipeline.contracts(document, target), _Budget(options)
    operations = pipeline.in_scope(document, target)
    results: list[Result] = []
    costs: list[Generation] = []

    def execute(wanted: Sequence[Case]) -> bool:
        left = budget.left(results)
        if not wanted or left is None:
            return False
        found, stopped = _execute(plan, contracts, wanted, total=len(wanted), run_id=run_id, budget=left)
        results.extend(found)
        return stopped

    rounds = options["rounds"]
    if not rounds:
        return results, (), execute(cases)
    known, explored = {case.id for case in cases}, -1
    last = [case for case in cases if case.last]
    stopped = execute([case for case in cases if not case.last])
    for turn in range(1, rounds + 1):
        told = learn(results, pipeline.documented(operations))
        if stopped or not told.gaps or told.explored <= explored:
            break
        explored = told.explored
        left = reduce(pipeline.less, (*generations, *costs), pipeline.caps(target))
        made = pipeline.make_cases(document, operations, target, configuration.read(), told, limit=left)
        costs += [each.generation for each in made]
        suite = pipeline.suite((case for each in made for case in each.cases), document, target)
        fresh = [case for case in suite if case.id not in known]
        if not fresh:
            break
        known.update(case.id for case in fresh)
        click.echo(f"round {turn}: {len(fresh)} further cases for {len(told.gaps)} operations", err=True)
        last += [case for case in fresh if case.last]
        stopped = execute([case for case in fresh if not case.last])
    return results, tuple(costs), stopped or execute(last)


def _attempts(
    plan: Plan, contracts: Mapping[str, Contract], run_id: str, options: Any, *,
    spent: Iterable[Result] = (), began: datetime | None = None,
) -> Callable[[Case], Result | None]:  # fmt: skip
    """What executes one case within what is left of the options' requests and time; None when nothing is."""
    from testops_lib.shrink import attempts

    most, seconds = options["max_requests"], options["max_time"]
    left = most - sum(result.requests for result in spent) if most else 0
    if most and left <= 0:
        return lambda case: None
    passed = (datetime.now(UTC) - began).total_seconds() if began else 0.0
    until = time.monotonic() + seconds - passed if seconds else float("inf")
    execute_one = attempts(Engine(plan, contracts, run=f"{run_id}-shrink", max_requests=left))
    return lambda case: execute_one(case) if time.monotonic() < until else None


def _write_cases(
    path: Path, report: Report, plan: Plan, contracts: Mapping[str, Contract], cases: Iterable[Case]
) -> None:
    """A file that `testops execute` takes."""
    scope = {key: each.documented for key, each in report.operations.items()}
    kept = list(cases)
    used = {step.operation for case in kept for step in (*case.steps, *case.cleanup)}
    with path.open("wb") as file:
        _write(file, Line(about=About(run="", target=report.target, title=report.title, operations=scope)))
        _write(file, Line(plan=msgspec.structs.replace(plan, identities=())))
        for key in contracts.keys() & used:
            _write(file, Line(contract=contracts[key]))
        for case in kept:
            _write(file, Line(case=case))


def _run_id() -> str:
    return datetime.now(UTC).strftime("desk-%Y%m%dT%H%M%S.%fZ")


def _outcome(report: Report) -> int:
    executed = report.totals.results.get("passed", 0) + report.totals.results.get("failed", 0)
    if not executed:
        why = "; ".join(f"{count} × {reason}" for reason, count in report.errors.items()) or "no case ran"
        raise TestOpsError(
            f"nothing could be tested: {why}", where=report.base_url, next_step="is it up, and is --base-url right?"
        )
    return NOTHING_FOUND if report.gate is not None and report.gate.passed else FINDINGS


# --------------------------------------------------------------------------- commands


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
    "--base-url", default="", metavar="URL", help="Where the API answers. Default: the document's first server."
)
@click.option(
    "--out",
    type=click.Path(path_type=Path, file_okay=False),
    help="Directory for report.json, report.html, junit.xml, wfc.json.",
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
@_send_options
def try_(spec: str, base_url: str, out: Path | None, shrink: bool, **options: Any) -> int:
    """Generate, execute and report in one go. SPEC is an OpenAPI document: a URL or a file."""
    started = datetime.now(UTC)
    policy = _policy(options, allow_private=_private(spec, base_url))
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
        identities=_identities(options),
    )
    document = specs.load(spec)
    plan = msgspec.structs.replace(pipeline.plan(document, target), observe=options["rounds"] > 0)
    cases, generations = _make(document, target)
    click.echo(f"{document.title}: {len(cases)} cases against {plan.base_url}", err=True)
    run_id = _run_id()
    results, further, stopped = _in_rounds(
        document, target, plan, cases, generations=generations, run_id=run_id, options=options
    )
    report = pipeline.build_report(
        results,
        target,
        run=run_id,
        operations=pipeline.documented(pipeline.in_scope(document, target)),
        base_url=plan.base_url,
        title=document.title,
        generations=(*generations, *further),
        started=started,
    )
    kept: tuple[Case, ...] = ()
    if shrink and not stopped:
        attempt = _attempts(plan, pipeline.contracts(document, target), run_id, options, spent=results, began=started)
        random = [result for result in results if result.origin == "property"]
        report, kept = pipeline.shrink_findings(report, random, cases, document, attempt)
    reporting.render_terminal(report)
    if out:
        pipeline.write_report(report, results, out)
        if kept:
            _write_cases(out / "regression.jsonl", report, plan, pipeline.contracts(document, target), kept)
            click.echo(f"kept: {len(kept)} smallest cases in {out / 'regression.jsonl'}")
        click.echo(f"written: {out / 'report.html'}, report.json, junit.xml, wfc.json")
    return COULD_NOT_RUN if stopped else _outcome(report)


@click.command(
    epilog="""
\b
Examples:
  testops generate --spec openapi.yaml --out cases.jsonl
  testops generate --spec openapi.yaml --source rules --source gemini --plan
"""
)
@click.option("--spec", required=True, metavar="SPEC", help="OpenAPI document: URL or file.")
@click.option("--base-url", default="", metavar="URL", help="Written into the file as the default.")
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
    document = specs.load(spec)
    if out is None:
        _tell_plan(document, target)
        return 0
    cases, generations = _make(document, target)
    scope = pipeline.documented(pipeline.in_scope(document, target))
    about = About(run="", target=target.name, title=document.title, operations=scope, generations=generations)
    known = pipeline.contracts(document, target)
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
        _write(file, Line(about=about))
        _write(file, Line(plan=plan))
        for key, contract in known.items():
            if key in used:
                _write(file, Line(contract=contract))
        for case in cases:
            _write(file, Line(case=case))
    click.echo(f"{out}: {len(cases)} cases for {len(scope)} operations")
    return 0


@click.command(
    epilog="\b\nExample:\n  testops execute cases.jsonl --base-url http://127.0.0.1:8000 --out results.jsonl\n"
)
@click.argument("file", type=click.Path(path_type=Path, exists=True, dir_okay=False), metavar="CASES.JSONL")
@click.option("--base-url", default="", metavar="URL", help="Where the API answers. Default: as the cases file says.")
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False), required=True, help="The results file.")
@click.option("--observe", is_flag=True, help="Keep what the answers held, redacted: for `testops diff`.")
@_send_options
def execute(file: Path, base_url: str, out: Path, observe: bool, **options: Any) -> int:
    """Execute a file of cases and write the results."""
    about, plan, contracts, cases = About(run="", target=file.stem), None, {}, []
    for line in _lines(file):
        about, plan = line.about or about, line.plan or plan
        if line.contract:
            contracts[line.contract.operation] = line.contract
        if line.case:
            cases.append(line.case)
    base = (base_url or (plan.base_url if plan else "")).rstrip("/")
    if not base:
        raise SettingsError("the file names no base URL", where=str(file), next_step="give --base-url")
    policy = _policy(options, allow_private=bool(base_url))
    sending = Plan(target=about.target, base_url=base, policy=policy, identities=_identities(options), observe=observe)
    run_id, started = _run_id(), datetime.now(UTC)
    whole = _Budget(options).left(()) or (0, 0)
    results, stopped = _execute(sending, contracts, cases, total=len(cases), run_id=run_id, budget=whole)
    with out.open("wb") as sink:
        _write(sink, Line(about=msgspec.structs.replace(about, run=run_id, base_url=base, started=started)))
        for result in results:
            _write(sink, Line(result=result))
    failed = sum(result.verdict == "failed" for result in results)
    click.echo(f"{out}: {len(results)} results, {failed} failed")
    if not stopped and not any(result.verdict in ("passed", "failed") for result in results):
        raise TestOpsError("no case could be executed", where=base, next_step="is it up, and is --base-url right?")
    if stopped:
        return COULD_NOT_RUN
    return FINDINGS if failed else NOTHING_FOUND


@click.command(epilog="\b\nExample:\n  testops report results.jsonl --format html --out report.html\n")
@click.argument("file", type=click.Path(path_type=Path, exists=True, dir_okay=False), metavar="RESULTS.JSONL")
@click.option(
    "--format",
    "form",
    type=click.Choice(["terminal", "json", "junit", "html", "wfc"]),
    default="terminal",
    show_default=True,
)
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False), help="Default: standard output.")
def report(file: Path, form: str, out: Path | None) -> int:
    """Turn a results file into a report."""
    about, results = _results(file)
    built = _report_of(about, results)
    if form == "terminal":
        reporting.render_terminal(built)
        return _outcome(built)
    renderings: dict[str, Callable[[], bytes]] = {
        "json": lambda: reporting.render_json(built),
        "junit": lambda: reporting.render_junit(built, results),
        "html": lambda: reporting.render_html(built).encode(),
        "wfc": lambda: reporting.render_wfc(built, results),
    }
    rendered = renderings[form]()
    if out:
        out.write_bytes(rendered)
    else:
        sys.stdout.buffer.write(rendered)
    return _outcome(built)


def _results(file: Path) -> tuple[About, list[Result]]:
    """Head and results of a results file."""
    about, results = None, []
    for line in _lines(file):
        about = line.about or about
        if line.result:
            results.append(line.result)
    if about is None:
        raise CaseError("has no head line", where=str(file), next_step="give a file that `testops execute` wrote")
    return about, results


def _report_of(about: About, results: Sequence[Result]) -> Report:
    return pipeline.build_report(
        results,
        Target(name=about.target, spec=""),
        run=about.run,
        operations=about.operations,
        base_url=about.base_url,
        title=about.title,
        generations=about.generations,
        started=about.started,
    )


@click.command(
    epilog="""
\b
Example:
  testops execute cases.jsonl --base-url https://live.example.com --observe --out before.jsonl
  testops execute cases.jsonl --base-url https://staging.example.com --observe --out after.jsonl
  testops diff before.jsonl after.jsonl --out changes
"""
)
@click.argument("before", type=click.Path(path_type=Path, exists=True, dir_okay=False), metavar="BEFORE.JSONL")
@click.argument("after", type=click.Path(path_type=Path, exists=True, dir_okay=False), metavar="AFTER.JSONL")
@click.option("--out", type=click.Path(path_type=Path, file_okay=False), help="Directory for the report's files.")
def diff(before: Path, after: Path, out: Path | None) -> int:
    """Report what the second execution of the same cases was answered differently.

    Ids, times and the order of lists may differ. What failed in the same way before is left out. Exit code 1: something
    differs that does not rest on a guess.
    """
    (_, earlier), (about, later) = _results(before), _results(after)
    known = {result.case: result for result in earlier}
    if not known.keys() & {result.case for result in later}:
        raise CaseError("has no case in common with the other", where=str(after), next_step="execute the same cases")
    if not any(step.seen for result in (*earlier, *later) for step in result.steps):
        click.echo("only statuses are compared: execute with --observe to compare what the answers hold", err=True)
    results = differ.judged(known, (result for result in later if result.case in known))
    built = _report_of(about, results)
    reporting.render_terminal(built)
    if out:
        pipeline.write_report(built, results, out)
        click.echo(f"written: {out / 'report.html'}, report.json, junit.xml, wfc.json")
    return _outcome(built)


_ONE_FILE_A_CASE: dict[str, tuple[Callable[[Case, str], str], str]] = {
    "curl": (exporting.curl_case, "{}.sh"),
    "pytest": (exporting.pytest_source, "test_{}.py"),
    "hurl": (lambda case, base_url: exporting.hurl(case), "{}.hurl"),
    "k6": (exporting.k6, "{}.js"),
}
"""Format -> what writes a case, and its file's name."""


@click.command(
    epilog="""
\b
Examples:
  testops export cases.jsonl --format pytest --out generated/
  testops export cases.jsonl --format postman --out shop.postman_collection.json
  testops export cases.jsonl --format arazzo --spec openapi.yaml --out shop.arazzo.json
  testops export results.jsonl --format har --out failures.har
"""
)
@click.argument("file", type=click.Path(path_type=Path, exists=True, dir_okay=False), metavar="FILE.JSONL")
@click.option(
    "--format",
    "form",
    type=click.Choice([*_ONE_FILE_A_CASE, "postman", "arazzo", "har"]),
    default="curl",
    show_default=True,
    help="har: the evidence of a results file; the others: the cases of a cases file.",
)
@click.option("--base-url", default="", metavar="URL", help="Where the API answers. Default: as the cases file says.")
@click.option("--spec", default="", metavar="SPEC", help="arazzo: the OpenAPI document that the description refers to.")
@click.option("--case", "wanted", multiple=True, metavar="ID", help="Only cases whose id begins so; repeatable.")
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    help="curl, pytest, hurl, k6: a directory, one file a case; the others: a file. Default: standard output.",
)
def export(file: Path, form: str, base_url: str, spec: str, wanted: tuple[str, ...], out: Path | None) -> int:
    """Write cases or evidence in the form of another tool, for reading and debugging. Nothing is executed."""
    base, title, cases, results = base_url.rstrip("/"), file.stem, [], []
    for line in _lines(file):
        base = base or (line.plan.base_url if line.plan else "")
        title = line.about.title or title if line.about else title
        if line.case and (not wanted or line.case.id.startswith(wanted)):
            cases.append(line.case)
        if line.result and (not wanted or line.result.case.startswith(wanted)):
            results.append(line.result)
    if not (results if form == "har" else cases):
        missing = "results: give a file that `testops execute` wrote" if form == "har" else "such case"
        raise CaseError(f"has no {missing}", where=str(file), next_step="leave out --case to take all")
    if not base and form not in ("har", "arazzo"):
        raise SettingsError("the file names no base URL", where=str(file), next_step="give --base-url")
    if form in _ONE_FILE_A_CASE:
        _export_each(form, cases, base, file, out)
        return 0
    if form == "har":
        data = exporting.har(results)
    elif form == "postman":
        data = exporting.postman(cases, base, name=title)
    else:
        if not spec:
            raise SettingsError("needs to know the document", where="--format arazzo", next_step="give --spec")
        ids = {each.key: each.operation_id for each in specs.load(spec).operations if each.operation_id}
        told = exporting.arazzo(cases, spec, title=title, operation_ids=ids)
        for case, why in told.left_out.items():
            click.echo(f"left out: {case}: {why}", err=True)
        if not told.document["workflows"]:
            raise CaseError("none of the cases can be said in Arazzo", where=str(file), next_step="see the lines above")
        data = msgspec.json.format(msgspec.json.encode(told.document), indent=2)
    if out:
        out.write_bytes(data)
        click.echo(f"written: {out}")
    else:
        sys.stdout.buffer.write(data + b"\n")
    return 0


def _export_each(form: str, cases: Sequence[Case], base: str, file: Path, out: Path | None) -> None:
    render, name = _ONE_FILE_A_CASE[form]
    if out:
        out.mkdir(parents=True, exist_ok=True)
        for case in cases:
            (out / name.format(case.id)).write_text(render(case, base), "utf-8")
        click.echo(f"{out}: {len(cases)} files")
    elif form != "curl" and len(cases) > 1:
        raise SettingsError(f"{len(cases)} cases", where=str(file), next_step="choose one by --case, or give --out")
    else:
        click.echo("\n".join(render(case, base) for case in cases), nl=False)


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
@click.option("--base-url", default="", metavar="URL", help="Where the API answers. Default: as the results say.")
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False), required=True, help="The smallest cases.")
@_send_options
def shrink(
    file: Path, cases_file: Path, spec: str, wanted: tuple[str, ...], base_url: str, out: Path, **options: Any
) -> int:
    """Find the smallest case for each finding, by trying, and write them to a file that `testops execute` takes.

    Without --case: one case of each finding.
    """
    about, results = About(run="", target=file.stem), []
    for line in _lines(file):
        about = line.about or about
        if line.result and line.result.verdict == "failed":
            results.append(line.result)
    contracts, cases = {}, {}
    for line in _lines(cases_file):
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
    policy = _policy(options, allow_private=bool(base_url) or _private(spec, base_url))
    plan = Plan(target=about.target, base_url=base, policy=policy, identities=_identities(options))
    report = pipeline.build_report(
        chosen, Target(name=about.target, spec=""), run=about.run, operations=about.operations, title=about.title
    )
    began = datetime.now(UTC)
    attempt = _attempts(plan, contracts, _run_id(), options, began=began)
    small, kept = pipeline.shrink_findings(report, chosen, cases.values(), specs.load(spec), attempt)
    if not kept:
        raise TestOpsError("no finding shows again", where=base, next_step="is it the same target, in the same state?")
    _write_cases(out, small, plan, contracts, kept)
    smallest = {case.id for case in kept}
    for finding in small.findings:
        if finding.example.case in smallest:
            click.echo(f"{finding.operation}: {finding.check}: {finding.message}\n  {finding.example.curl}")
    click.echo(f"{out}: {len(kept)} cases")
    return FINDINGS
