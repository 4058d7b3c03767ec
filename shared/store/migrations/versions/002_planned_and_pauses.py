"""What planners decided, pages on their way to Kafka, pauses; the ledger learns of campaigns."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import ARRAY

revision = "002"
down_revision = "001"
branch_labels = None
depends_on = None

_KEY = ["local_date", "user_id", "kind", "path"]


def upgrade() -> None:
    op.add_column("ledger", sa.Column("campaign", sa.Text, nullable=False, server_default=""))
    op.drop_constraint("pk_ledger", "ledger", type_="primary")
    op.create_primary_key("pk_ledger", "ledger", [*_KEY, "campaign"])
    op.create_table(
        "planned",
        sa.Column("local_date", sa.Date, primary_key=True),
        sa.Column("page_id", sa.BigInteger, primary_key=True),
        sa.Column("path", sa.SmallInteger, primary_key=True),
        sa.Column("kind", sa.SmallInteger, primary_key=True),
        sa.Column("campaign", sa.Text, primary_key=True, server_default=""),
        sa.Column("answer", sa.Text, primary_key=True),
        sa.Column("users", ARRAY(sa.BigInteger), nullable=False),
        postgresql_partition_by="RANGE (local_date)",
    )
    op.create_table(
        "outbox",
        sa.Column("page_id", sa.BigInteger, sa.Identity(always=True), primary_key=True),
        sa.Column("records", sa.LargeBinary, nullable=False),
        sa.Column("recorded_at", sa.DateTime(timezone=True), nullable=False, server_default=sa.func.now()),
    )
    op.create_table(
        "pauses",
        sa.Column("id", sa.BigInteger, sa.Identity(always=True), primary_key=True),
        sa.Column("path", sa.SmallInteger),
        sa.Column("kind", sa.SmallInteger),
        sa.Column("provider", sa.Text),
        sa.Column("campaign", sa.Text),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("paused_by", sa.Text, nullable=False),
        sa.Column("paused_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("resumed_by", sa.Text),
        sa.Column("resumed_at", sa.DateTime(timezone=True)),
        sa.Column("resume_reason", sa.Text),
    )


def downgrade() -> None:
    for table in ("pauses", "outbox", "planned"):
        op.drop_table(table)
    op.drop_constraint("pk_ledger", "ledger", type_="primary")
    op.execute("DELETE FROM ledger WHERE campaign <> ''")
    op.create_primary_key("pk_ledger", "ledger", _KEY)
    op.drop_column("ledger", "campaign")
