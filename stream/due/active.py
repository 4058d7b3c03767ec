"""A batch of activity into Redis, some shards a script call: marks practice at the gate and moves what is due."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import date
from typing import Any, NamedTuple

import msgspec
import numpy as np

from shared.due import moves
from shared.gate.keys import bucket_key, epoch_key
from shared.gate.scripts import door
from shared.identity import MULTIPLIER, SHARD_BITS, SLOT_BITS
from shared.keyspace import Call, Keyspace, Script
from shared.settings import Settings

TOGETHER = 200
"""Users a script call where shards may share one. A batch of a few hundred events touches most shards with a user or
two each, and a call costs what three users cost; at two hundred it keeps a server for two milliseconds or three."""


class Active(msgspec.Struct, frozen=True, gc=False):
    """What a user did, for Redis. Instants are whole unix seconds, as reminders' are."""

    user_id: int
    days: tuple[date, ...] = ()
    """Local dates to be marked as practised."""
    practice_due: int = 0
    """What follows from the last practice; 0: there was none."""
    streak_saver_due: int = 0
    started_before: int = 0
    """Timers due up to this instant are taken away."""
    abandoned_due: int = 0
    """When a lesson that was started later counts as abandoned; 0: there is none."""


class _Part(NamedTuple):
    """Users of one shard."""

    shard: int
    placed: list[tuple[int, Active]]
    """Before the user the bucket it falls into."""


class ActiveUsers:
    """Writes them. Raises `GateUnavailableError` where Redis can't be sure; harmless to repeat."""

    def __init__(self, keyspace: Keyspace, settings: Settings) -> None:
        self._keyspace = keyspace
        self._bits = settings.gate_bucket_bits
        self._keep = settings.gate_keep_hours * 3600
        self._script = Script("active", f"#!lua\n{door()}\n{moves.script('active', 'stream.due')}", guarded=True)

    async def write(self, users: Sequence[Active]) -> None:
        """All of them in one round trip."""
        parts = list(self._parts(users))
        most = TOGETHER if self._keyspace.together else 0
        await self._keyspace.run([self._call(some) for some in _taken_together(parts, most)])

    def _parts(self, users: Sequence[Active]) -> Iterator[_Part]:
        """Of shard after shard, with at most `USERS_A_CALL` users each."""
        slots = np.fromiter((user.user_id for user in users), np.uint64, len(users)) * np.uint64(MULTIPLIER)
        order = np.argsort(slots, kind="stable")
        # Shard and bucket are the slot's top bits.
        places = slots[order] >> np.uint64(SLOT_BITS - SHARD_BITS - self._bits)
        buckets: list[int] = (places & np.uint64((1 << self._bits) - 1)).tolist()
        shards = (places >> np.uint64(self._bits)).astype(np.int64)
        placed = list(zip(buckets, [users[n] for n in order.tolist()], strict=True))
        ends = [*(np.flatnonzero(np.diff(shards)) + 1).tolist(), len(users)]
        start = 0
        for end in ends:
            for piece in range(start, end, moves.USERS_A_CALL):
                yield _Part(int(shards[piece]), placed[piece : min(end, piece + moves.USERS_A_CALL)])
            start = end

    def _call(self, parts: Sequence[_Part]) -> Call:
        keys: list[str] = []
        words: list[Any] = [self._keep, len(parts)]
        for part in parts:
            _add(keys, words, part)
        return Call(parts[0].shard, words, self._script, keys)


def _taken_together(parts: Sequence[_Part], most: int) -> Iterator[list[_Part]]:
    """In their order, lists of at most so many users; a part that is larger stands alone."""
    some: list[_Part] = []
    users = 0
    for part in parts:
        if some and users + len(part.placed) > most:
            yield some
            some, users = [], 0
        some.append(part)
        users += len(part.placed)
    if some:
        yield some


def _add(keys: list[str], words: list[Any], part: _Part) -> None:
    """A part as `active.lua` reads it."""
    shard = part.shard
    marked: dict[tuple[int, date], list[Active]] = {}
    unmarked: list[Active] = []
    timers: list[int] = []
    for bucket, user in part.placed:
        if user.abandoned_due:
            timers += (user.abandoned_due, user.user_id)
        if user.days:
            for day in user.days:
                marked.setdefault((bucket, day), []).append(user)
        elif user.practice_due:
            unmarked.append(user)
    lessons: list[int] = []
    for group in (*marked.values(), unmarked):
        for user in group:
            lessons += (user.user_id, user.practice_due, user.streak_saver_due, user.started_before)
    words += (len(marked), len(lessons) // 4, len(timers) // 2, *map(len, marked.values()))
    words += lessons
    words += timers
    keys += (epoch_key(shard), *moves.keys(shard), *(bucket_key(shard, *place) for place in marked))
