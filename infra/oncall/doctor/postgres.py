"""PostgreSQL: does it answer, has it the newest tables and all indexes, is it a primary, how does its clock stand?"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import psycopg
from alembic.script import ScriptDirectory

from infra.oncall.doctor.finding import Finding, broken, ok, skew, warning
from shared.clock import SystemClock
from shared.settings import Settings
from shared.store import migrate
from shared.store.databases import Database
from shared.store.tables import metadata

PART = "PostgreSQL"
OLDEST = 140_000
"""14: the tests' partitions and statements are not tried with older ones."""
_FACTS = """
SELECT current_setting('server_version'), current_setting('server_version_num')::int, pg_is_in_recovery(),
       extract(epoch FROM clock_timestamp())::float8, current_setting('max_connections')::int,
       (SELECT count(*) FROM pg_stat_activity)
"""


def look(settings: Settings) -> list[Finding]:
    """Raises psycopg's errors where it does not answer."""
    with psycopg.connect(
        settings.require_postgres(), connect_timeout=2, autocommit=True, application_name="surnia doctor"
    ) as connection:
        return list(_look(connection))


def _look(connection: psycopg.Connection) -> Iterator[Finding]:
    before = SystemClock().now()
    row = connection.execute(_FACTS).fetchone()
    after = SystemClock().now()
    assert row is not None
    version, number, standby, now, most, used = row
    if number < OLDEST:
        yield broken(PART, f"version {version} is too old", "Upgrade it to 14 or later")
    else:
        yield ok(PART, f"version {version} answers, {used} of {most} connections are in use")
    if used > 0.9 * most:
        yield warning(PART, "nearly all connections are in use", "Raise max_connections, or run fewer workers")
    if standby:
        yield broken(PART, "it is a standby: nothing can be written", "Point SURNIA_POSTGRES_URL at the primary")
    yield skew(PART, now - (before + after) / 2)
    yield from _tables(connection)


def look_users(database: Database) -> list[Finding]:
    """A database that has users and nothing else of Surnia's. Raises psycopg's errors where it does not answer."""
    part = f"{PART} {database.name}"
    with psycopg.connect(
        database.url.get_secret_value(), connect_timeout=2, autocommit=True, application_name="surnia doctor"
    ) as connection:
        before = SystemClock().now()
        row = connection.execute(_USERS).fetchone()
        after = SystemClock().now()
    assert row is not None
    version, standby, now, known = row
    found = [skew(part, now - (before + after) / 2)]
    if standby:
        found.append(broken(part, "it is a standby: users can't be written", "Name the primary in SURNIA_DATABASES"))
    if not known:
        found.append(broken(part, "it has no tables of users", "surnia up"))
    return [ok(part, f"version {version} answers, it has {len(database.shards)} shards"), *found]


_USERS = """
SELECT current_setting('server_version'), pg_is_in_recovery(), extract(epoch FROM clock_timestamp())::float8,
       to_regclass('users') IS NOT NULL AND to_regclass('devices') IS NOT NULL
"""


def _tables(connection: psycopg.Connection) -> Iterator[Finding]:
    newest = _newest()
    found = connection.execute("SELECT to_regclass('alembic_version')").fetchone()
    if found is None or found[0] is None:
        yield broken(PART, "the database has no tables of Surnia", "surnia up")
        return
    at = {row[0] for row in connection.execute("SELECT version_num FROM alembic_version").fetchall()}
    if at != newest:
        is_at, wanted = ", ".join(sorted(at)) or "none", ", ".join(sorted(newest))
        yield broken(PART, f"its tables are at migration {is_at}, this release wants {wanted}", "surnia up")
    else:
        yield ok(PART, f"its tables are the newest (migration {', '.join(sorted(newest))})")
    query = (
        "SELECT c.relname, i.indisvalid FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid "
        "JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = current_schema()"
    )
    valid: dict[str, bool] = dict(connection.execute(query).fetchall())
    if missing := sorted(_indexes() - valid.keys()):
        yield broken(PART, f"indexes are missing: {', '.join(missing)}", f"surnia up, or create them: {_HOW}")
    elif invalid := sorted(name for name, is_valid in valid.items() if not is_valid):
        yield broken(PART, f"indexes are not valid: {', '.join(invalid)}", f'psql … -c "REINDEX INDEX {invalid[0]}"')
    else:
        yield ok(PART, "all indexes are there and valid")


_HOW = "shared/store/tables.py says on what"


def _newest() -> set[str]:
    """The migrations that nothing follows."""
    return set(ScriptDirectory(str(Path(migrate.__file__).parent / "migrations")).get_heads())


def _indexes() -> set[str]:
    """Those that the tables are declared with."""
    return {str(index.name) for table in metadata.tables.values() for index in table.indexes}
