"""Fill the due index from PostgreSQL: for a population that was imported, or an index lost with Redis."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Any

from shared.clock import utc
from shared.policy.kinds import PRACTICE, STREAK_SAVER, ReminderKind
from shared.policy.window import QuietHours, practice_due, streak_saver_due
from stream.due.index import Practised
from stream.runtime import Runtime

DAYS = 3 * 86_400.0
"""Practice from before leaves no reminder that is still to come: the last is due within two local days."""
_PAGE = 5_000


async def rebuild(runtime: Runtime, progress: Callable[[int], None] = lambda _: None) -> int:
    """Schedule every user whose last practice has a reminder ahead of it; how many. Harmless to repeat."""
    now = runtime.clock.now()
    scheduled = 0
    async with runtime.pool.connection() as connection, connection.cursor("due_rebuild") as cursor:
        await cursor.execute(
            "SELECT id, time_zone, last_practice_at FROM users WHERE last_practice_at > %s", (utc(now - DAYS),)
        )
        while rows := await cursor.fetchmany(_PAGE):
            lessons = [lesson for row in rows if has_reminder(lesson := _next(runtime, now, *row))]
            await runtime.due.update(lessons, [])
            scheduled += len(lessons)
            progress(len(rows))
    return scheduled


def _next(runtime: Runtime, now: float, user_id: Any, time_zone: Any, last_practice_at: Any) -> Practised:
    practised_at: datetime = last_practice_at
    return ahead(practised(user_id, time_zone, practised_at.timestamp(), runtime.quiet), now)


def practised(user_id: int, time_zone: str, last: float, quiet: QuietHours) -> Practised:
    """The reminders that follow from a user's last practice (unix seconds); no timer is taken away."""
    return Practised(user_id, practice_due(last, time_zone, quiet), streak_saver_due(last, time_zone), 0.0)


def ahead(lesson: Practised, now: float) -> Practised:
    """Without the reminders whose life is over: those would only come back as expired."""
    return lesson._replace(
        practice_due=_ahead(PRACTICE, lesson.practice_due, now),
        streak_saver_due=_ahead(STREAK_SAVER, lesson.streak_saver_due, now),
    )


def has_reminder(lesson: Practised) -> bool:
    return lesson.practice_due is not None or lesson.streak_saver_due is not None


def _ahead(kind: ReminderKind, due: float | None, now: float) -> float | None:
    return due if due is not None and due + kind.life > now else None
