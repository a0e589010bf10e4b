"""Real servers for the whole suite: each starts when a test first asks for it, once a session."""

from __future__ import annotations

import itertools
import os
import tempfile
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck
from hypothesis import settings as hypothesis_settings
from xdist.scheduler import LoadFileScheduling

from stack.kafka import Kafka
from stack.postgres import Postgres
from stack.samples import Sample
from testops_lib.bus.client import Bus
from testops_lib.bus.topics import Topics
from testops_lib.store import Store
from tests.airflow_python import airflow, airflow_environment, airflow_sdk  # noqa: F401 (fixtures)
from tests.paths import ROOT

# Machines are shared and noisy: how long an example takes says nothing here. The same examples in every run.
_PROFILE: dict[str, Any] = {"deadline": None, "derandomize": True, "suppress_health_check": [HealthCheck.too_slow]}
hypothesis_settings.register_profile("suite", **_PROFILE)
hypothesis_settings.register_profile("quick", max_examples=25, **_PROFILE)  # `make test`
hypothesis_settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "suite"))

_numbers = itertools.count(1)


ORDER = (
    ("charts", ("tests/e2e/test_official_chart.py", "tests/e2e/test_argocd_sync.py", "tests/e2e/test_images.py")),
    ("pods", ("tests/e2e/test_pods.py", "tests/e2e/test_chaos.py", "tests/e2e/test_fleet_pods.py")),
    ("stack", ("tests/e2e/test_airflow_target.py", "tests/e2e/test_stack.py", "tests/e2e/test_review.py")),
    ("compose", ("tests/e2e/test_compose_run.py",)),
    ("dags", ("tests/dags/", "tests/testops_airflow/")),
    ("runner", ("tests/runner/test_runner.py",)),
    ("fleet", ("tests/e2e/test_fleet_run.py",)),
    ("make run", ("tests/e2e/test_make_run.py",)),
    ("Airflow's API", ("tests/testops_lib/test_airflow_api.py",)),
    ("tiny LLM", ("tests/testops_lib/generate/llm/test_tiny_llm.py",)),
    ("command line", ("tests/testops_lib/cli/test_cli.py",)),
    ("random data", ("tests/testops_lib/generate/test_property.py",)),
)
"""Files and folders that share a server too expensive to start twice, and the long ones, the longest first."""


PLACES = {path: place for place, path in enumerate(path for _, paths in ORDER for path in paths)}
GROUPS = {path: group for group, paths in ORDER for path in paths}


def listed(file: str) -> str:
    """The path of `ORDER` that a test file stands under; else ""."""
    return next((path for path in GROUPS if file.startswith(path)), "")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Long groups begin first, so that none is still at work when the rest is done."""
    items.sort(key=lambda item: PLACES.get(listed(item.path.relative_to(ROOT).as_posix()), len(PLACES)))


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> LoadFileScheduling:
    """One worker executes all tests of a group of `ORDER`, or of a file."""

    class ByGroup(LoadFileScheduling):
        def _split_scope(self, nodeid: str) -> str:
            file = super()._split_scope(nodeid)
            return GROUPS.get(listed(file), file)

    return ByGroup(config, log)


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
    with Store(postgres) as store:
        store.upgrade()
        yield store


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
    with Bus(kafka, topics=own_topics(), timeout_s=30) as bus:
        bus.create_topics(partitions=2)
        yield bus


@pytest.fixture
def breakable_bus(breakable_kafka: Kafka) -> Iterator[Bus]:
    """A bus on the broker that may be killed."""
    with Bus(breakable_kafka.start(), topics=own_topics(), timeout_s=60) as bus:
        bus.create_topics(partitions=2)
        yield bus


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
