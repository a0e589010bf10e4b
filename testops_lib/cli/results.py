"""`report`, `diff`, `export`: what files of cases and results say, in every form."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import click
import msgspec

from testops_lib import export as exporting
from testops_lib import report as reporting
from testops_lib import settings as configuration
from testops_lib import spec as specs
from testops_lib.cli.lines import About, read
from testops_lib.cli.options import BaseUrl
from testops_lib.cli.output import say
from testops_lib.cli.sending import FINDINGS, NOTHING_FOUND
from testops_lib.errors import CaseError, SettingsError, TestOpsError
from testops_lib.model import Case, GateRules, Plan, Policy, Report, Result
from testops_lib.run.report import build_report, with_recipes, write_report
from testops_lib.target import Target
from testops_lib.text import plural
from testops_lib.verdict import differential as differ
from testops_lib.verdict.gate import blocks, global_causes
from testops_lib.verdict.repetition import split


def outcome(report: Report) -> int:
    """The exit code that a report stands for.

    Raises:
        TestOpsError: the target could not be tested (exit code 2): nothing was executed to a verdict, or one cause
            outside of the operations spoiled the run and there is no finding that counts.
    """
    executed = report.totals.results.get("passed", 0) + report.totals.results.get("failed", 0)
    causes = global_causes(report)
    if causes and not any(blocks(finding, GateRules()) for finding in report.findings):
        raise TestOpsError(f"no findings, but this could not be tested: {'; '.join(causes)}", where=report.base_url)
    if not executed:
        why = "; ".join(f"{count} × {reason}" for reason, count in report.errors.items()) or "no case ran"
        raise TestOpsError(
            f"nothing could be tested: {why}", where=report.base_url, next_step="is it up, and is --base-url right?"
        )
    return NOTHING_FOUND if report.gate is not None and report.gate.passed else FINDINGS


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
    about, results = results_in(file)
    built = report_of(about, results)
    plan, cases = cases_in(file)
    built = with_recipes(built, cases, plan.identities if plan else ())
    if form == "terminal" and out is None:
        reporting.render_terminal(built)
        return outcome(built)
    renderings: dict[str, Callable[[], bytes]] = {
        "terminal": lambda: reporting.terminal_text(built).encode(),
        "json": lambda: reporting.render_json(built),
        "junit": lambda: reporting.render_junit(built, results),
        "html": lambda: reporting.render_html(built).encode(),
        "wfc": lambda: reporting.render_wfc(built, results),
    }
    rendered = renderings[form]()
    if out:
        out.write_bytes(rendered)
        say(f"written: {out}", err=True)
    else:
        sys.stdout.buffer.write(rendered)
    return outcome(built)


def results_in(file: Path) -> tuple[About, list[Result]]:
    """Head and results of a results file."""
    about, results = None, []
    for line in read(file):
        about = line.about or about
        if line.result:
            results.append(line.result)
    if about is None:
        raise CaseError("has no head line", where=str(file), next_step="give a file that `testops execute` wrote")
    return about, results


def cases_in(file: Path) -> tuple[Plan | None, dict[str, Case]]:
    """The plan and the cases that a file holds."""
    plan, cases = None, {}
    for line in read(file):
        plan = line.plan or plan
        if line.case:
            cases[line.case.id] = line.case
    return plan, cases


def executed(name: str) -> tuple[About, list[Result]]:
    """Head and results of a results file, or of a finished run."""
    if Path(name).is_file():
        return results_in(Path(name))
    settings = configuration.read()
    if not settings.dsn:
        raise SettingsError("there is no such file", where=name, next_step="for a run's id set TESTOPS_DSN")
    from testops_lib.store import Store

    with Store(settings.dsn) as store:
        report, results = store.report(name), list(store.results(name))
    if report is None:
        raise CaseError("there is no such file, and no finished run", where=name, next_step="see Airflow for its runs")
    about = About(
        run=report.run,
        target=report.target,
        title=report.title,
        base_url=report.base_url,
        started=report.started,
        operations={key: each.documented for key, each in report.operations.items()},
        not_tested={key: each.not_tested for key, each in report.operations.items() if each.not_tested},
    )
    return about, results


def report_of(about: About, results: Sequence[Result]) -> Report:
    own, repeated = split(results)
    return build_report(
        own,
        Target(name=about.target, spec="", policy=Policy(concurrency=about.concurrency)),
        repetitions=repeated,
        run=about.run,
        operations=about.operations,
        not_tested=about.not_tested,
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
  testops diff nightly_shop_20261124T020000 nightly_shop_20261125T020000
"""
)
@click.argument("before", metavar="BEFORE")
@click.argument("after", metavar="AFTER")
@click.option("--out", type=click.Path(path_type=Path, file_okay=False), help="Directory for the report's files.")
def diff(before: str, after: str, out: Path | None) -> int:
    """Report what the second execution of the same cases was answered differently.

    BEFORE and AFTER are results files, or ids of runs (needs TESTOPS_DSN). Ids, times and the order of lists may
    differ. What failed in the same way before is left out. Exit code 1: something differs that does not rest on a
    guess.
    """
    (_, earlier), (about, later) = executed(before), executed(after)
    earlier, later = split(earlier)[0], split(later)[0]
    known = {result.case: result for result in earlier}
    if not known.keys() & {result.case for result in later}:
        raise CaseError("has no case in common with the other", where=after, next_step="execute the same cases")
    if not any(step.seen for result in (*earlier, *later) for step in result.steps):
        say(
            "only statuses are compared: execute with --observe (a run: `observe`) to compare what the answers hold",
            err=True,
        )
    results = differ.judged(known, (result for result in later if result.case in known))
    built = report_of(about, results)
    reporting.render_terminal(built)
    if out:
        write_report(built, results, out)
        say(f"written: {out / 'report.html'}, report.json, junit.xml, wfc.json")
    return outcome(built)


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
@click.option(
    "--base-url",
    type=BaseUrl(),
    default="",
    metavar="URL",
    help="Where the API answers. Default: as the cases file says.",
)
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
    for line in read(file):
        base = base or (line.plan.base_url if line.plan else "")
        title = line.about.title or title if line.about else title
        if line.case and (not wanted or line.case.id.startswith(wanted)):
            cases.append(line.case)
        if line.result and (not wanted or line.result.case.startswith(wanted)):
            results.append(line.result)
    if not (results if form == "har" else cases):
        what, writer = ("results", "execute") if form == "har" else ("cases", "generate")
        if wanted:
            raise CaseError(f"has no such {what}", where=str(file), next_step="leave out --case to take all")
        raise CaseError(
            f"has no {what}", where=str(file), next_step=f"--format {form} takes a file that `testops {writer}` wrote"
        )
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
            say(f"left out: {case}: {why}", err=True)
        if not told.document["workflows"]:
            raise CaseError("none of the cases can be said in Arazzo", where=str(file), next_step="see the lines above")
        data = msgspec.json.format(msgspec.json.encode(told.document), indent=2)
    if out:
        out.write_bytes(data)
        say(f"written: {out}")
    else:
        sys.stdout.buffer.write(data + b"\n")
    return 0


def _export_each(form: str, cases: Sequence[Case], base: str, file: Path, out: Path | None) -> None:
    render, name = _ONE_FILE_A_CASE[form]
    if out:
        out.mkdir(parents=True, exist_ok=True)
        for case in cases:
            (out / name.format(case.id)).write_text(render(case, base), "utf-8")
        say(f"{out}: {plural(len(cases), 'file')}")
    elif form != "curl" and len(cases) > 1:
        raise SettingsError(f"{len(cases)} cases", where=str(file), next_step="choose one by --case, or give --out")
    else:
        click.echo("\n".join(render(case, base) for case in cases), nl=False)
