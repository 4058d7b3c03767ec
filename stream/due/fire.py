"""Firing what is due: look up a thousand users at a time, claim, write to Kafka, and only then take them out."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import date, timedelta
from importlib.resources import files
from typing import Any

import structlog

from shared.identity import SHARDS
from shared.patience import until_done
from shared.planning import Denial, claim, records
from shared.policy.kinds import STREAK_SAVER, Path, ReminderKind
from shared.policy.localtime import UnknownTimeZoneError, local_date
from shared.policy.window import QuietHours, expires_at
from shared.wire.sends import Send, Target
from stream.due.index import DUE_KINDS, Due
from stream.runtime import Runtime

log = structlog.get_logger()

LOOKUP = 1000
"""Users looked up at a time, by primary key (DESIGN, due index)."""
_PER_SHARD = 500
"""Users taken of one shard and kind a round, so that no shard holds up the others."""


def owned_shards(partitions: Collection[int], count: int) -> list[int]:
    """The shards that belong to these of `count` partitions of activity.events."""
    return [shard for shard in range(SHARDS) if shard % count in partitions]


class Firing:
    """The due loop of one worker."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._query = (files("stream") / "queries" / "fire_users.sql").read_text()

    async def fire(self, shards: Sequence[int]) -> int:
        """Fire everything that is due in these shards; how many users were fired. Safe to repeat or run twice."""
        fired = 0
        for kind in DUE_KINDS:
            while due := await self._due(kind, shards):
                for start in range(0, len(due), LOOKUP):
                    page = due[start : start + LOOKUP]
                    await until_done(f"firing {kind.name}", lambda kind=kind, page=page: self._page(kind, page))  # type: ignore[misc]  # mypy cannot infer a lambda's defaults
                fired += len(due)
        return fired

    async def _due(self, kind: ReminderKind, shards: Sequence[int]) -> list[Due]:
        now = self._runtime.clock.now()
        return await until_done("reading the due index", lambda: self._runtime.due.due(kind, shards, now, _PER_SHARD))

    async def _page(self, kind: ReminderKind, page: Sequence[Due]) -> None:
        runtime = self._runtime
        async with runtime.pool.connection() as connection:
            cursor = await connection.execute(self._query, ([user_id for user_id, _ in page],), binary=True)
            users: dict[int, Any] = {int(str(row[0])): row for row in await cursor.fetchall()}
        candidates: list[Send] = []
        denied: list[Denial] = []
        for user_id, due in page:
            row = users.get(user_id)
            if row is None:
                continue  # Deleted since: nobody to remind, and nothing to count.
            try:
                send, reason = candidate(kind, due, row, runtime.quiet)
            except UnknownTimeZoneError as error:
                # Somebody wrote it past our checks. It has no local date, so it can be no candidate.
                log.error("a user cannot be reminded", user_id=user_id, error=str(error))
                continue
            if reason:
                denied.append(Denial(send, reason))
            else:
                candidates.append(send)
        now = runtime.clock.now()
        plan = await claim(runtime.gate, Path.stream, candidates, denied, now)
        await runtime.producer.write(records(plan, Path.stream, runtime.topics, now, runtime.settings.send_batch))
        await runtime.due.remove(kind, page)


def candidate(kind: ReminderKind, due: float, row: Sequence[Any], quiet: QuietHours) -> tuple[Send, str]:
    """The send for a user that is due (a row of fire_users.sql), and the reason it is denied, or ""."""
    user_id, time_zone, locale, streak, opted_out, practice_date, active_date, ids, platforms, tokens = row
    day: date = local_date(due, time_zone)
    send = Send(
        user_id=user_id,
        kind=kind.name,
        local_date=day,
        due_at=due,
        expires_at=expires_at(kind, due, time_zone, quiet),
        time_zone=time_zone,
        locale=locale,
        streak=streak,
        silent_days=max(0, (day - active_date).days) if active_date else 0,
        targets=tuple(map(Target, ids or (), platforms or (), tokens or ())),
    )
    if opted_out >> kind.code & 1:
        return send, "opted_out"
    if not send.targets:
        return send, "no_device"
    if kind is STREAK_SAVER and (streak < 1 or practice_date is None or practice_date < day - timedelta(days=1)):
        return send, "no_streak"
    if not kind.quiet_exempt and quiet.covers(due, time_zone):
        return send, "quiet_hours"
    return send, ""
