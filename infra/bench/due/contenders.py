"""Who fires the crowd: a contender's process. `python -m infra.bench.due.contenders NAME`, an order on standard input.

ours      the due loop of a stream worker: index, lookup, gate, planned page, Kafka, and out of the index
baseline  what one would write: ZRANGEBYSCORE, then for each user a SELECT, SET NX EX, a Kafka message and ZREM, sixteen
          users at once
limit     what the two stores can do at all: ZPOPMIN of a thousand and the same lookup of a thousand keys, nothing else
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Awaitable, Callable, Iterable
from importlib.resources import files
from typing import Any

import msgspec
import psycopg
from aiokafka import AIOKafkaProducer
from redis.asyncio import Redis

from infra.bench.deliver.report import answers_only, cpu_seconds, peak_rss_mb
from infra.bench.due.report import Order, Report, decode_order, encode
from shared.identity import SHARDS
from shared.outbox import array
from shared.producer import Producer, Record
from shared.settings import Settings, load_settings
from shared.topics import Topics
from stream.due.fire import Firing
from stream.garbage import collect_seldom
from stream.runtime import Runtime

PLAIN_KEY = "bench:due"
"""The one sorted set of `baseline` and `limit`."""
_PAGE = 1_000
_TASKS = 16


class Statements:
    """Counts what is sent to PostgreSQL."""

    def __init__(self) -> None:
        self.n = 0
        execute = psycopg.AsyncCursor.execute

        async def counted(cursor: Any, *args: Any, **options: Any) -> Any:
            self.n += 1
            return await execute(cursor, *args, **options)

        # This process is the bench's own.
        psycopg.AsyncCursor.execute = counted  # type: ignore[assignment, method-assign]


class _Timed(Producer):
    """Notes when Kafka had how many sends."""

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        self.began = 0.0
        self.acknowledged: list[tuple[float, int]] = []

    async def write(self, records: Iterable[Record]) -> None:
        records = list(records)
        await super().write(records)
        n = sum(record.value.count(b'"streak_saver"') for record in records)
        self.acknowledged.append((time.perf_counter() - self.began, n))


async def ours(_: Order) -> Report:
    runtime = Runtime.of(load_settings())
    producer = runtime.producer = _Timed(runtime.settings)
    await runtime.open()
    try:
        # Connected before it counts, as a worker is that has run for a while.
        await runtime.firing.main.resize(runtime.settings.fire_concurrency, runtime.settings.fire_concurrency)
        await runtime.firing.main.wait()
        await producer.write([])
        firing = Firing(runtime)
        await firing.fire([])
        collect_seldom()  # as the worker does that it is a part of

        async def work() -> int:
            producer.began = time.perf_counter()
            producer.acknowledged.clear()
            return await firing.fire(range(SHARDS))

        report = await _measured(work)
        report.acknowledged = producer.acknowledged
        return report
    finally:
        await runtime.close()


async def baseline(order: Order) -> Report:
    settings = load_settings()
    topic = Topics.of(settings).urgent
    query = (files("infra.bench.due") / "one_user.sql").read_text()
    redis: Any = Redis.from_url(settings.require_redis())  # its stubs know no bytes
    producer = AIOKafkaProducer(bootstrap_servers=settings.require_kafka(), linger_ms=2)
    await producer.start()
    connections = [
        await psycopg.AsyncConnection.connect(settings.require_postgres(), autocommit=True) for _ in range(_TASKS)
    ]

    async def some(connection: Any, users: list[bytes]) -> None:
        while users:
            user = users.pop()
            row = await (await connection.execute(query, (int(user),))).fetchone()
            if await redis.set(b"sent:%s:streak_saver" % user, 1, nx=True, ex=345_600):
                await producer.send_and_wait(topic, msgspec.json.encode(row), key=user)
            await redis.zrem(PLAIN_KEY, user)

    async def work() -> int:
        fired = 0
        while users := await redis.zrangebyscore(PLAIN_KEY, "-inf", order.due, start=0, num=_PAGE):
            fired += len(users)
            await asyncio.gather(*(some(connection, users) for connection in connections))
        return fired

    try:
        return await _measured(work)
    finally:
        for connection in connections:
            await connection.close()
        await producer.stop()
        await redis.aclose()


async def limit(_: Order) -> Report:
    settings = load_settings()
    query = (files("shared.due") / "queries" / "fire_users.sql").read_text()
    redis: Any = Redis.from_url(settings.require_redis())  # its stubs know no bytes
    connections = [
        await psycopg.AsyncConnection.connect(settings.require_postgres(), autocommit=True)
        for _ in range(settings.fire_concurrency)
    ]

    async def some(connection: Any) -> int:
        found = 0
        while popped := await redis.zpopmin(PLAIN_KEY, _PAGE):
            ids = array(int(user) for user, _ in popped)
            found += len(await (await connection.execute(query, (ids,), binary=True)).fetchall())
        return found

    async def work() -> int:
        return sum(await asyncio.gather(*(some(connection) for connection in connections)))

    try:
        return await _measured(work)
    finally:
        for connection in connections:
            await connection.close()
        await redis.aclose()


async def _measured(work: Callable[[], Awaitable[int]]) -> Report:
    statements = Statements()
    began, used = time.perf_counter(), cpu_seconds()
    users = await work()
    seconds = time.perf_counter() - began
    return Report(users, seconds, cpu_seconds() - used, peak_rss_mb(), statements.n)


CONTENDERS: dict[str, Callable[[Order], Awaitable[Report]]] = {"ours": ours, "baseline": baseline, "limit": limit}


def main(name: str) -> None:
    answers = answers_only()
    order = decode_order(sys.stdin.buffer.read())

    async def run() -> Report:
        return await CONTENDERS[name](order)

    report = asyncio.run(run())
    if report.users != order.users:
        report.error = f"{report.users} of {order.users} users were fired"
    answers.write(encode(report) + b"\n")


if __name__ == "__main__":
    main(sys.argv[1])
