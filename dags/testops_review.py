"""A person looks at a run's new cases before they are executed: Airflow's own human-in-the-loop task."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from airflow.providers.standard.operators.hitl import HITLOperator
from airflow.sdk import Param
from airflow.sdk.exceptions import AirflowSkipException

from testops_lib import settings as configuration

OPTIONS = ("Approve all", "Choose", "Reject")
"""As `testops_lib.curate` knows them; a test compares."""

WAIT = timedelta(days=3)
"""How long a run waits for its reviewer; then it fails, and its drafts wait for the next run."""

_LIST = {"type": ["array", "null"], "items": {"type": "string"}}
FORM = {
    "take_operations": Param(None, **_LIST, title="Operations", description="With Choose: these (globs): GET /pets*"),
    "take_cases": Param(None, **_LIST, title="Cases", description="With Choose: these, by id"),
}
"""What a reviewer fills in: the task's `params`."""


class ReviewOperator(HITLOperator):
    """Waits, without a worker, until somebody answers; then does what was answered. Skipped when nothing is new.

    Mapped over what `open_run` returns: for a target that wants no review that is nothing, and no task starts.
    """

    ui_color = "#fff2cc"

    def __init__(self, *, asked: str, **kwargs: Any) -> None:
        super().__init__(
            subject="Review",
            options=list(OPTIONS),
            response_timeout=WAIT,
            **kwargs,
        )
        self.asked = asked

    def _order(self, context: Any) -> Any:
        from testops_lib import pipeline

        given = {**context["params"], **(context["dag_run"].conf or {})}
        return pipeline.parse_order({key: value for key, value in given.items() if not key.startswith("take_")})

    def execute(self, context: Any) -> Any:
        """Asks, unless there is nothing to look at."""
        from testops_lib import curate

        request = curate.review_request(context["run_id"], self._order(context), configuration.read())
        if request is None:
            raise AirflowSkipException("nothing new to look at")
        # set here, not templated: documents and models wrote parts of it
        self.subject, self.body = request.subject, request.body
        return super().execute(context)

    def execute_complete(self, context: Any, event: dict[str, Any]) -> Any:
        """Does what was answered."""
        from testops_lib import curate

        answered = super().execute_complete(context, event)
        user = answered.get("responded_by_user") or {}
        given = answered["params_input"]
        told = curate.answer_review(
            context["run_id"],
            self._order(context),
            configuration.read(),
            answer=next(iter(answered["chosen_options"]), ""),
            operations=given.get("take_operations") or (),
            cases=given.get("take_cases") or (),
            who=str(user.get("name") or user.get("id") or "somebody"),
        )
        print(told)
        return told
