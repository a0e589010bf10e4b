"""The topics of one Kafka cluster, behind one object.

A batch is read by assign and seek: no group, no commit, so a retry reads exactly the same records. Only orders of
batches, and shares of a target's limits, are given out by consumer groups. Every record carries the header `run`. A
failed delivery means *unknown*, not *absent*: publishing again may leave two copies in the topic, which is
harmless because results are keyed by (run, case, attempt).
"""

from __future__ import annotations

from collections.abc import Mapping

from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from testops_lib.bus.cases import Cases
from testops_lib.bus.closing import Closing
from testops_lib.bus.connection import Connection
from testops_lib.bus.dead_letters import DeadLetters
from testops_lib.bus.orders import Orders
from testops_lib.bus.outcomes import Outcomes
from testops_lib.bus.plans import Plans
from testops_lib.bus.results import Results
from testops_lib.bus.shares import Shares
from testops_lib.bus.topics import MAX_RECORD_BYTES, Topics
from testops_lib.errors import BusError

_OVERHEAD_BYTES = 388_608
"""What the brokers accept beyond our own limit of a record: its key and headers."""


class Bus(Closing):
    """The topics of one Kafka cluster, each as an attribute with what can be done with it.

    Connects when first needed. Usable as a context manager; `close` waits for dead letters still on their way.

    Args:
        bootstrap: `host:port[,host:port…]`.
        options: further librdkafka settings for every client, such as `security.protocol` or `sasl.password`.
        topics: other names than the usual ones.
        timeout_s: how long brokers may be away before a call gives up with `BusError`.
    """

    def __init__(
        self,
        bootstrap: str,
        *,
        options: Mapping[str, str] | None = None,
        topics: Topics | None = None,
        timeout_s: float = 60,
    ) -> None:
        self.bootstrap, self.topics = bootstrap, topics or Topics()
        self.connection = connection = Connection(bootstrap, options=options, timeout_s=timeout_s)
        self.dead_letters = DeadLetters(connection, self.topics)
        self.cases = Cases(connection, self.topics.cases, self.dead_letters)
        self.plans = Plans(connection, self.topics.plans)
        self.results = Results(connection, self.topics.results, self.dead_letters)
        self.orders = Orders(connection, self.topics.batches, self.dead_letters)
        self.outcomes = Outcomes(connection, self.topics.outcomes)
        self.shares = Shares(connection, self.topics.shares)

    def close(self) -> None:
        """Waits until the dead letters on their way are delivered.

        Raises:
            BusError: they could not be delivered.
        """
        self.dead_letters.flush()

    def create_topics(
        self,
        *,
        partitions: int = 4,
        fleet_partitions: int = 12,
        replication: int = 1,
        retention_ms: int = 7 * 86_400_000,
    ) -> None:
        """Creates the topics that do not exist yet and returns when each partition has a leader.

        Existing topics are left as they are. `partitions` holds for cases and results, `fleet_partitions` for orders of
        batches and for the shares of targets' limits; the others have one.

        Raises:
            BusError: the cluster is away or refuses.
        """
        connection = self.connection
        small = {"retention.ms": str(retention_ms), "min.insync.replicas": str(2 if replication > 2 else 1)}
        large = {**small, "max.message.bytes": str(MAX_RECORD_BYTES + _OVERHEAD_BYTES)}
        wanted = {
            self.topics.cases: (partitions, large),
            self.topics.plans: (1, large),
            self.topics.results: (partitions, small),
            self.topics.notifications: (1, small),
            self.topics.dead_letters: (1, large),
            self.topics.batches: (fleet_partitions, small),
            self.topics.outcomes: (1, small),
            self.topics.shares: (fleet_partitions, small),
        }
        with connection.translated("topics"):
            admin = AdminClient(connection.configuration())
            existing = set(connection.metadata(admin).topics)
            missing = [
                NewTopic(name, num_partitions=count, replication_factor=replication, config=config)
                for name, (count, config) in wanted.items()
                if name not in existing
            ]
            creations = admin.create_topics(missing, request_timeout=connection.timeout_s) if missing else {}
            for name, creation in creations.items():
                try:
                    creation.result()
                except KafkaException as error:
                    if error.args[0].code() != KafkaError.TOPIC_ALREADY_EXISTS:
                        raise BusError(f"cannot be created: {error.args[0].str()}", where=f"topic {name}") from error
            for name in wanted:
                connection.partitions(admin, name, grace_s=connection.timeout_s)

    def topic_partitions(self) -> dict[str, int]:
        """Name of each topic that is needed -> its number of partitions; 0: it does not exist.

        Raises:
            BusError: the cluster is away or refuses.
        """
        with self.connection.translated("topics"):
            existing = self.connection.metadata(AdminClient(self.connection.configuration())).topics
        names = (getattr(self.topics, field) for field in self.topics.__struct_fields__)
        return {name: len(existing[name].partitions) if name in existing else 0 for name in names}
