"""Turns the clock through the day: events in, everything settled, the DAG at every full hour."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import timedelta

from infra.demo.day import Day
from infra.demo.world import World
from shared.clock import utc
from shared.due.index import DueIndex
from shared.keyspace import open_keyspace
from shared.lag import LagReader
from shared.producer import Producer, Record
from shared.topics import Topics

SETTLE_SECONDS = 120.0
"""Real seconds after which a step that does not settle is a fault."""
_LOOK_SECONDS = 0.02


class NotSettledError(RuntimeError):
    """Work was left after a long wait."""


@dataclass
class State:
    """How far the demo is; the live view reads it."""

    now: float
    end: float
    events: int = 0
    steps: int = 0
    lag: dict[str, int] = field(default_factory=dict)
    waiting: int = 0
    doing: str = "starting"
    dag_runs: int = 0
    dag_seconds: float = 0.0


class Drive:
    """One run through the day."""

    def __init__(self, world: World, day: Day, step: float, state: State) -> None:
        self._world = world
        self._day = day
        self._step = step
        self.state = state
        topics = Topics.of(world.settings)
        self._activity = topics.activity
        self._reads = {
            "stream": (topics.activity,),
            "delivery": (topics.urgent, topics.normal, topics.blast, topics.parked),
            "ledger": (topics.outcomes,),
        }

    async def run(self) -> None:
        """All steps; returns when nothing is in flight any more."""
        state, clock = self.state, self._world.clock
        keyspace = open_keyspace(self._world.settings)
        due = DueIndex(keyspace)
        per_hour = round(3600 / self._step)
        try:
            async with Producer(self._world.settings) as producer, LagReader(self._world.settings, self._reads) as lags:
                await self._settle(lags, due)
                for n in range(self._day.steps):
                    state.doing = "events"
                    clock.set(state.now + self._step)
                    state.now = clock.now()
                    await self._produce(producer, n)
                    await self._settle(lags, due)
                    if (n + 1) % per_hour == 0:
                        await self._dag()
                        await self._settle(lags, due)
                    state.steps = n + 1
        finally:
            await keyspace.close()
        state.doing = "done"

    async def _produce(self, producer: Producer, n: int) -> None:
        batch: list[Record] = []
        for key, value in self._day.events(n):
            batch.append(Record(self._activity, key, value))
            if len(batch) == 5_000:
                await producer.write(batch)
                self.state.events += len(batch)
                batch.clear()
        await producer.write(batch)
        self.state.events += len(batch)

    async def _dag(self) -> None:
        """The hour that just ended, as Airflow's scheduler would run it now."""
        self.state.doing = "Airflow: silent_reminders"
        end = utc(self.state.now)
        began = time.monotonic()
        result = await asyncio.to_thread(self._world.run_dag, end - timedelta(hours=1), end)
        self.state.dag_runs += 1
        self.state.dag_seconds += time.monotonic() - began
        if result.state != "success":
            raise NotSettledError(f"the DAG run of {end:%H:%M} UTC ended as {result.state}: {result.error}")

    async def _settle(self, lags: LagReader, due: DueIndex) -> None:
        """Wait until nothing is left anywhere, in the order in which work flows: each place feeds only later ones."""
        self.state.doing = "settling"

        async def lag(role: str) -> int:
            self.state.lag[role] = n = await lags.read(role)
            return n

        async def waiting() -> int:
            self.state.waiting = n = await due.waiting(self.state.now)
            return n

        await self._until_zero("activity events", lambda: lag("stream"))
        await self._until_zero("reminders that are due", waiting)
        await self._until_zero("sends", lambda: lag("delivery"))
        await self._until_zero("outcomes", lambda: lag("ledger"))

    async def _until_zero(self, what: str, count: Callable[[], Awaitable[int]]) -> None:
        deadline = time.monotonic() + SETTLE_SECONDS
        while left := await count():
            self._world.check()
            if time.monotonic() > deadline:
                raise NotSettledError(f"{left} {what} are still waiting after {SETTLE_SECONDS:.0f} s; see the logs")
            await asyncio.sleep(_LOOK_SECONDS)
