"""Pauses and a lost gate at a real delivery worker: what is held back comes back or expires, and is shown once."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from shared.clock import FileClock
from shared.gate import Keeper, Rule, open_fresh
from shared.policy.kinds import Path as SendPath
from shared.producer import Producer, Record
from shared.settings import Settings
from shared.wire.sends import SendBatch, encode
from tests.conftest import NOON, connect_redis
from tests.integration.deliveries import Worker, claim, delivering, plan, send, wait_for, write
from tests.integration.support import token_of

PRACTICE = Rule(kind="practice")

pytestmark = pytest.mark.timeout(180)


@pytest.fixture
def worker(environment: dict[str, str], tmp_path: Path) -> Iterator[Worker]:
    with delivering(environment, tmp_path / "state") as worker:
        yield worker


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
