"""Cleanup after a case: its own cleanup steps, then whatever else it made. Cleanup never changes the verdict."""

from __future__ import annotations

import time

from testops_lib.execute import shutdown as stages
from testops_lib.execute.attempt import BUDGET_SPENT, Attempt, CaseEnded
from testops_lib.execute.captures import capture
from testops_lib.execute.created import CreatedResource
from testops_lib.execute.exchange import StepExchanger
from testops_lib.execute.limits import RunLimits
from testops_lib.execute.prepare import placeholders
from testops_lib.execute.rights import Rights
from testops_lib.http.answer import Answer
from testops_lib.model import SAFE_METHODS, Policy, Step


class Cleanup:
    """Removes what cases made, as far as the policy and the rights of the run allow."""

    def __init__(self, policy: Policy, limits: RunLimits, rights: Rights, exchanger: StepExchanger) -> None:
        self._safe_only = policy.methods == "safe"
        self._limits, self._rights, self._exchanger = limits, rights, exchanger

    async def clean_up(self, attempt: Attempt) -> None:
        """Sends the cleanup steps whose captures exist, then deletes what else the case made."""
        case = attempt.case
        if self._limits.time_up:
            attempt.cleanup_by = time.monotonic() + stages.CLEANUP_AFTER_STOP_S
        names = {capture.name for step in (*case.steps, *case.cleanup) for capture in step.captures}
        for step in case.cleanup:
            if self._safe_only and step.request.method not in SAFE_METHODS:
                continue
            used = placeholders(step.request)
            if (used & names) - attempt.captured.keys():
                continue
            if used & attempt.foreign_captures or self._rights.denied(step):
                continue
            try:
                _, outcome = await self._exchanger.exchange(attempt, step, cleanup=True)
                if isinstance(outcome, Answer):
                    self._rights.note_cleanup(step, outcome.status)
                    capture(step.captures, outcome, attempt.captured)
            except CaseEnded:
                continue
        for resource in attempt.created.left():
            if resource.request is not None and resource.removal is not None:
                await self._remove(attempt, resource)

    async def _remove(self, attempt: Attempt, resource: CreatedResource) -> None:
        """Deletes what a case made, if a request is left for it; otherwise notes why it stays."""
        assert resource.request is not None and resource.removal is not None
        step = Step(operation=resource.removal.operation, request=resource.request, identity=resource.identity)
        if denied := self._rights.denied(step):
            resource.why = f"DELETE answered {denied}"
            return
        if not self._limits.reserve_extra(attempt):
            resource.why = BUDGET_SPENT
            return
        try:
            record, _ = await self._exchanger.exchange(attempt, step, cleanup=True)
        except CaseEnded as ended:
            resource.why = ended.reason
            return
        self._rights.note_cleanup(step, record.status)
        resource.why = f"DELETE answered {record.status}" if record.status else "DELETE was not answered"
