"""Real Faust apps in the test's own process, and agents that note what they were handed."""

from __future__ import annotations

import asyncio
import os
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import faust
from faust.tables.manager import TableManager
from mode.utils.times import Seconds

from stream.transport import SCHEME, Run, RunSchema, register
from tests.integration.transport.broker import until, watched

STOCK = "kafka"
"""The scheme of the driver that Faust comes with."""


class _QuickTables(TableManager):
    """Faust waits a second for tables that may yet be registered; there are none."""

    async def sleep(self, n: Seconds) -> None:
        await super().sleep(0)


Handle = Callable[[list[Any]], Awaitable[None]]


def create_app(brokers: str, group: str | None = None, scheme: str = SCHEME, **options: Any) -> faust.App:
    """An app that commits often and serves no web."""
    register()
    defaults: dict[str, Any] = {
        "store": "memory://",
        "topic_allow_declare": False,
        "topic_disable_leader": True,
        "consumer_auto_offset_reset": "earliest",
        "broker_commit_interval": 0.05,
        "broker_heartbeat_interval": 0.2,
        "web_enabled": False,
        "TableManager": _QuickTables,
    }
    name = group or f"group-{os.urandom(6).hex()}"
    return faust.App(name, broker=f"{scheme}://{brokers}", **(defaults | options))


@asynccontextmanager
async def running(*apps: faust.App) -> AsyncIterator[None]:
    """Apps at work; what crashed one fails the test."""
    watched.extend(apps)
    try:
        await asyncio.gather(*(app.start() for app in apps))
        yield
    finally:
        for app in apps:
            watched.remove(app)
        await asyncio.gather(*(app.stop() for app in apps))
    for app in apps:
        if app.crash_reason:
            raise app.crash_reason


async def commit(app: Any) -> None:
    """Commit what is done now, not what was when a commit began that is under way."""
    await app.consumer.commit_and_end_transactions()


def raw() -> faust.Schema[Any, Any]:
    """Keys and values as they are."""
    return faust.Schema(key_type=bytes, value_type=bytes, key_serializer="raw", value_serializer="raw")


class Reader:
    """An agent on a topic that acknowledges what its handler has finished, and remembers both."""

    def __init__(
        self,
        app: faust.App,
        topic: str,
        handle: Handle | None = None,
        *,
        in_runs: bool = True,
        at_once: bool = False,
        name: str = "",
    ) -> None:
        """`at_once`: each message is handled by a task of its own, and acknowledged when that ends."""
        self.app, self.topic, self.handle, self.at_once = app, topic, handle, at_once
        self.handed: list[list[Any]] = []
        """Records of each message."""
        self.handled: defaultdict[int, list[int]] = defaultdict(list)
        """Partition -> offsets, in the order in which they were finished."""
        self._tasks: set[asyncio.Task[None]] = set()
        schema = RunSchema() if in_runs else raw()
        app.agent(app.topic(topic, schema=schema), name=f"reader-{topic}-{in_runs}{name}")(self._read)

    @property
    def records(self) -> list[Any]:
        """All that was handed over."""
        return [record for records in self.handed for record in records]

    def offsets(self, partition: int = 0) -> list[int]:
        """Handed over, of a partition, in order."""
        return [record.offset for record in self.records if record.partition == partition]

    async def gets(self, records: int) -> None:
        """Wait until so many records were handed over."""
        await until(lambda: len(self.records) >= records, f"{records} records")

    async def gets_messages(self, messages: int) -> None:
        """Wait until so many messages were handed over."""
        await until(lambda: len(self.handed) >= messages, f"{messages} messages")

    async def gets_to(self, offset: int) -> None:
        """Wait until an offset of partition 0 was handed over."""
        await until(lambda: offset in self.offsets(), f"offset {offset}")

    def sets(self) -> dict[int, set[int]]:
        """Handled, by partition."""
        return {partition: set(offsets) for partition, offsets in self.handled.items()}

    async def _read(self, stream: Any) -> None:
        quiet = stream.noack()
        async for event in quiet.events():
            records = list(event.value.records) if isinstance(event.value, Run) else [event.message]
            self.handed.append(records)
            if self.at_once:
                self._tasks.add(asyncio.create_task(self._finish(quiet, event, records)))
            else:
                await self._finish(quiet, event, records)

    async def _finish(self, stream: Any, event: Any, records: list[Any]) -> None:
        if self.handle:
            await self.handle(records)
        for record in records:
            self.handled[record.partition].append(record.offset)
        await stream.ack(event)
