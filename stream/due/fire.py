"""Firing what is due: look up a thousand users at a time, plan them, and only then take them out of the index."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import date, timedelta
from functools import partial
from importlib.resources import files
from typing import Any

import structlog

from shared import outbox
from shared.identity import SHARDS
from shared.planning import Denial, Planner
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
_PROBE = 4
"""The same of a kind that was paused the last time: enough to see whether it still is, about one page."""


def owned_shards(partitions: Collection[int], count: int) -> list[int]:
    """The shards that belong to these of `count` partitions of activity.events."""
    return [shard for shard in range(SHARDS) if shard % count in partitions]


class Firing:
    """The due loop of one worker."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._query = (files("stream") / "queries" / "fire_users.sql").read_text()
        self._planner = Planner(Path.stream, runtime.gate, runtime.producer, runtime.settings, runtime.clock)
        self._paused: set[str] = set()

    async def fire(self, shards: Sequence[int]) -> int:
        """Fire everything that is due in these shards; how many users were fired. Safe to repeat or run twice.

        Who is paused stays in the index, for a later call.
        """
        return sum([await self._kind(kind, shards) for kind in DUE_KINDS])

    async def _kind(self, kind: ReminderKind, shards: Sequence[int]) -> int:
        """Fire one kind until nothing is due, or only what is paused."""
        fired = 0
        while due := await self._due(kind, shards):
            paused = False
            for start in range(0, len(due), LOOKUP):
                page = due[start : start + LOOKUP]
                done = await self._runtime.patience.until_done(f"firing {kind.name}", partial(self._page, kind, page))
                fired += done
                paused |= done < len(page)
                if not done:
                    break
            self._note(kind, paused)
            if paused:
                break  # Whoever it was would only be read again.
        return fired

    def _note(self, kind: ReminderKind, paused: bool) -> None:
        if paused and kind.name not in self._paused:
            self._paused.add(kind.name)
            log.warning("paused reminders stay in the due index", kind=kind.name)
        elif not paused and kind.name in self._paused:
            self._paused.remove(kind.name)
            log.info("reminders are fired again", kind=kind.name)

    async def _due(self, kind: ReminderKind, shards: Sequence[int]) -> list[Due]:
        now, most = self._runtime.clock.now(), _PROBE if kind.name in self._paused else _PER_SHARD
        return await self._runtime.patience.until_done(
            "reading the due index", lambda: self._runtime.due.due(kind, shards, now, most)
        )

    async def _page(self, kind: ReminderKind, page: Sequence[Due]) -> int:
        """Plan a page and take it out of the index, all but those who are paused; how many it took out."""
        runtime = self._runtime
        async with runtime.pool.connection() as connection:
            cursor = await connection.execute(self._query, ([user_id for user_id, _ in page],), binary=True)
            users: dict[int, Any] = {int(str(row[0])): row for row in await cursor.fetchall()}
            await connection.commit()
            candidates, denied = self._candidates(kind, page, users)
            written = await self._planner.write(connection, candidates, denied)
            if written.id is not None:
                await outbox.delete(connection, written.id)
        paused = {send.user_id for send in written.paused}
        fired = [due for due in page if due.user_id not in paused]
        await runtime.due.remove(kind, fired)
        runtime.meter.fired(kind.name, runtime.clock.now(), [due.due for due in fired])
        runtime.meter.planned(kind.name, written.counts)
        return len(fired)

    def _candidates(
        self, kind: ReminderKind, page: Sequence[Due], users: Mapping[int, Any]
    ) -> tuple[list[Send], list[Denial]]:
        runtime = self._runtime
        candidates: list[Send] = []
        denied: list[Denial] = []
        for user_id, due in page:
            row = users.get(user_id)
            if row is None:
                continue  # Deleted since: nobody to remind, and nothing to count.
            try:
                send, reason = candidate(kind, due, row, runtime.quiet, runtime.settings.sends_email)
            except UnknownTimeZoneError as error:
                # Somebody wrote it past our checks. It has no local date, so it can be no candidate.
                log.error("a user cannot be reminded", user_id=user_id, error=str(error))
                continue
            if reason:
                denied.append(Denial(send, reason))
            else:
                candidates.append(send)
        return candidates, denied


def candidate(
    kind: ReminderKind, due: float, row: Sequence[Any], quiet: QuietHours, email: bool = True
) -> tuple[Send, str]:
    """The send for a user that is due (a row of fire_users.sql), and the reason it is denied, or "".

    `email`: whether there is a server to send e-mails with.
    """
    user_id, time_zone, locale, streak, opted_out, practice_date, active_date, *devices, address = row
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
        targets=tuple(map(Target, *(column or () for column in devices))),
        email=address if email else "",
    )
    if opted_out >> kind.code & 1:
        return send, "opted_out"
    if not send.targets and not send.email:
        return send, "no_device"
    if kind is STREAK_SAVER and (streak < 1 or practice_date is None or practice_date < day - timedelta(days=1)):
        return send, "no_streak"
    if not kind.quiet_exempt and quiet.covers(due, time_zone):
        return send, "quiet_hours"
    return send, ""
