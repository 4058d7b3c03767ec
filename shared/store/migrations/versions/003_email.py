"""Users have an e-mail address, and may not want to be written to."""

import sqlalchemy as sa
from alembic import op

revision = "003"
down_revision = "002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    # None of them rewrites the table: no default, or a constant one.
    op.add_column("users", sa.Column("email", sa.Text, comment="where reminders go when no device can be reached"))
    op.add_column(
        "users",
        sa.Column(
            "email_opted_out", sa.Boolean, nullable=False, server_default=sa.text("false"), comment="wants no e-mail"
        ),
    )
    op.add_column(
        "users",
        sa.Column(
            "email_retired_at",
            sa.DateTime(timezone=True),
            comment="since when no mailbox belongs to the address",
        ),
    )
    op.add_column("users", sa.Column("email_retired_reason", sa.Text))


def downgrade() -> None:
    for name in ("email_retired_reason", "email_retired_at", "email_opted_out", "email"):
        op.drop_column("users", name)
