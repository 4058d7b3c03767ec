"""What the agents of one worker share: connections, clock, names. All of it connects at first use."""

from __future__ import annotations

from dataclasses import dataclass

from shared.clock import Clock
from shared.due.index import DueIndex
from shared.gate import RedisGate
from shared.keyspace import Keyspace, open_keyspace
from shared.metrics import GateMeter
from shared.patience import Patience
from shared.policy.window import QuietHours
from shared.producer import Producer
from shared.settings import Settings
from shared.store.connections import Pool, pool
from shared.store.databases import Databases, UserPools
from shared.topics import Topics
from stream.due.active import ActiveUsers
from stream.meters import StreamMeter
from stream.writeback import WriteBack


@dataclass(slots=True)
class Runtime:
    """One worker's parts."""

    settings: Settings
    clock: Clock
    topics: Topics
    quiet: QuietHours
    keyspace: Keyspace
    gate: GateMeter
    due: DueIndex
    active: ActiveUsers
    producer: Producer
    pool: Pool
    """To the main database."""
    users: UserPools
    """To the databases that have the users."""
    firing: UserPools
    """For the due loop alone: a backlog of it bounds itself, and holds up nobody else's statements."""
    writeback: WriteBack
    patience: Patience
    """One for all agents: what several of them wait for is logged once. Its registry is the process's."""
    meter: StreamMeter

    @classmethod
    def of(cls, settings: Settings) -> Runtime:
        database, databases = pool(settings), Databases.of(settings)
        firing = pool(settings, settings.fire_concurrency, autocommit=True)
        users = UserPools(databases, database, settings)
        keyspace = open_keyspace(settings)
        patience, topics = Patience(), Topics.of(settings)
        return cls(
            settings=settings,
            clock=settings.clock(),
            topics=topics,
            quiet=QuietHours.of(settings),
            keyspace=keyspace,
            gate=GateMeter(RedisGate(keyspace, settings), patience.registry),
            due=DueIndex(keyspace),
            active=ActiveUsers(keyspace, settings),
            producer=Producer(settings),
            pool=database,
            users=users,
            firing=UserPools(databases, firing, settings, settings.fire_concurrency, autocommit=True),
            writeback=WriteBack(users),
            patience=patience,
            meter=StreamMeter(patience.registry, topics.activity),
        )

    async def open(self) -> None:
        """Must be called in the running loop before the pool is used; does not wait for a connection."""
        await self.pool.open()
        await self.firing.main.open()
        await self.users.open()
        await self.firing.open()

    async def close(self) -> None:
        await self.producer.close()
        await self.users.close()
        await self.firing.close()
        await self.pool.close()
        await self.firing.main.close()
        await self.gate.close()
