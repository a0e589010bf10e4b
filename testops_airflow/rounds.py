"""Whether a run has further rounds: decided by the scheduler, at no worker's cost."""

from __future__ import annotations

from typing import Any

from airflow.providers.standard.operators.empty import EmptyOperator


class RoundsOperator(EmptyOperator):
    """Mapped over what `open_run` returns: where that is nothing, this and all rounds are skipped at once."""

    ui_color = "#e8f7e4"

    def __init__(self, *, asked: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.asked = asked
