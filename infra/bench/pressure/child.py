"""One contender in a process of its own: scans three hours after three hours until its input closes; then says what it
found.

Both ask for the same hours' users, in as many tasks.
"""

from __future__ import annotations

import asyncio
import logging
import sys
from collections.abc import Awaitable, Callable
from datetime import timedelta

import msgspec
import psycopg

from batch.plan import Plan, plan
from infra.bench.pressure.report import Found
from shared.clock import FileClock, SystemClock, utc
from shared.settings import Settings, load_settings

Contender = Callable[[Settings, Plan, Found], Awaitable[object]]
"""Scans some hours, and notes whom it found."""

HOURS = timedelta(hours=3)
"""Scanned at once, as after an outage: in one alone a population of a million has some two thousand users, and
connecting would be most of it. None of them has expired by the end."""

_NAIVE = """
SELECT u.id, u.time_zone, u.locale, u.streak, u.opted_out, u.email, d.device_id, d.platform, d.token
FROM users u LEFT JOIN devices d ON d.user_id = u.id AND d.retired_at IS NULL
WHERE u.id %% %(tasks)s = %(task)s AND u.time_zone = ANY(%(zones)s)
  AND %(today)s::date - u.last_active_date = ANY(%(ladder)s)
"""


async def naive(settings: Settings, hour: Plan, found: Found) -> None:
    """Each mapped task reads its share of all users, as a first version would: a share is a remainder of the id, and
    the days of silence are worked out where no index helps."""
    connections = [
        await psycopg.AsyncConnection.connect(settings.require_postgres(), autocommit=True)
        for _ in range(settings.shard_groups)
    ]
    values = {
        "tasks": settings.shard_groups,
        "zones": sorted({slot.time_zone for slot in hour.slots}),
        "today": hour.slots[0].local_date if hour.slots else hour.interval_start.date(),
        "ladder": list(settings.ladder_days),
    }

    async def task(number: int) -> None:
        async with connections[number] as connection:
            cursor = await connection.execute(_NAIVE, values | {"task": number})
            found.users += len(await cursor.fetchall())

    await asyncio.gather(*map(task, range(settings.shard_groups)))


async def ours(settings: Settings, hour: Plan, found: Found) -> None:
    """Page, gate, Kafka, checkpoint."""
    from batch.scan import record, scan
    from shared.store.databases import Databases

    def page(rows: int) -> None:
        found.users += rows

    await record(settings, hour)
    groups = Databases.of(settings).shard_groups(settings.shard_groups)
    await asyncio.gather(*(scan(settings, hour, group, page) for group in groups))


CONTENDERS: dict[str, Contender] = {"naive": naive, "ours": ours}


async def work(contender: Contender, hours: int, found: Found) -> None:
    """From an hour on: whom an earlier turn claimed is not due again. The clock is turned to the end of each, when all
    of its users are due."""
    settings = load_settings()
    assert settings.clock_file
    clock = FileClock(settings.clock_file)
    start = utc(SystemClock().now()).replace(minute=0, second=0, microsecond=0) + timedelta(hours=hours)
    while True:
        clock.set((start + HOURS).timestamp())
        await contender(settings, plan(start, start + HOURS, settings), found)
        found.hours += HOURS // timedelta(hours=1)
        start += HOURS


async def main() -> None:
    logging.getLogger("psycopg").setLevel(logging.ERROR)  # The last query is cancelled, as it should be.
    found = Found()
    working = asyncio.ensure_future(work(CONTENDERS[sys.argv[1]], int(sys.argv[2]), found))
    ended = asyncio.ensure_future(asyncio.to_thread(sys.stdin.read))
    print("started", flush=True)  # noqa: T201  # to whoever started it
    await asyncio.wait({working, ended}, return_when=asyncio.FIRST_COMPLETED)
    if working.done():
        working.result()
    answer = msgspec.json.encode(found).decode()
    working.cancel()
    await asyncio.gather(working, return_exceptions=True)
    print(answer, flush=True)  # noqa: T201  # the same


if __name__ == "__main__":
    asyncio.run(main())
