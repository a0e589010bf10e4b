"""A run's positions name the topic that they are of, since a topic made anew counts from 0 again."""

from __future__ import annotations

from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None
oldest_code = "0005"

COLUMN = """
ALTER TABLE testops.runs ADD COLUMN results_topic text COLLATE "C" NOT NULL DEFAULT '';
COMMENT ON COLUMN testops.runs.results_topic IS 'id of the topic that positions are of; empty: unknown';
"""


def upgrade() -> None:
    op.execute(COLUMN)
