from __future__ import annotations

import json
import os
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from functools import cache

import msgspec

from testops_lib.model import (
    Failure,
    Finding,
    FindingExample,
    GateRules,
    Generation,
    OperationReport,
    Report,
    RequestEvidence,
    ResponseEvidence,
    Result,
    StepOutcome,
    Totals,
)
from testops_lib.verdict.analyze import analyze
from testops_lib.verdict.gate import decide
from tests.paths import GOLDEN

HOSTILE = (
    "</pre></details><script>alert('x')</script><img src=x onerror=alert(1)>{{ 7*7 }}{% raw %}"
    "\x1b[2J\x1b]0;owned\x07\x9b31m\r\x00\x08\u202egnp.exe\ud800\ufeff]]>&amp;\x0b\ufffe\U000e0041 漢字 é"
)


def shop_results() -> list[Result]:
    lines = (GOLDEN / "shop-results.jsonl").read_bytes().splitlines()
    return [msgspec.json.decode(line, type=Result) for line in lines]


@cache
def shop_report() -> Report:
    run = json.loads((GOLDEN / "shop-run.json").read_text())
    results = shop_results()
    started = datetime(2026, 3, 14, 2, 0, tzinfo=UTC)
    first = analyze(results, target="shop", run="nightly-2026-03-14", operations=run["operations"])
    seen = {finding.check: finding for finding in first.findings}
    checks = ("use_after_free", "response_schema_conformance")
    known = {seen[check].fingerprint: "nightly-2026-03-09" for check in checks}
    gone = msgspec.structs.replace(
        seen["content_type_conformance"],
        fingerprint="0123456789abcdef",
        operation="GET /health",
        message="text/plain is not documented for 200 (application/json)",
        first_seen_run="nightly-2026-03-02",
    )
    report = analyze(
        results,
        target="shop",
        run="nightly-2026-03-14",
        operations=run["operations"],
        title="Shop API",
        base_url="http://127.0.0.1:8800/api",
        first_seen=known,
        previous_run="nightly-2026-03-13",
        previous=[gone],
        muted=[seen["unsupported_method"].fingerprint],
        generation=tuple(msgspec.convert(one, Generation) for one in run["generation"]),
        started=started,
        finished=started + timedelta(seconds=38.4),
    )
    return msgspec.structs.replace(report, gate=decide(report, GateRules()))


def hostile_report() -> Report:
    """Everything that a target, a document or a model can influence is hostile."""
    evidence = RequestEvidence(method="POST", url=f"http://h/{HOSTILE}", headers=((HOSTILE, HOSTILE),), body=HOSTILE)
    answer = ResponseEvidence(status=200, headers=((HOSTILE, HOSTILE),), body=HOSTILE, truncated=True, body_bytes=9)
    step = StepOutcome(operation=HOSTILE, status=200, request=evidence, response=answer, error=HOSTILE)
    example = FindingExample(case=HOSTILE, case_name=HOSTILE, message=HOSTILE, curl=HOSTILE, steps=(step,))
    findings = tuple(
        Finding(
            fingerprint=f"{number:016x}",
            operation=HOSTILE,
            check=check,
            count=1,
            advisory=False,
            basis="description",
            message=HOSTILE,
            quote=HOSTILE,
            doubt=HOSTILE,
            first_seen_run=HOSTILE,
            state=state,
            example=example,
        )
        for number, (check, state) in enumerate([("status", "new"), (HOSTILE, "known"), ("header", "fixed")])
    )
    seen = OperationReport(statuses={"200": 1, HOSTILE: 1}, documented=(HOSTILE,), results={"failed": 1}, cases=1)
    return Report(
        target=HOSTILE,
        run=HOSTILE,
        title=HOSTILE,
        base_url=f"http://h/{HOSTILE}",
        findings=findings,
        previous_run=HOSTILE,
        totals=Totals(cases=1, requests=1, results={"failed": 1}),
        operations={f"GET /{HOSTILE}": seen},
        errors={HOSTILE: 1},
        gate=decide(shop_report(), GateRules()),
        generation=(Generation(source=HOSTILE, dropped={HOSTILE: 1}, notes=(HOSTILE,)),),
    )


def hostile_result() -> Result:
    example = hostile_report().findings[0].example
    failure = Failure(check="status", operation=HOSTILE, message=HOSTILE, quote=HOSTILE)
    return Result(
        run=HOSTILE,
        case=HOSTILE,
        case_name=HOSTILE,
        operation=HOSTILE,
        verdict="failed",
        failures=(failure,),
        steps=example.steps,
    )


def check_golden(name: str, text: str) -> None:
    """Equal to the golden file; `UPDATE_GOLDEN=1 pytest` with this file rewrites it, and people review the change."""
    path = GOLDEN / name
    if os.environ.get("UPDATE_GOLDEN"):
        path.write_text(text, encoding="utf-8")
    assert path.read_text(encoding="utf-8") == text


def repeated_report() -> tuple[Report, str]:
    """The shop's report with a script, and a finding of each kind of proof."""
    report = shop_report()
    script = "#!/bin/sh\necho '<b>again</b>' && send \"$BASE_URL\"/orders\n"
    proofs = [
        {"reproduced": 3, "executed": 3},
        {"reproduced": 1, "executed": 3},
        {"not_repeated": "budget spent"},
        {"check": "concurrency", "advisory": True, "reproduced": 1, "executed": 2, "together": ("GET /a: status: no",)},
    ]
    findings = [
        msgspec.structs.replace(one, example=msgspec.structs.replace(one.example, recipe=script), **proof)
        for one, proof in zip(report.findings, proofs, strict=False)
    ]
    return msgspec.structs.replace(report, findings=tuple(findings)), script


def many_results(number: int) -> Iterator[Result]:
    """Each with two kilobytes of evidence."""
    response = ResponseEvidence(status=500, body="x" * 2_000, body_bytes=2_000)
    for index in range(number):
        operation = f"GET /{index % 7}"
        step = StepOutcome(operation=operation, status=500, response=response)
        failure = Failure(check="not_a_server_error", operation=operation, message="answered 500", cause="status 500")
        yield Result(
            run="r",
            case=f"{index * 7919 % number:032x}",
            case_name=f"case {index % 100}",
            operation=operation,
            verdict="failed",
            failures=(failure,),
            steps=(step,),
            requests=1,
            elapsed_ms=1.5,
        )
