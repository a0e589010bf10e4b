"""The schema: migrations lead to it, and installations of other versions learn whether they work with it."""

from __future__ import annotations

import threading
from typing import Any

import psycopg
import pytest

from testops_lib.errors import StoreError
from testops_lib.model import Result
from testops_lib.store import SCHEMA_VERSION, Schema, Store, schema

pytestmark = pytest.mark.integration


def described(dsn: str) -> set[tuple[Any, ...]]:
    """What the catalogue says of the schema, each row with its kind."""
    questions = {
        "columns": """SELECT table_name, column_name, data_type, udt_name, is_nullable, column_default, is_identity,
            identity_generation, collation_name, col_description(('testops.' || table_name)::regclass, ordinal_position)
            FROM information_schema.columns WHERE table_schema = 'testops'""",
        "indexes": "SELECT tablename, indexdef FROM pg_indexes WHERE schemaname = 'testops'",
        "constraints": """SELECT conrelid::regclass::text, contype, pg_get_constraintdef(oid) FROM pg_constraint
            WHERE connamespace = 'testops'::regnamespace AND contype <> 'n'""",
        "sequences": "SELECT sequencename, data_type FROM pg_sequences WHERE schemaname = 'testops'",
        "comments": """SELECT relname, obj_description(oid, 'pg_class') FROM pg_class
            WHERE relnamespace = 'testops'::regnamespace AND relkind = 'r'""",
    }
    with psycopg.connect(dsn) as connection:
        rows = {(what, *row) for what, query in questions.items() for row in connection.execute(query.encode())}
    return {row for row in rows if "alembic_version" not in str(row)}


def test_a_migrated_database_equals_a_fresh_one(postgres: str, postgres_server: Any) -> None:
    from sqlalchemy import create_engine
    from sqlalchemy.pool import NullPool

    fresh = postgres_server.create_database("fresh")
    engine = create_engine("postgresql+psycopg://", creator=lambda: psycopg.connect(fresh), poolclass=NullPool)
    with engine.begin() as connection:
        connection.exec_driver_sql("CREATE SCHEMA testops")
        schema.metadata.create_all(connection)
    with Store(postgres) as store:
        store.upgrade()
    assert described(postgres) - described(fresh) == set() == described(fresh) - described(postgres)
    assert len(described(postgres)) > 50
    postgres_server.drop_database("fresh")


def test_upgrading_twice_changes_nothing(store: Store, postgres: str) -> None:
    store.open_run("r", "shop")
    store.merge_results([Result(run="r", case="a", verdict="passed")])
    before = described(postgres)
    assert store.upgrade() == []
    assert described(postgres) == before
    assert [result.case for result in store.results("r")] == ["a"]


def test_upgrading_at_the_same_time_is_safe(postgres: str) -> None:
    failed: list[BaseException] = []
    begin = threading.Barrier(3)

    def upgrade() -> None:
        try:
            begin.wait(20)
            Store(postgres).upgrade()
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=upgrade) for _ in range(3)]
    [thread.start() for thread in threads]
    [thread.join(60) for thread in threads]
    assert not failed
    assert Store(postgres).schema() == Schema(version=SCHEMA_VERSION, oldest_code="0005")


def test_the_version_needed_is_the_newest_migration() -> None:
    from alembic.config import Config
    from alembic.script import ScriptDirectory

    from testops_lib.store.migrate import HERE

    config = Config()
    config.set_main_option("script_location", str(HERE))
    config.set_main_option("path_separator", "os")
    assert ScriptDirectory.from_config(config).get_current_head() == SCHEMA_VERSION


def test_a_database_that_was_not_upgraded_says_what_to_do(postgres: str) -> None:
    with Store(postgres) as store, pytest.raises(StoreError, match="testops db upgrade"):
        store.latest_run()
    assert Store(postgres).schema() is None


@pytest.mark.parametrize(("version", "advice"), [("0000", "testops db upgrade"), ("9999", "update this installation")])
def test_another_version_of_the_schema_is_refused(store: Store, postgres: str, version: str, advice: str) -> None:
    with psycopg.connect(postgres) as connection:
        connection.execute("UPDATE testops.alembic_version SET version_num = %s, oldest_code = %s", (version, version))
    with Store(postgres) as other, pytest.raises(StoreError, match=advice):
        other.latest_run()


def test_a_newer_schema_cannot_be_upgraded(store: Store, postgres: str) -> None:
    with psycopg.connect(postgres) as connection:
        connection.execute("UPDATE testops.alembic_version SET version_num = '9999', oldest_code = '9998'")
    with pytest.raises(StoreError, match="update this installation"):
        store.upgrade()
