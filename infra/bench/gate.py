"""`surnia bench gate`: claims a second and bytes a claim, against what one would write without a gate of our kind."""

from __future__ import annotations

from datetime import date, timedelta

from redis.asyncio import Redis

from infra.bench.rounds import Figures, measure
from shared.gate import RedisGate, SendKey, connect_redis
from shared.identity import SHARDS
from shared.policy.kinds import Path
from shared.settings import Settings

_DAY = date(2026, 1, 1)
_PIPELINE = 500
USERS_A_BUCKET = 200


async def bench_gate(settings: Settings, users: int, rounds: int) -> Figures:
    """Claim `users` fresh sends a round. The server is emptied first: it must be the bench's own."""
    bits = max(0, (users // SHARDS // USERS_A_BUCKET - 1).bit_length())
    settings = settings.model_copy(update={"gate_bucket_bits": bits})
    redis = connect_redis(settings)
    gate = RedisGate(redis, settings)
    # Random-looking ids, as real ones are.
    ids = [(n * 0x9E3779B97F4A7C15) % (1 << 62) + 1 for n in range(1, users + 1)]

    async def ours(n: int) -> None:
        day = _DAY + timedelta(days=n)
        for start in range(0, users, 50_000):
            await gate.claim(Path.batch, [SendKey(user, "comeback", day) for user in ids[start : start + 50_000]])

    async def set_nx(n: int) -> None:
        for start in range(0, users, _PIPELINE):
            pipeline = redis.pipeline(transaction=False)
            for user in ids[start : start + _PIPELINE]:
                pipeline.set(f"claim:{user}:comeback:{n}", 1, nx=True, ex=345_600)
            await pipeline.execute()

    await _empty(redis)
    figures, _ = await measure("gate", users, rounds, "gate", {"gate": ours, "pipelined SET NX EX": set_nx})
    for name, work in (("gate", ours), ("pipelined SET NX EX", set_nx)):
        await _empty(redis)
        before = await _used(redis)
        await work(0)
        figures.bytes_an_operation[name] = round((await _used(redis) - before) / users, 1)
    await _empty(redis)
    await redis.aclose()
    return figures


async def _empty(redis: Redis) -> None:
    # SYNC: by default the server frees memory when it finds time, which would spoil the sizes.
    await redis.execute_command("FLUSHDB", "SYNC")  # type: ignore[no-untyped-call]  # redis-py leaves it untyped


async def _used(redis: Redis) -> int:
    return int((await redis.info("memory"))["used_memory_dataset"])
