"""Taking deleted users out of the gate. For their erasure, not for the paths."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date, timedelta

from shared.gate.keys import bucket_key, campaign_key, epoch_key
from shared.gate.places import cut
from shared.gate.scripts import asking
from shared.gate.value import ERASED
from shared.identity import bucket_of, shard_of
from shared.keyspace import Call, Keyspace
from shared.settings import Settings

STONE_DAYS = range(-2, 4)
"""Days from UTC's date on which an erased user gets nothing. Yesterday's reminders, wherever the user is, may still be
on their way; and who plans the days after may have read the user before the deletion."""
_WRITTEN_DAYS = 5
"""A local date is written to so long after it began in UTC at most: practice that is told of late, settling."""
_USERS_A_CALL = 100
"""Each has some 16 dates of a bucket of its own: a call near a millisecond."""


def stone_days(day: date) -> list[date]:
    """The local dates with a tombstone, by UTC's date on which a user was erased."""
    return [day + timedelta(days=n) for n in STONE_DAYS]


class Forgetting:
    """Raises `GateUnavailableError` where the gate does not answer; harmless to repeat."""

    def __init__(self, keyspace: Keyspace, settings: Settings) -> None:
        self._keyspace = keyspace
        self._script = asking()["forget"]
        self._bits = settings.gate_bucket_bits
        self._keep_hours = settings.gate_keep_hours

    async def forget(self, user_ids: Sequence[int], today: date) -> dict[int, int]:
        """Nothing but tombstones is left of their days; user -> fields that were taken away. `today`: UTC's date."""
        stones = stone_days(today)
        kept = _WRITTEN_DAYS + -(-self._keep_hours // 24)
        days = [*stones, *(stones[0] - timedelta(days=n) for n in range(1, kept))]
        parts = list(cut(user_ids, self._bits, _USERS_A_CALL))
        calls = []
        for part in parts:
            names = [bucket_key(part.shard, bucket, day) for bucket in part.buckets for day in days]
            head = (ERASED, self._keep_hours * 3600, len(stones), len(days), *part.sizes)
            words = [user_ids[n] for n in part.positions]
            calls.append(Call(part.shard, (*head, *words), self._script, (epoch_key(part.shard), *names)))
        removed: dict[int, int] = {}
        for part, counts in zip(parts, await self._keyspace.run(calls), strict=True):
            removed |= {user_ids[n]: count for n, count in zip(part.positions, counts, strict=True)}
        return removed

    async def forget_campaigns(self, campaigns: Mapping[str, Sequence[int]]) -> dict[int, int]:
        """Campaign -> users to take out of it; user -> campaigns that had the user."""
        who = [(user_id, name) for name, user_ids in campaigns.items() for user_id in user_ids]
        calls = []
        for user_id, name in who:
            shard = shard_of(user_id)
            calls.append(Call(shard, ("HDEL", campaign_key(shard, bucket_of(user_id, self._bits), name), user_id)))
        removed: dict[int, int] = {}
        for (user_id, _), count in zip(who, await self._keyspace.run(calls), strict=True):
            removed[user_id] = removed.get(user_id, 0) + int(count)
        return removed
