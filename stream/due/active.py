"""A batch of activity into Redis, one script call a shard: marks practice at the gate and moves what is due."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import date
from typing import Any

import msgspec
import numpy as np

from shared.gate.keys import bucket_key, epoch_key
from shared.gate.scripts import door
from shared.identity import MULTIPLIER, SHARD_BITS, SLOT_BITS
from shared.keyspace import Call, Keyspace, Script
from shared.settings import Settings
from stream.due import moves


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


class ActiveUsers:
    """Writes them. Raises `GateUnavailableError` where Redis can't be sure; harmless to repeat."""

    def __init__(self, keyspace: Keyspace, settings: Settings) -> None:
        self._keyspace = keyspace
        self._bits = settings.gate_bucket_bits
        self._keep = settings.gate_keep_hours * 3600
        self._script = Script("active", f"#!lua\n{door()}\n{moves.script('active')}", guarded=True)

    async def write(self, users: Sequence[Active]) -> None:
        """All of them in one round trip."""
        await self._keyspace.run([self._call(shard, part) for shard, part in self._parts(users)])

    def _parts(self, users: Sequence[Active]) -> Iterator[tuple[int, list[tuple[int, Active]]]]:
        """Shards with at most `USERS_A_CALL` users each; before the user the bucket it falls into."""
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
                yield int(shards[piece]), placed[piece : min(end, piece + moves.USERS_A_CALL)]
            start = end

    def _call(self, shard: int, part: list[tuple[int, Active]]) -> Call:
        marked: dict[tuple[int, date], list[Active]] = {}
        unmarked: list[Active] = []
        timers: list[int] = []
        for bucket, user in part:
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
        words: list[Any] = [self._keep, len(lessons) // 4, len(timers) // 2, *map(len, marked.values())]
        keys = [epoch_key(shard), *moves.keys(shard), *(bucket_key(shard, *place) for place in marked)]
        return Call(shard, words + lessons + timers, self._script, keys)
