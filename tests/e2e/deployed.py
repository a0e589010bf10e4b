"""Airflow by its official chart and our chart beside it, in a namespace of the test cluster."""

from __future__ import annotations

import base64
import os
import secrets
import subprocess
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from stack.services import Services
from testops_lib.airflow_api import Airflow
from testops_lib.errors import TriggerError
from tests.e2e.pods import Cluster
from tests.e2e.running import DAG
from tests.paths import ROOT
from tests.rendering import CHART, airflow_chart, airflow_files, helm

AIRFLOW_IMAGE, RUNNER_IMAGE = "testops-airflow:0.1.0", "testops-runner:0.1.0"
"""As the values name them."""

INSTALL_S = 900


def build_images(cluster: Cluster) -> None:
    """Both images of this tree, under the names that the values give them."""
    version = ("--build-arg", "VERSION=0.1.0")
    cluster.build(AIRFLOW_IMAGE, "-f", str(ROOT / "Dockerfile"), *version)
    cluster.build(RUNNER_IMAGE, "-f", str(ROOT / "runner/Dockerfile"), *version)


def services(state: Path) -> Services:
    """PostgreSQL, Kafka and the shop of this machine for the cluster's pods; not started."""
    subnet = os.environ.get("TESTCLUSTER_SUBNET", "10.244.0")
    return Services(state, address=f"{subnet}.1", admit=[f"{subnet}.0/24"], durable=False)


class Deployment:
    """One namespace with both charts in it. The commands are those of DEPLOYMENT.md."""

    def __init__(self, cluster: Cluster, namespace: str, servers: Services) -> None:
        self.cluster = cluster
        self.namespace = namespace
        self.servers = servers

    def make_namespace(self) -> None:
        """The namespace with the secrets that both charts name."""
        variables = self.servers.variables()
        runner = {name: value for name, value in variables.items() if name.endswith("_TOKEN")}
        data = {
            "airflow-metadata": {"connection": variables["AIRFLOW_DSN"]},
            "airflow-keys-fernet": {"fernet-key": base64.urlsafe_b64encode(os.urandom(32)).decode()},
            "airflow-keys-api": {"api-secret-key": secrets.token_hex(32)},
            "airflow-keys-jwt": {"jwt-secret": secrets.token_urlsafe(48)},
            "testops-store": {"dsn": variables["TESTOPS_DSN"]},
            "testops-runner": runner,
        }
        self.cluster.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": self.namespace}})
        for name, values in data.items():
            metadata = {"name": name, "namespace": self.namespace}
            self.cluster.apply({"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "stringData": values})

    def delete_namespace(self) -> None:
        self.cluster.kubectl("delete", "namespace", self.namespace, "--wait=false", "--ignore-not-found")

    def helm(self, *arguments: str) -> str:
        done = subprocess.run(
            [*helm(), *arguments, "--namespace", self.namespace],
            capture_output=True,
            text=True,
            env=self.cluster.environment,
            timeout=INSTALL_S,
        )
        assert done.returncode == 0, f"{done.stdout[-2000:]}\n{done.stderr[-2000:]}\n{self.states()}"
        return done.stdout

    def install_ours(self, *options: str, **values: str) -> None:
        variables = self.servers.variables()
        flags = {
            "kafka.bootstrap": variables["TESTOPS_KAFKA_BOOTSTRAP"],
            "settings.TESTOPS_SHOP_URL": variables["TESTOPS_SHOP_URL"],
            # A test does not wait five minutes for the last runner to go.
            "keda.pollingIntervalSeconds": "2",
            "keda.cooldownSeconds": "20",
            **values,
        }
        target = ("--set-file", f"targets.shop={ROOT / 'targets/shop.yaml'}")
        wait = ("--wait", "--timeout", "5m")
        self.helm("upgrade", "--install", "testops", str(CHART), *assignments(flags), *target, *options, *wait)

    def install_airflow(self, **values: str) -> None:
        """`dev`, as it is but for `values`; returns when `testops_run` can be started."""
        options = (*airflow_files("dev"), *assignments(values), "--wait", "--timeout", f"{INSTALL_S}s")
        self.helm("upgrade", "--install", "airflow", str(airflow_chart()), *options)
        self.wait_for_dag()

    def wait_for_dag(self) -> None:
        self.until(self.has_dag, "testops_run is not there", 180)

    def has_dag(self) -> bool:
        try:
            return not self.airflow().is_paused(DAG)
        except TriggerError:
            return False

    def delete_jobs(self) -> None:
        """Kubernetes lets nobody change a job, and an upgrade would."""
        jobs = "component in (create-user-job,run-airflow-migrations)"
        self.cluster.kubectl("delete", "job", "-n", self.namespace, "-l", jobs)

    def restart_airflow(self) -> None:
        """All of its pods read the settings anew."""
        pods = ("deployment,statefulset", "-l", "release=airflow", "-n", self.namespace)
        names = self.cluster.kubectl("rollout", "restart", *pods, "-o", "name").split()
        for name in names:
            self.cluster.kubectl("rollout", "status", name, "-n", self.namespace, timeout_s=400)
        self.wait_for_dag()

    def airflow(self) -> Airflow:
        """A client of the API server, at its address in the cluster."""
        service = self.cluster.get("service", "airflow-api-server", "-n", self.namespace)
        return Airflow(f"http://{service['spec']['clusterIP']}:8080", username="admin", password="admin")

    def fleet_size(self) -> int:
        """Runners that the fleet's Deployment wants."""
        return int(self.cluster.get("deployment", "testops-fleet", "-n", self.namespace)["spec"]["replicas"])

    def objects(self, *kinds: str) -> set[str]:
        """Names of the namespace's objects of these kinds: `pod/airflow-scheduler-0`."""
        return set(self.cluster.kubectl("get", ",".join(kinds), "-n", self.namespace, "-o", "name").split())

    def states(self) -> str:
        """The pods and the last events, for the message of a failed test."""
        pods = self.cluster.kubectl("get", "pods", "-n", self.namespace, check=False)
        events = self.cluster.kubectl("get", "events", "-n", self.namespace, "--sort-by=.lastTimestamp", check=False)
        return "\n".join([pods, *events.splitlines()[-20:]])

    def until(self, holds: Callable[[], bool], what: str, timeout_s: float) -> None:
        deadline = time.monotonic() + timeout_s
        while not holds():
            assert time.monotonic() < deadline, f"{what}\n{self.states()}"
            time.sleep(1)


def assignments(values: Mapping[str, str]) -> list[str]:
    return [word for name, value in values.items() for word in ("--set", f"{name}={value}")]
