"""The chart's Kafka users on a real broker with access rules: each may do its part of a run, and no more."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from confluent_kafka.admin import AclBinding, AclOperation, AclPermissionType, AdminClient, ResourcePatternType
from confluent_kafka.admin import ResourceType as Resource

from stack.fleet import Fleet
from stack.kafka import Kafka
from testops_lib.bus.batch import parse_positions, positions_text
from testops_lib.bus.client import Bus
from testops_lib.errors import BusError
from testops_lib.launch.fleet import OrderTracker
from testops_lib.run.collect import collect
from testops_lib.run.orders import hand_out
from testops_lib.settings import Settings
from testops_lib.store import Store
from tests.rendering import Manifest, ours
from tests.runner.test_runner import case, plan, publish
from tests.runner.test_runner_fleet import Log, log, order  # noqa: F401

PASSWORDS = {"runner": "correct-horse-8", "airflow": "correct-horse-9"}
RESOURCES = {"topic": Resource.TOPIC, "group": Resource.GROUP, "cluster": Resource.BROKER}

pytestmark = [pytest.mark.integration, pytest.mark.kafka, pytest.mark.timeout(240)]


def bindings(user: Manifest) -> set[AclBinding]:
    """What Strimzi's operator makes of a KafkaUser."""
    return {
        AclBinding(
            RESOURCES[rule["resource"]["type"]],
            rule["resource"].get("name", "kafka-cluster"),
            ResourcePatternType.PREFIXED
            if rule["resource"].get("patternType") == "prefix"
            else ResourcePatternType.LITERAL,
            f"User:{user['metadata']['name']}",
            "*",
            AclOperation[re.sub("(?<=[a-z])(?=[A-Z])", "_", operation).upper()],
            AclPermissionType.ALLOW,
        )
        for rule in user["spec"]["authorization"]["acls"]
        for operation in rule["operations"]
    }


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kafka]:
    """A broker that knows the users of the chart and lets them do what their manifests say."""
    users = [manifest for manifest in ours("everything") if manifest["kind"] == "KafkaUser"]
    assert {user["metadata"]["name"] for user in users} == PASSWORDS.keys()
    with Kafka(tmp_path_factory.mktemp("guarded"), durable=False, users=PASSWORDS, guarded=True) as server:
        admin = AdminClient({"bootstrap.servers": server.bootstrap})
        for user in users:
            for created in admin.create_acls(list(bindings(user))).values():
                created.result(30)
        yield server


def bus_of(kafka: Kafka, user: str) -> Bus:
    return Bus(kafka.secure_bootstrap, options=kafka.secure_options(user), timeout_s=20)


def test_a_run_passes_with_both_users(guarded: Kafka, store: Store, log: Log, tmp_path: Path) -> None:  # noqa: F811
    variables = {
        "TESTOPS_KAFKA_BOOTSTRAP": guarded.secure_bootstrap,
        "TESTOPS_KAFKA_OPTIONS": json.dumps(guarded.secure_options("runner")),
    }
    with bus_of(guarded, "airflow") as bus:
        bus.create_topics(partitions=2)
        fleet = Fleet(tmp_path / "fleet", variables)
        try:
            for fleet_runner in fleet.add(1):
                fleet_runner.wait_ready()
            at, batches = publish(bus, store, "guarded", plan(log.url), [case(number) for number in range(40)])
            handed = hand_out(
                "guarded",
                Settings(kafka_bootstrap=guarded.secure_bootstrap, kafka_options=guarded.secure_options("airflow")),
                plan=str(at),
                wanted=[str(batch) for batch in batches],
                results=positions_text(store.positions("guarded")),
            )
            tracker = OrderTracker(handed.orders)
            with bus.outcomes.follow(parse_positions(handed.outcomes), "guarded") as follower:
                while not tracker.complete:
                    for outcome in follower.poll(1):
                        tracker.add(outcome)
        finally:
            fleet.stop()
        assert {code for code, _ in tracker.progress().ended.values()} == {0}
        assert collect(bus, store, "guarded").no_result == 0


def test_a_runner_may_publish_neither_cases_nor_orders_nor_plans(guarded: Kafka) -> None:
    with bus_of(guarded, "airflow") as bus:
        bus.create_topics(partitions=2)
    with bus_of(guarded, "runner") as bus:
        with pytest.raises(BusError, match="uthoriz"):
            bus.cases.publish("forged", [case(1)])
        with pytest.raises(BusError, match="uthoriz"):
            bus.orders.publish([(0, order("forged"))])
        with pytest.raises(BusError, match="uthoriz"):
            bus.plans.publish("forged", plan("http://127.0.0.1:1"), [])
