"""The operator of a batch in a pod of its own, without the Kubernetes clients, which DAG files must not import."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from testops_airflow.batch import BatchOperator
from testops_airflow.settings import read_settings
from testops_lib import settings as configuration

DOWN_SINCE = "down_since"
"""Key in Airflow's task state store: when the target went down (seconds since the epoch)."""

TEMPLATE = Path(__file__).with_name("pod.yaml")


class RunnerPodOperator(BatchOperator):
    """Executes one batch in a pod. The task is deferred while the pod works, and then logs the runner's output.

    A runner that ends with 2 (configuration) fails the task at once. Anything else is retried on the same batch:
    exit code 1 (infrastructure), a pod that was killed, evicted or deleted, or that ran out of memory.

    The pod's part of the target file is read when the pod is created, so that a retry gets a larger memory limit; the
    rest of the file counts as it was when the run was opened.

    Airflow's `KubernetesPodOperator` does the work. It takes seconds to import, so it is imported when the task is
    executed or resumed, not when a DAG file is parsed.
    """

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._worker: Any = None

    def execute(self, context: Any) -> None:
        """Creates the pod and defers."""
        if context["ti"].try_number > 1:
            context["task_state_store"].set(DOWN_SINCE, 0)  # the previous try's outage is over
        self._start(context, 0)

    def resume(self, context: Any, event: Any = None, *, since: float) -> None:
        """Creates a further pod, after a pause because the target was down."""
        self._start(context, since)

    def trigger_reentry(self, context: Any, event: dict[str, Any]) -> None:
        """Continues when the pod has ended or its trigger has failed."""
        pod = self._pod()
        pod.trigger_reentry(context, event)
        if pod.is_target_down:
            from testops_airflow.target_down import defer
            from testops_lib.launch.target_down import went_down_at

            # The pod's trigger resumes this task, and does not carry when the target went down.
            since = went_down_at(float(context["task_state_store"].get(DOWN_SINCE) or 0), time.time())
            context["task_state_store"].set(DOWN_SINCE, since)
            defer(self, since)

    def _start(self, context: Any, down_since: float) -> None:
        self._pod(pod_template_dict=self._manifest(context, down_since)).execute_async(context)

    def on_kill(self) -> None:
        """Deletes the pod."""
        if self._worker is not None:
            self._worker.on_kill()

    def _pod(self, **kwargs: Any) -> Any:
        from testops_airflow.kubernetes import Pod

        settings = configuration.read()
        self._worker = Pod(
            task_id=self.task_id,
            execution_timeout=self.execution_timeout,
            batch=self.batch,
            namespace=settings.pod_namespace,
            kubeconfig=settings.kubeconfig,
            **kwargs,
        )
        return self._worker

    def _manifest(self, context: Any, down_since: float) -> dict[str, Any]:
        from testops_lib import target as targets
        from testops_lib.bus.batch import parse
        from testops_lib.launch import pod as pods
        from testops_lib.launch import runner
        from testops_lib.launch.shares import least_rate
        from testops_lib.store import Store
        from testops_lib.target import Target

        settings = read_settings()
        with Store(settings.need_dsn()) as store:
            resolved = store.run(self.run).resolved
        target = resolved.target if resolved else Target(spec="")
        file = settings.targets_dir / f"{self.target}.yaml"
        overrides = targets.load(file).pod if self.target and file.is_file() else target.pod
        return pods.manifest(
            pods.read_template(settings.pod_template or TEMPLATE),
            overrides,
            image=settings.need_runner_image(),
            arguments=self._arguments(context, down_since),
            # Kafka's options may hold a password: pods get them from their secret.
            environment={
                "TESTOPS_KAFKA_BOOTSTRAP": settings.pod_kafka_bootstrap or settings.need_kafka(),
                "TESTOPS_KAFKA_TIMEOUT_S": str(settings.kafka_timeout_s),
            },
            target=self.target or "adhoc",
            run=self.run,
            batch=self.batch,
            deadline_s=runner.deadline_s(parse(self.batch), least_rate(target.policy, settings.fleet_partitions)),
        )
