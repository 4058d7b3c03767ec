"""The gate on a Redis Cluster: three primaries that share the slots, found from any of them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from datetime import date
from pathlib import Path as Folder

import pytest
from redis.crc import key_slot

from shared.due.index import DueIndex, Practised
from shared.gate import Claim, GateClosedError, GateUnavailableError, Keeper, RedisGate, Rule, SendKey, Standing
from shared.gate.keys import epoch_key
from shared.identity import SHARDS, shard_of
from shared.keyspace import Call, Keyspace, open_keyspace
from shared.policy.kinds import PRACTICE, Path
from shared.settings import Settings
from tests.integration.support import users_of_shard
from tests.integration.valkeys import CREDENTIALS, PASSWORD, Valkey, free_port, running, settings_for, until

TODAY = date(2026, 11, 21)
SLOTS = 16_384
USERS = list(range(1, 3001))


class Cluster:
    """Three primaries without replicas; each says its name is localhost."""

    def __init__(self, folder: Folder) -> None:
        self.buses = [free_port() for _ in range(3)]
        options = (
            "cluster-enabled yes",
            "cluster-node-timeout 2000",
            "cluster-announce-hostname localhost",
            "cluster-preferred-endpoint-type hostname",
            "appendonly yes",
        )
        self.nodes = [Valkey(folder / str(n), *options, f"cluster-port {bus}") for n, bus in enumerate(self.buses)]

    @property
    def url(self) -> str:
        return f"redis+cluster://{CREDENTIALS}" + ",".join(f"localhost:{node.port}" for node in self.nodes)

    async def form(self) -> None:
        for n, node in enumerate(self.nodes):
            node("CLUSTER", "ADDSLOTSRANGE", n * SLOTS // 3, (n + 1) * SLOTS // 3 - 1)
            node("CLUSTER", "SET-CONFIG-EPOCH", n + 1)
        for n in (1, 2):
            self.nodes[0]("CLUSTER", "MEET", "127.0.0.1", self.nodes[n].port, self.buses[n])
        await self.whole()

    async def whole(self) -> None:
        await until(lambda: all(self._knows_all(node) for node in self.nodes), "the cluster to be whole")

    def _knows_all(self, node: Valkey) -> bool:
        facts = node("CLUSTER INFO")
        return bool(facts["cluster_state"] == "ok" and facts["cluster_known_nodes"] == "3")

    def holder(self, shard: int) -> Valkey:
        slot = key_slot(str(shard).encode())
        return next(node for node in self.nodes if slot in self.slots(node))

    def slots(self, node: Valkey) -> set[int]:
        mine: set[int] = set()
        for first, last, primary, *_ in node("CLUSTER", "SLOTS"):
            if primary[1] == node.port:
                mine.update(range(first, last + 1))
        return mine


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    cluster = Cluster(tmp_path_factory.mktemp("cluster"))
    with running(*cluster.nodes):
        asyncio.run(cluster.form())
        yield cluster


@pytest.fixture
async def settings(cluster: Cluster) -> Settings:
    """An empty gate that is open, on a cluster that is whole."""
    await cluster.whole()
    for node in cluster.nodes:
        node("FLUSHALL")
    settings = settings_for(cluster.url)
    await reopen(settings)
    return settings


@pytest.fixture
async def keyspace(settings: Settings) -> AsyncIterator[Keyspace]:
    keyspace = open_keyspace(settings)
    yield keyspace
    await keyspace.close()


@pytest.fixture
def gate(keyspace: Keyspace, settings: Settings) -> RedisGate:
    return RedisGate(keyspace, settings)


@pytest.fixture
def keeper(keyspace: Keyspace, settings: Settings) -> Keeper:
    return Keeper(keyspace, settings)


async def reopen(settings: Settings) -> None:
    """Vouch for whatever there is, as after a rebuild that had nothing to restore."""
    keeper = Keeper.connect(settings)
    try:
        closed = list(await keeper.closed())
        await keeper.begin(closed, "token")
        assert await keeper.open(closed, "token", "epoch", ()) == []
    finally:
        await keeper.close()


def keys(users: list[int]) -> list[SendKey]:
    return [SendKey(user, "comeback", TODAY) for user in users]


async def test_every_question_is_answered_over_all_shards(
    gate: RedisGate, keeper: Keeper, keyspace: Keyspace, cluster: Cluster
) -> None:
    assert {shard_of(user) for user in USERS} == set(range(SHARDS))
    await gate.practised([(user, TODAY) for user in USERS[::3]])
    await gate.opt_out([(user, TODAY, 1 << 3) for user in USERS[1::3]])
    answers = await gate.claim(Path.batch, "comeback", TODAY, USERS)
    assert answers == [Claim.practised, Claim.opted_out, Claim.granted] * 1000
    assert await gate.claim(Path.blast, "campaign", TODAY, USERS[1:3], "spring") == [Claim.granted] * 2
    await gate.settle(Path.batch, keys(USERS[2::6]))
    assert await gate.standing(Path.batch, keys(USERS[2::3])) == [Standing.settled, Standing.clear] * 500
    assert await gate.claim(Path.stream, "comeback", TODAY, USERS[2::3]) == [Claim.other_path] * 1000
    tallies = await gate.tallies(TODAY)
    assert tallies[Path.batch, "comeback", Claim.granted] == 1000
    assert await keeper.closed() == {}
    assert await keeper.write_rules([Rule(path=Path.batch), Rule(provider="fcm")]) == []
    assert await gate.claim(Path.batch, "comeback", TODAY, USERS) == [Claim.paused] * 3000
    assert set(await gate.pauses()) == {Rule(path=Path.batch), Rule(provider="fcm")}
    assert set(await keyspace.everywhere("PING")) == {f"localhost:{node.port}" for node in cluster.nodes}


async def test_the_due_index_is_spread_over_the_nodes(keyspace: Keyspace) -> None:
    due = DueIndex(keyspace)
    await due.update([Practised(user, 10.0 + user, None, 0.0) for user in USERS[:1000]], [])
    assert await due.waiting(510.0) == 500
    found = await due.due(PRACTICE, range(SHARDS), 510.0, 100)
    assert {entry.user_id for entry in found} == set(range(1, 501))
    await due.remove(PRACTICE, found)
    assert await due.waiting(1e9) == 500


async def test_one_node_is_enough_to_find_the_others(settings: Settings, cluster: Cluster) -> None:
    dead = f"redis+cluster://{CREDENTIALS}localhost:1,localhost:{cluster.nodes[2].port}"
    gate = RedisGate.connect(settings_for(dead))
    assert await gate.claim(Path.batch, "comeback", TODAY, USERS) == [Claim.granted] * 3000
    await gate.close()


async def test_a_wrong_password_and_a_wrong_scheme_are_named(settings: Settings, cluster: Cluster) -> None:
    port = cluster.nodes[0].port
    for url, said in (
        (f"redis+cluster://:wrong@localhost:{port}", "password|WRONGPASS|SURNIA_REDIS_URL"),
        (f"redis://{CREDENTIALS}localhost:{port}", r"redis\+cluster://"),
    ):
        gate = RedisGate.connect(settings_for(url))
        with pytest.raises(GateUnavailableError, match=said) as caught:
            await gate.claim(Path.batch, "comeback", TODAY, USERS)
        assert PASSWORD not in str(caught.value) and "wrong@" not in str(caught.value)
        await gate.close()


async def test_a_slot_that_is_moved_while_sends_are_claimed_answers_nothing_wrong(
    gate: RedisGate, keeper: Keeper, cluster: Cluster
) -> None:
    shard = shard_of(1)
    users = users_of_shard(shard, 60)
    slot = key_slot(str(shard).encode())
    source = cluster.holder(shard)
    target = next(node for node in cluster.nodes if node is not source)
    names = {node: node("CLUSTER", "MYID").decode() for node in cluster.nodes}
    await gate.claim(Path.batch, "comeback", TODAY, users[:20])
    asked: dict[int, Claim] = {}
    troubles: list[GateUnavailableError] = []

    async def claim_some() -> None:
        for user in [*users[:40], *USERS[:20]]:
            with suppress(GateUnavailableError):
                (asked[user],) = await gate.claim(Path.batch, "comeback", TODAY, [user])

    await claim_some()
    target("CLUSTER", "SETSLOT", slot, "IMPORTING", names[source])
    source("CLUSTER", "SETSLOT", slot, "MIGRATING", names[target])
    while moving := source("CLUSTER", "GETKEYSINSLOT", slot, 1):
        source("MIGRATE", "127.0.0.1", target.port, moving[0], 0, 5000, "AUTH", PASSWORD)
        for user in users[::5]:
            # Of the other path: an answer must not be a grant, whatever of the shard is here or there.
            try:
                (answer,) = await gate.claim(Path.stream, "comeback", TODAY, [user])
            except GateUnavailableError as trouble:
                troubles.append(trouble)
            else:
                assert answer is (Claim.other_path if user in asked else Claim.granted)
                asked.setdefault(user, answer)
    for node in (target, source, *cluster.nodes):
        node("CLUSTER", "SETSLOT", slot, "NODE", names[target])
    assert troubles
    # Nobody can tell a shard that was moved from one whose data was put back: it is closed until it is rebuilt.
    with pytest.raises(GateClosedError):
        await gate.claim(Path.stream, "comeback", TODAY, users[:1])
    assert await gate.claim(Path.batch, "comeback", TODAY, [USERS[0] if shard_of(USERS[0]) != shard else USERS[1]])
    assert await keeper.trust([shard], "moved") == []
    assert cluster.holder(shard) is target
    assert await gate.claim(Path.stream, "comeback", TODAY, users[:40]) == [Claim.other_path] * 40
    assert await gate.claim(Path.batch, "comeback", TODAY, users[:40]) == [Claim.granted_again] * 40


async def test_a_node_that_is_killed_takes_its_shards_with_it_until_they_are_rebuilt(
    gate: RedisGate, keeper: Keeper, keyspace: Keyspace, cluster: Cluster, settings: Settings
) -> None:
    await gate.claim(Path.batch, "comeback", TODAY, USERS)
    victim = cluster.nodes[1]
    lost = {shard for shard in range(SHARDS) if cluster.holder(shard) is victim}
    there = [user for user in USERS if shard_of(user) in lost]
    elsewhere = [user for user in USERS if shard_of(user) not in lost]
    victim.kill()
    for users in (USERS, there):
        with pytest.raises(GateUnavailableError):
            await gate.claim(Path.stream, "comeback", TODAY, users)
    # Once the others have noticed, they answer for none of their slots either.
    trouble = await until(lambda: trouble_with(keyspace, shard_of(elsewhere[0])), "the cluster to be down")
    assert "bring their nodes back" in str(trouble)
    victim.start()
    await cluster.whole()
    assert set(await until(lambda: closed_by_now(keeper), "the node to be found again")) == lost
    assert await gate.claim(Path.stream, "comeback", TODAY, elsewhere) == [Claim.other_path] * len(elsewhere)
    with pytest.raises(GateClosedError, match="restarted or took over"):
        await gate.claim(Path.stream, "comeback", TODAY, there)
    await reopen(settings)
    assert await gate.claim(Path.stream, "comeback", TODAY, USERS) == [Claim.other_path] * 3000


async def closed_by_now(keeper: Keeper) -> dict[int, str]:
    with suppress(GateUnavailableError):
        return await keeper.closed()
    return {}


async def trouble_with(keyspace: Keyspace, shard: int) -> GateUnavailableError | None:
    try:
        await keyspace.run([Call(shard, ("GET", epoch_key(shard)))])
    except GateUnavailableError as error:
        return error if "ClusterDownError" in str(error) else None
    return None


async def test_tasks_that_share_the_gate_share_what_it_learns(gate: RedisGate) -> None:
    answers = await asyncio.gather(*(gate.claim(Path.batch, "comeback", TODAY, USERS[n::50]) for n in range(50)))
    assert answers == [[Claim.granted] * 60] * 50
