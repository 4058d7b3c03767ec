"""A broker that is killed and comes back."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from tests.integration.transport.broker import Broker, until
from tests.integration.transport.harness import Reader, create_app, running
from tests.integration.transport.journals import nothing_else_committed


async def test_a_broker_that_restarts_in_the_middle_loses_nothing(
    broker: Broker, restart_broker: Callable[[], None]
) -> None:
    topic = await broker.topic(2)
    for partition in range(2):
        await broker.write(topic, partition, *[b"x"] * 5_000, timestamp_ms=1)
    goes_on = asyncio.Event()

    async def handle(records: list[Any]) -> None:
        if records[0].offset > 1_000:
            await goes_on.wait()

    reader = Reader(app := create_app(broker.address), topic, handle)
    async with running(app):
        await until(lambda: reader.handled)
        await asyncio.to_thread(restart_broker)
        goes_on.set()
        async with nothing_else_committed(broker, app.conf.id, topic, reader.sets):
            await until(lambda: broker.ready(topic))
            for partition in range(2):
                await broker.write(topic, partition, *[b"x"] * 100)
            await until(lambda: broker.done(app.conf.id, topic))
    assert reader.sets() == {partition: set(range(5_100)) for partition in range(2)}
