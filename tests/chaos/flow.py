"""Whether anything is still under way, asked of the servers themselves and not of the engine."""

from __future__ import annotations

from confluent_kafka import Consumer, KafkaException, Producer, TopicPartition
from redis import Redis

from shared.due.index import DUE_KINDS
from shared.gate.keys import due_key
from shared.identity import SHARDS
from shared.lag import group_of
from shared.topics import Topics
from tests.chaos.load import Load
from tests.chaos.world import World

_SECONDS = 5.0


class Flow:
    """What is in flight, and the events that are put into it: through librdkafka, which shares no line with us."""

    def __init__(self, world: World) -> None:
        self._world = world
        settings, topics = world.settings, Topics.of(world.settings)
        brokers: dict[str, str | int | float | bool] = {"bootstrap.servers": settings.require_kafka(), "log_level": 0}
        # Through any outage: what a producer was told to send arrives, in order, and once.
        self._producer = Producer(brokers | {"enable.idempotence": True, "message.timeout.ms": 0, "linger.ms": 1})
        self._activity = topics.activity
        reads = {
            "stream": (topics.activity,),
            "delivery": (topics.urgent, topics.normal, topics.blast, topics.parked),
            "ledger": (topics.outcomes,),
        }
        self._partitions = {
            role: [TopicPartition(name, n) for name in names for n in range(settings.partitions)]
            for role, names in reads.items()
        }
        # They only ask what their group has committed; none subscribes, so none joins it.
        self._groups = {
            role: Consumer(brokers | {"group.id": group_of(role, settings.topic_prefix), "enable.auto.commit": False})
            for role in reads
        }

    def close(self) -> None:
        for consumer in self._groups.values():
            consumer.close()

    def produce(self, load: Load, step: int) -> int:
        """Send the events of a step, as soon as Kafka is there; how many."""
        messages = list(load.messages(step))
        for key, value in messages:
            self._producer.produce(self._activity, value=value, key=key)
        self._producer.poll(0)
        return len(messages)

    def unread_events(self) -> int | None:
        """Events that the stream workers have not finished with; None where that cannot be said now."""
        if self._producer.flush(0.3):
            return None
        try:
            return self._lag("stream", seconds=1.0)
        except KafkaException:
            return None

    def in_flight(self) -> dict[str, int]:
        """What is left, by place, in the order in which work flows; only places where something is."""
        world = self._world
        left = {"events to be sent": self._producer.flush(_SECONDS), "events": self._lag("stream")}
        with Redis.from_url(world.addresses["redis_url"]) as redis:
            pipeline = redis.pipeline(transaction=False)
            for shard in range(SHARDS):
                for kind in DUE_KINDS:
                    pipeline.zcount(due_key(shard, kind), "-inf", world.clock.now())
            left["due"] = sum(pipeline.execute())
        with world.database() as connection:
            left["outbox"] = len(connection.execute("SELECT FROM outbox").fetchall())
        left |= {"sends": self._lag("delivery"), "outcomes": self._lag("ledger")}
        return {place: n for place, n in left.items() if n}

    def events(self, seconds: float = _SECONDS) -> tuple[list[int], list[int]]:
        """Where the stream workers stand in each partition of the events, and where it ends."""
        return self._places("stream", seconds)

    def _lag(self, role: str, seconds: float = _SECONDS) -> int:
        committed, ends = self._places(role, seconds)
        return sum(ends) - sum(committed)

    def _places(self, role: str, seconds: float) -> tuple[list[int], list[int]]:
        # Committed before end: what arrives in between counts, never the other way round.
        places = self._groups[role].committed(self._partitions[role], timeout=seconds)
        # The offset of the end is that of the next message; a group that never committed has none.
        ends = [(self._groups[role].get_watermark_offsets(place, timeout=seconds) or (0, 0))[1] for place in places]
        return [max(0, place.offset) for place in places], ends
