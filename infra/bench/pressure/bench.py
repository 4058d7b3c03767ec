"""The experiment: alternating turns of no scan, a naive one and ours beside a fixed load of short transactions."""

from __future__ import annotations

import asyncio
import os
import sys
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager

import msgspec
import psycopg

from infra.bench.deliver.report import BenchError
from infra.bench.pressure import material, oltp
from infra.bench.pressure.report import Found, Pressure, ratio, side
from shared.clock import FileClock, SystemClock, utc
from shared.gate import open_fresh
from shared.policy.localtime import known_zones
from shared.settings import Settings
from shared.topics import ensure_topics

CLIENTS = 8
_WARM_SECONDS = 2.0
"""Before the first transaction is counted, so that every scan is under way."""
Turns = dict[str, list[tuple[oltp.Latency, float]]]


async def bench_pressure(
    settings: Settings,
    environment: Mapping[str, str],
    users: int,
    rate: int,
    rounds: int,
    seconds: int,
    say: Callable[[str], None],
) -> Pressure:
    """All rounds; the servers are the bench's own."""
    oltp.find_pgbench()
    url = settings.require_postgres()
    say(f"making {users:,} users")
    # All zones of the world, each with its share.
    await asyncio.to_thread(material.fill, url, users, sorted(known_zones()), utc(SystemClock().now()).date())
    await open_fresh(settings)
    await ensure_topics(settings)
    clock_file = settings.state_dir / "pressure-clock"
    FileClock.create(clock_file, SystemClock().now())
    environment = {**environment, "SURNIA_CLOCK_FILE": str(clock_file)}
    turns: Turns = {name: [] for name in ("none", "naive", "ours")}
    hours = 0
    for n in range(rounds):
        # Another one begins each round: what one leaves behind (dead rows, full caches) meets all of them.
        names = list(turns)[n % 3 :] + list(turns)[: n % 3]
        for name in names:
            async with await psycopg.AsyncConnection.connect(url, autocommit=True) as connection:
                await connection.execute("CHECKPOINT")
            async with _contender(name, hours, environment) as found:
                await asyncio.sleep(_WARM_SECONDS if name != "none" else 0)
                latency = await oltp.run(url, users, rate, CLIENTS, seconds)
            result, lasted = found[0]
            if name == "ours":
                hours += result.hours + 3
            turns[name].append((latency, result.users / lasted))
        say(", ".join(f"{name} p99 {mine[-1][0].p99_ms} ms" for name, mine in turns.items()))
    return Pressure(
        users=users, oltp_rate=rate, oltp_clients=CLIENTS, tasks=settings.shard_groups,
        scans_per_database=settings.scans_per_database,
        none=side(turns["none"]), naive=side(turns["naive"]), ours=side(turns["ours"]),
        p99_naive_to_none=ratio(turns["naive"], turns["none"]), p99_ours_to_none=ratio(turns["ours"], turns["none"]),
    )  # fmt: skip


@asynccontextmanager
async def _contender(name: str, hours: int, environment: Mapping[str, str]) -> AsyncIterator[list[tuple[Found, float]]]:
    """A contender at work; afterwards what it found and in how many seconds."""
    answer: list[tuple[Found, float]] = []
    if name == "none":
        yield answer
        answer.append((Found(), 1.0))
        return
    # What runs elsewhere in earnest must not take the database's cores here: only what PostgreSQL does for it counts.
    command = ["nice", "-n", "19", sys.executable, "-m", "infra.bench.pressure.child", name, str(hours)]
    child = await asyncio.create_subprocess_exec(
        *command, env=os.environ | environment, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
    )
    assert child.stdin
    assert child.stdout
    try:
        await child.stdout.readline()
        began = time.monotonic()
        yield answer
        lasted = time.monotonic() - began
        child.stdin.close()
        lines = (await child.stdout.read()).splitlines()
        if await child.wait():
            raise BenchError(f"the contender {name} failed; what it wrote is above")
        answer.append((msgspec.json.decode(lines[-1], type=Found), lasted))
    finally:
        if child.returncode is None:
            child.kill()
            await child.wait()
