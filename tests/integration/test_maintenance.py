"""The nightly maintenance: partitions ahead and behind, old scans, and nobody kept waiting."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import date, timedelta
from urllib.parse import urlsplit

import psycopg
import pytest
from pydantic import SecretStr

from batch.maintenance import maintain
from shared.settings import Settings
from shared.store.migrate import upgrade
from tests.integration.support import TODAY, sql

LEDGER_DAYS, PLANNED_DAYS = 90, 14
AHEAD = [TODAY + timedelta(days=n) for n in range(-1, 9)]


@pytest.fixture(scope="module")
def database(addresses: dict[str, str]) -> Iterator[str]:
    """A database of these tests alone: what they drop, nobody misses."""
    url = urlsplit(addresses["postgres_url"])._replace(path="/maintained").geturl()
    with psycopg.connect(addresses["postgres_url"], autocommit=True) as connection:
        connection.execute("CREATE DATABASE maintained")
        upgrade(url)
        yield url
        connection.execute("DROP DATABASE maintained WITH (FORCE)")


@pytest.fixture
def kept(settings: Settings, database: str) -> Settings:
    """The settings, with that database without partitions and scans."""
    found = settings.model_copy(
        update={
            "postgres_url": SecretStr(database),
            "ledger_keep_days": LEDGER_DAYS,
            "planned_keep_days": PLANNED_DAYS,
        }
    )
    for name in partitions(found):
        sql(found, f"DROP TABLE {name}")
    sql(found, "TRUNCATE scan_runs CASCADE")
    return found


def partitions(settings: Settings) -> set[str]:
    query = (
        "SELECT inhrelid::regclass::text FROM pg_inherits WHERE inhparent IN ('ledger'::regclass, 'planned'::regclass)"
    )
    return {name for (name,) in sql(settings, query)}


def partition(settings: Settings, table: str, day: date, name: str = "") -> str:
    """Create a day's partition; its name."""
    name = name or f"{table}_{day:%Y%m%d}"
    statement = f"CREATE TABLE {name} PARTITION OF {table} FOR VALUES FROM ('{day}') TO ('{day + timedelta(days=1)}')"
    sql(settings, statement)
    return name


def run(settings: Settings, run_id: str, silent_for: int, done: list[bool]) -> None:
    """A scan of an interval that ended so many days ago, with these checkpoints."""
    end = TODAY - timedelta(days=silent_for)
    sql(
        settings,
        "INSERT INTO scan_runs (run_id, kind, interval_start, interval_end, slots) VALUES (%s, 3, %s, %s, '[]')",
        run_id, end, end,
    )  # fmt: skip
    for shard, is_done in enumerate(done):
        sql(settings, "INSERT INTO scan_checkpoints (run_id, shard, done) VALUES (%s, %s, %s)", run_id, shard, is_done)


async def test_both_tables_get_the_days_from_yesterday_on_and_lose_those_past_their_time(kept: Settings) -> None:
    old = [
        partition(kept, "ledger", TODAY - timedelta(days=LEDGER_DAYS + 1)),
        partition(kept, "ledger", date(2020, 2, 29)),
        partition(kept, "planned", TODAY - timedelta(days=PLANNED_DAYS + 1)),
    ]
    stay = {
        partition(kept, "ledger", TODAY - timedelta(days=LEDGER_DAYS)),
        partition(kept, "planned", TODAY - timedelta(days=PLANNED_DAYS)),
        partition(kept, "ledger", TODAY),
    }
    done = await maintain(kept, TODAY)
    wanted = {f"{table}_{day:%Y%m%d}" for table in ("ledger", "planned") for day in AHEAD}
    assert set(done.created) == wanted - stay
    assert sorted(done.dropped) == sorted(old)
    assert done.left == {}
    assert partitions(kept) == wanted | stay

    again = await maintain(kept, TODAY)
    assert (again.created, again.dropped, again.left) == ([], [], {})


async def test_a_dry_run_says_what_a_real_one_does_and_changes_nothing(kept: Settings) -> None:
    partition(kept, "ledger", date(2020, 2, 29))
    run(kept, "old", LEDGER_DAYS + 1, [False])
    before = partitions(kept)
    would = await maintain(kept, TODAY, dry_run=True)
    assert partitions(kept) == before
    assert sql(kept, "SELECT run_id FROM scan_runs") == [("old",)]
    done = await maintain(kept, TODAY)
    assert (would.created, would.dropped, would.scan_runs) == (done.created, done.dropped, done.scan_runs)
    assert (would.dry_run, done.dry_run) == (True, False)


async def test_partitions_and_tables_of_other_names_are_left_alone(kept: Settings) -> None:
    strangers = {
        partition(kept, "ledger", date(2020, 1, 1), "ledger_archive"),
        partition(kept, "ledger", date(2020, 1, 2), "ledger_2020w01"),
        partition(kept, "ledger", date(2020, 1, 3), "planned_20200103"),
        partition(kept, "ledger", date(2020, 1, 4), "ledger_2020_01_04"),
    }
    sql(kept, "CREATE TABLE IF NOT EXISTS ledger_20200105 (n int)")  # No partition at all.
    done = await maintain(kept, TODAY)
    assert done.dropped == []
    assert strangers <= partitions(kept)
    assert sql(kept, "SELECT to_regclass('ledger_20200105')::text") == [("ledger_20200105",)]


async def test_a_day_that_another_partition_covers_is_reported(kept: Settings) -> None:
    partition(kept, "planned", TODAY, "planned_by_hand")
    done = await maintain(kept, TODAY)
    assert done.left == {f"planned_{TODAY:%Y%m%d}": "something else is in its way"}
    assert len(done.created) == 2 * len(AHEAD) - 1


async def test_a_table_that_is_being_read_keeps_nobody_waiting_and_is_done_the_next_time(kept: Settings) -> None:
    old = partition(kept, "ledger", date(2020, 2, 29))
    with psycopg.connect(kept.require_postgres()) as reader:
        reader.execute("SELECT count(*) FROM ledger")
        began = time.monotonic()
        done = await maintain(kept, TODAY)
        assert time.monotonic() - began < 10
        assert old in done.left
        assert all(name.startswith("ledger_") and "in use" in why for name, why in done.left.items())
        # The other table is not made to wait for this one.
        assert [name.partition("_")[0] for name in done.created] == ["planned"] * len(AHEAD)
        assert old in partitions(kept)
    done = await maintain(kept, TODAY)
    assert (done.dropped, done.left) == ([old], {})


async def test_two_at_once_do_not_harm_each_other(kept: Settings) -> None:
    for n in range(5):
        partition(kept, "ledger", date(2020, 3, 1) + timedelta(days=n))
    both = await asyncio.gather(maintain(kept, TODAY), maintain(kept, TODAY))
    assert [done.left for done in both] == [{}, {}]
    assert len(partitions(kept)) == 2 * len(AHEAD)


async def test_old_scans_are_forgotten_with_their_checkpoints(kept: Settings) -> None:
    run(kept, "recent", PLANNED_DAYS - 1, [True, True])
    run(kept, "done", PLANNED_DAYS + 1, [True, True])
    run(kept, "without work", PLANNED_DAYS + 1, [])
    run(kept, "unfinished", PLANNED_DAYS + 1, [True, False])
    run(kept, "never finished", LEDGER_DAYS + 1, [True, False])
    done = await maintain(kept, TODAY)
    assert done.scan_runs == 3
    assert {name for (name,) in sql(kept, "SELECT run_id FROM scan_runs")} == {"recent", "unfinished"}
    assert {name for (name,) in sql(kept, "SELECT run_id FROM scan_checkpoints")} == {"recent", "unfinished"}


async def test_a_scan_that_is_being_written_is_left_for_the_next_time(kept: Settings) -> None:
    run(kept, "old", LEDGER_DAYS + 1, [False])
    with psycopg.connect(kept.require_postgres()) as scan:
        scan.execute("INSERT INTO scan_checkpoints (run_id, shard) VALUES ('old', 7)")
        done = await maintain(kept, TODAY)
        assert (done.scan_runs, list(done.left)) == (0, ["scan_runs"])
    assert (await maintain(kept, TODAY)).scan_runs == 1


def surnia(environment: dict[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "surnia", *arguments],
        env=os.environ | environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=180,
    )


@pytest.fixture
def outside(kept: Settings, environment: dict[str, str]) -> dict[str, str]:
    """What a process is started with to see the same."""
    return environment | {"SURNIA_POSTGRES_URL": kept.require_postgres()}


def test_the_command_goes_by_the_engines_clock_and_says_what_it_did(kept: Settings, outside: dict[str, str]) -> None:
    old = partition(kept, "ledger", date(2020, 2, 29))
    said = surnia(outside, "maintenance", "--dry-run")
    assert said.returncode == 0, said.stderr
    assert f"would be dropped: {old}\n" in said.stdout
    assert old in partitions(kept)

    done = surnia(outside, "maintenance", "--json")
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    assert (document["day"], document["dropped"], document["left"]) == (str(TODAY), [old], {})
    assert f"ledger_{AHEAD[-1]:%Y%m%d}" in document["created"]


def test_the_command_tells_by_its_exit_code_that_something_is_left(kept: Settings, outside: dict[str, str]) -> None:
    with psycopg.connect(kept.require_postgres()) as reader:
        reader.execute("SELECT count(*) FROM planned")
        done = surnia(outside, "maintenance")
    assert done.returncode == 1
    assert f"left: planned_{TODAY:%Y%m%d}, in use" in done.stdout


@pytest.mark.timeout(300)
def test_airflow_runs_it_for_the_date_on_which_its_interval_ends(
    kept: Settings, outside: dict[str, str], settings: Settings
) -> None:
    """Nine days ahead of the engine's clock, which it must not go by."""
    later = TODAY + timedelta(days=9)
    done = surnia(outside, "airflow", "setup")
    assert done.returncode == 0, done.stderr
    done = surnia(outside, "airflow", "exec", "--", "dags", "test", "maintenance", f"{later}T03:17:00+00:00")
    assert "state=success" in done.stdout + done.stderr, done.stdout + done.stderr
    days = [later + timedelta(days=n) for n in range(-1, 9)]
    assert partitions(kept) == {f"{table}_{day:%Y%m%d}" for table in ("ledger", "planned") for day in days}
