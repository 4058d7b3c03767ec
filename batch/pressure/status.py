"""What the databases that have users bear at the moment, for `surnia status`."""

from __future__ import annotations

import asyncio

import msgspec
import psycopg

from batch.pressure.lag import Connection, ReplicaLag
from batch.pressure.slots import SCANNING, WAITING
from shared.settings import Settings
from shared.store.addresses import ranges
from shared.store.databases import Database, Databases

_AGAIN_SECONDS = 0.25
"""Between two looks at a replica that was behind in the first: one takes a moment to replay what was just written."""

_LOCKS = """
SELECT count(*) FILTER (WHERE classid::bigint = %s), count(*) FILTER (WHERE classid::bigint = %s)
FROM pg_locks
WHERE locktype = 'advisory' AND objsubid = 2 AND granted
  AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
"""
_LONGEST = """
SELECT coalesce(extract(epoch FROM max(clock_timestamp() - xact_start)), 0)::float8
FROM pg_stat_activity
WHERE datname = current_database() AND backend_type = 'client backend' AND pid <> pg_backend_pid()
"""


class DatabasePressure(msgspec.Struct):
    """One database. `trouble` where it could not be asked; the figures are 0 or None then."""

    name: str
    shards: str
    limit: int
    """Scans that may read it at once: SURNIA_SCANS_PER_DATABASE."""
    running: int = 0
    waiting: int = 0
    """Scans that wait for their turn."""
    replica: bool = False
    """Whether scans read a replica."""
    lag_seconds: float | None = None
    """How far that is behind."""
    longest_transaction_seconds: float = 0.0
    """On the primary. Who is not a member of `pg_monitor` sees his own alone."""
    trouble: str = ""


async def pressure_status(settings: Settings) -> list[DatabasePressure]:
    """All databases, asked side by side. Never raises for one that does not answer."""
    return list(await asyncio.gather(*(_of(settings, database) for database in Databases.of(settings))))


async def _of(settings: Settings, database: Database) -> DatabasePressure:
    found = DatabasePressure(
        database.name, ranges(database.shards), settings.scans_per_database, replica=database.replica is not None
    )
    try:
        async with await database.connect("surnia status") as primary:
            if database.replica is None:
                await _scans(primary, found)
            else:
                async with await database.connect("surnia status", replica=True) as replica:
                    await _scans(replica, found)
                    lag = ReplicaLag(primary, replica)
                    await lag.seconds()
                    await asyncio.sleep(_AGAIN_SECONDS)
                    found.lag_seconds = round(await lag.seconds(), 1)
            (longest,) = await (await primary.execute(_LONGEST)).fetchone() or (0.0,)
            found.longest_transaction_seconds = round(float(longest), 1)
    except psycopg.Error as error:
        found.trouble = str(error).strip().partition("\n")[0][:200]
    return found


async def _scans(connection: Connection, found: DatabasePressure) -> None:
    found.running, found.waiting = await (await connection.execute(_LOCKS, (SCANNING, WAITING))).fetchone() or (0, 0)
