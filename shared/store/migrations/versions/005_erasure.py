"""Who was erased, under pseudonyms; the secrets that those are made with; the proofs."""

from alembic import op

from shared.store import tables

revision = "005"
down_revision = "004"
branch_labels = None
depends_on = None

# As long as no later migration changes them (001_first.py).
_TABLES = (tables.erasure_keys, tables.erased, tables.erasures)


def upgrade() -> None:
    tables.metadata.create_all(op.get_bind(), tables=_TABLES)


def downgrade() -> None:
    tables.metadata.drop_all(op.get_bind(), tables=_TABLES)
