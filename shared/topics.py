"""The Kafka topics by name, and their creation with the partition counts that Faust insists on."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import (
    LeaderNotAvailableError,
    TopicAlreadyExistsError,
    UnknownTopicOrPartitionError,
    for_code,
)

from shared.policy.kinds import Lane
from shared.settings import Settings


@dataclass(frozen=True, slots=True)
class Topics:
    """The names, prefixed as the settings say."""

    activity: str
    urgent: str
    normal: str
    blast: str
    parked: str
    outcomes: str
    dead_letters: str

    @classmethod
    def of(cls, settings: Settings) -> Topics:
        p = settings.topic_prefix
        return cls(
            activity=f"{p}activity.events",
            urgent=f"{p}sends.urgent",
            normal=f"{p}sends.normal",
            blast=f"{p}sends.blast",
            parked=f"{p}sends.parked",
            outcomes=f"{p}outcomes",
            dead_letters=f"{p}dead.letters",
        )

    def lane(self, lane: Lane) -> str:
        """The topic of a lane."""
        return {Lane.urgent: self.urgent, Lane.normal: self.normal, Lane.blast: self.blast}[lane]

    def all(self) -> tuple[str, ...]:
        return (self.activity, self.urgent, self.normal, self.blast, self.parked, self.outcomes, self.dead_letters)


async def ensure_topics(settings: Settings) -> list[str]:
    """Create the topics that are missing; the names of those created. Never changes one that exists."""
    admin = AIOKafkaAdminClient(bootstrap_servers=settings.require_kafka())
    await admin.start()
    try:
        missing = sorted(set(Topics.of(settings).all()) - set(await admin.list_topics()))
        if not missing:
            return []
        response = await admin.create_topics(
            [NewTopic(name, settings.partitions, settings.replication) for name in missing]
        )
        for name, code, *_ in response.topic_errors:
            error = for_code(code)
            # Somebody else may create them at the same moment; that is as good.
            if code and error is not TopicAlreadyExistsError:
                raise error(f"could not create topic {name}")
        # KRaft answers up to a third of a second before its brokers know the topics: who connects next would not
        # find them.
        not_yet = {UnknownTopicOrPartitionError.errno, LeaderNotAvailableError.errno}
        while any(  # noqa: ASYNC110  # the brokers are asked, they tell nobody
            topic["error_code"] in not_yet for topic in await admin.describe_topics(missing)
        ):
            await asyncio.sleep(0.02)
        return sorted(name for name, code, *_ in response.topic_errors if not code)
    finally:
        await admin.close()


async def remove_topics(settings: Settings, prefix: str) -> None:
    """Delete every topic whose name begins with `prefix`, with all messages; the brokers finish it by themselves."""
    if not prefix:
        raise ValueError("an empty prefix would delete every topic of the cluster")
    admin = AIOKafkaAdminClient(bootstrap_servers=settings.require_kafka())
    await admin.start()
    try:
        if present := [name for name in await admin.list_topics() if name.startswith(prefix)]:
            await admin.delete_topics(present)
    finally:
        await admin.close()


async def count_messages(settings: Settings, topic: str) -> int:
    """Messages a topic holds now, over all its partitions."""
    consumer = AIOKafkaConsumer(bootstrap_servers=settings.require_kafka())
    await consumer.start()
    try:
        partitions = [TopicPartition(topic, n) for n in range(settings.partitions)]
        starts, ends = await consumer.beginning_offsets(partitions), await consumer.end_offsets(partitions)
        return sum(ends[partition] - starts[partition] for partition in partitions)
    finally:
        await consumer.stop()
