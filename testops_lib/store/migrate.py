"""Brings a database to the current schema, with Alembic.

Each migration names the oldest code that works with the schema after it, and the database keeps that word beside
Alembic's version: code that has never heard of a migration learns there whether it may work on (decision 31).
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import psycopg

from testops_lib.model import Value
from testops_lib.store import statements

if TYPE_CHECKING:
    from alembic.config import Config

HERE = Path(__file__).parent / "migrations"
_LOCK = 0x7E5705


class Migration(Value, frozen=True, kw_only=True):
    """One step of the schema."""

    version: str
    title: str
    oldest_code: str
    """The `SCHEMA_VERSION` of the oldest code that works with the schema after this migration."""


def upgrade(dsn: str) -> list[Migration]:
    """Runs the migrations that are missing, in one transaction, and returns them in order.

    Concurrent callers wait for each other.

    Raises:
        alembic.util.CommandError: the database has a version that no migration here has.
    """
    from alembic import command
    from alembic.migration import MigrationContext
    from sqlalchemy import create_engine
    from sqlalchemy.pool import NullPool

    config = _config()
    engine = create_engine("postgresql+psycopg://", creator=lambda: psycopg.connect(dsn), poolclass=NullPool)
    with engine.connect() as connection:
        connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({_LOCK})")
        connection.exec_driver_sql("CREATE SCHEMA IF NOT EXISTS testops")
        context = MigrationContext.configure(connection, opts={"version_table_schema": "testops"})
        before = context.get_current_revision()
        config.attributes["connection"] = connection
        command.upgrade(config, "head")
        connection.exec_driver_sql(statements.ADD_OLDEST_CODE)
        # The newest of all, lest a migration forget what an earlier one took away.
        oldest_code = max(migration.oldest_code for migration in pending(None))
        connection.exec_driver_sql(statements.SET_OLDEST_CODE, (oldest_code,))
        connection.commit()
    return pending(before)


def pending(version: str | None) -> list[Migration]:
    """The migrations that a database of this version lacks, in order; None: it has no schema yet."""
    from alembic.script import ScriptDirectory

    newest_first = ScriptDirectory.from_config(_config()).iterate_revisions("head", version or "base")
    return [
        Migration(version=script.revision, title=script.doc.rstrip("."), oldest_code=script.module.oldest_code)
        for script in reversed(list(newest_first))
    ]


def _config() -> Config:
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(HERE).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    return config
