"""How a batch is executed: the launcher is configuration, the runner's command line is the same everywhere."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections import deque
from collections.abc import Collection
from typing import Any

from airflow.sdk.exceptions import AirflowException

from testops_airflow.batch import BatchOperator
from testops_airflow.outcome import fail
from testops_airflow.settings import read_settings
from testops_lib.launch import exit_codes, runner
from testops_lib.launch.tied import tied
from testops_lib.settings import Settings

LABEL = (
    "{% set first, end = task.batch.rpartition(':')[2].split('-') %}{{ end|int - first|int }} cases ({{ task.batch }})"
)
"""How Airflow shows a batch: `200 cases (testops.cases:0:100-300)`."""


class RunnerProcessOperator(BatchOperator):
    """Executes one batch in a child process of the task; its output is the task's log.

    A runner that ends with 1 (infrastructure) is retried, one that ends with 2 (configuration) is not. Values of
    `${CONN_…}` in the target's file come from Airflow's connections, and only the runner's environment holds them.
    """

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._process: subprocess.Popen[str] | None = None

    def execute(self, context: Any) -> None:
        """Starts the runner and follows it until it ends."""
        self._run(context, 0)

    def resume(self, context: Any, event: Any = None, *, since: float) -> None:
        """Starts a further runner, after a pause because the target was down."""
        self._run(context, since)

    def _run(self, context: Any, down_since: float) -> None:
        command = [sys.executable, "-m", "runner", *self._arguments(context, down_since)]
        environ = {name: value for name, value in os.environ.items() if not name.startswith(("AIRFLOW__", "_AIRFLOW"))}
        settings = read_settings()
        environ |= {**_broker(settings), **self._credentials(environ.keys(), settings)}
        self._process = subprocess.Popen(
            tied(command),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            env=environ,
            start_new_session=True,
        )
        assert self._process.stdout is not None
        last_lines: deque[str] = deque(maxlen=2)
        for line in self._process.stdout:
            self.log.info("%s", line.rstrip())
            last_lines.append(line.strip())
        code = self._process.wait()
        # Our errors have one line, or two, and then the second is the next step and begins with an arrow.
        has_next_step = bool(last_lines) and last_lines[-1].startswith("->")
        error = " ".join(last_lines) if has_next_step else "".join([*last_lines][-1:])
        if code == exit_codes.TARGET_DOWN:
            from testops_airflow.target_down import defer

            defer(self, down_since)
        if code == exit_codes.CONFIGURATION:
            fail(context, f"{self.task_id}: the runner refused its configuration: {error}")
        if code:
            raise AirflowException(f"the runner ended with {code}: {error}; it is retried")

    def _credentials(self, available: Collection[str], settings: Settings) -> dict[str, str]:
        """Values of the target's `${CONN_…}` references that are not among the available variables."""
        from testops_lib import target as targets
        from testops_lib.store import Store

        if not settings.dsn:
            return {}
        with Store(settings.dsn) as store:
            resolved = store.run(self.run).resolved
        missing = targets.references(resolved.target) - set(available) if resolved else set()
        if not any(name.startswith("CONN_") for name in missing):
            return {}
        from testops_airflow.connections import variables

        return variables(missing)

    def on_kill(self) -> None:
        """Ends the runner: SIGTERM, so that it can record the cases in flight, then SIGKILL."""
        if self._process is None or self._process.poll() is not None:
            return
        os.killpg(self._process.pid, signal.SIGTERM)
        try:
            self._process.wait(runner.KILL_AFTER_S)
        except subprocess.TimeoutExpired:
            os.killpg(self._process.pid, signal.SIGKILL)


def _broker(settings: Settings) -> dict[str, str]:
    """How the runner reaches Kafka where the environment does not say it, but a connection of Airflow."""
    if not settings.kafka_conn_id:
        return {}
    options = json.dumps(settings.kafka_options)
    return {"TESTOPS_KAFKA_BOOTSTRAP": settings.kafka_bootstrap, "TESTOPS_KAFKA_OPTIONS": options}


def launch(
    task_id: str,
    settings: Settings,
    *,
    plan: Any,
    batches: Any,
    results: Any,
    run: str = "{{ run_id }}",
    attempt: Any = 1,
    target: Any = "{{ (dag_run.conf or {}).get('target') or params.target or '' }}",
    alone: bool = False,
    **kwargs: Any,
) -> Any:
    """The task that executes the batches by the configured launcher: mapped over the batches, or one for a fleet.

    Args:
        results: where the run's results begin in their topic; a batch that is executed again reads them.
        target: name of the target file.
        alone: one batch after the other.
    """
    common: dict[str, Any] = {
        "task_id": task_id,
        "run": run,
        "plan": plan,
        "results": results,
        "attempt": attempt,
        "max_active_tis_per_dagrun": 1 if alone else settings.max_batches_at_once,
        "pool": settings.pool,
        "map_index_template": LABEL,
        **kwargs,
    }
    if settings.launcher == "process":
        return RunnerProcessOperator.partial(**common, target=target).expand(batch=batches)
    if settings.launcher == "fleet":
        from testops_airflow.fleet import FleetOperator

        return FleetOperator(
            task_id=task_id,
            run=run,
            plan=plan,
            batches=batches,
            results=results,
            attempt=attempt,
            alone=alone,
            pool=settings.pool,
            # It ends when its orders expire.
            **{"execution_timeout": None, **kwargs},
        )
    from testops_airflow.pod import RunnerPodOperator

    return RunnerPodOperator.partial(**common, target=target).expand(batch=batches)
