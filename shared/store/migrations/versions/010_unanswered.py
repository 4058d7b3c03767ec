"""How many comebacks a user has had since the last activity: after some without an answer the ladder ends.

No index holds either column, and pages keep room for a second version of some rows: counting a comeback is a HOT
update, which leaves the indexes alone.
"""

from alembic import op

revision = "010"
down_revision = "009"
branch_labels = None
depends_on = None


def upgrade() -> None:
    # A default that is no expression: no row is rewritten.
    op.execute(
        "ALTER TABLE users ADD COLUMN unanswered smallint NOT NULL DEFAULT 0, ADD COLUMN unanswered_on date, "
        # Of pages that are written from now on.
        "SET (fillfactor = 90)"
    )
    op.execute("COMMENT ON COLUMN users.unanswered IS 'comebacks that were delivered since the last activity'")
    op.execute("COMMENT ON COLUMN users.unanswered_on IS 'local date of the last comeback counted in unanswered'")


def downgrade() -> None:
    op.execute("ALTER TABLE users DROP COLUMN unanswered, DROP COLUMN unanswered_on, RESET (fillfactor)")
