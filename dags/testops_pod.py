"""A batch in a pod of its own. Importing this costs seconds (two Kubernetes clients): only for that launcher."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

from airflow.providers.cncf.kubernetes.operators.pod import KubernetesPodOperator
from airflow.sdk.exceptions import AirflowException, AirflowFailException

from testops_lib import pod as pods
from testops_lib import settings as configuration
from testops_lib import target as targets
from testops_lib.batch import deadline_s, parse, runner_arguments
from testops_lib.target import Target

TEMPLATE = Path(__file__).with_name("pod.yaml")

CONFIGURATION = 2
"""The runner's exit code that a retry would not change."""


class RunnerPodOperator(KubernetesPodOperator):
    """Executes one batch in a pod; deferred while it works, the runner's lines are the task's log at its end.

    A runner that ends with 2 (configuration) fails the task at once. Everything else is retried on the same batch:
    1 (infrastructure), a pod that was killed, evicted or deleted, one that ran out of memory.

    The target's file is read when the pod is made, so a retry heeds what was changed meanwhile.
    """

    template_fields: Sequence[str] = (
        *KubernetesPodOperator.template_fields,
        "run",
        "plan",
        "batch",
        "results",
        "attempt",
        "target",
    )
    ui_color = "#d5e8d4"

    def __init__(
        self,
        *,
        run: str,
        plan: str,
        batch: str,
        results: str,
        target: str,
        attempt: int = 1,
        share: int = 1,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.run, self.plan, self.batch, self.target, self.share = run, plan, batch, target, share
        self.results, self.attempt = results, attempt

    def execute(self, context: Any) -> None:
        """Makes the pod and defers."""
        self.pod_template_dict = self._manifest(context)
        super().execute(context)

    def _manifest(self, context: Any) -> dict[str, Any]:
        settings = configuration.read()
        target = targets.find(settings.targets_dir, self.target) if self.target else Target(spec="")
        return pods.manifest(
            pods.read_template(settings.pod_template or TEMPLATE),
            target.pod,
            image=settings.need_runner_image(),
            arguments=runner_arguments(
                run=self.run,
                plan=self.plan,
                batch=self.batch,
                attempt=self.attempt,
                share=self.share,
                again=self.results if context["ti"].try_number > 1 else "",
            ),
            # Kafka's options may hold a password: pods have them from their secret.
            environment={
                "TESTOPS_KAFKA_BOOTSTRAP": settings.pod_kafka_bootstrap or settings.need_kafka(),
                "TESTOPS_KAFKA_TIMEOUT_S": str(settings.kafka_timeout_s),
            },
            target=self.target or "adhoc",
            run=self.run,
            batch=self.batch,
            deadline_s=deadline_s(parse(self.batch), target.policy.requests_per_second / self.share),
        )

    def invoke_defer_method(self, *arguments: Any, **named: Any) -> None:
        """Defers, to wait for the pod as long as Kubernetes lets it live."""
        if self.execution_timeout and self.pod and (lives_s := self.pod.spec.active_deadline_seconds):
            self.execution_timeout = max(self.execution_timeout, timedelta(seconds=lives_s + pods.START_S))
        super().invoke_defer_method(*arguments, **named)

    def convert_config_file_to_dict(self) -> None:
        """Nothing: the trigger would carry the kubeconfig into the database. The triggerer reads KUBECONFIG itself."""

    def cleanup(self, pod: Any, remote_pod: Any, xcom_result: Any = None, context: Any = None) -> None:
        """Deletes a pod that succeeded; says of another how it ended, and whether the batch is repeated."""
        try:
            super().cleanup(pod, remote_pod, xcom_result, context)
        except AirflowException:
            code, reason = ending(remote_pod)
            if code == CONFIGURATION:
                raise AirflowFailException(
                    f"batch {self.batch}: the runner refused its configuration, see above"
                ) from None
            raise AirflowException(
                f"batch {self.batch}: pod {remote_pod.metadata.name} ended with {code} ({reason}), see above; "
                "it is retried"
            ) from None


def ending(pod: Any) -> tuple[int | None, str]:
    """The runner's exit code (none: it never ran) and why Kubernetes says the pod ended: `OOMKilled`, `Evicted`, …"""
    for status in pod.status.container_statuses or ():
        if status.name == pods.CONTAINER and status.state and status.state.terminated:
            done = status.state.terminated
            return done.exit_code, pod.status.reason or done.reason or "no reason given"
    return None, pod.status.reason or pod.status.message or "no reason given"
