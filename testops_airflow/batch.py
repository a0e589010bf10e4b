"""What the operators of one batch have in common: its fields, and the runner's arguments."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from airflow.sdk import BaseOperator

from testops_airflow.settings import read_settings
from testops_lib.launch import runner


class BatchOperator(BaseOperator):
    """Executes one batch by a runner, which the subclass starts.

    Args:
        run: the run's id.
        plan: the batch that holds the run's plan.
        batch: the batch of cases.
        results: where the run's results begin in their topic; a batch that is executed again reads them.
        target: name of the target file.
        attempt: number of the cases' attempt, from 1.
        kwargs: those of every operator.
    """

    template_fields: Sequence[str] = ("run", "plan", "batch", "results", "attempt", "target")
    ui_color = "#d5e8d4"

    def __init__(
        self,
        *,
        run: str,
        plan: str,
        batch: str,
        results: str,
        target: str = "",
        attempt: int = 1,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.run, self.plan, self.batch, self.target = run, plan, batch, target
        self.results, self.attempt = results, attempt

    def _arguments(self, context: Any, down_since: float) -> list[str]:
        """The runner's arguments; `down_since`: when the target went down (seconds since the epoch; 0: it did not)."""
        is_repeated = context["ti"].try_number > 1 or down_since or self._was_begun()
        return runner.arguments(
            run=self.run,
            plan=self.plan,
            batch=self.batch,
            attempt=self.attempt,
            again=self.results if is_repeated else "",
            down_since=down_since,
        )

    def _was_begun(self) -> bool:
        """Whether a runner was started for the batch before: after a crash Airflow may start the same try again."""
        from testops_lib.store import Store

        if not (dsn := read_settings().dsn):
            return False
        with Store(dsn) as store:
            return not store.begin_batch(self.run, self.batch, attempt=int(self.attempt))
