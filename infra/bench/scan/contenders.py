"""Who finds and plans the users that are due: a contender's process. `python -m infra.bench.scan.contenders NAME`, an
order on standard input.

ours      plan, scan, gate, planned page, Kafka acknowledged, checkpoint: what a task of the DAG does
orm_loop  a careful first version: SQLAlchemy's ORM, a thousand users at a time with their devices, SET NX EX for each,
          a Kafka message for each, all of a thousand acknowledged before the next
limit     COPY of the same rows to standard output, thrown away
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Awaitable, Callable
from datetime import date
from importlib.resources import files
from typing import Any

import msgspec
import numpy as np
import psycopg
from aiokafka import AIOKafkaProducer
from redis.asyncio import Redis
from sqlalchemy import ForeignKey, create_engine, select
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, relationship, selectinload

from batch.cells import slot_literals
from batch.columns import ints
from batch.plan import Slot, plan
from batch.scan import scan
from infra.bench.deliver.report import answers_only, cpu_seconds, peak_rss_mb
from infra.bench.scan.report import Order, Report, decode_order, encode
from shared.settings import load_settings
from shared.store.migrate import sqlalchemy_url
from shared.topics import Topics

_CHUNK = 1_000


class _Base(DeclarativeBase):
    pass


class _Device(_Base):
    __tablename__ = "devices"
    user_id: Mapped[int] = mapped_column(ForeignKey("users.id"), primary_key=True)
    device_id: Mapped[str] = mapped_column(primary_key=True)
    platform: Mapped[str]
    token: Mapped[str]


class _User(_Base):
    __tablename__ = "users"
    id: Mapped[int] = mapped_column(primary_key=True)
    shard: Mapped[int]
    time_zone: Mapped[str]
    last_active_date: Mapped[date]
    locale: Mapped[str]
    streak: Mapped[int]
    opted_out: Mapped[int]
    email: Mapped[str | None]
    devices: Mapped[list[_Device]] = relationship()


async def ours(order: Order) -> Report:
    settings = load_settings()
    planned = plan(order.start, order.end, settings)

    async def work() -> int:
        return (await scan(settings, planned, range(order.shards))).candidates

    return await _measured(work)


async def orm_loop(order: Order) -> Report:
    settings = load_settings()
    slots = _found(order)  # It is not charged with looking into those that have nobody.
    engine = create_engine(sqlalchemy_url(settings.require_postgres()))
    redis: Any = Redis.from_url(settings.require_redis())  # its stubs know no bytes
    producer = AIOKafkaProducer(bootstrap_servers=settings.require_kafka(), enable_idempotence=True, linger_ms=2)
    await producer.start()
    topic = Topics.of(settings).normal

    async def some(users: list[_User], slot: Slot) -> None:
        acknowledged = []
        for user in users:
            if await redis.set(f"sent:{user.id}:comeback:{slot.local_date}", 1, nx=True, ex=345_600):
                message = {
                    "user_id": user.id, "kind": "comeback", "local_date": slot.local_date, "due_at": slot.due_at,
                    "time_zone": user.time_zone, "locale": user.locale, "streak": user.streak, "email": user.email,
                    "devices": [(one.device_id, one.platform, one.token) for one in user.devices],
                }  # fmt: skip
                acknowledged.append(await producer.send(topic, msgspec.json.encode(message)))
        await asyncio.gather(*acknowledged)

    async def work() -> int:
        done = 0
        with Session(engine) as session:
            for slot in slots:
                query = (
                    select(_User)
                    .where(_User.shard.in_(range(order.shards)), _User.time_zone == slot.time_zone)
                    .where(_User.last_active_date == slot.last_active)
                    .options(selectinload(_User.devices))
                    .execution_options(yield_per=_CHUNK)
                )
                for users in session.scalars(query).partitions():
                    await some(list(users), slot)
                    done += len(users)
                    if order.users and done >= order.users:
                        return done
        return done

    try:
        return await _measured(work)
    finally:
        await producer.stop()
        await redis.aclose()
        engine.dispose()


async def limit(order: Order) -> Report:
    slots = _found(order)
    query = (files("infra.bench.scan") / "limit.sql").read_text()

    async def work() -> int:
        rows = 0
        values = slot_literals(slots, range(len(slots))) | {"shards": order.shards}
        with psycopg.connect(load_settings().require_postgres(), autocommit=True) as connection:
            # As a scan has it.
            connection.execute(
                "SET enable_seqscan = off; SET enable_hashjoin = off; SET enable_memoize = off; SET jit = off"
            )
            cursor = psycopg.ClientCursor(connection)
            with cursor.copy(cursor.mogrify(query, values)) as copy:
                for _ in copy:
                    rows += 1
        return rows

    return await _measured(work)


def _found(order: Order) -> list[Slot]:
    """The slots that have anybody."""
    settings = load_settings()
    slots = plan(order.start, order.end, settings).slots
    query = (files("batch") / "queries" / "look.sql").read_text()
    values = slot_literals(slots, range(len(slots))) | {"shards": "{" + ",".join(map(str, range(order.shards))) + "}"}
    with psycopg.connect(settings.require_postgres()) as connection, connection.cursor(binary=True) as cursor:
        cursor.execute(query, values)
        assert cursor.pgresult is not None
        numbers = ints(cursor.pgresult.get_value(0, 1))
    return [slots[n] for n in np.unique(numbers).tolist()]


async def _measured(work: Callable[[], Awaitable[int]]) -> Report:
    began, used = time.perf_counter(), cpu_seconds()
    users = await work()
    return Report(users, time.perf_counter() - began, cpu_seconds() - used, peak_rss_mb())


CONTENDERS: dict[str, Callable[[Order], Awaitable[Report]]] = {"ours": ours, "orm_loop": orm_loop, "limit": limit}


def main(name: str) -> None:
    answers = answers_only()
    order = decode_order(sys.stdin.buffer.read())

    async def run() -> Report:
        return await CONTENDERS[name](order)

    answers.write(encode(asyncio.run(run())) + b"\n")


if __name__ == "__main__":
    main(sys.argv[1])
