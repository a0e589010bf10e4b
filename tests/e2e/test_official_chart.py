"""The official Airflow chart and ours beside it on a real Kubernetes: the shop is tested through them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import pytest

from testops_lib.airflow_api import Airflow
from testops_lib.http.session import open_session
from testops_lib.store import Store
from tests.e2e.deployed import Deployment, services
from tests.e2e.pods import Cluster, pods_of
from tests.e2e.running import DAG, each_defect_is_one_finding, last, midway, state_directory
from tests.rendering import CHART

pytestmark = [pytest.mark.cluster, pytest.mark.integration, pytest.mark.timeout(1800)]

NAMESPACE = "testops-chart-test"
RUN_S = 900
REPLACED = ("pod/airflow-api-server", "pod/airflow-dag-processor", "pod/testops-collector")
"""Pods of Deployments, which get new names; those of StatefulSets keep theirs."""


@pytest.fixture(scope="module")
def deployment(deployable: Cluster) -> Iterator[Deployment]:
    """A namespace with the secrets in it, and servers that its pods reach. No chart is installed."""
    with services(state_directory()) as servers:
        deployment = Deployment(deployable, NAMESPACE, servers)
        deployment.make_namespace()
        yield deployment
        deployment.delete_namespace()


@pytest.fixture(scope="module")
def local_executor(deployment: Deployment) -> Deployment:
    """Both charts, Airflow's with the values for `dev` as they are; the last test that uses them uninstalls them."""
    deployment.install_ours()
    deployment.install_airflow()
    return deployment


@pytest.fixture
def results(deployment: Deployment) -> Iterator[Store]:
    with Store(deployment.servers.postgres.dsn()) as store:
        yield store


def ends_with_27_findings(store: Store, airflow: Airflow, run: str) -> None:
    """The run tested every operation, found each seeded defect once, and has one result for each case."""
    end = last(airflow, run, timeout_s=RUN_S)
    assert {task.task for task in end.tasks if task.state == "failed"} == {"gate"}, airflow.outcome(DAG, run)
    report = store.report(run)
    assert report is not None
    each_defect_is_one_finding(report)
    rows = Counter(result.case for result in store.attempts(run))
    assert store.missing(run) == [] and max(rows.values()) == 1 and len(rows) == store.published(run)


def test_the_fleet_comes_with_a_run_and_goes_after_it(local_executor: Deployment, results: Store) -> None:
    deployment, airflow = local_executor, local_executor.airflow()
    deployment.until(lambda: deployment.fleet_size() == 0, "runners without an order", 120)
    run = airflow.trigger(DAG, {"target": "shop"})
    sizes = [deployment.fleet_size() for _ in airflow.wait(DAG, run, timeout_s=RUN_S)]
    assert max(sizes) > 1
    ends_with_27_findings(results, airflow, run)
    deployment.until(lambda: deployment.fleet_size() == 0, "runners that stay", 240)

    page = f"{airflow.url}/testops/runs/{run}/report"
    with open_session(host="cluster") as session:
        assert session.get(page, timeout=30).status_code == 401
        answer = session.get(page, timeout=30, headers={"Authorization": f"Bearer {airflow.token()}"})
    assert answer.status_code == 200 and run in answer.text
    tasks = {task.task: task for task in airflow.snapshot(DAG, run).tasks}
    assert "findings" in airflow.log_tail(DAG, run, tasks["gate"]), "logs of tasks are reached, too"
    deployment.helm("test", "testops")


def test_an_upgrade_during_a_run_loses_nothing_and_can_be_rolled_back(
    local_executor: Deployment, results: Store
) -> None:
    """Batches in pods: those go on while each pod of Airflow, the collector and the schema's job are replaced."""
    deployment, cluster = local_executor, local_executor.cluster
    pods = ("--values", str(CHART / "pods.yaml"))
    deployment.install_ours(*pods)
    deployment.restart_airflow()
    airflow = deployment.airflow()
    run = airflow.trigger(DAG, {"target": "shop"})
    midway(results, run, done=100, timeout_s=300)
    assert pods_of(cluster, run, deployment.namespace), "no pods of its own"
    old = {name for name in deployment.objects("pod") if name.startswith(REPLACED)}
    assert len(old) >= len(REPLACED)
    deployment.delete_jobs()
    deployment.install_ours(*pods, **{"collector.resources.requests.cpu": "51m"})
    deployment.install_airflow(**{"airflowPodAnnotations.upgraded": "yes"})
    deployment.until(lambda: not old & deployment.objects("pod"), f"not all of {old} are replaced", 180)
    ends_with_27_findings(results, airflow, run)

    deployment.delete_jobs()
    deployment.helm("rollback", "airflow", "--wait", "--timeout", "10m")
    deployment.helm("rollback", "testops", "--wait", "--timeout", "5m")
    deployment.wait_for_dag()
    deployment.helm("test", "testops")
    assert results.report(run) is not None


def test_uninstalling_leaves_what_holds_data_and_what_a_person_made(local_executor: Deployment) -> None:
    deployment = local_executor
    for release in ("airflow", "testops"):
        deployment.helm("uninstall", release, "--wait", "--timeout", "3m")
    deployment.until(lambda: not deployment.objects("pod"), "pods do not end", 120)
    kinds = ("all", "configmap", "secret", "persistentvolumeclaim", "role", "rolebinding", "serviceaccount")
    left = deployment.objects(*kinds, "job", "networkpolicy", "poddisruptionbudget", "resourcequota")
    assert left == {
        "configmap/kube-root-ca.crt",
        "serviceaccount/default",
        "secret/airflow-broker-url",  # the official chart leaves it; without Celery it holds nothing
        *(f"persistentvolumeclaim/logs-airflow-{name}-0" for name in ("scheduler", "triggerer")),
        *(f"secret/{name}" for name in ("airflow-metadata", "testops-store", "testops-runner")),
        *(f"secret/airflow-keys-{name}" for name in ("fernet", "api", "jwt")),
    }


def test_with_the_kubernetes_executor_it_is_the_same(deployment: Deployment, results: Store) -> None:
    deployment.install_ours()
    deployment.install_airflow(
        **{
            "executor": "KubernetesExecutor",
            "allowPodLaunching": "true",  # the executor's own right
            "logs.persistence.enabled": "true",
            "logs.persistence.size": "2Gi",
        }
    )
    airflow = deployment.airflow()
    run = airflow.trigger(DAG, {"target": "shop"})
    ends_with_27_findings(results, airflow, run)
