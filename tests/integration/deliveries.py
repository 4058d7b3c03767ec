"""A real delivery worker with a simulator of its own, and sends for it."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from infra.simulator.engine_settings import engine_settings
from infra.simulator.process import SimulatorProcess
from infra.stack import process
from shared.gate import RedisGate
from shared.policy.kinds import KindName
from shared.policy.kinds import Path as SendPath
from shared.producer import Producer, Record
from shared.settings import Settings
from shared.topics import Topics
from shared.wire.sends import Outcome, Platform, Send, SendBatch, Target, encode
from tests.conftest import NOON, settings_of
from tests.integration.support import HOUR, TODAY, outcomes_in, sends_in, token_of

T = TypeVar("T")
DEADLINE = 60.0
STOPPING = 10.0
"""Seconds in which a worker ends, whatever it waits for; the provider's deadline is 1 s here."""
ANDROIDS = range(4, 7)


class Worker:
    """A delivery worker as a process, and the simulator it delivers to."""

    def __init__(self, simulator: SimulatorProcess, environment: dict[str, str], folder: Path) -> None:
        self.simulator = simulator
        self.settings = settings_of(environment)
        self.topics = Topics.of(self.settings)
        self._environment = environment
        self._log = folder / "delivery.log"
        self._process: process.ProcessId | None = None

    def start(self) -> None:
        command = [sys.executable, "-m", "surnia", "worker", "delivery"]
        self._process = process.spawn(command, self._log, cwd=Path.cwd(), env=os.environ | self._environment)

    def stop(self) -> bool:
        """Whether it ended by itself in time after it was told to."""
        worker, self._process = self._process, None
        if worker is None or not process.is_alive(worker):
            return False
        os.kill(worker.pid, signal.SIGTERM)
        ended = process.wait_until(lambda: not process.is_alive(worker), STOPPING)
        process.end(worker, signal.SIGKILL, 5.0)
        return ended

    def kill(self) -> None:
        """At the end of a test, where nobody waits for it to leave its group in order."""
        if self._process:
            process.end(self._process, signal.SIGKILL, 5.0)
            self._process = None

    def tail(self) -> str:
        return "\n".join(process.tail(self._log, 40))

    @property
    def shown(self) -> int:
        stats = self.simulator.stats()
        assert not stats["shown_twice"]
        return int(stats["accepted"])

    async def outcomes(self, n: int) -> dict[int, Outcome]:
        """The outcomes by user, once there are as many; never two of one user."""

        async def found() -> list[Outcome] | None:
            outcomes = await outcomes_in(self.settings)
            return outcomes if len(outcomes) >= n else None

        outcomes = await wait_for(found, f"{n} outcomes")
        by_user = {outcome.user_id: outcome for outcome in outcomes}
        assert len(by_user) == len(outcomes) == n
        return by_user

    async def parked(self, *users: int) -> None:
        """Returns when these are parked, whoever else is."""

        async def found() -> bool:
            return set(users) <= {send.user_id for send in await sends_in(self.settings, self.topics.parked)}

        await wait_for(found, f"{users} to be parked")


async def wait_for(condition: Callable[[], Awaitable[T | None]], what: str) -> T:
    end = time.monotonic() + DEADLINE
    while not (answer := await condition()):
        assert time.monotonic() < end, f"waited {DEADLINE:.0f} s in vain for {what}"
        await asyncio.sleep(0.05)
    return answer


@contextmanager
def delivering(environment: dict[str, str], folder: Path, **more: str) -> Iterator[Worker]:
    """A running worker of its own simulator, with more of its environment; says its last words where a test fails."""
    with SimulatorProcess(folder, environment=environment) as simulator:
        environment |= engine_settings(folder, simulator.url) | {"SURNIA_PUSH_TIMEOUT_SECONDS": "1"} | more
        worker = Worker(simulator, environment, folder)
        try:
            worker.start()
            yield worker
        except BaseException:
            print(worker.tail())
            raise
        finally:
            worker.kill()


def send(user: int, kind: KindName = "practice", expires_at: float = NOON + HOUR) -> Send:
    platform: Platform = "android" if user in ANDROIDS else "ios"
    target = Target("phone", platform, token_of(user))
    return Send(user, kind, TODAY, NOON, expires_at, "Europe/Lisbon", "en", 0, 0, (target,))


async def claim(settings: Settings, *sends: Send) -> None:
    gate = RedisGate.connect(settings)
    try:
        for one in sends:
            await gate.claim(SendPath.stream, one.kind, one.local_date, [one.user_id])
    finally:
        await gate.close()


async def plan(settings: Settings, *sends: Send) -> None:
    """One message of claimed sends in the urgent lane."""
    await claim(settings, *sends)
    await write(settings, SendBatch(SendPath.stream, NOON, sends))


async def write(settings: Settings, batch: SendBatch) -> None:
    async with Producer(settings) as producer:
        await producer.write([Record(Topics.of(settings).urgent, None, encode(batch))])
