"""Scans that read a replica: how far it is behind, and what its own recovery ends."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest
from pydantic import SecretStr
from structlog.testing import capture_logs

from batch.plan import plan
from batch.pressure import pressure_status, protected
from batch.scan import record, scan
from shared.identity import SHARDS
from shared.settings import Settings
from shared.store.addresses import read_addresses
from shared.store.databases import Database, Databases
from shared.topics import Topics
from tests.conftest import NOON
from tests.integration.replicas import Pair, primary_and_replica
from tests.integration.support import TODAY, add_users, sends_in, users_of_shard


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    with primary_and_replica(tmp_path_factory.mktemp("replica") / "servers") as pair:
        yield pair


@pytest.fixture
def replicated(settings: Settings, pair: Pair) -> Settings:
    """The main database is the primary, and scans read its replica."""
    entry = {"name": "eu1", "shards": "0-255", "url": pair.primary, "replica": pair.replica}
    return settings.model_copy(
        update={
            "postgres_url": SecretStr(pair.primary),
            "databases": read_addresses(json.dumps([entry])),
            "scan_lag_seconds": 0.5,
            "spread_minutes": 0,
        }
    )


def only(settings: Settings) -> Database:
    (database,) = Databases.of(settings)
    return database


def ask(url: str, statement: str) -> Any:
    with psycopg.connect(url, autocommit=True) as connection:
        cursor = connection.execute(statement)
        return (cursor.fetchone() or (None,))[0] if cursor.description else None


async def caught_up(pair: Pair) -> None:
    written = ask(pair.primary, "SELECT pg_current_wal_lsn()")
    for _ in range(3000):
        if ask(pair.replica, f"SELECT pg_last_wal_replay_lsn() >= '{written}'::pg_lsn"):
            return
        await asyncio.sleep(0.01)
    raise AssertionError("the replica does not come along")


async def test_status_knows_how_far_the_replica_is_behind_and_that_an_idle_one_is_not(
    replicated: Settings, pair: Pair
) -> None:
    await caught_up(pair)
    (calm,) = await pressure_status(replicated)
    assert (calm.name, calm.replica, calm.lag_seconds, calm.trouble) == ("eu1", True, 0.0, "")
    ask(pair.replica, "SELECT pg_wal_replay_pause()")
    try:
        ask(pair.primary, "CREATE TABLE IF NOT EXISTS something (n int)")
        ask(pair.primary, "INSERT INTO something VALUES (1)")
        (behind,) = await pressure_status(replicated)
        assert behind.lag_seconds is not None
        assert behind.lag_seconds > 0
    finally:
        ask(pair.replica, "SELECT pg_wal_replay_resume()")
    await caught_up(pair)
    (calm,) = await pressure_status(replicated)
    assert calm.lag_seconds == 0.0


async def test_a_scan_slows_down_while_the_replica_is_behind(replicated: Settings, pair: Pair) -> None:
    await caught_up(pair)

    async def work(_: object, pace: Any) -> int:
        full = await pace.page_size()
        ask(pair.replica, "SELECT pg_wal_replay_pause()")
        ask(pair.primary, "CREATE TABLE IF NOT EXISTS something (n int)")
        while (size := await pace.page_size()) >= full:
            ask(pair.primary, "INSERT INTO something VALUES (1)")
            await asyncio.sleep(0.02)
        return int(size)

    with capture_logs() as logs:
        try:
            await asyncio.wait_for(protected(replicated, only(replicated), work), 60)
        finally:
            ask(pair.replica, "SELECT pg_wal_replay_resume()")
    (line,) = [line for line in logs if line["event"] == "the scan slows down"]
    assert (line["why"], line["database"]) == ("the replica is behind", "eu1")
    assert line["lag_seconds"] > 0.5


async def test_what_the_replicas_recovery_ends_is_read_again(replicated: Settings, pair: Pair) -> None:
    """It replays a lock of the primary that what the scan reads is in the way of."""
    await caught_up(pair)
    tries: list[int] = []

    async def work(connection: Any, _: object) -> str:
        tries.append(1)
        (status,) = await pressure_status(replicated)
        assert status.running == 1, "its turn is a lock of the replica"
        if len(tries) == 1:
            reading = asyncio.create_task(connection.execute("SELECT count(*), pg_sleep(60) FROM users"))
            await asyncio.to_thread(ask, pair.primary, "ALTER TABLE users ALTER COLUMN country SET STATISTICS 50")
            await asyncio.to_thread(ask, pair.primary, "VACUUM FULL users")
            await reading
        return "done"

    patient = replicated.model_copy(update={"scan_timeout_seconds": 60.0})
    with capture_logs() as logs:
        assert await asyncio.wait_for(protected(patient, only(patient), work), 60) == "done"
    (line,) = [line for line in logs if "goes on from its checkpoint" in line["event"]]
    assert "conflict with recovery" in line["error"]
    assert len(tries) == 2


async def test_a_scan_reads_the_replica_and_writes_to_the_primary(replicated: Settings, pair: Pair) -> None:
    users = [user for shard in (3, 200) for user in users_of_shard(shard, 5)]
    week_ago = TODAY - timedelta(days=7)
    add_users(replicated, *({"id": user, "time_zone": "Asia/Dhaka", "last_active_date": week_ago} for user in users))
    await caught_up(pair)
    start = datetime.fromtimestamp(NOON, UTC)
    planned = plan(start, start + timedelta(hours=1), replicated)
    await record(replicated, planned)
    summary = await scan(replicated, planned, range(SHARDS))
    assert summary.granted == len(users)
    assert {send.user_id for send in await sends_in(replicated, Topics.of(replicated).normal)} == set(users)
    assert ask(pair.primary, "SELECT count(*) FROM scan_checkpoints WHERE done") == SHARDS
