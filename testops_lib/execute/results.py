"""Attempt -> result: the verdict with what the steps sent and were answered, secrets masked."""

from __future__ import annotations

import time
from datetime import UTC, datetime

from msgspec import structs

from testops_lib.execute import evidence
from testops_lib.execute.attempt import Attempt, StepRecord
from testops_lib.execute.concurrency import Concurrency
from testops_lib.execute.identity import Identities
from testops_lib.execute.prepare import unique_token, with_values
from testops_lib.model import Case, Plan, Result, Step, StepOutcome, VerdictName
from testops_lib.redact import Redactor, sensitive

_LONGEST_MESSAGE = 400


class ResultBuilder:
    """Builds the results of one attempt of a run."""

    def __init__(self, plan: Plan, run: str, attempt: int, identities: Identities, concurrency: Concurrency) -> None:
        self._observe = plan.observe
        self._run, self._attempt = run, attempt
        self._identities, self._concurrency = identities, concurrency
        self._shared_redactor: tuple[int, Redactor] | None = None
        """With the number of secrets it knows: they only grow."""

    def token(self, case: Case, *, restarted: bool = False) -> str:
        """What `{unique}` stands for in this attempt of the case."""
        return unique_token(self._run, case.id, self._attempt, case.repeat, anew=restarted)

    def not_run(self, case: Case, verdict: VerdictName, reason: str, requests: int = 0) -> Result:
        """The result of a case of which no step was sent; `requests`: probes that were sent while it waited."""
        return Result(
            run=self._run,
            case=case.id,
            attempt=self._attempt,
            case_name=case.name,
            operation=case.operation,
            intent=case.intent,
            verdict=verdict,
            reason=reason,
            started=datetime.now(UTC),
            origin=case.origin.source,
            requests=requests,
            repeat=case.repeat,
        )

    def result(self, attempt: Attempt, verdict: VerdictName, reason: str, started: datetime) -> Result:
        """The result of a case that was executed. Evidence is in it unless it passed."""
        case, failures = attempt.case, tuple(attempt.failures)
        elapsed_ms = round((time.monotonic() - attempt.started) * 1000, 3)
        if verdict == "passed":
            steps = tuple([_outcome(record, None) for record in attempt.records])
        else:
            redactor = self._redactor(attempt)
            steps = tuple(_outcome(record, redactor) for record in attempt.records)
            reason = redactor.text(reason)
            failures = tuple(
                structs.replace(
                    failure,
                    message=_short(redactor.text(failure.message)),
                    cause=_short(redactor.text(failure.cause)),
                    sent=steps[failure.step].sent if failure.step < len(steps) else "",
                )
                for failure in failures
            )
        if self._observe:
            steps = self._observed(attempt, steps)
        result = Result(  # no more than 15 arguments: CPython makes a dict of more, which costs four times as much
            run=self._run,
            case=case.id,
            attempt=self._attempt,
            case_name=case.name,
            operation=case.operation,
            intent=case.intent,
            verdict=verdict,
            reason=reason,
            failures=failures,
            steps=steps,
            requests=attempt.other_requests + sum([record.requests for record in attempt.records]),
            elapsed_ms=elapsed_ms,
            started=started,
            origin=case.origin.source,
        )
        lowered_to, left = self._concurrency.lowered_to, attempt.created.report()
        if verdict != "passed" or lowered_to or left or attempt.withheld or case.repeat:
            result = structs.replace(
                result,
                performed=_performed(attempt) if verdict == "failed" else (),
                concurrency=lowered_to,
                left=left,
                withheld=attempt.withheld,
                repeat=case.repeat,
            )
        return result

    def _observed(self, attempt: Attempt, steps: tuple[StepOutcome, ...]) -> tuple[StepOutcome, ...]:
        """The outcomes with what a further round can learn from the answers."""
        redactor = self._redactor(attempt)
        outcomes: list[StepOutcome] = []
        for record, outcome in zip(attempt.records, steps, strict=True):
            if record.answer is not None and 200 <= record.status < 300:
                outcome = structs.replace(outcome, seen=evidence.of_success(record.answer, redactor))
            elif record.answer is not None and 400 <= record.status < 500:
                outcome = structs.replace(outcome, said=evidence.of_refusal(record.answer, redactor))
            outcomes.append(outcome)
        return tuple(outcomes)

    def _redactor(self, attempt: Attempt) -> Redactor:
        """Masks what the identities know, and what the case has captured under the name of a credential."""
        captured_secrets = {
            str(attempt.captured[capture.name])
            for step in (*attempt.case.steps, *attempt.case.cleanup)
            for capture in step.captures
            if capture.name in attempt.captured and (sensitive(capture.name) or sensitive(capture.path))
        }
        secrets = self._identities.secrets
        if captured_secrets - secrets:
            return Redactor(secrets | captured_secrets)
        if self._shared_redactor is None or self._shared_redactor[0] != len(secrets):
            self._shared_redactor = (len(secrets), Redactor(secrets))
        return self._shared_redactor[1]


def _performed(attempt: Attempt) -> tuple[Step, ...]:
    """The steps as they were executed, with the values of things that exist in them; none where they are the case's."""
    steps = tuple(attempt.performed)
    refused = {
        index
        for index, (step, record) in enumerate(zip(steps, attempt.records, strict=False))
        if step.setup and not 200 <= record.status < 300
    }
    if not refused and steps == attempt.case.steps[: len(steps)]:
        return ()
    steps = tuple(structs.replace(step, captures=()) if n in refused else step for n, step in enumerate(steps))
    from_steps = {capture.name for step in steps for capture in step.captures} | {"unique"}
    values = {name: value for name, value in attempt.captured.items() if name not in from_steps}
    return tuple(structs.replace(step, request=with_values(step.request, values)) for step in steps)


def _short(text: str) -> str:
    return text if len(text) <= _LONGEST_MESSAGE else text[:_LONGEST_MESSAGE] + "…"


def _outcome(record: StepRecord, redactor: Redactor | None) -> StepOutcome:
    """What a result says of a step; without a redactor, and without evidence, when the case passed."""
    outcome = StepOutcome(
        operation=record.operation,
        sent=record.sent_instead,
        status=record.status,
        elapsed_ms=record.elapsed_ms,
        requests=record.requests,
        error=record.error,
        repeated=record.repeated,
        streaming=record.streaming,
        overload=record.overload,
        asked_to_wait=record.asked_to_wait,
        waited_s=record.waited_s,
        unjudged=record.unjudged,
    )
    if redactor is None:
        return outcome
    return structs.replace(
        outcome,
        sent=redactor.text(record.sent_instead),
        error=redactor.text(record.error),
        request=evidence.of_request(record.prepared, redactor),
        response=evidence.of_response(record.answer, redactor) if record.answer is not None else None,
    )
