"""Rebuilds in trouble: data that is lost again, a cut, many workers at once, pauses, a server that restarts."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path as Folder

import pytest
from pydantic import SecretStr
from redis import Redis

from infra.stack.stack import Stack
from shared.clock import utc
from shared.gate import Claim, GateClosedError, Keeper, RedisGate, Rule, pauses
from shared.gate.keys import epoch_key
from shared.identity import SHARDS
from shared.policy.kinds import Path
from shared.settings import Settings
from shared.wire.sends import Result
from stream.keeping.auto import AutoRebuild
from stream.keeping.rebuild import ATTEMPTS, rebuild
from stream.runtime import Runtime
from tests.conftest import NOON
from tests.integration.lost import History, gate_state, lose
from tests.integration.rebuilds import claim, of, write_ledger
from tests.integration.support import (
    TODAY,
    running,
)


async def test_data_lost_again_meanwhile_does_not_open_it_half(settings: Settings, runtime: Runtime) -> None:
    await write_ledger(runtime, (of(1), Result.delivered, "accepted"))
    await lose(settings)
    done = await rebuild(runtime, tell=_flushing(settings, times=1))
    assert (done.attempts, done.still_closed) == (2, [])
    assert await claim(runtime, of(1)) == [Claim.settled_before]


async def test_data_lost_again_and_again_leaves_it_closed(settings: Settings, runtime: Runtime) -> None:
    await lose(settings)
    done = await rebuild(runtime, tell=_flushing(settings, times=99))
    assert (done.attempts, len(done.still_closed)) == (ATTEMPTS, SHARDS)
    with pytest.raises(GateClosedError):
        await claim(runtime, of(1))


def _flushing(settings: Settings, times: int) -> Callable[[str, int, int], None]:
    """Loses the data when a rebuild has read the ledger, so many times."""
    left = times

    def tell(what: str, done: int, expected: int) -> None:
        nonlocal left
        if what == "users" and done == 0 and left:
            left -= 1
            with Redis.from_url(settings.require_redis()) as redis:
                redis.flushall()

    return tell


async def test_a_rebuild_that_is_cut_off_leaves_it_closed_and_the_next_one_finishes(
    settings: Settings, runtime: Runtime
) -> None:
    await History(settings, runtime, 11).happen()
    before = await gate_state(settings)
    await lose(settings)

    def cut_off(what: str, done: int, expected: int) -> None:
        if what == "users":
            raise ConnectionResetError

    with pytest.raises(ConnectionResetError):
        await rebuild(runtime, tell=cut_off)
    with pytest.raises(GateClosedError):
        await claim(runtime, of(1))
    await rebuild(runtime)
    assert await gate_state(settings) == before


async def test_it_opens_with_the_pauses_in_force(settings: Settings, runtime: Runtime) -> None:
    async with await pauses.connect(settings) as connection:
        await pauses.pause(connection, Rule(kind="practice"), "r", "ana", utc(NOON))
        gone, _ = await pauses.pause(connection, Rule(kind="comeback"), "r", "ana", utc(NOON))
        await pauses.resume(connection, gone.id, "r", "ana", utc(NOON))
    await lose(settings)
    await rebuild(runtime)
    assert await claim(runtime, of(1), of(1, "streak_saver")) == [Claim.paused, Claim.granted]
    assert await runtime.gate.pauses() == (Rule(kind="practice"),)


async def test_of_many_workers_one_rebuilds_and_all_find_it_open(settings: Settings, runtime: Runtime) -> None:
    await write_ledger(runtime, (of(1), Result.delivered, "accepted"))
    async with running(settings) as second, running(settings) as third:
        workers = [AutoRebuild(each) for each in (runtime, second, third)]
        assert await asyncio.gather(*(worker.look() for worker in workers)) == [None] * 3
        await lose(settings)
        done = [each for each in await asyncio.gather(*(worker.look() for worker in workers)) if each]
        assert len(done) == 1
        assert done[0].settled == 1
        assert await asyncio.gather(*(worker.look() for worker in workers)) == [None] * 3
    assert await claim(runtime, of(1)) == [Claim.settled_before]


async def test_a_server_that_restarted_is_closed_unless_its_data_is_known_to_be_whole(
    settings: Settings, tmp_path: Folder
) -> None:
    stack = Stack(tmp_path / "own")

    def start() -> Settings:
        stack.up(parts=["valkey"])
        return settings.model_copy(update={"redis_url": SecretStr(stack.addresses()["redis_url"])})

    async def asked(settings: Settings) -> list[Claim]:
        gate = RedisGate.connect(settings)
        try:
            return await gate.claim(Path.stream, "practice", TODAY, [4])
        finally:
            await gate.close()

    try:
        mine = start()
        async with running(mine) as runtime:
            await rebuild(runtime)
        assert await asked(mine) == [Claim.granted]
        stack.down()
        mine = start()
        with pytest.raises(GateClosedError, match="restarted"):
            await asked(mine)
        assert await asked(mine.model_copy(update={"gate_durable": True})) == [Claim.granted_again]
        keeper = Keeper.connect(mine)
        with Redis.from_url(mine.require_redis()) as redis:
            redis.delete(epoch_key(9))
        assert await keeper.trust(range(SHARDS), "told") == [9], "without its epoch its data is gone"
        assert list(await keeper.closed()) == [9]
        await keeper.close()
        assert await asked(mine) == [Claim.granted_again]
        async with running(mine) as runtime:
            assert (await rebuild(runtime)).shards == [9]
    finally:
        stack.remove()
