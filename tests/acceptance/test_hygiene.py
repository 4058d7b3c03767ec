"""A token that a provider has given up leaves within a minute, with its reason, and comes back with its device."""

from __future__ import annotations

import time
from typing import Any

from shared.clock import FileClock
from tests.acceptance.conftest import Engine, wait_for
from tests.conftest import NOON
from tests.integration.support import sql

HALF_AN_HOUR = 1800.0
TOKEN = "ab" * 32


def registered(engine: Engine, at: float, user: int) -> None:
    device = {"type": "device_registered", "device_id": "phone", "platform": "ios", "token": TOKEN}
    engine.produce(at, user, device | {"fcm_token": "spare-token-of-fcm"})


def devices(engine: Engine) -> list[tuple[Any, ...]]:
    return sql(engine.settings, "SELECT retired_reason, fcm_retired_reason FROM devices")


def ended(engine: Engine, kind: int) -> list[tuple[Any, ...]]:
    return sql(engine.settings, "SELECT reason, provider FROM ledger WHERE kind = %s", kind)


def test_a_retired_token_leaves_within_a_minute_and_comes_back_with_its_device(
    engine: Engine, clock: FileClock
) -> None:
    registered(engine, NOON - 60, 1)
    engine.produce(NOON - 60, 1, {"type": "lesson_started"})
    wait_for(lambda: devices(engine) == [(None, None)], "the device in the database")
    engine.simulator.set_faults({"provider": "apns", "reason": "Unregistered", "tokens": [TOKEN]})
    clock.set(NOON + HALF_AN_HOUR)
    wait_for(lambda: engine.simulator.stats()["rejected"], "the refusal")
    refused = time.monotonic()
    wait_for(lambda: devices(engine)[0][0], "the token to be retired", seconds=60)
    print(f"retired {time.monotonic() - refused:.1f} s after it was refused")
    assert devices(engine) == [("apns_410_unregistered", None)]
    wait_for(lambda: ended(engine, 2), "the outcome")
    assert ended(engine, 2) == [("unregistered", "apns")]

    # The app is installed again.
    engine.simulator.set_faults()
    again = clock.now() + 60
    clock.set(again)
    registered(engine, again, 1)
    wait_for(lambda: devices(engine) == [(None, None)], "the device to be back")
    engine.produce(again, 1, {"type": "lesson_completed"})
    wait_for(lambda: sql(engine.settings, "SELECT streak FROM users") == [(1,)], "the lesson in the database")
    clock.set(again + 23.5 * 3600 + 1)
    wait_for(lambda: ended(engine, 0), "the next day's reminder")
    assert ended(engine, 0) == [("accepted", "apns")]
