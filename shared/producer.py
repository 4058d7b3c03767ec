"""The one way Surnia writes to Kafka: acknowledged by all replicas, idempotent, everything awaited."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from types import TracebackType
from typing import NamedTuple, Self

from aiokafka import AIOKafkaProducer

from shared.settings import Settings


class Record(NamedTuple):
    """A message to write."""

    topic: str
    key: bytes | None
    value: bytes


class Producer:
    """Connects at the first write. Raises aiokafka's `KafkaError` when the broker refuses or does not answer."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._producer: AIOKafkaProducer | None = None
        self._starting = asyncio.Lock()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def write(self, records: Iterable[Record]) -> None:
        """Write all records; returns when the brokers have acknowledged every one."""
        producer = await self._started()
        pending = [await producer.send(record.topic, record.value, record.key) for record in records]
        if pending:
            await asyncio.gather(*pending)

    async def close(self) -> None:
        """Flush and disconnect."""
        if self._producer:
            await self._producer.stop()
            self._producer = None

    async def _started(self) -> AIOKafkaProducer:
        async with self._starting:
            if self._producer is None:
                producer = AIOKafkaProducer(
                    bootstrap_servers=self._settings.require_kafka(),
                    enable_idempotence=True,
                    linger_ms=2,
                    max_batch_size=262_144,
                    max_request_size=2_097_152,
                )
                try:
                    await producer.start()
                except BaseException:
                    # Cancelled, say, with half of its connections open.
                    await producer.stop()
                    raise
                self._producer = producer
            return self._producer
