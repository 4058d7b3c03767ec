"""What a batch of activity tells Redis: the same however shards are put into calls, and nothing where one is lost."""

from __future__ import annotations

from datetime import date
from typing import Any

import pytest

from shared.gate import GateClosedError, open_fresh
from shared.gate.keys import epoch_key
from shared.identity import shard_of
from shared.keyspace import Call
from shared.settings import Settings
from stream.due import active
from stream.due.active import Active
from stream.runtime import Runtime
from tests.integration.support import TODAY, YESTERDAY, redis_state

USERS = range(1, 1_001)


def said(n: int) -> Active:
    """Every kind of word a user can have, on two dates now and then."""
    days: tuple[date, ...] = ((), (TODAY,), (YESTERDAY, TODAY))[n % 3]
    timer = 900 + n if n % 2 else 0
    return Active(n, days, 1_000 + n, 2_000 + n, 500, timer) if n % 5 else Active(n, abandoned_due=timer or 7)


async def state(settings: Settings) -> dict[bytes, Any]:
    return {key: value for key, value in (await redis_state(settings)).items() if not key.startswith(b"epoch")}


@pytest.mark.parametrize("most", [0, 1, 7, 200, 10_000])
async def test_shards_that_share_a_call_are_written_as_by_themselves(
    settings: Settings, runtime: Runtime, monkeypatch: pytest.MonkeyPatch, most: int
) -> None:
    calls: list[int] = []
    run = runtime.keyspace.run

    async def counted(asked: list[Call]) -> list[Any]:
        calls.append(len(asked))
        return await run(asked)

    monkeypatch.setattr(runtime.keyspace, "run", counted)
    users = [said(n) for n in USERS]
    monkeypatch.setattr(runtime.keyspace, "together", False)
    await runtime.active.write(users)
    alone = await state(settings)
    await runtime.keyspace.everywhere("FLUSHDB")
    await open_fresh(settings)
    monkeypatch.setattr(runtime.keyspace, "together", True)
    monkeypatch.setattr(active, "TOGETHER", most)
    await runtime.active.write(users)
    assert await state(settings) == alone
    shards = len({shard_of(n) for n in USERS})
    assert calls[0] == shards
    assert calls[1] == {0: shards, 1: shards, 10_000: 1}.get(most, calls[1])
    assert calls[1] <= shards


async def test_one_lost_shard_of_a_call_is_an_error_and_repeating_it_all_is_harmless(
    settings: Settings, runtime: Runtime
) -> None:
    users = [said(n) for n in USERS]
    await runtime.active.write(users)
    whole = await state(settings)
    lost = epoch_key(shard_of(max(USERS, key=shard_of)))
    (epoch,) = await runtime.keyspace.run([Call(0, ("GET", lost))])
    await runtime.keyspace.run([Call(0, ("DEL", lost))])
    with pytest.raises(GateClosedError, match=lost.replace("{", "\\{")):
        await runtime.active.write(users)
    await runtime.keyspace.run([Call(0, ("SET", lost, epoch))])
    await runtime.active.write(users)
    assert await state(settings) == whole
