"""The whole run: the topic filled, everybody's rounds in turn, then latency at half load and at a tenth.

ours    `surnia worker stream`: decode, gate, due index, write-back
stock   a plain Faust agent that does the same event by event (stock.py)
limit   aiokafka's `getmany`, and nothing done with it (client.py)

Each round's process is new, and so is what it finds: Redis empty but for an open gate, the users as they were.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from statistics import median

import msgspec
import psycopg

from infra.bench.cores import Cores
from infra.bench.deliver.report import BenchError
from infra.bench.latency import Latency
from infra.bench.rounds import alternate, ratio
from infra.bench.stream.contender import Running
from infra.bench.stream.material import USERS, events, users, zone_of
from infra.bench.stream.probe import latency_at
from infra.bench.stream.topic import Writer, place
from shared.gate import open_fresh
from shared.keyspace import open_keyspace
from shared.lag import group_of
from shared.settings import Settings
from shared.topics import Topics

WARM = 20_000
"""Events after which a round's time begins: by then it has joined its group, connected and imported all it needs."""
_STOCK_WARM = 2_000
_START = 60.0
_TENTH = 0.1

Say = Callable[[str], None]


class Figures(msgspec.Struct):
    """Medians of the rounds."""

    events_per_s: float
    cpu_us_per_event: float
    peak_rss_mb: float
    rounds: list[float]


class Millis(msgspec.Struct):
    p50: float
    p99: float

    @classmethod
    def of(cls, found: Latency) -> Millis:
        return cls(found.p50_ms, found.p99_ms)


class StreamBench(msgspec.Struct):
    """`latency_ms`: from the write to Kafka to the mark at the gate."""

    cores: str
    events: int
    users: int
    partitions: int
    ours: Figures
    stock_faust: Figures
    limit: Figures
    ratio_to_stock: float
    ratio_to_limit: float
    peak_rss_mb: float
    half_load_per_s: float
    latency_ms: Millis
    latency_ms_at_tenth: Millis


class _Side:
    """One contender's rounds."""

    def __init__(self, name: str, arguments: list[str], group: str, warm: int, bench: Bench) -> None:
        self.name, self._arguments, self._group, self._warm, self._bench = name, arguments, group, warm, bench
        self._cpu: list[float] = []
        self._rss = 0.0

    def running(self) -> Running:
        bench = self._bench
        own = {"BENCH_GROUP": self._group, "BENCH_TOPIC": bench.topic, "BENCH_FOLDER": str(bench.folder / self.name)}
        environment = bench.environment | own | {"SURNIA_METRICS_PORT": "PORT"}
        log = bench.folder / "logs" / f"bench-{self.name}.log"
        return Running(self._arguments, environment, bench.cores.sender, log)

    async def turn(self, _: int) -> float:
        """Events a second, from when it is warm until the topic's end or the end of its time."""
        bench = self._bench
        await bench.prepare(self._group)
        async with self.running() as running:
            begun = await running.past(self._warm, _START, step=0.02)
            if begun.events < self._warm:
                raise BenchError(f"{self.name} handled {begun.events:,.0f} events in {_START:.0f} s")
            ended = await running.past(bench.events, bench.seconds, step=0.5)
        done = ended.events - begun.events
        if not done:
            raise BenchError(f"{self.name} was at the topic's end when it was warm: give it more --events")
        self._cpu.append((ended.cpu_seconds - begun.cpu_seconds) / done * 1e6)
        self._rss = max(self._rss, running.peak_rss_mb)
        return done / (ended.at - begun.at)

    async def start_at_end(self) -> Running:
        await self._bench.prepare(self._group, at_end=True)
        return self.running()

    def figures(self, rates: list[float]) -> Figures:
        return Figures(round(median(rates)), round(median(self._cpu), 2), self._rss, [round(rate) for rate in rates])


class Bench:
    """What the rounds share."""

    def __init__(
        self, settings: Settings, environment: dict[str, str], cores: Cores, events: int, seconds: float, folder: Path
    ) -> None:
        self.settings, self.environment, self.cores = settings, environment, cores
        self.events, self.seconds, self.folder = events, seconds, folder
        self.topic = Topics.of(settings).activity

    async def fill(self, say: Say) -> None:
        """The topic, and the table that the users are taken from before each round."""
        now, step, done = self.settings.clock().now(), max(1, self.events // 4), 0

        def told(n: int) -> None:
            nonlocal done
            if done // step != (done + n) // step:
                say(f"{done + n:,} of {self.events:,} events written")
            done += n

        async with Writer(self.settings) as writer:
            await writer.fill(events(self.events, now, self.topic), told)
        with psycopg.connect(self.settings.require_postgres()) as connection, connection.cursor() as cursor:
            with cursor.copy("COPY users (id, time_zone, last_event_at, last_active_date) FROM STDIN") as copy:
                copy.write("".join(f"{user}\t{zone_of(user)}\t2026-01-01\t2026-01-01\n" for user in users()))
            cursor.execute(
                "CREATE TABLE bench_users AS SELECT id, time_zone, last_event_at, last_active_date FROM users"
            )

    async def prepare(self, group: str, *, at_end: bool = False) -> None:
        """Redis and users as at the start, and the group at the topic's."""
        keyspace = open_keyspace(self.settings)
        try:
            await keyspace.everywhere("FLUSHDB", "SYNC")
        finally:
            await keyspace.close()
        await open_fresh(self.settings)
        with psycopg.connect(self.settings.require_postgres()) as connection:
            connection.execute("TRUNCATE users CASCADE")
            connection.execute("INSERT INTO users (id, time_zone, last_event_at, last_active_date) TABLE bench_users")
        with psycopg.connect(self.settings.require_postgres(), autocommit=True) as connection:
            connection.execute("VACUUM ANALYZE users")
        await place(self.settings, group, at_end=at_end)


async def bench_stream(bench: Bench, rounds: int, latency_seconds: float, say: Say) -> StreamBench:
    """On servers that are the bench's own: they are emptied again and again."""
    say(f"{bench.cores}; filling a topic of {bench.settings.partitions} partitions")
    await bench.fill(say)
    group = group_of("stream", bench.settings.topic_prefix)
    sides = [
        _Side("ours", ["-m", "surnia", "worker", "stream"], group, WARM, bench),
        _Side("stock_faust", ["-m", "infra.bench.stream.stock", "PORT"], "bench-stock", _STOCK_WARM, bench),
        _Side("limit", ["-m", "infra.bench.stream.client", "PORT"], "bench-client", WARM, bench),
    ]
    rates = await alternate(rounds, {side.name: side.turn for side in sides}, say)
    found = {side.name: side.figures(rates[side.name]) for side in sides}
    half = found["ours"].events_per_s / 2
    latencies = []
    for rate in (half, found["ours"].events_per_s * _TENTH):
        say(f"latency at {rate:,.0f} events/s")
        async with await sides[0].start_at_end() as running:
            latencies.append(await latency_at(bench.settings, running, rate, latency_seconds))
    return StreamBench(
        cores=str(bench.cores),
        events=bench.events,
        users=USERS,
        partitions=bench.settings.partitions,
        **found,
        ratio_to_stock=ratio(rates, "ours", "stock_faust"),
        ratio_to_limit=ratio(rates, "ours", "limit"),
        peak_rss_mb=found["ours"].peak_rss_mb,
        half_load_per_s=round(half),
        latency_ms=Millis.of(latencies[0]),
        latency_ms_at_tenth=Millis.of(latencies[1]),
    )
