"""What a fleet answers, as the state of the task that ordered it."""

from __future__ import annotations

import json

import pytest

from testops_lib.bus.client import Bus
from tests.airflow_python import printed
from tests.warm_python import WarmPython

pytestmark = pytest.mark.airflow

FLEET = """
import json
from datetime import datetime, timezone
from types import SimpleNamespace
from testops_airflow.fleet import FleetOperator, FleetTrigger
from airflow.triggers.base import BaseTrigger
from testops_lib.launch.fleet import OrderProgress
import msgspec

def became(call):
    try:
        call()
        return "done", ""
    except BaseException as error:
        return type(error).__name__, str(error)

ti = SimpleNamespace(xcom_push=lambda key, value: None)

def operator(batches):
    return FleetOperator(task_id="execute", run="r", plan="p:0:0-1", batches=batches, results="0:0")

def ended(*codes, **more):
    progress = OrderProgress(ended={f"b:{number}": (code, "text") for number, code in enumerate(codes)}, **more)
    return became(lambda: operator(["b:0"]).finish({"ti": ti}, msgspec.to_builtins(progress)))

trigger = FleetTrigger(run="r", orders={"id": "b:0"}, outcomes="0:7", expires=datetime.now(timezone.utc).isoformat())
path, kwargs = trigger.serialize()
print(json.dumps({
    "empty": [became(lambda: operator(none).execute({}))[0] for none in ([], None)],
    "away": ended(0, 3, 1), "done": ended(0, 0), "again": ended(0, 1), "refused": ended(0, 1, 2),
    "never": ended(waiting=("b:1", "b:2")), "dead": ended(0, begun=("b:1",)),
    "path": path, "kwargs": sorted(kwargs), "same": FleetTrigger(**kwargs).serialize() == (path, kwargs),
}))
"""


def test_what_a_fleet_says_becomes_the_state_of_its_task(airflow: WarmPython) -> None:
    outcomes = printed(airflow, FLEET)
    assert outcomes["empty"] == ["AirflowSkipException"] * 2
    assert outcomes["done"] == ["done", ""]
    assert outcomes["away"][0] == "TaskDeferred", "a target that is down is waited for without a worker"
    assert (
        outcomes["again"][0] == "AirflowException" and "1 batch not completed, first b:1: text" in outcomes["again"][1]
    )
    assert outcomes["refused"][0] == "AirflowFailException" and "refused" in outcomes["refused"][1]
    assert (
        outcomes["never"][0] == "AirflowException" and "2 batches never taken: is the fleet up" in outcomes["never"][1]
    )
    assert outcomes["dead"][0] == "AirflowException" and "is their runner alive" in outcomes["dead"][1]
    assert outcomes["path"] == "testops_airflow.fleet.FleetTrigger" and outcomes["same"]
    assert outcomes["kwargs"] == ["down_since", "expires", "orders", "outcomes", "run", "topic"], (
        "what lies in the database in the clear"
    )


WAIT = """
import asyncio, json, os
from datetime import datetime, timedelta, timezone
from testops_airflow.fleet import FleetTrigger

os.environ["TESTOPS_KAFKA_BOOTSTRAP"] = {kafka!r}
expires = (datetime.now(timezone.utc) + timedelta({hours}/24)).isoformat()
trigger = FleetTrigger(run="r", orders={{"id": "b:0"}}, outcomes="0:0", expires=expires, topic={topic!r})

async def event():
    return [event.payload async for event in trigger.run()]

async def waits():
    try:
        return await asyncio.wait_for(event(), {patience})
    except TimeoutError:
        return "waits"

print(json.dumps(asyncio.run(waits())))
"""


@pytest.mark.integration
def test_orders_that_kafka_has_lost_are_not_waited_for(airflow: WarmPython, kafka: str) -> None:
    with Bus(kafka) as bus:
        bus.create_topics(partitions=2)
        topic = bus.outcomes.topic_id()
    assert printed(airflow, WAIT.format(kafka=kafka, topic=topic, hours=1, patience=8)) == "waits"
    [event] = printed(airflow, WAIT.format(kafka=kafka, topic="an earlier one", hours=1, patience=60))
    assert event["waiting"] == ["b:0"] and not event["ended"], "the task is retried, and says what is lost"


KILLED = """
import asyncio
from testops_airflow.fleet import FleetTrigger
orders = {"id-1": "b:0", "id-2": "b:1"}
trigger = FleetTrigger(run="killed", orders=orders, outcomes="0:0", expires="2026-01-01T00:00:00+00:00")
asyncio.run(trigger.on_kill())
"""


def test_orders_of_a_killed_task_are_withdrawn_from_the_broker_of_a_connection(airflow: WarmPython, kafka: str) -> None:
    with Bus(kafka) as bus:
        bus.create_topics(partitions=2)
        start = bus.outcomes.position()
        broker = json.dumps({"conn_type": "kafka", "extra": {"bootstrap.servers": kafka}})
        done = airflow.run(KILLED, variables={"TESTOPS_KAFKA_CONN_ID": "broker", "AIRFLOW_CONN_BROKER": broker})
        assert done.returncode == 0, done.stderr
        outcomes = bus.outcomes.read(start, "killed")
    assert {(outcome.order, outcome.text) for outcome in outcomes} == {
        ("id-1", "withdrawn by Airflow"),
        ("id-2", "withdrawn by Airflow"),
    }
