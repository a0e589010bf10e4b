"""Apache Kafka and PostgreSQL for one benchmark, durable as `make run` has them, gone afterwards."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from stack.kafka import Kafka
from stack.postgres import Postgres
from testops_lib.bus.client import Bus
from testops_lib.store import Store


class Servers:
    """Addresses and processes."""

    def __init__(self, kafka: Kafka, postgres: Postgres, dsn: str) -> None:
        self.kafka, self.postgres, self.dsn = kafka, postgres, dsn
        self.bootstrap = kafka.bootstrap


@contextmanager
def running(*, brokers: int = 1, partitions: int = 4) -> Iterator[Servers]:
    """Both, with topics and schema."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(TemporaryDirectory(prefix="testops-bench-")))
        folder.chmod(0o755)
        kafka = stack.enter_context(Kafka(folder / "kafka", brokers=brokers, durable=False))
        postgres = stack.enter_context(Postgres(folder / "postgres", durable=True))
        dsn = postgres.create_database("bench")
        with Bus(kafka.bootstrap) as bus, Store(dsn) as store:
            bus.create_topics(partitions=partitions, replication=min(3, brokers))
            store.upgrade()
        yield Servers(kafka, postgres, dsn)
