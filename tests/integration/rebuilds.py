"""Sends and where they have got to, for gates that are rebuilt."""

from __future__ import annotations

from aiokafka import AIOKafkaConsumer, TopicPartition

from shared.gate import Claim
from shared.lag import group_of
from shared.policy.kinds import Path
from shared.producer import Record
from shared.settings import Settings
from shared.wire.sends import OutcomeBatch, Result, Send, SendBatch, encode
from stream.ledger import Ledger
from stream.runtime import Runtime
from tests.conftest import NOON
from tests.integration.lost import outcome, send


def of(user: int, kind: str = "practice") -> Send:
    """A send in Lisbon."""
    return send(4 * user, kind)


async def claim(runtime: Runtime, *sends: Send, path: Path = Path.stream) -> list[Claim]:
    return [
        answer
        for each in sends
        for answer in await runtime.gate.claim(path, each.kind, each.local_date, [each.user_id], each.campaign)
    ]


async def write_sends(runtime: Runtime, *sends: Send, path: Path = Path.stream) -> None:
    await runtime.producer.write([Record(runtime.topics.urgent, None, encode(SendBatch(path, NOON, sends)))])


async def write_ledger(runtime: Runtime, *ended: tuple[Send, Result, str], path: Path = Path.stream) -> None:
    await Ledger(runtime.users).write([OutcomeBatch(path, tuple(outcome(*each) for each in ended))])


async def commit(settings: Settings, role: str, *topics: str) -> None:
    """As if the role's agents had handled all that these topics hold."""
    partitions = [TopicPartition(topic, n) for topic in topics for n in range(settings.partitions)]
    group = group_of(role, settings.topic_prefix)
    async with AIOKafkaConsumer(bootstrap_servers=settings.require_kafka(), group_id=group) as consumer:
        consumer.assign(partitions)
        await consumer.commit(await consumer.end_offsets(partitions))
