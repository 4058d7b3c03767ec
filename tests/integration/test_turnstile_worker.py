"""Providers in trouble at a real delivery worker: they are let alone, the others go on, and in the end all is shown."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from msgspec.structs import replace

from shared.clock import FileClock
from shared.policy.kinds import Path as SendPath
from shared.wire.sends import Outcome, Send, SendBatch
from stream.delivery.turnstile.contract import State
from stream.delivery.turnstile.redis import RedisTurnstile
from tests.conftest import NOON
from tests.integration.deliveries import Worker, claim, delivering, plan, send, wait_for, write
from tests.integration.support import HOUR

IOS = (*range(1, 4), *range(7, 64))
ANDROID = range(4, 7)

pytestmark = pytest.mark.timeout(180)


@pytest.fixture
def worker(environment: dict[str, str], tmp_path: Path) -> Iterator[Worker]:
    with delivering(environment, tmp_path / "state", SURNIA_FCM_PER_SECOND="10000") as worker:
        yield worker


async def plan_in_two(worker: Worker, *users: int, expires_at: float = NOON + HOUR) -> None:
    """Two messages of a lane, claimed."""
    sends = [send(user, expires_at=expires_at) for user in users]
    await claim(worker.settings, *sends)
    half = len(sends) // 2
    for part in (sends[:half], sends[half:]):
        await write(worker.settings, SendBatch(SendPath.stream, NOON, tuple(part)))


async def reaches(worker: Worker, provider: str, state: State) -> None:
    """Returns when it stands so, seen from outside."""
    turnstile = RedisTurnstile.connect(worker.settings)

    async def found() -> bool:
        return (await turnstile.look(provider)).state is state

    try:
        await wait_for(found, f"{provider} to be {state}")
    finally:
        await turnstile.close()


def asked(worker: Worker) -> int:
    """Requests that a fault was the answer to."""
    return sum(int(rule["hits"]) for rule in worker.simulator.faults())


@pytest.mark.parametrize("reason", ["ServiceUnavailable", "TooManyRequests"])
async def test_an_outage_of_one_provider_delays_its_sends_and_costs_it_few_requests(
    worker: Worker, reason: str
) -> None:
    worker.simulator.set_faults({"provider": "apns", "reason": reason})
    await plan_in_two(worker, *IOS, *ANDROID)
    by_user = await worker.outcomes(len(ANDROID))
    assert set(by_user) == set(ANDROID)
    await worker.parked(*IOS)
    await reaches(worker, "apns", State.half_open)
    await reaches(worker, "apns", State.open)
    # Each of two messages once or twice before it opened, and then ten probes at a time.
    assert asked(worker) < 5 * len(IOS)

    worker.simulator.set_faults()
    by_user = await worker.outcomes(len(IOS) + len(ANDROID))
    assert {outcome.reason for outcome in by_user.values()} == {"accepted"}
    assert worker.shown == len(IOS) + len(ANDROID)
    await reaches(worker, "apns", State.closed)


async def test_what_waits_for_a_provider_past_its_window_expires(worker: Worker, clock: FileClock) -> None:
    worker.simulator.set_faults({"provider": "apns", "reason": "InternalServerError"})
    await plan_in_two(worker, *IOS, expires_at=NOON + 900)
    await worker.parked(*IOS)
    clock.set(NOON + 901)
    by_user = await worker.outcomes(len(IOS))
    assert {outcome.reason for outcome in by_user.values()} == {"expired"}
    assert worker.shown == 0


async def test_a_provider_that_asks_for_a_rest_gets_it_and_then_all(worker: Worker) -> None:
    rest = 4
    worker.simulator.set_faults({"provider": "fcm", "reason": "QUOTA_EXCEEDED", "retry_after": rest, "limit": 3})
    began = time.monotonic()
    await plan(worker.settings, *(send(user) for user in ANDROID))
    await worker.parked(*ANDROID)
    await plan(worker.settings, send(1))
    assert set(await worker.outcomes(1)) == {1}
    by_user: dict[int, Outcome] = await worker.outcomes(1 + len(ANDROID))
    assert {outcome.reason for outcome in by_user.values()} == {"accepted"}
    assert time.monotonic() - began >= rest
    assert asked(worker) == len(ANDROID)
    assert worker.shown == 1 + len(ANDROID)


async def test_forced_open_a_provider_gets_nothing_until_it_is_reset(worker: Worker) -> None:
    turnstile = RedisTurnstile.connect(worker.settings)
    await turnstile.force("apns", State.open, "ana", "Apple says so", NOON)
    await plan(worker.settings, send(1), send(4))
    assert set(await worker.outcomes(1)) == {4}
    await worker.parked(1)
    assert not worker.simulator.pushes(send(1).targets[0].token)
    await turnstile.reset("apns")
    assert (await worker.outcomes(2))[1].provider == "apns"
    await turnstile.close()


async def test_more_than_the_rate_comes_in_time(worker: Worker) -> None:
    """A hundred from cold, and the rest as the pacer lets them; none is lost or failed."""
    users = range(1_000, 1_400)
    sends = [_android(user) for user in users]
    await claim(worker.settings, *sends)
    began = time.monotonic()
    await asyncio.gather(*(write(worker.settings, SendBatch(SendPath.stream, NOON, (*sends[n::4],))) for n in range(4)))
    by_user = await worker.outcomes(len(users))
    assert {outcome.reason for outcome in by_user.values()} == {"accepted"}
    assert worker.shown == len(users)
    # 100 at once, then 100 t + 82.5 t².
    assert time.monotonic() - began >= 1.0


def _android(user: int) -> Send:
    one = send(4)
    (target,) = one.targets
    return replace(one, user_id=user, targets=(replace(target, token=f"android-token-{user:08d}"),))
