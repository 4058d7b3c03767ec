"""A gate that lost its data: closed until it is rebuilt, and then it answers as it did before."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import asdict

import pytest
from redis import Redis

from shared.gate import Claim, GateClosedError, Keeper, RedisGate
from shared.gate.keys import epoch_key
from shared.identity import SHARDS, shard_of
from shared.policy.kinds import Path
from shared.settings import Settings
from shared.wire.sends import OutcomeBatch, Result, encode
from stream.keeping.rebuild import rebuild
from stream.runtime import Runtime
from tests.integration.lost import History, due_state, gate_state, lose, outcome, send
from tests.integration.support import TODAY, denials, redis_state, running


@pytest.fixture
async def runtime(settings: Settings) -> AsyncIterator[Runtime]:
    async with running(settings) as runtime:
        yield runtime


async def claims(runtime: Runtime, *users: int, path: Path = Path.stream, kind: str = "practice") -> list[Claim]:
    return await runtime.gate.claim(path, kind, TODAY, users)


@pytest.mark.parametrize("seed", range(4))
async def test_after_any_history_the_gate_is_as_it_was(settings: Settings, runtime: Runtime, seed: int) -> None:
    await History(settings, runtime, seed).happen()
    before, due_before = await gate_state(settings), await due_state(settings)
    assert len(before) > 60
    await lose(settings)
    done = await rebuild(runtime)
    assert (done.still_closed, len(done.shards), done.attempts) == ([], SHARDS, 1)
    assert await gate_state(settings) == before
    due_after = await due_state(settings)
    assert due_before <= due_after
    # What the gate or the planner denied was fired, and is denied again.
    refused = {(kind, user) for user, kind in await denials_of(settings)}
    assert {(kind.decode(), user) for kind, user, _ in due_after - due_before} <= refused
    assert done.claimed
    assert done.settled
    assert done.marks
    assert done.opt_outs


async def denials_of(settings: Settings) -> set[tuple[int, str]]:
    from tests.integration.support import outcomes_in

    return {(o.user_id, o.kind) for o in await outcomes_in(settings) if o.result is Result.denied}
