"""The dry run: who would be reminded, by hour, zone and kind. Reads PostgreSQL, the due index and the gate; claims and
writes nothing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from contextlib import AsyncExitStack
from datetime import timedelta
from importlib.resources import files
from typing import NamedTuple

import msgspec
import numpy as np

from batch.backfill import silent, store, unread
from batch.backfill.missed import Missed
from batch.backfill.request import Request
from batch.backfill.users import Users
from batch.cells import slot_literals
from batch.denials import Candidates, turned_down
from batch.moments import Moments
from batch.plan import Plan
from shared.due.candidate import candidate, moment, users_of
from shared.due.page import Waiting
from shared.gate import Keeper, SendKey
from shared.keyspace import open_keyspace
from shared.outbox import array
from shared.policy.holdout import Holdout
from shared.policy.kinds import COMEBACK
from shared.policy.localtime import UnknownTimeZoneError, local_time
from shared.policy.window import QuietHours
from shared.settings import Settings

_PAGE = 1_000


class Row(msgspec.Struct):
    """The users of one hour, zone and kind. `users` is the sum of all others."""

    kind: str
    hour: str
    """The local hour that it was due in, with its offset from UTC."""
    time_zone: str
    users: int = 0
    sends: int = 0
    """Would go out now."""
    expired: int = 0
    """Past its window: would be reported as expired."""
    already: int = 0
    """Taken at the gate: planned before, by either path."""
    denied: int = 0
    """The planner itself would deny it: opted out, no device, no answer for long, held out, no streak, quiet hours."""
    later: int = 0
    """Not due yet where the user is now."""


class Look(msgspec.Struct):
    """What a backfill would do."""

    request: Request
    rows: list[Row]
    unread_events: int
    """Events that the stream path has not read; who practised in them is marked before anybody is reminded."""

    def total(self, what: str, kind: str = "") -> int:
        """The sum of a column, of all kinds or of one."""
        return sum(getattr(row, what) for row in self.rows if not kind or row.kind == kind)

    def expected(self) -> dict[str, dict[str, int]]:
        """Kind -> column -> sum."""
        columns = ("users", "sends", "expired", "already", "denied", "later")
        return {kind: {name: self.total(name, kind) for name in columns} for kind in self.request.kinds}


class _Seen(NamedTuple):
    """A candidate as the tally needs it."""

    key: SendKey
    zone: str
    due: float
    answer: str
    """The column it falls into, unless the gate has it."""


async def look(settings: Settings, request: Request, on_shard: Callable[[], None] = lambda: None) -> Look:
    """Count it, shard by shard. Raises what `shared.patience.SERVER_TROUBLE` lists."""
    async with AsyncExitStack() as stack:
        connection = await stack.enter_async_context(await store.connect(settings))
        keyspace = open_keyspace(settings)
        stack.push_async_callback(keyspace.close)
        tally = _Tally(Keeper(keyspace, settings))
        users = Users(settings, connection, stack)
        looker = _Looker(settings, users)
        missed = Missed(settings, keyspace, users, request)
        planned = silent.whole(request, settings) if request.comebacks else None
        for shard in request.shards:
            if planned:
                await tally.add(await looker.silent(planned, shard))
            if request.due_kinds:
                waiting = await missed.of(shard)
                for start in range(0, len(waiting), _PAGE):
                    await tally.add(await looker.missed(shard, waiting[start : start + _PAGE]))
            on_shard()
    events = await unread.count_unread(settings) if request.due_kinds else 0
    return Look(request, tally.rows(), events)


class _Looker:
    """Turns what is due into what a planner would make of it, now."""

    def __init__(self, settings: Settings, users: Users) -> None:
        self._from = users
        self._now = settings.clock().now()
        self._quiet = QuietHours.of(settings)
        self._email = settings.sends_email
        self._stop_after, self._holdout = settings.stop_after, Holdout.of(settings)
        self._slots: dict[str, str] = {}
        self._moments: Moments
        self._silent = (files("batch") / "queries" / "backfill_silent.sql").read_text()
        self._users = (files("shared.due") / "queries" / "fire_users.sql").read_text()

    async def silent(self, planned: Plan, shard: int) -> list[_Seen]:
        slots = planned.slots
        if not self._slots:
            self._slots, self._moments = slot_literals(slots, range(len(slots))), Moments(slots, self._quiet)
        cursor = await (await self._from.at(shard)).execute(self._silent, {**self._slots, "shard": shard})
        rows = msgspec.convert(await cursor.fetchall(), list[tuple[int, int, int, int, bool, bool]])
        if not rows:
            return []
        ids, numbers, opted_out, unanswered, device, email = map(np.array, zip(*rows, strict=True))
        due = self._moments.due(numbers, ids)
        expired = self._now >= self._moments.expires(numbers, due)
        users = Candidates(ids, opted_out.astype(np.int16), device | (email & self._email), unanswered)
        denied = turned_down(users, self._stop_after, self._holdout) > 0
        answers = np.where(denied, "denied", np.where(expired, "expired", "sends")).tolist()
        return [
            _Seen(SendKey(user_id, COMEBACK.name, slots[n].local_date), slots[n].time_zone, at, answer)
            for (user_id, n, *_), at, answer in zip(rows, due.tolist(), answers, strict=True)
        ]

    async def missed(self, shard: int, waiting: Sequence[Waiting]) -> list[_Seen]:
        cursor = await (await self._from.at(shard)).execute(
            self._users, (array({one.due.user_id for one in waiting}),), binary=True
        )
        users = users_of(await cursor.fetchall())
        seen = []
        for kind, _, (user_id, due) in waiting:
            user = users.get(user_id)
            if user is None:
                continue
            try:
                when = moment(kind, due, user.time_zone, user.practice_date, self._quiet)
            except UnknownTimeZoneError:
                continue  # Firing says so in its log.
            _, reason = candidate(kind, when, user, self._email, self._holdout)
            if when.at > self._now:
                answer = "later"
            elif reason:
                answer = "denied"
            else:
                answer = "sends" if self._now < when.expires_at else "expired"
            seen.append(_Seen(SendKey(user_id, kind.name, when.local_date), user.time_zone, when.at, answer))
        return seen


class _Tally:
    def __init__(self, keeper: Keeper) -> None:
        self._keeper = keeper
        self._counts: Counter[tuple[str, str, str, str]] = Counter()

    async def add(self, seen: Sequence[_Seen]) -> None:
        for start in range(0, len(seen), _PAGE):
            page = seen[start : start + _PAGE]
            for one, taken in zip(page, await self._keeper.taken([one.key for one in page]), strict=True):
                hour = local_time(one.due, one.zone).replace(minute=0, second=0, microsecond=0)
                place = (one.key.kind, f"{hour:%Y-%m-%d %H:00} {_offset(hour.utcoffset())}", one.zone)
                self._counts[(*place, "already" if taken else one.answer)] += 1

    def rows(self) -> list[Row]:
        found: dict[tuple[str, str, str], Row] = {}
        for (kind, hour, zone, answer), n in sorted(self._counts.items()):
            row = found.setdefault((kind, hour, zone), Row(kind, hour, zone))
            setattr(row, answer, getattr(row, answer) + n)
            row.users += n
        return list(found.values())


def _offset(ahead: timedelta | None) -> str:
    """+05:30"""
    minutes = round((ahead or timedelta()).total_seconds() / 60)
    return f"{'-' if minutes < 0 else '+'}{abs(minutes) // 60:02}:{abs(minutes) % 60:02}"


def largest(rows: Iterable[Row], most: int) -> list[Row]:
    """The rows with most users, in the order of kind, hour and zone."""
    chosen = sorted(rows, key=lambda row: -row.users)[:most]
    return sorted(chosen, key=lambda row: (row.kind, row.hour, row.time_zone))
