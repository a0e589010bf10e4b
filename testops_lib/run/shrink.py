"""A case that failed -> the smallest one that still fails in the same way, found by trying."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final

import msgspec
from msgspec import structs

from testops_lib.errors import CaseError
from testops_lib.execute import BUDGET_SPENT, Engine, run
from testops_lib.generate.judge import RequestJudge
from testops_lib.model import (
    AnyBody,
    BytesBody,
    Case,
    Failure,
    FormBody,
    JsonBody,
    NegativeDataRejection,
    Report,
    Request,
    Result,
    Step,
    TextBody,
    Value,
    make_case,
)
from testops_lib.spec.operation import Spec
from testops_lib.verdict.analyze import analyze as analyze_results
from testops_lib.verdict.fingerprint import fingerprint_of

REGRESSION: Final = "regression"
"""The tag of a case that is kept because it once failed."""

MAX_TRIES: Final = 100

_PLACEHOLDER: Final = re.compile(r"\{(\w+)\}")


class Shrunk(Value, frozen=True, kw_only=True):
    """What came of shrinking a case."""

    case: Case
    """Tagged `regression`; the given one when nothing smaller fails."""
    result: Result
    """Of its last execution."""
    failure: Failure
    """The one among the result's that it was shrunk for."""
    tried: int
    """Executions of candidates."""
    complete: bool
    """Nothing smaller is left to try; otherwise the tries or the requests ran out."""


def attempts(engine: Engine) -> Callable[[Case], Result | None]:
    """What executes one case by the engine, within its budget and the target's policy; None when nothing is left."""

    def attempt(case: Case) -> Result | None:
        results: list[Result] = []
        run(engine, [case], results.append)
        return results[0] if results and results[0].reason != BUDGET_SPENT else None

    return attempt


def shrink(
    case: Case,
    failure: Failure,
    judge: RequestJudge,
    attempt: Callable[[Case], Result | None],
    *,
    max_tries: int = MAX_TRIES,
) -> Shrunk | None:
    """The smallest case found that fails as `failure` says (equal fingerprint); None when `case` itself no longer does.

    What is valid by the document stays valid, and an invalid datum stays the invalid datum, so the verdict stays true.

    Raises:
        CaseError: the failing step is none of the case's, or of no operation of the spec.
    """
    if failure.step >= len(case.steps):
        raise CaseError(f"has no step {failure.step}", where=f"case {case.id}", next_step="give the case that failed")
    wanted = fingerprint_of(failure)
    first = attempt(case)
    shown = _shown(first, wanted)
    if first is None or shown is None:
        return None
    best = case, first, shown
    seen, tried = {case.id}, 0
    again = complete = True
    while again:
        again = False
        for candidate in _smaller(best[0], best[2].step):
            if candidate.id in seen or _size(candidate) >= _size(best[0]) or not _as_true(judge, best[0], candidate):
                continue
            if tried == max_tries:
                complete = False
                break
            seen.add(candidate.id)
            tried += 1
            result = attempt(candidate)
            if result is None:
                complete = False
                break
            shown = _shown(result, wanted)
            if shown is not None:
                best, again = (candidate, result, shown), True
                break
    return Shrunk(case=regression(best[0]), result=best[1], failure=best[2], tried=tried, complete=complete)


def shrink_findings(
    report: Report,
    results: Iterable[Result],
    cases: Iterable[Case],
    spec: Spec,
    attempt: Callable[[Case], Result | None],
) -> tuple[Report, tuple[Case, ...]]:
    """The report with the smallest request as example of each finding that `results` show, and those cases.

    `attempt` executes a case (None: nothing is left to spend). Findings that do not show again stay as they are.
    """
    judge, cases_by_id = RequestJudge(spec), {case.id: case for case in cases}
    shown = {result.case: result for result in results}
    findings, kept = list(report.findings), {}
    for index, finding in enumerate(findings):
        case, result = cases_by_id.get(finding.example.case), shown.get(finding.example.case)
        failures = (
            [failure for failure in result.failures if fingerprint_of(failure) == finding.fingerprint] if result else []
        )
        if case is None or not failures:
            continue
        small = shrink(case, failures[0], judge, attempt)
        if small is None:
            continue
        kept[small.case.id] = small.case
        again = analyze_results([small.result], target=report.target, run=report.run, operations={})
        alike = next((candidate for candidate in again.findings if candidate.fingerprint == finding.fingerprint), None)
        if alike is not None:
            findings[index] = structs.replace(finding, example=alike.example, message=alike.message)
    return structs.replace(report, findings=tuple(findings)), tuple(kept.values())


def regression(case: Case) -> Case:
    """The case as it is kept for good: the same content and id, tagged."""
    return case if REGRESSION in case.tags else structs.replace(case, tags=(*case.tags, REGRESSION))


def _shown(result: Result | None, wanted: str) -> Failure | None:
    failures = result.failures if result is not None and result.verdict == "failed" else ()
    return next((failure for failure in failures if fingerprint_of(failure) == wanted), None)


def _size(case: Case) -> int:
    return len(msgspec.json.encode((case.steps, case.cleanup)))


def _as_true(judge: RequestJudge, before: Case, after: Case) -> bool:
    """What the case says of its data still holds for the smaller one."""
    left = {(step.operation, step.request.method, step.checks): step for step in before.steps}
    captured = frozenset(capture.name for step in before.steps for capture in step.captures)
    for step in after.steps:
        old = left.get((step.operation, step.request.method, step.checks))
        if old is None:
            return False
        if old.request == step.request:
            continue
        try:
            was = {
                (violation.place, violation.rule)
                for violation in judge.judge(old.operation, old.request, captured).violations
            }
            now = {
                (violation.place, violation.rule)
                for violation in judge.judge(step.operation, step.request, captured).violations
            }
        except KeyError:
            raise CaseError(
                f"the document has no operation {step.operation}",
                where=f"case {before.id}",
                next_step="give the document that the case was made from",
            ) from None
        claimed = {(check.location, check.rule) for check in step.checks if isinstance(check, NegativeDataRejection)}
        if not now <= was or not claimed & was <= now or (claimed and not claimed & was and now != was):
            return False
    return True


# --------------------------------------------------------------------------- candidates, the boldest first


def _smaller(case: Case, failing: int) -> Iterator[Case]:
    steps = case.steps
    if failing + 1 < len(steps):
        yield _with(case, steps[: failing + 1])
    for index in range(failing):
        without = _with(case, (*steps[:index], *steps[index + 1 :]))
        if steps[failing] in without.steps:
            yield without
    for request in _requests(steps[failing].request):
        yield _with(case, (*steps[:failing], structs.replace(steps[failing], request=request), *steps[failing + 1 :]))


def _with(case: Case, steps: tuple[Step, ...]) -> Case:
    """The case with other steps, and without those that use what no step captures any more."""
    available = {"unique"}
    kept: list[Step] = []
    ours = {capture.name for step in case.steps for capture in step.captures}
    for step in steps:
        if not _names(step) & ours - available:
            kept.append(step)
            available |= {capture.name for capture in step.captures}
    cleanup = tuple(step for step in case.cleanup if not _names(step) & ours - available)
    return make_case(
        name=case.name,
        intent=case.intent,
        operation=case.operation,
        steps=tuple(kept) or case.steps,
        cleanup=cleanup,
        origin=case.origin,
        tags=case.tags,
        last=case.last,
    )


def _names(step: Step) -> set[str]:
    return set(_PLACEHOLDER.findall(msgspec.json.encode(step.request).decode()))


def _requests(request: Request) -> Iterator[Request]:
    for part in ("query", "cookies", "headers"):
        pairs = getattr(request, part)
        if len(pairs) > 1:
            yield structs.replace(request, **{part: ()})
        for index, (name, value) in enumerate(pairs):
            rest = pairs[:index], pairs[index + 1 :]
            yield structs.replace(request, **{part: (*rest[0], *rest[1])})
            for other in _texts(value):
                yield structs.replace(request, **{part: (*rest[0], (name, other), *rest[1])})
    if request.body is not None:
        yield structs.replace(request, body=None)
        for body in _bodies(request.body):
            yield structs.replace(request, body=body)


def _bodies(body: AnyBody) -> Iterator[AnyBody]:
    if isinstance(body, JsonBody):
        for value in _values(body.value):
            yield structs.replace(body, value=value)
    elif isinstance(body, TextBody):
        for text in _texts(body.text):
            yield structs.replace(body, text=text)
    elif isinstance(body, BytesBody):
        half = len(body.data) // 2
        for data in (b"", body.data[:half], body.data[half:]):
            yield structs.replace(body, data=data)
    elif isinstance(body, FormBody):
        for index, (name, value) in enumerate(body.fields):
            rest = body.fields[:index], body.fields[index + 1 :]
            yield structs.replace(body, fields=(*rest[0], *rest[1]))
            for other in _texts(value):
                yield structs.replace(body, fields=(*rest[0], (name, other), *rest[1]))


def _values(value: Any) -> Iterator[Any]:
    """Simpler JSON values of the same type: less of it first, then simpler parts."""
    if isinstance(value, dict):
        names = list(value)
        if len(names) > 2:
            for half in (names[: len(names) // 2], names[len(names) // 2 :]):
                yield {name: value[name] for name in half}
        for name in names:
            yield {key: item for key, item in value.items() if key != name}
        for name in names:
            for item in _values(value[name]):
                yield {**value, name: item}
    elif isinstance(value, list):
        if value:
            yield []
        if len(value) > 2:
            yield from (value[: len(value) // 2], value[len(value) // 2 :])
        for index in range(len(value) if len(value) > 1 else 0):
            yield [*value[:index], *value[index + 1 :]]
        for index, item in enumerate(value):
            for other in _values(item):
                yield [*value[:index], other, *value[index + 1 :]]
    elif isinstance(value, str):
        yield from _texts(value)
    elif isinstance(value, int | float) and not isinstance(value, bool):
        yield from (other for other in _numbers(value) if len(json.dumps(other)) < len(json.dumps(value)))


def _texts(text: str) -> Iterator[str]:
    """Shorter texts; one that holds what an earlier step made stays."""
    if _PLACEHOLDER.search(text) or not text:
        return
    half = len(text) // 2
    yield from ("", "a", "0", text[:half], text[half:], "a" * len(text))
    for shorter in (len(text) * 3 // 4, len(text) - 1):
        yield from (text[:shorter], "a" * shorter)


def _numbers(value: float) -> Iterator[float]:
    yield from (0, 1, -1, 10, -10, 100)
    whole = int(value)
    yield whole
    for _ in range(6):
        whole = int(whole / 1000) if abs(whole) < 10**300 else 10**9
        yield whole
    yield from (int(value) // 10, round(value, 1))
