"""`python -m testops_lib.report`: render a stored report again, or write the JSON Schemas of docs/.

`render report.json --html report.html` writes the page, `schemas docs` the schemas.
"""

from __future__ import annotations

from pathlib import Path

import click

from testops_lib.errors import TestOpsError
from testops_lib.report.html import render_html
from testops_lib.report.json import read_report, schemas
from testops_lib.report.terminal import render_terminal


@click.group()
def main() -> None:
    """Render a stored report, or write the JSON Schemas of the documents."""


@main.command()
@click.argument("report", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--html", type=click.Path(dir_okay=False, path_type=Path), help="Write the page here; else print text.")
def render(report: Path, html: Path | None) -> None:
    """Render REPORT (JSON) as text, or as one HTML file."""
    try:
        value = read_report(report.read_bytes())
    except TestOpsError as error:
        raise click.ClickException(str(error)) from error
    if html is None:
        render_terminal(value)
    else:
        html.write_text(render_html(value), encoding="utf-8")


@main.command(name="schemas")
@click.argument("folder", type=click.Path(exists=True, file_okay=False, path_type=Path))
def write_schemas(folder: Path) -> None:
    """Write case.schema.json and report.schema.json into FOLDER."""
    for name, text in schemas().items():
        (folder / name).write_bytes(text)


main()
