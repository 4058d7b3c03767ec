"""Backfills in PostgreSQL: who runs which, how far it came. Each statement is a transaction of its own.

Who runs one holds an advisory lock for as long as its connection lives: a process that died lets go of it at once, and
nobody has to guess from times whether it still lives.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Literal

import msgspec
import psycopg
from psycopg.types.json import Jsonb

from batch.backfill.request import Request
from shared.policy.kinds import Path
from shared.settings import Settings

Connection = psycopg.AsyncConnection[Any]
Counts = Counter[tuple[str, str]]
"""(kind, answer) -> users. The answers: sent, expired, the reason of a denial, or already (decided before)."""
State = Literal["running", "cancelling", "cancelled", "done"]
Via = Literal["local", "airflow"]

_LOCKS = 0x6266
"""First half of the advisory locks of backfills ("bf"); the second is the backfill's number."""
_COLUMNS = (
    "id, request, again, via, rate, state, asked_by, asked_at, run_by, run_at, ended_by, ended_at, expected, "
    "EXISTS (SELECT FROM pg_locks WHERE locktype = 'advisory' AND classid = %(locks)s AND objid = id::oid "
    "AND database = (SELECT oid FROM pg_database WHERE datname = current_database()) AND objsubid = 2) AS alive"
)


@dataclass(frozen=True, slots=True)
class Backfill:
    """One backfill. Instants are aware UTC datetimes."""

    id: int
    request: Request
    again: bool
    """The same had been done before."""
    via: Via
    rate: float | None
    state: State
    asked_by: str
    asked_at: datetime
    run_by: str
    run_at: datetime
    ended_by: str | None
    ended_at: datetime | None
    expected: dict[str, Any]
    alive: bool
    """Whether a process has it in hand."""

    @property
    def interrupted(self) -> bool:
        """Begun, and nobody goes on with it. (An Airflow run that still waits for its turn looks the same.)"""
        return self.state == "running" and not self.alive


@dataclass(slots=True)
class Checkpoint:
    """How far a path came in a shard."""

    done: bool = False
    pages: int = 0
    counts: Counts = field(default_factory=Counter)


class NoSuchBackfillError(LookupError):
    """Nobody has begun a backfill of that number."""


async def connect(settings: Settings) -> Connection:
    """A connection of its own. Whoever loses it has lost the backfill, too."""
    return await psycopg.AsyncConnection.connect(
        settings.require_postgres(), autocommit=True, application_name="surnia backfill", connect_timeout=5
    )


async def begin(
    connection: Connection, wanted: Request, by: str, at: datetime, via: Via, rate: float | None, again: bool
) -> tuple[Backfill, bool]:
    """The backfill of a request, and whether it is new: an unfinished one is gone on with, and a finished one is the
    answer unless it is to be done `again`."""
    cursor = await connection.execute(
        "INSERT INTO backfills (key, request, again, via, rate, state, asked_by, asked_at, run_by, run_at) "
        "SELECT %(key)s, %(request)s, EXISTS (SELECT FROM backfills WHERE key = %(key)s), %(via)s, %(rate)s, "
        "'running', %(by)s, %(at)s, %(by)s, %(at)s "
        "WHERE %(again)s OR NOT EXISTS (SELECT FROM backfills WHERE key = %(key)s) "
        "ON CONFLICT (key) WHERE state <> 'done' DO NOTHING RETURNING id",
        {
            "key": wanted.key,
            "request": Jsonb(msgspec.to_builtins(wanted)),
            "via": via,
            "rate": rate,
            "by": by,
            "at": at,
            "again": again,
        },
    )
    new = await cursor.fetchone() is not None
    # The unfinished one first; else the one that was done last.
    (found,) = await _select(connection, "WHERE key = %(key)s ORDER BY state = 'done', id DESC LIMIT 1", key=wanted.key)
    return found, new


async def get(connection: Connection, number: int) -> Backfill:
    """Raises `NoSuchBackfillError`."""
    found = await _select(connection, "WHERE id = %(id)s", id=number)
    if not found:
        raise NoSuchBackfillError(f"there is no backfill {number}; `surnia backfill status` lists them")
    return found[0]


async def latest(connection: Connection, most: int = 20) -> list[Backfill]:
    """The newest first."""
    return await _select(connection, "ORDER BY id DESC LIMIT %(most)s", most=most)


async def take(connection: Connection, number: int, *, shared: bool) -> bool:
    """Take a backfill in hand for as long as the connection lives; False where somebody has it.

    `shared`: with others who share it, each with shards of its own.
    """
    how = "pg_try_advisory_lock_shared" if shared else "pg_try_advisory_lock"
    cursor = await connection.execute(f"SELECT {how}(%s, %s)", (_LOCKS, number))  # one of two constants
    (taken,) = await cursor.fetchone() or (False,)
    return bool(taken)


async def set_running(connection: Connection, number: int, by: str, at: datetime, via: Via, rate: float | None) -> None:
    """Somebody goes on with it, also with one that was cancelled."""
    await connection.execute(
        "UPDATE backfills SET state = 'running', run_by = %s, run_at = %s, via = %s, rate = %s, ended_by = NULL, "
        "ended_at = NULL WHERE id = %s AND state <> 'done'",
        (by, at, via, rate, number),
    )


async def note_runner(connection: Connection, number: int, by: str) -> None:
    """Of two who begin at the same moment the one who has it."""
    await connection.execute("UPDATE backfills SET run_by = %s WHERE id = %s", (by, number))


async def expect(connection: Connection, number: int, expected: Mapping[str, Any]) -> None:
    """Keep what the plan said, to be compared with what comes of it."""
    await connection.execute("UPDATE backfills SET expected = %s WHERE id = %s", (Jsonb(dict(expected)), number))


async def ask_to_stop(connection: Connection, number: int, by: str, at: datetime) -> None:
    """Whoever runs it reads that before its next page."""
    await connection.execute(
        "UPDATE backfills SET state = 'cancelling', ended_by = %s, ended_at = %s WHERE id = %s AND state = 'running'",
        (by, at, number),
    )


async def end(connection: Connection, number: int, state: State, at: datetime) -> None:
    """It is done, or stopped as somebody had asked."""
    await connection.execute(
        "UPDATE backfills SET state = %s, ended_at = %s WHERE id = %s AND state <> 'done'", (state, at, number)
    )


async def stopped(connection: Connection, number: int) -> bool:
    """Whether somebody wants it to stop."""
    cursor = await connection.execute("SELECT state FROM backfills WHERE id = %s", (number,))
    (state,) = await cursor.fetchone() or ("cancelled",)
    return state in ("cancelling", "cancelled")


async def checkpoints(connection: Connection, number: int) -> dict[tuple[Path, int], Checkpoint]:
    """(path, shard) -> how far it came; only those that were begun."""
    cursor = await connection.execute(
        "SELECT path, shard, done, pages, counts FROM backfill_checkpoints WHERE backfill_id = %s", (number,)
    )
    rows = msgspec.convert(await cursor.fetchall(), list[tuple[int, int, bool, int, list[tuple[str, str, int]]]])
    return {
        (Path(path), shard): Checkpoint(done, pages, Counter({(kind, answer): n for kind, answer, n in counts}))
        for path, shard, done, pages, counts in rows
    }


async def save(connection: Connection, number: int, path: Path, shard: int, checkpoint: Checkpoint) -> None:
    """Write a checkpoint. One that says *done* stays."""
    await connection.execute(
        "INSERT INTO backfill_checkpoints AS c (backfill_id, path, shard, done, pages, counts) "
        "VALUES (%s, %s, %s, %s, %s, %s) ON CONFLICT (backfill_id, path, shard) DO UPDATE SET done = excluded.done, "
        "pages = excluded.pages, counts = excluded.counts, updated_at = now() WHERE NOT c.done",
        (
            number,
            int(path),
            shard,
            checkpoint.done,
            checkpoint.pages,
            Jsonb([[kind, answer, n] for (kind, answer), n in sorted(checkpoint.counts.items()) if n]),
        ),
    )


async def _select(connection: Connection, where: str, **values: object) -> list[Backfill]:
    query = f"SELECT {_COLUMNS} FROM backfills {where}"  # noqa: S608  # constants of this module
    cursor = await connection.execute(query, {"locks": _LOCKS, **values})
    return [_backfill(*row) for row in await cursor.fetchall()]


def _backfill(number: int, asked: Any, *rest: Any) -> Backfill:
    values: list[Any] = [value.astimezone(UTC) if isinstance(value, datetime) else value for value in rest]
    return Backfill(number, msgspec.convert(asked, Request), *values)
