"""What is in memory stays bounded while nobody handles it, and goes on when somebody does."""

from __future__ import annotations

import asyncio
import gc
from typing import Any

import pytest
from aiokafka.structs import ConsumerRecord
from faust.types import TP

from stream.transport.driver import IN_HAND
from stream.transport.thread import LONGEST, POLL
from tests.integration.transport.broker import Broker, until
from tests.integration.transport.harness import Reader, create_app, running

BOUND = IN_HAND + POLL + LONGEST


def in_memory(topic: str) -> int:
    """Records of the topic that this process has made of what it fetched."""
    return sum(isinstance(one, ConsumerRecord) and one.topic == topic for one in gc.get_objects())


def full(app: Any) -> set[TP]:
    """Partitions that are not read because the buffer is full."""
    return set(app.consumer._buffered_partitions)


@pytest.mark.parametrize("partitions", [1, 16])
async def test_a_handler_that_is_blocked_bounds_the_records_in_memory(broker: Broker, partitions: int) -> None:
    topic, other = await broker.topic(partitions), await broker.topic()
    for partition in range(partitions):
        await broker.fill(topic, partition, 64_000 // partitions)
    goes_on = asyncio.Event()

    async def handle(_: list[Any]) -> None:
        await goes_on.wait()

    app = create_app(broker.address)
    reader, witness = Reader(app, topic, handle), Reader(app, other)
    async with running(app):
        await until(lambda: reader.records)
        for n in range(1, 10):
            # Polls go on: what they can bring, they bring.
            await broker.write(other, 0, b"x")
            await witness.gets(n)
        held = in_memory(topic)
        print(f"\n{partitions} partitions: {held:,} records in memory of 64,000, bound {BOUND:,}")
        assert IN_HAND <= held <= BOUND
        goes_on.set()
        await until(lambda: broker.done(app.conf.id, topic))
    assert len(reader.records) == 64_000


async def test_a_buffer_that_is_full_of_one_topic_does_not_stop_another(broker: Broker) -> None:
    full, other = await broker.topic(4), await broker.topic()
    for partition in range(4):
        await broker.write(full, partition, *[b"x"] * 100)
    goes_on = asyncio.Event()

    async def handle(_: list[Any]) -> None:
        await goes_on.wait()

    # Four fifths of it, and one record more of each partition.
    app = create_app(broker.address, stream_buffer_maxsize=20)
    blocked = Reader(app, full, handle, in_runs=False)
    free = Reader(app, other, in_runs=False)
    async with running(app):
        await until(lambda: blocked.records)
        for n in range(1, 10):
            await broker.write(other, 0, b"x")
            await free.gets(n)
        goes_on.set()
        await until(lambda: broker.done(app.conf.id, full))
    assert [blocked.offsets(partition) for partition in range(4)] == [list(range(100))] * 4


async def test_a_buffer_that_drains_does_not_resume_a_paused_partition(broker: Broker) -> None:
    topic = await broker.topic(2)
    await broker.write(topic, 0, *[b"x"] * 50)
    goes_on = asyncio.Event()

    async def handle(_: list[Any]) -> None:
        await goes_on.wait()

    app = create_app(broker.address, stream_buffer_maxsize=10)
    reader = Reader(app, topic, handle, in_runs=False)
    async with running(app):
        await until(lambda: TP(topic, 0) in full(app))
        app.consumer.pause_partitions({TP(topic, 0)})
        goes_on.set()
        await until(lambda: not full(app))
        await broker.write(topic, 1, *[b"x"] * 50)
        await until(lambda: len(reader.offsets(1)) == 50)
        assert len(reader.offsets(0)) < 50
        app.consumer.resume_partitions({TP(topic, 0)})
        await until(lambda: broker.done(app.conf.id, topic))
    assert reader.offsets(0) == list(range(50))


async def test_a_full_buffer_costs_no_second_of_rest(broker: Broker) -> None:
    topic = await broker.topic()
    await broker.write(topic, 0, *[b"x"] * 100)
    rests = 0
    app = create_app(broker.address, stream_buffer_maxsize=4)

    async def handle(records: list[Any]) -> None:
        nonlocal rests
        await until(lambda: full(app) or records[0].offset >= 90)
        rests += bool(full(app))

    reader = Reader(app, topic, handle, in_runs=False)
    loop = asyncio.get_running_loop()
    async with running(app):
        began = loop.time()
        await until(lambda: len(reader.records) == 100)
        took = loop.time() - began
    print(f"\n100 records through a buffer of 4 that was full {rests} times: {took:.2f} s")
    # The stock driver sleeps for a second whenever all partitions' buffers are full.
    assert took < rests
