"""What is committed was handled, and what is handled gets committed."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from stream.transport import SCHEME
from tests.integration.transport.broker import Broker, until
from tests.integration.transport.harness import STOCK, Reader, commit, create_app, raw, running


async def never() -> None:
    """Does not end."""
    await asyncio.Event().wait()


def stuck_at(offset: int, partition: int = 0) -> Any:
    """A handler that never finishes with one record."""

    async def handle(records: list[Any]) -> None:
        if any((record.partition, record.offset) == (partition, offset) for record in records):
            await never()

    return handle


async def test_nothing_is_committed_from_a_run_on_that_never_ends(broker: Broker) -> None:
    topic = await broker.topic(2)
    for partition in range(2):
        await broker.fill(topic, partition, 6_000)
    app = create_app(broker.address, stream_wait_empty=False)
    reader = Reader(app, topic, stuck_at(3_000), at_once=True)
    async with running(app):
        await until(lambda: len(reader.records) == 12_000)
        await until(lambda: len(reader.handled[1]) == 6_000)
        [stuck] = [run for run in reader.handed if run[0].partition == 0 and run[0].offset <= 3_000 <= run[-1].offset]
        await commit(app)
        committed = await broker.committed(app.conf.id, topic)
    assert committed == {0: stuck[0].offset, 1: 6_000}


async def test_acknowledgements_may_come_in_any_order(broker: Broker) -> None:
    topic = await broker.topic()
    await broker.write(topic, 0, *[b"x"] * 50)
    app = create_app(broker.address)
    gates = [asyncio.Event() for _ in range(50)]

    async def handle(records: list[Any]) -> None:
        await gates[records[0].offset].wait()

    reader = Reader(app, topic, handle, in_runs=False, at_once=True)
    async with running(app):
        await until(lambda: len(reader.records) == 50)
        for offset in (*range(1, 10), *range(20, 50)):
            gates[offset].set()
        await until(lambda: len(reader.handled[0]) == 39)
        await commit(app)
        assert await broker.committed(app.conf.id, topic) == {}
        gates[0].set()
        await until(lambda: len(reader.handled[0]) == 40)
        await commit(app)
        assert await broker.committed(app.conf.id, topic) == {0: 10}
        for gate in gates:
            gate.set()
        await until(lambda: broker.done(app.conf.id, topic))


@pytest.mark.parametrize(
    "scheme",
    [
        SCHEME,
        pytest.param(
            STOCK,
            marks=pytest.mark.xfail(
                strict=True, reason="the stock driver commits past a record in flight: _new_offset looks for a gap > 1"
            ),
        ),
    ],
)
async def test_side_by_side_handlers_do_not_commit_past_one_in_flight(broker: Broker, scheme: str) -> None:
    topic = await broker.topic()
    await broker.write(topic, 0, *[b"x"] * 20)
    app = create_app(broker.address, scheme=scheme, stream_wait_empty=False)
    handled = list[int]()

    @app.agent(app.topic(topic, schema=raw()), concurrency=4)
    async def agent(stream: Any) -> None:
        async for event in stream.events():
            if event.message.offset == 5:
                await never()
            handled.append(event.message.offset)

    async with running(app):
        await until(lambda: len(handled) >= 15)
        for _ in range(3):
            await app.consumer.commit()
        committed = await broker.committed(app.conf.id, topic)
    assert committed.get(0, 0) <= 5


@pytest.mark.parametrize("waits", [True, False])
async def test_what_is_done_is_committed_when_its_partition_is_taken_away(broker: Broker, waits: bool) -> None:
    topic = await broker.topic(2)
    options: dict[str, Any] = {"broker_commit_interval": 3600.0, "stream_wait_empty": waits}
    one, two = create_app(broker.address, **options), None
    reader = Reader(one, topic)
    async with running(one):
        for partition in range(2):
            await broker.fill(topic, partition, 1_000)
        await until(lambda: len(reader.handled[0]) == len(reader.handled[1]) == 1_000)
        two = create_app(broker.address, one.conf.id, **options)
        Reader(two, topic)
        async with running(two):
            await until(two.consumer.assignment)
            assert await broker.committed(one.conf.id, topic) == {0: 1_000, 1: 1_000}


@pytest.mark.parametrize("waits", [True, False])
async def test_a_stopping_app_does_not_commit_what_it_cut_off(broker: Broker, waits: bool) -> None:
    topic = await broker.topic()
    await broker.write(topic, 0, *[b"x"] * 3)
    app = create_app(broker.address, stream_wait_empty=waits)
    at_work, finished, goes_on = list[int](), list[int](), asyncio.Event()

    # One that Faust acknowledges for: it does so, too, when it closes a stream whose handler was cancelled.
    @app.agent(app.topic(topic, schema=raw()))
    async def agent(stream: Any) -> None:
        async for event in stream.events():
            at_work.append(event.message.offset)
            if event.message.offset == 1:
                await goes_on.wait()
            finished.append(event.message.offset)

    async with running(app):
        await until(lambda: 1 in at_work)
        if waits:
            asyncio.get_running_loop().call_later(0.1, goes_on.set)
    assert (await broker.committed(app.conf.id, topic)).get(0, 0) == len(finished)
    assert finished == ([0, 1] if waits else [0])
