"""One connection to PostgreSQL: transactions, the schema's version, and PostgreSQL's errors in our words."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Any, Self

import psycopg

from testops_lib.errors import StoreError, UnknownRunError
from testops_lib.model import Value
from testops_lib.store import migrate, rows, statements
from testops_lib.store.migrate import Migration

SCHEMA_VERSION = "0006"
"""The migration this version of the code needs; the newest of `store/migrations/versions`."""


class Schema(Value, frozen=True, kw_only=True):
    """What a database says of its schema."""

    version: str
    oldest_code: str
    """The `SCHEMA_VERSION` of the oldest code that works with it, as its newest migration says."""


def is_usable(schema: Schema) -> bool:
    """Whether this code works with the schema: its own, or a newer one that says so."""
    return schema.oldest_code <= SCHEMA_VERSION <= schema.version


class Database:
    """One connection, made when first needed, and again after it broke.

    Not for use by several threads at once. Usable as a context manager.
    Every method raises `StoreError` when PostgreSQL is away or its schema is not the one needed.

    Args:
        dsn: `postgresql://user:password@host:port/database`; a driver in the scheme (`postgresql+psycopg2`) is ignored.
    """

    def __init__(self, dsn: str) -> None:
        scheme, colon, rest = dsn.partition("://")
        self._dsn = f"{scheme.partition('+')[0]}{colon}{rest}" if colon else dsn
        self._open: psycopg.Connection[Any] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        if self._open is not None:
            self._open.close()
            self._open = None

    def upgrade(self) -> list[Migration]:
        """Creates the schema or brings it to this code's version, and returns the migrations that this took.

        A newer schema that works with this code stays as it is. Concurrent callers wait for each other.
        """
        from alembic.util import CommandError
        from sqlalchemy.exc import DBAPIError

        self.close()
        try:
            return migrate.upgrade(self._dsn)
        except DBAPIError as error:
            raise StoreError(str(error.orig).strip(), where="db upgrade") from error
        except psycopg.Error as error:
            raise _away(error) from error
        except CommandError as error:  # Alembic does not know the database's version
            schema = self.schema()
            if schema is None or not is_usable(schema):
                raise StoreError(
                    f"the database's schema is newer than this version ({error})",
                    where="db upgrade",
                    next_step="update this installation",
                ) from error
            return []

    def schema(self) -> Schema | None:
        """What the database says of its schema; None before the first upgrade."""
        try:
            with psycopg.connect(self._dsn, autocommit=True, connect_timeout=10) as connection:
                return _schema(connection)
        except psycopg.Error as error:
            raise _away(error) from error

    def _connect(self) -> psycopg.Connection[Any]:
        connection = psycopg.connect(self._dsn, autocommit=False, connect_timeout=10, application_name="testops")
        try:
            schema = _schema(connection)
            connection.rollback()
        except BaseException:
            connection.close()
            raise
        if schema is not None and is_usable(schema):
            return connection
        connection.close()
        raise _unusable(schema)

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except psycopg.Error as error:
            raise _away(error) from error

    @contextmanager
    def _transaction(self) -> Iterator[psycopg.Connection[Any]]:
        with self._translated():
            if self._open is None or self._open.closed:
                self._open = self._connect()
            try:
                with self._open.transaction():
                    yield self._open
            except psycopg.OperationalError:
                self.close()  # the connection is broken, or will be soon: the next call makes a new one
                raise

    def _fetch_all(self, statement: str, *values: Any) -> list[tuple[Any, ...]]:
        with self._transaction() as connection:
            return connection.execute(statement, values).fetchall()

    def _fetch_one(self, statement: str, *values: Any) -> tuple[Any, ...] | None:
        with self._transaction() as connection:
            row: tuple[Any, ...] | None = connection.execute(statement, values).fetchone()
            return row


def _schema(connection: psycopg.Connection[Any]) -> Schema | None:
    try:
        row = connection.execute(statements.SCHEMA).fetchone()
    except psycopg.errors.UndefinedTable:
        return None
    return Schema(version=row[0], oldest_code=row[1]) if row else None


def _unusable(schema: Schema | None) -> StoreError:
    if schema is None:
        what, next_step = "the database has no schema `testops` yet", "run `testops db upgrade`"
    elif schema.version < SCHEMA_VERSION:
        what = f"the database's schema has version {schema.version}, this installation needs {SCHEMA_VERSION}"
        next_step = "run `testops db upgrade`"
    else:
        what = (
            f"the database's schema has version {schema.version}, which works with installations of version "
            f"{schema.oldest_code} or later; this one is of {SCHEMA_VERSION}"
        )
        next_step = "update this installation"
    return StoreError(what, where="store", next_step=next_step)


def texts(values: Iterable[str]) -> list[str]:
    return [rows.text(value) for value in values]


def no_run(run: str) -> UnknownRunError:
    return UnknownRunError(f"there is no run {run!r}", where="store", next_step="check the run's id")


def _away(error: psycopg.Error) -> StoreError:
    what = str(error).strip() or type(error).__name__
    if isinstance(error, psycopg.OperationalError):
        return StoreError(f"PostgreSQL is away: {what}", where="store", next_step="check that it runs; then repeat")
    return StoreError(what, where="store")
