"""What keeps the gate: its epochs, its rebuilding, the pauses' rules. For commands and rebuilds, not for the paths."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import date
from typing import NamedTuple, Self

from redis.exceptions import RedisError

from shared.gate.contract import SendKey
from shared.gate.keys import bucket_key, campaign_key, epoch_key, rebuild_key
from shared.gate.places import cut
from shared.gate.redis_gate import CAMPAIGN_DAYS
from shared.gate.rules import Rule, parse, written
from shared.gate.scripts import asking, keeping
from shared.gate.value import OPTED_OUT, SETTLED, has_place, state
from shared.identity import SHARDS, bucket_of, shard_of
from shared.keyspace import Call, GateClosedError, Keyspace, explain, open_keyspace
from shared.policy.kinds import KIND_BY_CODE, KINDS, Path
from shared.settings import Settings

_PRACTISED, _ERASED = -1, 5
"""What `restore.lua` takes for kinds' codes."""
_MARK_SECONDS = 6 * 3600
"""A rebuild that takes longer has hung."""


class Fact(NamedTuple):
    """What a rebuild knows of a send."""

    key: SendKey
    path: Path
    settled: bool


class Epoch(NamedTuple):
    """What a shard's epoch key says."""

    run_id: str
    """Of the server it was opened on; empty where any is trusted."""
    name: str
    rules: tuple[Rule, ...]


class Keeper:
    """Raises `GateUnavailableError` where the gate does not answer."""

    def __init__(self, keyspace: Keyspace, settings: Settings) -> None:
        self.keyspace = keyspace
        self._scripts = keeping()
        self._ask = asking()["standing"]
        self._bits = settings.gate_bucket_bits
        self._keep = settings.gate_keep_hours * 3600

    @classmethod
    def connect(cls, settings: Settings) -> Self:
        return cls(open_keyspace(settings), settings)

    async def close(self) -> None:
        await self.keyspace.close()

    async def epochs(self) -> dict[int, Epoch | None]:
        """Shard -> its epoch, None where the key is missing. That a shard has one does not mean that it is open."""
        answers = await self.keyspace.run([Call(shard, ("GET", epoch_key(shard))) for shard in range(SHARDS)])
        return {shard: _epoch(value) if value else None for shard, value in enumerate(answers)}

    async def closed(self, shards: Sequence[int] = range(SHARDS)) -> dict[int, str]:
        """Those of some shards that the gate does not answer for, and why."""
        calls = [Call(shard, (1,), self._ask, (epoch_key(shard),)) for shard in shards]
        found: dict[int, str] = {}
        for shard, answer in zip(shards, await self.keyspace.answers(calls), strict=True):
            if isinstance(answer, RedisError):
                error = explain(answer)
                if not isinstance(error, GateClosedError):
                    raise error
                found[shard] = str(error)
        return found

    async def begin(self, shards: Iterable[int], token: str) -> None:
        """Mark the beginning of a rebuild of these shards."""
        script = self._scripts["begin"]
        await self.keyspace.run(
            [Call(shard, (token, _MARK_SECONDS), script, (rebuild_key(shard),)) for shard in shards]
        )

    async def restore(self, facts: Sequence[Fact], first_day: date = date.min) -> int:
        """Merge sends upwards; how many values changed. Harmless to repeat, whether the gate is open or not.

        Campaigns' sends of dates before `first_day` are not counted for their date: nobody asks for it any more.
        """
        calls: list[Call] = []
        groups: dict[tuple[date, str], list[Fact]] = {}
        for fact in facts:
            # What never had a place in the gate came from outside, and must not keep it closed.
            if not has_place(fact.path, fact.key.kind, fact.key.campaign):
                continue
            groups.setdefault((fact.key.local_date, fact.key.campaign), []).append(fact)
        for (day, campaign), mine in groups.items():
            ids = [fact.key.user_id for fact in mine]
            for part in cut(ids, self._bits):
                words: list[int] = []
                for n in part.positions:
                    fact = mine[n]
                    if campaign:
                        words += (ids[n], 1 + fact.settled)
                    else:
                        words += (ids[n], KINDS[fact.key.kind].code, fact.path + SETTLED * fact.settled)
                if campaign:
                    names = [
                        name
                        for bucket in part.buckets
                        for name in (campaign_key(part.shard, bucket, campaign), bucket_key(part.shard, bucket, day))
                    ]
                    head = (CAMPAIGN_DAYS * 86_400, self._keep if day >= first_day else 0, *part.sizes)
                    calls.append(Call(part.shard, (*head, *words), self._scripts["campaign_restore"], names))
                else:
                    names = [bucket_key(part.shard, bucket, day) for bucket in part.buckets]
                    arguments = (self._keep, *part.sizes, *words)
                    calls.append(Call(part.shard, arguments, self._scripts["restore"], names))
        return sum(await self.keyspace.run(calls))

    async def restore_practised(self, marks: Sequence[tuple[int, date]]) -> int:
        """Merge marks of practice; how many were not there."""
        return await self._restore([(user_id, day, _PRACTISED, 0) for user_id, day in marks])

    async def restore_opt_outs(self, choices: Sequence[tuple[int, date, int]]) -> int:
        """Merge (user, local date, bits of the kinds' codes that are not wanted); how many values changed."""
        states = [
            (user_id, day, code, OPTED_OUT)
            for user_id, day, kinds in choices
            for code in KIND_BY_CODE
            if kinds >> code & 1
        ]
        return await self._restore(states)

    async def restore_erased(self, tombstones: Sequence[tuple[int, date]]) -> int:
        """Merge (user, local date) of users who were deleted; how many values changed."""
        return await self._restore([(user_id, day, _ERASED, 0) for user_id, day in tombstones])

    async def _restore(self, states: Sequence[tuple[int, date, int, int]]) -> int:
        """(user, local date, kind's code, state), merged upwards."""
        calls: list[Call] = []
        days: dict[date, list[tuple[int, int, int]]] = {}
        for user_id, day, code, new in states:
            days.setdefault(day, []).append((user_id, code, new))
        for day, mine in days.items():
            for part in cut([user_id for user_id, _, _ in mine], self._bits):
                words = [word for n in part.positions for word in mine[n]]
                names = [bucket_key(part.shard, bucket, day) for bucket in part.buckets]
                calls.append(Call(part.shard, (self._keep, *part.sizes, *words), self._scripts["restore"], names))
        return sum(await self.keyspace.run(calls))

    async def taken(self, keys: Sequence[SendKey]) -> list[bool]:
        """Whether sends, of no campaign, are claimed or settled by any path; whether the gate is open or not."""
        calls = []
        for user_id, _, day, _ in keys:
            name = bucket_key(shard_of(user_id), bucket_of(user_id, self._bits), day)
            calls.append(Call(shard_of(user_id), ("HGET", name, user_id)))
        states = [
            state(int(value or 0), KINDS[key.kind].code)
            for key, value in zip(keys, await self.keyspace.run(calls), strict=True)
        ]
        return [0 < each < OPTED_OUT for each in states]

    async def open(self, shards: Sequence[int], token: str, epoch: str, rules: Iterable[Rule]) -> list[int]:
        """Vouch for these shards' data, under a name without blanks; the shards where it was lost once more since
        `begin` stay closed and are the answer."""
        text = written(rules)
        answers = await self.keyspace.run(
            [
                Call(shard, (token, epoch, text), self._scripts["open"], (epoch_key(shard), rebuild_key(shard)))
                for shard in shards
            ]
        )
        return [shard for shard, opened in zip(shards, answers, strict=True) if not opened]

    async def trust(self, shards: Sequence[int], epoch: str) -> list[int]:
        """Open shards whose data somebody knows to be whole, with the pauses that they had, under a name without
        blanks; those that have no epoch, and so no data, stay closed and are the answer."""
        script = self._scripts["stamp"]
        answers = await self.keyspace.run([Call(shard, (epoch,), script, (epoch_key(shard),)) for shard in shards])
        return [shard for shard, opened in zip(shards, answers, strict=True) if not opened]

    async def write_rules(self, rules: Iterable[Rule]) -> list[int]:
        """Put exactly these pauses in force; the shards that are closed, whose rebuild brings them, are the answer."""
        text = written(rules)
        script = self._scripts["rules"]
        answers = await self.keyspace.run(
            [Call(shard, (text,), script, (epoch_key(shard),)) for shard in range(SHARDS)]
        )
        return [shard for shard, written_ in enumerate(answers) if not written_]


def _epoch(value: bytes) -> Epoch:
    opened, _, rules = value.decode().partition("|")
    guard, _, name = opened.partition(" ")
    return Epoch(guard.partition("+")[0], name.strip(), parse(rules))


async def open_fresh(settings: Settings) -> None:
    """Open the gate of an installation without a past, or one whose every store was emptied: nothing to restore."""
    keeper = Keeper.connect(settings)
    try:
        await keeper.begin(range(SHARDS), "fresh")
        await keeper.open(range(SHARDS), "fresh", "fresh", ())
    finally:
        await keeper.close()
