"""The real PostgreSQL keeps what was committed through stops, kills and port changes."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from stack.postgres import Postgres
from stack.process import started_at
from testops_lib.errors import StackError

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def state() -> Iterator[Path]:
    # Not below pytest's own directory: another session closes that to other users, PostgreSQL's among them.
    with tempfile.TemporaryDirectory(prefix="testops-") as folder:
        yield Path(folder)


@pytest.fixture
def server(state: Path) -> Iterator[Postgres]:
    """One data directory for all tests here, a server of its own for each."""
    with Postgres(state, durable=False) as postgres:
        yield postgres


def write(dsn: str, name: str) -> None:
    with psycopg.connect(dsn) as connection:
        connection.execute(f"CREATE TABLE IF NOT EXISTS {name} (n int)")
        connection.execute(f"INSERT INTO {name} VALUES (1)")


def count(dsn: str, name: str) -> int:
    with psycopg.connect(dsn) as connection:
        return connection.execute(f"SELECT count(*) FROM {name}").fetchone()[0]


def test_rows_survive_a_second_start_and_a_kill(state):
    with Postgres(state, durable=False) as first:
        write(first.dsn(), "kept")
        port = first.port
    second = Postgres(state, durable=False)
    write(second.start(), "kept")
    assert second.port == port
    second.kill()
    with pytest.raises(psycopg.OperationalError):
        psycopg.connect(second.dsn())
    assert count(second.start(), "kept") == 2
    second.stop()


def test_a_stale_pid_file_of_somebody_else_does_not_matter(state):
    with Postgres(state, durable=False) as first:
        write(first.dsn(), "stale")
        saved = (state / "data" / "postmaster.pid").read_text().splitlines()
    # The pid has been given to another process since (the machine was switched off): here to us.
    (state / "data" / "postmaster.pid").write_text("\n".join([str(os.getpid()), *saved[1:]]) + "\n")
    with Postgres(state, durable=False) as second:
        assert count(second.dsn(), "stale") == 1


def test_a_taken_port_is_replaced(state, server):
    server.stop()
    with socket.socket() as stranger:
        stranger.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        stranger.bind(("127.0.0.1", server.port))
        stranger.listen()
        before = server.port
        server.start()
        assert server.port != before


def test_only_the_password_opens(server):
    with pytest.raises(psycopg.OperationalError, match="authentication failed"):
        psycopg.connect(server.dsn().replace(server._password(), "guess"))
    assert (server.state / "password").stat().st_mode & 0o77 == 0


def test_databases_come_and_go(server):
    dsn = server.create_database("other")
    assert server.create_database("other") == dsn
    write(dsn, "here")
    server.drop_database("other")
    server.drop_database("other")
    with pytest.raises(psycopg.OperationalError, match="does not exist"):
        psycopg.connect(dsn)
    with pytest.raises(StackError, match="no name for a database"):
        server.create_database('x"; DROP DATABASE testops; --')


def test_a_server_left_by_a_killed_owner_ends_at_the_next_start(state):
    script = (
        "import sys, time; from pathlib import Path; from stack.postgres import Postgres\n"
        "server = Postgres(Path(sys.argv[1]), durable=False); server.start()\n"
        "print(server._child.pid, flush=True); time.sleep(600)"
    )
    owner = subprocess.Popen([sys.executable, "-c", script, str(state)], stdout=subprocess.PIPE, text=True)
    pid = int(owner.stdout.readline())
    assert started_at(pid)
    with pytest.raises(StackError, match="already in use"):
        Postgres(state, durable=False).start()
    owner.kill()
    owner.wait()
    owner.stdout.close()
    with Postgres(state, durable=False) as server:
        assert not started_at(pid)
        psycopg.connect(server.dsn()).close()
