"""Case -> result: sends its steps in order, judges the answers, cleans up."""

from __future__ import annotations

import time
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Protocol

from msgspec import structs

from testops_lib.errors import TargetError, TestOpsError
from testops_lib.execute.attempt import (
    BUDGET_SPENT,
    STOPPED,
    TARGET_DOWN,
    Attempt,
    BrokenOnKeptConnection,
    CaseEnded,
)
from testops_lib.execute.body_failures import body_failures
from testops_lib.execute.captures import capture
from testops_lib.execute.cleanup import Cleanup
from testops_lib.execute.exchange import StepExchanger
from testops_lib.execute.foreign import ForeignGuard
from testops_lib.execute.limits import RunLimits
from testops_lib.execute.liveness import Liveness
from testops_lib.execute.probes import Prober
from testops_lib.execute.results import ResultBuilder
from testops_lib.execute.retries import RetryingSender
from testops_lib.execute.rights import REFUSING, Detour, Rights
from testops_lib.execute.shutdown import Shutdown
from testops_lib.http.answer import Answer
from testops_lib.http.failure import TransportFailure
from testops_lib.model import (
    NO_ANSWER,
    SAFE_METHODS,
    Case,
    EnsureResourceAvailability,
    Failure,
    JsonPathIs,
    MaxResponseTime,
    Policy,
    PositiveDataAcceptance,
    Result,
    StatusIs,
    Step,
    UseAfterFree,
    VerdictName,
)
from testops_lib.verdict.check import unjudged

_ENDING_CHECKS = frozenset(
    {
        NO_ANSWER,
        "not_a_server_error",
        "positive_data_acceptance",
        "status_code_conformance",
        "status",
        "ensure_resource_availability",
        "use_after_free",
    }
)
"""After a failure of one of these the later steps have nothing to stand on."""

_ON_AN_EFFECT = (EnsureResourceAvailability, JsonPathIs, PositiveDataAcceptance, StatusIs, UseAfterFree)

_MAX_RESPONSE_TIME = "max_response_time"


class Judging(Protocol):
    """Says what is wrong with an answer."""

    def judge(
        self, step: Step, answer: Answer, captured: Mapping[str, Any], *, index: int = 0
    ) -> tuple[Failure, ...]: ...


class CaseRunner:
    """Executes single cases; any number of them at once."""

    def __init__(
        self,
        policy: Policy,
        judge: Judging,
        results: ResultBuilder,
        limits: RunLimits,
        shutdown: Shutdown,
        liveness: Liveness,
        prober: Prober,
        guard: ForeignGuard,
        rights: Rights,
        sender: RetryingSender,
        exchanger: StepExchanger,
    ) -> None:
        self._policy, self._judge, self._results = policy, judge, results
        self._limits, self._shutdown = limits, shutdown
        self._liveness, self._prober = liveness, prober
        self._guard, self._rights = guard, rights
        self._sender, self._exchanger = sender, exchanger
        self._cleanup = Cleanup(policy, limits, rights, exchanger)

    async def execute(self, case: Case) -> Result:
        """Runs the case, if policy, rights, budget and the target's state let it start.

        Raises:
            TargetError: the credentials of the target file cannot be used.
        """
        results, limits = self._results, self._limits
        if why := self._forbidden(case):
            return results.not_run(case, "skipped", why)
        detour = self._rights.around(case.steps, self._rights.refused) if self._rights.learned else None
        if detour is not None and detour.why:
            return results.not_run(case, "skipped", detour.why)
        requests = request_count(case) if detour is None else len(detour.steps) + len(case.cleanup)
        attempt = Attempt(case, results.token(case), self._policy.case_timeout_s, self._guard.created())
        down = self._liveness.breaker.open
        if down and not await self._prober.back(attempt):
            return self._not_started(attempt)
        if limits.budget.limited and not await limits.budget.reserve(requests):
            return self._skipped(attempt, BUDGET_SPENT)
        attempt.reserved += requests
        if limits.time_up:
            return self._skipped(attempt, BUDGET_SPENT)
        if down or limits.budget.limited:
            attempt.restart_clock(self._policy.case_timeout_s)
        started = datetime.now(UTC)
        verdict, reason = await self._carry_out(attempt, detour)
        restart = attempt.restart_after
        if restart is not None and limits.budget.affords(requests):
            first = attempt
            await limits.budget.reserve(requests)
            attempt = Attempt(case, results.token(case, restarted=True), self._policy.case_timeout_s, first.created)
            attempt.withheld = first.withheld
            attempt.reserved = requests
            attempt.other_requests = first.other_requests + sum(record.requests for record in first.records)
            verdict, reason = await self._carry_out(attempt, detour)
            index, why = restart
            if index < len(attempt.records):
                attempt.records[index].repeated = why
        if attempt.failures:
            verdict, reason = "failed", ""
        return results.result(attempt, verdict, reason, started)

    def _forbidden(self, case: Case) -> str:
        """Why the target's policy does not allow the case; "" when it does."""
        if self._policy.methods == "safe":
            for step in case.steps:
                if step.request.method not in SAFE_METHODS:
                    return f"not allowed by policy: {step.request.method}"
        return ""

    def _not_started(self, attempt: Attempt) -> Result:
        """The result of a case that waited for the target in vain."""
        if self._limits.spent_for(attempt):
            return self._skipped(attempt, BUDGET_SPENT)
        if self._shutdown.stopped:
            self._limits.budget.give_back(attempt.reserved)
            return self._results.not_run(attempt.case, "errored", STOPPED, attempt.other_requests)
        self._liveness.target_down = True
        return self._skipped(attempt, TARGET_DOWN)

    def _skipped(self, attempt: Attempt, reason: str) -> Result:
        self._limits.budget.give_back(attempt.reserved)
        return self._results.not_run(attempt.case, "skipped", reason, attempt.other_requests)

    async def _carry_out(self, attempt: Attempt, detour: Detour | None) -> tuple[VerdictName, str]:
        """Sends the steps and the cleanup; the verdict, unless there are failures, and its reason."""
        verdict: VerdictName = "passed"
        reason = ""
        try:
            try:
                if detour is not None:
                    attempt.take(detour)
                while attempt.steps:
                    step = attempt.steps.popleft()
                    if step.setup:
                        step = self._rights.as_accepted(step) or step
                    if not await self._step(attempt, len(attempt.records), step):
                        break
            except CaseEnded as ended:
                verdict, reason = ended.verdict, ended.reason
                if isinstance(ended, BrokenOnKeptConnection) and not self._shutdown.stopped:
                    attempt.restart_after = len(attempt.records) - 1, reason
            if (attempt.case.cleanup or attempt.created.left()) and any(record.requests for record in attempt.records):
                await self._cleanup.clean_up(attempt)
        except TargetError:
            raise
        except Exception as error:
            verdict, reason = "errored", f"engine: {type(error).__name__}: {error}"
        finally:
            self._limits.budget.give_back(attempt.reserved)
        return verdict, reason

    async def _step(self, attempt: Attempt, index: int, step: Step) -> bool:
        """Sends and judges one step; whether the next one may follow."""
        attempt.performed.append(step)
        _, outcome = await self._exchanger.exchange(attempt, step)
        if isinstance(outcome, TransportFailure):
            await self._judge_transport_failure(attempt, index, step, outcome)
            return False
        try:
            judged = _after_202(step) if index and any(r.status == 202 for r in attempt.records[:-1]) else step
            failures = self._judge.judge(judged, outcome, attempt.captured, index=index)
        except TestOpsError as error:
            raise CaseEnded("errored", f"check: {error.what}") from error
        if outcome.truncated or outcome.streaming or outcome.undecodable or outcome.wrong_coding:
            failures = (*failures, *body_failures(step, outcome, index))
            attempt.records[-1].unjudged = unjudged(judged, outcome)
        if failures:
            slow = any(failure.check == _MAX_RESPONSE_TIME for failure in failures)
            if slow and not await self._slow_again(attempt, index, step):
                failures = tuple(failure for failure in failures if failure.check != _MAX_RESPONSE_TIME)
            attempt.failures += failures
        if not step.identity and (step.setup or attempt.case.intent == "positive"):
            self._rights.note(step.operation, outcome.status)
            if step.request.method not in SAFE_METHODS:
                self._rights.note_request(step, outcome.status)
        if step.setup and not 200 <= outcome.status < 300:
            reason = f"setup failed: {step.operation} answered {outcome.status}"
            return self._take_another_way(attempt, step, outcome.status, reason)
        if step.captures:
            try:
                capture(step.captures, outcome, attempt.captured)
            except CaseEnded as ended:
                if step.setup:
                    reason = f"setup failed: {step.operation}: {ended.reason}"
                    return self._take_another_way(attempt, step, outcome.status, reason)
                raise
        return not failures or not any(failure.check in _ENDING_CHECKS for failure in failures)

    def _take_another_way(self, attempt: Attempt, step: Step, status: int, reason: str) -> bool:
        """Goes on with things that exist where a preparing step was refused; True.

        Raises:
            CaseEnded: there is no other way.
        """
        limits = self._limits
        if (better := self._rights.as_accepted(step, refused=True)) is not None:
            if not limits.reserve_extra(attempt):
                raise CaseEnded("skipped", BUDGET_SPENT)
            attempt.steps.appendleft(better)
            return True
        refused = attempt.stands_for.get(id(step))
        if refused is not None:
            self._rights.note_useless(step)
        elif status in REFUSING and not step.identity:
            refused = step
        if refused is None:
            raise CaseEnded("skipped", reason)
        before = len(attempt.steps)
        detour = self._rights.around(
            (refused, *attempt.steps), lambda other: reason if other is refused else self._rights.refused(other)
        )
        if detour.why:
            raise CaseEnded("skipped", detour.why)
        for _ in range(len(detour.steps) - before):
            if not limits.reserve_extra(attempt):
                raise CaseEnded("skipped", BUDGET_SPENT)
        attempt.take(detour)
        return True

    async def _judge_transport_failure(
        self, attempt: Attempt, index: int, step: Step, outcome: TransportFailure
    ) -> None:
        """Notes a failure of the case where the missing answer is the target's fault.

        Raises:
            CaseEnded: it is not, or nobody can tell.
        """
        if outcome.kind == "broken":
            if not await self._prober.ever_answers(attempt):
                raise CaseEnded("errored", f"{TARGET_DOWN}: {outcome.reason}")
            if outcome.kept:
                raise BrokenOnKeptConnection("errored", f"on a kept connection: {outcome.reason}")
            attempt.failures.append(
                Failure(
                    check=NO_ANSWER,
                    operation=step.operation,
                    message=f"no whole response: {outcome.reason}",
                    cause=outcome.reason,
                    step=index,
                )
            )
            return
        if outcome.kind == "timeout":
            now = time.monotonic()
            slow = self._too_slow(step, outcome.elapsed_ms, attempt, index)
            silent = outcome.silent and self._policy.breaker_after
            if slow and silent and not await self._prober.alive_since(now, attempt):
                self._liveness.target_down = True
                raise CaseEnded("errored", f"{TARGET_DOWN}: {outcome.reason}")
            if slow and await self._slow_again(attempt, index, step):
                attempt.failures += slow
                return
        raise CaseEnded("errored", outcome.reason)

    def _too_slow(self, step: Step, elapsed_ms: float, attempt: Attempt, index: int) -> tuple[Failure, ...]:
        """What the step's limit of the response time alone says of this duration."""
        limits = tuple(check for check in step.checks if isinstance(check, MaxResponseTime))
        if not limits:
            return ()
        answer = Answer(status=200, elapsed_ms=elapsed_ms)
        failures = self._judge.judge(structs.replace(step, checks=limits), answer, attempt.captured, index=index)
        return tuple(failure for failure in failures if failure.check == _MAX_RESPONSE_TIME)

    async def _slow_again(self, attempt: Attempt, index: int, step: Step) -> bool:
        """Whether a second, equal request is too slow as well; an unsafe one is not sent twice and counts as slow."""
        if step.request.method not in SAFE_METHODS:
            return True
        if not self._limits.reserve_extra(attempt):
            return False
        record = attempt.records[-1]
        try:
            outcome = await self._sender.send(attempt, record, record.prepared)
        except CaseEnded:
            return False
        if isinstance(outcome, TransportFailure) and outcome.kind != "timeout":
            return False
        return bool(self._too_slow(step, outcome.elapsed_ms, attempt, index))


def request_count(case: Case) -> int:
    """How many requests a case plans: its steps and its cleanup."""
    return len(case.steps) + len(case.cleanup)


def _after_202(step: Step) -> Step:
    """The step without what it expects of the effect of an earlier one that was only accepted (RFC 9110, 15.3.3): the
    thing may not be there yet, or still be there. What people have written stays.
    """
    kept = tuple(check for check in step.checks if check.basis == "human" or not isinstance(check, _ON_AN_EFFECT))
    return structs.replace(step, checks=kept)
