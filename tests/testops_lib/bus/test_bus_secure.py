"""TLS and SASL: what is set in TESTOPS_KAFKA_OPTIONS reaches librdkafka, and a refusal is said soon and clearly."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest

from stack import certificates
from stack.kafka import Kafka
from testops_lib import settings as configuration
from testops_lib.bus.client import Bus
from testops_lib.bus.topics import Topics
from testops_lib.errors import BusError
from tests.paths import ROOT
from tests.testops_lib.bus.records import read_all, result, some_cases

PASSWORD = "correct-horse-7"

pytestmark = [pytest.mark.integration, pytest.mark.kafka]


@pytest.fixture(scope="module")
def secure_kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kafka]:
    with Kafka(tmp_path_factory.mktemp("secure-kafka"), durable=False, users={"testops": PASSWORD}) as server:
        yield server


@pytest.fixture(scope="module")
def topics(secure_kafka: Kafka, new_topics: Callable[[], Topics]) -> Topics:
    named = new_topics()
    with Bus(secure_kafka.bootstrap, topics=named) as bus:
        bus.create_topics(partitions=2)
    return named


def environment(kafka: Kafka, **changed: str) -> dict[str, str]:
    options = {**kafka.secure_options("testops"), **changed}
    options = {name: value for name, value in options.items() if value}
    return {"TESTOPS_KAFKA_BOOTSTRAP": kafka.secure_bootstrap, "TESTOPS_KAFKA_OPTIONS": json.dumps(options)}


def bus_of(environ: Mapping[str, str], topics: Topics, timeout_s: float = 30) -> Bus:
    settings = configuration.read(environ)
    return Bus(settings.need_kafka(), options=settings.kafka_options, topics=topics, timeout_s=timeout_s)


def test_cases_and_results_pass_over_tls_with_a_login(secure_kafka: Kafka, topics: Topics) -> None:
    cases = some_cases(50)
    with bus_of(environment(secure_kafka), topics) as bus:
        batches = bus.cases.publish("run-1", cases)
        with bus.results.writer() as writer:
            writer.write(result(1))
        assert sorted(read_all(bus, batches, "run-1")) == sorted(case.id for case in cases)
        assert [read.case for results in bus.results.read({}) for read in results] == ["case-1"]
    assert secure_kafka.secure_bootstrap != secure_kafka.bootstrap


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"sasl.password": "wrong-battery-staple"}, "(?i)authentication failed"),
        ({"sasl.username": "nobody"}, "(?i)authentication failed"),
        ({"ssl.ca.location": "{another}"}, "(?i)certificate"),
        ({"sasl.mechanism": "PLAIN"}, "(?i)mechanism"),
    ],
)
def test_a_refusal_is_said_soon_and_without_the_password(
    secure_kafka: Kafka, topics: Topics, tmp_path: Path, changed: dict[str, str], said: str
) -> None:
    another, _ = certificates.make(tmp_path, "127.0.0.1")
    changed = {name: value.format(another=another) for name, value in changed.items()}
    begun = time.monotonic()
    with bus_of(environment(secure_kafka, **changed), topics, timeout_s=60) as bus:
        calls = [lambda: bus.cases.publish("run-1", some_cases(1)), bus.results.position, bus.create_topics]
        for call in calls if "sasl.password" in changed else calls[:1]:  # each takes seconds
            with pytest.raises(BusError, match=said) as refused:
                call()
            message = str(refused.value)
            assert "TESTOPS_KAFKA_OPTIONS" in message and PASSWORD not in message and "battery" not in message
    assert time.monotonic() - begun < 40


def test_a_runner_that_is_refused_asks_for_a_retry_without_telling_the_password(secure_kafka: Kafka) -> None:
    variables = environment(secure_kafka, **{"sasl.password": "wrong-battery-staple"})
    batch = ("--run", "r", "--plan", "testops.plans:0:0-1", "--batch", "testops.cases:0:0-1")
    done = subprocess.run(
        [sys.executable, "-m", "runner", *batch],
        env={**os.environ, **variables},
        capture_output=True,
        text=True,
        timeout=60,
        cwd=ROOT,
    )
    assert done.returncode == 1 and "uthentication failed" in done.stderr and "Traceback" not in done.stderr
    assert "battery" not in done.stdout + done.stderr


def test_without_a_login_the_secure_port_is_closed(secure_kafka: Kafka, topics: Topics) -> None:
    with Bus(secure_kafka.secure_bootstrap, topics=topics, timeout_s=2) as bus, pytest.raises(BusError):
        bus.results.position()
