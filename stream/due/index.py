"""The due index in Redis: one sorted set a shard and kind, member = user, score = when (unix seconds)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from importlib.resources import files
from typing import Any, NamedTuple

from redis.asyncio import Redis
from redis.exceptions import RedisError

from shared.gate.contract import GateUnavailableError
from shared.identity import SHARDS, shard_of
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


def due_key(shard: int, kind: ReminderKind) -> str:
    """Sorted set: user id -> due. The shard is the hash tag, as in the gate's keys."""
    return f"due:{{{shard}}}:{kind.name}"


class DueIndex:
    """Reads and writes the due index. Raises `GateUnavailableError` where Redis can't be sure."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis
        lua = files("stream.due") / "lua"
        self._update = (lua / "update.lua").read_text()
        self._remove = (lua / "remove.lua").read_text()

    async def update(self, practised: Iterable[Practised], started: Iterable[Started]) -> None:
        """Apply a batch of activity; harmless to repeat, and late events change nothing."""
        shards: dict[int, tuple[list[Practised], list[Started]]] = {}
        for lesson in practised:
            shards.setdefault(shard_of(lesson.user_id), ([], []))[0].append(lesson)
        for timer in started:
            shards.setdefault(shard_of(timer.user_id), ([], []))[1].append(timer)
        pipeline = self._redis.pipeline(transaction=False)
        for shard, (lessons, timers) in shards.items():
            fields = ["" if field is None else field for lesson in lessons for field in lesson]
            arguments: list[Any] = [len(lessons), *fields]
            arguments += [len(timers), *(field for timer in timers for field in timer)]
            pipeline.eval(self._update, 3, *(due_key(shard, kind) for kind in _UPDATE_ORDER), *arguments)
        await self._run(pipeline)

    async def due(self, kind: ReminderKind, shards: Sequence[int], now: float, most: int) -> list[Due]:
        """Users of these shards whose reminder is due, at most `most` a shard, the longest waiting first."""
        pipeline = self._redis.pipeline(transaction=False)
        for shard in shards:
            pipeline.zrangebyscore(due_key(shard, kind), "-inf", now, start=0, num=most, withscores=True)
        return [Due(int(member), score) for answer in await self._run(pipeline) for member, score in answer]

    async def waiting(self, now: float) -> int:
        """Reminders of all shards whose time has come and that have not been fired."""
        pipeline = self._redis.pipeline(transaction=False)
        for shard in range(SHARDS):
            for kind in DUE_KINDS:
                pipeline.zcount(due_key(shard, kind), "-inf", now)
        return int(sum(await self._run(pipeline)))

    async def remove(self, kind: ReminderKind, fired: Sequence[Due]) -> None:
        """Take out what was fired; whoever was moved to a later time meanwhile stays."""
        shards: dict[int, list[Any]] = {}
        for user_id, due in fired:
            shards.setdefault(shard_of(user_id), []).extend((user_id, due))
        pipeline = self._redis.pipeline(transaction=False)
        for shard, arguments in shards.items():
            pipeline.eval(self._remove, 1, due_key(shard, kind), *arguments)
        await self._run(pipeline)

    async def forget(self, user_ids: Iterable[int]) -> None:
        """Take users out altogether: they were deleted."""
        pipeline = self._redis.pipeline(transaction=False)
        for user_id in user_ids:
            for kind in DUE_KINDS:
                pipeline.zrem(due_key(shard_of(user_id), kind), user_id)
        await self._run(pipeline)

    async def _run(self, pipeline: Any) -> list[Any]:
        try:
            answers: list[Any] = await pipeline.execute()
        except (RedisError, OSError) as error:
            raise GateUnavailableError(f"the due index does not answer: {error}") from error
        return answers
