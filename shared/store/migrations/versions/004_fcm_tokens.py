"""iOS devices may have an FCM token beside their APNs token."""

import sqlalchemy as sa
from alembic import op

revision = "004"
down_revision = "003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    # None of them rewrites the table: no default. Building the index reads it once and finds nothing to put in.
    op.add_column(
        "devices",
        sa.Column("fcm_token", sa.Text, comment="of the same app on an iOS device, for when APNs is in trouble"),
    )
    op.add_column(
        "devices",
        sa.Column(
            "fcm_retired_at",
            sa.DateTime(timezone=True),
            comment="since when fcm_token is not used; the device stays",
        ),
    )
    op.add_column("devices", sa.Column("fcm_retired_reason", sa.Text))
    op.create_index("ix_devices_fcm_token", "devices", ["fcm_token"], postgresql_using="hash")


def downgrade() -> None:
    op.drop_index("ix_devices_fcm_token", "devices")
    for name in ("fcm_retired_reason", "fcm_retired_at", "fcm_token"):
        op.drop_column("devices", name)
