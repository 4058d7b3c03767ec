"""The accounting equation of a local date, from counts that do not know of one another.

granted     the gate's tallies: each claim counted once, inside the script that made it
outcomes    the ledger, one row a candidate
scans       the batch path's checkpoints
lag         what the delivery and ledger groups have not read yet: while there is any, sends may be in flight
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Iterator
from datetime import date

import msgspec
import psycopg

from shared.gate import RedisGate
from shared.identity import SHARDS
from shared.lag import LagReader
from shared.policy.kinds import KIND_BY_CODE, Path
from shared.settings import Settings
from shared.topics import Topics
from shared.wire.sends import Result

_LOOK_AGAIN_SECONDS = 0.25


class Account(msgspec.Struct):
    """One path and kind on one local date. Granted without an outcome: `in_flight` while messages are under way or
    it was claimed while we looked, else `lost`."""

    path: str
    kind: str
    candidates: int
    granted: int
    denied: dict[str, int]
    delivered: int
    expired: int
    failed: dict[str, int]
    dropped: dict[str, int]
    in_flight: int
    lost: int

    @property
    def outcomes(self) -> int:
        return self.delivered + self.expired + sum(self.failed.values()) + sum(self.dropped.values())


class Audit(msgspec.Struct):
    """What `surnia audit` found. `problems` names every place where two counts part; empty when all hold."""

    local_date: date
    accounts: list[Account]
    lag: int
    unfinished_scans: list[str]
    """Runs that are under way or were cut off: their checkpoints are behind the ledger, and are not compared."""
    problems: list[str]

    @property
    def holds(self) -> bool:
        return not self.problems


Key = tuple[Path, str]


async def audit(settings: Settings, day: date, patience: float = 5.0) -> Audit:
    """Compare the counts of one local date, while the engine runs or not.

    A claim is made a moment before its message is written: what looks lost is looked at again for `patience` seconds.
    """
    topics = Topics.of(settings)
    reads = {"delivery": (topics.urgent, topics.normal, topics.blast), "ledger": (topics.outcomes,)}
    gate = RedisGate.connect(settings)
    try:
        before = await gate.granted(day)
        async with (
            LagReader(settings, reads) as lags,
            await psycopg.AsyncConnection.connect(settings.require_postgres(), autocommit=True) as connection,
        ):
            deadline = time.monotonic() + patience
            while True:
                # In the order in which work flows: what had been claimed before has arrived, or is lag, or is lost.
                lag = sum([await lags.read(role) for role in reads])
                ledger = await _ledger(connection, day)
                unfinished = await _unfinished(connection, day)
                scanned = await _scanned(connection, day)
                found = compare(day, before, await gate.granted(day), ledger, scanned, lag, unfinished)
                if not any(account.lost for account in found.accounts) or time.monotonic() > deadline:
                    return found
                await asyncio.sleep(_LOOK_AGAIN_SECONDS)
    finally:
        await gate.close()


def compare(
    day: date,
    before: dict[Key, int],
    granted: dict[Key, int],
    ledger: dict[Key, Counter[tuple[Result, str]]],
    scanned: Counter[str],
    lag: int,
    unfinished: list[str],
) -> Audit:
    """The equation for every path and kind; pure."""
    accounts = [
        _account(key, before.get(key, 0), granted.get(key, 0), ledger.get(key, Counter()), lag)
        for key in sorted(set(granted) | set(ledger))
    ]
    problems = [problem for account in accounts for problem in _problems(account)]
    if not unfinished:
        problems += _scan_problems([account for account in accounts if account.path == Path.batch.name], scanned, lag)
    return Audit(day, accounts, lag, unfinished, problems)


def _account(key: Key, before: int, granted: int, rows: Counter[tuple[Result, str]], lag: int) -> Account:
    def reasons(result: Result) -> dict[str, int]:
        return {reason: n for (found, reason), n in sorted(rows.items()) if found is result}

    denied = reasons(Result.denied)
    account = Account(
        path=key[0].name,
        kind=key[1],
        candidates=granted + sum(denied.values()),
        granted=granted,
        denied=denied,
        delivered=sum(reasons(Result.delivered).values()),
        expired=sum(reasons(Result.expired).values()),
        failed=reasons(Result.failed),
        dropped=reasons(Result.dropped),
        in_flight=0,
        lost=0,
    )
    account.lost = 0 if lag else max(0, before - account.outcomes)
    account.in_flight = max(0, granted - account.outcomes - account.lost)
    return account


def _problems(account: Account) -> Iterator[str]:
    name = f"{account.path} {account.kind}"
    if account.lost:
        yield f"{name}: {account.lost} granted sends have no outcome, and nothing is left in Kafka"
    if account.outcomes > account.granted:
        yield f"{name}: the ledger has {account.outcomes} outcomes for {account.granted} claims that the gate granted"


def _scan_problems(batch: list[Account], scanned: Counter[str], lag: int) -> list[str]:
    """The batch path's own count against the gate's and the ledger's."""
    problems = []
    granted = sum(account.granted for account in batch)
    if scanned["granted"] > granted:
        problems.append(f"batch: the scans counted {scanned['granted']} granted, the gate {granted}")
    denied: Counter[str] = Counter()
    for account in batch:
        denied.update(account.denied)
    return problems + [
        f"batch: the scans denied {scanned[reason]} for {reason}, the ledger has {denied[reason]}"
        for reason in sorted((set(scanned) | set(denied)) - {"granted"})
        # While messages are under way the ledger may be behind the scans, never ahead of them.
        if denied[reason] != scanned[reason] and not (lag and denied[reason] < scanned[reason])
    ]


async def _ledger(
    connection: psycopg.AsyncConnection[tuple[object, ...]], day: date
) -> dict[Key, Counter[tuple[Result, str]]]:
    cursor = await connection.execute(
        "SELECT path, kind, result, reason, count(*) FROM ledger WHERE local_date = %s GROUP BY 1, 2, 3, 4", (day,)
    )
    found: dict[Key, Counter[tuple[Result, str]]] = {}
    for row in await cursor.fetchall():
        path, kind, result, reason, n = msgspec.convert(row, tuple[int, int, int, str, int])
        found.setdefault((Path(path), KIND_BY_CODE[kind].name), Counter())[Result(result), reason] = n
    return found


async def _unfinished(connection: psycopg.AsyncConnection[tuple[object, ...]], day: date) -> list[str]:
    """Runs with slots of a local date that have begun and not come to the end of every shard."""
    cursor = await connection.execute(
        "SELECT run_id FROM scan_runs r JOIN scan_checkpoints c USING (run_id) WHERE EXISTS "
        "(SELECT FROM jsonb_array_elements(r.slots) AS slot WHERE slot ->> 1 = %s) "
        "GROUP BY run_id HAVING count(*) FILTER (WHERE c.done) < %s ORDER BY run_id",
        (day.isoformat(), SHARDS),
    )
    return [str(run_id) for (run_id,) in await cursor.fetchall()]


async def _scanned(connection: psycopg.AsyncConnection[tuple[object, ...]], day: date) -> Counter[str]:
    """What the scans counted for a local date, over all runs, by answer."""
    cursor = await connection.execute(
        "SELECT c.item ->> 1, sum((c.item ->> 2)::bigint)::bigint FROM scan_checkpoints, "
        "jsonb_array_elements(counts) AS c(item) WHERE c.item ->> 0 = %s GROUP BY 1",
        (day.isoformat(),),
    )
    rows = [msgspec.convert(row, tuple[str, int]) for row in await cursor.fetchall()]
    return Counter(dict(rows))
