"""Results -> the report with the gate's verdict, and its files: the same for a stored run and a local one."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

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


def write_report(report: Report, results: Iterable[Result], folder: Path) -> None:
    """`report.json`, `report.html`, `junit.xml` and `wfc.json` in `folder`.

    The results are taken one by one, those of a case one after the other; none is kept in memory.
    """
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "report.json").write_bytes(reporting.render_json(report))
    (folder / "report.html").write_text(reporting.render_html(report), "utf-8")
    with closing(reporting.JunitWriter(report)) as junit, closing(reporting.WfcWriter(report)) as wfc:
        for result in results:
            junit.add(result)
            wfc.add(result)
        for writer, name in ((junit, "junit.xml"), (wfc, "wfc.json")):
            with (folder / name).open("wb") as file:
                writer.write(file)
