"""`topics`: what this library needs in Kafka."""

from __future__ import annotations

import click

from testops_lib import settings as configuration
from testops_lib.cli.output import say


@click.group()
def topics() -> None:
    """The topics in Kafka (TESTOPS_KAFKA_BOOTSTRAP)."""


@topics.command(
    epilog="\b\nExample:\n  TESTOPS_KAFKA_BOOTSTRAP=kafka:9092 TESTOPS_KAFKA_REPLICATION=3 testops topics create\n"
)
def create() -> None:
    """Create the topics that do not exist yet. Existing ones are left as they are; harmless to repeat.

    TESTOPS_KAFKA_PARTITIONS, TESTOPS_FLEET_PARTITIONS and TESTOPS_KAFKA_REPLICATION say how.
    """
    from testops_lib.run.connect import open_bus

    settings = configuration.read()
    with open_bus(settings) as bus:
        bus.create_topics(
            partitions=settings.kafka_partitions,
            fleet_partitions=settings.fleet_partitions,
            replication=settings.kafka_replication,
        )
    say("the topics are there")


@topics.command(name="list", epilog="\b\nExample:\n  testops topics list\n")
def list_topics() -> int:
    """One line for each topic that is needed: its name and its partitions, or that it is missing (then exit code 1)."""
    from testops_lib.run.connect import open_bus

    with open_bus(configuration.read()) as bus:
        partitions = bus.topic_partitions()
    for name, count in partitions.items():
        say(f"{name}  {f'{count} partitions' if count else 'missing: testops topics create'}")
    return int(not all(partitions.values()))
