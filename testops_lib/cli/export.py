"""`export`: cases and evidence in the forms of other tools."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import click
import msgspec

from testops_lib import export as exporting
from testops_lib import spec as specs
from testops_lib.cli.exit_codes import NOTHING_FOUND
from testops_lib.cli.lines import read
from testops_lib.cli.output import say
from testops_lib.errors import CaseError, SettingsError
from testops_lib.model import Case
from testops_lib.text import plural

_ONE_FILE_A_CASE: dict[str, tuple[Callable[[Case, str], str], str]] = {
    "curl": (exporting.curl_case, "{}.sh"),
    "pytest": (exporting.pytest_source, "test_{}.py"),
    "hurl": (lambda case, base_url: exporting.hurl(case), "{}.hurl"),
    "k6": (exporting.k6, "{}.js"),
}
"""Format -> what writes a case, and its file's name."""


def export_file(file: Path, form: str, *, base_url: str, spec: str, wanted: tuple[str, ...], out: Path | None) -> int:
    """Writes the cases or the evidence of a file in this form; gives the exit code."""
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
        return NOTHING_FOUND
    if form == "har":
        data = exporting.har(results)
    elif form == "postman":
        data = exporting.postman(cases, base, name=title)
    else:
        if not spec:
            raise SettingsError("needs to know the document", where="--format arazzo", next_step="give --spec")
        ids = {
            operation.key: operation.operation_id for operation in specs.load(spec).operations if operation.operation_id
        }
        exported = exporting.arazzo(cases, spec, title=title, operation_ids=ids)
        for case, why in exported.left_out.items():
            say(f"left out: {case}: {why}", err=True)
        if not exported.document["workflows"]:
            raise CaseError("none of the cases can be said in Arazzo", where=str(file), next_step="see the lines above")
        data = msgspec.json.format(msgspec.json.encode(exported.document), indent=2)
    if out:
        out.write_bytes(data)
        say(f"written: {out}")
    else:
        sys.stdout.buffer.write(data + b"\n")
    return NOTHING_FOUND


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
