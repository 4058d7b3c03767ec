"""Reading topics beside the engine, as no member of its groups: from one place to another, and what is left behind."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Mapping, Sequence
from datetime import datetime
from typing import Any, Self

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import GroupCoordinatorNotAvailableError, KafkaTimeoutError

from shared.lag import group_of
from shared.settings import Settings

Offsets = dict[TopicPartition, int]

_SILENCE_SECONDS = 30.0


class TailReader:
    """`async with` it. Raises aiokafka's `KafkaError` where the brokers do not answer, or retention deletes what is
    being read."""

    def __init__(self, settings: Settings) -> None:
        self._prefix = settings.topic_prefix
        self._partitions = settings.partitions
        brokers = settings.require_kafka()
        self._admin = AIOKafkaAdminClient(bootstrap_servers=brokers)
        self._consumer = AIOKafkaConsumer(
            bootstrap_servers=brokers,
            enable_auto_commit=False,
            # What is gone must not be skipped in silence.
            auto_offset_reset="none",
        )

    async def __aenter__(self) -> Self:
        await self._admin.start()
        try:
            await self._consumer.start()
        except BaseException:
            await self._admin.close()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._consumer.stop()
        await self._admin.close()

    async def beginnings(self, *topics: str) -> Offsets:
        """The first offsets that are left."""
        return dict(await self._consumer.beginning_offsets(self._of(topics)))

    async def ends(self, *topics: str) -> Offsets:
        """The offsets that the next messages will have."""
        return dict(await self._consumer.end_offsets(self._of(topics)))

    async def since(self, topic: str, instant: datetime) -> Offsets:
        """The first offsets that were written at an instant or later, by the writers' clocks."""
        # The ends first: what arrives in between is found by its time.
        ends = await self.ends(topic)
        found = await self._consumer.offsets_for_times(dict.fromkeys(ends, int(instant.timestamp() * 1000)))
        return {partition: found[partition].offset if found.get(partition) else end for partition, end in ends.items()}

    async def committed(self, role: str, *topics: str) -> Offsets:
        """How far a role's group has come, in one look at all partitions; the beginning where it never came."""
        partitions = self._of(topics)
        try:
            found = await self._admin.list_consumer_group_offsets(group_of(role, self._prefix), partitions=partitions)
        except GroupCoordinatorNotAvailableError:
            found = {}  # No group has ever committed on this cluster: its offsets topic is being made.
        beginnings = await self.beginnings(*topics)
        return {
            partition: max(beginnings[partition], found[partition].offset if partition in found else 0)
            for partition in partitions
        }

    async def read(
        self, starts: Mapping[TopicPartition, int], ends: Mapping[TopicPartition, int], most: int
    ) -> AsyncGenerator[list[Any], None]:
        """Every message from the starts up to the ends and none behind them, at most so many at a time, each
        partition's in order."""
        left = {partition: end for partition, end in ends.items() if starts[partition] < end}
        if not left:
            return
        self._consumer.assign(list(left))
        for partition in left:
            self._consumer.seek(partition, starts[partition])
        loop = asyncio.get_running_loop()
        deadline = loop.time() + _SILENCE_SECONDS
        while left:
            found = await self._consumer.getmany(timeout_ms=200, max_records=most)
            page = [
                record for partition, records in found.items() for record in records if record.offset < ends[partition]
            ]
            if page:
                yield page
                deadline = loop.time() + _SILENCE_SECONDS
            for partition in list(left):
                # Not the last message's offset: some have no message, a transaction's end for one.
                if await self._consumer.position(partition) >= left[partition]:
                    del left[partition]
                    self._consumer.pause(partition)
            if loop.time() > deadline:
                raise KafkaTimeoutError(f"no message of {', '.join(map(str, left))} came")

    def _of(self, topics: Sequence[str]) -> list[TopicPartition]:
        return [TopicPartition(topic, n) for topic in topics for n in range(self._partitions)]


def between(starts: Mapping[TopicPartition, int], ends: Mapping[TopicPartition, int]) -> int:
    """Messages from starts to ends."""
    return sum(max(0, end - starts[partition]) for partition, end in ends.items())
