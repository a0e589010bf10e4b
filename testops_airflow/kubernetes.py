"""The pod of a batch, created and followed by Airflow's own operator. This module takes seconds to import."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from airflow.providers.cncf.kubernetes.operators.pod import KubernetesPodOperator
from airflow.sdk.exceptions import AirflowException

from testops_airflow.outcome import fail
from testops_lib.launch import exit_codes
from testops_lib.launch.pod import CONTAINER, START_S


class Pod(KubernetesPodOperator):
    """The pod operator behind a `RunnerPodOperator`, which Airflow resumes by the same method names."""

    def __init__(self, *, batch: str, namespace: str, kubeconfig: str, **kwargs: Any) -> None:
        super().__init__(
            namespace=namespace or None,
            in_cluster=not kubeconfig,
            config_file=kubeconfig or None,
            kubernetes_conn_id=None,
            base_container_name=CONTAINER,
            automount_service_account_token=False,
            do_xcom_push=False,
            deferrable=True,
            startup_check_interval_seconds=1,
            poll_interval=1,
            startup_timeout_seconds=300,
            # A pod's specification holds environment variables, and many people read logs.
            log_pod_spec_on_failure=False,
            log_events_on_startup=False,
            log_events_on_failure=True,
            on_finish_action="delete_succeeded_pod",
            on_kill_action="delete_pod",
            **kwargs,
        )
        self.batch = batch
        self.is_target_down = False
        """Whether the pod ended because the target is down: a further pod starts after a pause."""

    # Airflow passes the context, and with it the timeout, only to a method with a parameter of that name.
    def invoke_defer_method(self, last_log_time: Any = None, context: Any = None) -> None:
        """Defers, and waits for the pod as long as Kubernetes lets it live."""
        if self.execution_timeout and self.pod and (lives_s := self.pod.spec.active_deadline_seconds):
            self.execution_timeout = max(self.execution_timeout, timedelta(seconds=lives_s + START_S))
        super().invoke_defer_method(last_log_time, context)

    def convert_config_file_to_dict(self) -> None:
        """Does nothing: the trigger would store the kubeconfig in the database. The triggerer reads KUBECONFIG."""

    def cleanup(self, pod: Any, remote_pod: Any, xcom_result: Any = None, context: Any = None) -> None:
        """Deletes a pod that succeeded. For any other, reports how it ended and whether the batch is retried."""
        try:
            super().cleanup(pod, remote_pod, xcom_result, context)
        except AirflowException:
            code, reason = ending(remote_pod)
            if code == exit_codes.TARGET_DOWN:
                self.is_target_down = True
                return
            if code == exit_codes.CONFIGURATION:
                fail(context, f"batch {self.batch}: the runner refused its configuration, see the task's log")
            raise AirflowException(
                f"batch {self.batch}: pod {remote_pod.metadata.name} ended with {code} ({reason}), see above; "
                "it is retried"
            ) from None


def ending(pod: Any) -> tuple[int | None, str]:
    """The runner's exit code (None: it never ran), and Kubernetes' reason for the end: `OOMKilled`, `Evicted`, …"""
    for status in pod.status.container_statuses or ():
        if status.name == CONTAINER and status.state and status.state.terminated:
            terminated = status.state.terminated
            return terminated.exit_code, pod.status.reason or terminated.reason or "no reason given"
    return None, pod.status.reason or pod.status.message or "no reason given"
