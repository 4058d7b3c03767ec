"""A user's place in the hour in SQL, and in the index that scans read: an hour's comebacks are spread over it."""

from alembic import op

revision = "007"
down_revision = "006"
branch_labels = None
depends_on = None

# shared/identity.py in SQL, as `surnia_shard` is. No product passes 63 bits.
_SPREAD = """
CREATE FUNCTION surnia_spread(user_id bigint) RETURNS smallint
LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE AS $$
  SELECT (((((user_id # (user_id >> 31)) & 2147483647) * 1779033703) >> 20) & 4095)::smallint
$$
"""
_INDEX = "shard, time_zone, last_active_date, {}id"


def upgrade() -> None:
    op.execute(_SPREAD)
    # The new one before the old one goes: a scan that runs meanwhile keeps its index.
    op.execute(f"CREATE INDEX ix_users_silent_spread ON users ({_INDEX.format('surnia_spread(id), ')})")
    op.execute("DROP INDEX ix_users_silent")
    op.execute("ALTER INDEX ix_users_silent_spread RENAME TO ix_users_silent")


def downgrade() -> None:
    op.execute("DROP INDEX ix_users_silent")
    op.execute(f"CREATE INDEX ix_users_silent ON users ({_INDEX.format('')})")
    op.execute("DROP FUNCTION surnia_spread(bigint)")
