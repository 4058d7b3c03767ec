"""Faust's tables come back from their changelog."""

from __future__ import annotations

from collections import Counter
from typing import Any

import faust

from stream.transport import RunSchema
from tests.integration.transport.broker import Broker, until
from tests.integration.transport.harness import create_app, running


def counting(broker: Broker, group: str | None, topic: str) -> tuple[faust.App, Any]:
    """An app that counts values, and its table."""
    app = create_app(broker.address, group, topic_allow_declare=True, topic_partitions=2, topic_replication_factor=1)
    table = app.Table("counts", default=int, partitions=2)

    @app.agent(app.topic(topic, schema=RunSchema(), partitions=2))
    async def agent(stream: Any) -> None:
        async for run in stream:
            for value, found in Counter(record.value for record in run.records).items():
                table[value.decode()] += found

    return app, table


async def test_a_table_is_recovered_and_goes_on(broker: Broker) -> None:
    topic = await broker.topic(2)
    app, table = counting(broker, None, topic)
    async with running(app):
        await broker.write(topic, 0, *[b"a"] * 10)
        await broker.write(topic, 1, *[b"b"] * 5)
        await until(lambda: broker.done(app.conf.id, topic))
        assert dict(table) == {"a": 10, "b": 5}
    app, table = counting(broker, app.conf.id, topic)
    async with running(app):
        await until(lambda: dict(table) == {"a": 10, "b": 5})
        await broker.write(topic, 0, b"a", b"c")
        await until(lambda: dict(table) == {"a": 11, "b": 5, "c": 1})
