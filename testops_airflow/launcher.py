"""How a batch is executed: the launcher is configuration, the runner's command line is the same everywhere."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections import deque
from collections.abc import Collection
from typing import Any

from airflow.sdk import BaseOperator
from airflow.sdk.exceptions import AirflowException

from testops_airflow.outcome import fail
from testops_lib import settings as configuration
from testops_lib.launch import exit_codes, runner
from testops_lib.launch.tied import tied
from testops_lib.settings import Settings

LABEL = (
    "{% set first, end = task.batch.rpartition(':')[2].split('-') %}{{ end|int - first|int }} cases ({{ task.batch }})"
)
"""What a person sees of a batch: `200 cases (testops.cases:0:100-300)`."""


class RunnerProcessOperator(BaseOperator):
    """Executes one batch in a child process of the task; its lines are the task's log.

    A runner that ends with 1 (infrastructure) is retried, with 2 (configuration) not. What the target's file names as
    `${CONN_…}` it has from Airflow's connections, in its environment alone.
    """

    template_fields = ("run", "plan", "batch", "results", "attempt", "target")
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
        self._process: subprocess.Popen[str] | None = None

    def execute(self, context: Any) -> None:
        """Starts the runner and follows it to its end."""
        self._run(context, 0)

    def resume(self, context: Any, event: Any = None, *, since: float) -> None:
        """Starts a further runner, after a pause for a target that was down."""
        self._run(context, since)

    def _run(self, context: Any, down_since: float) -> None:
        arguments = runner.arguments(
            run=self.run,
            plan=self.plan,
            batch=self.batch,
            attempt=self.attempt,
            again=self.results if context["ti"].try_number > 1 or down_since or self._was_begun() else "",
            down_since=down_since,
        )
        command = [sys.executable, "-m", "runner", *arguments]
        environ = {name: value for name, value in os.environ.items() if not name.startswith(("AIRFLOW__", "_AIRFLOW"))}
        environ |= self._credentials(environ.keys())
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
        last: deque[str] = deque(maxlen=2)
        for line in self._process.stdout:
            self.log.info("%s", line.rstrip())
            last.append(line.strip())
        code = self._process.wait()
        # An error of ours is one line, or two: what to do next begins with an arrow.
        said = " ".join(last) if last and last[-1].startswith("->") else "".join([*last][-1:])
        if code == exit_codes.TARGET_DOWN:
            from testops_airflow.target_down import defer

            defer(self, down_since)
        if code == exit_codes.CONFIGURATION:
            fail(context, f"{self.task_id}: the runner refused its configuration: {said}")
        if code:
            raise AirflowException(f"the runner ended with {code}: {said}; it is retried")

    def _was_begun(self) -> bool:
        """Whether a runner was started for the batch before: Airflow may start over the same try after a crash."""
        from testops_lib.store import Store

        if not (dsn := configuration.read().dsn):
            return False
        with Store(dsn) as store:
            return not store.begin_batch(self.run, self.batch, attempt=int(self.attempt))

    def _credentials(self, known: Collection[str]) -> dict[str, str]:
        from testops_lib import target as targets
        from testops_lib.store import Store

        if not (dsn := configuration.read().dsn):
            return {}
        with Store(dsn) as store:
            resolved = store.run(self.run).resolved
        missing = targets.references(resolved.target) - set(known) if resolved else set()
        if not any(name.startswith("CONN_") for name in missing):
            return {}
        from testops_airflow.connections import variables

        return variables(missing)

    def on_kill(self) -> None:
        """Ends the runner: SIGTERM, so that it marks what is in flight, then SIGKILL."""
        if self._process is None or self._process.poll() is not None:
            return
        os.killpg(self._process.pid, signal.SIGTERM)
        try:
            self._process.wait(runner.KILL_AFTER_S)
        except subprocess.TimeoutExpired:
            os.killpg(self._process.pid, signal.SIGKILL)


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
    """The task that executes the batches by the configured launcher: one for each batch, or one that waits for a fleet.

    `results` says where the run's results begin, for a batch that is executed again; `target` names the target file;
    `alone`: one batch after the other.
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
            # It waits as long as its orders are valid.
            **{"execution_timeout": None, **kwargs},
        )
    from testops_airflow.pod import RunnerPodOperator

    return RunnerPodOperator.partial(**common, target=target).expand(batch=batches)
