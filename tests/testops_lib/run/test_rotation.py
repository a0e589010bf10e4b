"""Secrets change while a run is under way, by the steps of DEPLOYMENT.md, and no result is lost."""

from __future__ import annotations

import json
import threading
from collections import Counter
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit, urlunsplit

import msgspec
import psycopg
import pytest
from confluent_kafka.admin import (
    AdminClient,
    ScramCredentialInfo,
    ScramMechanism,
    UserScramCredentialDeletion,
    UserScramCredentialUpsertion,
)

from stack.kafka import Kafka
from stack.samples import Sample
from testops_lib.bus.batch import positions_text
from testops_lib.bus.client import Bus
from testops_lib.errors import BusError, StoreError
from testops_lib.model import Identity
from testops_lib.run.collect import Counts, collect, drain
from testops_lib.store import Store
from tests.runner.test_runner import case, outcome, plan, publish, runner
from tests.testops_lib.run.test_collect import eventually, ids, write
from tests.testops_lib.run.test_collect import publish as publish_ids

pytestmark = [pytest.mark.integration, pytest.mark.long]


def collect_there(bus: Bus, store: Store, run: str = "r") -> int:
    """How many of the run's cases have a result after what is in Kafka is collected."""
    drain(bus, store, run)
    return store.progress(run).done


# --------------------------------------------------------------------------- the database's password


def as_role(dsn: str, role: str, password: str) -> str:
    parts = urlsplit(dsn)
    return urlunsplit(parts._replace(netloc=f"{role}:{password}@{parts.hostname}:{parts.port}"))


@pytest.fixture
def roles(postgres: str) -> Iterator[tuple[str, str]]:
    """DSNs of two roles that both act as the owner of the schema; the second cannot log in yet."""
    with psycopg.connect(postgres, autocommit=True) as connection:
        for statement in (
            "CREATE ROLE results NOLOGIN",
            f"GRANT CREATE ON DATABASE {urlsplit(postgres).path[1:]} TO results",
            "CREATE ROLE results_a LOGIN PASSWORD 'first' IN ROLE results",
            "ALTER ROLE results_a SET role = 'results'",
        ):
            connection.execute(statement.encode())
    yield as_role(postgres, "results_a", "first"), as_role(postgres, "results_b", "second")
    with psycopg.connect(postgres, autocommit=True) as connection:
        connection.execute(b"DROP OWNED BY results CASCADE")
        connection.execute(b"DROP ROLE results_a, results_b, results")


def test_the_role_of_the_database_changes_while_a_collector_follows(
    bus: Bus, postgres: str, roles: tuple[str, str]
) -> None:
    old, new = roles
    with Store(old) as before, Store(new) as after, psycopg.connect(postgres, autocommit=True) as admin:
        before.upgrade()
        publish_ids(bus, before, ids(30))
        write(bus, ids(10))
        assert collect_there(bus, before) == 10

        admin.execute(b"CREATE ROLE results_b LOGIN PASSWORD 'second' IN ROLE results")
        admin.execute(b"ALTER ROLE results_b SET role = 'results'")
        write(bus, ids(20))
        assert (collect_there(bus, before), collect_there(bus, after)) == (20, 20), "both work"

        admin.execute(b"ALTER ROLE results_a NOLOGIN")
        write(bus, ids(30))
        assert collect_there(bus, before) == 30, "connections that are open stay"
        with Store(old) as late, pytest.raises(StoreError, match="results_a"):
            late.latest_run()
        after.upgrade()
        assert collect(bus, after, "r") == Counts(published=30, stored=30, no_result=0)


# --------------------------------------------------------------------------- Kafka's user


@pytest.fixture(scope="module")
def secure_kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kafka]:
    with Kafka(tmp_path_factory.mktemp("secure-kafka"), durable=False, users={"first": "first-secret"}) as server:
        yield server


def alter(server: Kafka, change: UserScramCredentialUpsertion | UserScramCredentialDeletion) -> None:
    admin = AdminClient({"bootstrap.servers": server.bootstrap})
    for answer in admin.alter_user_scram_credentials([change]).values():
        answer.result(timeout=30)


def login(server: Kafka, user: str, password: str) -> dict[str, str]:
    return {**server.secure_options("first"), "sasl.username": user, "sasl.password": password}


@pytest.mark.kafka
def test_the_user_of_kafka_changes_while_a_runner_executes(
    secure_kafka: Kafka, store: Store, sound_shop: Sample
) -> None:
    address = secure_kafka.secure_bootstrap
    old, new = login(secure_kafka, "first", "first-secret"), login(secure_kafka, "second", "second-secret")
    with Bus(address, options=old) as before, Bus(address, options=new) as after:
        before.create_topics(partitions=1)
        cases = [case(number) for number in range(120)]
        at, [batch] = publish(before, store, "rotated", plan(sound_shop.url, requests_per_second=20), cases)
        arguments = ["--run", "rotated", "--plan", str(at), "--batch", str(batch)]
        process = runner(address, *arguments, TESTOPS_KAFKA_OPTIONS=json.dumps(old))
        eventually(lambda: collect_there(before, store, "rotated") >= 10)

        iterations = ScramCredentialInfo(ScramMechanism.SCRAM_SHA_512, 4096)
        alter(secure_kafka, UserScramCredentialUpsertion("second", iterations, b"second-secret"))
        eventually(lambda: collect_there(after, store, "rotated") >= 20)
        alter(secure_kafka, UserScramCredentialDeletion("first", ScramMechanism.SCRAM_SHA_512))
        with Bus(address, options=old, timeout_s=5) as late, pytest.raises(BusError, match="check the credentials"):
            late.results.position()

        assert process.poll() is None, "the runner is at work under the user that is gone"
        code, _, errors = outcome(process)
        assert code == 0, errors
        again = ["--again", positions_text(store.positions("rotated"))]
        code, said, errors = outcome(runner(address, *arguments, *again, TESTOPS_KAFKA_OPTIONS=json.dumps(new)))
        assert code == 0 and "120 judged before" in said, errors
        assert collect(after, store, "rotated") == Counts(published=120, stored=120, no_result=0)
        assert len(list(store.attempts("rotated"))) == 120


# --------------------------------------------------------------------------- a target's token


class Guarded(ThreadingHTTPServer):
    """A target that takes some tokens and refuses all others with 401."""

    daemon_threads = True

    def __init__(self) -> None:
        self.valid: set[str] = set()
        self.used: Counter[str] = Counter()
        server = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                token = self.headers.get("Authorization", "").removeprefix("Bearer ")
                server.used[token] += 1
                self.send_response(200 if token in server.valid else 401)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, format: str, *args: object) -> None:
                pass

        super().__init__(("127.0.0.1", 0), Handler)


@pytest.fixture
def guarded() -> Iterator[Guarded]:
    with Guarded() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def test_a_targets_token_changes_while_a_runner_executes(kafka: str, store: Store, guarded: Guarded) -> None:
    guarded.valid = {"old"}
    token = Identity(name="user", headers=(("Authorization", "Bearer ${PETS_TOKEN}"),))
    about = plan(f"http://127.0.0.1:{guarded.server_address[1]}", requests_per_second=20)
    with Bus(kafka) as line:
        line.create_topics(partitions=2)
        cases = [case(number) for number in range(120)]
        at, batches = publish(line, store, "token", msgspec.structs.replace(about, identities=(token,)), cases)
        first, *others = (("--run", "token", "--plan", str(at), "--batch", str(batch)) for batch in batches)
        assert others, "the cases lie in two partitions"
        process = runner(kafka, *first, PETS_TOKEN="old")
        eventually(lambda: guarded.used["old"] >= 10)
        guarded.valid = {"old", "new"}
        for arguments in others:
            code, _, errors = outcome(runner(kafka, *arguments, PETS_TOKEN="new"))
            assert code == 0, errors
        code, _, errors = outcome(process)
        assert code == 0, errors
        assert collect(line, store, "token") == Counts(published=120, stored=120, no_result=0)
    assert store.progress("token").by_verdict == {"passed": 120} and guarded.used.keys() == {"old", "new"}
