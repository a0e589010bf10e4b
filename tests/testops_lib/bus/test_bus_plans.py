from __future__ import annotations

import pytest

from testops_lib.bus.client import Bus
from testops_lib.bus.topics import MAX_CONTRACT_BYTES
from testops_lib.errors import BusError
from testops_lib.model import (
    Contract,
    HeaderContract,
    MediaContract,
    Plan,
    Policy,
    ResponseContract,
)
from tests.testops_lib.bus.records import raw

pytestmark = pytest.mark.integration


PLAN = Plan(target="shop", base_url="http://127.0.0.1:1", policy=Policy(cases_per_batch=7))


def contract(number: int, *, schema: object = True) -> Contract:
    content = {"application/json": MediaContract(schema=schema)}
    headers = {"X-Total": HeaderContract(required=True, schema={"type": "integer"})}
    return Contract(
        operation=f"GET /things/{number}", responses={"200": ResponseContract(content=content, headers=headers)}
    )


def test_a_plan_comes_back_whole(bus: Bus) -> None:
    contracts = [contract(number, schema={"type": "object", "title": "é" * number}) for number in range(300)]
    bus.plans.publish("other", PLAN, contracts)
    batch = bus.plans.publish("run-1", PLAN, contracts)
    assert bus.plans.read(batch, "run-1") == (PLAN, {contract.operation: contract for contract in contracts})
    assert bus.plans.read(bus.plans.publish("bare", PLAN, []), "bare") == (PLAN, {})


def test_a_contract_too_large_is_published_without_schemas(bus: Bus) -> None:
    large = contract(1, schema={"enum": ["x" * MAX_CONTRACT_BYTES]})
    _, contracts = bus.plans.read(bus.plans.publish("run-1", PLAN, [large, contract(2)]), "run-1")
    assert contracts["GET /things/2"] == contract(2)
    kept = contracts["GET /things/1"].responses["200"]
    assert kept.content == {"application/json": MediaContract()}
    assert kept.headers == {"X-Total": HeaderContract(required=True)}


def test_a_plan_of_another_run_is_refused(bus: Bus) -> None:
    batch = bus.plans.publish("run-1", PLAN, [])
    with pytest.raises(BusError, match="run-2"):
        bus.plans.read(batch, "run-2")


def test_a_malformed_plan_is_refused(bus: Bus) -> None:
    batch = raw(bus, bus.topics.plans, b'{"kind": "plan"}', run="run-1")
    with pytest.raises(BusError, match="neither plan nor contract"):
        bus.plans.read(batch, "run-1")
