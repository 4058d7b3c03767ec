"""Latency under a steady load: from the write to Kafka until the gate knows of the practice."""

from __future__ import annotations

import asyncio
from itertools import count, islice

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

_TICK = 0.05
"""Seconds between two writes; each has one event more, of a user who is waited for."""
_LOOK = 0.003
_WITHIN = 60.0
_PROBES_FROM = 1 << 40
"""Users whom the material does not have: its ids have bit 59 set."""


class _Marks:
    """Waits for users' marks at the gate. One question for all of them: each by itself would be a load of its own."""

    def __init__(self, settings: Settings, keyspace: Keyspace) -> None:
        self._bits, self._keyspace = settings.gate_bucket_bits, keyspace
        self._waiting: dict[int, tuple[Call, asyncio.Future[None]]] = {}

    async def of(self, user: int, now: float) -> None:
        """Returns when the gate has it. Raises `BenchError` where it does not come."""
        shard = shard_of(user)
        key = bucket_key(shard, bucket_of(user, self._bits), local_date(now, "UTC"))
        marked: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting[user] = Call(shard, ("HGET", key, user)), marked
        try:
            async with asyncio.timeout(_WITHIN):
                await marked
        except TimeoutError:
            raise BenchError(f"an event was not handled within {_WITHIN:.0f} s") from None

    async def look(self) -> None:
        """For ever."""
        while True:
            waiting = list(self._waiting.items())
            answers = await self._keyspace.run([call for _, (call, _) in waiting])
            for (user, (_, marked)), answer in zip(waiting, answers, strict=True):
                if answer is not None:
                    del self._waiting[user]
                    if not marked.done():
                        marked.set_result(None)
            await asyncio.sleep(_LOOK)


async def latency_at(settings: Settings, running: Running, rate: float, seconds: float) -> Latency:
    """With so many events a second; the first quarter warms up and is not counted."""
    clock, topic = settings.clock(), Topics.of(settings).activity
    keyspace, loop = open_keyspace(settings), asyncio.get_running_loop()
    ticks, each = round(seconds / _TICK), max(1, round(rate * _TICK))
    took: list[float] = []
    material = events(ticks * each, clock.now(), topic)
    probes, marks = count(_PROBES_FROM), _Marks(settings, keyspace)
    looking = asyncio.create_task(marks.look())
    try:
        async with Writer(settings) as writer:
            # Made and sorted before: it would be the bench that is measured.
            parts = [writer.sorted(islice(material, each)) for _ in range(ticks)]
            await _ready(settings, writer, marks)
            began = loop.time()

            async def probe(n: int, due: float) -> None:
                user, said = next(probes), parts[n]
                key, now = str(user).encode(), clock.now()
                said[partition_of(key, settings.partitions)].append((key, _practice(user, now)))
                await writer.write(said)
                await marks.of(user, now)
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
        looking.cancel()
        await asyncio.gather(looking, return_exceptions=True)
        await keyspace.close()
    return Latency.of(took)


async def _ready(settings: Settings, writer: Writer, marks: _Marks) -> None:
    """Wait until the worker has its partitions: one practice in each must come through."""
    users: dict[int, int] = {}
    for user in count(_PROBES_FROM - 10_000):
        users.setdefault(partition_of(str(user).encode(), settings.partitions), user)
        if len(users) == settings.partitions:
            break
    now = settings.clock().now()
    await writer.write([[(str(users[n]).encode(), _practice(users[n], now))] for n in range(settings.partitions)])
    await asyncio.gather(*(marks.of(user, now) for user in users.values()))


def _practice(user: int, now: float) -> bytes:
    at = utc(now).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    return f'{{"type":"lesson_completed","user_id":{user},"at":"{at}","time_zone":"UTC"}}'.encode()
