"""Latency under a steady load: from the write to Kafka until the gate knows of the practice."""

from __future__ import annotations

import asyncio
from itertools import count

from infra.bench.deliver.report import BenchError
from infra.bench.latency import Latency
from infra.bench.stream.contender import Running
from infra.bench.stream.material import events
from infra.bench.stream.topic import Writer, partition_of
from shared.clock import utc
from shared.gate.keys import bucket_key
from shared.identity import bucket_of, shard_of
from shared.keyspace import Call, Keyspace, open_keyspace
from shared.policy.localtime import local_date
from shared.settings import Settings
from shared.topics import Topics

_TICK = 0.02
"""Seconds between two writes; each has one event more, of a user who is waited for."""
_LOOK = 0.002
_WITHIN = 60.0
_PROBES_FROM = 1 << 40
"""Users whom the material does not have: its ids have bit 59 set."""


async def latency_at(settings: Settings, running: Running, rate: float, seconds: float) -> Latency:
    """With so many events a second; the first quarter warms up and is not counted."""
    clock, topic = settings.clock(), Topics.of(settings).activity
    keyspace, loop = open_keyspace(settings), asyncio.get_running_loop()
    ticks, each = round(seconds / _TICK), max(1, round(rate * _TICK))
    took: list[float] = []
    material = events(ticks * each, clock.now(), topic)
    probes = count(_PROBES_FROM)
    try:
        async with Writer(settings) as writer:
            # Made and sorted before: it would be the bench that is measured.
            parts = [
                writer.sorted(record for record, _ in zip(material, range(each), strict=False)) for _ in range(ticks)
            ]
            await _ready(settings, writer, keyspace, running)
            began = loop.time()

            async def probe(n: int, due: float) -> None:
                user = next(probes)
                key = str(user).encode()
                said = [list(part) for part in parts[n]]
                said[partition_of(key, settings.partitions)].append((key, _practice(user, clock.now())))
                await writer.write(said)
                await _marked(settings, keyspace, user, clock.now())
                if n >= ticks // 4:
                    took.append((loop.time() - due) * 1000)

            async with asyncio.TaskGroup() as group:
                for n in range(ticks):
                    due = began + n * _TICK
                    if (early := due - loop.time()) > 0:
                        await asyncio.sleep(early)
                    group.create_task(probe(n, due))
            await running.progress()  # Notes its memory, and that it lives.
    finally:
        await keyspace.close()
    return Latency.of(took)


async def _ready(settings: Settings, writer: Writer, keyspace: Keyspace, running: Running) -> None:
    """Wait until the worker has its partitions: one practice in each must come through."""
    waited: dict[int, int] = {}
    for user in count(_PROBES_FROM - 10_000):
        waited.setdefault(partition_of(str(user).encode(), settings.partitions), user)
        if len(waited) == settings.partitions:
            break
    now = settings.clock().now()
    await writer.write([[(str(waited[n]).encode(), _practice(waited[n], now))] for n in range(settings.partitions)])
    for user in waited.values():
        await _marked(settings, keyspace, user, now)
    await running.progress()


def _practice(user: int, now: float) -> bytes:
    at = utc(now).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    return f'{{"type":"lesson_completed","user_id":{user},"at":"{at}","time_zone":"UTC"}}'.encode()


async def _marked(settings: Settings, keyspace: Keyspace, user: int, now: float) -> None:
    shard = shard_of(user)
    key = bucket_key(shard, bucket_of(user, settings.gate_bucket_bits), local_date(now, "UTC"))
    try:
        async with asyncio.timeout(_WITHIN):
            while (await keyspace.run([Call(shard, ("HGET", key, user))]))[0] is None:  # noqa: ASYNC110  # it tells nobody
                await asyncio.sleep(_LOOK)
    except TimeoutError:
        raise BenchError(f"an event was not handled within {_WITHIN:.0f} s") from None
