"""Reading from somewhere else, whatever was fetched and is in hand at that moment."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from faust.types import TP

from tests.integration.transport.broker import Broker, until
from tests.integration.transport.harness import Reader, commit, create_app, running

BOTH = pytest.mark.parametrize("in_runs", [True, False], ids=["runs", "singles"])


async def seek(app: Any, topic: str, offset: int) -> None:
    await app.consumer.seek(TP(topic, 0), offset)


@BOTH
async def test_seeking_backward_hands_over_again(broker: Broker, in_runs: bool) -> None:
    topic = await broker.topic()
    await broker.write(topic, 0, *[b"x"] * 100)
    reader = Reader(app := create_app(broker.address), topic, in_runs=in_runs)
    async with running(app):
        await until(lambda: len(reader.records) == 100)
        # A poll is waiting for more at this moment.
        await seek(app, topic, 40)
        await until(lambda: len(reader.records) == 160)
        await until(lambda: broker.done(app.conf.id, topic))
    assert reader.offsets() == [*range(100), *range(40, 100)]


async def test_seeking_to_the_start_hands_over_all_again(broker: Broker) -> None:
    topic = await broker.topic()
    await broker.write(topic, 0, *[b"x"] * 100)
    reader = Reader(app := create_app(broker.address), topic)
    async with running(app):
        await until(lambda: len(reader.records) == 100)
        await seek(app, topic, 0)
        await until(lambda: len(reader.records) == 200)
    assert reader.offsets() == [*range(100), *range(100)]


@BOTH
async def test_seeking_forward_passes_what_lies_between(broker: Broker, in_runs: bool) -> None:
    topic = await broker.topic()
    goes_on = asyncio.Event()

    async def handle(_: list[Any]) -> None:
        await goes_on.wait()

    await broker.write(topic, 0, b"x")
    reader = Reader(app := create_app(broker.address, stream_buffer_maxsize=1), topic, handle, in_runs=in_runs)
    async with running(app):
        await until(lambda: reader.records)
        await broker.write(topic, 0, *[b"x"] * 99)
        await seek(app, topic, 90)
        goes_on.set()
        await until(lambda: broker.done(app.conf.id, topic))
    offsets = reader.offsets()
    assert offsets[-10:] == list(range(90, 100))
    assert len(offsets) == len(set(offsets))


async def test_what_is_in_hand_at_a_seek_is_not_committed_for_what_comes_after_it(broker: Broker) -> None:
    topic = await broker.topic()
    await broker.write(topic, 0, *[b"x"] * 100)
    gates: list[asyncio.Event] = []

    async def handle(_: list[Any]) -> None:
        gates.append(gate := asyncio.Event())
        await gate.wait()

    reader = Reader(app := create_app(broker.address, stream_wait_empty=False), topic, handle, at_once=True)
    async with running(app):
        await until(lambda: len(reader.records) == 100)
        await seek(app, topic, 50)
        await until(lambda: len(reader.records) == 150)
        gates[0].set()
        await until(lambda: reader.handled[0])
        await commit(app)
        # All of it was done once; but whoever sought wants the rest done again.
        assert (await broker.committed(app.conf.id, topic)).get(0, 0) <= 50
        for gate in gates:
            gate.set()
        await until(lambda: broker.done(app.conf.id, topic))


async def test_seeks_at_any_moment_lose_nothing(broker: Broker) -> None:
    topic = await broker.topic()
    await broker.fill(topic, 0, 50_000)
    reader = Reader(app := create_app(broker.address), topic)
    async with running(app):
        for begin in (0, 20_000, 3, 45_000, 10_000, 1, 30_000, 0):
            before = len(reader.records)
            await reader.gets(before + 500)
            reader.handed.clear()
            await seek(app, topic, begin)
            # What was handed over before the seek may still come to the agent.
            await reader.gets_to(begin)
        last = len(reader.offsets()) - 1 - reader.offsets()[::-1].index(0)
        await until(lambda: reader.offsets()[-1] == 49_999)
        await until(lambda: broker.done(app.conf.id, topic))
    assert reader.offsets()[last:] == list(range(50_000))


async def test_going_back_to_what_is_committed_hands_over_the_rest(broker: Broker) -> None:
    topic = await broker.topic(3)
    for partition in range(3):
        await broker.write(topic, partition, *[b"x"] * 10)
    done_up_to = {0: 4, 1: 0, 2: 10}

    async def handle(records: list[Any]) -> None:
        if records[0].offset >= done_up_to[records[0].partition]:
            await asyncio.Event().wait()

    app = create_app(broker.address, stream_wait_empty=False)
    reader = Reader(app, topic, handle, in_runs=False, at_once=True)
    async with running(app):
        await until(lambda: len(reader.records) == 30)
        await until(lambda: len(reader.handled[0]) == 4 and len(reader.handled[2]) == 10)
        await commit(app)
        reader.handed.clear()
        await app.consumer.perform_seek()
        await until(lambda: len(reader.records) == 16)
        assert [reader.offsets(partition) for partition in range(3)] == [[*range(4, 10)], [*range(10)], []]
