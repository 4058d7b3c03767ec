"""`surnia bench gate`: claims a second and bytes a claim, beside what one would write without a gate and the limit.

ours      `gate.claim`, pages of users of one shard, a few at once: what a scan does
baseline  redis-py's pipelined `SET key 1 NX EX`, 500 a pipeline: a key a claim
limit     `redis-benchmark`, pipelined HSET, the same server; where it is not installed, a raw socket's pipelined HSET
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from datetime import date
from statistics import median
from typing import TYPE_CHECKING

import msgspec
from redis import Redis

from infra.bench.ids import Ids, pages
from infra.bench.latency import Latency, measure_latency
from infra.bench.limit import Limit
from infra.bench.rounds import alternate, peak_rss_mb, ratio, timed
from shared.gate import RedisGate, open_fresh
from shared.identity import SHARDS
from shared.keyspace import Keyspace, open_keyspace
from shared.policy.kinds import Path

if TYPE_CHECKING:
    from shared.settings import Settings

_DAY = date(2026, 1, 1)
_PIPELINE = 500
_TASKS = 4
_PAGE = 1_000
_CHUNK = 500_000
"""Users whose pages are made at a time: bounds the bench's own memory."""


class Rate(msgspec.Struct):
    claims_per_s: float
    bytes_per_claim: float


class Most(msgspec.Struct):
    ops_per_s: float
    what: str


class Figures(msgspec.Struct):
    """For one kind of ids."""

    claims: int
    rounds: int
    users_per_bucket: float
    ours: Rate
    baseline: Rate
    limit: Most
    ratio_to_baseline: float
    bytes_ratio_to_baseline: float
    ratio_to_limit: float
    peak_rss_mb: float


class Growth(msgspec.Struct):
    """Memory after so many claims on one date, since the gate was empty."""

    claims: int
    bytes_per_claim: float
    claims_per_s: float


class GateBench(msgspec.Struct):
    sparse: Figures
    dense: Figures
    single_claim_at_1000_per_s: Latency
    ping_at_1000_per_s: Latency
    """The same for `PING`: what loop, machine and network take by themselves."""
    growth: list[Growth]


Say = Callable[[str], None]


async def bench_gate(settings: Settings, claims: int, rounds: int, grow_to: int, say: Say) -> GateBench:
    """The server is emptied first: it must be the bench's own."""
    figures = {}
    for ids in (Ids.sparse, Ids.dense):
        say(f"{ids.value} ids: {claims:,} claims in {rounds} rounds")
        figures[ids.value] = await _side_by_side(settings, ids, claims, rounds, say)
    say("single claims and pings at 1,000/s")
    claim, ping = await _single(settings)
    growth = await _growth(settings, grow_to, say) if grow_to else []
    return GateBench(figures["sparse"], figures["dense"], claim, ping, growth)


async def _side_by_side(settings: Settings, ids: Ids, claims: int, rounds: int, say: Say) -> Figures:
    bits = _bits(claims)
    settings = settings.model_copy(update={"gate_bucket_bits": bits})
    each = claims // rounds
    grown = {"ours": 0, "baseline": 0}
    async with _emptied(settings) as keyspace:
        gate = RedisGate(keyspace, settings)
        limit = Limit(settings.require_redis(), _PIPELINE, _TASKS, each)

        async def ours(n: int) -> float:
            before = await _used(keyspace)
            rate = await timed(each, _claim(gate, _DAY, pages(ids.numbers(n * each, each), _PAGE)))
            grown["ours"] += await _used(keyspace) - before
            return rate

        async def baseline(n: int) -> float:
            users = ids.numbers(n * each, each).tolist()
            before = await _used(keyspace)
            rate = await timed(each, asyncio.to_thread(_set_nx, settings.require_redis(), users))
            grown["baseline"] += await _used(keyspace) - before
            return rate

        rates = await alternate(rounds, {"ours": ours, "baseline": baseline, "limit": limit.round}, say)
    size = {name: round(n / (each * rounds), 1) for name, n in grown.items()}
    return Figures(
        claims=each * rounds,
        rounds=rounds,
        users_per_bucket=round(claims / SHARDS / 2**bits, 1),
        ours=Rate(round(median(rates["ours"])), size["ours"]),
        baseline=Rate(round(median(rates["baseline"])), size["baseline"]),
        limit=Most(round(median(rates["limit"])), limit.what),
        ratio_to_baseline=ratio(rates, "ours", "baseline"),
        bytes_ratio_to_baseline=round(size["ours"] / size["baseline"], 3),
        ratio_to_limit=ratio(rates, "ours", "limit"),
        peak_rss_mb=peak_rss_mb(),
    )


async def _single(settings: Settings) -> tuple[Latency, Latency]:
    async with _emptied(settings) as keyspace:
        gate = RedisGate(keyspace, settings)
        users = Ids.sparse.numbers(0, 10_000).tolist()

        async def claim(n: int) -> None:
            await gate.claim(Path.stream, "practice", _DAY, [users[n]])

        async def ping(_: int) -> None:
            await keyspace.everywhere("PING")

        claims = await measure_latency(claim, rate=1_000.0, operations=len(users))
        return claims, await measure_latency(ping, rate=1_000.0, operations=len(users))


async def _growth(settings: Settings, grow_to: int, say: Say) -> list[Growth]:
    settings = settings.model_copy(update={"gate_bucket_bits": _bits(grow_to)})
    found: list[Growth] = []
    async with _emptied(settings) as keyspace:
        gate = RedisGate(keyspace, settings)
        empty = await _used(keyspace)
        done = 0
        for step in (n for n in (1, 2, 5, 10, 20, 50, 100) if n * 1_000_000 <= grow_to):
            first, done = done, step * 1_000_000

            def work(first: int = first, done: int = done) -> Iterator[Sequence[int]]:
                for start in range(first, done, _CHUNK):
                    yield from pages(Ids.sparse.numbers(start, min(_CHUNK, done - start)), _PAGE)

            rate = await timed(done - first, _claim(gate, _DAY, work()))
            size = (await _used(keyspace) - empty) / done
            found.append(Growth(done, round(size, 2), round(rate)))
            say(f"{done:,} claims: {size:.2f} bytes a claim, {rate:,.0f} claims/s")
    return found


async def _claim(gate: RedisGate, day: date, work: Iterator[Sequence[int]]) -> None:
    async def some() -> None:
        for page in work:
            await gate.claim(Path.batch, "comeback", day, page)

    await asyncio.gather(*(some() for _ in range(_TASKS)))


def _set_nx(url: str, users: Sequence[int]) -> None:
    with Redis.from_url(url) as redis:
        for start in range(0, len(users), _PIPELINE):
            pipeline = redis.pipeline(transaction=False)
            for user in users[start : start + _PIPELINE]:
                pipeline.set(f"claim:{user}:comeback:{_DAY}", 1, nx=True, ex=345_600)
            pipeline.execute()


@contextlib.asynccontextmanager
async def _emptied(settings: Settings) -> AsyncIterator[Keyspace]:
    keyspace = open_keyspace(settings)
    try:
        # SYNC: by default the server frees memory when it finds time, which would spoil the sizes.
        await keyspace.everywhere("FLUSHDB", "SYNC")
        await open_fresh(settings)
        yield keyspace
    finally:
        await keyspace.close()


async def _used(keyspace: Keyspace) -> int:
    (said,) = (await keyspace.everywhere("INFO", "memory")).values()
    facts = dict(line.split(":", 1) for line in said.decode().splitlines() if ":" in line)
    return int(facts["used_memory_dataset"])


def _bits(users: int) -> int:
    """Buckets for so many users: 50 to 100 a bucket (docs/operations.md, sizing)."""
    return (users // SHARDS // 100).bit_length()
