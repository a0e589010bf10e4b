from __future__ import annotations

from typing import Any

import msgspec

from testops_lib.model import (
    Failure,
    Intent,
    Report,
    RequestEvidence,
    Result,
    StepOutcome,
    VerdictName,
)
from testops_lib.verdict.analyze import analyze

OPERATION = "GET /pets/{id}"


OPERATIONS = {OPERATION: ("200", "404"), "POST /pets": ("201",)}


def failure(check: str = "not_a_server_error", cause: str = "answered 500", **more: Any) -> Failure:
    return Failure(check=check, operation=more.pop("operation", OPERATION), message=cause, cause=cause, **more)


def result(
    case: str,
    *failures: Failure,
    verdict: VerdictName | None = None,
    status: int = 200,
    steps: int = 1,
    operation: str = OPERATION,
    elapsed_ms: float = 5,
    intent: Intent = "positive",
    reason: str = "",
) -> Result:
    request = RequestEvidence(method="GET", url=f"http://127.0.0.1/{case}") if failures else None
    outcome = StepOutcome(operation=operation, status=status, elapsed_ms=elapsed_ms, request=request)
    return Result(
        run="r2",
        case=case,
        case_name=f"case {case}",
        operation=operation,
        intent=intent,
        reason=reason,
        verdict=verdict or ("failed" if failures else "passed"),
        failures=failures,
        steps=(outcome,) * steps,
        requests=steps,
    )


def origin_of(given: Result, source: str) -> Result:
    return msgspec.structs.replace(given, origin=source)


def report(*results: Result, **more: Any) -> Report:
    return analyze(results, target="t", run="r2", **{"operations": OPERATIONS, **more})


def undocumented(operation: str, **more: Any) -> Failure:
    return failure("status_code_conformance", "status 400", shared=True, operation=operation, **more)


def sent(given: Result, instead: str) -> Result:
    steps = tuple(msgspec.structs.replace(step, sent=instead) for step in given.steps)
    failures = tuple(msgspec.structs.replace(one, sent=instead) for one in given.failures)
    return msgspec.structs.replace(given, steps=steps, failures=failures)
