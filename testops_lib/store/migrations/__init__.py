"""Alembic's scripts; `testops_lib.store.migrate` runs them."""
