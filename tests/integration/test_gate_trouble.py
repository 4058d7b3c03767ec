"""A real server in trouble: nothing is granted, nothing is lost, and the gate says what to do about it."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from contextlib import suppress
from datetime import date
from typing import Any

import pytest
from redis.exceptions import ResponseError

from shared.gate import Claim, GateClosedError, GateUnavailableError, Keeper, RedisGate, SendKey, Standing, open_fresh
from shared.gate.keys import bucket_key
from shared.identity import SHARDS, bucket_of, shard_of
from shared.patience import Patience
from shared.policy.kinds import Path
from shared.settings import Settings
from tests.integration.valkeys import Valkey, emptied, gate_at, settings_for, until

VALKEY_OPTIONS = ("busy-reply-threshold 50", "appendonly yes")
TODAY = date(2026, 11, 21)
USERS = list(range(1, 51))


async def ask(gate: RedisGate, path: Path = Path.batch) -> list[Claim]:
    return await gate.claim(path, "comeback", TODAY, USERS[:1])


@pytest.fixture
async def settings(server: Valkey) -> Settings:
    return await emptied(server)


def stored(server: Valkey) -> dict[bytes, Any]:
    with server.client() as client:
        names = sorted(client.scan_iter(count=10_000))
        return {name: client.hgetall(name) if client.type(name) == b"hash" else client.get(name) for name in names}


async def test_out_of_memory_claims_nothing_by_halves_and_delivery_goes_on(gate: RedisGate, server: Valkey) -> None:
    keys = [SendKey(user, "comeback", TODAY) for user in USERS]
    assert await gate.claim(Path.batch, "comeback", TODAY, USERS) == [Claim.granted] * 50
    before = stored(server)
    server("CONFIG", "SET", "maxmemory", "1mb")
    try:
        for question in (
            gate.claim(Path.batch, "comeback", TODAY, list(range(1, 3001))),
            gate.claim(Path.blast, "campaign", TODAY, USERS, "spring"),
            gate.practised([(user, TODAY) for user in USERS]),
            gate.opt_out([(user, TODAY, 1) for user in USERS]),
        ):
            with pytest.raises(GateUnavailableError, match="memory is full"):
                await question
        assert stored(server) == before
        assert await gate.standing(Path.batch, keys) == [Standing.clear] * 50
        assert await gate.pauses() == ()
        await gate.settle(Path.batch, keys)
        assert await gate.standing(Path.batch, keys) == [Standing.settled] * 50
    finally:
        server("CONFIG", "SET", "maxmemory", 0)
    assert await gate.claim(Path.batch, "comeback", TODAY, USERS) == [Claim.settled_before] * 50


async def test_a_server_that_evicts_is_no_gate(gate: RedisGate, server: Valkey, settings: Settings) -> None:
    server("CONFIG", "SET", "maxmemory-policy", "volatile-lru", "maxmemory", "1gb")
    try:
        async with gate_at(server.url) as late:
            with pytest.raises(GateUnavailableError, match="maxmemory-policy to noeviction"):
                await ask(late)
    finally:
        server("CONFIG", "SET", "maxmemory-policy", "noeviction", "maxmemory", 0)
    assert await ask(gate) == [Claim.granted]


async def test_a_script_of_somebody_else_that_never_ends(gate: RedisGate, server: Valkey) -> None:
    async with gate_at(server.url) as late:
        assert await ask(gate) == [Claim.granted]
        with server.client() as client, client.client() as held:
            held.connection.send_command("EVAL", "while true do end", 0)
            for each in (gate, late):
                with pytest.raises(GateUnavailableError, match="SCRIPT KILL"):
                    await ask(each)
            client.execute_command("SCRIPT", "KILL")
        assert await Patience().until_done("claiming", lambda: ask(gate)) == [Claim.granted_again]


async def test_too_few_replicas_stop_claims_and_what_is_claimed_is_known_afterwards(
    gate: RedisGate, server: Valkey
) -> None:
    assert await ask(gate) == [Claim.granted]
    server("CONFIG", "SET", "min-replicas-to-write", 1)
    try:
        with pytest.raises(GateUnavailableError, match="min-replicas-to-write"):
            await ask(gate, Path.stream)
    finally:
        server("CONFIG", "SET", "min-replicas-to-write", 0)
    assert await ask(gate, Path.stream) == [Claim.other_path]


@pytest.mark.parametrize("credentials", ["", ":wrong-one@"])
async def test_a_missing_or_wrong_password_is_named_and_not_shown(server: Valkey, credentials: str) -> None:
    async with gate_at(f"redis://{credentials}127.0.0.1:{server.port}/0") as gate:
        with pytest.raises(GateUnavailableError, match="check the password in SURNIA_REDIS_URL") as caught:
            await ask(gate)
        assert "wrong-one" not in str(caught.value)


async def test_a_server_that_restarts_between_two_calls_is_closed_on_every_connection(
    gate: RedisGate, server: Valkey, settings: Settings
) -> None:
    answers = await asyncio.gather(*(ask(gate) for _ in range(20)))
    assert sorted(answers) == [[Claim.granted]] + [[Claim.granted_again]] * 19
    before = stored(server)
    server.stop()
    server.start()
    assert stored(server) == before
    for _ in range(20):
        with pytest.raises(GateUnavailableError):
            await ask(gate, Path.stream)
    with pytest.raises(GateClosedError, match="restarted or took over"):
        await ask(gate, Path.stream)
    keeper = Keeper.connect(settings)
    await keeper.begin(range(SHARDS), "token")
    server.kill()
    server.start()
    with suppress(GateUnavailableError):
        assert await keeper.open(range(SHARDS), "token", "second", ()) == list(range(SHARDS))
    await keeper.begin(range(SHARDS), "token")
    assert await keeper.open(range(SHARDS), "token", "second", ()) == []
    await keeper.close()
    assert await ask(gate, Path.stream) == [Claim.other_path]


async def test_a_durable_server_goes_on_after_a_restart(server: Valkey) -> None:
    server("FLUSHALL")
    settings = settings_for(server.url, gate_durable=True)
    await open_fresh(settings)
    async with gate_at(server.url, gate_durable=True) as gate:
        assert await ask(gate) == [Claim.granted]
        server.stop()
        server.start()
        answer = await until(lambda: answered(lambda: ask(gate, Path.stream)), "the server to be found again")
        assert answer == [Claim.other_path]
        server("FLUSHALL")
        with pytest.raises(GateClosedError):
            await ask(gate)


async def answered(question: Callable[[], Awaitable[list[Claim]]]) -> list[Claim] | None:
    with suppress(GateUnavailableError):
        return await question()
    return None


async def test_a_call_that_is_cancelled_leaves_its_answer_to_nobody(gate: RedisGate) -> None:
    chance = random.Random(7)
    await gate.practised([(user, TODAY) for user in range(1, 60_000, 2)])
    finished = cancelled = 0

    async def work(number: int) -> None:
        nonlocal finished, cancelled
        for turn in range(20):
            first = 1000 * number + 20 * turn + 1
            users = list(range(first, first + chance.randint(1, 20)))
            call = asyncio.create_task(gate.claim(Path.batch, "comeback", TODAY, users))
            for _ in range(chance.randrange(30)):
                await asyncio.sleep(0)
            if chance.random() < 0.5:
                call.cancel()
            try:
                answers = await call
            except asyncio.CancelledError:
                cancelled += 1
                answers = await gate.claim(Path.batch, "comeback", TODAY, users)
            else:
                finished += 1
            for user, answer in zip(users, answers, strict=True):
                assert answer in ((Claim.practised,) if user % 2 else (Claim.granted, Claim.granted_again))

    async with asyncio.timeout(120):
        await asyncio.gather(*(work(number) for number in range(50)))
    assert finished > 100 and cancelled > 100


async def test_a_real_script_that_fails_is_not_taken_for_trouble_either(gate: RedisGate, server: Valkey) -> None:
    user = USERS[0]
    server("SET", bucket_key(shard_of(user), bucket_of(user, 2), TODAY), "no hash")
    with pytest.raises(ResponseError, match="WRONGTYPE"):
        await ask(gate)
