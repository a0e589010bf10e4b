"""Whether a run has further rounds: the scheduler decides, without a worker."""

from __future__ import annotations

from typing import Any

from airflow.providers.standard.operators.empty import EmptyOperator


class RoundsOperator(EmptyOperator):
    """Mapped over the list that `open_run` returns. If it is empty, this task and all rounds are skipped at once."""

    ui_color = "#e8f7e4"

    def __init__(self, *, needs: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.needs = needs
