"""Looking at the gate: whether it is open, how large it is, what it holds and how it answered. Writes nothing."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import date, timedelta
from typing import Any, NamedTuple

from shared.clock import utc
from shared.due.index import DUE_KINDS
from shared.gate import Claim, Keeper, RedisGate, Rule
from shared.gate import value as bits
from shared.gate.keeper import Epoch
from shared.gate.keys import bucket_key, due_key
from shared.identity import SHARDS
from shared.keyspace import Call, Keyspace
from shared.policy.kinds import CAMPAIGN, KIND_BY_CODE, Path
from shared.settings import Settings

SAMPLE = 4096
"""Buckets that are looked at unless all are: a count that is spread over all of them is then right to 2 or 3%."""
_AT_ONCE = 1024
_SHOWN_OF_A_RUN_ID = 8

Place = tuple[int, int]
"""Shard and bucket."""
Claims = dict[tuple[str, str], "Held"]
"""(kind, path) -> what is held."""


class Server(NamedTuple):
    """One that holds shards."""

    run_id: str
    memory_bytes: int
    """All that it has allocated, whoever uses it."""


class Held(NamedTuple):
    """Claims of one kind and path, estimated unless all buckets were looked at."""

    claimed: int
    settled: int


@dataclass(slots=True)
class Day:
    """What the gate holds of a local date; estimated unless `looked_at` is all of `buckets`."""

    day: date
    buckets: int
    looked_at: int
    users: int = 0
    practised: int = 0
    memory_bytes: int = 0
    claims: Claims = field(default_factory=dict)
    """Campaigns count as claimed: whether they are settled is noted elsewhere."""
    opted_out: dict[str, int] = field(default_factory=dict)

    @property
    def bytes_a_claim(self) -> float | None:
        """Of all the date takes, marks of practice included."""
        claims = sum(sum(held) for held in self.claims.values())
        return self.memory_bytes / claims if claims else None

    @property
    def bytes_a_user(self) -> float | None:
        return self.memory_bytes / self.users if self.users else None


@dataclass(slots=True)
class GateStatus:
    """How the gate is."""

    closed: dict[int, str]
    """Shard -> why it does not answer."""
    epochs: Counter[tuple[str, str]]
    """(name, the beginning of its server's run id) -> shards."""
    rules: frozenset[Rule]
    rules_agree: bool
    """Whether every open shard has them all."""
    servers: dict[str, Server]
    day: Day
    memory_bytes: dict[date, int]
    """Of each date that the gate still knows."""
    answers: dict[tuple[Path, str, Claim], int]
    """To planners, about claims of the day, since the gate's data was last lost."""
    due: dict[str, tuple[int, int]]
    """Kind -> entries of the due index, and how many of them are due now."""


async def look(keyspace: Keyspace, settings: Settings, day: date | None = None, *, exact: bool = False) -> GateStatus:
    """Ask the gate about a local date, UTC's today by default. Raises `GateUnavailableError` where it does not answer.

    `exact` reads every bucket: seconds for a large gate, and as much work for its servers as 10 million claims.
    """
    now = settings.clock().now()
    today = utc(now).date()
    keeper = Keeper(keyspace, settings)
    closed, epochs = await keeper.closed(), await keeper.epochs()
    known = [epoch for shard, epoch in epochs.items() if epoch and shard not in closed]
    rules = frozenset(rule for epoch in known for rule in epoch.rules)
    places = _places(settings.gate_bucket_bits, exact)
    found, memory = await _day(keyspace, settings, day or today, today, places)
    return GateStatus(
        closed=closed,
        epochs=Counter(_shown(epoch) for epoch in epochs.values() if epoch),
        rules=rules,
        rules_agree=all(rules == frozenset(epoch.rules) for epoch in known),
        servers=await _servers(keyspace),
        day=found,
        memory_bytes=memory,
        answers=await RedisGate(keyspace, settings).tallies(day or today),
        due=await _due(keyspace, now),
    )


def _shown(epoch: Epoch) -> tuple[str, str]:
    return epoch.name, epoch.run_id[:_SHOWN_OF_A_RUN_ID]


def _places(bucket_bits: int, exact: bool) -> list[Place]:
    everything = range(SHARDS << bucket_bits)
    chosen: Sequence[int] = everything
    if not exact and len(everything) > SAMPLE:
        chosen = random.sample(everything, SAMPLE)
    return [(n >> bucket_bits, n & ((1 << bucket_bits) - 1)) for n in chosen]


async def _servers(keyspace: Keyspace) -> dict[str, Server]:
    memory, server = await keyspace.everywhere("INFO", "memory"), await keyspace.everywhere("INFO", "server")
    return {
        name: Server(_field(server[name], "run_id")[:_SHOWN_OF_A_RUN_ID], int(_field(said, "used_memory")))
        for name, said in memory.items()
        if name in server
    }


def _field(said: bytes, name: str) -> str:
    lines = (line.partition(":") for line in said.decode().splitlines())
    return next(value for key, _, value in lines if key == name)


async def _day(
    keyspace: Keyspace, settings: Settings, day: date, today: date, places: Sequence[Place]
) -> tuple[Day, dict[date, int]]:
    """A date's contents, and the memory of every date."""
    kept = settings.gate_keep_hours // 24
    others = [today + timedelta(days=n) for n in range(-kept - 1, 4)]
    days = sorted({day, *others})
    found = Day(day, SHARDS << settings.gate_bucket_bits, len(places))
    memory: Counter[date] = Counter()
    values: Counter[int] = Counter()
    for start in range(0, len(places), _AT_ONCE):
        part = places[start : start + _AT_ONCE]
        calls = [Call(shard, ("HVALS", bucket_key(shard, bucket, day))) for shard, bucket in part]
        calls += [
            Call(shard, ("MEMORY", "USAGE", bucket_key(shard, bucket, each), "SAMPLES", 0))
            for each in days
            for shard, bucket in part
        ]
        answers = await keyspace.run(calls)
        for each in answers[: len(part)]:
            values.update(map(int, each))
        for each, bytes_ in zip((each for each in days for _ in part), answers[len(part) :], strict=True):
            memory[each] += bytes_ or 0
    scale = found.buckets / len(places)
    _fill(found, values, scale)
    totals = {each: round(memory[each] * scale) for each in days if memory[each]}
    found.memory_bytes = totals.get(day, 0)
    return found, totals


def _fill(day: Day, values: Counter[int], scale: float) -> None:
    claimed: Counter[tuple[str, str]] = Counter()
    settled: Counter[tuple[str, str]] = Counter()
    opted_out: Counter[str] = Counter()
    for value, n in values.items():
        day.users += n
        day.practised += n * bits.practised(value)
        for name, path, is_settled in _claims(value):
            (settled if is_settled else claimed)[name, path] += n
        claimed[CAMPAIGN.name, Path.blast.name] += n * bits.campaigns(value)
        for code, kind in KIND_BY_CODE.items():
            opted_out[kind.name] += n * bits.opted_out(value, code)
    day.users, day.practised = round(day.users * scale), round(day.practised * scale)
    day.claims = {
        key: Held(round(claimed[key] * scale), round(settled[key] * scale))
        for key in sorted(claimed.keys() | settled.keys())
        if claimed[key] or settled[key]
    }
    day.opted_out = {kind: round(n * scale) for kind, n in opted_out.items() if n}


def _claims(value: int) -> Iterator[tuple[str, str, bool]]:
    """Kind, path and whether it is settled, of each claim in a value."""
    for code in bits.KIND_CODES:
        state = bits.state(value, code)
        if 0 < state < bits.OPTED_OUT:
            is_settled = state > bits.SETTLED
            yield KIND_BY_CODE[code].name, Path(state - bits.SETTLED * is_settled).name, is_settled


async def _due(keyspace: Keyspace, now: float) -> dict[str, tuple[int, int]]:
    found: dict[str, tuple[int, int]] = {}
    for kind in DUE_KINDS:
        names = [(shard, due_key(shard, kind)) for shard in range(SHARDS)]
        calls = [Call(shard, ("ZCARD", name)) for shard, name in names]
        calls += [Call(shard, ("ZCOUNT", name, "-inf", now)) for shard, name in names]
        answers: list[Any] = await keyspace.run(calls)
        found[kind.name] = sum(answers[:SHARDS]), sum(answers[SHARDS:])
    return found
