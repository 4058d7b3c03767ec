"""`surnia bench scan`: users a second from the database to Kafka, of a database of millions.

The contenders are described in `contenders`; each has a process of its own, in turn, and before each turn the gate, the
planners' record and the checkpoints are emptied.
"""

from __future__ import annotations

import asyncio
import os
import sys
from asyncio.subprocess import PIPE
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, time, timedelta
from pathlib import Path
from statistics import median

import msgspec
import psycopg
from rich.progress import Progress

from infra.bench.deliver.report import BenchError
from infra.bench.rounds import alternate, ratio
from infra.bench.scan import material
from infra.bench.scan.report import Order, Report, decode_report, encode
from infra.stack import process
from shared.clock import FileClock
from shared.gate import open_fresh
from shared.identity import SHARDS
from shared.keyspace import open_keyspace
from shared.settings import Settings
from shared.topics import ensure_topics

_WITHIN = 1_800.0
"""Seconds a contender has for a turn at most."""
_PER_SECOND = {"ours": 40_000, "orm_loop": 2_500, "limit": 80_000}
"""About how fast they are: a turn's users come from it."""
_ROOT = Path(__file__).resolve().parents[3]
_MILLIONS = 80_000_000

Say = Callable[[str], None]


class Rate(msgspec.Struct):
    """Medians of the rounds."""

    users_per_s: float
    cpu_us_per_user: float
    peak_rss_mb: float
    """The highest of the rounds."""
    users: int
    """In each round."""
    hours_for_80m: float
    rounds: list[float]


class ScanBench(msgspec.Struct):
    """Ratios are medians of the rounds' ratios."""

    ours: Rate
    orm_loop: Rate
    limit: Rate
    ratio_to_orm_loop: float
    ratio_to_limit: float
    rows_read_per_row_due: float
    """Entries of the index that our scan read, the look before the first page included."""
    peak_rss_mb: float
    hours_for_80m: float
    idle_hour_s: float
    """A scan of all shards for an hour in which nobody is due."""
    database_users: int


async def bench_scan(settings: Settings, users: int, rounds: int, seconds: float, say: Say) -> ScanBench:
    """The servers must be the bench's own."""
    with Progress() as progress:
        if not await asyncio.to_thread(material.fill, settings.require_postgres(), users, progress):
            say(f"the {users:,} users are there already")
    start = datetime.combine(material.TODAY, time(), UTC)
    end = start + timedelta(days=1)
    clock_file = settings.state_dir / "clock"
    # All of the day is past: nobody waits.
    FileClock.create(clock_file, end.timestamp())
    due = users * material.due_share()
    # 50 to 100 users of a local date a bucket, as the setting asks for.
    bits = min(16, max(0, int(due / SHARDS / 64).bit_length()))
    settings = settings.model_copy(update={"clock_file": clock_file, "gate_bucket_bits": bits})
    await ensure_topics(settings)
    sides = {}
    for name, rate in _PER_SECOND.items():
        shards = max(1, min(SHARDS, round(SHARDS * rate * seconds / due)))
        most = int(rate * seconds) if name == "orm_loop" else 0
        sides[name] = _Side(name, settings, Order(start, end, SHARDS if most else shards, most))
    rates = await alternate(rounds, {name: side.turn for name, side in sides.items()}, say)
    midnight = datetime.combine(material.IDLE, time(12), UTC)
    idle = _Side("ours", settings, Order(midnight, midnight + timedelta(hours=1), SHARDS))
    FileClock(clock_file).set((midnight + timedelta(hours=1)).timestamp())
    await idle.turn(0)
    found = {name: side.rate(rates[name]) for name, side in sides.items()}
    mine = sides["ours"]
    return ScanBench(
        **found,
        ratio_to_orm_loop=ratio(rates, "ours", "orm_loop"),
        ratio_to_limit=ratio(rates, "ours", "limit"),
        rows_read_per_row_due=round(mine.read / sum(one.users for one in mine.reports), 3),
        peak_rss_mb=found["ours"].peak_rss_mb,
        hours_for_80m=found["ours"].hours_for_80m,
        idle_hour_s=round(idle.reports[0].seconds, 2),
        database_users=users,
    )


class _Side:
    """A contender, from the bench's side."""

    def __init__(self, name: str, settings: Settings, order: Order) -> None:
        self._name = name
        self._settings = settings
        self._order = order
        self.reports: list[Report] = []
        self.read = 0

    async def turn(self, _: int) -> float:
        """A round in a process of its own; users a second."""
        await _empty(self._settings)
        before = await _entries_read(self._settings)
        report = await self._run()
        self.read += await _entries_read(self._settings) - before
        self.reports.append(report)
        return report.users / report.seconds

    def rate(self, rates: list[float]) -> Rate:
        return Rate(
            users_per_s=round(median(rates)),
            cpu_us_per_user=round(median(one.cpu_seconds / one.users * 1e6 for one in self.reports), 1),
            peak_rss_mb=max(one.peak_rss_mb for one in self.reports),
            users=self.reports[0].users,
            hours_for_80m=round(_MILLIONS / median(rates) / 3600, 2),
            rounds=[round(rate) for rate in rates],
        )

    async def _run(self) -> Report:
        log = self._settings.state_dir / "logs" / f"bench-scan-{self._name}.log"
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("ab") as errors:
            child = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "infra.bench.scan.contenders", self._name),
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
        """Nothing but what the bench's stack says, and how its gate is cut."""
        ours = self._settings
        return {name: value for name, value in os.environ.items() if not name.startswith("SURNIA_")} | {
            "SURNIA_POSTGRES_URL": ours.require_postgres(),
            "SURNIA_REDIS_URL": ours.require_redis(),
            "SURNIA_KAFKA_BROKERS": ours.require_kafka(),
            "SURNIA_STATE_DIR": str(ours.state_dir),
            "SURNIA_CLOCK_FILE": str(ours.clock_file),
            "SURNIA_GATE_BUCKET_BITS": str(ours.gate_bucket_bits),
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
        await connection.execute("TRUNCATE planned, outbox, scan_runs, scan_checkpoints")


async def _entries_read(settings: Settings) -> int:
    """Of the scan's index, and rows of users without an index: by all connections that have ended."""
    async with await psycopg.AsyncConnection.connect(settings.require_postgres()) as connection:
        cursor = await connection.execute(
            "SELECT idx_tup_read + (SELECT seq_tup_read FROM pg_stat_user_tables WHERE relname = 'users') "
            "FROM pg_stat_user_indexes WHERE indexrelname = 'ix_users_silent'"
        )
        row = await cursor.fetchone()
    return int(str(row[0])) if row else 0
