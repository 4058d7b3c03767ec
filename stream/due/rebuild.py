"""Fill the due index from PostgreSQL: for a population that was imported, or an index lost with Redis.

It reads `users` once from end to end: those who practised lately are a fifth of all, and on every page of the table, so
an index would not spare one of them, and would cost every write of an activity. Timers of lessons that were started
and not finished are in Redis alone: they can't be had back from here.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from datetime import date, datetime
from typing import Any, NamedTuple

import structlog

from shared.due.index import Practised
from shared.policy.kinds import PRACTICE, STREAK_SAVER, ReminderKind
from shared.policy.localtime import UnknownTimeZoneError, local_date
from shared.policy.window import QuietHours, practice_due, streak_saver_on
from shared.store.databases import Database
from stream.keeping import tables
from stream.runtime import Runtime

log = structlog.get_logger()

DAYS = 76 * 3_600.0
"""Seconds. Practice from before leaves no reminder that is still to come: the last one lives until the end of the next
local date, which may begin a day later where the user has gone since, over the dateline."""
_PAGE = 20_000
"""Users at a time, some 20 MB; two pages are in hand at once."""


class Rebuilt(NamedTuple):
    """What a rebuild came to, in users."""

    scheduled: int
    """With a reminder ahead."""
    unknown_zone: int
    """Left out, as firing would: somebody wrote a zone past our checks."""


async def expected(runtime: Runtime) -> int:
    """About how many users a rebuild reads: the database's guess, which costs nothing."""
    found = 0
    for database in runtime.users.databases:
        async with await database.connect("surnia due") as connection:
            found += await tables.expected(connection, _query(runtime.clock.now(), database))
    return found


async def rebuild(runtime: Runtime, progress: Callable[[int], None] = lambda _: None) -> Rebuilt:
    """Schedule every user whose last practice has a reminder ahead of it. Harmless to repeat, and while workers run.

    `progress` is told how many more users have been dealt with. Memory is bounded by two pages. One database after the
    other, each one's table in one transaction. Raises what `shared.patience.SERVER_TROUBLE` lists.
    """
    scheduled = unknown = 0
    for database in runtime.users.databases:
        found = await _rebuild(runtime, database, progress)
        scheduled, unknown = scheduled + found.scheduled, unknown + found.unknown_zone
    if unknown:
        log.error("users with an unknown time zone cannot be reminded", users=unknown)
    return Rebuilt(scheduled, unknown)


async def _rebuild(runtime: Runtime, database: Database, progress: Callable[[int], None]) -> Rebuilt:
    now = runtime.clock.now()
    scheduled = unknown = 0
    writing: asyncio.Task[None] | None = None
    async with await database.connect("surnia due") as connection:
        try:
            async for rows in tables.pages(connection, _query(now, database)):
                lessons = [lesson for row in rows if (lesson := _next(runtime.quiet, now, row)) is not None]
                unknown += len(rows) - len(lessons)
                ahead_of = [lesson for lesson in lessons if has_reminder(lesson)]
                scheduled += len(ahead_of)
                if writing:
                    await writing
                # Redis takes a page in while PostgreSQL hands over the next.
                writing = asyncio.create_task(_write(runtime, ahead_of, len(rows), progress))
            if writing:
                await writing
        finally:
            if writing:
                writing.cancel()
                await asyncio.gather(writing, return_exceptions=True)
    return Rebuilt(scheduled, unknown)


def _query(now: float, database: Database) -> tables.Query:
    return tables.practised(now - DAYS, sorted(database.shards), _PAGE)


async def _write(runtime: Runtime, lessons: Sequence[Practised], read: int, progress: Callable[[int], None]) -> None:
    await runtime.due.update(lessons, [])
    progress(read)


def _next(quiet: QuietHours, now: float, row: Sequence[Any]) -> Practised | None:
    user_id, time_zone, practised_at, practised_on = row
    last: datetime = practised_at
    try:
        return ahead(practised(user_id, time_zone, last.timestamp(), quiet, practised_on), now)
    except UnknownTimeZoneError:
        return None


def practised(user_id: int, time_zone: str, last: float, quiet: QuietHours, on: date | None = None) -> Practised:
    """The reminders that follow from a user's last practice (unix seconds); no timer is taken away.

    `on`: its local date, where it was known when it happened: the user may be in another zone by now.
    """
    evening = streak_saver_on(on or local_date(last, time_zone), time_zone)
    return Practised(user_id, practice_due(last, time_zone, quiet), evening, 0.0)


def ahead(lesson: Practised, now: float) -> Practised:
    """Without the reminders whose life is over: those would only come back as expired."""
    user_id, practice, evening, before = lesson
    return Practised(user_id, _ahead(PRACTICE, practice, now), _ahead(STREAK_SAVER, evening, now), before)


def has_reminder(lesson: Practised) -> bool:
    return lesson.practice_due is not None or lesson.streak_saver_due is not None


def _ahead(kind: ReminderKind, due: float | None, now: float) -> float | None:
    return due if due is not None and due + kind.life > now else None
