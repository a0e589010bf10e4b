"""A person looks at a run's new cases before they are executed: Airflow's own human-in-the-loop task."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from airflow.sdk import BaseOperator, Param
from airflow.sdk.exceptions import AirflowSkipException

from testops_lib import settings as configuration

OPTIONS = ("Approve all", "Choose", "Reject")
"""As `testops_lib.run.editing` knows them; a test compares."""

WAIT = timedelta(days=3)
"""How long a run waits for its reviewer; then it fails, and its drafts wait for the next run."""

_LIST = {"type": ["array", "null"], "items": {"type": "string"}}
FORM = {
    "take_operations": Param(
        None, source="task", **_LIST, title="Operations", description="With Choose: these (globs): GET /pets*"
    ),
    "take_cases": Param(None, source="task", **_LIST, title="Cases", description="With Choose: these, by id"),
}
"""What a reviewer fills in."""


class ReviewOperator(BaseOperator):
    """Waits, without a worker, until somebody answers; then does what was answered. Skipped when nothing is new.

    Mapped over what `open_run` returns: for a target that wants no review that is nothing, and no task starts.

    The waiting is done by Airflow's `HITLOperator`, imported where the task is executed or resumed: no parse of a DAG
    file pays for it.
    """

    ui_color = "#fff2cc"

    def __init__(self, *, asked: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.asked = asked

    def execute(self, context: Any) -> Any:
        """Asks, unless there is nothing to look at."""
        from testops_lib.run import editing as curate

        request = curate.review_request(context["run_id"], configuration.read())
        if request is None:
            raise AirflowSkipException("nothing new to look at")
        # given here, not templated: documents and models wrote parts of it
        return self._waiting(request.subject, request.body).execute(context)

    def execute_complete(self, context: Any, event: dict[str, Any]) -> Any:
        """Does what was answered; it has the name under which `HITLOperator` asks to be resumed."""
        from testops_lib.run import editing as curate

        answered = self._waiting("Review", "").execute_complete(context, event)
        user = answered.get("responded_by_user") or {}
        given = answered["params_input"]
        told = curate.answer_review(
            context["run_id"],
            configuration.read(),
            answer=next(iter(answered["chosen_options"]), ""),
            operations=given.get("take_operations") or (),
            cases=given.get("take_cases") or (),
            who=str(user.get("name") or user.get("id") or "somebody"),
        )
        print(told)
        return told

    def _waiting(self, subject: str, body: str) -> Any:
        from airflow.providers.standard.operators.hitl import HITLOperator

        return HITLOperator(
            task_id=self.task_id,
            subject=subject,
            body=body,
            options=list(OPTIONS),
            params=FORM,
            response_timeout=WAIT,
            execution_timeout=self.execution_timeout,
        )
