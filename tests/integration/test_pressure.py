"""Scans against a real server that is slow, ends what they read, or has enough of them already."""

from __future__ import annotations

import asyncio
import os
import sys
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime, timedelta

import psycopg
import pytest
from pydantic import SecretStr
from structlog.testing import capture_logs

from batch.plan import Plan, plan
from batch.pressure import Adaptive, DatabasePressure, TooManyTriesError, pressure_status, protected
from batch.pressure.slots import SCANNING
from batch.scan import record, scan
from shared.settings import Settings
from shared.store.databases import Databases
from shared.topics import Topics
from tests.conftest import NOON
from tests.integration.support import TODAY, add_users, sends_in, sql, users_of_shard

START = datetime.fromtimestamp(NOON, UTC)
SHARDS = [3, 4]
ENDED = "the database ended a page; the scan goes on from its checkpoint"


@pytest.fixture
def small(settings: Settings) -> Settings:
    """Pages of ten, which may take a fifth of a second."""
    return settings.model_copy(
        update={"page_size": 10, "scan_timeout_seconds": 0.2, "scans_per_database": 2, "spread_minutes": 0}
    )


@pytest.fixture
async def noon(small: Settings) -> Plan:
    planned = plan(START, START + timedelta(hours=1), small)
    await record(small, planned)
    return planned


@pytest.fixture
def due(small: Settings) -> set[int]:
    users = [user for shard in SHARDS for user in users_of_shard(shard, 25)]
    week_ago = TODAY - timedelta(days=7)
    add_users(small, *({"id": user, "time_zone": "Asia/Dhaka", "last_active_date": week_ago} for user in users))
    return set(users)


@contextmanager
def locked(settings: Settings) -> Iterator[psycopg.Connection]:
    """Nobody can read users until the connection's transaction ends."""
    with psycopg.connect(settings.require_postgres()) as connection:
        connection.execute("LOCK TABLE users")
        yield connection


async def until(condition: Callable[[], Awaitable[bool]], what: str) -> None:
    end = asyncio.get_running_loop().time() + 30
    while not await condition():
        assert asyncio.get_running_loop().time() < end, f"waited in vain for {what}"
        await asyncio.sleep(0.01)


async def sent_once(settings: Settings, due: set[int]) -> bool:
    sends = await sends_in(settings, Topics.of(settings).normal)
    return Counter(send.user_id for send in sends) == Counter(due)


async def test_a_page_that_takes_too_long_is_read_again_smaller_and_nobody_is_missed_or_doubled(
    small: Settings, noon: Plan, due: set[int]
) -> None:
    pages: list[int] = []
    with capture_logs() as logs, ExitStack() as held:

        def lock_after_the_first(rows: int) -> None:
            pages.append(rows)
            if len(pages) == 1:
                held.enter_context(locked(small))

        async def ended_twice() -> bool:
            return [line["event"] for line in logs].count(ENDED) == 2

        scanning = asyncio.create_task(scan(small, noon, SHARDS, lock_after_the_first))
        await until(ended_twice, "two pages that were ended")
        held.close()
        summary = await scanning
    assert (summary.candidates, summary.granted) == (len(due), len(due))
    assert await sent_once(small, due)
    ended = [line for line in logs if line["event"] == ENDED]
    assert [line["tries"] for line in ended] == [1, 2]
    assert "statement timeout" in ended[0]["error"]
    assert ended[0]["pause_seconds"] < ended[1]["pause_seconds"]


@pytest.mark.parametrize("function", ["pg_cancel_backend", "pg_terminate_backend"])
async def test_a_scan_that_somebody_ends_in_the_database_goes_on_from_its_checkpoint(
    small: Settings, noon: Plan, due: set[int], function: str
) -> None:
    patient = small.model_copy(update={"scan_timeout_seconds": 30.0})
    waiting = "SELECT pid FROM pg_stat_activity WHERE application_name = 'surnia scan' AND wait_event_type = 'Lock'"
    pages: list[int] = []
    with capture_logs() as logs, ExitStack() as held:

        def lock_after_the_second(rows: int) -> None:
            pages.append(rows)
            if len(pages) == 2:
                held.enter_context(locked(small))

        async def waits() -> bool:
            return bool(sql(small, waiting))

        scanning = asyncio.create_task(scan(patient, noon, SHARDS, lock_after_the_second))
        await until(waits, "the scan to wait for the lock")
        ((pid,),) = sql(small, waiting)
        sql(small, f"SELECT {function}(%s)", pid)
        held.close()
        await scanning
    assert await sent_once(small, due)
    assert [line["event"] for line in logs].count(ENDED) == 1
    assert sql(small, "SELECT count(*) FROM scan_checkpoints WHERE done") == [(2,)]


async def test_a_database_that_ends_every_page_makes_the_scan_fail_and_the_next_one_finishes_it(
    small: Settings, noon: Plan, due: set[int]
) -> None:
    """For Airflow to try again later."""
    quick = small.model_copy(update={"scan_timeout_seconds": 0.1})
    with capture_logs() as logs, locked(small), pytest.raises(TooManyTriesError, match="6 times in a row") as raised:
        await scan(quick, noon, SHARDS)
    assert "SURNIA_SCANS_PER_DATABASE" in str(raised.value)
    assert [line["tries"] for line in logs if line["event"] == ENDED] == [1, 2, 3, 4, 5, 6]
    await scan(small, noon, SHARDS)
    assert await sent_once(small, due)


async def test_a_main_database_that_goes_away_is_no_matter_of_pressure(small: Settings) -> None:
    """Its errors end the scan at once, as ever."""
    tries: list[int] = []

    async def work(*_: object) -> None:
        tries.append(1)
        raise psycopg.errors.AdminShutdown("the main database went away")

    with pytest.raises(psycopg.errors.AdminShutdown):
        await protected(small, Databases.of(small)[0], work)
    assert len(tries) == 1


async def test_a_wrong_address_ends_the_scan_at_once(small: Settings) -> None:
    nowhere = small.model_copy(update={"postgres_url": SecretStr("postgresql://surnia@127.0.0.1:1/surnia")})

    async def work(*_: object) -> None:
        raise AssertionError("nothing to work with")

    with pytest.raises(psycopg.OperationalError):
        await protected(nowhere, Databases.of(nowhere)[0], work)


async def test_what_scans_read_with_can_write_nothing(small: Settings) -> None:
    async def work(connection: psycopg.AsyncConnection[object], _: object) -> None:
        await connection.execute("UPDATE users SET streak = 0")

    with pytest.raises(psycopg.errors.ReadOnlySqlTransaction):
        await protected(small, Databases.of(small)[0], work)


async def now(settings: Settings) -> DatabasePressure:
    (found,) = await pressure_status(settings)
    return found


async def test_no_more_than_k_scans_read_a_database_whatever_processes_they_are_in(
    small: Settings, environment: dict[str, str]
) -> None:
    own = os.environ | environment | {"SURNIA_SCANS_PER_DATABASE": "2"}
    command = [sys.executable, "-m", "tests.integration.slot_holder"]
    holders = [await asyncio.create_subprocess_exec(*command, env=own, stdin=asyncio.subprocess.PIPE) for _ in range(4)]
    running = "SELECT pid FROM pg_locks WHERE classid::bigint = %s AND objsubid = 2 AND granted"

    async def settled(running: int, waiting: int) -> bool:
        found = await now(small)
        assert found.running <= 2
        return (found.running, found.waiting) == (running, waiting)

    try:
        await until(lambda: settled(2, 2), "two that have their turn and two that wait")
        # Whose session ends leaves the place at once; who waits takes it.
        sql(small, "SELECT pg_terminate_backend(%s)", sql(small, running, SCANNING)[0][0])
        await until(lambda: settled(2, 1), "another to take the place of the one that was ended")
    finally:
        for holder in holders:
            holder.kill()
            await holder.wait()
    await until(lambda: settled(0, 0), "nobody to be left of those who were killed")


async def test_status_tells_of_a_long_transaction_and_of_a_database_that_does_not_answer(small: Settings) -> None:
    with psycopg.connect(small.require_postgres()) as connection:
        connection.execute("SELECT 1")

        async def seen() -> bool:
            return (await now(small)).longest_transaction_seconds >= 0.1

        await until(seen, "the transaction to be seen")
    found = await now(small)
    assert (found.name, found.shards, found.limit, found.replica, found.lag_seconds) == (
        "main",
        "0-255",
        2,
        False,
        None,
    )
    nowhere = small.model_copy(update={"postgres_url": SecretStr("postgresql://surnia:secret@127.0.0.1:1/surnia")})
    troubled = await now(nowhere)
    assert troubled.trouble and "secret" not in troubled.trouble and not troubled.running


async def test_a_scan_that_has_nothing_to_read_for_a_while_leaves_its_turn_to_others(small: Settings) -> None:
    alone = small.model_copy(update={"scans_per_database": 1})
    database = Databases.of(alone)[0]
    order: list[str] = []
    go_on = asyncio.Event()

    async def sleep(seconds: float) -> None:
        if seconds == 3600.0:
            await go_on.wait()
        else:
            await asyncio.sleep(seconds / 10)

    async def hourly(_: object, pace: Adaptive) -> None:
        await pace.page_size()
        order.append("hourly")
        await pace.report(0.01, 10)
        await pace.idle(3600.0)
        await pace.page_size()
        order.append("hourly")

    async def other(_: object, pace: Adaptive) -> None:
        await pace.page_size()
        order.append("other")
        assert (await now(alone)).running == 1
        go_on.set()
        await until(waiting, "the other one to wait")
        order.append("other")

    async def waiting() -> bool:
        return bool((await now(alone)).waiting)

    async def begun() -> bool:
        return bool(order)

    first = asyncio.create_task(protected(alone, database, hourly, sleep))
    await until(begun, "the first page")
    await asyncio.wait_for(asyncio.gather(first, protected(alone, database, other, sleep)), 30)
    assert order == ["hourly", "other", "other", "hourly"]


async def test_who_has_read_for_a_slice_lets_those_go_first_who_wait(
    small: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("batch.pressure.slots.SLICE", 0.1)
    alone = small.model_copy(update={"scans_per_database": 1})
    database = Databases.of(alone)[0]
    ended: list[str] = []

    async def long(_: object, pace: Adaptive) -> None:
        while ended != ["short"]:
            await pace.page_size()
            await pace.report(0.01, 10)
            await asyncio.sleep(0.005)
        ended.append("long")

    async def short(_: object, pace: Adaptive) -> None:
        await pace.page_size()
        ended.append("short")

    async def running() -> bool:
        return bool((await now(alone)).running)

    with capture_logs() as logs:
        reading = asyncio.create_task(protected(alone, database, long))
        await until(running, "the long one to have its turn")
        await asyncio.wait_for(asyncio.gather(reading, protected(alone, database, short)), 30)
    assert ended == ["short", "long"]
    waits = [line["event"] for line in logs].count("the scan waits for its turn: others read this database")
    assert waits == 2, "once each"
