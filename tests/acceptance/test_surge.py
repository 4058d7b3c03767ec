"""Ten times the normal load at once, every event sent ten times, on the real stack."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from contextlib import closing

import psycopg
import pytest
from redis import Redis

from infra.bench.stream.topic import Writer
from shared.clock import FileClock
from shared.policy.window import QuietHours
from shared.producer import Record
from shared.settings import Settings
from tests.acceptance.conftest import Engine, wait_for
from tests.acceptance.surge import Backlog, Population, due_index, practised, records
from tests.conftest import NOON
from tests.integration.support import HOUR, TODAY, YESTERDAY, sql, token_of

CROWD, FEW = 10_000, 50
GROWS_MB = 100
"""By so much may a worker's memory grow: the backlog below would take 157 MB as aiokafka's records."""


@pytest.fixture
def backlog(settings: Settings) -> Iterator[Backlog]:
    with closing(Backlog(settings)) as found:
        yield found


def write(settings: Settings, written: list[Record]) -> None:
    async def all_of_it() -> None:
        async with Writer(settings) as writer:
            await writer.fill(written, lambda _: None)

    asyncio.run(all_of_it())


def drain(engine: Engine, backlog: Backlog, what: str) -> float:
    """Wait for the backlog to be gone; the most memory that the stream worker was seen to take."""
    peak = 0.0

    def gone() -> bool:
        nonlocal peak
        peak = max(peak, engine.memory_mb("stream"))
        return backlog.lag() == 0

    wait_for(gone, what)
    return peak


def waits_for_a_lock(settings: Settings) -> bool:
    return bool(sql(settings, "SELECT 1 FROM pg_locks WHERE NOT granted"))


def planned(settings: Settings, kind: int) -> set[int]:
    return {user for (user,) in sql(settings, "SELECT unnest(users) FROM planned WHERE kind = %s", kind)}


def test_a_backlog_drains_with_nothing_lost_nothing_twice_and_nobody_reminded_who_practised_meanwhile(
    engine: Engine, clock: FileClock, backlog: Backlog
) -> None:
    settings, people = engine.settings, Population.of(CROWD, FEW)
    people.insert(settings)
    normal, surge = records(settings, people.normal()), records(settings, people.surge())
    late, silent, leaving = ({user.id for user in some} for some in (people.late, people.silent, people.leaving))
    # Sends shall lie on their lane until the backlog is gone.
    engine.stop("delivery")
    write(settings, normal)
    before = drain(engine, backlog, "the normal load to be handled")

    # The database holds the worker up, so that a backlog there is, and reminders become due before it is read.
    with psycopg.connect(settings.require_postgres()) as lock, Redis.from_url(settings.require_redis()) as redis:
        lock.execute("SELECT FROM users WHERE id = %s FOR UPDATE", (people.first.id,))
        engine.produce(NOON, people.first.id, {"type": "app_opened", "time_zone": "UTC"})
        wait_for(lambda: waits_for_a_lock(settings), "the write-back to wait", 15)
        write(settings, surge)
        grown = backlog.lag()
        assert grown > len(surge)
        clock.set(NOON + HOUR)
        wait_for(lambda: planned(settings, 0) >= late | silent, "the reminders to be planned")
        assert not practised(redis, settings, people.late, TODAY)
        lock.rollback()
        began = time.monotonic()
        peak = drain(engine, backlog, "the backlog to be handled")
        took = time.monotonic() - began
        print(
            f"{len(normal):,} events, then {len(surge):,}; lag {grown:,}, then 0 after {took:.1f} s "
            f"({grown / took:,.0f}/s); memory {before:.0f} MB, at most {peak:.0f} MB"
        )
        assert peak < before + GROWS_MB

        # As one delivery of each event would have left it.
        rows = sql(settings, "SELECT id, streak, last_practice_date, last_active_date FROM users")
        assert set(rows) == people.rows()
        practising = {user.id for user in people.practising}
        assert practised(redis, settings, people.everybody, TODAY) == practising
        assert practised(redis, settings, people.everybody, YESTERDAY) == {user.id for user in people.everybody}
        wait_for(lambda: planned(settings, 2) >= leaving, "the abandoned lessons to be planned")
        expected = people.due(QuietHours.of(settings))
        wait_for(lambda: due_index(redis) == expected, "the due index to be as it must")

    # Delivery asks the gate last.
    engine.start("delivery")
    found = engine.audit(f"{TODAY}")
    assert found["holds"], found
    accounts = {account["kind"]: account for account in found["accounts"]}
    assert accounts["practice"]["granted"] == len(late) + len(silent)
    assert accounts["practice"]["delivered"] == len(silent)
    assert accounts["practice"]["dropped"] == {"practised": len(late)}
    shown = {
        user.id: [push["kind"] for push in engine.simulator.pushes(token_of(user.id))] for user in people.with_devices
    }
    assert all(shown[user] == [] for user in late)
    assert all(shown[user] == ["practice"] for user in silent)
    assert all(shown[user] == ["abandoned_lesson"] for user in leaving)
