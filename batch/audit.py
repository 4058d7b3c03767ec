"""The accounting equation of a local date, from counts that do not know of one another.

granted     the gate's tallies: each claim counted once, inside the script that made it
outcomes    the ledger, one row a candidate
scans       the batch path's checkpoints
lag         what the delivery and ledger groups have not read yet: while there is any, sends may be in flight
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from datetime import date

import msgspec
import psycopg

from shared.gate import RedisGate
from shared.lag import group_lag
from shared.policy.kinds import KIND_BY_CODE, Path
from shared.settings import Settings
from shared.topics import Topics
from shared.wire.sends import Result

GROUPS = ("delivery", "ledger")


class Account(msgspec.Struct):
    """One path and kind on one local date. `in_flight`: granted, no outcome yet, and Kafka still has messages."""

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
    problems: list[str]

    @property
    def holds(self) -> bool:
        return not self.problems


Key = tuple[Path, str]


async def audit(settings: Settings, day: date) -> Audit:
    """Compare the counts of one local date."""
    # The lag first: an outcome that is written after we looked makes the later counts larger, never smaller.
    topics = Topics.of(settings)
    lag = sum((await group_lag(settings, {
        "delivery": (topics.urgent, topics.normal, topics.blast),
        "ledger": (topics.outcomes,),
    })).values())  # fmt: skip
    gate = RedisGate.connect(settings)
    try:
        granted = await gate.granted(day)
    finally:
        await gate.close()
    async with await psycopg.AsyncConnection.connect(settings.require_postgres()) as connection:
        ledger = await _ledger(connection, day)
        scanned = await _scanned(connection, day)
    return compare(day, granted, ledger, scanned, lag)


def compare(
    day: date,
    granted: dict[Key, int],
    ledger: dict[Key, Counter[tuple[Result, str]]],
    scanned: Counter[str],
    lag: int,
) -> Audit:
    """The equation for every path and kind; pure."""
    accounts = [
        _account(key, granted.get(key, 0), ledger.get(key, Counter()), lag)
        for key in sorted(set(granted) | set(ledger))
    ]
    problems = [problem for account in accounts for problem in _problems(account)]
    problems += _scan_problems([account for account in accounts if account.path == Path.batch.name], scanned, lag)
    return Audit(day, accounts, lag, problems)


def _account(key: Key, granted: int, rows: Counter[tuple[Result, str]], lag: int) -> Account:
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
    missing = max(0, granted - account.outcomes)
    account.in_flight, account.lost = (missing, 0) if lag else (0, missing)
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


async def _scanned(connection: psycopg.AsyncConnection[tuple[object, ...]], day: date) -> Counter[str]:
    """What the scans counted for a local date, over all runs, by answer."""
    cursor = await connection.execute(
        "SELECT c.item ->> 1, sum((c.item ->> 2)::bigint)::bigint FROM scan_checkpoints, "
        "jsonb_array_elements(counts) AS c(item) WHERE c.item ->> 0 = %s GROUP BY 1",
        (day.isoformat(),),
    )
    rows = [msgspec.convert(row, tuple[str, int]) for row in await cursor.fetchall()]
    return Counter(dict(rows))
