"""Members that come and go while runs are in hand."""

from __future__ import annotations

import asyncio
import random
from collections import defaultdict
from functools import partial
from itertools import pairwise
from typing import Any

from tests.integration.transport.broker import Broker, until
from tests.integration.transport.harness import Reader, create_app, running
from tests.integration.transport.journals import nothing_else_committed

PARTITIONS = 4


class Group:
    """Members in this process, and all that they have handled."""

    def __init__(self, broker: Broker, topic: str, seconds: float) -> None:
        self.broker, self.topic, self.seconds = broker, topic, seconds
        self.name = create_app(broker.address).conf.id
        self.readers: list[Reader] = []

    def member(self, **options: Any) -> Reader:
        app = create_app(self.broker.address, self.name, **options)
        self.readers.append(Reader(app, self.topic, self._work))
        return self.readers[-1]

    async def _work(self, _: list[Any]) -> None:
        await asyncio.sleep(self.seconds * random.random())

    def handled(self) -> dict[int, set[int]]:
        found: defaultdict[int, set[int]] = defaultdict(set)
        for reader in self.readers:
            for partition, offsets in reader.handled.items():
                found[partition].update(offsets)
        return found

    async def all_owned_by(self, *members: Reader) -> None:
        """Wait until every partition has an owner, and no more than one."""
        await until(lambda: self.owned(*members) == list(range(PARTITIONS)), "an owner each")

    def owned(self, *members: Reader) -> list[int]:
        return sorted(tp.partition for member in members for tp in member.app.consumer.assignment())


def _has_some(member: Reader, filling: asyncio.Task[None]) -> bool:
    return bool(member.handed) or filling.done()


async def test_members_come_and_go_in_the_middle_of_runs(broker: Broker) -> None:
    topic = await broker.topic(PARTITIONS)
    group = Group(broker, topic, 0.05)
    stays = group.member()

    async def fill() -> None:
        for _ in range(PARTITIONS * 40):
            await broker.write(topic, random.randrange(PARTITIONS), *[b"x"] * 50)
            await asyncio.sleep(0.005)

    async with nothing_else_committed(broker, group.name, topic, group.handled), running(stays.app):
        await group.all_owned_by(stays)
        filling = asyncio.create_task(fill())
        for turn in range(8):
            comes = group.member(stream_wait_empty=bool(turn % 2))
            async with running(comes.app):
                await group.all_owned_by(stays, comes)
                await until(partial(_has_some, comes, filling))
        await filling
        await until(lambda: broker.done(group.name, topic))
        assert group.owned(stays) == list(range(PARTITIONS))
        ends = await broker.ends(topic)
    handled = group.handled()
    assert {partition: set(range(end)) for partition, end in ends.items()} == handled


async def test_a_member_that_keeps_its_partitions_goes_on_without_a_gap(broker: Broker) -> None:
    topic, other = await broker.topic(PARTITIONS), await broker.topic()
    group = Group(broker, topic, 0.01)
    stays = group.member(stream_wait_empty=False)
    for partition in range(PARTITIONS):
        await broker.fill(topic, partition, 10_000)
    async with nothing_else_committed(broker, group.name, topic, group.handled), running(stays.app):
        for _ in range(5):
            before = len(stays.records)
            await stays.gets(min(before + 1, 40_000))
            # Of the same group, and interested in something else: all is shared out anew, and nothing moves.
            comes = create_app(broker.address, group.name)
            Reader(comes, other)
            async with running(comes):
                await until(comes.consumer.assignment)
                assert group.owned(stays) == list(range(PARTITIONS))
        await until(lambda: broker.done(group.name, topic))
    for partition in range(PARTITIONS):
        offsets = stays.offsets(partition)
        assert all(after <= before + 1 for before, after in pairwise(offsets))
        assert set(stays.handled[partition]) == set(range(10_000))


async def test_a_member_that_had_none_gets_what_another_one_leaves(broker: Broker) -> None:
    topic = await broker.topic()
    group = Group(broker, topic, 0)
    one, two = group.member(), group.member()
    async with running(two.app):
        async with running(one.app):
            await until(lambda: len(group.owned(one, two)) == 1)
            await broker.write(topic, 0, *[b"x"] * 10)
            await until(lambda: broker.done(group.name, topic))
        await until(lambda: group.owned(two) == [0])
        await broker.write(topic, 0, *[b"x"] * 10)
        await until(lambda: broker.done(group.name, topic))
    assert sorted(one.offsets() + two.offsets()) == list(range(20))
