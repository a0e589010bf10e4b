"""Runs of thousands of cases in real pods, on three brokers; something dies midway, and no case is lost or doubled."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from typing import Any

import psycopg
import pytest
from confluent_kafka.admin import AdminClient, ClusterMetadata

from stack.local import Local
from testops_lib.airflow_api import Airflow
from testops_lib.bus.topics import Topics
from testops_lib.store import Store
from tests.e2e import pods, targets
from tests.e2e.big_target import BigTarget
from tests.e2e.running import DAG, all_passed_once, client, last, midway

pytestmark = [
    pytest.mark.cluster,
    pytest.mark.chaos,
    pytest.mark.kafka,
    pytest.mark.airflow,
    pytest.mark.integration,
    pytest.mark.timeout(1200),
]

CASES = targets.SHELVES_CASES
DOWN_S = 20
TOPICS = (Topics().cases, Topics().plans, Topics().results)


@dataclass(frozen=True, kw_only=True)
class Scene:
    """Everything a harm may touch, while a run is midway."""

    local: Local
    airflow: Airflow
    cluster: pods.Cluster
    target: BigTarget
    run: str = ""

    def pid(self, service: str) -> int:
        return int((self.local.state / "airflow/pids" / service).read_text() or 0)

    def kill(self, service: str) -> None:
        """SIGKILL for one of Airflow's services; returns when it has been started again."""
        before = self.pid(service)
        os.kill(before, signal.SIGKILL)
        until(lambda: self.pid(service) not in (0, before), f"{service} was not started again")

    def brokers(self) -> ClusterMetadata:
        return AdminClient({"bootstrap.servers": self.local.kafka.bootstrap, "log_level": 0}).list_topics(timeout=20)


@pytest.fixture
def scene(pods_local: Local, cluster: pods.Cluster, big_target: BigTarget) -> Scene:
    return Scene(local=pods_local, airflow=client(pods_local), cluster=cluster, target=big_target)


def until(holds: Callable[[], Any], what: str, *, timeout_s: float = 90) -> None:
    deadline = time.monotonic() + timeout_s
    while not holds():
        assert time.monotonic() < deadline, what
        time.sleep(0.2)


@contextmanager
def nothing(scene: Scene) -> Iterator[None]:
    yield


@contextmanager
def runner_killed(scene: Scene) -> Iterator[None]:
    pods.kill(scene.cluster, scene.run)
    yield
    codes = [ended["exitCode"] for ended in pods.endings(scene.cluster, scene.run)]
    assert 137 in codes, "a pod that failed stays to be looked at"


@contextmanager
def out_of_memory(scene: Scene) -> Iterator[None]:
    pods.exhaust(scene.cluster, scene.run)
    yield
    assert "OOMKilled" in [ended["reason"] for ended in pods.endings(scene.cluster, scene.run)]


@contextmanager
def broker_killed(scene: Scene) -> Iterator[None]:
    topics = scene.brokers().topics
    copies = {len(part.replicas) for name in TOPICS for part in topics[name].partitions.values()}
    assert copies == {3}
    scene.local.kafka.kill(1)
    until(lambda: len(scene.brokers().brokers) == 2, "the broker lives on")
    yield
    assert len(scene.brokers().brokers) == 2, "the run went on with two"
    scene.local.kafka.start()


@contextmanager
def postgres_restarted(scene: Scene) -> Iterator[None]:
    def begun() -> Any:
        with psycopg.connect(scene.local.dsn) as connection:
            return connection.execute("SELECT pg_postmaster_start_time()").fetchone()

    before = begun()
    scene.local.postgres.stop()
    time.sleep(5)
    scene.local.postgres.start()
    assert begun() > before
    yield


@contextmanager
def scheduler_killed(scene: Scene) -> Iterator[None]:
    scene.kill("scheduler")
    yield


@contextmanager
def triggerer_killed(scene: Scene) -> Iterator[None]:
    scene.kill("triggerer")
    yield


@contextmanager
def target_down(scene: Scene) -> Iterator[None]:
    scene.target.stop()
    time.sleep(DOWN_S)
    scene.target.start()
    yield
    assert scene.target.served()["probes"] > 0, "the runners saw it go, and probed until it was back"


HARMS = (
    nothing,
    runner_killed,
    out_of_memory,
    broker_killed,
    postgres_restarted,
    scheduler_killed,
    triggerer_killed,
    target_down,
)


@pytest.mark.parametrize("harm", HARMS)
def test_each_of_thousands_of_cases_has_one_final_result_after(
    scene: Scene, harm: Callable[[Scene], AbstractContextManager[None]]
) -> None:
    run = scene.airflow.trigger(DAG, {"target": "shelves"})
    with Store(scene.local.dsn) as store:
        before = midway(store, run, done=CASES // 5, timeout_s=300)
    begun = time.monotonic()
    with harm(replace(scene, run=run)):
        harmed_s = time.monotonic() - begun
        with Store(scene.local.dsn) as store:
            assert store.progress(run).done < CASES, "the run was over before the harm was done"
        end = last(scene.airflow, run, timeout_s=600)
        if cleared := end.state != "success":
            scene.airflow.clear_failed(DAG, run)
            end = last(scene.airflow, run, timeout_s=600)
    took_s = time.monotonic() - begun
    repeated = sum(task.attempt > 1 for task in end.tasks)
    print(
        f"{harm.__name__}: {before.done} cases done before, harm {harmed_s:.0f} s, end after {took_s:.0f} s, "
        f"{repeated} tasks repeated, {'cleared once' if cleared else 'ended by itself'}"
    )
    assert end.state == "success", end
    with Store(scene.local.dsn) as store:
        all_passed_once(store, run, CASES)
