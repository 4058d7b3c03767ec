"""The database: its migrations, the shard in SQL, the ledger's partitions."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack
from datetime import date
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psycopg
import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from psycopg import sql as names
from sqlalchemy import create_engine
from sqlalchemy.exc import ProgrammingError

from shared.identity import MAX_USER_ID, SHARDS, shard_of
from shared.settings import Settings
from shared.store.migrate import sqlalchemy_url, upgrade
from shared.store.partitions import Connection, Partitioned, Partitions, ensure_partition
from shared.store.tables import metadata
from tests.integration.support import sql

NewDatabase = Callable[[str], str]


@pytest.fixture
def new_database(addresses: dict[str, str]) -> Iterator[NewDatabase]:
    """Makes empty databases, and removes them in the end."""
    made = []
    with psycopg.connect(addresses["postgres_url"], autocommit=True) as connection:

        def make(name: str) -> str:
            connection.execute(names.SQL("CREATE DATABASE {}").format(names.Identifier(name)))
            made.append(name)
            return urlsplit(addresses["postgres_url"])._replace(path=f"/{name}").geturl()

        yield make
        for name in made:
            connection.execute(names.SQL("DROP DATABASE {} WITH (FORCE)").format(names.Identifier(name)))


def columns(url: str) -> list[tuple[Any, ...]]:
    with psycopg.connect(url) as connection:
        return connection.execute(
            "SELECT table_name, column_name, data_type, column_default FROM information_schema.columns "
            "WHERE table_schema = 'public' ORDER BY 1, 2"
        ).fetchall()


def test_migrating_again_changes_nothing(new_database: NewDatabase) -> None:
    url = new_database("migrated_twice")
    upgrade(url)
    before = columns(url)
    assert {"users", "devices", "ledger", "scan_runs", "planned", "outbox"} <= {row[0] for row in before}
    upgrade(url)
    assert columns(url) == before


def test_those_who_migrate_at_once_wait_for_one_another(new_database: NewDatabase) -> None:
    """A deployment starts several processes, and each of them may migrate first."""
    url = new_database("migrated_at_once")
    with ThreadPoolExecutor(3) as threads:
        list(threads.map(upgrade, [url] * 3))
    with psycopg.connect(url) as connection:
        assert len(connection.execute("SELECT version_num FROM alembic_version").fetchall()) == 1
        assert connection.execute("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'").fetchone() == (0,)


def test_fcm_tokens_come_to_devices_that_are_there_without_rewriting_them(new_database: NewDatabase) -> None:
    url = new_database("migrated_with_devices")
    upgrade(url, "003")
    file = "SELECT pg_relation_filenode('devices')"
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("INSERT INTO users (id, time_zone) SELECT n, 'UTC' FROM generate_series(1, 5000) AS n")
        connection.execute(
            "INSERT INTO devices (user_id, device_id, platform, token) SELECT id, 'd', 'ios', 'token' || id FROM users"
        )
        before = connection.execute(file).fetchone()
        upgrade(url)
        assert connection.execute(file).fetchone() == before
        assert connection.execute(
            "SELECT count(*), count(fcm_token), count(fcm_retired_at) FROM devices"
        ).fetchone() == (5000, 0, 0)


def test_a_migration_that_fails_says_why_and_leaves_nothing_half_done(new_database: NewDatabase) -> None:
    url = new_database("migration_fails")
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(
            "CREATE FUNCTION surnia_shard(user_id bigint) RETURNS smallint LANGUAGE sql AS 'SELECT 1::int2'"
        )
    with pytest.raises(ProgrammingError, match="surnia_shard"):
        upgrade(url)
    assert columns(url) == []


def test_the_migrated_database_is_what_the_tables_declare(addresses: dict[str, str]) -> None:
    def declared(_: object, name: str | None, kind: str, __: bool, ___: object) -> bool:
        # Day partitions come and go.
        return not (kind == "table" and str(name).startswith(("ledger_", "planned_")))

    engine = create_engine(sqlalchemy_url(addresses["postgres_url"]))
    try:
        with engine.connect() as connection:
            options = {"include_object": declared, "compare_type": True, "compare_server_default": True}
            found = compare_metadata(MigrationContext.configure(connection, opts=options), metadata)
    finally:
        engine.dispose()
    assert found == []


@given(st.integers(0, 2**32))
@hypothesis_settings(deadline=None, max_examples=30)
def test_the_shard_in_sql_is_the_shard_in_python(addresses: dict[str, str], seed: int) -> None:
    # Drawn evenly: Hypothesis prefers ids so small or so near the end that other multipliers agree about them.
    draw = random.Random(seed)
    ids = [1, MAX_USER_ID, *(draw.randint(1, MAX_USER_ID) for _ in range(100))]
    with psycopg.connect(addresses["postgres_url"]) as connection:
        rows = connection.execute("SELECT surnia_shard(id) FROM unnest(%s::bigint[]) AS id", (ids,)).fetchall()
    assert [row[0] for row in rows] == [shard_of(user) for user in ids]


def test_a_user_id_must_be_positive(settings: Settings) -> None:
    with pytest.raises(psycopg.errors.CheckViolation):
        sql(settings, "INSERT INTO users (id, time_zone) VALUES (0, 'UTC')")


def nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield plan
    for child in plan.get("Plans", ()):
        yield from nodes(child)


@pytest.mark.parametrize(
    ("folder", "name"), [("stream/queries", "merge_devices"), ("batch/users/queries", "move_tokens")]
)
def test_who_has_a_token_that_moves_can_be_found_by_index(settings: Settings, folder: str, name: str) -> None:
    queries = Path(__file__).parents[2] / folder
    statements = (queries / f"{name}.sql").read_text().split(";")
    moves = [text for text in statements if "UPDATE devices" in text or "DELETE FROM devices" in text]
    with psycopg.connect(settings.require_postgres()) as connection:
        connection.execute((queries / "stage.sql").read_text())
        # The table is small here, and walking it would be right.
        connection.execute("SET enable_seqscan = off")
        for text, index in zip(moves, ("ix_devices_token", "ix_devices_fcm_token"), strict=True):
            row = connection.execute(f"EXPLAIN (FORMAT JSON) {text}").fetchone()
            assert row is not None
            found = list(nodes(row[0][0]["Plan"]))
            walked = [node for node in found if node.get("Relation Name") == "devices" and "Seq" in node["Node Type"]]
            assert not walked and index in {node.get("Index Name") for node in found}, text


def partitions(settings: Settings, table: str) -> list[str]:
    query = "SELECT inhrelid::regclass::text FROM pg_inherits WHERE inhparent = %s::regclass"
    return [row[0] for row in sql(settings, query, table)]


@pytest.mark.parametrize("table", ["ledger", "planned"])
async def test_a_day_is_created_once_by_however_many_ask_at_once(settings: Settings, table: Partitioned) -> None:
    day = date(2031, 5, 17)
    sql(settings, f"DROP TABLE IF EXISTS {table}_20310517")
    async with AsyncExitStack() as stack:
        connections = [
            await stack.enter_async_context(await psycopg.AsyncConnection.connect(settings.require_postgres()))
            for _ in range(8)
        ]
        start = asyncio.Barrier(len(connections))

        async def create(connection: Connection) -> None:
            await start.wait()
            for _ in range(2):
                await ensure_partition(connection, day, table)
                await connection.commit()

        await asyncio.gather(*map(create, connections))
    assert partitions(settings, table).count(f"{table}_20310517") == 1


async def test_a_day_is_made_sure_of_once_a_process_and_table(settings: Settings) -> None:
    days = [date(2031, 6, n) for n in range(1, 4)]
    for table in ("ledger", "planned"):
        for n in range(1, 4):
            sql(settings, f"DROP TABLE IF EXISTS {table}_203106{n:02}")
    known = Partitions("planned")
    async with await psycopg.AsyncConnection.connect(settings.require_postgres()) as connection:
        await known.ensure(connection, [days[0], days[0]])
        sql(settings, "DROP TABLE planned_20310601")
        await known.ensure(connection, days)
    found = [name for name in partitions(settings, "planned") if "203106" in name]
    assert sorted(found) == ["planned_20310602", "planned_20310603"]
    assert [name for name in partitions(settings, "ledger") if "203106" in name] == []


def test_every_shard_has_users_of_a_dense_range(settings: Settings) -> None:
    (row,) = sql(settings, "SELECT count(DISTINCT surnia_shard(id)) FROM generate_series(1, 2000) AS id")
    assert row == (SHARDS,)
