"""`report` and `diff`: what files of results and stored runs say."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from testops_lib import report as reporting
from testops_lib import settings as configuration
from testops_lib.cli.exit_codes import FINDINGS, NOTHING_FOUND
from testops_lib.cli.lines import About, read
from testops_lib.cli.output import say
from testops_lib.errors import CaseError, SettingsError, TestOpsError
from testops_lib.model import Case, GateRules, Plan, Policy, Report, Result
from testops_lib.run.report import build_report, with_recipes, write_report
from testops_lib.target import Target
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


def render(file: Path, form: str, out: Path | None) -> int:
    """Writes the report on a results file in this form; gives the exit code that it stands for."""
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
        operations={key: operation.documented for key, operation in report.operations.items()},
        not_tested={key: operation.not_tested for key, operation in report.operations.items() if operation.not_tested},
    )
    return about, results


def report_of(about: About, results: Sequence[Result]) -> Report:
    first_executions, repeated = split(results)
    return build_report(
        first_executions,
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


def compare(before: str, after: str, out: Path | None) -> int:
    """Reports what the second execution was answered differently; gives the exit code."""
    (_, earlier), (about, later) = executed(before), executed(after)
    earlier, later = split(earlier)[0], split(later)[0]
    earlier_by_case = {result.case: result for result in earlier}
    if not earlier_by_case.keys() & {result.case for result in later}:
        raise CaseError("has no case in common with the other", where=after, next_step="execute the same cases")
    if not any(step.seen for result in (*earlier, *later) for step in result.steps):
        say(
            "only statuses are compared: execute with --observe (a run: `observe`) to compare what the answers hold",
            err=True,
        )
    results = differ.judged(earlier_by_case, (result for result in later if result.case in earlier_by_case))
    built = report_of(about, results)
    reporting.render_terminal(built)
    if out:
        write_report(built, results, out)
        say(f"written: {out / 'report.html'}, report.json, junit.xml, wfc.json")
    return outcome(built)
