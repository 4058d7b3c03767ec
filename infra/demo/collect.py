"""The finished demo's numbers: the ledger and the gate on one side, the simulator as a witness on the other."""

from __future__ import annotations

from collections import Counter
from datetime import date, datetime, timedelta

import msgspec
import psycopg

from batch.audit import Account, Audit, audit
from batch.users.load import LoadCounts
from infra.demo.drive import State
from infra.demo.report.data import (
    DenialRow,
    DeviceCounts,
    HourRow,
    Latency,
    LatencyBin,
    LocalHourRow,
    OutcomeRow,
    Series,
    Summary,
    ZoneRow,
)
from infra.demo.world import World
from shared.clock import utc
from shared.policy.kinds import KIND_BY_CODE, KINDS, Path
from shared.policy.localtime import local_time
from shared.topics import Topics, count_messages
from shared.wire.sends import Result

_DELIVERED = int(Result.delivered)
_BINS_MS = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10_000)

Connection = psycopg.AsyncConnection[tuple[object, ...]]


async def collect(
    world: World, start: float, state: State, loaded: LoadCounts, seconds: float, setup_seconds: float
) -> tuple[Summary, Series]:
    """Count everything once more, from the stores, when the day is over."""
    audits = [await audit(world.settings, day) for day in local_dates(start, state.end)]
    stats = world.simulator.stats()
    dead = await count_messages(world.settings, Topics.of(world.settings).dead_letters)
    async with await psycopg.AsyncConnection.connect(world.settings.require_postgres()) as connection:
        latency = await _latency(connection)
        series = await _series(connection, audits, start)
    accounts = [account for one in audits for account in one.accounts]
    problems = [f"{one.local_date}: {problem}" for one in audits for problem in one.problems]
    problems += _witness_problems(accounts, stats)
    denied: Counter[str] = Counter()
    for account in accounts:
        denied.update(account.denied)
    summary = Summary(
        users=loaded.users,
        active=loaded.active,
        silent=loaded.silent,
        events=state.events,
        dead_letters=dead,
        candidates=sum(account.candidates for account in accounts),
        granted=sum(account.granted for account in accounts),
        denied=dict(denied.most_common()),
        delivered=sum(account.delivered for account in accounts),
        expired=sum(account.expired for account in accounts),
        failed=sum(sum(account.failed.values()) for account in accounts),
        dropped=sum(sum(account.dropped.values()) for account in accounts),
        in_flight=sum(account.in_flight for account in accounts),
        by_path={path.name: sum(a.delivered for a in accounts if a.path == path.name) for path in Path},
        by_kind={kind: sum(a.delivered for a in accounts if a.kind == kind) for kind in KINDS},
        devices=DeviceCounts(
            shown_twice=stats["shown_twice"], outside_window=stats["outside_window"], accepted=stats["accepted"]
        ),
        lost=sum(account.lost for account in accounts),
        latency_ms=latency,
        seconds=round(seconds, 1),
        setup_seconds=round(setup_seconds, 1),
        simulated_hours=round((state.end - start) / 3600),
        started_at=utc(start).isoformat(),
        audit_holds=not problems,
        problems=problems,
    )
    return summary, series


def _witness_problems(accounts: list[Account], stats: dict[str, object]) -> list[str]:
    """What the providers saw against what the ledger says: sends that some device accepted."""
    delivered, seen = sum(account.delivered for account in accounts), stats["distinct_sends"]
    problems = []
    if delivered != seen:
        problems.append(f"the ledger has {delivered} delivered sends, the provider simulator accepted {seen}")
    counted = [name for name in ("shown_twice", "outside_window") if stats[name]]
    return problems + [f"the provider simulator counted {name} = {stats[name]}" for name in counted]


async def _latency(connection: Connection) -> Latency:
    """Of the provider's answers, in milliseconds of real time."""
    cursor = await connection.execute(
        "SELECT coalesce(percentile_cont(0.5) WITHIN GROUP (ORDER BY latency), 0) * 1000, "
        "coalesce(percentile_cont(0.99) WITHIN GROUP (ORDER BY latency), 0) * 1000 FROM ledger WHERE result = %s",
        (_DELIVERED,),
    )
    p50, p99 = msgspec.convert(await cursor.fetchone(), tuple[float, float])
    return Latency(p50=round(p50, 1), p99=round(p99, 1))


async def _series(connection: Connection, audits: list[Audit], start: float) -> Series:
    hours: Counter[tuple[str, str, str]] = Counter()
    zones: Counter[tuple[str, str]] = Counter()
    cells: Counter[tuple[float, int]] = Counter()
    cursor = await connection.execute(
        "SELECT date_trunc('hour', decided_at - interval '1 microsecond', 'UTC') AT TIME ZONE 'UTC', path, kind, "
        "coalesce(u.time_zone, 'deleted'), count(*) "
        "FROM ledger l LEFT JOIN users u ON u.id = l.user_id WHERE result = %s GROUP BY 1, 2, 3, 4",
        (_DELIVERED,),
    )
    for hour, path, kind, zone, n in msgspec.convert(
        await cursor.fetchall(), list[tuple[datetime, int, int, str, int]]
    ):
        hours[f"{hour:%Y-%m-%dT%H:00:00+00:00}", Path(path).name, KIND_BY_CODE[kind].name] += n
        if zone != "deleted":
            zones[zone, Path(path).name] += n
            cells[_offset(zone, start), hour.hour] += n
    bins = await _latency_bins(connection)
    denials: Counter[tuple[str, str]] = Counter()
    outcomes: Counter[tuple[str, str, str, str]] = Counter()
    for account in (account for one in audits for account in one.accounts):
        parts = {
            "denied": account.denied,
            "delivered": {"accepted": account.delivered},
            "expired": {"expired": account.expired},
            "failed": account.failed,
            "dropped": account.dropped,
        }
        for result, reasons in parts.items():
            for reason, n in reasons.items():
                if n:
                    outcomes[account.path, account.kind, result, reason] += n
                if result == "denied":
                    denials[account.path, reason] += n
    return Series(
        sends_by_hour=[HourRow(hour=h, path=p, kind=k, n=n) for (h, p, k), n in sorted(hours.items())],
        by_zone=[
            ZoneRow(time_zone=z, utc_offset_hours=_offset(z, start), path=p, n=n) for (z, p), n in zones.most_common()
        ],
        by_local_hour=[LocalHourRow(utc_offset_hours=o, utc_hour=h, n=n) for (o, h), n in sorted(cells.items())],
        denials=[DenialRow(path=p, reason=r, n=n) for (p, r), n in denials.most_common()],
        latency=bins,
        outcomes=[
            OutcomeRow(path=p, kind=k, result=r, reason=why, n=n) for (p, k, r, why), n in sorted(outcomes.items())
        ],
    )


def _offset(zone: str, instant: float) -> float:
    offset = local_time(instant, zone).utcoffset()
    return offset.total_seconds() / 3600 if offset else 0.0


async def _latency_bins(connection: Connection) -> list[LatencyBin]:
    cursor = await connection.execute(
        "SELECT width_bucket(latency * 1000, %s::float8[]), count(*) FROM ledger WHERE result = %s GROUP BY 1",
        ([float(edge) for edge in _BINS_MS], _DELIVERED),
    )
    found = dict([msgspec.convert(row, tuple[int, int]) for row in await cursor.fetchall()])
    return [LatencyBin(upper_ms=float(edge), n=found.get(n, 0)) for n, edge in enumerate(_BINS_MS)]


def local_dates(start: float, end: float) -> list[date]:
    """Every local date that some user lives in between two instants."""
    first, last = utc(start - 86_400).date(), utc(end + 86_400).date()
    return [first + timedelta(days=n) for n in range((last - first).days + 1)]
