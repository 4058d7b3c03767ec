"""The first tables: users, devices, ledger, scan runs and checkpoints; the shard in SQL."""

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

# Created here from the declared tables: it is the first migration, and nothing is older. Later ones
# spell out their changes.
_TABLES = (tables.users, tables.devices, tables.ledger, tables.scan_runs, tables.scan_checkpoints)


def upgrade() -> None:
    op.execute(_SHARD)
    tables.metadata.create_all(op.get_bind(), tables=_TABLES)


def downgrade() -> None:
    tables.metadata.drop_all(op.get_bind(), tables=_TABLES)
    op.execute("DROP FUNCTION surnia_shard(bigint)")
