"""Results -> the report with the gate's verdict, and its files: the same for a stored run and a local one."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import ExitStack, closing
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO

import msgspec

from testops_lib import report as reporting
from testops_lib.export import recipe
from testops_lib.model import (
    Case,
    Generation,
    Identity,
    Report,
    Result,
)
from testops_lib.redact import Redactor
from testops_lib.target import Target
from testops_lib.verdict.analyze import analyze as analyze_results
from testops_lib.verdict.gate import decide
from testops_lib.verdict.response_times import Medians

_NONE_GIVEN = "give credentials: -H, -Q or --auth, or `auth` in the target file"


_TAKEN_BY_NOBODY = "the credentials given are not accepted"


def build_report(
    results: Iterable[Result],
    target: Target,
    *,
    run: str,
    operations: Mapping[str, tuple[str, ...]],
    base_url: str = "",
    title: str = "",
    known: Mapping[str, str] = {},
    previous: Report | None = None,
    generations: Sequence[Generation] = (),
    started: datetime | None = None,
    quarantined: Collection[str] = (),
    history: Sequence[Medians] = (),
    not_tested: Mapping[str, str] = {},
    causes: Collection[str] = (),
    repetitions: Iterable[Result] = (),
) -> Report:
    """The report of these results with the verdict of the target's gate.

    not_tested: operations for which no case could be made -> why; what the generations say comes on top.
    repetitions: what came of repeating failed cases alone.
    """
    reasons = {key: why for generation in generations for key, why in generation.not_tested.items()}
    report = analyze_results(
        results,
        repetitions=repetitions,
        concurrency=target.policy.concurrency,
        target=target.name,
        run=run,
        operations=operations,
        base_url=base_url,
        title=title,
        first_seen=known,
        previous_run=previous.run if previous else "",
        previous=previous.findings if previous else (),
        generation=tuple(generations),
        started=started,
        finished=datetime.now(UTC),
        quarantined=quarantined,
        history=history,
        not_tested={**reasons, **not_tested},
        credentials_hint=_TAKEN_BY_NOBODY if target.identities else _NONE_GIVEN,
    )
    return msgspec.structs.replace(report, gate=decide(report, target.gate, causes))


def with_recipes(report: Report, cases: Mapping[str, Case], identities: Sequence[Identity]) -> Report:
    """The report with a script that shows it again for each finding whose case is given."""
    redactor = Redactor(_literal_secrets(identities))
    findings = []
    for finding in report.findings:
        example = finding.example
        if (case := cases.get(example.case)) is not None:
            case = msgspec.structs.replace(case, steps=example.performed or case.steps)
            wrong = f"{finding.check}: {finding.sent or finding.operation}: {finding.message}"
            script = recipe(case, report.base_url, identities, failing=example.failing_step, wrong=wrong)
            example = msgspec.structs.replace(example, recipe=redactor.known(script))
        findings.append(msgspec.structs.replace(finding, example=example))
    return msgspec.structs.replace(report, findings=tuple(findings))


def _literal_secrets(identities: Iterable[Identity]) -> Iterable[str]:
    """Credentials that stand in identities as they are, not as references to the environment."""
    for identity in identities:
        for _, value in (*identity.headers, *identity.query, *identity.cookies):
            yield from (value, value.partition(" ")[2])
        if identity.basic is not None:
            yield identity.basic.password


FORMS = {
    "report.json": "application/json",
    "report.html": "text/html",
    "junit.xml": "application/xml",
    "wfc.json": "application/json",
}
"""Name of each file that a report is written as -> its media type; all are UTF-8."""

_RENDERERS: dict[str, Callable[[Report], bytes]] = {
    "report.json": reporting.render_json,
    "report.html": lambda report: reporting.render_html(report).encode(),
}
_WRITERS: dict[str, type[reporting.JunitWriter | reporting.WfcWriter]] = {
    "junit.xml": reporting.JunitWriter,
    "wfc.json": reporting.WfcWriter,
}


def write_forms(report: Report, results: Iterable[Result], files: Mapping[str, BinaryIO]) -> None:
    """Writes the report as each of `FORMS` that `files` names.

    The results are taken one by one, those of a case one after the other, and only if a form lists them; none is kept
    in memory.
    """
    with ExitStack() as stack:
        writers = {
            name: stack.enter_context(closing(writer(report))) for name, writer in _WRITERS.items() if name in files
        }
        for result in results if writers else ():
            for writer in writers.values():
                writer.add(result)
        for name, file in files.items():
            if name in writers:
                writers[name].write(file)
            else:
                file.write(_RENDERERS[name](report))


def write_report(report: Report, results: Iterable[Result], folder: Path) -> None:
    """Writes the report as each of `FORMS` in `folder`; see `write_forms`."""
    folder.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        write_forms(report, results, {name: stack.enter_context((folder / name).open("wb")) for name in FORMS})
