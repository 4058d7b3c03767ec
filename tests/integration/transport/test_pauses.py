"""Partitions that are paused, and a flow that is stopped: nothing is dropped, nothing comes meanwhile."""

from __future__ import annotations

import asyncio
from typing import Any

import faust
import pytest
from faust.types import TP

from tests.integration.transport.broker import Broker, until
from tests.integration.transport.harness import Reader, commit, create_app, running

BOTH = pytest.mark.parametrize("in_runs", [True, False], ids=["runs", "singles"])


@BOTH
async def test_a_paused_partition_waits_while_others_go_on(broker: Broker, in_runs: bool) -> None:
    topic = await broker.topic(2)
    reader = Reader(app := create_app(broker.address), topic, in_runs=in_runs)
    async with running(app):
        app.consumer.pause_partitions({TP(topic, 0)})
        for partition in range(2):
            await broker.write(topic, partition, *[b"x"] * 100)
        await until(lambda: len(reader.offsets(1)) == 100)
        await broker.write(topic, 1, b"one more poll at least")
        await until(lambda: len(reader.offsets(1)) == 101)
        assert reader.offsets(0) == []
        app.consumer.resume_partitions({TP(topic, 0)})
        await until(lambda: broker.done(app.conf.id, topic))
    assert reader.offsets(0) == list(range(100))


@BOTH
async def test_what_was_fetched_before_a_pause_comes_after_it(broker: Broker, in_runs: bool) -> None:
    topic = await broker.topic(2)
    for partition in range(2):
        await broker.write(topic, partition, *[b"x"] * 200)
    app = create_app(broker.address)
    paused = asyncio.Event()

    async def handle(records: list[Any]) -> None:
        # In the middle of a poll: of the other partition something was fetched with it and is not handed over.
        if not paused.is_set():
            app.consumer.pause_partitions({TP(topic, 1 - records[0].partition)})
            paused.set()

    reader = Reader(app, topic, handle, in_runs=in_runs)
    async with running(app):
        await until(paused.is_set)
        first = reader.records[0].partition
        await until(lambda: len(reader.offsets(first)) == 200)
        app.consumer.resume_partitions({TP(topic, 1 - first)})
        await until(lambda: broker.done(app.conf.id, topic))
    assert reader.offsets(0) == reader.offsets(1) == list(range(200))


async def test_pausing_and_resuming_at_any_moment_keeps_order_and_loses_nothing(broker: Broker) -> None:
    topic = await broker.topic(3)
    for partition in range(3):
        await broker.fill(topic, partition, 20_000)
    reader = Reader(app := create_app(broker.address), topic)
    async with running(app):
        for turn in range(60):
            app.consumer.pause_partitions({TP(topic, turn % 3)})
            others = [partition for partition in range(3) if partition != turn % 3]
            if any(len(reader.offsets(other)) < 20_000 for other in others):
                await reader.gets_messages(len(reader.handed) + 1)
            app.consumer.resume_partitions({TP(topic, turn % 3)})
        await until(lambda: broker.done(app.conf.id, topic))
    assert [reader.offsets(partition) for partition in range(3)] == [list(range(20_000))] * 3


async def test_a_stopped_flow_hands_over_nothing_and_goes_on_where_it_was(broker: Broker) -> None:
    topic = await broker.topic(2)
    reader = Reader(app := create_app(broker.address), topic)
    async with running(app):
        await broker.write(topic, 0, *[b"x"] * 100)
        await until(lambda: broker.committed_is(app.conf.id, topic, {0: 100}))
        app.consumer.stop_flow()
        for partition in range(2):
            await broker.write(topic, partition, *[b"x"] * 100)
        await commit(app)
        assert len(reader.records) == 100
        app.consumer.resume_flow()
        await until(lambda: broker.done(app.conf.id, topic))
    assert (reader.offsets(0), reader.offsets(1)) == (list(range(200)), list(range(100)))


def stop_and_go(app: faust.App) -> None:
    """As Faust does around a rebalance; what streams have waiting is dropped."""
    app.consumer.stop_flow()
    app.flow_control.suspend()
    app.flow_control.clear()
    app.flow_control.resume()
    app.consumer.resume_flow()


@BOTH
async def test_stopping_the_flow_again_and_again_loses_nothing(broker: Broker, in_runs: bool) -> None:
    topic = await broker.topic(2)
    for partition in range(2):
        await broker.fill(topic, partition, 20_000 if in_runs else 1_000)
    reader = Reader(app := create_app(broker.address), topic, in_runs=in_runs)
    async with running(app):
        for _ in range(20):
            before = len(reader.handed)
            await broker.write(topic, 0, b"something to come")
            await reader.gets_messages(before + 1)
            stop_and_go(app)
        await until(lambda: broker.done(app.conf.id, topic))
        ends = await broker.ends(topic)
    for partition, end in ends.items():
        assert sorted(set(reader.handled[partition])) == list(range(end))


async def test_a_full_buffer_at_a_stopped_flow_loses_nothing(broker: Broker) -> None:
    topic = await broker.topic()
    await broker.write(topic, 0, *[b"x"] * 500)
    goes_on = asyncio.Event()

    async def handle(_: list[Any]) -> None:
        await goes_on.wait()

    app = create_app(broker.address, stream_buffer_maxsize=4)
    reader = Reader(app, topic, handle, in_runs=False)
    async with running(app):
        await until(lambda: reader.records)
        stop_and_go(app)
        goes_on.set()
        await until(lambda: broker.done(app.conf.id, topic))
    assert sorted(set(reader.handled[0])) == list(range(500))
