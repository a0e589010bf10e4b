"""What `try`, `generate`, `execute`, `report`, `reproduce`, `shrink`, `diff` and `export` take and say of themselves.

A help page imports this module, so it imports nothing heavy: the work is done in the modules that the commands import.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from testops_lib.cli.options import EXPORT_FORMATS, BaseUrl, send_options, spec_options
from testops_lib.cli.output import FINDINGS_FILE
from testops_lib.settings import MAX_ROUNDS


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
@spec_options
@send_options
def try_(spec: str, base_url: str, out: Path | None, rounds: int, shrink: bool, **options: Any) -> int:
    """Generate, execute and report in one go. SPEC is an OpenAPI document: a URL or a file."""
    from testops_lib.cli.local import try_document

    return try_document(spec, base_url, options, out=out, rounds=rounds, shrink=shrink)


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
@spec_options
def generate(spec: str, base_url: str, out: Path | None, only_plan: bool, **options: Any) -> int:
    """Write the cases for an OpenAPI document to a file that `testops execute` takes."""
    from testops_lib.cli.local import generate_cases, print_plan

    if (out is None) != only_plan:
        raise click.UsageError("give either --out FILE or --plan")
    return print_plan(spec, base_url, options) if out is None else generate_cases(spec, base_url, options, out)


@click.command(
    epilog="\b\nExample:\n  testops execute cases.jsonl --base-url http://127.0.0.1:8000 --out results.jsonl\n"
)
@click.argument("file", type=click.Path(path_type=Path, exists=True, dir_okay=False), metavar="CASES.JSONL")
@click.option(
    "--base-url",
    type=BaseUrl(),
    default="",
    metavar="URL",
    help="Where the API answers. Default: as the cases file says, unless that is a private address.",
)
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False), required=True, help="The results file.")
@click.option("--observe", is_flag=True, help="Keep what the answers held, redacted: for `testops diff`.")
@send_options
def execute(file: Path, base_url: str, out: Path, observe: bool, **options: Any) -> int:
    """Execute a file of cases and write the results."""
    from testops_lib.cli.execute import execute_file

    return execute_file(file, base_url, options, out=out, observe=observe)


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
    from testops_lib.cli.results import render

    return render(file, form, out)


@click.command(
    epilog="""
\b
Exit codes: 0 no finding came back, 1 one did, 2 one could not be tried (target away, setup failed) and none came back.
\b
Examples:
  testops reproduce 1 --from report -H 'Authorization: Bearer …'
  testops reproduce 3f9a 77c0 --from results.jsonl --base-url http://127.0.0.1:8000
  testops reproduce 3f9a --run nightly_shop_20261124T020000
  testops reproduce 1 --from report --script > again.sh
"""
)
@click.argument("wanted", nargs=-1, required=True, metavar="FINDING...")
@click.option(
    "--from",
    "source",
    type=click.Path(path_type=Path, exists=True),
    help="The directory that `testops try --out` wrote, or a file that `testops execute` wrote.",
)
@click.option(
    "--run", "run_id", default="", metavar="RUN", help="A finished run (needs TESTOPS_DSN). Default: the last."
)
@click.option(
    "--base-url", type=BaseUrl(), default="", metavar="URL", help="Where the API answers. Default: as in the run."
)
@click.option("--times", type=click.IntRange(1, 100), default=1, show_default=True, help="How often.")
@click.option("--script", is_flag=True, help="Print the shell script that does the same, and send nothing.")
@send_options
def reproduce(
    wanted: tuple[str, ...], source: Path | None, run_id: str, base_url: str, times: int, script: bool, **options: Any
) -> int:
    """Execute the case of a finding again, alone, and say whether the finding comes back.

    FINDING is its number in the report or the beginning of its fingerprint; several may be given.
    """
    from testops_lib.cli.reproduce import reproduce_findings

    if source is not None and run_id:
        raise click.UsageError("give either --from or --run")
    return reproduce_findings(
        wanted, options, source=source, run_id=run_id, base_url=base_url, times=times, script=script
    )


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
    from testops_lib.cli.local import shrink_failures

    return shrink_failures(file, cases_file, spec, options, wanted=wanted, base_url=base_url, out=out)


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
    from testops_lib.cli.results import compare

    return compare(before, after, out)


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
    type=click.Choice(EXPORT_FORMATS),
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
    from testops_lib.cli.export import export_file

    return export_file(file, form, base_url=base_url, spec=spec, wanted=wanted, out=out)
