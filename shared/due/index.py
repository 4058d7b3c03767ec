"""The due index in Redis: one sorted set a shard and kind, member = user, score = when (unix seconds)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import chain
from typing import NamedTuple

from shared.due import moves
from shared.due.moves import Practised, Started
from shared.gate.keys import due_key
from shared.identity import SHARDS, shard_of
from shared.keyspace import Call, Keyspace, Script
from shared.policy.kinds import ABANDONED_LESSON, PRACTICE, STREAK_SAVER, ReminderKind

__all__ = ["DUE_KINDS", "Due", "DueIndex", "Practised", "Started"]

DUE_KINDS: tuple[ReminderKind, ...] = (STREAK_SAVER, PRACTICE, ABANDONED_LESSON)
"""The kinds that fire from the index, the most pressing first."""


class Due(NamedTuple):
    """A user whose reminder's time has come."""

    user_id: int
    due: float


class Moved(NamedTuple):
    """A reminder that turned out to be due later than the index had it."""

    user_id: int
    due: float
    """Where the index had it."""
    later: float


class Portion(NamedTuple):
    """Up to `most` users of one kind in one shard, the longest waiting first."""

    shard: int
    kind: ReminderKind
    most: int


_REMOVED_AT_ONCE = 1_000
"""Keeps a script call near a millisecond, and its arguments below Lua's unpack limit (8,000)."""


class DueIndex:
    """Reads and writes the due index. Raises `GateUnavailableError` where Redis can't be sure."""

    def __init__(self, keyspace: Keyspace) -> None:
        self._keyspace = keyspace
        self._update = Script("update", moves.script("update"))
        self._remove = Script.read("shared.due", "remove")

    async def update(self, practised: Iterable[Practised], started: Iterable[Started]) -> None:
        """Apply activity, whatever the gate says: for rebuilds. Harmless to repeat, and late events change nothing."""
        shards: dict[int, tuple[list[Practised], list[Started]]] = {}
        for lesson in practised:
            shards.setdefault(shard_of(lesson.user_id), ([], []))[0].append(lesson)
        for timer in started:
            shards.setdefault(shard_of(timer.user_id), ([], []))[1].append(timer)
        calls = []
        for shard, (lessons, timers) in shards.items():
            for start in range(0, max(len(lessons), len(timers)), moves.USERS_A_CALL):
                part = slice(start, start + moves.USERS_A_CALL)
                arguments = moves.arguments(lessons[part], timers[part])
                calls.append(Call(shard, arguments, self._update, moves.keys(shard)))
        await self._keyspace.run(calls)

    async def due(self, kind: ReminderKind, shards: Sequence[int], now: float, most: int) -> list[Due]:
        """Users of these shards whose reminder is due, at most `most` a shard, the longest waiting first."""
        found = await self.read([Portion(shard, kind, most) for shard in shards], now)
        return [due for part in found for due in part]

    async def read(self, portions: Sequence[Portion], now: float) -> list[list[Due]]:
        """What is due of each portion, in one round trip."""
        calls = [
            Call(shard, ("ZRANGEBYSCORE", due_key(shard, kind), "-inf", now, "WITHSCORES", "LIMIT", 0, most))
            for shard, kind, most in portions
        ]
        return [
            list(map(Due, map(int, found[::2]), map(float, found[1::2]))) for found in await self._keyspace.run(calls)
        ]

    async def waiting(self, now: float) -> int:
        """Reminders of all shards whose time has come and that have not been fired."""
        return sum(n for counts in (await self.counts(range(SHARDS), now)).values() for n in counts.values())

    async def counts(self, shards: Sequence[int], now: float) -> dict[ReminderKind, dict[int, int]]:
        """Kind -> shard -> reminders whose time has come; only what there is any of, the most pressing kind first."""
        places = [(kind, shard) for kind in DUE_KINDS for shard in shards]
        calls = [Call(shard, ("ZCOUNT", due_key(shard, kind), "-inf", now)) for kind, shard in places]
        found: dict[ReminderKind, dict[int, int]] = {}
        for (kind, shard), n in zip(places, await self._keyspace.run(calls), strict=True):
            if n:
                found.setdefault(kind, {})[shard] = int(n)
        return found

    async def remove(self, kind: ReminderKind, fired: Sequence[Due], moved: Sequence[Moved] = ()) -> None:
        """Take out what was fired, move what is due later; whoever an event moved to a later time meanwhile stays."""
        gone: dict[int, list[Due]] = {}
        for due in fired:
            gone.setdefault(shard_of(due.user_id), []).append(due)
        later: dict[int, list[Moved]] = {}
        for one in moved:
            later.setdefault(shard_of(one.user_id), []).append(one)
        calls = []
        for shard in gone.keys() | later.keys():
            mine, moves = gone.get(shard, []), later.get(shard, [])
            for start in range(0, max(len(mine), len(moves)), _REMOVED_AT_ONCE):
                part, others = (these[start : start + _REMOVED_AT_ONCE] for these in (mine, moves))
                arguments = [len(part), *chain.from_iterable(part), len(others), *chain.from_iterable(others)]
                calls.append(Call(shard, arguments, self._remove, (due_key(shard, kind),)))
        await self._keyspace.run(calls)

    async def forget(self, user_ids: Iterable[int]) -> dict[int, int]:
        """Take users out altogether, for they were deleted; user -> reminders that were to come."""
        who = [(user_id, kind) for user_id in user_ids for kind in DUE_KINDS]
        answers = await self._keyspace.run(
            [Call(shard_of(user_id), ("ZREM", due_key(shard_of(user_id), kind), user_id)) for user_id, kind in who]
        )
        removed: dict[int, int] = {}
        for (user_id, _), n in zip(who, answers, strict=True):
            removed[user_id] = removed.get(user_id, 0) + int(n)
        return removed
