"""The due index in Redis: one sorted set a shard and kind, member = user, score = when (unix seconds)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from shared.gate.keys import due_key
from shared.identity import SHARDS, shard_of
from shared.keyspace import Call, Keyspace, Script
from shared.policy.kinds import ABANDONED_LESSON, PRACTICE, STREAK_SAVER, ReminderKind

DUE_KINDS: tuple[ReminderKind, ...] = (STREAK_SAVER, PRACTICE, ABANDONED_LESSON)
"""The kinds that fire from the index, the most pressing first."""
_UPDATE_ORDER = (PRACTICE, STREAK_SAVER, ABANDONED_LESSON)


class Practised(NamedTuple):
    """A completed lesson: the reminders that are due next, and the timers it takes away."""

    user_id: int
    practice_due: float | None
    streak_saver_due: float | None
    started_before: float
    """Abandoned-lesson timers due up to this instant are taken away."""


class Started(NamedTuple):
    """A started lesson and when it counts as abandoned."""

    user_id: int
    due: float


class Due(NamedTuple):
    """A user whose reminder's time has come."""

    user_id: int
    due: float


class DueIndex:
    """Reads and writes the due index. Raises `GateUnavailableError` where Redis can't be sure."""

    def __init__(self, keyspace: Keyspace) -> None:
        self._keyspace = keyspace
        self._update = Script.read("stream.due", "update")
        self._remove = Script.read("stream.due", "remove")

    async def update(self, practised: Iterable[Practised], started: Iterable[Started]) -> None:
        """Apply a batch of activity; harmless to repeat, and late events change nothing."""
        shards: dict[int, tuple[list[Practised], list[Started]]] = {}
        for lesson in practised:
            shards.setdefault(shard_of(lesson.user_id), ([], []))[0].append(lesson)
        for timer in started:
            shards.setdefault(shard_of(timer.user_id), ([], []))[1].append(timer)
        calls = []
        for shard, (lessons, timers) in shards.items():
            fields = ["" if field is None else field for lesson in lessons for field in lesson]
            arguments: list[Any] = [len(lessons), *fields]
            arguments += [len(timers), *(field for timer in timers for field in timer)]
            calls.append(Call(shard, arguments, self._update, [due_key(shard, kind) for kind in _UPDATE_ORDER]))
        await self._keyspace.run(calls)

    async def due(self, kind: ReminderKind, shards: Sequence[int], now: float, most: int) -> list[Due]:
        """Users of these shards whose reminder is due, at most `most` a shard, the longest waiting first."""
        words = ("-inf", now, "WITHSCORES", "LIMIT", 0, most)
        calls = [Call(shard, ("ZRANGEBYSCORE", due_key(shard, kind), *words)) for shard in shards]
        return [
            Due(int(member), float(score))
            for found in await self._keyspace.run(calls)
            for member, score in zip(found[::2], found[1::2], strict=True)
        ]

    async def waiting(self, now: float) -> int:
        """Reminders of all shards whose time has come and that have not been fired."""
        calls = [
            Call(shard, ("ZCOUNT", due_key(shard, kind), "-inf", now)) for shard in range(SHARDS) for kind in DUE_KINDS
        ]
        return int(sum(await self._keyspace.run(calls)))

    async def remove(self, kind: ReminderKind, fired: Sequence[Due]) -> None:
        """Take out what was fired; whoever was moved to a later time meanwhile stays."""
        shards: dict[int, list[Any]] = {}
        for user_id, due in fired:
            shards.setdefault(shard_of(user_id), []).extend((user_id, due))
        await self._keyspace.run(
            [Call(shard, arguments, self._remove, (due_key(shard, kind),)) for shard, arguments in shards.items()]
        )

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
