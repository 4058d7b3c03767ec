"""The Kafka topics: made once with the partitions that Faust insists on, and removed only by name."""

from __future__ import annotations

import asyncio

import pytest
from aiokafka.admin import AIOKafkaAdminClient

from shared.producer import Producer, Record
from shared.settings import Settings
from shared.topics import Topics, count_messages, ensure_topics, remove_topics


@pytest.fixture
def fresh(settings: Settings) -> Settings:
    """Settings whose topics do not exist yet."""
    return settings.model_copy(update={"topic_prefix": f"{settings.topic_prefix}fresh.", "partitions": 3})


async def partitions(settings: Settings) -> dict[str, int]:
    """Topic -> partitions, of every topic of the cluster."""
    admin = AIOKafkaAdminClient(bootstrap_servers=settings.require_kafka())
    await admin.start()
    try:
        return {topic["topic"]: len(topic["partitions"]) for topic in await admin.describe_topics()}
    finally:
        await admin.close()


async def test_missing_topics_are_created_with_their_partitions_and_a_second_call_creates_nothing(
    fresh: Settings,
) -> None:
    names = sorted(Topics.of(fresh).all())
    assert await ensure_topics(fresh) == names
    found = await partitions(fresh)
    assert {name: found[name] for name in names} == dict.fromkeys(names, 3)
    assert await ensure_topics(fresh) == []


async def test_a_topic_that_exists_keeps_its_partitions(fresh: Settings) -> None:
    await ensure_topics(fresh)
    assert await ensure_topics(fresh.model_copy(update={"partitions": 5})) == []
    assert (await partitions(fresh))[Topics.of(fresh).activity] == 3


async def test_two_who_create_the_topics_at_once_do_not_harm_each_other(fresh: Settings) -> None:
    await asyncio.gather(*(ensure_topics(fresh) for _ in range(4)))
    assert set(Topics.of(fresh).all()) <= set(await partitions(fresh))


async def test_no_prefix_is_refused_because_it_would_remove_every_topic(settings: Settings) -> None:
    before = await partitions(settings)
    with pytest.raises(ValueError, match="every topic"):
        await remove_topics(settings, "")
    assert await partitions(settings) == before


async def test_only_topics_of_the_prefix_are_removed(settings: Settings, fresh: Settings) -> None:
    await ensure_topics(fresh)
    await remove_topics(fresh, fresh.topic_prefix)
    while set(Topics.of(fresh).all()) & set(found := await partitions(fresh)):
        pass  # The brokers finish it by themselves.
    assert set(Topics.of(settings).all()) <= set(found)
    await remove_topics(fresh, fresh.topic_prefix)  # Nothing is left to remove, and that is no error.


async def test_messages_are_counted_over_all_partitions(settings: Settings) -> None:
    topic = Topics.of(settings).activity
    assert await count_messages(settings, topic) == 0
    async with Producer(settings) as producer:
        await producer.write(Record(topic, str(n).encode(), b"x") for n in range(20))
    assert await count_messages(settings, topic) == 20
