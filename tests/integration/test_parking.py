"""Pauses and a lost gate at a real delivery worker: what is held back comes back or expires, and is shown once."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TypeVar

import pytest

from infra.simulator.engine_settings import engine_settings
from infra.simulator.process import SimulatorProcess
from infra.stack import process
from shared.clock import FileClock
from shared.gate import Keeper, RedisGate, Rule, open_fresh
from shared.policy.kinds import KindName
from shared.policy.kinds import Path as SendPath
from shared.producer import Producer, Record
from shared.settings import Settings
from shared.topics import Topics
from shared.wire.sends import Outcome, Platform, Send, SendBatch, Target, encode
from tests.conftest import NOON, connect_redis, settings_of
from tests.integration.support import HOUR, TODAY, outcomes_in, sends_in, token_of

T = TypeVar("T")
DEADLINE = 60.0
STOPPING = 10.0
"""Seconds in which a worker ends, whatever it waits for; the provider's deadline is 1 s here."""
PRACTICE = Rule(kind="practice")
ANDROIDS = range(4, 7)

pytestmark = pytest.mark.timeout(180)


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


@pytest.fixture
def worker(environment: dict[str, str], tmp_path: Path) -> Iterator[Worker]:
    folder = tmp_path / "state"
    with SimulatorProcess(folder, environment=environment) as simulator:
        environment |= engine_settings(folder, simulator.url) | {"SURNIA_PUSH_TIMEOUT_SECONDS": "1"}
        worker = Worker(simulator, environment, folder)
        try:
            worker.start()
            yield worker
        except BaseException:
            print(worker.tail())
            raise
        finally:
            worker.stop()


@asynccontextmanager
async def keeper(settings: Settings) -> AsyncIterator[Keeper]:
    keeper = Keeper.connect(settings)
    try:
        yield keeper
    finally:
        await keeper.close()


async def pause(settings: Settings, *rules: Rule) -> None:
    """Put exactly these in force."""
    async with keeper(settings) as kept:
        assert not await kept.write_rules(rules)


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


async def test_what_is_paused_waits_its_lane_goes_on_and_resumed_it_is_delivered_once(worker: Worker) -> None:
    settings = worker.settings
    sends = [send(1), send(2, "streak_saver"), send(3)]
    await claim(settings, *sends)
    await pause(settings, PRACTICE)
    await write(settings, SendBatch(SendPath.stream, NOON, tuple(sends)))
    assert list(await worker.outcomes(1)) == [2]
    await worker.parked(1, 3)

    # A worker that holds parked sends ends when it is told to, and whoever comes next has them.
    assert worker.stop()
    assert worker.shown == 1
    worker.start()
    await pause(settings, PRACTICE, Rule(kind="streak_saver"))
    await plan(settings, send(9, "abandoned_lesson"))
    assert (await worker.outcomes(2))[9].reason == "accepted"

    await pause(settings)
    assert {outcome.reason for outcome in (await worker.outcomes(4)).values()} == {"accepted"}
    assert worker.shown == 4


async def test_what_is_paused_past_its_window_expires_and_is_never_shown(worker: Worker, clock: FileClock) -> None:
    settings = worker.settings
    late, later = send(1, expires_at=NOON + 600), send(2, expires_at=NOON + 1200)
    await claim(settings, late, later)
    await pause(settings, PRACTICE)
    await write(settings, SendBatch(SendPath.stream, NOON, (late, later)))
    await worker.parked(1, 2)
    clock.set(NOON + 700)
    assert {user: o.reason for user, o in (await worker.outcomes(1)).items()} == {1: "expired"}
    clock.set(NOON + 1300)
    assert {user: o.reason for user, o in (await worker.outcomes(2)).items()} == {1: "expired", 2: "expired"}
    await pause(settings)
    assert worker.shown == 0


async def test_however_much_is_parked_the_lanes_go_on(worker: Worker) -> None:
    settings, parked = worker.settings, worker.topics.parked
    await pause(settings, PRACTICE)
    flood = [encode(SendBatch(SendPath.stream, NOON, (send(100 + n),))) for n in range(1000)]
    async with Producer(settings) as producer:
        await producer.write(Record(parked, None, value) for value in flood)
    for n in range(1, 11):
        await plan(settings, send(n, "abandoned_lesson"))
        await worker.outcomes(n)
    assert worker.shown == 10


async def test_a_paused_provider_gets_nothing_until_it_is_resumed(worker: Worker) -> None:
    settings = worker.settings
    await pause(settings, Rule(provider="apns"))
    await plan(settings, send(1), send(4), send(5))
    assert set(await worker.outcomes(2)) == {4, 5}
    await worker.parked(1)
    assert not worker.simulator.pushes(token_of(1))
    await pause(settings)
    assert (await worker.outcomes(3))[1].provider == "apns"


async def test_a_lost_gate_stops_delivery_and_what_it_forgot_is_claimed_again(worker: Worker) -> None:
    settings = worker.settings
    await plan(settings, send(1))
    await worker.outcomes(1)
    await claim(settings, send(2))
    redis = connect_redis(settings)
    await redis.flushdb()
    await write(settings, SendBatch(SendPath.stream, NOON, (send(2), send(3))))

    async def waits() -> bool:
        return "waiting for a server" in worker.tail()

    await wait_for(waits, "the worker to find the gate closed")
    # Even now it ends when it is told to; the message is not acknowledged, and comes again.
    assert worker.stop()
    assert worker.shown == 1
    worker.start()
    await open_fresh(settings)
    assert {outcome.reason for outcome in (await worker.outcomes(3)).values()} == {"accepted"}
    assert worker.shown == 3
    await redis.aclose()
