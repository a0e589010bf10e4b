"""An installation works with the schema of the version after it: upgrades need no pause, and a rollback works."""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from stack.postgres import Postgres
from testops_lib.errors import StoreError
from testops_lib.model import Result
from testops_lib.store import SCHEMA_VERSION, Schema, Store
from tests import versions
from tests.command_line import cli

pytestmark = pytest.mark.integration

NEXT = f"{int(SCHEMA_VERSION) + 1:04}"

EXPAND = "ALTER TABLE testops.runs ADD COLUMN mood text; CREATE TABLE testops.moods (name text PRIMARY KEY)"
BREAK = "ALTER TABLE testops.runs RENAME COLUMN title TO heading"


BORROWED_SERVER = """
import os
from pathlib import Path

import pytest

from stack.postgres import Postgres


@pytest.fixture(scope="session")
def postgres_server():
    server = Postgres(Path(os.environ["STATE"]))
    server.port = int(os.environ["PORT"])
    return server
"""


def upgraded_by(checkout: Path, dsn: str) -> str:
    """What `testops db upgrade` of that version prints."""
    upgrade = versions.run(checkout, "-m", "testops_lib.cli", "db", "upgrade", TESTOPS_DSN=dsn)
    assert upgrade.returncode == 0, upgrade.stderr
    return upgrade.stdout


@pytest.fixture(scope="module")
def after(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A version after this one, whose migration expands."""
    return versions.after(tmp_path_factory.mktemp("after"), sql=EXPAND)


def test_a_newer_schema_that_works_with_this_version_is_used(store: Store, postgres: str, after: Path) -> None:
    store.open_run("r", "shop")
    printed = upgraded_by(after, postgres)
    assert printed.splitlines() == [
        f"{NEXT} A further step (works with installations of {SCHEMA_VERSION} or later)",
        f"schema: {NEXT}, works with installations of {SCHEMA_VERSION} or later",
    ]
    store.merge_results([Result(run="r", case="a", verdict="passed")])  # over the connection it had
    with Store(postgres) as other:
        assert [result.case for result in other.results("r")] == ["a"]


def test_a_rollback_may_upgrade_and_leaves_the_newer_schema(postgres: str, after: Path) -> None:
    upgraded_by(after, postgres)
    upgrade = cli("db", "upgrade", TESTOPS_DSN=postgres)
    assert (upgrade.returncode, upgrade.stdout) == (
        0,
        f"schema: {NEXT}, works with installations of {SCHEMA_VERSION} or later\n",
    )
    status = cli("db", "status", TESTOPS_DSN=postgres)
    assert status.returncode == 0 and "works with it" in status.stdout
    assert Store(postgres).schema() == Schema(version=NEXT, oldest_code=SCHEMA_VERSION)


def test_a_newer_schema_that_ended_this_version_is_refused(postgres: str, tmp_path: Path) -> None:
    upgraded_by(versions.after(tmp_path, sql=BREAK, oldest_code=NEXT), postgres)
    with Store(postgres) as store, pytest.raises(StoreError, match=f"{NEXT} or later; this one is of {SCHEMA_VERSION}"):
        store.latest_run()
    assert cli("db", "upgrade", TESTOPS_DSN=postgres).returncode == 2
    status = cli("db", "status", TESTOPS_DSN=postgres)
    assert status.returncode == 1 and "update this installation" in status.stdout


def test_what_an_upgrade_would_do_is_said_before(postgres: str, store: Store, after: Path) -> None:
    status = versions.run(after, "-m", "testops_lib.cli", "db", "status", TESTOPS_DSN=postgres)
    assert status.returncode == 1
    assert f"to come: {NEXT} A further step (works with installations of {SCHEMA_VERSION} or later)" in status.stdout


# --------------------------------------------------------------------------- the version before


@pytest.fixture(scope="module")
def before(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkout of the version before, whose tests of the store take the databases of `template`."""
    checkout = versions.before(tmp_path_factory.mktemp("before"))
    (checkout / "tests" / "testops_lib" / "store" / "conftest.py").write_text(BORROWED_SERVER)
    return checkout


@pytest.fixture
def server() -> Iterator[Postgres]:
    """A server of its own: what `template1` holds, each new database holds."""
    with tempfile.TemporaryDirectory(prefix="testops-") as state, Postgres(Path(state), durable=False) as server:
        yield server


def store_tests(checkout: Path, server: Postgres) -> subprocess.CompletedProcess[str]:
    """The tests of the store, to the first that fails."""
    # Not the one of how fast results are stored.
    arguments = ("-m", "pytest", "-q", "-x", "-n", "0", "-p", "no:cacheprovider", "-k", "not at_least")
    return versions.run(
        checkout, *arguments, "tests/testops_lib/store/test_store.py", STATE=str(server.state), PORT=str(server.port)
    )


@pytest.mark.long
def test_the_version_before_works_with_the_schema_of_this_one(before: Path, server: Postgres) -> None:
    with Store(server.dsn("template1")) as store:
        store.upgrade()
    tests = store_tests(before, server)
    assert tests.returncode == 0 and "passed" in tests.stdout, tests.stdout


@pytest.mark.long
def test_a_migration_that_breaks_the_version_before_is_noticed(before: Path, server: Postgres, tmp_path: Path) -> None:
    upgraded_by(versions.after(tmp_path, sql=BREAK, oldest_code="0005"), server.dsn("template1"))
    tests = store_tests(before, server)
    assert tests.returncode == 1 and 'column "title"' in tests.stdout
