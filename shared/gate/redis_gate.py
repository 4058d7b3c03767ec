"""The gate on Redis or Valkey: users cut by shard, one script call a cut, all calls in one round trip."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import date, timedelta
from typing import Any, Self

from redis.exceptions import RedisError

from shared.gate.contract import Claim, GateClosedError, SendKey, Standing
from shared.gate.keys import bucket_key, bucket_keys, campaign_key, epoch_key, tally_key
from shared.gate.places import Cut, cut
from shared.gate.rules import Rule, parse
from shared.gate.scripts import asking
from shared.gate.value import has_place
from shared.identity import SHARDS
from shared.keyspace import Call, Keyspace, explain, open_keyspace
from shared.policy.kinds import KIND_BY_CODE, KINDS, Path
from shared.settings import Settings

CAMPAIGN_DAYS = 30
"""A campaign's claims are kept so long: nobody triggers one again later."""
WEEK = 7
"""Local dates that the weekly cap is about."""
_WITNESSES = range(0, SHARDS, SHARDS // 8)
"""Shards that are asked for the pauses: in a cluster some may be closed, and others open."""
_CLAIMS = {ord(str(int(claim))): claim for claim in Claim}
_STANDINGS = {ord(str(int(standing))): standing for standing in Standing}


class RedisGate:
    """See `shared.gate.contract.Gate`; safe to share between the tasks of one event loop."""

    def __init__(self, keyspace: Keyspace, settings: Settings) -> None:
        self._keyspace = keyspace
        self._scripts = asking()
        self._bits = settings.gate_bucket_bits
        self._cap = settings.daily_cap
        self._weekly_cap = settings.weekly_cap
        self._keep = settings.gate_keep_hours * 3600
        self._keep_campaign = CAMPAIGN_DAYS * 86_400

    @classmethod
    def connect(cls, settings: Settings) -> Self:
        """A gate at the address in the settings; connects at the first question."""
        return cls(open_keyspace(settings), settings)

    async def close(self) -> None:
        await self._keyspace.close()

    async def practised(self, marks: Sequence[tuple[int, date]]) -> None:
        calls: list[Call] = []
        for day, positions in _by(day for _, day in marks).items():
            ids = [marks[n][0] for n in positions]
            calls += [
                self._call("practised", part, self._buckets(part, day), (self._keep,), [ids[n] for n in part.positions])
                for part in cut(ids, self._bits)
            ]
        await self._keyspace.run(calls)

    async def opt_out(self, choices: Sequence[tuple[int, date, int]]) -> None:
        calls: list[Call] = []
        for day, positions in _by(day for _, day, _ in choices).items():
            ids = [choices[n][0] for n in positions]
            for part in cut(ids, self._bits):
                pairs = [word for n in part.positions for word in (ids[n], choices[positions[n]][2])]
                calls.append(self._call("opt_out", part, self._buckets(part, day), (self._keep,), pairs))
        await self._keyspace.run(calls)

    async def claim(self, path: Path, kind: str, day: date, user_ids: Sequence[int], campaign: str = "") -> list[Claim]:
        _check_places(path, [(kind, campaign)])
        parts = list(cut(user_ids, self._bits))
        head: tuple[Any, ...] = (int(path), KINDS[kind].code, self._cap, self._keep, self._weekly_cap)
        before = tuple(day - timedelta(days=n) for n in range(1, WEEK)) if self._weekly_cap else ()
        name = "claim"
        if campaign:
            name, head = "campaign_claim", (*head, campaign, self._keep_campaign)
        calls = []
        for part in parts:
            keys = self._week(part, day, before, campaign) if before else self._buckets(part, day, campaign)
            ids = [user_ids[n] for n in part.positions]
            calls.append(self._call(name, part, [tally_key(part.shard, day), *keys], head, ids))
        answers: list[Claim] = [Claim.granted] * len(user_ids)
        for part, digits in zip(parts, await self._keyspace.run(calls), strict=True):
            for position, digit in zip(part.positions, digits, strict=True):
                answers[position] = _CLAIMS[digit]
        return answers

    async def standing(self, path: Path, keys: Sequence[SendKey]) -> list[Standing]:
        _check_places(path, ((key.kind, key.campaign) for key in keys))
        calls: list[Call] = []
        orders: list[list[int]] = []
        for (day, campaign), positions in _by((key.local_date, key.campaign) for key in keys).items():
            ids = [keys[n].user_id for n in positions]
            for part in cut(ids, self._bits):
                mine = [positions[n] for n in part.positions]
                buckets = self._buckets(part, day, campaign)
                if campaign:
                    head: tuple[Any, ...] = (int(path), KINDS[keys[mine[0]].kind].code, campaign)
                    call = self._call("campaign_standing", part, buckets, head, [keys[n].user_id for n in mine])
                else:
                    call = self._call("standing", part, buckets, (int(path),), _pairs(keys, mine))
                calls.append(call)
                orders.append(mine)
        answers = [Standing.unclaimed] * len(keys)
        for order, digits in zip(orders, await self._keyspace.run(calls), strict=True):
            for position, digit in zip(order, digits, strict=True):
                answers[position] = _STANDINGS[digit]
        return answers

    async def settle(self, path: Path, keys: Sequence[SendKey]) -> None:
        _check_places(path, ((key.kind, key.campaign) for key in keys))
        calls: list[Call] = []
        for (day, campaign), positions in _by((key.local_date, key.campaign) for key in keys).items():
            ids = [keys[n].user_id for n in positions]
            for part in cut(ids, self._bits):
                mine = [positions[n] for n in part.positions]
                buckets = self._buckets(part, day, campaign)
                if campaign:
                    head = (self._keep_campaign, self._keep)
                    calls.append(self._call("campaign_settle", part, buckets, head, [keys[n].user_id for n in mine]))
                else:
                    head = (int(path), self._keep)
                    calls.append(self._call("settle", part, buckets, head, _pairs(keys, mine)))
        await self._keyspace.run(calls)

    async def pauses(self) -> tuple[Rule, ...]:
        """The pauses in force, those of single providers too. Raises `GateClosedError` where nobody knows them.

        Read from a few shards, since all that are open hold the same; while rules are being written, what one of them
        knows is in force.
        """
        script = self._scripts["pauses"]
        answers = await self._keyspace.answers([Call(shard, (), script, (epoch_key(shard),)) for shard in _WITNESSES])
        troubles = [explain(answer) for answer in answers if isinstance(answer, RedisError)]
        for trouble in troubles:
            if len(troubles) == len(answers) or not isinstance(trouble, GateClosedError):
                raise trouble
        epochs = [answer.decode() for answer in answers if not isinstance(answer, RedisError)]
        found = {rule for epoch in epochs for rule in parse(epoch.partition("|")[2])}
        return tuple(sorted(found, key=Rule.text))

    async def tallies(self, day: date) -> dict[tuple[Path, str, Claim], int]:
        """How claims of a local date were answered since the gate's data was last lost, repetitions included."""
        totals: dict[tuple[Path, str, Claim], int] = {}
        calls = [Call(shard, ("HGETALL", tally_key(shard, day))) for shard in range(SHARDS)]
        for tally in await self._keyspace.run(calls):
            for field, n in zip(tally[::2], tally[1::2], strict=True):
                path, code, answer = (int(part) for part in field.split(b":"))
                name = (Path(path), KIND_BY_CODE[code].name, Claim(answer))
                totals[name] = totals.get(name, 0) + int(n)
        return totals

    def _call(self, name: str, part: Cut, keys: Sequence[str], head: tuple[Any, ...], words: Sequence[int]) -> Call:
        return Call(part.shard, (*head, *part.sizes, *words), self._scripts[name], (epoch_key(part.shard), *keys))

    def _buckets(self, part: Cut, day: date, campaign: str = "") -> list[str]:
        if not campaign:
            return bucket_keys(part.shard, part.buckets, day)
        return [
            name
            for bucket in part.buckets
            for name in (campaign_key(part.shard, bucket, campaign), bucket_key(part.shard, bucket, day))
        ]

    def _week(self, part: Cut, day: date, before: Sequence[date], campaign: str) -> list[str]:
        """A bucket's keys of the date, as `_buckets` has them, and of those before: all of the shard's slot."""
        keys: list[str] = []
        for bucket in part.buckets:
            keys += [campaign_key(part.shard, bucket, campaign)] if campaign else []
            keys += [bucket_key(part.shard, bucket, each) for each in (day, *before)]
        return keys


def _check_places(path: Path, sends: Iterable[tuple[str, str]]) -> None:
    """ValueError for a (kind, campaign) without a place: it would be written over the bits of another."""
    for kind, campaign in set(sends):
        if not has_place(path, kind, campaign):
            raise ValueError(f"the gate has no place for a {kind} of path {path.name} and campaign {campaign!r}")


def _pairs(keys: Sequence[SendKey], positions: Sequence[int]) -> list[int]:
    return [word for n in positions for word in (keys[n].user_id, KINDS[keys[n].kind].code)]


def _by(things: Any) -> dict[Any, list[int]]:
    """Positions of equal things."""
    groups: dict[Any, list[int]] = {}
    for position, thing in enumerate(things):
        groups.setdefault(thing, []).append(position)
    return groups
