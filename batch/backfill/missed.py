"""What the stream path should have fired of one shard: from the due index, and from PostgreSQL whom the index lost.

The index is right where it has a user, for it knows the last practice to the second and PostgreSQL to the hour; whom it
has at another time is not due here. Timers of abandoned lessons are in the index alone.

A shard's reminders are held in memory at once: of 100 million users and two hours some 2,000.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, datetime, timedelta
from importlib.resources import files
from typing import Any

import msgspec

from batch.backfill.request import Request
from batch.backfill.users import Users
from shared.due.index import Due
from shared.due.page import Waiting
from shared.gate.keys import due_key
from shared.identity import slot
from shared.keyspace import Call, Keyspace
from shared.policy.kinds import PRACTICE, STREAK_SAVER, ReminderKind
from shared.policy.localtime import known_zones, local_date
from shared.policy.window import QuietHours, practice_due, streak_saver_on
from shared.settings import Settings

_AT_ONCE = 10_000
"""Entries of the index that are read in one call, and users that it is asked for."""
_BEFORE = timedelta(hours=76)
"""Practice from longer before has no reminder in an interval: the last one is at 22:00 of the next local date, and that
may begin a day later where the user has gone since, over the dateline."""


class Missed:
    """Looks for what was missed. Raises what `shared.patience.SERVER_TROUBLE` lists."""

    def __init__(self, settings: Settings, keyspace: Keyspace, users: Users, request: Request) -> None:
        self._keyspace = keyspace
        self._users = users
        self._request = request
        self._quiet = QuietHours.of(settings)
        self._from, self._to = request.start.timestamp(), request.end.timestamp()
        # A literal, for all shards: no quoting, for the names are those of the IANA database.
        self._zones = "{" + ",".join(request.zones or sorted(known_zones())) + "}"
        self._query = (files("batch") / "queries" / "backfill_practised.sql").read_text()

    async def of(self, shard: int) -> list[Waiting]:
        """The reminders of a shard, the most pressing kind first, neighbours at the gate together."""
        kinds = self._request.due_kinds
        found = {kind.name: await self._indexed(shard, kind) for kind in kinds}
        if any(kind in (PRACTICE, STREAK_SAVER) for kind in kinds):
            for name, lost in (await self._lost(shard)).items():
                if name in found:
                    found[name] += lost
        return [
            Waiting(kind, shard, due)
            for kind in kinds
            for due in sorted(found[kind.name], key=lambda due: slot(due.user_id))
        ]

    async def _indexed(self, shard: int, kind: ReminderKind) -> list[Due]:
        found: list[Due] = []
        while True:
            words = ("ZRANGEBYSCORE", due_key(shard, kind), self._from, f"({self._to}", "WITHSCORES")
            (page,) = await self._keyspace.run([Call(shard, (*words, "LIMIT", len(found), _AT_ONCE))])
            found += map(Due, map(int, page[::2]), map(float, page[1::2]))
            if len(page) < 2 * _AT_ONCE:
                return await self._in_zones(shard, found)

    async def _in_zones(self, shard: int, dues: list[Due]) -> list[Due]:
        """The index knows no zones."""
        if not self._request.zones or not dues:
            return dues
        query = "SELECT id FROM users WHERE id = ANY(%s) AND time_zone = ANY(%s::text[])"
        cursor = await (await self._users.at(shard)).execute(query, ([due.user_id for due in dues], self._zones))
        here = {user_id for (user_id,) in msgspec.convert(await cursor.fetchall(), list[tuple[int]])}
        return [due for due in dues if due.user_id in here]

    async def _lost(self, shard: int) -> dict[str, list[Due]]:
        """Kind -> reminders that follow from the users' last practice and are in no index."""
        since = self._request.start - _BEFORE
        values = {
            "shard": shard,
            "zones": self._zones,
            "since": since,
            "until": self._request.end,
            "active_since": since.date() - timedelta(days=1),
        }
        due: dict[str, list[Due]] = {PRACTICE.name: [], STREAK_SAVER.name: []}
        cursor = await (await self._users.at(shard)).execute(self._query, values)
        while rows := await cursor.fetchmany(_AT_ONCE):
            for row in rows:
                for kind, one in self._follow(*row):
                    due[kind.name].append(one)
        return {kind.name: await self._not_indexed(shard, kind, due[kind.name]) for kind in (PRACTICE, STREAK_SAVER)}

    def _follow(self, user_id: int, zone: str, practised: datetime, on: date | None) -> list[tuple[ReminderKind, Due]]:
        last = practised.timestamp()
        evening = streak_saver_on(on or local_date(last, zone), zone)
        both = ((PRACTICE, practice_due(last, zone, self._quiet)), (STREAK_SAVER, evening))
        return [(kind, Due(user_id, at)) for kind, at in both if self._from <= at < self._to]

    async def _not_indexed(self, shard: int, kind: ReminderKind, dues: Sequence[Due]) -> list[Due]:
        found: list[Due] = []
        for start in range(0, len(dues), _AT_ONCE):
            part = dues[start : start + _AT_ONCE]
            ids = [due.user_id for due in part]
            scores: list[list[Any]] = await self._keyspace.run([Call(shard, ("ZMSCORE", due_key(shard, kind), *ids))])
            found += [due for due, score in zip(part, scores[0], strict=True) if score is None]
        return found
