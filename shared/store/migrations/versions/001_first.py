"""The first tables: users, devices, ledger, scan runs and checkpoints; the shard in SQL."""

import sqlalchemy as sa
from alembic import op

from shared.store import tables

revision = "001"
down_revision = None
branch_labels = None
depends_on = None

# shared/identity.py in SQL. numeric, because bigint has no unsigned 64-bit product; IMMUTABLE, because a
# generated column asks for it.
_SHARD = """
CREATE FUNCTION surnia_shard(user_id bigint) RETURNS smallint
LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE AS $$
  SELECT div((user_id::numeric * 11400714819323198485) % 18446744073709551616, 72057594037927936)::smallint
$$
"""

# Created from the declared tables as long as no later migration changes them; one that is changed is spelled out below
# as it was.
_TABLES = (tables.scan_runs, tables.scan_checkpoints)


def upgrade() -> None:
    op.execute(_SHARD)
    op.create_table(
        "users",
        sa.Column("id", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("shard", sa.SmallInteger, sa.Computed("surnia_shard(id)", persisted=True), nullable=False),
        sa.Column("time_zone", sa.Text, nullable=False),
        sa.Column("locale", sa.Text, nullable=False, server_default="en"),
        sa.Column("country", sa.Text, comment="ISO 3166-1 alpha-2"),
        sa.Column("last_event_at", sa.DateTime(timezone=True)),
        sa.Column(
            "last_active_date",
            sa.Date,
            comment="local date of last_event_at; the batch path's ladder counts from it",
        ),
        sa.Column("last_practice_at", sa.DateTime(timezone=True)),
        sa.Column("last_practice_date", sa.Date, comment="local date of last_practice_at"),
        sa.Column(
            "streak", sa.Integer, nullable=False, server_default="0", comment="local dates in a row with practice"
        ),
        sa.Column(
            "opted_out",
            sa.SmallInteger,
            nullable=False,
            server_default="0",
            comment="a bit for each reminder kind's code that the user does not want",
        ),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False, server_default=sa.func.now()),
        sa.PrimaryKeyConstraint("id", name="pk_users"),
        sa.CheckConstraint("id > 0", name=op.f("ck_users_id_positive")),
    )
    op.create_index("ix_users_silent", "users", ["shard", "time_zone", "last_active_date", "id"])
    op.create_table(
        "devices",
        sa.Column("user_id", sa.BigInteger, nullable=False),
        sa.Column("device_id", sa.Text, nullable=False),
        sa.Column("platform", sa.Text, nullable=False),
        sa.Column("token", sa.Text, nullable=False),
        sa.Column("app_version", sa.Text),
        sa.Column("registered_at", sa.DateTime(timezone=True), nullable=False, server_default=sa.func.now()),
        sa.Column("retired_at", sa.DateTime(timezone=True)),
        sa.Column("retired_reason", sa.Text),
        sa.PrimaryKeyConstraint("user_id", "device_id", name="pk_devices"),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name="fk_devices_user_id", ondelete="CASCADE"),
        sa.CheckConstraint("platform IN ('ios', 'android')", name=op.f("ck_devices_platform_known")),
    )
    op.create_index("ix_devices_token", "devices", ["token"], postgresql_using="hash")
    tables.metadata.create_all(op.get_bind(), tables=_TABLES)
    op.create_table(
        "ledger",
        sa.Column("local_date", sa.Date, nullable=False),
        sa.Column("user_id", sa.BigInteger, nullable=False),
        sa.Column("kind", sa.SmallInteger, nullable=False),
        sa.Column("path", sa.SmallInteger, nullable=False),
        sa.Column("result", sa.SmallInteger, nullable=False, comment="shared/wire/sends.py Result"),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("provider", sa.Text, nullable=False, server_default=""),
        sa.Column("due_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("decided_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("latency", sa.Float, nullable=False, server_default="0", comment="seconds"),
        sa.PrimaryKeyConstraint("local_date", "user_id", "kind", "path", name="pk_ledger"),
        postgresql_partition_by="RANGE (local_date)",
    )


def downgrade() -> None:
    op.drop_table("ledger")
    tables.metadata.drop_all(op.get_bind(), tables=_TABLES)
    op.drop_table("devices")
    op.drop_table("users")
    op.execute("DROP FUNCTION surnia_shard(bigint)")
