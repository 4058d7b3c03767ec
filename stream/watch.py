"""The watch over one worker: a thread with an event loop and connections of its own, so that it sees and says what is
wrong while the worker's own loop is blocked, its consumer has fallen silent, or a server is away.

Every few seconds it asks the brokers where the group stands in the worker's partitions (a consumer that has stopped
fetching does not know its own backlog), the gate whether it is open, and what is due. `stream/liveness.py` judges.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeVar

import structlog
from aiokafka import TopicPartition
from aiokafka.errors import KafkaError

from shared.gate import Keeper
from shared.gate.contract import GateUnavailableError
from shared.identity import SHARDS
from shared.keyspace import open_keyspace
from shared.lag import LagReader, Position
from stream import sight
from stream.backlog import backlog
from stream.due.fire import owned_shards
from stream.liveness import Liveness, Look, Partition, Stuck

if TYPE_CHECKING:
    from stream.app import Role, SurniaApp
    from stream.restart import Restart

BEAT_SECONDS = 0.5
"""Between two beats of the worker's event loop."""
LOOK_SECONDS = 5.0
"""Between two looks at most; a twentieth of the deadline where that is less."""
ANSWER_SECONDS = 10.0
"""In which a server must answer the watch."""
SURE = 2
"""Looks in a row that must find a worker stuck before it is restarted."""
SHARDS_A_LOOK = 32
"""Of the gate: all of them within eight looks, and of any server's some at each."""
STOPPING_SECONDS = 60.0
"""A worker that was told to stop, or fell, and is still here after so long, is ended."""

T = TypeVar("T")
log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Seen:
    """What the last look saw, for whoever asks from whatever thread."""

    at: float
    """Seconds of the monotonic clock."""
    looked: bool = False
    """False before the first look."""
    assigned: frozenset[Partition] | None = None
    positions: dict[Partition, Position] | None = None
    gate: str = ""
    """Why the gate does not answer for all users; empty where it does, or the role does not need it."""
    due: dict[str, int] = field(default_factory=dict)
    """Kind -> users of this worker's shards that are due and not fired."""
    still: dict[Partition, float] = field(default_factory=dict)


class Watch:
    """One worker's. `start` it in the process, `follow` the worker's loop in the loop."""

    def __init__(self, app: SurniaApp, role: Role, restart: Restart, told: threading.Event) -> None:
        """`told`: set when somebody has told the worker to stop."""
        self.app = app
        self.role = role
        self.settings = app.runtime.settings
        self.beat = time.monotonic()
        self.seen = Seen(self.beat)
        self.liveness = Liveness(self.settings.stuck_seconds)
        self._restart = restart
        self._told = told
        self._look = min(LOOK_SECONDS, self.settings.stuck_seconds / 20)
        self._needs_gate = role != "ledger"
        self._closed: list[int] = []
        self._next_shard = 0
        self._over = False
        self._wake: Callable[[], None] = lambda: None
        self._thread = threading.Thread(target=self._run, name="surnia-watch", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Returns when the thread has ended, or a moment later where it waits for a server."""
        self._over = True
        self._wake()
        self._thread.join(1.0)

    def follow(self) -> None:
        """Beat with the running loop, for as long as it runs."""
        self.beat = time.monotonic()
        asyncio.get_running_loop().call_later(BEAT_SECONDS, self.follow)

    def stuck(self) -> tuple[Stuck, ...]:
        """Why the worker is stuck as things stand now, whether or not the watch itself gets on."""
        if self.liveness.stuck:
            return self.liveness.stuck
        silent = time.monotonic() - self.seen.at
        # One look is 30 s at most, where no server answers.
        if silent > self.liveness.deadline + 3 * ANSWER_SECONDS:
            return (Stuck("watch", silent),)
        return ()

    def _run(self) -> None:
        # Not in the worker's own loop, which may be what is stuck.
        asyncio.run(self._watch())

    async def _watch(self) -> None:
        sure, stopping = 0, None
        woken = asyncio.Event()
        loop = asyncio.get_running_loop()

        def wake() -> None:
            # Too late where the loop has ended by itself.
            with contextlib.suppress(RuntimeError):
                loop.call_soon_threadsafe(woken.set)

        self._wake = wake
        async with AsyncExitStack() as stack:
            keyspace = open_keyspace(self.settings)
            stack.push_async_callback(keyspace.close)
            kafka = _Kafka(self)
            stack.push_async_callback(kafka.close)
            keeper = Keeper(keyspace, self.settings)
            while not self._over:
                if self.app.should_stop or self._told.is_set():
                    stopping = stopping or time.monotonic()
                    if time.monotonic() - stopping > STOPPING_SECONDS:
                        self._restart.end(time.monotonic() - stopping)
                        return
                else:
                    await self._once(kafka, keeper)
                    sure = sure + 1 if self.liveness.stuck else 0
                    if sure > SURE:
                        self._restart.begin(self.liveness.stuck)
                        return
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(woken.wait(), self._look)

    async def _once(self, kafka: _Kafka, keeper: Keeper) -> None:
        """One look."""
        runtime = self.app.runtime
        assigned = sight.assigned(self.app)
        positions, gate, due = await asyncio.gather(
            kafka.positions(assigned), self._gate(keeper), self._due(keeper, assigned)
        )
        if sight.assigned(self.app) != assigned:
            # The group has shared out its partitions meanwhile: of these nothing can be said.
            assigned = None
        now = time.monotonic()
        look = Look(
            self.beat,
            sharing=assigned is None,
            positions=positions,
            idle=sight.idle(self.app, positions or {}),
            waiting=runtime.patience.waiting + runtime.patience.resting,
        )
        before = self.liveness.stuck
        for each in self.liveness.see(now, look):
            if not before:
                log.error("the worker is stuck", what=str(each))
        still = {partition: self.liveness.still(partition, now) for partition in positions or ()}
        self.seen = Seen(now, True, assigned, positions, gate, due, still)

    async def _gate(self, keeper: Keeper) -> str:
        if not self._needs_gate:
            return ""
        upcoming = [(self._next_shard + n) % SHARDS for n in range(SHARDS_A_LOOK)]
        self._next_shard = upcoming[-1] + 1
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                closed = await keeper.closed(list(dict.fromkeys([*self._closed[:SHARDS_A_LOOK], *upcoming])))
        except GateUnavailableError as error:
            return f"the gate does not answer: {error}"
        except TimeoutError:
            return f"the gate has not answered for {ANSWER_SECONDS:.0f} s"
        self._closed = list(closed)
        return f"the gate is closed: {next(iter(closed.values()))}" if closed else ""

    async def _due(self, keeper: Keeper, assigned: frozenset[Partition] | None) -> dict[str, int]:
        runtime = self.app.runtime
        if self.role != "stream" or not assigned:
            return {}
        mine = {number for topic, number in assigned if topic == runtime.topics.activity}
        shards = owned_shards(mine, self.settings.partitions)
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                return await backlog(keeper.keyspace, shards, runtime.clock.now())
        except (GateUnavailableError, TimeoutError):
            return {}


class _Kafka:
    """What the brokers say, over connections that are made anew when they were lost."""

    def __init__(self, watch: Watch) -> None:
        topics = watch.app.runtime.topics
        self._role = str(watch.role)
        self._settings = watch.settings
        self._any = {"stream": topics.activity, "delivery": topics.urgent, "ledger": topics.outcomes}[self._role], 0
        self._reader: LagReader | None = None

    async def positions(self, assigned: frozenset[Partition] | None) -> dict[Partition, Position] | None:
        """Where the group stands in these partitions; None: the brokers do not say."""
        # Without partitions of its own the worker still wants to know whether the brokers are there.
        wanted = assigned or {self._any}
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                if self._reader is None:
                    reader = LagReader(self._settings, {self._role: ()})
                    self._reader = await reader.__aenter__()
                found = await self._reader.positions(self._role, [TopicPartition(*each) for each in wanted])
        except (KafkaError, OSError, TimeoutError):
            await self.close()
            return None
        return {(each.topic, each.partition): at for each, at in found.items()} if assigned else {}

    async def close(self) -> None:
        reader, self._reader = self._reader, None
        if reader:
            await _at_most(reader.__aexit__(), ANSWER_SECONDS)


async def _at_most(done: Awaitable[T], seconds: float) -> None:
    """Clean up what may not answer any more; that it fails changes nothing."""
    try:
        async with asyncio.timeout(seconds):
            await done
    except (KafkaError, OSError, TimeoutError) as error:
        log.debug("a connection of the watch did not end well", error=str(error))
