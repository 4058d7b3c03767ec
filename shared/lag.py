"""How far consumer groups are behind: end offsets against committed ones, read from the brokers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import GroupCoordinatorNotAvailableError

from shared.settings import Settings


def group_of(role: str, prefix: str) -> str:
    """The consumer group of a worker's role; the topics' prefix keeps two installations on one cluster apart."""
    return f"{prefix}surnia-{role}"


class LagReader:
    """Reads lags over one pair of connections. `async with` it."""

    def __init__(self, settings: Settings, topics: Mapping[str, Sequence[str]]) -> None:
        self._groups = {role: group_of(role, settings.topic_prefix) for role in topics}
        self._partitions = {
            role: [TopicPartition(name, n) for name in names for n in range(settings.partitions)]
            for role, names in topics.items()
        }
        brokers = settings.require_kafka()
        self._admin = AIOKafkaAdminClient(bootstrap_servers=brokers)
        self._consumer = AIOKafkaConsumer(bootstrap_servers=brokers)

    async def __aenter__(self) -> LagReader:
        await self._admin.start()
        await self._consumer.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._consumer.stop()
        await self._admin.close()

    async def read(self, role: str) -> int:
        """Messages that the role's group has not committed yet."""
        partitions = self._partitions[role]
        # Committed before end: what arrives in between counts as lag, never the other way round.
        try:
            committed = await self._admin.list_consumer_group_offsets(self._groups[role], partitions=partitions)
        except GroupCoordinatorNotAvailableError:
            committed = {}  # No group has ever committed on this cluster: its offsets topic is being made.
        ends = await self._consumer.end_offsets(partitions)
        starts = await self._consumer.beginning_offsets(partitions)
        return sum(
            max(0, ends[p] - (committed[p].offset if p in committed and committed[p].offset >= 0 else starts[p]))
            for p in partitions
        )
