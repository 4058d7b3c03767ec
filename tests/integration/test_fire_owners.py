"""Workers that die, hand over their shards or hold them twice for a moment: everybody is fired, with the same sends."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from aiokafka.admin import AIOKafkaAdminClient

from infra.bench.due import material
from infra.stack import process
from shared import outbox
from shared.clock import FileClock
from shared.due.index import DueIndex, Practised
from shared.gate import RedisGate, SendKey
from shared.identity import SHARDS, shard_of
from shared.lag import group_of
from shared.outbox import GRANTED, Outbox
from shared.policy.kinds import Path as PlannerPath
from shared.producer import Producer
from shared.settings import Settings
from shared.wire.sends import Send
from stream.due import fire, turns
from stream.due.fire import Firing, owned_shards
from stream.runtime import Runtime
from stream.sweeper import sweep
from tests.conftest import NOON
from tests.integration.planned import answers, decided, in_outbox
from tests.integration.support import (
    DAY,
    TODAY,
    add_users,
    outcomes_in,
    practised_at,
    running,
    scheduled,
    sends_in,
    sql,
)

ROOT = Path(__file__).parents[2]
ALL = range(SHARDS)
DUE = NOON - 60
CROWD = range(1, 41)
Patch = pytest.MonkeyPatch


async def schedule(settings: Settings, runtime: Runtime, users: range = CROWD) -> None:
    add_users(settings, *({"id": user, **practised_at(NOON - DAY)} for user in users))
    await runtime.due.update([Practised(user, DUE, None, 0.0) for user in users], [])


def ids(sends: list[Send]) -> dict[int, set[object]]:
    """User -> ids of the sends."""
    found: dict[int, set[object]] = {}
    for send in sends:
        found.setdefault(send.user_id, set()).add(send.send_id)
    return found


async def everybody_once(settings: Settings, runtime: Runtime, users: range = CROWD) -> None:
    """Each has sends of one identity, granted once, and nothing is left to do."""
    found = ids(await sends_in(settings, runtime.topics.urgent))
    assert set(found) == set(users)
    assert {len(each) for each in found.values()} == {1}
    assert answers(settings) == {(PlannerPath.stream, "practice", GRANTED): len(users)}
    assert await outcomes_in(settings) == []
    assert in_outbox(settings) == []
    assert await scheduled(runtime) == []


STEPS: dict[str, tuple[Any, str]] = {
    "the lookup in the index": (DueIndex, "read"),
    "the claim": (RedisGate, "claim"),
    "the page": (Outbox, "record"),
    "the messages": (Producer, "write"),
    "the outbox's deletion": (outbox, "delete"),
    "the removal from the index": (DueIndex, "remove"),
}


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("step", STEPS)
async def test_a_worker_that_is_cancelled_at_a_step_leaves_the_same_sends_to_the_next(
    settings: Settings, runtime: Runtime, monkeypatch: Patch, step: str, after: bool
) -> None:
    monkeypatch.setattr(fire, "PAGE", 7)
    monkeypatch.setattr(turns, "PAGE", 7)
    await schedule(settings, runtime)
    owner, name = STEPS[step]
    call: Callable[..., Any] = getattr(owner, name)
    reached = asyncio.Event()

    async def stuck(*args: Any, **options: Any) -> None:
        if after:
            await call(*args, **options)
        reached.set()
        await asyncio.Event().wait()

    with monkeypatch.context() as patch:
        patch.setattr(owner, name, stuck)
        first = asyncio.create_task(Firing(runtime).fire(ALL))
        async with asyncio.timeout(30):
            await reached.wait()
        first.cancel()
        await asyncio.gather(first, return_exceptions=True)
        assert first.cancelled()
    await Firing(runtime).fire(ALL)
    swept = runtime.settings.model_copy(update={"outbox_seconds": 1e-6})
    async with running(swept) as other:
        await sweep(other)
    await everybody_once(settings, runtime)


@pytest.mark.parametrize("pages", [1, 4, 9])
async def test_a_worker_that_is_killed_in_the_middle_loses_nobody_and_the_next_fires_the_rest(
    environment: dict[str, str], settings: Settings, clock: FileClock, tmp_path: Path, pages: int
) -> None:
    people, due = 20_000, material.due_at(NOON)
    clock.set(due)
    await asyncio.to_thread(material.fill_tables, settings.require_postgres(), people, 0, due)
    async with running(settings.model_copy(update={"outbox_seconds": 1e-6})) as runtime:
        await material.fill_index(runtime.due, people, 0, due)
        worker = process.spawn(
            [sys.executable, "-m", "tests.integration.fire_all"],
            tmp_path / "log",
            cwd=ROOT,
            env=os.environ | environment,
        )
        try:

            def written() -> bool:
                return bool(sql(settings, "SELECT 1 FROM planned LIMIT 1 OFFSET %s", pages - 1))

            assert await asyncio.to_thread(process.wait_until, written, 60), process.tail(tmp_path / "log")
        finally:
            process.end(worker, signal.SIGKILL, 10)
        left = len(await scheduled(runtime))
        assert left, "it was killed in the middle"
        await Firing(runtime).fire(ALL)
        await sweep(runtime)
        found = ids(await sends_in(settings, runtime.topics.urgent))
        assert set(found) == {user for users in material.users(0, people) for user in users}
        assert {len(each) for each in found.values()} == {1}
        assert answers(settings) == {(PlannerPath.stream, "streak_saver", GRANTED): people}
        assert await scheduled(runtime) == []
        assert in_outbox(settings) == []


async def test_two_owners_for_a_moment_do_no_harm(settings: Settings, runtime: Runtime) -> None:
    await schedule(settings, runtime)
    async with running(settings) as other:
        await asyncio.gather(Firing(runtime).fire(ALL), Firing(other).fire(ALL))
    await everybody_once(settings, runtime)
    # Once a provider has accepted them, whoever comes late has nothing left to send.
    before = len(await sends_in(settings, runtime.topics.urgent))
    await runtime.gate.settle(PlannerPath.stream, [SendKey(user, "practice", TODAY) for user in CROWD])
    await runtime.due.update([Practised(user, DUE, None, 0.0) for user in CROWD], [])
    assert await Firing(runtime).fire(ALL) == len(CROWD)
    assert len(await sends_in(settings, runtime.topics.urgent)) == before


async def test_a_shard_that_changes_hands_is_fired_by_its_new_owner_alone(
    settings: Settings, runtime: Runtime, monkeypatch: Patch
) -> None:
    """The old owner is in the middle of its round when it loses half of its partitions."""
    monkeypatch.setattr(turns, "PAGE", 4)
    await schedule(settings, runtime)
    mine = {0, 1, 2, 3}
    claim, by_old = RedisGate.claim, []

    async def losing(gate: RedisGate, path: Any, kind: str, day: Any, users: Any, campaign: str = "") -> Any:
        mine.difference_update({2, 3})
        by_old.extend(users)
        return await claim(gate, path, kind, day, users, campaign)

    one_at_a_time = settings.model_copy(update={"fire_concurrency": 1})
    async with running(one_at_a_time) as old:
        with monkeypatch.context() as patch:
            patch.setattr(RedisGate, "claim", losing)
            await Firing(old).fire_owned(lambda: owned_shards(mine, 4))
    # The strip that was begun may hold any shard; after it only what is still owned.
    assert {shard_of(user) % 4 for user in by_old[4:]} <= {0, 1}
    await Firing(runtime).fire(owned_shards({2, 3}, 4))
    await everybody_once(settings, runtime)
    assert len(await sends_in(settings, runtime.topics.urgent)) == len(CROWD), "nobody twice, not even with the same id"


class Group:
    """The stream role's consumer group, as its coordinator sees it."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    async def partitions(self) -> list[set[int]]:
        """Of the activity's topic, member by member; empty while the group is sharing them out."""
        from aiokafka.coordinator.protocol import ConsumerProtocolMemberAssignment

        admin = AIOKafkaAdminClient(bootstrap_servers=self._settings.require_kafka())
        await admin.start()
        try:
            (answer,) = await admin.describe_consumer_groups([group_of("stream", self._settings.topic_prefix)])
        finally:
            await admin.close()
        (_, _, state, _, _, members, *_) = answer.groups[0]
        if state != "Stable":
            return []
        found = []
        for member in members:
            assigned = ConsumerProtocolMemberAssignment.decode(member[4])
            found.append({number for _, numbers in assigned.assignment for number in numbers})
        return found

    async def shared_by(self, workers: int) -> list[set[int]]:
        """Waits until so many have all partitions between them."""
        async with asyncio.timeout(90):
            while True:
                found = await self.partitions()
                if (
                    len([each for each in found if each]) == workers
                    and sum(map(len, found)) == self._settings.partitions
                ):
                    return found
                await asyncio.sleep(0.1)


async def fired(runtime: Runtime) -> None:
    async with asyncio.timeout(60):
        while True:
            if not await scheduled(runtime):
                return
            await asyncio.sleep(0.05)


async def test_after_every_rebalance_each_shard_is_fired_by_exactly_one_worker(
    environment: dict[str, str], settings: Settings, runtime: Runtime, tmp_path: Path
) -> None:
    group, workers = Group(settings), []

    def start(name: str) -> None:
        command = [sys.executable, "-m", "surnia", "worker", "stream"]
        workers.append(process.spawn(command, tmp_path / name, cwd=ROOT, env=os.environ | environment))

    crowds = [range(start, start + 300) for start in (1, 1_001, 2_001)]
    try:
        start("first")
        await group.shared_by(1)
        await schedule(settings, runtime, crowds[0])
        await fired(runtime)
        start("second")
        one, other = await group.shared_by(2)
        assert not one & other
        await schedule(settings, runtime, crowds[1])
        await fired(runtime)
        process.end(workers[0], signal.SIGTERM, 30)
        await group.shared_by(1)
        await schedule(settings, runtime, crowds[2])
        await fired(runtime)
    finally:
        for worker in workers:
            process.end(worker, signal.SIGTERM, 30)
    counts = Counter(send.user_id for send in await sends_in(settings, runtime.topics.urgent))
    assert counts == Counter(user for crowd in crowds for user in crowd)
    assert len(decided(settings)) == 900
