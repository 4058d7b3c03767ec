"""`surnia bench due`: users fired a second by one process, and how late, when a crowd is due in the same minute.

All of the crowd is due at the first instant of the minute, as streak savers are (22:00 of a zone): the hardest case.
The contenders are described in `contenders`; each has a process of its own, in turn.
"""

from __future__ import annotations

import asyncio
import os
import sys
from asyncio.subprocess import PIPE
from collections.abc import Callable, Mapping
from itertools import islice
from pathlib import Path
from statistics import median
from typing import Any

import msgspec
import psycopg
from redis.asyncio import Redis

from infra.bench.deliver.report import BenchError
from infra.bench.due import material
from infra.bench.due.contenders import PLAIN_KEY
from infra.bench.due.report import Order, Report, decode_report, encode, percentile_ms
from infra.bench.rounds import alternate, ratio
from infra.stack import process
from shared.clock import FileClock
from shared.due.index import DueIndex
from shared.gate import open_fresh
from shared.identity import SHARDS
from shared.keyspace import open_keyspace
from shared.settings import Settings
from shared.topics import ensure_topics

MILLION = 1_000_000
_BASELINE_PART = 10
"""The baseline has so many times fewer users a round: it is slow."""
_WITHIN = 900.0
"""Seconds a contender has for a round at most."""
_NOON = 1_795_262_400.0
"""2026-11-21 12:00 UTC."""
_ROOT = Path(__file__).resolve().parents[3]

Say = Callable[[str], None]


class Rate(msgspec.Struct):
    """Medians of the rounds."""

    users_per_s: float
    cpu_us_per_user: float
    postgres_statements_per_user: float
    peak_rss_mb: float
    """The highest of the rounds."""
    users: int
    """In each round."""
    rounds: list[float]


class Lateness(msgspec.Struct):
    """Milliseconds from due to acknowledged by Kafka, median of the rounds."""

    p50: float
    p99: float


class DueBench(msgspec.Struct):
    """Ratios are medians of the rounds' ratios."""

    ours: Rate
    baseline: Rate
    limit: Rate
    ratio_to_baseline: float
    ratio_to_limit: float
    lateness_ms: Lateness
    due_in_one_minute: int
    scale: float
    """A million to that."""
    fire_concurrency: int
    peak_rss_mb: float
    """Of our process."""
    postgres_statements_per_user: float
    """Ours."""


async def bench_due(settings: Settings, due: int, rounds: int, say: Say) -> DueBench:
    """The servers are emptied first: they must be the bench's own."""
    clock_file = settings.state_dir / "clock"
    at = material.due_at(_NOON)
    FileClock.create(clock_file, at)
    # As many of the crowd share a gate's bucket as of a million with the default.
    bits = (due // SHARDS // 2).bit_length()
    settings = settings.model_copy(update={"clock_file": clock_file, "gate_bucket_bits": min(bits, 16)})
    await ensure_topics(settings)
    sides = {name: _Side(name, settings, at, due) for name in ("ours", "limit")}
    sides["baseline"] = _Side("baseline", settings, at, max(1, due // _BASELINE_PART))
    crowds: dict[int, int] = {}

    async def crowd(n: int) -> None:
        if n not in crowds:
            crowds[n] = due
            say(f"round {n + 1}: bringing {due:,} users into PostgreSQL and the index")
            await _empty(settings)
            await asyncio.to_thread(material.fill_tables, settings.require_postgres(), due, n, at)

    async def turn(side: _Side, n: int) -> float:
        await crowd(n)
        return await side.turn(n)

    contenders = {name: lambda n, side=sides[name]: turn(side, n) for name in ("ours", "baseline", "limit")}
    rates = await alternate(rounds, contenders, say)
    found = {name: side.rate(rates[name]) for name, side in sides.items()}
    mine = sides["ours"].reports
    return DueBench(
        **found,
        ratio_to_baseline=ratio(rates, "ours", "baseline"),
        ratio_to_limit=ratio(rates, "ours", "limit"),
        lateness_ms=Lateness(*(median(percentile_ms(one.acknowledged, part) for one in mine) for part in (50, 99))),
        due_in_one_minute=due,
        scale=round(MILLION / due, 2),
        fire_concurrency=settings.fire_concurrency,
        peak_rss_mb=found["ours"].peak_rss_mb,
        postgres_statements_per_user=found["ours"].postgres_statements_per_user,
    )


class _Side:
    """A contender, from the bench's side."""

    def __init__(self, name: str, settings: Settings, due: float, users: int) -> None:
        self._name = name
        self._settings = settings
        self._order = Order(users, due)
        self.reports: list[Report] = []

    async def turn(self, n: int) -> float:
        """A round in a process of its own; users a second."""
        if self._name == "ours":
            await _fill_index(self._settings, self._order, n)
        else:
            await _fill_plain(self._settings, self._order, n)
        report = await self._run()
        if report.error:
            raise BenchError(f"{self._name}: {report.error}")
        self.reports.append(report)
        return report.users / report.seconds

    def rate(self, rates: list[float]) -> Rate:
        return Rate(
            users_per_s=round(median(rates)),
            cpu_us_per_user=round(median(one.cpu_seconds / one.users * 1e6 for one in self.reports), 1),
            postgres_statements_per_user=round(median(one.statements / one.users for one in self.reports), 5),
            peak_rss_mb=max(one.peak_rss_mb for one in self.reports),
            users=self._order.users,
            rounds=[round(rate) for rate in rates],
        )

    async def _run(self) -> Report:
        log = self._settings.state_dir / "logs" / f"bench-due-{self._name}.log"
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("ab") as errors:
            child = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "infra.bench.due.contenders", self._name),
                stdin=PIPE,
                stdout=PIPE,
                stderr=errors,
                cwd=log.parent,  # where no `.env` is
                env=self._environment(),
            )
        try:
            async with asyncio.timeout(_WITHIN):
                said, _ = await child.communicate(encode(self._order))
        except TimeoutError:
            child.kill()
            await child.wait()
            raise BenchError(f"{self._name}: not finished within {_WITHIN:.0f} s") from None
        if not said:
            raise BenchError(f"{self._name}'s process ended. It said:\n" + "\n".join(process.tail(log)))
        return decode_report(said)

    def _environment(self) -> Mapping[str, str]:
        """Nothing but what the bench's stack says, and how many pages at once."""
        ours = self._settings
        return {name: value for name, value in os.environ.items() if not name.startswith("SURNIA_")} | {
            "SURNIA_POSTGRES_URL": ours.require_postgres(),
            "SURNIA_REDIS_URL": ours.require_redis(),
            "SURNIA_KAFKA_BROKERS": ours.require_kafka(),
            "SURNIA_STATE_DIR": str(ours.state_dir),
            "SURNIA_CLOCK_FILE": str(ours.clock_file),
            "SURNIA_GATE_BUCKET_BITS": str(ours.gate_bucket_bits),
            "SURNIA_FIRE_CONCURRENCY": str(ours.fire_concurrency),
            "PYTHONPATH": os.pathsep.join(filter(None, (str(_ROOT), os.environ.get("PYTHONPATH")))),
        }


async def _empty(settings: Settings) -> None:
    keyspace = open_keyspace(settings)
    try:
        await keyspace.everywhere("FLUSHDB", "SYNC")
    finally:
        await keyspace.close()
    await open_fresh(settings)
    async with await psycopg.AsyncConnection.connect(settings.require_postgres()) as connection:
        await connection.execute("TRUNCATE users, devices, planned, outbox")


async def _fill_index(settings: Settings, order: Order, crowd: int) -> None:
    keyspace = open_keyspace(settings)
    try:
        await material.fill_index(DueIndex(keyspace), order.users, crowd, order.due)
    finally:
        await keyspace.close()


async def _fill_plain(settings: Settings, order: Order, crowd: int) -> None:
    redis: Any = Redis.from_url(settings.require_redis())  # its stubs know no numbers as members
    try:
        await redis.delete(PLAIN_KEY)
        for users in material.users(crowd, order.users):
            chunks = iter(users)
            while chunk := list(islice(chunks, 5_000)):
                await redis.zadd(PLAIN_KEY, dict.fromkeys(chunk, order.due))
    finally:
        await redis.aclose()
