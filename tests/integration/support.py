"""What the engine's integration tests share: users put into the tables, messages made up and read back, dumps."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from datetime import date, datetime, timedelta
from itertools import count, islice
from types import SimpleNamespace
from typing import Any

import msgspec
import psycopg
from aiokafka import AIOKafkaConsumer, TopicPartition

from shared.clock import utc
from shared.due.index import DUE_KINDS, Due
from shared.identity import SHARDS, shard_of
from shared.settings import Settings
from shared.topics import Topics
from shared.wire.sends import Outcome, Result, Send, SendBatch, decode_outcomes, decode_sends
from stream.runtime import Runtime
from tests.conftest import NOON, connect_redis

TODAY = date(2026, 11, 21)
YESTERDAY = TODAY - timedelta(days=1)
HOUR = 3600.0
DAY = 24 * HOUR
IOS = "ab" * 32


@asynccontextmanager
async def running(settings: Settings) -> AsyncIterator[Runtime]:
    """A worker's parts, opened and closed."""
    runtime = Runtime.of(settings)
    await runtime.open()
    try:
        yield runtime
    finally:
        await runtime.close()


def users_of_shard(shard: int, n: int) -> list[int]:
    """The first n user ids that fall into a shard."""
    return list(islice((user for user in count(1) if shard_of(user) == shard), n))


def token_of(user: int) -> str:
    return f"{user:064x}"


def sql(settings: Settings, query: str, *values: object) -> list[tuple[Any, ...]]:
    """Run one statement; its rows, if it has any."""
    with psycopg.connect(settings.require_postgres(), autocommit=True) as connection:
        cursor = connection.execute(query, values or None)
        return cursor.fetchall() if cursor.description else []


def add_users(settings: Settings, *rows: Mapping[str, object], devices: bool = True) -> None:
    """Users by column, in Lisbon (UTC in November) unless told otherwise, each with an iPhone."""
    with psycopg.connect(settings.require_postgres()) as connection, connection.cursor() as cursor:
        for row in rows:
            columns = {"time_zone": "Europe/Lisbon", **row}
            names, marks = ", ".join(columns), ", ".join(["%s"] * len(columns))
            cursor.execute(f"INSERT INTO users ({names}) VALUES ({marks})", list(columns.values()))
        if devices:
            cursor.executemany(
                "INSERT INTO devices (user_id, device_id, platform, token, registered_at) "
                "VALUES (%s, 'phone', 'ios', %s, %s)",
                [(row["id"], token_of(int(str(row["id"]))), utc(NOON - DAY)) for row in rows],
            )


def practised_at(instant: float, streak: int = 3) -> dict[str, object]:
    """The columns of a user in Lisbon whose last practice was then."""
    at = utc(instant)
    names = ("last_event_at", "last_practice_at")
    days = ("last_active_date", "last_practice_date")
    return {"streak": streak, **dict.fromkeys(names, at), **dict.fromkeys(days, at.date())}


def event(what: str, user: int, at: float, **more: object) -> bytes:
    """An activity event as a producer writes it."""
    return msgspec.json.encode({"type": what, "user_id": user, "at": utc(at), **more})


def record(value: bytes, topic: str = "t", partition: int = 0, offset: int = 0, key: bytes | None = None) -> Any:
    """A record of a run, as far as the activity agent looks at it."""
    now = round(time.time() * 1000)
    return SimpleNamespace(value=value, topic=topic, partition=partition, offset=offset, key=key, timestamp=now)


def message(value: bytes, topic: str = "t", partition: int = 0, offset: int = 0) -> Any:
    """What Faust hands to an agent, as far as our agents look at it."""
    return SimpleNamespace(message=record(value, topic, partition, offset))


async def read(settings: Settings, topic: str) -> list[Any]:
    """Everything that a topic holds, partition by partition."""
    consumer = AIOKafkaConsumer(bootstrap_servers=settings.require_kafka(), enable_auto_commit=False)
    await consumer.start()
    try:
        ends = await consumer.end_offsets([TopicPartition(topic, n) for n in range(settings.partitions)])
        left = {partition: end for partition, end in ends.items() if end}
        found: list[Any] = []
        if left:
            consumer.assign(list(left))
            await consumer.seek_to_beginning(*left)
        while left:
            for partition, records in (await consumer.getmany(timeout_ms=5000)).items():
                found += records
                if records[-1].offset + 1 >= left[partition]:
                    del left[partition]
        return sorted(found, key=lambda record: (record.partition, record.offset))
    finally:
        await consumer.stop()


async def batches_in(settings: Settings, topic: str) -> list[SendBatch]:
    return [decode_sends(record.value) for record in await read(settings, topic)]


async def sends_in(settings: Settings, topic: str) -> list[Send]:
    return [send for batch in await batches_in(settings, topic) for send in batch.sends]


async def outcomes_in(settings: Settings) -> list[Outcome]:
    records = await read(settings, Topics.of(settings).outcomes)
    return [outcome for record in records for outcome in decode_outcomes(record.value).outcomes]


async def scheduled(runtime: Runtime) -> list[Due]:
    """Everything that is in the due index."""
    return [due for kind in DUE_KINDS for due in await runtime.due.due(kind, range(SHARDS), 1e12, 1000)]


async def denials(settings: Settings) -> dict[tuple[int, str], str]:
    """(user, kind) -> reason; there is no other outcome."""
    found = await outcomes_in(settings)
    assert {outcome.result for outcome in found} <= {Result.denied}
    return {(outcome.user_id, outcome.kind): outcome.reason for outcome in found}


def tables(settings: Settings) -> dict[str, list[str]]:
    """Every row of every table, to compare a state with another."""
    names = ("users", "devices", "ledger", "scan_runs", "scan_checkpoints")
    return {name: [row[0] for row in sql(settings, f"SELECT t::text FROM {name} t ORDER BY 1")] for name in names}


async def redis_state(settings: Settings) -> dict[bytes, Any]:
    """Every key of Redis with what it holds."""
    redis = connect_redis(settings)
    try:
        state: dict[bytes, Any] = {}
        async for name in redis.scan_iter(count=1000):
            kind = await redis.type(name)
            if kind == b"zset":
                state[name] = sorted(await redis.zrange(name, 0, -1, withscores=True))
            elif kind == b"string":
                state[name] = await redis.get(name)
            else:
                state[name] = dict(await redis.hgetall(name))
        return state
    finally:
        await redis.aclose()


def moment(text: str) -> float:
    """UTC wall clock as unix seconds."""
    return datetime.fromisoformat(f"{text}+00:00").timestamp()
