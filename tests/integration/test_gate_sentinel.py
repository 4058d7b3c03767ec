"""The gate on a primary that Sentinel watches: what a failover may lose, the gate does not answer for."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import date
from pathlib import Path as Folder

import pytest
from redis.exceptions import RedisError

from shared.gate import Claim, GateClosedError, GateUnavailableError, Keeper, RedisGate, open_fresh
from shared.identity import SHARDS
from shared.keyspace import node
from shared.policy.kinds import Path
from shared.settings import Settings
from tests.integration.valkeys import CREDENTIALS, PASSWORD, Valkey, running, settings_for, until

TODAY = date(2026, 11, 21)
NAME = "gate-1"
REPLICA = ("repl-diskless-sync-delay 0", "repl-ping-replica-period 1")
USERS = list(range(1, 51))


class Watched:
    """A primary, its replica, and three Sentinels of which two must agree."""

    def __init__(self, folder: Folder) -> None:
        self.primary = Valkey(folder / "primary", *REPLICA)
        self.replica = Valkey(folder / "replica", *REPLICA, f"replicaof 127.0.0.1 {self.primary.port}")
        options = (
            f"sentinel monitor {NAME} 127.0.0.1 {self.primary.port} 2",
            f'sentinel auth-pass {NAME} "{PASSWORD}"',
            f"sentinel down-after-milliseconds {NAME} 1000",
            f"sentinel failover-timeout {NAME} 5000",
        )
        self.sentinels = [Valkey(folder / f"sentinel{n}", *options, sentinel=True) for n in range(3)]

    @property
    def url(self) -> str:
        places = ",".join(f"127.0.0.1:{sentinel.port}" for sentinel in self.sentinels)
        return f"redis+sentinel://{CREDENTIALS}127.0.0.1:1,{places}/{NAME}/0"

    async def ready(self) -> None:
        await until(lambda: self.replica.info("replication")["master_link_status"] == "up", "the replica to follow")
        await until(lambda: all(map(self._knows_all, self.sentinels)), "the Sentinels to know one another")

    def _knows_all(self, sentinel: Valkey) -> bool:
        with sentinel.client() as client, suppress(RedisError):
            facts = client.sentinel_master(NAME)
            return (facts["num-other-sentinels"], facts["num-slaves"]) == (2, 1)
        return False


@contextmanager
def watched(folder: Folder) -> Iterator[Watched]:
    servers = Watched(folder)
    with running(servers.primary, servers.replica, *servers.sentinels):
        yield servers


async def fail_over(servers: Watched) -> None:
    """The primary is gone with all that its replica had not got yet."""
    servers.primary("WAIT", 1, 10_000)
    servers.primary.kill()
    await until(lambda: servers.replica.info("replication")["role"] == "master", "the replica to take over")


async def ask(gate: RedisGate, path: Path = Path.batch) -> list[Claim] | Exception:
    try:
        return await gate.claim(path, "comeback", TODAY, USERS)
    except GateUnavailableError as error:
        return error


async def test_after_a_failover_the_gate_is_closed_until_it_is_rebuilt(tmp_path: Folder) -> None:
    with watched(tmp_path) as servers:
        await servers.ready()
        settings = settings_for(servers.url)
        await open_fresh(settings)
        gate, keeper = RedisGate.connect(settings), Keeper.connect(settings)
        assert await ask(gate) == [Claim.granted] * 50
        await fail_over(servers)

        async def answered() -> Exception | None:
            answer = await ask(gate, Path.stream)
            assert isinstance(answer, GateUnavailableError), "an answer that nobody vouches for"
            return answer if isinstance(answer, GateClosedError) else None

        assert "took over" in str(await until(answered, "the new primary to be found"))
        assert len(await keeper.closed()) == SHARDS
        await keeper.begin(range(SHARDS), "token")
        assert await keeper.open(range(SHARDS), "token", "second", ()) == []
        assert await ask(gate, Path.stream) == [Claim.other_path] * 50

        servers.primary.start()
        await until(lambda: servers.primary.info("replication")["role"] == "slave", "the old primary to follow")
        assert set(await keeper.keyspace.everywhere("PING")) == {f"127.0.0.1:{servers.replica.port}"}
        old = RedisGate.connect(settings_for(servers.primary.url))
        with pytest.raises(GateUnavailableError, match="is a replica"):
            await old.claim(Path.batch, "comeback", TODAY, USERS)
        for each in (gate, keeper, old):
            await each.close()


async def test_a_gate_whose_servers_lose_nothing_goes_on_by_itself(tmp_path: Folder) -> None:
    with watched(tmp_path) as servers:
        await servers.ready()
        settings = settings_for(servers.url, gate_durable=True)
        await open_fresh(settings)
        gate = RedisGate.connect(settings)
        assert await ask(gate) == [Claim.granted] * 50
        await fail_over(servers)

        async def answered() -> list[Claim] | None:
            answer = await ask(gate, Path.stream)
            assert not isinstance(answer, GateClosedError)
            return answer if isinstance(answer, list) else None

        assert await until(answered, "the new primary to be found") == [Claim.other_path] * 50
        await gate.close()


async def test_sentinels_that_know_no_such_service_say_so(tmp_path: Folder) -> None:
    sentinel = Valkey(tmp_path / "sentinel", sentinel=True)
    with running(sentinel):
        gate = RedisGate.connect(settings_for(f"redis+sentinel://{CREDENTIALS}127.0.0.1:{sentinel.port}/other/0"))
        with pytest.raises(GateUnavailableError, match="knows no service 'other'"):
            await gate.claim(Path.batch, "comeback", TODAY, USERS)
        await gate.close()


@pytest.fixture
def pair(tmp_path: Folder) -> Iterator[tuple[Valkey, Valkey]]:
    """Two servers without Sentinel, on neither of which anything was written."""
    first, second = Valkey(tmp_path / "first", *REPLICA), Valkey(tmp_path / "second", *REPLICA)
    with running(first, second):
        yield first, second


async def follow(one: Valkey, other: Valkey) -> None:
    one("REPLICAOF", "127.0.0.1", other.port)
    await until(lambda: one.info("replication")["master_link_status"] == "up", "a replica to follow")


async def open_gate(settings: Settings) -> RedisGate:
    await open_fresh(settings)
    return RedisGate.connect(settings)


async def test_a_connection_that_outlives_a_failover_gets_no_answer(pair: tuple[Valkey, Valkey]) -> None:
    first, second = pair
    gate = await open_gate(settings_for(first.url))
    assert await ask(gate) == [Claim.granted] * 50
    await follow(first, second)
    # First over the connection that was made before, then over new ones.
    for _ in range(2):
        for question in (gate.claim(Path.batch, "comeback", TODAY, USERS), gate.pauses()):
            with pytest.raises(GateUnavailableError, match="a replica"):
                await question
    await gate.close()


async def test_a_primary_that_was_a_replica_in_between_has_lost_its_last_writes(
    pair: tuple[Valkey, Valkey], monkeypatch: pytest.MonkeyPatch
) -> None:
    # So long an old connection is taken for what it was: no failover and back is as quick as this one.
    monkeypatch.setattr(node, "KNOWN_SECONDS", 0.0)
    first, second = pair
    gate = await open_gate(settings_for(first.url))
    await follow(second, first)
    first("WAIT", 1, 10_000)
    second("REPLICAOF", "NO", "ONE")
    # What is claimed now never gets to the second one, whose data the first one takes over.
    assert await ask(gate) == [Claim.granted] * 50
    run_id = first.info("server")["run_id"]
    await follow(first, second)
    first("REPLICAOF", "NO", "ONE")
    assert first.info("server")["run_id"] == run_id
    new = RedisGate.connect(settings_for(first.url))
    for each in (gate, new):
        assert "took over" in str(await ask(each, Path.stream))
        await each.close()


async def test_a_replica_that_joins_or_leaves_closes_nothing(pair: tuple[Valkey, Valkey]) -> None:
    first, second = pair
    gate = await open_gate(settings_for(first.url))
    await follow(second, first)
    other = RedisGate.connect(settings_for(first.url))
    assert await ask(other) == [Claim.granted] * 50
    second.kill()
    await until(lambda: first.info("replication")["connected_slaves"] == 0, "the replica to be gone")
    third = RedisGate.connect(settings_for(first.url))
    assert await ask(third) == [Claim.granted_again] * 50
    for each in (gate, other, third):
        await each.close()
