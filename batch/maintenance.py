"""What keeps the tables in shape, once a day: partitions made ahead, old days dropped, old scans forgotten.

Safe to repeat, to run twice at once and beside everything else: it waits for nobody longer than a second, and what
is in use stays for the next time.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, date, datetime, time, timedelta
from typing import get_args

import msgspec
import psycopg
from psycopg import sql
from psycopg.errors import LockNotAvailable

from shared.settings import Settings
from shared.store.partitions import Connection, Partitioned, days_of, ensure_partition, partition_name

BEHIND, AHEAD = 1, 8
"""Days from the UTC date that need a partition: where the evening is yesterday's, and so far ahead that a week of
nights without maintenance is no harm. (Planners and the ledger make what is missing themselves, one day at a time.)"""

LOCK_TIMEOUT = "1s"
"""To add or drop a partition is to lock its table, and while that waits for somebody who reads the table, all others
wait behind it."""
_IN_USE = f"in use: the lock was not to be had within {LOCK_TIMEOUT}"

_OLD_RUNS = """
FROM scan_runs r
WHERE r.interval_end < %(planned)s AND (
  r.interval_end < %(ledger)s
  OR NOT EXISTS (SELECT FROM scan_checkpoints c WHERE c.run_id = r.run_id AND NOT c.done)
)
"""


class Maintenance(msgspec.Struct):
    """What was done, or with `dry_run` what would be."""

    day: date
    """The UTC date that it was done for."""
    dry_run: bool
    created: list[str] = msgspec.field(default_factory=list)
    dropped: list[str] = msgspec.field(default_factory=list)
    erased: int = 0
    """Erased users whom from now on nobody can match with messages in Kafka."""
    scan_runs: int = 0
    """Scans forgotten, their checkpoints with them."""
    left: dict[str, str] = msgspec.field(default_factory=dict)
    """What could not be done and why: the next time does it."""


async def maintain(settings: Settings, day: date, dry_run: bool = False) -> Maintenance:
    """Do what is due on a UTC date. Raises psycopg's errors where the database does not answer."""
    done = Maintenance(day, dry_run)
    keep: dict[Partitioned, int] = {"ledger": settings.ledger_keep_days, "planned": settings.planned_keep_days}
    assert keep.keys() == set(get_args(Partitioned)), "a partitioned table that nobody keeps in shape"
    async with await psycopg.AsyncConnection.connect(
        settings.require_postgres(), autocommit=True, application_name="surnia maintenance", connect_timeout=5
    ) as connection:
        await connection.execute("SELECT set_config('lock_timeout', %s, false)", (LOCK_TIMEOUT,))
        for table, days in keep.items():
            await _partitions(connection, table, day - timedelta(days=days), done)
        await _erased(connection, day - timedelta(days=settings.erasure_key_days), done)
        await _scan_runs(connection, {table: day - timedelta(days=days) for table, days in keep.items()}, done)
    return done


async def _partitions(connection: Connection, table: Partitioned, oldest: date, done: Maintenance) -> None:
    before = set(await days_of(connection, table))
    wanted = {done.day + timedelta(days=n) for n in range(-BEHIND, AHEAD + 1)}
    missing, old = sorted(wanted - before), sorted(day for day in before if day < oldest)
    obstacle = "something else is in its way"
    after = (before | wanted).difference(old)
    if not done.dry_run:
        try:
            for day in missing:
                await ensure_partition(connection, day, table)
            for day in old:
                name = sql.Identifier(partition_name(table, day))
                await connection.execute(sql.SQL("DROP TABLE IF EXISTS {}").format(name))
        except LockNotAvailable:
            obstacle = _IN_USE  # Whoever it is would keep us from the others too, a second each.
        # As it is in the end, whoever else is at it.
        after = set(await days_of(connection, table))
    done.created += [partition_name(table, day) for day in missing if day in after]
    done.dropped += [partition_name(table, day) for day in old if day not in after]
    left = [day for day in missing if day not in after] + [day for day in old if day in after]
    done.left |= {partition_name(table, day): obstacle for day in left}


async def _erased(connection: Connection, oldest: date, done: Maintenance) -> None:
    """Throw the secrets away that nobody was erased with of late, and with them who was erased before."""
    statement = (
        "{} FROM erasure_keys k WHERE k.since < %(oldest)s "
        "AND NOT EXISTS (SELECT FROM erased e WHERE e.key_id = k.key_id AND e.erased_at >= %(oldest)s)"
    )
    values = {"oldest": datetime.combine(oldest, time(), UTC)}
    try:
        keys = sql.SQL(statement).format(sql.SQL("SELECT k.key_id"))
        count = sql.SQL("SELECT count(*) FROM erased WHERE key_id IN ({})").format(keys)
        cursor = await connection.execute(count, values)
        done.erased = int(str((await cursor.fetchone() or (0,))[0]))
        if not done.dry_run:
            await connection.execute(sql.SQL(statement).format(sql.SQL("DELETE")), values)
    except LockNotAvailable:
        done.left["erasure_keys"] = _IN_USE


async def _scan_runs(connection: Connection, oldest: Mapping[Partitioned, date], done: Maintenance) -> None:
    """Forget scans that no audit can look at any more, and unfinished ones when the ledger of their days is gone."""
    bounds = {str(table): datetime.combine(day, time(), UTC) for table, day in oldest.items()}
    try:
        if done.dry_run:
            cursor = await connection.execute("SELECT count(*)" + _OLD_RUNS, bounds)
            done.scan_runs = int(str((await cursor.fetchone() or (0,))[0]))
        else:
            done.scan_runs = (await connection.execute("DELETE" + _OLD_RUNS, bounds)).rowcount
    except LockNotAvailable:
        done.left["scan_runs"] = _IN_USE
