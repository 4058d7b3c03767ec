"""Reading PostgreSQL page by page, with cursors of the server's: what a rebuild reads may be most of a day's sends."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any, LiteralString

import psycopg

from shared.clock import utc
from shared.gate.redis_gate import CAMPAIGN_DAYS
from shared.identity import SHARDS
from shared.settings import Settings

PAGE = 20_000
"""Rows at a time: about 5 MB."""
_OUTBOX_PAGE = 10
"""A row of the outbox is a page of a planner, up to a megabyte."""

Connection = psycopg.AsyncConnection[Any]


@dataclass(frozen=True, slots=True)
class Query:
    """What to read."""

    text: LiteralString
    values: tuple[object, ...]
    page: int = PAGE


def ledger(today: date, first_day: date, shards: Sequence[int]) -> Query:
    """What became of sends of the dates that the gate still knows, and of campaigns' for as long as those are kept."""
    return Query(
        "SELECT local_date, user_id, kind, path, campaign, result, reason FROM ledger "
        "WHERE (local_date >= %s OR campaign <> '' AND local_date >= %s) AND result <> 0 "
        # Erased users stand there under negative numbers.
        "AND user_id > 0 AND (%s::int[] IS NULL OR surnia_shard(user_id) = ANY(%s))",
        (first_day, today - timedelta(days=CAMPAIGN_DAYS), *_twice(shards)),
    )


def users(since: float, shards: Sequence[int]) -> Query:
    """Who practised since an instant (unix seconds), or may have turned a kind off since."""
    return Query(
        "SELECT id, time_zone, last_practice_at, last_practice_date, streak, opted_out FROM users "
        "WHERE (last_practice_at > %s OR opted_out <> 0 AND last_event_at > %s) "
        "AND (%s::int[] IS NULL OR shard = ANY(%s))",
        (utc(since), utc(since), *_twice(shards)),
    )


def practised(since: float, shards: Sequence[int], page: int) -> Query:
    """Who practised since an instant (unix seconds)."""
    return Query(
        "SELECT id, time_zone, last_practice_at, last_practice_date FROM users WHERE last_practice_at > %s "
        "AND (%s::int[] IS NULL OR shard = ANY(%s))",
        (utc(since), *_twice(shards)),
        page,
    )


def outbox() -> Query:
    """Planners' pages that may not be in Kafka yet."""
    return Query("SELECT records FROM outbox", (), _OUTBOX_PAGE)


def _twice(shards: Sequence[int]) -> tuple[list[int] | None, list[int] | None]:
    """For `(%s IS NULL OR … = ANY(%s))`; null, which the database's planner leaves out, for all of them."""
    some = None if len(shards) == SHARDS else list(shards)
    return some, some


async def connect(settings: Settings) -> Connection:
    """A connection of its own, each statement a transaction unless one is begun."""
    return await psycopg.AsyncConnection.connect(
        settings.require_postgres(), autocommit=True, application_name="surnia gate", connect_timeout=5
    )


async def expected(connection: Connection, query: Query) -> int:
    """About how many rows it has: the planner's guess, which costs nothing."""
    cursor = await connection.execute("EXPLAIN (FORMAT JSON) " + query.text, query.values)
    row = await cursor.fetchone()
    assert row
    plan = row[0] if isinstance(row[0], list) else json.loads(row[0])
    return int(plan[0]["Plan"]["Plan Rows"])


async def pages(connection: Connection, query: Query) -> AsyncGenerator[list[Any], None]:
    """Its rows, some at a time."""
    async with connection.transaction(), connection.cursor("rebuild", binary=True) as cursor:
        await cursor.execute(query.text, query.values)
        while rows := await cursor.fetchmany(query.page):
            yield rows
