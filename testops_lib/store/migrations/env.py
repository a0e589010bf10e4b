"""Runs the migrations on the connection that `testops_lib.store.migrate` hands over."""

from __future__ import annotations

from alembic import context

from testops_lib.store.schema import metadata


def main() -> None:
    connection = context.config.attributes.get("connection")
    if connection is None:
        raise SystemExit("run `testops db upgrade`: these migrations need its connection and its lock")
    context.configure(
        connection=connection, target_metadata=metadata, version_table_schema="testops", include_schemas=True
    )
    with context.begin_transaction():
        context.run_migrations()


main()
