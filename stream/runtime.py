"""What the agents of one worker share: connections, clock, names. All of it connects at first use."""

from __future__ import annotations

from dataclasses import dataclass

from shared.clock import Clock
from shared.gate import RedisGate, connect_redis
from shared.policy.window import QuietHours
from shared.producer import Producer
from shared.settings import Settings
from shared.store.connections import Pool, pool
from shared.topics import Topics
from stream.due.index import DueIndex
from stream.writeback import WriteBack


@dataclass(slots=True)
class Runtime:
    """One worker's parts."""

    settings: Settings
    clock: Clock
    topics: Topics
    quiet: QuietHours
    gate: RedisGate
    due: DueIndex
    producer: Producer
    pool: Pool
    writeback: WriteBack

    @classmethod
    def of(cls, settings: Settings) -> Runtime:
        database = pool(settings)
        redis = connect_redis(settings)
        return cls(
            settings=settings,
            clock=settings.clock(),
            topics=Topics.of(settings),
            quiet=QuietHours.of(settings),
            gate=RedisGate(redis, settings),
            due=DueIndex(redis),
            producer=Producer(settings),
            pool=database,
            writeback=WriteBack(database),
        )

    async def open(self) -> None:
        """Must be called in the running loop before the pool is used; does not wait for a connection."""
        await self.pool.open()

    async def close(self) -> None:
        await self.producer.close()
        await self.pool.close()
        await self.gate.close()
