"""Fill the due index from PostgreSQL: for a population that was imported, or an index lost with Redis."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Any

from shared.clock import utc
from shared.policy.kinds import PRACTICE, STREAK_SAVER
from shared.policy.window import practice_due, streak_saver_due
from stream.due.index import Practised
from stream.runtime import Runtime

_DAYS = 3 * 86_400.0
"""Practice from before leaves no reminder that is still to come: the last is due within two local days."""
_PAGE = 5_000


async def rebuild(runtime: Runtime, progress: Callable[[int], None] = lambda _: None) -> int:
    """Schedule every user whose last practice has a reminder ahead of it; how many. Harmless to repeat."""
    now = runtime.clock.now()
    scheduled = 0
    async with runtime.pool.connection() as connection, connection.cursor("due_rebuild") as cursor:
        await cursor.execute(
            "SELECT id, time_zone, last_practice_at FROM users WHERE last_practice_at > %s", (utc(now - _DAYS),)
        )
        while rows := await cursor.fetchmany(_PAGE):
            lessons = [lesson for row in rows if (lesson := _next(runtime, now, *row))]
            await runtime.due.update(lessons, [])
            scheduled += len(lessons)
            progress(len(rows))
    return scheduled


def _next(runtime: Runtime, now: float, user_id: Any, time_zone: Any, last_practice_at: Any) -> Practised | None:
    practised_at: datetime = last_practice_at
    last = practised_at.timestamp()
    practice, streak_saver = practice_due(last, time_zone, runtime.quiet), streak_saver_due(last, time_zone)
    # A reminder whose life is over would only come back as expired.
    practice_ahead = practice if practice + PRACTICE.life > now else None
    streak_ahead = streak_saver if streak_saver + STREAK_SAVER.life > now else None
    if practice_ahead is None and streak_ahead is None:
        return None
    return Practised(user_id, practice_ahead, streak_ahead, 0.0)
