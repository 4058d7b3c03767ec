"""APNs refuses everything for ten minutes while 20,000 sends are due: all arrive, by FCM or afterwards, urgent ones
first, and the ledger says by which."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from typing import Any

import pytest

from infra.simulator.engine_settings import engine_settings
from infra.simulator.journal import read_journal
from infra.simulator.process import SimulatorProcess
from shared.clock import FileClock
from shared.gate import RedisGate
from shared.policy.kinds import KINDS, KindName
from shared.policy.kinds import Path as SendPath
from shared.producer import Producer, Record
from shared.topics import Topics
from shared.wire.sends import Send, SendBatch, Target, encode
from tests.acceptance.conftest import Engine, wait_for
from tests.conftest import NOON
from tests.integration.support import HOUR, TODAY, sql, token_of

USERS = 20_000
BATCH = 500
OUTAGE = 600.0
STEP = 2.0
"""Seconds of the engine's time between two looks while nothing but time has to pass."""
LANES: tuple[tuple[KindName, SendPath], ...] = (("comeback", SendPath.batch), ("streak_saver", SendPath.stream))

pytestmark = pytest.mark.timeout(600)


def spare_token(user: int) -> str:
    """Every second user's iPhone has one of FCM, too."""
    return f"fcm-token-{user:08d}" if user % 2 else ""


def sends_of(kind: KindName) -> list[Send]:
    half = range(1, USERS // 2 + 1) if kind == "streak_saver" else range(USERS // 2 + 1, USERS + 1)
    return [
        Send(
            user, kind, TODAY, NOON, NOON + HOUR, "Europe/Lisbon", "en", 3, 7,
            (Target("phone", "ios", token_of(user), spare_token(user)),),
        )
        for user in half
    ]  # fmt: skip


@pytest.fixture
def engine(environment: dict[str, str], tmp_path: Path) -> Iterator[Engine]:
    folder, devices = tmp_path / "state", tmp_path / "devices.csv"
    with devices.open("w") as file:
        file.write("token,time_zone,device\n")
        for user in range(1, USERS + 1):
            tokens = filter(None, (token_of(user), spare_token(user)))
            file.writelines(f"{token},Europe/Lisbon,phone-{user}\n" for token in tokens)
    journal = tmp_path / "journal"
    with SimulatorProcess(folder, environment=environment, devices=devices, journal=journal) as simulator:
        environment |= engine_settings(folder, simulator.url) | {"SURNIA_APNS_PER_SECOND": "1000"}
        engine = Engine(simulator, environment, folder)
        try:
            engine.start("delivery", "ledger")
            yield engine
        finally:
            engine.stop()


async def plan(engine: Engine) -> None:
    """Claim all, and write them to their lanes."""
    gate, topics = RedisGate.connect(engine.settings), Topics.of(engine.settings)
    async with Producer(engine.settings) as producer:
        for kind, path in LANES:
            sends = sends_of(kind)
            await gate.claim(path, kind, TODAY, [send.user_id for send in sends])
            batches = (SendBatch(path, NOON, tuple(sends[n : n + BATCH])) for n in range(0, len(sends), BATCH))
            lane = topics.lane(KINDS[kind].lane)
            await producer.write([Record(lane, None, encode(batch)) for batch in batches])
    await gate.close()


def test_ten_minutes_without_apns(engine: Engine, clock: FileClock, tmp_path: Path) -> None:
    simulator = engine.simulator
    simulator.set_faults({"provider": "apns", "reason": "TooManyRequests"})
    asyncio.run(plan(engine))

    def after(seconds: float) -> bool:
        clock.set(clock.now() + STEP)
        return clock.now() >= NOON + seconds

    wait_for(lambda: after(OUTAGE), "the outage to pass", seconds=300)
    wait_for(lambda: arrived(engine, "fcm") == USERS // 2 and after(0), "those that FCM can reach", seconds=120)
    assert arrived(engine, "apns") == 0
    (rule,) = simulator.faults()
    print(f"{rule['hits']} requests were refused within {clock.now() - NOON:.0f} s")
    # Until it opened, and ten probes now and then: not every send, and not for ever.
    assert rule["hits"] < USERS / 10

    simulator.set_faults()
    back = clock.now()
    wait_for(lambda: after(0) and simulator.stats()["accepted"] > USERS // 2, "APNs to be tried again", seconds=120)
    # From here on the lanes share its pace, which grows from cold: at the pace of the machine's own clock.
    ahead = clock.now() - time.monotonic()

    def came_in() -> bool:
        clock.set(ahead + time.monotonic())
        return arrived(engine, "apns") == USERS // 2

    wait_for(came_in, "the others", seconds=300)
    assert clock.now() < NOON + HOUR
    stats = simulator.stats()
    assert (stats["accepted"], stats["shown_twice"], stats["outside_window"]) == (USERS, 0, 0)
    assert sql(engine.settings, "SELECT count(DISTINCT user_id), count(*) FROM ledger") == [(USERS, USERS)]

    by_kind: dict[str, list[float]] = {kind: [] for kind, _ in LANES}
    for accepted in read_journal(tmp_path / "journal"):
        if accepted.push.provider == "apns":
            by_kind[accepted.push.kind].append(accepted.at)
    urgent, normal = by_kind["streak_saver"], by_kind["comeback"]
    print(f"by APNs after {back - NOON:.0f} s: {came(urgent, back)} (urgent), {came(normal, back)} (normal)")
    assert median(urgent) < median(normal)
    assert max(urgent) < max(normal)
    assert json_status(engine)["apns:com.example.app"]["state"] == "closed"


def arrived(engine: Engine, provider: str) -> int:
    query = "SELECT count(*) FROM ledger WHERE provider = %s AND reason = 'accepted'"
    return int(sql(engine.settings, query, provider)[0][0])


def came(times: list[float], since: float) -> str:
    first, middle, last = (at - since for at in (min(times), median(times), max(times)))
    return f"{len(times)} between {first:.0f} and {last:.0f} s, median {middle:.0f} s"


def json_status(engine: Engine) -> dict[str, dict[str, Any]]:
    return {each["name"]: each for each in json.loads(engine.surnia("providers", "status", "--json"))["providers"]}
