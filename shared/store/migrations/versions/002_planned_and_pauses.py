"""What planners decided, pages on their way to Kafka, pauses; the ledger learns of campaigns."""

import sqlalchemy as sa
from alembic import op

from shared.store import tables

revision = "002"
down_revision = "001"
branch_labels = None
depends_on = None

# As long as no later migration changes them (001_first.py).
_TABLES = (tables.planned, tables.outbox, tables.pauses)
_KEY = ["local_date", "user_id", "kind", "path"]


def upgrade() -> None:
    op.add_column("ledger", sa.Column("campaign", sa.Text, nullable=False, server_default=""))
    op.drop_constraint("pk_ledger", "ledger", type_="primary")
    op.create_primary_key("pk_ledger", "ledger", [*_KEY, "campaign"])
    tables.metadata.create_all(op.get_bind(), tables=_TABLES)


def downgrade() -> None:
    tables.metadata.drop_all(op.get_bind(), tables=_TABLES)
    op.drop_constraint("pk_ledger", "ledger", type_="primary")
    op.execute("DELETE FROM ledger WHERE campaign <> ''")
    op.create_primary_key("pk_ledger", "ledger", _KEY)
    op.drop_column("ledger", "campaign")
