"""Real servers for the whole suite: each starts when a test first asks for it, once a session."""

from __future__ import annotations

import itertools
import tempfile
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck
from hypothesis import settings as hypothesis_settings

from stack.kafka import Kafka
from stack.postgres import Postgres
from stack.samples import Sample
from testops_lib.bus.client import Bus
from testops_lib.bus.topics import Topics
from testops_lib.store import Store

# Machines are shared and noisy: how long an example takes says nothing here. The same examples in every run.
hypothesis_settings.register_profile(
    "suite", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow]
)
hypothesis_settings.load_profile("suite")

_numbers = itertools.count(1)


LONG = (
    "tests/e2e/",
    "tests/dags/",
    "tests/runner/",
    "tests/testops_lib/generate/llm/test_tiny_llm.py",
    "tests/testops_lib/test_airflow_api.py",
    "tests/testops_lib/cli/test_cli.py",
    "tests/testops_lib/generate/test_property_shop.py",
    "tests/testops_lib/generate/test_property.py",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The long files first, so that of two workers none is idle while the other ends them."""
    items.sort(key=lambda item: next((at for at, part in enumerate(LONG) if part in item.path.as_posix()), len(LONG)))


@pytest.fixture(scope="session")
def kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Bootstrap address of a broker that stays up. Take topics of your own (`bus` has them)."""
    server = Kafka(tmp_path_factory.mktemp("kafka"), durable=False)
    yield server.start()
    server.stop()


@pytest.fixture(scope="session")
def breakable_kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kafka]:
    """Another broker, running, to kill and start again; leave it running."""
    with Kafka(tmp_path_factory.mktemp("breakable-kafka"), durable=False) as server:
        yield server


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[Postgres]:
    # Not below pytest's own directory: another session closes that to other users, PostgreSQL's among them.
    with tempfile.TemporaryDirectory(prefix="testops-") as state, Postgres(Path(state), durable=False) as server:
        yield server


@pytest.fixture
def postgres(postgres_server: Postgres) -> Iterator[str]:
    """DSN of an empty database."""
    name = f"test{next(_numbers)}"
    yield postgres_server.create_database(name)
    postgres_server.drop_database(name)


@pytest.fixture
def store(postgres: str) -> Iterator[Store]:
    """A store in a database of its own, upgraded."""
    with Store(postgres) as made:
        made.upgrade()
        yield made


def own_topics() -> Topics:
    """Topics that no other test uses."""
    prefix = uuid.uuid4().hex[:8]
    names = ("cases", "plans", "results", "notifications", "dead_letters", "batches", "outcomes", "shares")
    return Topics(**{name: f"{prefix}.{name}" for name in names})


@pytest.fixture(scope="session")
def new_topics() -> Callable[[], Topics]:
    """`own_topics`, for test modules with servers of their own."""
    return own_topics


@pytest.fixture
def bus(kafka: str) -> Iterator[Bus]:
    """A bus with topics of its own, of two partitions."""
    with Bus(kafka, topics=own_topics(), timeout_s=30) as made:
        made.create_topics(partitions=2)
        yield made


@pytest.fixture
def breakable_bus(breakable_kafka: Kafka) -> Iterator[Bus]:
    """A bus on the broker that may be killed."""
    with Bus(breakable_kafka.start(), topics=own_topics(), timeout_s=60) as made:
        made.create_topics(partitions=2)
        yield made


@pytest.fixture(scope="session")
def sound_shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sample]:
    """The sample shop with every defect switched off."""
    sample = Sample("shop", tmp_path_factory.mktemp("sound-shop"), defects="none")
    sample.start()
    yield sample
    sample.stop()


@pytest.fixture(scope="session")
def defective_shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sample]:
    """The sample shop with every defect."""
    sample = Sample("shop", tmp_path_factory.mktemp("defective-shop"), defects="all")
    sample.start()
    yield sample
    sample.stop()
