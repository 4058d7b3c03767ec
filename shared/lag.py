"""How far consumer groups are behind: end offsets against committed ones, read from the brokers."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import GroupCoordinatorNotAvailableError

from shared.settings import Settings


def group_of(role: str, prefix: str) -> str:
    """The consumer group of a worker's role; the topics' prefix keeps two installations on one cluster apart."""
    return f"{prefix}surnia-{role}"


class Position(NamedTuple):
    """A group's place in a partition."""

    committed: int
    """The next offset it will read; where it never came, or retention overtook it, the first that is left."""
    end: int

    @property
    def behind(self) -> int:
        return max(0, self.end - self.committed)


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
        # As workers read: the end is that of what is committed, and a transaction that is open is nobody's backlog.
        self._consumer = AIOKafkaConsumer(bootstrap_servers=brokers, isolation_level="read_committed")

    async def __aenter__(self) -> LagReader:
        try:
            await self._admin.start()
            await self._consumer.start()
        except BaseException:
            await self.__aexit__()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._consumer.stop()
        await self._admin.close()

    async def read(self, role: str) -> int:
        """Messages that the role's group has not committed yet."""
        return sum(position.behind for position in (await self.positions(role)).values())

    async def positions(
        self, role: str, partitions: Collection[TopicPartition] | None = None
    ) -> dict[TopicPartition, Position]:
        """Where the role's group stands, in all of its partitions or in these."""
        wanted = self._partitions[role] if partitions is None else list(partitions)
        if not wanted:
            return {}
        # Committed before end: what arrives in between counts as lag, never the other way round.
        try:
            committed = await self._admin.list_consumer_group_offsets(self._groups[role], partitions=wanted)
        except GroupCoordinatorNotAvailableError:
            committed = {}  # No group has ever committed on this cluster: its offsets topic is being made.
        ends = await self._consumer.end_offsets(wanted)
        starts = await self._consumer.beginning_offsets(wanted)
        # A group that never committed has -1.
        return {
            each: Position(max(starts[each], committed[each].offset if each in committed else -1), ends[each])
            for each in wanted
        }
