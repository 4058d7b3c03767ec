"""No partition with a backlog starves the others: measured beside the stock driver, and printed (`pytest -s`)."""

from __future__ import annotations

import asyncio
from collections import Counter
from time import perf_counter
from typing import Any

import faust
import pytest

from stream.transport import SCHEME, RunSchema
from tests.integration.transport.broker import Broker, until
from tests.integration.transport.harness import STOCK, create_app, raw, running

PARTITIONS, BACKLOG, TRICKLE = 16, 300_000, 150
EVERY = 0.1
"""Seconds between two records of a partition that has no backlog."""


def note(app: faust.App, topic: str, scheme: str, seen: Any) -> None:
    """An agent that calls `seen` with the partition, and the values that were handed over with one message."""
    schema = RunSchema() if scheme == SCHEME else raw()

    @app.agent(app.topic(topic, schema=schema))
    async def agent(stream: Any) -> None:
        async for event in stream.events():
            records = event.value.records if scheme == SCHEME else [event.message]
            seen(records[0].partition, [record.value for record in records])


@pytest.mark.parametrize(("scheme", "backlog"), [(SCHEME, 0), (SCHEME, BACKLOG), (STOCK, 0), (STOCK, BACKLOG)], ids=str)
async def test_a_backlog_of_one_partition_delays_the_others_little(broker: Broker, scheme: str, backlog: int) -> None:
    topic = await broker.topic(PARTITIONS)
    await broker.fill(topic, 0, backlog)
    app = create_app(broker.address, scheme=scheme)
    waited: list[float] = []
    of_backlog: list[int] = []

    def seen(partition: int, values: list[bytes]) -> None:
        if partition:
            waited.extend(perf_counter() - float(value) for value in values)
        else:
            of_backlog.append(len(values))

    note(app, topic, scheme, seen)
    async with running(app):
        await until(lambda: of_backlog or not backlog)
        for n in range(TRICKLE):
            await broker.send(topic, 1 + n % (PARTITIONS - 1), b"%f" % perf_counter())
            await asyncio.sleep(EVERY / (PARTITIONS - 1))
        meanwhile = sum(of_backlog)
        await until(lambda: len(waited) == TRICKLE)
    waited.sort()
    p50, p99 = (1000 * waited[len(waited) * percent // 100] for percent in (50, 99))
    done = f", {meanwhile:,} of {backlog:,} of the backlog meanwhile" if backlog else ""
    print(f"\n{scheme}: a trickle waits p50 {p50:.0f} ms, p99 {p99:.0f} ms{done}")


async def test_partitions_with_a_backlog_each_get_their_share(broker: Broker) -> None:
    topic = await broker.topic(PARTITIONS)
    for partition in range(PARTITIONS):
        await broker.fill(topic, partition, 10_000)
    app = create_app(broker.address)
    shares: Counter[int] = Counter()
    n = 40_000

    def seen(partition: int, values: list[bytes]) -> None:
        if shares.total() < n:
            shares[partition] += len(values)

    note(app, topic, SCHEME, seen)
    async with running(app):
        await until(lambda: shares.total() >= n)
    least, most = min(shares[partition] for partition in range(PARTITIONS)), max(shares.values())
    print(f"\nof the first {n:,} records a partition had {least:,} to {most:,}, ratio {most / max(1, least):.2f}")
    assert most <= 2 * least
