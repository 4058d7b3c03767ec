"""Backfills: who ran which, how far it came, and what it came to."""

from alembic import op

from shared.store import tables

revision = "009"
down_revision = "007"
branch_labels = None
depends_on = None

# As long as no later migration changes them (001_first.py).
_TABLES = (tables.backfills, tables.backfill_checkpoints)


def upgrade() -> None:
    tables.metadata.create_all(op.get_bind(), tables=_TABLES)


def downgrade() -> None:
    tables.metadata.drop_all(op.get_bind(), tables=_TABLES)
