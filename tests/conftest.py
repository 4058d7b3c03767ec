"""Fixtures that more than one tier uses: one local stack a session, emptied for every test that asks."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Iterator
from itertools import count
from pathlib import Path

import psycopg
import pytest
from hypothesis import settings as hypothesis_settings
from redis.asyncio import Redis

from infra.stack.stack import Stack
from shared.clock import FileClock
from shared.gate import open_fresh
from shared.settings import Settings
from shared.topics import ensure_topics

NOON = 1_795_262_400.0
"""2026-11-21 12:00 UTC, when most tests begin."""

# No test depends on how fast the machine is; what fails says how to see it again.
hypothesis_settings.register_profile("surnia", deadline=None, print_blob=True)
hypothesis_settings.load_profile("surnia")

_prefixes = count()


@pytest.fixture(scope="session", autouse=True)
def _no_settings_of_the_machine() -> Iterator[None]:
    """Whatever SURNIA_* the developer has set must not reach the tests."""
    own = {name: os.environ.pop(name) for name in list(os.environ) if name.startswith("SURNIA_")}
    yield
    os.environ.update(own)


@pytest.fixture(scope="session", autouse=True)
def _quick_processes() -> None:
    """Tests start hundreds of processes that live for seconds: what pays only later, or only in space, is left out."""
    # Without bytecode each Python would compile all that it imports: half of its start.
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    # A broker's second compiler takes more than it gives before the broker ends.
    options = os.environ.get("JAVA_TOOL_OPTIONS", "")
    os.environ["JAVA_TOOL_OPTIONS"] = f"{options} -XX:TieredStopAtLevel=1".strip()


@pytest.fixture(scope="session")
def stack_dir(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The folder of a running local stack: PostgreSQL, Valkey and Kafka."""
    folder = tmp_path_factory.mktemp("stack")
    stack = Stack(folder)
    try:
        status = stack.up()
        assert status.healthy, status
        yield folder
    finally:
        stack.remove()


@pytest.fixture(scope="session")
def addresses(stack_dir: Path) -> dict[str, str]:
    """The stack's addresses by setting."""
    found: dict[str, str] = json.loads((stack_dir / "stack.json").read_text())["settings"]
    return found


@pytest.fixture
def environment(addresses: dict[str, str], tmp_path: Path) -> dict[str, str]:
    """What processes are started with: the emptied stack, a clock that stands at noon, topics of this test alone."""
    return environment_in(tmp_path, addresses)


def environment_in(folder: Path, addresses: dict[str, str]) -> dict[str, str]:
    """The same for a test that keeps its own."""
    FileClock.create(folder / "clock", NOON)
    environment = {f"SURNIA_{name.upper()}": value for name, value in addresses.items()} | {
        "SURNIA_STATE_DIR": str(folder / "state"),
        "SURNIA_CLOCK_FILE": str(folder / "clock"),
        "SURNIA_TOPIC_PREFIX": f"t{next(_prefixes)}.",
        "SURNIA_PARTITIONS": "4",
        "SURNIA_SHARD_GROUPS": "2",
        "SURNIA_GATE_BUCKET_BITS": "2",
        # Everybody is due at the send hour: the clock stands, and no scan waits for its hands to move.
        "SURNIA_SPREAD_MINUTES": "0",
        "SURNIA_COMMIT_SECONDS": "0.1",
        "SURNIA_DUE_POLL_SECONDS": "0.1",
    }
    asyncio.run(_empty(settings_of(environment)))
    return environment


@pytest.fixture
def settings(environment: dict[str, str]) -> Settings:
    """The same, for code in this process."""
    return settings_of(environment)


@pytest.fixture
def clock(settings: Settings) -> FileClock:
    """The test's clock; turning it turns every process's."""
    assert settings.clock_file
    return FileClock(settings.clock_file)


def settings_of(environment: dict[str, str]) -> Settings:
    """Settings as a process with that environment would read them."""
    values = {name.removeprefix("SURNIA_").lower(): value for name, value in environment.items()}
    return Settings.model_validate(values)


def connect_redis(settings: Settings) -> Redis:
    """A plain client, to look at and to spoil what the engine wrote."""
    return Redis.from_url(settings.require_redis())


async def _empty(settings: Settings) -> None:
    async with await psycopg.AsyncConnection.connect(settings.require_postgres()) as connection:
        await connection.execute(
            "TRUNCATE users, devices, ledger, scan_runs, scan_checkpoints, planned, outbox, pauses, erased, "
            "erasure_keys, erasures, backfills, backfill_checkpoints"
        )
    redis = connect_redis(settings)
    await redis.flushdb()
    await redis.aclose()
    await open_fresh(settings)
    await ensure_topics(settings)
