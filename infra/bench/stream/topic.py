"""The bench's producers: events written by whole batches, because one at a time would be slower than those who read."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from itertools import islice

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.partitioner import murmur2

from shared.producer import Record
from shared.settings import Settings
from shared.topics import Topics

Said = tuple[bytes | None, bytes]
"""Key and value."""
_BATCH_BYTES = 500_000
_TOGETHER = 20_000


def partition_of(key: bytes, partitions: int) -> int:
    """As Kafka's producers choose it by default."""
    return int(murmur2(key) & 0x7FFFFFFF) % partitions


class Writer:
    """Writes to activity.events. `async with` it."""

    def __init__(self, settings: Settings) -> None:
        self._topic, self._partitions = Topics.of(settings).activity, settings.partitions
        self._producer = AIOKafkaProducer(
            bootstrap_servers=settings.require_kafka(), linger_ms=0, max_batch_size=_BATCH_BYTES
        )

    async def __aenter__(self) -> Writer:
        await self._producer.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._producer.stop()

    def sorted(self, records: Iterable[Record]) -> list[list[Said]]:
        """By partition."""
        found: list[list[Said]] = [[] for _ in range(self._partitions)]
        for record in records:
            found[partition_of(record.key or b"", self._partitions)].append((record.key, record.value))
        return found

    async def write(self, said: Sequence[Sequence[Said]]) -> None:
        """What goes to each partition, acknowledged."""
        pending: list[asyncio.Future[object]] = []
        for partition, records in enumerate(said):
            batch = self._producer.create_batch()
            for key, value in records:
                if batch.append(key=key, value=value, timestamp=None) is None:
                    pending.append(await self._producer.send_batch(batch, self._topic, partition=partition))
                    batch = self._producer.create_batch()
                    batch.append(key=key, value=value, timestamp=None)
            if batch.record_count():
                pending.append(await self._producer.send_batch(batch, self._topic, partition=partition))
        await asyncio.gather(*pending)

    async def fill(self, records: Iterable[Record], told: Callable[[int], None]) -> None:
        """All of them, in their order within each partition."""
        upcoming = iter(records)
        while some := list(islice(upcoming, _TOGETHER)):
            await self.write(self.sorted(some))
            told(len(some))


async def place(settings: Settings, group: str, *, at_end: bool = False) -> None:
    """Let a group that nobody is in begin from the topic's start, or with what is written from now on."""
    consumer = AIOKafkaConsumer(bootstrap_servers=settings.require_kafka(), group_id=group, enable_auto_commit=False)
    await consumer.start()
    try:
        partitions = [TopicPartition(Topics.of(settings).activity, n) for n in range(settings.partitions)]
        consumer.assign(partitions)
        offsets = consumer.end_offsets if at_end else consumer.beginning_offsets
        await consumer.commit(dict(await offsets(partitions)))
    finally:
        await consumer.stop()
