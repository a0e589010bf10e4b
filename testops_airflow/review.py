"""A person reviews a run's new cases before they are executed: Airflow's human-in-the-loop task."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from airflow.sdk import BaseOperator, Param
from airflow.sdk.exceptions import AirflowSkipException

from testops_airflow.settings import read_settings

OPTIONS = ("Approve all", "Choose", "Reject")
"""The answers of `testops_lib.run.review`; a test compares them."""

WAIT = timedelta(days=3)
"""How long a run waits for its reviewer. Then it fails, and its drafts wait for the next run."""

_LIST = {"type": ["array", "null"], "items": {"type": "string"}}
FORM = {
    "take_operations": Param(
        None,
        source="task",
        **_LIST,
        title="Operations",
        description="With Choose: the operations to take (globs): GET /pets*",
    ),
    "take_cases": Param(
        None, source="task", **_LIST, title="Cases", description="With Choose: the cases to take, by id"
    ),
}
"""What a reviewer fills in."""


class ReviewOperator(BaseOperator):
    """Waits, without a worker, until somebody answers, then applies the answer. Skipped when nothing is new.

    Mapped over the list that `open_run` returns, which is empty for a target without a review: then no task starts.

    Airflow's `HITLOperator` waits. It is imported when the task is executed or resumed, not when a DAG file is parsed.
    """

    ui_color = "#fff2cc"

    def __init__(self, *, needs: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.needs = needs

    def execute(self, context: Any) -> Any:
        """Asks for the review, unless there is nothing to review."""
        from testops_lib.run import review

        request = review.review_request(context["run_id"], read_settings())
        if request is None:
            raise AirflowSkipException("nothing new to review")
        # Passed here, not templated: documents and models wrote parts of it.
        return self._waiting(request.subject, request.body).execute(context)

    def execute_complete(self, context: Any, event: dict[str, Any]) -> Any:
        """Applies the answer. `HITLOperator` resumes the task by this name."""
        from testops_lib.run import review

        answer = self._waiting("Review", "").execute_complete(context, event)
        user = answer.get("responded_by_user") or {}
        form = answer["params_input"]
        summary = review.answer_review(
            context["run_id"],
            read_settings(),
            answer=next(iter(answer["chosen_options"]), ""),
            operations=form.get("take_operations") or (),
            cases=form.get("take_cases") or (),
            who=str(user.get("name") or user.get("id") or "somebody"),
        )
        print(summary)
        return summary

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
