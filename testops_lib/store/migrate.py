"""Brings a database to the current schema, with Alembic."""

from __future__ import annotations

from pathlib import Path

import psycopg

HERE = Path(__file__).parent / "migrations"
_LOCK = 0x7E5705


def upgrade(dsn: str) -> None:
    """Runs the migrations that are missing, in one transaction; concurrent callers wait for each other."""
    from alembic import command
    from alembic.config import Config
    from sqlalchemy import create_engine
    from sqlalchemy.pool import NullPool

    engine = create_engine("postgresql+psycopg://", creator=lambda: psycopg.connect(dsn), poolclass=NullPool)
    with engine.connect() as connection:
        connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({_LOCK})")
        connection.exec_driver_sql("CREATE SCHEMA IF NOT EXISTS testops")
        config = Config()
        config.set_main_option("script_location", str(HERE).replace("%", "%%"))
        config.set_main_option("path_separator", "os")
        config.attributes["connection"] = connection
        command.upgrade(config, "head")
        connection.commit()
