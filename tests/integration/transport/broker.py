"""A client of the broker that tests fill topics with, and look at commits."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, Self

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.admin.records_to_delete import RecordsToDelete
from aiokafka.errors import KafkaError
from aiokafka.protocol.group import LeaveGroupRequest

SECONDS = 30.0
watched: list[Any] = []
"""Apps at work: when one crashes nobody waits any longer."""


async def until(condition: Callable[[], Any], what: str = "", seconds: float = SECONDS) -> None:
    """Wait for a condition, which may be a coroutine function."""
    deadline = asyncio.get_running_loop().time() + seconds
    while not (held := condition()) or (asyncio.iscoroutine(held) and not await held):
        for app in watched:
            if app.crash_reason:
                raise app.crash_reason
        assert asyncio.get_running_loop().time() < deadline, f"waited {seconds} s in vain: {what or condition}"
        await asyncio.sleep(0.01)


class Broker:
    """Open while in its context."""

    def __init__(self, address: str) -> None:
        self.address = address
        self._admin = AIOKafkaAdminClient(bootstrap_servers=address)
        self._producer = AIOKafkaProducer(bootstrap_servers=address, linger_ms=2)

    async def __aenter__(self) -> Self:
        await self._admin.start()
        await self._producer.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._producer.stop()
        await self._admin.close()

    async def topic(self, partitions: int = 1, **config: str) -> str:
        """A new topic; options of it with underscores for dots."""
        name = f"transport-{os.urandom(6).hex()}"
        options = {option.replace("_", "."): value for option, value in config.items()}
        await self._admin.create_topics([NewTopic(name, partitions, 1, topic_configs=options)])
        await until(lambda: self._knows(name, partitions))
        return name

    async def _knows(self, name: str, partitions: int) -> bool:
        found = await self._admin.describe_topics([name])
        return not found[0]["error_code"] and len(found[0]["partitions"]) == partitions

    async def write(self, topic: str, partition: int, *values: bytes | None, **more: Any) -> list[int]:
        """Write records; their offsets."""
        sent = [await self._producer.send(topic, value, partition=partition, **more) for value in values]
        await self._producer.flush()
        return [(await one).offset for one in sent]

    async def send(self, topic: str, partition: int, value: bytes) -> None:
        """Write a record and don't wait until it is there."""
        await self._producer.send(topic, value, partition=partition)

    async def fill(self, topic: str, partition: int, records: int, size: int = 100) -> None:
        """Write many records."""
        value, left = bytes(size), records
        while left:
            batch = self._producer.create_batch()
            while left and batch.append(key=None, value=value, timestamp=None) is not None:
                left -= 1
            await self._producer.send_batch(batch, topic, partition=partition)
        await self._producer.flush()

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[AIOKafkaProducer]:
        """A producer in an open transaction."""
        producer = AIOKafkaProducer(bootstrap_servers=self.address, transactional_id=os.urandom(6).hex())
        await producer.start()
        try:
            await producer.begin_transaction()
            yield producer
        finally:
            await producer.stop()

    async def committed(self, group: str, topic: str) -> dict[int, int]:
        """Partition -> committed offset, of partitions that have one."""
        found = await self._admin.list_consumer_group_offsets(group)
        return {tp.partition: at.offset for tp, at in found.items() if tp.topic == topic and at.offset >= 0}

    async def committed_is(self, group: str, topic: str, offsets: dict[int, int]) -> bool:
        """Whether exactly that is committed."""
        return await self.committed(group, topic) == offsets

    async def ends(self, topic: str) -> dict[int, int]:
        """Partition -> the log's end."""
        consumer = AIOKafkaConsumer(bootstrap_servers=self.address)
        await consumer.start()
        try:
            partitions = (await self._admin.describe_topics([topic]))[0]["partitions"]
            found = await consumer.end_offsets([TopicPartition(topic, each["partition"]) for each in partitions])
            return {tp.partition: end for tp, end in found.items()}
        finally:
            await consumer.stop()

    async def count(self, topic: str) -> int:
        """Records of partition 0, by reading them."""
        consumer = AIOKafkaConsumer(bootstrap_servers=self.address)
        await consumer.start()
        try:
            partition = TopicPartition(topic, 0)
            consumer.assign([partition])
            await consumer.seek_to_beginning()
            end, found = (await consumer.end_offsets([partition]))[partition], 0
            while await consumer.position(partition) < end:
                found += sum(map(len, (await consumer.getmany(timeout_ms=100)).values()))
            return found
        finally:
            await consumer.stop()

    async def ready(self, topic: str) -> bool:
        """Whether the broker answers."""
        try:
            return bool(await self.ends(topic))
        except KafkaError:
            return False

    async def done(self, group: str, topic: str) -> bool:
        """Whether the group has committed all that there is."""
        ends, committed = await self.ends(topic), await self.committed(group, topic)
        return all(committed.get(partition, 0) == end for partition, end in ends.items())

    async def delete_before(self, topic: str, partition: int, offset: int) -> None:
        """Delete a partition's records up to an offset."""
        await self._admin.delete_records({TopicPartition(topic, partition): RecordsToDelete(before_offset=offset)})

    async def configure(self, **options: str) -> None:
        """Change the brokers' dynamic settings."""
        changes = {option.replace("_", "."): value for option, value in options.items()}
        resource = ConfigResource(ConfigResourceType.BROKER, "1", changes)
        await self._admin.alter_configs([resource])

    async def expel(self, group: str, client: str) -> None:
        """Tell the broker that a client is dead, which it would find out when its session is over."""
        found = (await self._admin.describe_consumer_groups([group]))[0].to_object()
        coordinator = await self._admin.find_coordinator(group)
        for member in found["groups"][0]["members"]:
            if member["member_id"].startswith(client):
                await self._admin._send_request(LeaveGroupRequest(group, member["member_id"]), coordinator)
